#include "daemon/feed_abi_source.h"

#include "daemon/feed_sources.h"

#include <stdlib.h>

struct dp_feed_abi_source {
    struct dp_options options;
    struct dp_road road;
    bool options_made, road_open;
    struct dp_feed_sources *sources;
    struct dp_feed *feed;
    const char *text; /* the caller's options, while it is opened */
};

static int apply(void *ctx, struct dp_options *o, struct dp_err *e)
{
    const struct dp_feed_abi_source *s = ctx;
    return dp_feed_abi_options(&o->feed, s->text, e);
}

static int open_workspace(struct dp_feed_abi_source *s, const char *dir, char **manifest, struct dp_err *e)
{
    DP_TRY(dp_road_open(&s->road, dir, &s->options, 1, 64 << 20, false, apply, s, e));
    s->road_open = true;
    int rc = dp_road_manifest(&s->road, manifest, e);
    if (rc == DP_EMPTY) DP_FAIL(e, NOTFOUND, "%s: no manifest yet: make it with `dpipe run --until shard`", dir);
    return rc;
}

static int open_feed(struct dp_feed_abi_source *s, const char *manifest, const char *workspace, struct dp_err *e)
{
    char *path = NULL;
    DP_TRY(dp_options_init(&s->options, e));
    s->options_made = true;
    int rc = workspace ? open_workspace(s, workspace, &path, e) : apply(s, &s->options, e);
    if (rc >= 0 && !workspace && !manifest && !s->options.feed.domains)
        rc = dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "feed: no manifest, workspace or domains are given");
    if (rc >= 0)
        rc = dp_feed_sources_open(&s->sources, &s->feed, s->road_open ? &s->road : NULL, path ? path : manifest, &s->options.feed, e);
    free(path);
    return rc;
}

int dp_feed_abi_source_open(struct dp_feed_abi_source **out, struct dp_feed **feed, const struct dp_feed_options **o, const char *manifest,
                            const char *workspace, const char *options, struct dp_err *e)
{
    *out = NULL;
    struct dp_feed_abi_source *s = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "feed");
    s->text = options;
    int rc = open_feed(s, manifest, workspace, e);
    s->text = NULL;
    if (rc < 0) {
        dp_feed_abi_source_close(s);
        return rc;
    }
    *out = s;
    *feed = s->feed;
    *o = &s->options.feed;
    return DP_OK;
}

int dp_feed_abi_source_renew(struct dp_feed_abi_source *s, struct dp_err *e)
{
    return dp_feed_sources_renew(s->sources, s->feed, e);
}

void dp_feed_abi_source_close(struct dp_feed_abi_source *s)
{
    if (!s) return;
    dp_feed_close(s->feed);
    dp_feed_sources_close(s->sources);
    if (s->road_open) dp_road_close(&s->road);
    if (s->options_made) dp_options_release(&s->options);
    free(s);
}

/* In place of daemon/feed_abi_source.c: manifests alone, so that little of dpipe is needed, and little of the system. */
#include "daemon/feed_abi_source.h"

#include <stdlib.h>

struct dp_feed_abi_source {
    struct dp_feed_options o;
    struct dp_feed *feed;
};

static int open_feed(struct dp_feed_abi_source *s, const char *manifest, const char *workspace, const char *options, struct dp_err *e)
{
    if (workspace) DP_FAIL(e, CONFIG, "%s: this library reads manifests and no workspaces; give the manifest, or the whole libdpipe in DPIPE_LIBRARY", workspace);
    DP_TRY(dp_opt_defaults(dp_feed_opts, &s->o, e));
    DP_TRY(dp_feed_abi_options(&s->o, options, e));
    if (!manifest && !s->o.domains) DP_FAIL(e, USAGE, "feed: no manifest, workspace or domains are given");
    return dp_feed_open(&s->feed, manifest, &s->o, e);
}

int dp_feed_abi_source_open(struct dp_feed_abi_source **out, struct dp_feed **feed, const struct dp_feed_options **o, const char *manifest,
                            const char *workspace, const char *options, struct dp_err *e)
{
    *out = NULL;
    struct dp_feed_abi_source *s = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "feed");
    int rc = open_feed(s, manifest, workspace, options, e);
    if (rc < 0) {
        dp_feed_abi_source_close(s);
        return rc;
    }
    *out = s;
    *feed = s->feed;
    *o = &s->o;
    return DP_OK;
}

int dp_feed_abi_source_renew(struct dp_feed_abi_source *s, struct dp_err *e)
{
    (void)s;
    (void)e;
    return DP_OK;
}

void dp_feed_abi_source_close(struct dp_feed_abi_source *s)
{
    if (!s) return;
    dp_feed_close(s->feed);
    dp_opt_release(dp_feed_opts, &s->o);
    free(s);
}

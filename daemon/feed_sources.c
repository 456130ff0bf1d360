#include "daemon/feed_sources.h"

#include <stdlib.h>
#include <sys/stat.h>

enum { DOMAINS_MAX = 64 };

struct glob {
    const struct dp_road *road;
    bool *unit; /* [units]: matches */
};

struct dp_feed_sources {
    char *text;
    struct dp_feed_domain domain[DOMAINS_MAX];
    char *path[DOMAINS_MAX];
    struct glob glob[DOMAINS_MAX];
    size_t n;
};

/* A shard's name begins with its group's key (step_shards.c); a document's source is its unit's place in the group. */
static bool takes(void *ctx, const char *shard, uint32_t source)
{
    const struct glob *g = ctx;
    const struct dp_road *r = g->road;
    for (size_t i = 0; i < r->groups; i++)
        if (strncmp(shard, "shard-", 6) == 0 && strncmp(shard + 6, r->group[i].key.hex, DP_HEX128 - 1) == 0)
            return source < r->group[i].count && g->unit[r->group[i].first + source];
    return false;
}

static int match_units(struct glob *g, struct dp_road *r, const char *name, const char *pattern, struct dp_err *e)
{
    size_t found = 0;
    g->road = r;
    g->unit = calloc(r->units + 1, sizeof *g->unit);
    if (!g->unit) DP_FAIL(e, NOMEM, "feed: domain %s", name);
    for (size_t u = 0; u < r->units; u++) {
        struct dp_members m = {0};
        size_t n = 0;
        int rc = dp_road_members(r, &r->unit[u], &m, e);
        for (size_t i = 0; rc >= 0 && i < m.n; i++) n += dp_path_matches(pattern, m.v[i].path);
        dp_members_release(&m);
        DP_TRY(rc);
        if (n && n < r->unit[u].members)
            DP_FAIL(e, CONFIG,
                    "feed: domain %s: of the %zu files of unit %s, %zu match source:%s; their documents can't be told apart in the shards, match "
                    "all of a folder's small files or none",
                    name, r->unit[u].members, r->unit[u].what, n, pattern);
        g->unit[u] = n > 0;
        found += n;
    }
    if (!found) DP_FAIL(e, CONFIG, "feed: domain %s: no source file matches source:%s", name, pattern);
    return DP_OK;
}

/* The manifest of the workspace in a folder. */
static int manifest_of(const char *dir, char **path, struct dp_err *e)
{
    struct dp_options *o = calloc(1, sizeof *o);
    struct dp_road r;
    *path = NULL;
    if (!o) DP_FAIL(e, NOMEM, "feed");
    int rc = dp_options_init(o, e);
    if (rc < 0) {
        free(o);
        return rc;
    }
    rc = dp_road_open(&r, dir, o, 1, 64 << 20, false, NULL, NULL, e);
    if (rc >= 0) {
        int done = dp_road_survey(&r, e);
        rc = done < 0 ? done : DP_OK;
        if (done >= 0 && done <= DP_STEP_SHARD)
            rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "%s: no manifest yet: make it with `dpipe run --until shard`", dir);
        if (rc >= 0 && !(*path = dp_road_path(&r, "shard", r.shard.hex, "manifest", 0, e))) rc = DP_NOTFOUND;
        dp_road_close(&r);
    }
    dp_options_release(o);
    free(o);
    return rc;
}

static int resolve(struct dp_feed_sources *s, size_t i, struct dp_road *r, const char *manifest, struct dp_err *e)
{
    struct dp_feed_domain *d = &s->domain[i];
    struct stat st;
    if (strncmp(d->manifest, "source:", 7) == 0) {
        if (!r) DP_FAIL(e, CONFIG, "feed: domain %s is given by source files, whose names only a workspace knows; use -w, not --manifest", d->name);
        DP_TRY(match_units(&s->glob[i], r, d->name, d->manifest + 7, e));
        d->takes = takes;
        d->ctx = &s->glob[i];
        d->manifest = manifest;
        return DP_OK;
    }
    if (stat(d->manifest, &st) == 0 && S_ISDIR(st.st_mode)) {
        int rc = manifest_of(d->manifest, &s->path[i], e);
        if (rc < 0) dp_err_prefix(e, "feed: domain %s", d->name);
        d->manifest = s->path[i];
        return rc;
    }
    return DP_OK;
}

int dp_feed_sources_open(struct dp_feed_sources **out, struct dp_feed **feed, struct dp_road *r, const char *manifest,
                         const struct dp_feed_options *o, struct dp_err *e)
{
    *out = NULL;
    *feed = NULL;
    if (!o->domains) return dp_feed_open(feed, manifest, o, e);
    struct dp_feed_sources *s = calloc(1, sizeof *s);
    if (!s || !(s->text = strdup(o->domains))) {
        free(s);
        DP_FAIL(e, NOMEM, "feed");
    }
    int rc = dp_feed_domains_parse(s->text, s->domain, &s->n, e);
    for (size_t i = 0; rc >= 0 && i < s->n; i++) rc = resolve(s, i, r, manifest, e);
    if (rc >= 0) rc = dp_feed_open_domains(feed, s->domain, s->n, o, e);
    if (rc < 0) dp_feed_sources_close(s);
    else *out = s;
    return rc;
}

void dp_feed_sources_close(struct dp_feed_sources *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        free(s->path[i]);
        free(s->glob[i].unit);
    }
    free(s->text);
    free(s);
}

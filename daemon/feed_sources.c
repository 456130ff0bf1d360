#include "daemon/feed_sources.h"

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { DOMAINS_MAX = 64 };

/* Which units of which groups a pattern takes: told apart from the plan, which is made anew under a running feed. */
struct taken {
    char group[DP_HEX128];
    size_t units;
    bool *takes; /* [units] */
};
struct glob {
    struct taken *group; /* by name */
    size_t groups;
};

struct dp_feed_sources {
    struct dp_road *road; /* of this workspace; may be NULL */
    bool asks_road;       /* the one manifest, or a domain, is this workspace's */
    char *text;
    struct dp_feed_domain domain[DOMAINS_MAX];
    char *path[DOMAINS_MAX], *folder[DOMAINS_MAX]; /* folder: of another workspace */
    const char *pattern[DOMAINS_MAX];              /* of this workspace's sources */
    struct glob glob[DOMAINS_MAX];
    size_t n;
};

static int by_group(const void *a, const void *b)
{
    return memcmp(((const struct taken *)a)->group, ((const struct taken *)b)->group, DP_HEX128 - 1);
}

static const struct taken *find_group(const struct glob *g, const char *name)
{
    struct taken k;
    memcpy(k.group, name, DP_HEX128 - 1);
    return g->groups ? bsearch(&k, g->group, g->groups, sizeof k, by_group) : NULL;
}

/* A shard's name begins with its group's key (step_shards.c); a document's source is its unit's place in the group. */
static bool takes(void *ctx, const char *shard, uint32_t source)
{
    if (strncmp(shard, "shard-", 6) != 0 || strlen(shard) < 6 + DP_HEX128 - 1) return false;
    const struct taken *t = find_group(ctx, shard + 6);
    return t && source < t->units && t->takes[source];
}

static void glob_release(struct glob *g)
{
    for (size_t i = 0; i < g->groups; i++) free(g->group[i].takes);
    free(g->group);
    *g = (struct glob){0};
}

/* Whether one of the patterns, which | divides, matches. */
static bool matches(const char *patterns, const char *path)
{
    char one[256];
    for (const char *p = patterns;; p++) {
        size_t n = strcspn(p, "|");
        snprintf(one, sizeof one, "%.*s", (int)n, p);
        if (n < sizeof one && dp_path_matches(one, path)) return true;
        p += n;
        if (!*p) return false;
    }
}

/* *takes: whether all of the unit's files match; none or all of them must. */
static int match_unit(struct dp_road *r, const struct dp_unit *u, const char *name, const char *pattern, bool *out, struct dp_err *e)
{
    struct dp_members m = {0};
    size_t n = 0;
    DP_TRY(dp_road_members(r, u, &m, e));
    for (size_t i = 0; i < m.n; i++) n += matches(pattern, m.v[i].path);
    dp_members_release(&m);
    if (n && n < u->members)
        DP_FAIL(e, CONFIG,
                "feed: domain %s: of the %zu files of unit %s, %zu match source:%s; their documents can't be told apart in the shards, match "
                "all of a folder's small files or none",
                name, u->members, u->what, n, pattern);
    *out = n > 0;
    return DP_OK;
}

/* For the road's groups. What `had` knows of one stays: shards that are read don't change under the feed, though a file may have another path. */
static int match_groups(struct glob *g, const struct glob *had, struct dp_road *r, const char *name, const char *pattern, struct dp_err *e)
{
    bool found = false;
    g->group = calloc(r->groups + 1, sizeof *g->group);
    if (!g->group) DP_FAIL(e, NOMEM, "feed: domain %s", name);
    for (size_t i = 0; i < r->groups; i++) {
        const struct dp_group *from = &r->group[i];
        const struct taken *old = find_group(had, from->key.hex);
        struct taken *t = &g->group[g->groups++];
        memcpy(t->group, from->key.hex, sizeof t->group);
        t->units = from->count;
        t->takes = calloc(t->units + 1, sizeof *t->takes);
        if (!t->takes) DP_FAIL(e, NOMEM, "feed: domain %s", name);
        if (old && old->units == t->units) memcpy(t->takes, old->takes, t->units);
        for (size_t u = 0; u < t->units; u++) {
            if (!old) DP_TRY(match_unit(r, &r->unit[from->first + u], name, pattern, &t->takes[u], e));
            found = found || t->takes[u];
        }
    }
    if (!found) DP_FAIL(e, CONFIG, "feed: domain %s: no source file matches source:%s", name, pattern);
    qsort(g->group, g->groups, sizeof *g->group, by_group);
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
        rc = dp_road_manifest(&r, path, e);
        if (rc == DP_EMPTY) rc = dp_err_set(e, DP_NOTFOUND, 0, __FILE__, __LINE__, "%s: no manifest yet: make it with `dpipe run --until shard`", dir);
        dp_road_close(&r);
    }
    dp_options_release(o);
    free(o);
    return rc;
}

static int resolve(struct dp_feed_sources *s, size_t i, const char *manifest, struct dp_err *e)
{
    struct dp_feed_domain *d = &s->domain[i];
    struct stat st;
    if (strncmp(d->manifest, "source:", 7) == 0) {
        if (!s->road) DP_FAIL(e, CONFIG, "feed: domain %s is given by source files, whose names only a workspace knows; use -w, not --manifest", d->name);
        s->pattern[i] = d->manifest + 7;
        s->asks_road = true;
        DP_TRY(match_groups(&s->glob[i], &s->glob[i], s->road, d->name, s->pattern[i], e));
        d->takes = takes;
        d->ctx = &s->glob[i];
        d->manifest = manifest;
        return DP_OK;
    }
    if (stat(d->manifest, &st) == 0 && S_ISDIR(st.st_mode)) {
        int rc = (s->folder[i] = strdup(d->manifest)) ? manifest_of(d->manifest, &s->path[i], e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed");
        if (rc < 0) dp_err_prefix(e, "feed: domain %s", d->name);
        d->manifest = s->path[i];
        return rc;
    }
    return DP_OK;
}

/* A mixture without domains is of this workspace's sources: NAME is the file or folder of this name, whatever its suffix. What isn't well-formed
 * is left to the mixture's own parser. malloc'ed; NULL without memory. */
static char *domains_of(const char *mixture)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 16);
    for (const char *p = mixture; *p;) {
        p += strspn(p, " \t\n,;");
        const char *stage = p + strspn(p, "0123456789");
        if (*stage == ':') p = stage + 1;
        p += strspn(p, " \t\n");
        int n = (int)strcspn(p, " =,;");
        char entry[512];
        snprintf(entry, sizeof entry, "%.*s=source:%.*s|%.*s.*|%.*s/*", n, p, n, p, n, p, n, p);
        bool had = b.len && strstr(b.ptr, entry); /* of an earlier stage */
        if (n && n < 100 && !had) dp_buf_printf(&b, "%s%s", b.len ? "," : "", entry);
        p += strcspn(p, ",;");
    }
    struct dp_err err;
    if (dp_buf_check(&b, "feed", &err) >= 0) return b.ptr;
    dp_buf_release(&b);
    return NULL;
}

int dp_feed_sources_open(struct dp_feed_sources **out, struct dp_feed **feed, struct dp_road *r, const char *manifest,
                         const struct dp_feed_options *o, struct dp_err *e)
{
    *out = NULL;
    *feed = NULL;
    struct dp_feed_sources *s = calloc(1, sizeof *s);
    bool named = !o->domains && o->mixture && r, domains = o->domains || named;
    if (!s || (domains && !(s->text = named ? domains_of(o->mixture) : strdup(o->domains)))) {
        free(s);
        DP_FAIL(e, NOMEM, "feed");
    }
    s->road = r;
    s->asks_road = r && !domains;
    int rc = domains ? dp_feed_domains_parse(s->text, s->domain, &s->n, e) : DP_OK;
    for (size_t i = 0; rc >= 0 && i < s->n; i++) rc = resolve(s, i, manifest, e);
    if (rc >= 0) rc = domains ? dp_feed_open_domains(feed, s->domain, s->n, o, e) : dp_feed_open(feed, manifest, o, e);
    if (rc < 0) dp_feed_sources_close(s);
    else *out = s;
    return rc;
}

/* --- renewing --- */

static int renew_pattern(struct dp_feed_sources *s, size_t i, struct dp_feed *feed, const char *manifest, struct dp_err *e)
{
    struct glob fresh = {0};
    int rc = match_groups(&fresh, &s->glob[i], s->road, s->domain[i].name, s->pattern[i], e);
    if (rc >= 0) rc = dp_feed_follow(feed, s->domain[i].name, manifest, e);
    if (rc < 0) {
        glob_release(&fresh);
        return rc;
    }
    glob_release(&s->glob[i]);
    s->glob[i] = fresh;
    return DP_OK;
}

static int renew_here(struct dp_feed_sources *s, struct dp_feed *feed, struct dp_err *e)
{
    char *manifest;
    int rc = dp_road_manifest(s->road, &manifest, e);
    if (rc == DP_EMPTY) return DP_OK;
    if (rc >= 0 && !s->n) rc = dp_feed_follow(feed, "", manifest, e);
    for (size_t i = 0; rc >= 0 && i < s->n; i++)
        if (s->pattern[i]) rc = renew_pattern(s, i, feed, manifest, e);
    free(manifest);
    return rc;
}

int dp_feed_sources_renew(struct dp_feed_sources *s, struct dp_feed *feed, struct dp_err *e)
{
    if (s->asks_road) DP_TRY(renew_here(s, feed, e));
    for (size_t i = 0; i < s->n; i++) {
        char *path;
        if (!s->folder[i]) continue;
        int rc = manifest_of(s->folder[i], &path, e);
        if (rc == DP_NOTFOUND) continue;
        if (rc >= 0) rc = dp_feed_follow(feed, s->domain[i].name, path, e);
        if (rc >= 0) free(s->path[i]);
        if (rc >= 0) s->path[i] = path;
        else free(path);
        if (rc < 0) return dp_err_prefix(e, "feed: domain %s", s->domain[i].name);
    }
    return DP_OK;
}

void dp_feed_sources_close(struct dp_feed_sources *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        free(s->path[i]);
        free(s->folder[i]);
        glob_release(&s->glob[i]);
    }
    free(s->text);
    free(s);
}

/* Sources: walking roots, digests, and cutting what is registered into units.
 *
 * Files of a folder are small and many, so several make a unit. The cut depends on the files' own content (a boundary behind every
 * file whose hash says so), so that a new file changes one unit and not all behind it. */
#include "daemon/road.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GROUP_BYTES = 16 << 20, /* a unit of small files is cut here at the latest */
    GROUP_FILES = 2048,
    GROUP_EVERY = 256,      /* and behind one file in so many, chosen by its hash */
    ALONE_BYTES = 8 << 20,  /* files from this size on are units of their own */
};

static int digest_file(const char *path, char hex[DP_HEX256], struct dp_err *e)
{
    enum { CAP = 1 << 20 };
    struct dp_sha256 *s = NULL;
    int rc = DP_OK;
    char *buf = malloc(CAP);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (!buf) DP_GOTO(e, NOMEM, "%s: digest", path);
    if (fd < 0) DP_GOTO_SYS(e, "%s: cannot open", path);
    DP_TRY_OUT(dp_sha256_open(&s, e));
    for (;;) {
        ssize_t n = read(fd, buf, CAP);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) DP_GOTO_SYS(e, "%s: read", path);
        if (n == 0) break;
        dp_progress_tick();
        dp_sha256_add(s, buf, (size_t)n);
    }
    dp_sha256_finish(s, hex);
    s = NULL;
out:
    dp_sha256_close(s);
    if (fd >= 0) close(fd);
    free(buf);
    return rc;
}

struct registering {
    struct dp_road *road;
    struct dp_err *e;
    uint64_t files, fresh, bytes;
    bool stuck; /* the catalog failed: no source's fault */
};

/* A file that can't be read is left out where the policy goes on; a later look may find it better. */
static int leave_out(struct registering *g, int rc)
{
    if (!dp_road_tolerates(g->road, rc)) return rc;
    dp_log(WARN, "ingest", "%s", g->e->msg);
    return DP_OK;
}

static int register_file(void *ctx, const char *path, const char *relative, uint64_t size)
{
    struct registering *g = ctx;
    struct dp_road *r = g->road;
    struct stat st;
    char *full = realpath(path, NULL);
    bool known = false, fresh = false;
    int rc = DP_OK;
    (void)size;
    if (dp_road_stopped(r)) {
        free(full);
        DP_FAIL(g->e, STOPPED, "stopped while registering sources; run again to go on");
    }
    if (!full || stat(full, &st) != 0) {
        rc = dp_err_set(g->e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: source", path);
        free(full);
        return leave_out(g, rc);
    }
    if (r->policy.accept && !r->policy.accept(r->policy.accept_ctx, path, relative, &st)) goto out;
    int64_t mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    rc = dp_catalog_source_known(r->ws.catalog, full, st.st_size, mtime, (int64_t)st.st_ino, relative, &known, g->e);
    g->stuck = rc < 0;
    if (rc < 0) goto out;
    g->files++;
    g->bytes += (uint64_t)st.st_size;
    if (!known) {
        char hex[DP_HEX256];
        rc = digest_file(full, hex, g->e);
        if (rc < 0) {
            rc = leave_out(g, rc);
            goto out;
        }
        const char *slash = strrchr(full, '/');
        struct dp_source s = {0, full, *relative ? relative : slash ? slash + 1 : full, relative, hex, st.st_size, mtime, (int64_t)st.st_ino};
        rc = dp_catalog_source_put(r->ws.catalog, &s, &fresh, g->e);
        g->stuck = rc < 0;
        if (rc < 0) goto out;
        g->fresh += fresh;
    }
    dp_progress_add(1, 0);
out:
    free(full);
    return rc;
}

/* Roots that `dpipe ingest` was given, kept as a JSON list in the catalog. */
static int load_roots(struct dp_road *r, struct dp_strings *roots, struct dp_err *e)
{
    char *text = dp_catalog_get(r->ws.catalog, "roots");
    struct dp_json *v = NULL;
    if (!text) return DP_OK;
    int rc = dp_json_parse(&v, dp_span_str(text), "catalog.db: roots", e);
    for (size_t i = 0; rc >= 0 && i < dp_json_count(v); i++) {
        struct dp_span s = dp_json_str(dp_json_at(v, i));
        if (s.ptr) rc = dp_strings_add(roots, s.ptr, e);
    }
    dp_json_free(v);
    free(text);
    return rc;
}

static int save_roots(struct dp_road *r, const struct dp_strings *roots, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, 16 << 20);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < roots->n; i++) dp_jsonw_cstr(&w, roots->v[i]);
    dp_jsonw_end(&w, ']');
    int rc = dp_buf_check(&b, "roots", e);
    if (rc >= 0) rc = dp_catalog_set(r->ws.catalog, "roots", b.ptr, e);
    dp_buf_release(&b);
    return rc;
}

int dp_road_register(struct dp_road *r, const char *const *paths, size_t n, bool remember, struct dp_err *e)
{
    struct registering g = {.road = r, .e = e};
    struct dp_strings roots = {0};
    int rc = DP_OK;
    if (remember) DP_TRY_OUT(load_roots(r, &roots, e));
    dp_progress_begin("register", "files", 0);
    for (size_t i = 0; i < n && rc >= 0; i++) {
        rc = dp_walk(paths[i], register_file, &g, e);
        if (!g.stuck && dp_road_tolerates(r, rc)) {
            dp_log(WARN, "ingest", "%s", e->msg);
            rc = DP_OK;
        }
        if (rc < 0 || !remember) continue;
        char *full = realpath(paths[i], NULL);
        bool have = !full;
        for (size_t k = 0; full && k < roots.n; k++) have = have || strcmp(roots.v[k], full) == 0;
        if (!have) rc = dp_strings_add(&roots, full, e);
        free(full);
    }
    dp_progress_end();
    if (rc >= 0 && remember) rc = save_roots(r, &roots, e);
    if (rc >= 0 && remember)
        dp_log(INFO, "ingest", "%llu files (%.1f MB), %llu of them new", (unsigned long long)g.files, (double)g.bytes / 1e6, (unsigned long long)g.fresh);
out:
    dp_strings_release(&roots);
    return rc;
}

/* --- planning --- */

struct members {
    struct dp_member *v;
    size_t n, cap;
};

static int add_member(void *ctx, const struct dp_source *s)
{
    struct members *m = ctx;
    if (m->n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 256;
        struct dp_member *v = realloc(m->v, cap * sizeof *v);
        if (!v) return DP_NOMEM;
        m->v = v;
        m->cap = cap;
    }
    struct dp_member *k = &m->v[m->n];
    *k = (struct dp_member){strdup(s->path), strdup(s->name), strdup(s->prefix), strdup(s->digest), (uint64_t)s->bytes};
    m->n++;
    return k->path && k->name && k->prefix && k->digest ? DP_OK : DP_NOMEM;
}

static bool cut_behind(const struct dp_member *m)
{
    return dp_hash64(m->digest, strlen(m->digest), dp_hash64(m->prefix, strlen(m->prefix), 0)) % GROUP_EVERY == 0;
}

/* How many members from `at` on make the next unit. */
static size_t unit_length(const struct members *m, size_t at)
{
    if (!m->v[at].prefix[0] || m->v[at].bytes >= ALONE_BYTES) return 1;
    uint64_t bytes = 0;
    size_t n = 0;
    while (at + n < m->n && n < GROUP_FILES && bytes < GROUP_BYTES) {
        const struct dp_member *k = &m->v[at + n];
        if (!k->prefix[0] || k->bytes >= ALONE_BYTES) break;
        bytes += k->bytes;
        n++;
        if (cut_behind(k)) break;
    }
    return n;
}

static int unit_keys(struct dp_road *r, struct dp_unit *u, struct dp_err *e)
{
    const struct dp_options *o = r->options;
    struct dp_keyer k;
    dp_keyer_init(&k, "ingest", DP_INGEST_VERSION);
    dp_keyer_options(&k, "ingest", dp_ingest_opts, &o->ingest);
    for (size_t i = 0; i < u->members; i++) {
        /* The name is a hint for the format, so it counts. */
        dp_keyer_add(&k, "name", u->member[i].name);
        dp_keyer_add(&k, "prefix", u->member[i].prefix);
        dp_keyer_add(&k, "digest", u->member[i].digest);
    }
    DP_TRY(dp_keyer_finish(&k, &u->ingest, e));
    size_t sig = dp_options_signature_stage(o);
    dp_keyer_init(&k, "clean", 1);
    dp_keyer_add(&k, "ingest", u->ingest.hex);
    for (size_t i = 0; i < sig; i++) {
        char version[16];
        snprintf(version, sizeof version, "%u", o->clean.type[i]->version);
        dp_keyer_add(&k, o->clean.type[i]->name, version);
        dp_keyer_options(&k, o->clean.type[i]->name, o->clean.type[i]->opts, o->clean.ctx[i]);
    }
    DP_TRY(dp_keyer_finish(&k, &u->docs, e));
    dp_keyer_init(&k, "signature", o->clean.type[sig]->version);
    dp_keyer_add(&k, "docs", u->docs.hex);
    dp_keyer_options(&k, "signature", o->clean.type[sig]->opts, o->clean.ctx[sig]);
    return dp_keyer_finish(&k, &u->sig, e);
}

static int unit_make(struct dp_road *r, struct dp_unit *u, struct dp_member *m, size_t n, struct dp_err *e)
{
    *u = (struct dp_unit){.member = malloc(n * sizeof *m), .members = n};
    if (!u->member) DP_FAIL(e, NOMEM, "unit of %zu files", n);
    for (size_t i = 0; i < n; i++) {
        u->member[i] = m[i];
        u->bytes += m[i].bytes;
    }
    char what[512];
    if (n == 1) snprintf(what, sizeof what, "%s", m[0].name);
    else snprintf(what, sizeof what, "%.200s ... %.200s (%zu files)", m[0].name, m[n - 1].name, n);
    u->what = strdup(what);
    if (!u->what) DP_FAIL(e, NOMEM, "unit of %zu files", n);
    return unit_keys(r, u, e);
}

static void free_member(struct dp_member *m)
{
    free(m->path);
    free(m->name);
    free(m->prefix);
    free(m->digest);
}

void dp_road_unit_release(struct dp_unit *u)
{
    for (size_t k = 0; k < u->members; k++) free_member(&u->member[k]);
    free(u->member);
    free(u->what);
}

static void free_units(struct dp_road *r)
{
    for (size_t i = 0; i < r->units; i++) dp_road_unit_release(&r->unit[i]);
    free(r->unit);
    r->unit = NULL;
    r->units = 0;
}

int dp_road_register_file(struct dp_road *r, const char *path, const char *relative, struct dp_err *e)
{
    struct registering g = {.road = r, .e = e};
    return register_file(&g, path, relative, 0);
}

int dp_road_roots(struct dp_road *r, struct dp_strings *roots, struct dp_err *e)
{
    DP_TRY(load_roots(r, roots, e));
    for (size_t i = 0; i < r->options->sources.n; i++) {
        const char *s = r->options->sources.v[i];
        char *path = *s == '/' ? strdup(s) : dp_fs_join(r->ws.dir, s);
        if (!path) DP_FAIL(e, NOMEM, "%s", s);
        int rc = dp_strings_add(roots, path, e);
        free(path);
        DP_TRY(rc);
    }
    return DP_OK;
}

static int rescan_roots(struct dp_road *r, struct dp_err *e)
{
    struct dp_strings roots = {0};
    int rc = dp_road_roots(r, &roots, e);
    if (rc >= 0 && roots.n) rc = dp_road_register(r, (const char *const *)roots.v, roots.n, false, e);
    dp_strings_release(&roots);
    return rc;
}

int dp_road_plan(struct dp_road *r, bool rescan, struct dp_err *e)
{
    struct members m = {0};
    size_t at = 0;
    if (rescan) DP_TRY(rescan_roots(r, e));
    free_units(r);
    int rc = dp_catalog_sources(r->ws.catalog, add_member, &m, e);
    if (rc == DP_NOMEM) dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "list of sources");
    if (rc >= 0 && !(r->unit = calloc(m.n + 1, sizeof *r->unit))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "list of units");
    while (rc >= 0 && at < m.n) {
        size_t n = unit_length(&m, at);
        rc = unit_make(r, &r->unit[r->units], &m.v[at], n, e);
        if (!r->unit[r->units].member) break;
        r->units++; /* the members are the unit's now, even when its keys failed */
        at += n;
    }
    for (; at < m.n; at++) free_member(&m.v[at]);
    free(m.v);
    return rc;
}

void dp_road_close(struct dp_road *r)
{
    free_units(r);
    free(r->group);
    dp_pool_close(r->pool);
    dp_workspace_close(&r->ws);
    memset(r, 0, sizeof *r);
    r->ws.lock_fd = -1;
}

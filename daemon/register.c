/* Sources: walking roots, digests, what is registered. plan.c cuts it into units. */
#include "daemon/road.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Digest and stat of a file that stays as it is meanwhile: DP_BUSY when it doesn't, after three tries. */
static int digest_file(const char *path, char hex[DP_HEX256], struct stat *st, struct dp_err *e)
{
    enum { CAP = 1 << 20 };
    struct dp_sha256 *s = NULL;
    struct stat after;
    int rc = DP_OK;
    char *buf = malloc(CAP);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (!buf) DP_GOTO(e, NOMEM, "%s: digest", path);
    if (fd < 0) DP_GOTO_SYS(e, "%s: cannot open", path);
    for (int tries = 0; tries < 3; tries++) {
        uint64_t bytes = 0;
        if (fstat(fd, st) != 0) DP_GOTO_SYS(e, "%s: source", path);
        if (!S_ISREG(st->st_mode)) DP_GOTO(e, BUSY, "%s is no file any more", path);
        if (lseek(fd, 0, SEEK_SET) != 0) DP_GOTO_SYS(e, "%s: seek", path);
        DP_TRY_OUT(dp_sha256_open(&s, e));
        for (;;) {
            ssize_t n = read(fd, buf, CAP);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) DP_GOTO_SYS(e, "%s: read", path);
            DP_TRY_OUT(dp_progress_go_on(e));
            if (n == 0 || bytes > (uint64_t)st->st_size) break; /* of what grows without end, no more than is needed to see it */
            dp_sha256_add(s, buf, (size_t)n);
            bytes += (uint64_t)n;
        }
        dp_sha256_finish(s, hex);
        s = NULL;
        if (fstat(fd, &after) != 0) DP_GOTO_SYS(e, "%s: source", path);
        if (bytes == (uint64_t)st->st_size && after.st_size == st->st_size && after.st_mtim.tv_sec == st->st_mtim.tv_sec
            && after.st_mtim.tv_nsec == st->st_mtim.tv_nsec)
            goto out;
    }
    rc = dp_err_set(e, DP_BUSY, 0, __FILE__, __LINE__, "%s: changes while it is read, or is no ordinary file", path);
out:
    dp_sha256_close(s);
    if (fd >= 0) close(fd);
    free(buf);
    return rc;
}

/* The paths of one look through all roots, by hash, with the length of the prefix that each has. */
struct seen {
    struct seen_path {
        struct dp_hash128 path; /* 0: free */
        size_t prefix;
    } *v;
    size_t n, cap;
};

static struct seen_path *seen_slot(const struct seen *t, struct dp_hash128 h)
{
    size_t i = (size_t)h.lo & (t->cap - 1);
    while ((t->v[i].path.lo | t->v[i].path.hi) && !dp_hash128_eq(t->v[i].path, h)) i = (i + 1) & (t->cap - 1);
    return &t->v[i];
}

/* *add: the path is new, or (*again) stands below a folder that is further up than before. So of roots inside each other the outer one names
 * the files, in whatever order they were registered. */
static int seen_add(struct seen *t, const char *path, size_t prefix, bool *add, bool *again, struct dp_err *e)
{
    if ((t->n + 1) * 2 > t->cap) {
        struct seen more = {.cap = t->cap ? t->cap * 2 : 1024};
        if (!(more.v = calloc(more.cap, sizeof *more.v))) DP_FAIL(e, NOMEM, "list of %zu sources", t->n);
        for (size_t i = 0; i < t->cap; i++)
            if (t->v[i].path.lo | t->v[i].path.hi) *seen_slot(&more, t->v[i].path) = t->v[i];
        more.n = t->n;
        free(t->v);
        *t = more;
    }
    struct dp_hash128 h = dp_hash128(path, strlen(path));
    struct seen_path *p = seen_slot(t, h);
    bool fresh = !(p->path.lo | p->path.hi);
    *again = !fresh && prefix > p->prefix;
    *add = fresh || *again;
    t->n += fresh;
    if (*add) *p = (struct seen_path){h, prefix};
    return DP_OK;
}

static bool seen_has(void *ctx, const char *path)
{
    const struct seen *t = ctx;
    struct dp_hash128 h = dp_hash128(path, strlen(path));
    return t->n && dp_hash128_eq(seen_slot(t, h)->path, h);
}

enum { PUT_AT_ONCE = 256 }; /* a transaction costs an fsync */

struct registering {
    struct dp_road *road;
    struct dp_err *e;
    struct dp_road_sources *found;
    struct seen seen;
    bool partial; /* a root couldn't be looked through: what wasn't seen may be there */
    char *home; /* the workspace's real path */
    struct dp_source put[PUT_AT_ONCE]; /* not in the catalog yet; strings malloc'ed */
    size_t n_put;
};

static void release_source(struct dp_source *s)
{
    free((char *)(uintptr_t)s->path);
    free((char *)(uintptr_t)s->name);
    free((char *)(uintptr_t)s->prefix);
    free((char *)(uintptr_t)s->digest);
}

static int flush(struct registering *g, struct dp_err *e)
{
    size_t fresh = 0;
    int rc = g->n_put ? dp_catalog_sources_put(g->road->ws.catalog, g->put, g->n_put, &fresh, e) : DP_OK;
    g->found->fresh += fresh;
    for (size_t i = 0; i < g->n_put; i++) release_source(&g->put[i]);
    g->n_put = 0;
    return rc;
}

static void skip_file(void *ctx, const char *path, const char *why)
{
    struct registering *g = ctx;
    g->found->skipped++;
    dp_log_at(WARN, "ingest", DP_LOG_PATH(path), "%s; left out", why);
}

/* recipe.yaml, catalog.db, store/ and so on, when a root lies around the workspace. */
static bool own_file(const struct registering *g, const char *full)
{
    static const char *const names[] = {"recipe.yaml", "catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db-journal", "lock"};
    size_t n = g->home ? strlen(g->home) : 0;
    if (!n || strncmp(full, g->home, n) != 0 || full[n] != '/') return false;
    const char *rest = full + n + 1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(rest, names[i]) == 0) return true;
    return strncmp(rest, "store/", 6) == 0 || strncmp(rest, "tmp/", 4) == 0 || strncmp(rest, "quarantine/", 11) == 0;
}

/* Trouble of one file, not of the machine. */
static bool of_the_file(int rc, const struct dp_err *e)
{
    static const int sys[] = {EACCES, EPERM, EINVAL, ELOOP, ENAMETOOLONG, ENXIO, EOPNOTSUPP};
    if (rc == DP_BUSY || rc == DP_NOTFOUND) return true;
    for (size_t i = 0; i < sizeof sys / sizeof *sys; i++)
        if (rc == DP_IO && e->sys == sys[i]) return true;
    return false;
}

static int put_file(struct registering *g, const char *full, const char *path, const char *relative, struct dp_err *e)
{
    struct dp_catalog *catalog = g->road->ws.catalog;
    struct stat st;
    bool known = false;
    const struct dp_policy *policy = &g->road->policy;
    if (stat(full, &st) != 0) DP_FAIL_SYS(e, "%s: source", full);
    /* Not complete yet: what is known of the path stays. */
    if (policy->accept && !policy->accept(policy->accept_ctx, path, relative, &st)) return DP_OK;
    int64_t mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    DP_TRY(dp_catalog_source_known(catalog, full, st.st_size, mtime, (int64_t)st.st_ino, relative, &known, e));
    if (!known) {
        char hex[DP_HEX256];
        DP_TRY(digest_file(full, hex, &st, e));
        mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        const char *slash = strrchr(full, '/');
        struct dp_source *s = &g->put[g->n_put++];
        *s = (struct dp_source){0, strdup(full), strdup(*relative ? relative : slash ? slash + 1 : full), strdup(relative), strdup(hex), st.st_size, mtime,
                                (int64_t)st.st_ino};
        if (!s->path || !s->name || !s->prefix || !s->digest) {
            release_source(s);
            g->n_put--;
            DP_FAIL(e, NOMEM, "%s: source", full);
        }
        if (g->n_put == PUT_AT_ONCE) DP_TRY(flush(g, e));
    }
    g->found->files++;
    g->found->bytes += (uint64_t)st.st_size;
    return DP_OK;
}

static int register_file(void *ctx, const char *path, const char *relative, uint64_t size)
{
    struct registering *g = ctx;
    struct dp_err err = {0};
    bool add = true, again = false;
    int rc = DP_OK;
    (void)size;
    if (dp_road_stopped(g->road)) DP_FAIL(g->e, STOPPED, "stopped while registering sources; run again to go on");
    char *full = realpath(path, NULL);
    if (!full) rc = dp_err_set(&err, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: source", path);
    else if (own_file(g, full)) add = false;
    else rc = seen_add(&g->seen, full, strlen(relative), &add, &again, &err);
    if (rc >= 0 && again) rc = flush(g, &err); /* the catalog is asked what it knows of this path: under its first name, too */
    if (rc >= 0 && add) rc = put_file(g, full, path, relative, &err);
    if (rc < 0 && *relative && of_the_file(rc, &err)) {
        const char *why = strncmp(err.msg, full ? full : path, strlen(full ? full : path)) == 0 ? err.msg + strlen(full ? full : path) : err.msg;
        skip_file(g, full ? full : path, why + strspn(why, ": "));
        rc = DP_OK;
    }
    if (rc < 0) *g->e = err;
    free(full);
    dp_progress_add(1, 0);
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

static int registering_open(struct registering *g, struct dp_road *r, struct dp_road_sources *found, struct dp_err *e)
{
    *found = (struct dp_road_sources){0};
    *g = (struct registering){.road = r, .e = e, .found = found, .home = realpath(r->ws.dir, NULL)};
    if (!g->home) DP_FAIL_SYS(e, "%s: workspace", r->ws.dir);
    dp_progress_begin("register", "files", 0);
    return DP_OK;
}

/* After trouble, too, what was seen before it is registered as far as that still goes: the next look needn't read it again. */
static void registering_close(struct registering *g)
{
    struct dp_err second = {0};
    dp_progress_end();
    flush(g, &second);
    free(g->seen.v);
    free(g->home);
}

int dp_road_register(struct dp_road *r, const char *const *paths, size_t n, struct dp_road_sources *found, struct dp_err *e)
{
    struct registering g;
    struct dp_strings roots = {0};
    DP_TRY(registering_open(&g, r, found, e));
    int rc = load_roots(r, &roots, e);
    for (size_t i = 0; i < n && rc >= 0; i++) {
        rc = dp_walk(paths[i], register_file, skip_file, &g, e);
        char *full = rc < 0 ? NULL : realpath(paths[i], NULL);
        bool have = !full;
        for (size_t k = 0; full && k < roots.n; k++) have = have || strcmp(roots.v[k], full) == 0;
        if (!have) rc = dp_strings_add(&roots, full, e);
        free(full);
    }
    if (rc >= 0) rc = flush(&g, e);
    registering_close(&g);
    if (rc >= 0) rc = save_roots(r, &roots, e); /* all of them or none: a file without a root is forgotten by the next run */
    if (rc >= 0)
        dp_log(INFO, "ingest", "%llu files (%.1f MB), %llu of them new%s", (unsigned long long)found->files, (double)found->bytes / 1e6,
               (unsigned long long)found->fresh, found->skipped ? "; some could not be read" : "");
    dp_strings_release(&roots);
    return rc;
}

/* The root as it was remembered, though the file may be gone. */
static char *root_name(const char *path)
{
    char *full = realpath(path, NULL), *cwd;
    if (full || *path == '/') return full ? full : strdup(path);
    if (!(cwd = realpath(".", NULL))) return NULL;
    full = dp_fs_join(cwd, path);
    free(cwd);
    return full;
}

int dp_road_forget(struct dp_road *r, const char *const *paths, size_t n, struct dp_err *e)
{
    struct dp_strings roots = {0};
    int rc = load_roots(r, &roots, e);
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        char *name = root_name(paths[i]);
        size_t k = 0;
        if (!name) DP_GOTO(e, NOMEM, "%s", paths[i]);
        while (k < roots.n && strcmp(roots.v[k], name) != 0) k++;
        if (k == roots.n)
            rc = dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "%s is not registered; registered are %zu sources%s%s", name, roots.n, roots.n ? ", the first " : "",
                            roots.n ? roots.v[0] : "");
        else {
            free(roots.v[k]);
            memmove(&roots.v[k], &roots.v[k + 1], (--roots.n - k) * sizeof *roots.v);
        }
        free(name);
    }
    if (rc >= 0) rc = save_roots(r, &roots, e);
out:
    dp_strings_release(&roots);
    return rc;
}

/* --- looking again --- */

static int rescan_root(struct registering *g, const char *path, bool recipe, struct dp_err *e)
{
    int rc = dp_walk(path, register_file, skip_file, g, e);
    if (dp_road_tolerates(g->road, rc)) {
        dp_log(WARN, "ingest", "%s; sources that it led to stay as they are", e->msg);
        g->partial = true;
        g->road->left.changed = g->road->left.changed || rc != DP_NOTFOUND; /* the machine's trouble passes: look again soon */
        return DP_OK;
    }
    if (rc == DP_NOTFOUND && recipe) dp_err_prefix(e, "a source of recipe.yaml is not there (restore it, or take it off the list)");
    else if (rc == DP_NOTFOUND) dp_err_prefix(e, "a registered source is gone (restore it, or `dpipe ingest --forget` it)");
    return rc;
}

/* A source of the recipe: a path, or a pattern of paths. */
static int rescan_pattern(struct registering *g, const char *path, struct dp_err *e)
{
    glob_t found = {0};
    struct stat st;
    if (!strpbrk(path, "*?[") || lstat(path, &st) == 0 || glob(path, 0, NULL, &found) != 0) {
        globfree(&found);
        return rescan_root(g, path, true, e);
    }
    int rc = DP_OK;
    for (size_t i = 0; rc >= 0 && i < found.gl_pathc; i++) rc = rescan_root(g, found.gl_pathv[i], true, e);
    globfree(&found);
    return rc;
}

/* The spool of `dpipe serve`, where there is one: its documents are the workspace's, whoever runs. NULL when there is none. */
static char *spool_of(const struct dp_road *r)
{
    char *path = r->options->serve.spool ? dp_fs_join(r->ws.dir, "spool") : NULL;
    if (path && dp_fs_exists(path)) return path;
    free(path);
    return NULL;
}

int dp_road_register_file(struct dp_road *r, const char *path, const char *relative, struct dp_err *e)
{
    struct registering g;
    struct dp_road_sources found;
    DP_TRY(registering_open(&g, r, &found, e));
    int rc = register_file(&g, path, relative, 0);
    if (dp_road_tolerates(r, rc)) {
        dp_log(WARN, "ingest", "%s", e->msg);
        r->left.changed = true; /* nobody tells us of this file again */
        rc = DP_OK;
    }
    if (rc >= 0) rc = flush(&g, e);
    registering_close(&g);
    return rc;
}

static int add_roots(struct dp_strings *roots, const char *path, struct dp_err *e)
{
    glob_t found = {0};
    struct stat st;
    int rc = DP_OK;
    if (!strpbrk(path, "*?[") || lstat(path, &st) == 0 || glob(path, 0, NULL, &found) != 0) rc = dp_strings_add(roots, path, e);
    else
        for (size_t i = 0; rc >= 0 && i < found.gl_pathc; i++) rc = dp_strings_add(roots, found.gl_pathv[i], e);
    globfree(&found);
    return rc;
}

int dp_road_roots(struct dp_road *r, struct dp_strings *roots, struct dp_err *e)
{
    char *spool = spool_of(r);
    int added = spool ? dp_strings_add(roots, spool, e) : DP_OK;
    free(spool);
    DP_TRY(added);
    DP_TRY(load_roots(r, roots, e));
    for (size_t i = 0; i < r->options->sources.n; i++) {
        const char *s = r->options->sources.v[i];
        char *path = *s == '/' ? strdup(s) : dp_fs_join(r->ws.dir, s);
        int rc = path ? add_roots(roots, path, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", s);
        free(path);
        DP_TRY(rc);
    }
    return DP_OK;
}

/* Look through everything that recipe and roots name. What they don't lead to any more is no source any more: the same corpus gives the
 * same store, whatever was there before. */
int dp_road_rescan(struct dp_road *r, struct dp_err *e)
{
    struct dp_strings roots = {0};
    struct registering g;
    struct dp_road_sources found;
    DP_TRY(registering_open(&g, r, &found, e));
    int rc = load_roots(r, &roots, e);
    char *spool = spool_of(r);
    if (rc >= 0 && spool) rc = rescan_root(&g, spool, false, e);
    free(spool);
    for (size_t i = 0; rc >= 0 && i < roots.n; i++) rc = rescan_root(&g, roots.v[i], false, e);
    for (size_t i = 0; rc >= 0 && i < r->options->sources.n; i++) {
        const char *s = r->options->sources.v[i];
        char *path = *s == '/' ? strdup(s) : dp_fs_join(r->ws.dir, s);
        if (path) rc = rescan_pattern(&g, path, e);
        else rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", s);
        free(path);
    }
    if (rc >= 0) rc = flush(&g, e);
    if (rc >= 0 && !g.partial) rc = dp_catalog_sources_prune(r->ws.catalog, seen_has, &g.seen, &found.gone, e);
    if (rc >= 0 && found.gone)
        dp_log(WARN, "ingest", "%llu files that were sources are gone or no longer named; their documents leave the corpus", (unsigned long long)found.gone);
    registering_close(&g);
    dp_strings_release(&roots);
    return rc;
}

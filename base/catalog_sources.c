/* The catalog's sources. */
#include "base/catalog_sql.h"

#include <stdlib.h>

struct sources_put {
    const struct dp_source *s;
    size_t n, fresh;
};

static int source_put(struct dp_catalog *c, const struct dp_source *s, size_t *fresh, struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(c, c->w, &st, e, "SELECT 1 FROM source WHERE path=? AND prefix=? AND digest=?", "sss", s->path, s->prefix, s->digest));
    int rc = step(c, c->w, st, e);
    sqlite3_finalize(st);
    DP_TRY(rc);
    *fresh += rc == 0;
    RUN(c, e,
        "INSERT INTO source(path,name,prefix,digest,bytes,mtime_ns,inode) VALUES(?,?,?,?,?,?,?) ON CONFLICT(path) DO UPDATE SET"
        " name=excluded.name, prefix=excluded.prefix, digest=excluded.digest, bytes=excluded.bytes, mtime_ns=excluded.mtime_ns, inode=excluded.inode",
        "ssssiii", s->path, s->name, s->prefix, s->digest, s->bytes, s->mtime_ns, s->inode);
    return DP_OK;
}

static int sources_put(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    struct sources_put *p = ctx;
    for (size_t i = 0; i < p->n; i++) DP_TRY(source_put(c, &p->s[i], &p->fresh, e));
    return DP_OK;
}

int dp_catalog_sources_put(struct dp_catalog *c, const struct dp_source *s, size_t n, size_t *fresh, struct dp_err *e)
{
    struct sources_put p = {.s = s, .n = n};
    int rc = change(c, sources_put, &p, e);
    *fresh = p.fresh;
    return rc;
}

int dp_catalog_source_known(struct dp_catalog *c, const char *path, int64_t bytes, int64_t mtime_ns, int64_t inode, const char *prefix,
                            bool *found, struct dp_err *e)
{
    sqlite3_stmt *st;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, e, "SELECT 1 FROM source WHERE path=? AND bytes=? AND mtime_ns=? AND inode=? AND prefix=?", "siiis", path, bytes,
                     mtime_ns, inode, prefix);
    if (rc >= 0) {
        rc = step(c, c->r, st, e);
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    *found = rc == 1;
    return rc < 0 ? rc : DP_OK;
}

#define SELECT_SOURCES "SELECT id,path,name,prefix,digest,bytes,mtime_ns,inode FROM source s WHERE " FIRST_BY_PATH

void dp_source_place_release(struct dp_source_place *p)
{
    free(p->prefix);
    free(p->name);
    free(p->digest);
}

int dp_source_place_find(struct dp_catalog *c, sqlite3 *db, int64_t id, struct dp_source_place *p, struct dp_err *e)
{
    sqlite3_stmt *st;
    *p = (struct dp_source_place){NULL, NULL, NULL};
    DP_TRY(prepare(c, db, &st, e, "SELECT prefix,name,digest FROM source WHERE id=?", "i", id));
    int rc = step(c, db, st, e);
    if (rc == 1) *p = (struct dp_source_place){strdup(text(st, 0)), strdup(text(st, 1)), strdup(text(st, 2))};
    sqlite3_finalize(st);
    if (rc == 1 && (!p->prefix || !p->name || !p->digest)) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "sources");
    return rc < 0 ? rc : DP_OK;
}

static int sources(struct dp_catalog *c, bool fresh, int64_t from, int64_t n, int (*fn)(void *ctx, const struct dp_source *s), void *ctx,
                   struct dp_err *e)
{
    static const char *const sql[2][2] = {{SELECT_SOURCES IN_ORDER, SELECT_SOURCES FROM_PLACE IN_ORDER},
                                          {SELECT_SOURCES FRESH IN_ORDER, SELECT_SOURCES FRESH FROM_PLACE IN_ORDER}};
    sqlite3_stmt *st = NULL;
    struct dp_source_place at = {NULL, NULL, NULL};
    pthread_mutex_lock(&c->read_mu);
    int rc = from ? dp_source_place_find(c, c->r, from, &at, e) : DP_OK;
    if (rc >= 0) rc = prepare(c, c->r, &st, e, sql[fresh][from != 0], from ? "isss" : "i", n, at.prefix, at.name, at.digest);
    if (rc >= 0) {
        while ((rc = step(c, c->r, st, e)) == 1) {
            struct dp_source s = {sqlite3_column_int64(st, 0), text(st, 1), text(st, 2), text(st, 3), text(st, 4),
                                  sqlite3_column_int64(st, 5), sqlite3_column_int64(st, 6), sqlite3_column_int64(st, 7)};
            rc = fn(ctx, &s);
            if (rc < 0) break;
        }
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    dp_source_place_release(&at);
    return rc < 0 ? rc : DP_OK;
}

int dp_catalog_sources(struct dp_catalog *c, int64_t from, int64_t n, int (*fn)(void *ctx, const struct dp_source *s), void *ctx,
                       struct dp_err *e)
{
    return sources(c, false, from, n, fn, ctx, e);
}

int dp_catalog_sources_fresh(struct dp_catalog *c, int64_t from, int64_t n, int (*fn)(void *ctx, const struct dp_source *s), void *ctx, struct dp_err *e)
{
    return sources(c, true, from, n, fn, ctx, e);
}

struct doubt {
    const char *path;
    bool look;
    size_t n;
};

static int doubt(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    struct doubt *k = ctx;
#define BELOW " WHERE path=?1 OR substr(path,1,length(?1)+1)=?1||'/'"
    RUN(c, e, k->look ? "UPDATE source SET mtime_ns=mtime_ns" BELOW : "UPDATE source SET mtime_ns=-1" BELOW, "s", k->path);
    k->n = (size_t)sqlite3_changes(c->w);
    return DP_OK;
}

int dp_catalog_sources_doubt(struct dp_catalog *c, const char *path, bool look, size_t *n, struct dp_err *e)
{
    struct doubt k = {.path = path, .look = look};
    int rc = change(c, doubt, &k, e);
    *n = k.n;
    return rc;
}

struct prune {
    bool (*keep)(void *ctx, const char *path);
    void *ctx;
    uint64_t gone;
};

static int prune(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    struct prune *k = ctx;
    int64_t *ids = NULL;
    size_t n = 0, cap = 0;
    sqlite3_stmt *st;
    DP_TRY(prepare(c, c->w, &st, e, "SELECT id,path FROM source", ""));
    int rc;
    while ((rc = step(c, c->w, st, e)) == 1) {
        if (k->keep(k->ctx, text(st, 1))) continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 64;
            int64_t *more = realloc(ids, cap * sizeof *ids);
            if (!more) {
                rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "forgetting sources");
                break;
            }
            ids = more;
        }
        ids[n++] = sqlite3_column_int64(st, 0);
    }
    sqlite3_finalize(st);
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        rc = prepare(c, c->w, &st, e, "DELETE FROM source WHERE id=?", "i", ids[i]);
        if (rc < 0) break;
        rc = step(c, c->w, st, e);
        sqlite3_finalize(st);
    }
    free(ids);
    k->gone = n;
    return rc < 0 ? rc : DP_OK;
}

int dp_catalog_sources_prune(struct dp_catalog *c, bool (*keep)(void *ctx, const char *path), void *ctx, uint64_t *gone, struct dp_err *e)
{
    struct prune k = {.keep = keep, .ctx = ctx};
    int rc = change(c, prune, &k, e);
    *gone = rc < 0 ? 0 : k.gone;
    return rc;
}

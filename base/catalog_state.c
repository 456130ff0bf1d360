/* The present state, and what was in an earlier one. */
#include "base/catalog_sql.h"

#include <stdio.h>

struct superseding {
    const struct dp_unit_name *gone, *came;
    const char *const *name;
    size_t ngone, ncame, n;
    int64_t now;
};

static int supersede(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    const struct superseding *k = ctx;
    for (size_t i = 0; i < k->ngone; i++) {
        const struct dp_unit_name *u = &k->gone[i];
        RUN(c, e, "DELETE FROM present WHERE stage=? AND key=?", "ss", u->stage, u->key);
        RUN(c, e, "INSERT OR REPLACE INTO superseded VALUES(?,?,?)", "ssi", u->stage, u->key, k->now);
    }
    for (size_t i = 0; i < k->ncame; i++) {
        const struct dp_unit_name *u = &k->came[i];
        RUN(c, e, "INSERT OR IGNORE INTO present VALUES(?,?)", "ss", u->stage, u->key);
        RUN(c, e, "DELETE FROM superseded WHERE stage=? AND key=?", "ss", u->stage, u->key);
    }
    return DP_OK;
}

int dp_catalog_supersede(struct dp_catalog *c, const struct dp_unit_name *gone, size_t ngone, const struct dp_unit_name *came, size_t ncame, int64_t now,
                         struct dp_err *e)
{
    struct superseding k = {.gone = gone, .came = came, .ngone = ngone, .ncame = ncame, .now = now};
    return ngone + ncame ? change(c, supersede, &k, e) : DP_OK;
}

static int supersede_rest(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    const struct superseding *k = ctx;
    RUN(c, e,
        "INSERT OR IGNORE INTO superseded SELECT stage, key, ? FROM unit u WHERE state='done' AND maker LIKE 'serve:%'"
        " AND NOT EXISTS (SELECT 1 FROM present p WHERE p.stage=u.stage AND p.key=u.key)", "i", k->now);
    return DP_OK;
}

int dp_catalog_supersede_rest(struct dp_catalog *c, int64_t now, struct dp_err *e)
{
    struct superseding k = {.now = now};
    return change(c, supersede_rest, &k, e);
}

static int list_names(struct dp_catalog *c, const char *sql, int64_t since, int64_t limit, int (*fn)(void *ctx, const struct dp_unit_name *u), void *ctx,
                      struct dp_err *e)
{
    sqlite3_stmt *st;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, e, sql, "ii", since, limit);
    if (rc >= 0) {
        while ((rc = step(c, c->r, st, e)) == 1) {
            struct dp_unit_name u;
            snprintf(u.stage, sizeof u.stage, "%s", text(st, 0));
            snprintf(u.key, sizeof u.key, "%s", text(st, 1));
            rc = fn(ctx, &u);
            if (rc < 0) break;
        }
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    return rc < 0 ? rc : DP_OK;
}

static int refresh(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    const struct superseding *k = ctx;
    for (size_t i = 0; i < k->n; i++) {
        RUN(c, e, "UPDATE superseded SET since=? WHERE (stage,key) IN (SELECT u.stage, u.key FROM unit u JOIN artifact a ON a.unit=u.id WHERE a.name=?)", "is",
            k->now, k->name[i]);
        if (!i && !sqlite3_changes(c->w)) break;
    }
    return DP_OK;
}

int dp_catalog_refresh(struct dp_catalog *c, const char *const *names, size_t n, int64_t now, struct dp_err *e)
{
    struct superseding k = {.name = names, .n = n, .now = now};
    return change(c, refresh, &k, e);
}

int dp_catalog_present(struct dp_catalog *c, int (*fn)(void *ctx, const struct dp_unit_name *u), void *ctx, struct dp_err *e)
{
    return list_names(c, "SELECT stage,key FROM present WHERE ?=0 LIMIT ?", 0, INT64_MAX, fn, ctx, e);
}

int dp_catalog_newest_shards(struct dp_catalog *c, int64_t limit, int (*fn)(void *ctx, const struct dp_unit_name *u), void *ctx, struct dp_err *e)
{
    return list_names(c, "SELECT u.stage,u.key FROM unit u LEFT JOIN present p ON p.stage=u.stage AND p.key=u.key WHERE u.stage='shard' AND u.state='done'"
                         " AND ?=0 ORDER BY p.key IS NULL, u.id DESC LIMIT ?", 0, limit, fn, ctx, e);
}

int dp_catalog_superseded(struct dp_catalog *c, int64_t since, int64_t limit, int (*fn)(void *ctx, const struct dp_unit_name *u), void *ctx, struct dp_err *e)
{
    return list_names(c, "SELECT stage,key FROM superseded WHERE since<=? LIMIT ?", since, limit, fn, ctx, e);
}

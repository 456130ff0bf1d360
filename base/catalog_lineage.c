/* The catalog's part of daemon/lineage.h. */
#include "base/catalog_sql.h"

int dp_catalog_lineage(struct dp_catalog *c, int (*fn)(void *ctx, const struct dp_lineage_generation *g), void *ctx, struct dp_err *e)
{
    sqlite3_stmt *st;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, e, "SELECT units,dedup,bpe,shard FROM lineage ORDER BY generation", "");
    if (rc >= 0) {
        while ((rc = step(c, c->r, st, e)) == 1) {
            struct dp_lineage_generation g = {sqlite3_column_int64(st, 0), text(st, 1), text(st, 2), text(st, 3)};
            if ((rc = fn(ctx, &g)) < 0) break;
        }
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    return rc < 0 ? rc : DP_OK;
}

int dp_catalog_lineage_members(struct dp_catalog *c, int64_t from, int64_t n, int (*fn)(void *ctx, const struct dp_lineage_member *m), void *ctx, struct dp_err *e)
{
    sqlite3_stmt *st;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, e,
                     "SELECT m.unit,u.sig,coalesce(s.path,''),m.name,m.prefix,m.digest,m.bytes,coalesce(s.mtime_ns,0),coalesce(s.inode,0),coalesce(s.id,0) FROM lineage_member m"
                     " JOIN lineage_unit u ON u.unit=m.unit LEFT JOIN source s ON s.prefix=m.prefix AND s.digest=m.digest AND " FIRST_BY_PATH
                     " WHERE m.unit>=?1 AND m.unit<?2 ORDER BY m.unit, m.ordinal", "ii", from, n < 0 ? INT64_MAX : from + n);
    if (rc >= 0) {
        while ((rc = step(c, c->r, st, e)) == 1) {
            struct dp_lineage_member m = {sqlite3_column_int64(st, 0), text(st, 1), {sqlite3_column_int64(st, 9), text(st, 2), text(st, 3), text(st, 4), text(st, 5),
                                          sqlite3_column_int64(st, 6), sqlite3_column_int64(st, 7), sqlite3_column_int64(st, 8)}};
            if ((rc = fn(ctx, &m)) < 0) break;
        }
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    return rc < 0 ? rc : DP_OK;
}

static int one_number(struct dp_catalog *c, const char *sql, int64_t *out, struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(c, c->w, &st, e, sql, ""));
    int rc = step(c, c->w, st, e);
    if (rc == 1) *out = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return rc < 0 ? rc : DP_OK;
}

static int lineage_forget(struct dp_catalog *c, struct dp_err *e)
{
    return exec(c, c->w, "DELETE FROM lineage; DELETE FROM lineage_unit; DELETE FROM lineage_member", e);
}

/* A unit's files are taken by the order they were planned in. What this transaction has put already comes before them, so it changes nothing. */
static int append_unit(struct dp_catalog *c, int64_t number, const struct dp_lineage_unit *u, struct dp_err *e)
{
    struct dp_source_place at;
    sqlite3_stmt *st = NULL;
    RUN(c, e, "INSERT INTO lineage_unit VALUES(?,?)", "is", number, u->sig);
    int rc = dp_source_place_find(c, c->w, u->first, &at, e);
    if (rc >= 0)
        rc = prepare(c, c->w, &st, e,
                     "INSERT INTO lineage_member SELECT ?5, row_number() OVER (ORDER BY prefix, name, digest)-1, name, prefix, digest, bytes FROM"
                     " (SELECT name, prefix, digest, bytes FROM source s WHERE " FIRST_BY_PATH FRESH FROM_PLACE IN_ORDER ")", "isssi", u->members, at.prefix,
                     at.name, at.digest, number);
    if (rc >= 0) rc = step(c, c->w, st, e);
    sqlite3_finalize(st);
    dp_source_place_release(&at);
    if (rc >= 0 && sqlite3_changes(c->w) != u->members)
        rc = dp_err_set(e, DP_BUSY, 0, __FILE__, __LINE__, "unit %lld of the new generation: its files are not in the catalog any more", (long long)number);
    return rc < 0 ? rc : DP_OK;
}

int dp_catalog_sql_lineage_append(struct dp_catalog *c, void *v, struct dp_err *e)
{
    const struct dp_lineage_change *k = v;
    const struct dp_lineage_generation *g = &k->generation;
    int64_t generation = 0, number = 0;
    if (k->anew) DP_TRY(lineage_forget(c, e));
    DP_TRY(one_number(c, "SELECT coalesce(max(generation),0)+1 FROM lineage", &generation, e));
    DP_TRY(one_number(c, "SELECT coalesce(max(unit),-1)+1 FROM lineage_unit", &number, e));
    RUN(c, e, "INSERT INTO lineage VALUES(?,?,?,?,?)", "iisss", generation, g->units, g->dedup, g->bpe, g->shard);
    for (int64_t i = 0; i < g->units; i++) {
        struct dp_lineage_unit u = k->unit(k->ctx, i);
        DP_TRY(append_unit(c, number + i, &u, e));
    }
    return DP_OK;
}

int dp_catalog_lineage_append(struct dp_catalog *c, const struct dp_lineage_change *k, struct dp_err *e)
{
    return change(c, dp_catalog_sql_lineage_append, (void *)(uintptr_t)k, e);
}

static int lineage_end(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    DP_TRY(one_number(c, "SELECT count(*) FROM lineage", ctx, e));
    return lineage_forget(c, e);
}

int dp_catalog_lineage_end(struct dp_catalog *c, int64_t *generations, struct dp_err *e)
{
    *generations = 0;
    return change(c, lineage_end, generations, e);
}

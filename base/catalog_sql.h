/* base/catalog_sql.h - what base/catalog*.c share: the connections, and statements on them. For these files alone; nobody else sees sqlite3. */
#ifndef DP_BASE_CATALOG_SQL_H
#define DP_BASE_CATALOG_SQL_H

#include "base/catalog.h"

#include <pthread.h>
#include <sqlite3.h>

/* Short names, long symbols. */
#define exec dp_catalog_sql_exec
#define prepare dp_catalog_sql_prepare
#define step dp_catalog_sql_step
#define text dp_catalog_sql_text
#define change dp_catalog_sql_change

struct dp_catalog {
    char *path;
    sqlite3 *w, *r; /* the writer thread's connection; readers' connection, under read_mu */
    sqlite3_stmt *has_artifact; /* asked for every file of store/ */
    pthread_mutex_t mu, read_mu;
    pthread_cond_t work, committed;
    struct dp_catalog_change *first, **last;
    pthread_t writer;
    bool started, stop;
};

int exec(struct dp_catalog *c, sqlite3 *db, const char *sql, struct dp_err *e);
/* Prepare and bind: 's' text (NULL is SQL NULL), 'i' int64_t. */
int prepare(struct dp_catalog *c, sqlite3 *db, sqlite3_stmt **st, struct dp_err *e, const char *sql, const char *types, ...);
/* 1 with a row, 0 at the end. */
int step(struct dp_catalog *c, sqlite3 *db, sqlite3_stmt *st, struct dp_err *e);
const char *text(sqlite3_stmt *st, int col);
/* Run fn on the writer's thread, in a savepoint of its own, and wait until that is committed. */
int change(struct dp_catalog *c, int (*fn)(struct dp_catalog *, void *, struct dp_err *), void *ctx, struct dp_err *e);

/* A statement without rows, given once. */
#define RUN(c, e, sql, ...)                                                                        \
    do {                                                                                           \
        sqlite3_stmt *st_;                                                                         \
        DP_TRY(prepare((c), (c)->w, &st_, (e), (sql), __VA_ARGS__));                               \
        int step_ = step((c), (c)->w, st_, (e));                                                   \
        sqlite3_finalize(st_);                                                                     \
        if (step_ < 0) return step_;                                                               \
    } while (0)

/* catalog_lineage.c: from the writer's thread. */
int dp_catalog_sql_lineage_append(struct dp_catalog *c, void *change, struct dp_err *e);

/* Of several paths with one content the first by path is read. */
#define FIRST_BY_PATH "s.path = (SELECT min(path) FROM source t WHERE t.prefix=s.prefix AND t.digest=s.digest)"
#define FRESH " AND NOT EXISTS (SELECT 1 FROM lineage_member m WHERE m.prefix=s.prefix AND m.digest=s.digest)"
/* Values, not a row of the table: only with these does sqlite look up all three columns in the index, and not the first alone. */
#define FROM_PLACE " AND (s.prefix, s.name, s.digest) >= (?2, ?3, ?4)"
#define IN_ORDER " ORDER BY s.prefix, s.name, s.digest LIMIT ?1"

/* Where a source stands in that order. */
struct dp_source_place {
    char *prefix, *name, *digest; /* malloc'ed; NULL when there is no such source */
};
int dp_source_place_find(struct dp_catalog *c, sqlite3 *db, int64_t id, struct dp_source_place *p, struct dp_err *e);
void dp_source_place_release(struct dp_source_place *p);

#endif

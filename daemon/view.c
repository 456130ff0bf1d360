#include "daemon/view.h"

#include "base/clock.h"
#include "base/docs.h"
#include "daemon/events.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct dp_view {
    sqlite3 *db;
    char *store;
    double deadline;
    struct dp_totals totals;
    double totals_at, totals_took;
    int64_t data_version;
    uint64_t plans;
    bool have_totals, plan_changed;
};

static int out_of_time(void *ctx)
{
    return dp_now() > ((const struct dp_view *)ctx)->deadline;
}

static int fail(struct dp_view *v, struct dp_err *e)
{
    int code = sqlite3_errcode(v->db) & 0xff;
    if (code == SQLITE_INTERRUPT) DP_FAIL(e, BUSY, "the question took more than %d ms; ask for less", DP_VIEW_MS);
    DP_FAIL(e, IO, "catalog: %s", sqlite3_errmsg(v->db));
}

static int exec(struct dp_view *v, const char *sql, struct dp_err *e)
{
    return sqlite3_exec(v->db, sql, NULL, NULL, NULL) == SQLITE_OK ? DP_OK : fail(v, e);
}

static int prepare(struct dp_view *v, sqlite3_stmt **st, const char *sql, struct dp_err *e)
{
    v->deadline = dp_now() + DP_VIEW_MS / 1000.0;
    return sqlite3_prepare_v2(v->db, sql, -1, st, NULL) == SQLITE_OK ? DP_OK : fail(v, e);
}

static int step(struct dp_view *v, sqlite3_stmt *st, struct dp_err *e)
{
    int rc = sqlite3_step(st);
    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : fail(v, e);
}

static const char *text(sqlite3_stmt *st, int col)
{
    const char *s = (const char *)sqlite3_column_text(st, col);
    return s ? s : "";
}

int dp_view_open(struct dp_view **out, const char *catalog_path, const char *store, struct dp_err *e)
{
    struct dp_view *v = calloc(1, sizeof *v);
    if (!v || !(v->store = strdup(store))) {
        free(v);
        DP_FAIL(e, NOMEM, "%s", catalog_path);
    }
    int rc = sqlite3_open_v2(catalog_path, &v->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK ? DP_OK : fail(v, e);
    if (rc >= 0) {
        sqlite3_busy_timeout(v->db, 2000);
        v->deadline = dp_now() + DP_VIEW_MS / 1000.0;
        sqlite3_progress_handler(v->db, 20000, out_of_time, v);
        /* The temporary table is in memory: a reader writes nothing to the workspace. */
        rc = exec(v, "PRAGMA temp_store=MEMORY; CREATE TEMP TABLE plan (stage TEXT NOT NULL, key TEXT NOT NULL, source INTEGER NOT NULL, files INTEGER NOT NULL,"
                     " PRIMARY KEY (stage, key)) WITHOUT ROWID; CREATE INDEX temp.plan_source ON plan(source) WHERE source>0", e);
    }
    if (rc < 0) {
        dp_view_close(v);
        return rc;
    }
    *out = v;
    return DP_OK;
}

void dp_view_close(struct dp_view *v)
{
    if (!v) return;
    sqlite3_close(v->db);
    free(v->store);
    free(v);
}

/* --- lists --- */

struct column {
    const char *name;
    char kind; /* 'i', 's'; 'o': text left out when empty */
};
static const struct list {
    const char *sql;
    struct column column[12];
} lists[] = {
    /* `state<>'done'` stands where it may be: it is what the partial index unit_open covers. */
    [DP_VIEW_JOBS] = {"SELECT id,stage,key,what,state,attempts,failures,retry_at,coalesce(owner,''),coalesce(error,'') FROM unit",
                      {{"id", 'i'}, {"stage", 's'}, {"key", 's'}, {"what", 's'}, {"state", 's'}, {"attempts", 'i'}, {"failures", 'i'}, {"retry_at", 'i'}, {"owner", 'o'}, {"error", 'o'}}},
    [DP_VIEW_SOURCES] = {"SELECT id,path,name,digest,bytes,mtime_ns/1000000000 FROM source",
                         {{"id", 'i'}, {"path", 's'}, {"name", 's'}, {"digest", 's'}, {"bytes", 'i'}, {"modified", 'i'}}},
    [DP_VIEW_ARTIFACTS] = {"SELECT a.id,a.kind,a.name,a.digest,a.bytes,a.docs,a.payload,a.unit FROM artifact a",
                           {{"id", 'i'}, {"kind", 's'}, {"name", 's'}, {"digest", 's'}, {"bytes", 'i'}, {"documents", 'i'}, {"payload", 'i'}, {"job", 'i'}}},
};

static void where(enum dp_view_list list, const struct dp_page *p, struct dp_buf *sql)
{
    dp_buf_add_str(sql, " WHERE id>?1 AND (?2=0 OR id=?2)");
    if (list == DP_VIEW_JOBS && p->state[0]) dp_buf_add_str(sql, strcmp(p->state, "done") == 0 ? " AND state=?3" : " AND state<>'done' AND state=?3");
    if (list == DP_VIEW_JOBS && p->stage[0]) dp_buf_add_str(sql, " AND stage=?4");
    if (list == DP_VIEW_ARTIFACTS && p->kind[0]) dp_buf_add_str(sql, " AND kind=?5");
    dp_buf_add_str(sql, " ORDER BY id LIMIT ?6");
}

static void print_row(const struct list *l, sqlite3_stmt *st, struct dp_jsonw *w)
{
    dp_jsonw_begin(w, '{');
    for (int i = 0; l->column[i].name; i++) {
        if (l->column[i].kind == 'i') dp_jsonw_member_int(w, l->column[i].name, sqlite3_column_int64(st, i));
        else if (l->column[i].kind == 's' || *text(st, i)) dp_jsonw_member(w, l->column[i].name, text(st, i));
    }
    dp_jsonw_end(w, '}');
}

static int bind_text(sqlite3_stmt *st, int i, const char *s)
{
    return sqlite3_bind_text(st, i, s, -1, SQLITE_TRANSIENT);
}

int dp_view_list(struct dp_view *v, enum dp_view_list list, const struct dp_page *p, struct dp_jsonw *w, void (*row)(void *ctx), void *ctx, int64_t *next,
                 struct dp_err *e)
{
    const struct list *l = &lists[list];
    sqlite3_stmt *st = NULL;
    struct dp_buf sql;
    int64_t n = 0, last = 0;
    *next = 0;
    dp_buf_init(&sql, 4096);
    dp_buf_add_str(&sql, l->sql);
    where(list, p, &sql);
    int rc = dp_buf_check(&sql, "question", e);
    if (rc >= 0) rc = prepare(v, &st, sql.ptr, e);
    dp_buf_release(&sql);
    DP_TRY(rc);
    sqlite3_bind_int64(st, 1, p->after);
    sqlite3_bind_int64(st, 2, p->id);
    bind_text(st, 3, p->state);
    bind_text(st, 4, p->stage);
    bind_text(st, 5, p->kind);
    sqlite3_bind_int64(st, 6, p->limit);
    while ((rc = step(v, st, e)) == 1) {
        last = sqlite3_column_int64(st, 0);
        n++;
        print_row(l, st, w);
        if (row) row(ctx);
    }
    sqlite3_finalize(st);
    if (rc >= 0 && n == p->limit) *next = last;
    return rc < 0 ? rc : DP_OK;
}

/* --- sums --- */

int dp_view_plan(struct dp_view *v, const struct dp_view_key *key, size_t n, bool later, struct dp_err *e)
{
    sqlite3_stmt *st = NULL;
    v->deadline = dp_now() + 3600; /* not a question */
    int rc = exec(v, later ? "BEGIN; DELETE FROM temp.plan WHERE stage NOT IN ('ingest','clean')" : "BEGIN; DELETE FROM temp.plan", e);
    if (rc >= 0) rc = prepare(v, &st, "INSERT OR IGNORE INTO temp.plan VALUES(?1,?2,?3,?4)", e);
    v->deadline = dp_now() + 3600;
    for (size_t i = 0; rc >= 0 && i < n; i++) {
        sqlite3_bind_text(st, 1, key[i].stage, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 2, key[i].key, -1, SQLITE_STATIC);
        sqlite3_bind_int64(st, 3, key[i].source);
        sqlite3_bind_int64(st, 4, (int64_t)key[i].files);
        rc = step(v, st, e);
        sqlite3_reset(st);
    }
    sqlite3_finalize(st);
    if (rc >= 0) rc = exec(v, "COMMIT", e);
    if (rc < 0 && !sqlite3_get_autocommit(v->db)) sqlite3_exec(v->db, "ROLLBACK", NULL, NULL, NULL);
    v->plan_changed = true;
    v->plans++;
    return rc < 0 ? rc : DP_OK;
}

static size_t find_stage(struct dp_totals *t, const char *name)
{
    size_t i = 0;
    while (i < t->stages && strcmp(t->stage[i].name, name) != 0) i++;
    if (i == t->stages && i < DP_VIEW_STAGES) snprintf(t->stage[t->stages++].name, sizeof t->stage[0].name, "%s", name);
    return i;
}

static int sum_stages(struct dp_view *v, struct dp_totals *t, struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(v, &st,
                   "SELECT n.stage,sum(docs_in),sum(docs_out),sum(bytes_in),sum(bytes_out),sum(ns) FROM temp.plan p JOIN unit u ON u.stage=p.stage AND u.key=p.key"
                   " JOIN count n ON n.unit=u.id WHERE u.state='done' GROUP BY n.stage"
                   " ORDER BY min(CASE p.stage WHEN 'ingest' THEN 0 WHEN 'clean' THEN 1 WHEN 'dedup' THEN 2 ELSE 3 END), min(n.ordinal)", e)); /* the road's */
    int rc;
    while ((rc = step(v, st, e)) == 1) {
        size_t i = find_stage(t, text(st, 0));
        if (i == DP_VIEW_STAGES) continue;
        struct dp_stage_counts *c = &t->stage[i].c;
        c->docs_in = (uint64_t)sqlite3_column_int64(st, 1);
        c->docs_out = (uint64_t)sqlite3_column_int64(st, 2);
        c->bytes_in = (uint64_t)sqlite3_column_int64(st, 3);
        c->bytes_out = (uint64_t)sqlite3_column_int64(st, 4);
        c->ns = (uint64_t)sqlite3_column_int64(st, 5);
    }
    sqlite3_finalize(st);
    return rc;
}

static int sum_drops(struct dp_view *v, struct dp_totals *t, struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(v, &st,
                   "SELECT n.stage,d.reason,sum(d.docs),sum(d.bytes) FROM temp.plan p JOIN unit u ON u.stage=p.stage AND u.key=p.key"
                   " JOIN count n ON n.unit=u.id JOIN dropped d ON d.unit=n.unit AND d.ordinal=n.ordinal WHERE u.state='done' GROUP BY n.stage, d.reason", e));
    int rc;
    while ((rc = step(v, st, e)) == 1) {
        size_t i = find_stage(t, text(st, 0));
        enum dp_drop d = dp_drop_parse(dp_span_str(text(st, 1)));
        if (i == DP_VIEW_STAGES || d == DP_DROP_COUNT) continue;
        t->stage[i].c.drop[d] = (uint64_t)sqlite3_column_int64(st, 2);
        t->stage[i].c.drop_bytes[d] = (uint64_t)sqlite3_column_int64(st, 3);
    }
    sqlite3_finalize(st);
    return rc;
}

static int numbers(struct dp_view *v, const char *sql, uint64_t **out, int n, struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(v, &st, sql, e));
    int rc = step(v, st, e);
    for (int i = 0; rc == 1 && i < n; i++) *out[i] = (uint64_t)sqlite3_column_int64(st, i);
    sqlite3_finalize(st);
    return rc;
}

/* All within one read transaction: the sums agree with each other. */
static int take_totals(struct dp_view *v, struct dp_totals *t, struct dp_err *e)
{
    memset(t, 0, sizeof *t);
    DP_TRY(exec(v, "BEGIN", e));
    int rc = sum_stages(v, t, e);
    if (rc >= 0) rc = sum_drops(v, t, e);
    if (rc >= 0)
        rc = numbers(v,
                     "SELECT (SELECT count(*) FROM unit), (SELECT count(*) FROM unit WHERE state<>'done' AND state='ready'),"
                     " (SELECT count(*) FROM unit WHERE state<>'done' AND state='running'), (SELECT count(*) FROM unit WHERE state<>'done' AND state='failed')",
                     (uint64_t *[]){&t->units, &t->ready, &t->running, &t->failed}, 4, e);
    if (rc >= 0)
        rc = numbers(v, "SELECT (SELECT count(*) FROM source), (SELECT coalesce(sum(bytes),0) FROM source), (SELECT count(*) FROM artifact), (SELECT coalesce(sum(bytes),0) FROM artifact)",
                     (uint64_t *[]){&t->sources, &t->source_bytes, &t->artifacts, &t->artifact_bytes}, 4, e);
    sqlite3_exec(v->db, rc < 0 ? "ROLLBACK" : "COMMIT", NULL, NULL, NULL);
    t->done = t->units - t->ready - t->running - t->failed;
    t->taken = (int64_t)time(NULL);
    return rc < 0 ? rc : DP_OK;
}

int dp_view_totals(struct dp_view *v, struct dp_totals *t, bool at_once, struct dp_err *e)
{
    uint64_t version = 0;
    DP_TRY(numbers(v, "PRAGMA data_version", (uint64_t *[]){&version}, 1, e));
    double t0 = dp_now();
    bool fresh = v->have_totals && ((!v->plan_changed && (int64_t)version == v->data_version) || (!at_once && t0 - v->totals_at < 10 * v->totals_took));
    if (!fresh) {
        struct dp_totals *n = calloc(1, sizeof *n);
        int rc = n ? take_totals(v, n, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "sums");
        if (rc >= 0) {
            v->totals = *n;
            v->totals_took = dp_now() - t0;
            v->totals_at = dp_now();
            v->data_version = (int64_t)version;
            v->plan_changed = false;
            v->have_totals = true;
        }
        free(n);
        DP_TRY(rc);
    }
    *t = v->totals;
    return DP_OK;
}

int dp_view_stamp(struct dp_view *v, uint64_t *stamp, struct dp_err *e)
{
    DP_TRY(numbers(v, "PRAGMA data_version", (uint64_t *[]){stamp}, 1, e));
    *stamp += v->plans << 32;
    return DP_OK;
}

/* --- walks --- */

int dp_view_artifacts(struct dp_view *v, const char *stage, const char *kind, int (*fn)(void *ctx, const struct dp_view_artifact *a, struct dp_err *e), void *ctx,
                      struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(v, &st,
                   "SELECT p.key,a.name,a.digest,a.bytes,a.docs,a.payload FROM temp.plan p JOIN unit u ON u.stage=p.stage AND u.key=p.key"
                   " JOIN artifact a ON a.unit=u.id WHERE p.stage=?1 AND u.state='done' AND a.kind=?2", e));
    bind_text(st, 1, stage);
    bind_text(st, 2, kind);
    int rc;
    while ((rc = step(v, st, e)) == 1) {
        struct dp_view_artifact a = {text(st, 0), text(st, 1), text(st, 2), sqlite3_column_int64(st, 3), sqlite3_column_int64(st, 4), sqlite3_column_int64(st, 5)};
        if ((rc = fn(ctx, &a, e)) < 0) break;
    }
    sqlite3_finalize(st);
    return rc < 0 ? rc : DP_OK;
}

int dp_view_files(struct dp_view *v, int (*fn)(void *ctx, const struct dp_view_file *f, struct dp_err *e), void *ctx, struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(v, &st,
                   "SELECT s.path,s.bytes,s.mtime_ns/1000000000,s.path>(SELECT min(path) FROM source t WHERE t.prefix=s.prefix AND t.digest=s.digest),p.files,u.state,"
                   "(SELECT sum(docs) FROM artifact a WHERE a.unit=u.id AND a.kind='docs'),(SELECT sum(payload) FROM artifact a WHERE a.unit=u.id AND a.kind='docs'),"
                   "(SELECT sum(docs) FROM artifact a WHERE a.unit=u.id AND a.kind='drops')"
                   " FROM source s LEFT JOIN temp.plan p ON p.source=s.id AND p.source>0 LEFT JOIN unit u ON u.stage=p.stage AND u.key=p.key"
                   " LEFT JOIN lineage_member m ON m.prefix=s.prefix AND m.digest=s.digest"
                   " ORDER BY m.unit IS NULL,m.unit,m.ordinal,s.prefix,s.name,s.digest", e));
    int rc;
    while ((rc = step(v, st, e)) == 1) {
        struct dp_view_file f = {text(st, 0), sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2), sqlite3_column_int(st, 3), sqlite3_column_int64(st, 4), text(st, 5),
                                 sqlite3_column_int64(st, 6), sqlite3_column_int64(st, 7), sqlite3_column_int64(st, 8)};
        if ((rc = fn(ctx, &f, e)) < 0) break;
    }
    sqlite3_finalize(st);
    return rc < 0 ? rc : DP_OK;
}

int dp_view_loss(struct dp_view *v, char name[96], char key[64], bool *finished, struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(v, &st,
                   "SELECT a.name,u.key,u.stage='train' FROM unit u JOIN artifact a ON a.unit=u.id WHERE u.stage IN ('train','train-ckpt') AND u.state='done'"
                   " AND a.kind='loss' ORDER BY a.id DESC LIMIT 1", e));
    int rc = step(v, st, e);
    if (rc == 1) {
        snprintf(name, 96, "%s", text(st, 0));
        snprintf(key, 64, "%s", text(st, 1));
        *finished = sqlite3_column_int64(st, 2) != 0;
    }
    sqlite3_finalize(st);
    return rc < 0 ? rc : rc == 1 ? DP_OK : DP_EMPTY;
}

char *dp_view_path(const struct dp_view *v, const char *name)
{
    return dp_fs_join(v->store, name);
}

/* --- samples --- */

static int sample_file(struct dp_view *v, const char *name, const struct dp_page *p, int64_t each, int64_t *n, struct dp_jsonw *w, struct dp_err *e)
{
    struct dp_docs_reader *r = NULL;
    struct dp_span line;
    char *path = dp_fs_join(v->store, name);
    int rc = path ? dp_docs_open(&r, path, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", name);
    for (int64_t lines = 0; rc >= 0 && each > 0 && *n < p->limit && lines < 20000 && (rc = dp_docs_next_line(r, &line, e)) == DP_OK; lines++) {
        struct dp_json_field f = {.key = "reason"};
        struct dp_arena mem;
        dp_arena_init(&mem, 16 << 20);
        bool take = dp_json_fields(line, &f, 1, &mem, NULL) >= 0 && f.str.ptr && (!p->reason[0] || dp_span_is(f.str, p->reason));
        dp_arena_release(&mem);
        if (!take) continue;
        dp_jsonw_raw(w, line);
        each--;
        ++*n;
    }
    dp_docs_close(r);
    free(path);
    return rc < 0 ? rc : DP_OK;
}

int dp_view_samples(struct dp_view *v, const struct dp_page *p, struct dp_jsonw *w, struct dp_err *e)
{
    sqlite3_stmt *st;
    int64_t n = 0, each = p->limit / 4 + 1;
    DP_TRY(prepare(v, &st,
                   "SELECT a.name FROM temp.plan p JOIN unit u ON u.stage=p.stage AND u.key=p.key JOIN artifact a ON a.unit=u.id"
                   " WHERE p.stage='clean' AND u.state='done' AND a.kind='drops' AND a.docs>0 ORDER BY a.id DESC LIMIT 16", e));
    int rc;
    dp_jsonw_begin(w, '[');
    while ((rc = step(v, st, e)) == 1 && n < p->limit) {
        struct dp_err ignored; /* a file that was superseded and removed meanwhile */
        if (sample_file(v, text(st, 0), p, each, &n, w, &ignored) == DP_NOMEM) break;
    }
    dp_jsonw_end(w, ']');
    sqlite3_finalize(st);
    return rc < 0 ? rc : DP_OK;
}

#include "base/catalog_sql.h"

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char *const migrations[] = {
    "CREATE TABLE source (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, name TEXT NOT NULL, prefix TEXT NOT NULL, digest TEXT NOT NULL,"
    " bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL) STRICT;"
    "CREATE INDEX source_content ON source(prefix, digest);"
    "CREATE TABLE unit (id INTEGER PRIMARY KEY, stage TEXT NOT NULL, key TEXT NOT NULL, what TEXT NOT NULL, state TEXT NOT NULL"
    " CHECK (state IN ('ready','running','done','failed')), owner TEXT, lease_until INTEGER NOT NULL DEFAULT 0, epoch INTEGER NOT NULL DEFAULT 0,"
    " attempts INTEGER NOT NULL DEFAULT 0, error TEXT, recipe_hash TEXT, UNIQUE (stage, key)) STRICT;"
    "CREATE TABLE artifact (id INTEGER PRIMARY KEY, unit INTEGER NOT NULL REFERENCES unit(id) ON DELETE CASCADE, kind TEXT NOT NULL,"
    " name TEXT NOT NULL UNIQUE, digest TEXT NOT NULL, bytes INTEGER NOT NULL, docs INTEGER NOT NULL, payload INTEGER NOT NULL) STRICT;"
    "CREATE INDEX artifact_unit ON artifact(unit);"
    "CREATE TABLE parent (unit INTEGER NOT NULL REFERENCES unit(id) ON DELETE CASCADE, ordinal INTEGER NOT NULL, parent TEXT NOT NULL,"
    " PRIMARY KEY (unit, ordinal)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE count (unit INTEGER NOT NULL REFERENCES unit(id) ON DELETE CASCADE, ordinal INTEGER NOT NULL, stage TEXT NOT NULL,"
    " docs_in INTEGER NOT NULL, docs_out INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, ns INTEGER NOT NULL,"
    " PRIMARY KEY (unit, ordinal)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE dropped (unit INTEGER NOT NULL REFERENCES unit(id) ON DELETE CASCADE, ordinal INTEGER NOT NULL, reason TEXT NOT NULL,"
    " docs INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (unit, ordinal, reason)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;",
    /* Sources are read in this order; without an index sqlite would sort all of them in memory. */
    "CREATE INDEX source_order ON source(prefix, name, digest);",
    /* What the daemon needs: failures in a row and when to try again; finding what isn't done among millions that are. */
    ("ALTER TABLE unit ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE unit ADD COLUMN retry_at INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX unit_open ON unit(state) WHERE state<>'done';"),
    /* The service's present state, and since when units that were in it aren't any more. */
    ("ALTER TABLE unit ADD COLUMN maker TEXT;" /* who claimed it last */
    "CREATE TABLE present (stage TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (stage, key)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE superseded (stage TEXT NOT NULL, key TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (stage, key)) STRICT, WITHOUT ROWID;"),
    /* The lineage: generations, their units, the files of these. */
    ("CREATE TABLE lineage (generation INTEGER PRIMARY KEY, units INTEGER NOT NULL, dedup TEXT NOT NULL, bpe TEXT NOT NULL, shard TEXT NOT NULL) STRICT;"
    "CREATE TABLE lineage_unit (unit INTEGER PRIMARY KEY, sig TEXT NOT NULL) STRICT;"
    "CREATE TABLE lineage_member (unit INTEGER NOT NULL, ordinal INTEGER NOT NULL, name TEXT NOT NULL, prefix TEXT NOT NULL, digest TEXT NOT NULL,"
    " bytes INTEGER NOT NULL, PRIMARY KEY (unit, ordinal)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX lineage_content ON lineage_member(prefix, digest);"),
};
enum { VERSION = sizeof migrations / sizeof *migrations };

struct dp_catalog_change {
    int (*fn)(struct dp_catalog *c, void *ctx, struct dp_err *e);
    void *ctx;
    struct dp_err *e;
    int rc;
    bool finished;
    struct dp_catalog_change *next;
};

/* --- statements --- */

static int sql_fail(struct dp_catalog *c, sqlite3 *db, const char *what, struct dp_err *e)
{
    int code = sqlite3_errcode(db) & 0xff;
    const char *msg = sqlite3_errmsg(db);
    int sys = sqlite3_system_errno(db);
    /* Where the log's index or a truncation finds no room sqlite says "I/O error", and so may a failing COMMIT say FULL only there. */
    if (code == SQLITE_IOERR && (sys == ENOSPC || sys == EDQUOT)) code = SQLITE_FULL;
    switch (code) {
    case SQLITE_FULL: DP_FAIL(e, NOSPACE, "%s: %s: %s", c->path, what, msg);
    case SQLITE_NOMEM: DP_FAIL(e, NOMEM, "%s: %s: %s", c->path, what, msg);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: DP_FAIL(e, BUSY, "%s: %s: %s", c->path, what, msg);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        DP_FAIL(e, CORRUPT, "%s: %s: %s; restore it from a copy, or remove it and store/, then register the sources and run again", c->path, what, msg);
    case SQLITE_CONSTRAINT: DP_FAIL(e, BROKEN, "%s: %s: %s", c->path, what, msg);
    default: DP_FAIL(e, IO, "%s: %s: %s", c->path, what, msg);
    }
}

int exec(struct dp_catalog *c, sqlite3 *db, const char *sql, struct dp_err *e)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? DP_OK : sql_fail(c, db, "statement", e);
}

int prepare(struct dp_catalog *c, sqlite3 *db, sqlite3_stmt **st, struct dp_err *e, const char *sql, const char *types, ...)
{
    if (sqlite3_prepare_v2(db, sql, -1, st, NULL) != SQLITE_OK) return sql_fail(c, db, "prepare", e);
    va_list ap;
    va_start(ap, types);
    int rc = SQLITE_OK;
    for (int i = 1; *types && rc == SQLITE_OK; types++, i++) {
        if (*types == 's') rc = sqlite3_bind_text(*st, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
        else rc = sqlite3_bind_int64(*st, i, va_arg(ap, int64_t));
    }
    va_end(ap);
    if (rc == SQLITE_OK) return DP_OK;
    rc = sql_fail(c, db, "bind", e);
    sqlite3_finalize(*st);
    *st = NULL;
    return rc;
}

int step(struct dp_catalog *c, sqlite3 *db, sqlite3_stmt *st, struct dp_err *e)
{
    int rc = sqlite3_step(st);
    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : sql_fail(c, db, "step", e);
}

const char *text(sqlite3_stmt *st, int col)
{
    const char *s = (const char *)sqlite3_column_text(st, col);
    return s ? s : "";
}

/* --- the writer --- */

static struct dp_catalog_change *take_all(struct dp_catalog *c)
{
    struct dp_catalog_change *list = c->first;
    c->first = NULL;
    c->last = &c->first;
    return list;
}

/* All changes of the list in one transaction, each in a savepoint: one that fails doesn't take the others with it. */
static void commit_list(struct dp_catalog *c, struct dp_catalog_change *list)
{
    struct dp_err err = {0};
    int rc = exec(c, c->w, "BEGIN IMMEDIATE", &err);
    for (struct dp_catalog_change *k = list; k && rc >= 0; k = k->next) {
        rc = exec(c, c->w, "SAVEPOINT s", &err);
        if (rc < 0) break;
        k->rc = k->fn(c, k->ctx, k->e);
        if (k->rc < 0 && sqlite3_get_autocommit(c->w)) { /* sqlite gave up all of it: no space, or no disk. The reason is everyone's */
            rc = k->rc;
            if (k->e) err = *k->e;
            break;
        }
        if (k->rc < 0) sqlite3_exec(c->w, "ROLLBACK TO s", NULL, NULL, NULL);
        rc = exec(c, c->w, "RELEASE s", &err);
    }
    if (rc >= 0) rc = exec(c, c->w, "COMMIT", &err);
    if (rc < 0) {
        if (!sqlite3_get_autocommit(c->w)) sqlite3_exec(c->w, "ROLLBACK", NULL, NULL, NULL);
        for (struct dp_catalog_change *k = list; k; k = k->next) {
            if (k->rc < 0) continue;
            k->rc = rc;
            if (k->e) *k->e = err;
        }
    }
}

static void *writer_main(void *v)
{
    struct dp_catalog *c = v;
    pthread_mutex_lock(&c->mu);
    for (;;) {
        while (!c->first && !c->stop) pthread_cond_wait(&c->work, &c->mu);
        struct dp_catalog_change *list = take_all(c);
        if (!list) break;
        pthread_mutex_unlock(&c->mu);
        commit_list(c, list);
        pthread_mutex_lock(&c->mu);
        for (struct dp_catalog_change *next; list; list = next) {
            next = list->next; /* its owner frees it as soon as it sees `finished` */
            list->finished = true;
        }
        pthread_cond_broadcast(&c->committed);
    }
    pthread_mutex_unlock(&c->mu);
    return NULL;
}

int change(struct dp_catalog *c, int (*fn)(struct dp_catalog *, void *, struct dp_err *), void *ctx, struct dp_err *e)
{
    struct dp_catalog_change k = {.fn = fn, .ctx = ctx, .e = e};
    pthread_mutex_lock(&c->mu);
    *c->last = &k;
    c->last = &k.next;
    pthread_cond_signal(&c->work);
    while (!k.finished) pthread_cond_wait(&c->committed, &c->mu);
    pthread_mutex_unlock(&c->mu);
    return k.rc;
}

/* --- open --- */

static int open_as(struct dp_catalog *c, sqlite3 **db, const char *name, int flags, struct dp_err *e)
{
    if (sqlite3_open_v2(name, db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        if (!*db) DP_FAIL(e, NOMEM, "%s: sqlite3", c->path);
        return sql_fail(c, *db, "open", e);
    }
    sqlite3_busy_timeout(*db, 10000);
    return DP_OK;
}

/* Two who switch a fresh file to WAL at once: sqlite doesn't ask its busy handler there, since each may wait for the other. */
static int log_ahead(struct dp_catalog *c, sqlite3 *db, struct dp_err *e)
{
    enum { TRIES = 1000, PAUSE_US = 10000 };
    int rc = SQLITE_BUSY;
    for (int i = 0; i < TRIES && (rc & 0xff) == SQLITE_BUSY; i++) {
        if (i) usleep(PAUSE_US);
        rc = sqlite3_exec(db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? DP_OK : sql_fail(c, db, "statement", e);
}

static int open_db(struct dp_catalog *c, sqlite3 **db, struct dp_err *e)
{
    DP_TRY(open_as(c, db, c->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e));
    DP_TRY(log_ahead(c, *db, e));
    return exec(c, *db, "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY", e);
}

static int version_of(struct dp_catalog *c, sqlite3 *db, int *version, struct dp_err *e)
{
    sqlite3_stmt *st;
    DP_TRY(prepare(c, db, &st, e, "PRAGMA user_version", ""));
    int rc = step(c, db, st, e);
    *version = rc == 1 ? sqlite3_column_int(st, 0) : 0;
    sqlite3_finalize(st);
    DP_TRY(rc);
    if (*version > VERSION)
        DP_FAIL(e, CONFIG, "%s: made by a newer dpipe (catalog version %d, this program knows %d); use that program", c->path, *version, VERSION);
    return DP_OK;
}

static int migrate(struct dp_catalog *c, struct dp_err *e)
{
    int version, rc;
    DP_TRY(version_of(c, c->w, &version, e));
    for (; version < VERSION; version++) {
        char sql[64];
        DP_TRY(exec(c, c->w, "BEGIN IMMEDIATE", e));
        rc = version_of(c, c->w, &version, e); /* another process may have been first */
        snprintf(sql, sizeof sql, "PRAGMA user_version=%d", version + 1);
        if (rc >= 0 && version < VERSION) rc = exec(c, c->w, migrations[version], e);
        if (rc >= 0 && version < VERSION) rc = exec(c, c->w, sql, e);
        if (rc >= 0) rc = exec(c, c->w, "COMMIT", e);
        if (rc < 0) {
            sqlite3_exec(c->w, "ROLLBACK", NULL, NULL, NULL);
            return rc;
        }
    }
    return DP_OK;
}

static int new_catalog(struct dp_catalog **out, const char *path, struct dp_err *e)
{
    struct dp_catalog *c = calloc(1, sizeof *c);
    if (!c || !(c->path = strdup(path))) {
        free(c);
        DP_FAIL(e, NOMEM, "%s", path);
    }
    c->last = &c->first;
    pthread_mutex_init(&c->mu, NULL);
    pthread_mutex_init(&c->read_mu, NULL);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->committed, NULL);
    *out = c;
    return DP_OK;
}

/* A file that may not be written, or lies in such a folder. WAL needs the -shm file beside it: without a -wal file nobody is at work and
 * nothing is missing from the file itself, so it is taken for immutable; with one, sqlite3 reads on if it can. */
static int open_sealed(struct dp_catalog *c, struct dp_err *e)
{
    struct dp_buf uri;
    char *wal = NULL;
    dp_buf_init(&uri, 64 * 1024);
    dp_buf_add_str(&uri, "file:");
    for (const char *p = c->path; *p; p++) {
        if (strchr("%?#", *p)) dp_buf_printf(&uri, "%%%02X", (unsigned)*p);
        else dp_buf_add_char(&uri, *p);
    }
    bool busy = asprintf(&wal, "%s-wal", c->path) > 0 && access(wal, F_OK) == 0;
    free(wal);
    dp_buf_add_str(&uri, busy ? "?mode=ro" : "?immutable=1");
    int rc = dp_buf_check(&uri, c->path, e);
    if (rc >= 0) rc = open_as(c, &c->r, uri.ptr, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, e);
    dp_buf_release(&uri);
    return rc;
}

int dp_catalog_open_read(struct dp_catalog **out, const char *path, struct dp_err *e)
{
    struct dp_catalog *c;
    *out = NULL;
    bool missing = access(path, F_OK) != 0;
    if (missing && errno != ENOENT) DP_FAIL_SYS(e, "%s", path);
    char *dir = strdup(path), *slash = dir ? strrchr(dir, '/') : NULL;
    if (!dir) DP_FAIL(e, NOMEM, "%s", path);
    if (slash) slash[slash == dir] = 0;
    bool writable = access(path, W_OK) == 0 && access(slash ? dir : ".", W_OK) == 0;
    free(dir);
    if (writable && !missing) return dp_catalog_open(out, path, e);
    DP_TRY(new_catalog(&c, path, e));
    int version = VERSION, rc;
    if (missing) {
        rc = open_as(c, &c->r, ":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e);
        c->w = c->r; /* to make the tables; nothing is written later */
        if (rc >= 0) rc = migrate(c, e);
        c->w = NULL;
    } else {
        rc = open_sealed(c, e);
        if (rc >= 0) rc = version_of(c, c->r, &version, e);
    }
    if (rc >= 0 && version < VERSION) rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "%s: made by an older dpipe, and may not be written now", path);
    if (rc < 0) dp_catalog_close(c);
    else *out = c;
    return rc;
}

int dp_catalog_open(struct dp_catalog **out, const char *path, struct dp_err *e)
{
    struct dp_catalog *c;
    *out = NULL;
    DP_TRY(new_catalog(&c, path, e));
    int rc = open_db(c, &c->w, e);
    if (rc >= 0) rc = migrate(c, e);
    if (rc >= 0) rc = open_db(c, &c->r, e);
    if (rc >= 0) {
        int sys = pthread_create(&c->writer, NULL, writer_main, c);
        if (sys) rc = dp_err_set(e, DP_NOMEM, sys, __FILE__, __LINE__, "%s: cannot start the writer thread", path);
        else c->started = true;
    }
    if (rc < 0) {
        dp_catalog_close(c);
        return rc;
    }
    *out = c;
    return DP_OK;
}

void dp_catalog_close(struct dp_catalog *c)
{
    if (!c) return;
    if (c->started) {
        pthread_mutex_lock(&c->mu);
        c->stop = true;
        pthread_cond_signal(&c->work);
        pthread_mutex_unlock(&c->mu);
        pthread_join(c->writer, NULL);
    }
    sqlite3_finalize(c->has_artifact);
    sqlite3_close(c->r);
    sqlite3_close(c->w);
    pthread_mutex_destroy(&c->mu);
    pthread_mutex_destroy(&c->read_mu);
    pthread_cond_destroy(&c->work);
    pthread_cond_destroy(&c->committed);
    free(c->path);
    free(c);
}

/* --- units --- */

struct claim {
    const char *stage, *key, *what, *owner;
    int64_t lease_s, unit, epoch;
    int outcome;
};

static int claim(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    struct claim *k = ctx;
    int64_t now = (int64_t)time(NULL);
    RUN(c, e, "INSERT OR IGNORE INTO unit(stage,key,what,state) VALUES(?,?,?,'ready')", "sss", k->stage, k->key, k->what);
    sqlite3_stmt *st;
    DP_TRY(prepare(c, c->w, &st, e, "SELECT id,state,coalesce(owner,''),lease_until,epoch FROM unit WHERE stage=? AND key=?", "ss", k->stage, k->key));
    int rc = step(c, c->w, st, e);
    if (rc == 1) {
        k->unit = sqlite3_column_int64(st, 0);
        k->epoch = sqlite3_column_int64(st, 4) + 1;
        const char *state = text(st, 1);
        if (strcmp(state, "done") == 0) k->outcome = DP_EMPTY;
        else if (strcmp(state, "running") == 0 && strcmp(text(st, 2), k->owner) != 0 && sqlite3_column_int64(st, 3) > now)
            k->outcome = dp_err_set(e, DP_BUSY, 0, __FILE__, __LINE__, "unit %s is being worked on by %s", k->what, text(st, 2));
    }
    sqlite3_finalize(st);
    DP_TRY(rc);
    if (k->outcome != DP_OK) return k->outcome;
    RUN(c, e, "UPDATE unit SET state='running', owner=?1, maker=?1, lease_until=?2, epoch=?3, attempts=attempts+1, error=NULL WHERE id=?4", "siii", k->owner,
        now + k->lease_s, k->epoch, k->unit);
    return DP_OK;
}

int dp_catalog_claim(struct dp_catalog *c, const char *stage, const char *key, const char *what, const char *owner, int64_t lease_s,
                     int64_t *unit, int64_t *epoch, struct dp_err *e)
{
    struct claim k = {.stage = stage, .key = key, .what = what, .owner = owner, .lease_s = lease_s};
    int rc = change(c, claim, &k, e);
    *unit = k.unit;
    *epoch = k.epoch;
    return rc < 0 ? rc : k.outcome;
}

struct done {
    int64_t unit, epoch;
    const char *recipe_hash;
    const struct dp_artifact *a;
    size_t n;
    const char *const *parents;
    size_t nparents;
    const struct dp_unit_count *counts;
    size_t ncounts;
    const struct dp_lineage_change *lineage;
};

static int put_counts(struct dp_catalog *c, const struct done *k, struct dp_err *e)
{
    for (size_t i = 0; i < k->ncounts; i++) {
        const struct dp_stage_counts *n = k->counts[i].c;
        uint64_t dropped = 0;
        for (int d = 0; d < DP_DROP_COUNT; d++) dropped += n->drop[d];
        if (n->docs_in != n->docs_out + dropped)
            DP_FAIL(e, BROKEN, "stage %s: %llu documents in, %llu out, %llu dropped: the unit is not published", k->counts[i].stage,
                    (unsigned long long)n->docs_in, (unsigned long long)n->docs_out, (unsigned long long)dropped);
        RUN(c, e, "INSERT INTO count VALUES(?,?,?,?,?,?,?,?)", "iisiiiii", k->unit, (int64_t)i, k->counts[i].stage, (int64_t)n->docs_in,
            (int64_t)n->docs_out, (int64_t)n->bytes_in, (int64_t)n->bytes_out, (int64_t)n->ns);
        for (int d = 1; d < DP_DROP_COUNT; d++)
            if (n->drop[d])
                RUN(c, e, "INSERT INTO dropped VALUES(?,?,?,?,?)", "iisii", k->unit, (int64_t)i, dp_drop_name((enum dp_drop)d), (int64_t)n->drop[d],
                    (int64_t)n->drop_bytes[d]);
    }
    return DP_OK;
}

static int done(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    const struct done *k = ctx;
    RUN(c, e, "UPDATE unit SET state='done', owner=NULL, lease_until=0, failures=0, retry_at=0, recipe_hash=? WHERE id=? AND epoch=? AND state='running'", "sii",
        k->recipe_hash, k->unit, k->epoch);
    if (sqlite3_changes(c->w) != 1)
        DP_FAIL(e, BUSY, "unit %lld: the lease (epoch %lld) was lost to another worker; its result stands", (long long)k->unit, (long long)k->epoch);
    for (size_t i = 0; i < k->n; i++)
        RUN(c, e, "INSERT INTO artifact(unit,kind,name,digest,bytes,docs,payload) VALUES(?,?,?,?,?,?,?)", "isssiii", k->unit, k->a[i].kind, k->a[i].name,
            k->a[i].digest, k->a[i].bytes, k->a[i].docs, k->a[i].payload);
    for (size_t i = 0; i < k->nparents; i++) RUN(c, e, "INSERT INTO parent VALUES(?,?,?)", "iis", k->unit, (int64_t)i, k->parents[i]);
    DP_TRY(put_counts(c, k, e));
    return k->lineage ? dp_catalog_sql_lineage_append(c, (void *)(uintptr_t)k->lineage, e) : DP_OK;
}

int dp_catalog_done(struct dp_catalog *c, int64_t unit, int64_t epoch, const char *recipe_hash, const struct dp_artifact *a, size_t n,
                    const char *const *parents, size_t nparents, const struct dp_unit_count *counts, size_t ncounts, struct dp_err *e)
{
    return dp_catalog_done_lineage(c, unit, epoch, recipe_hash, a, n, parents, nparents, counts, ncounts, NULL, e);
}

int dp_catalog_done_lineage(struct dp_catalog *c, int64_t unit, int64_t epoch, const char *recipe_hash, const struct dp_artifact *a, size_t n,
                            const char *const *parents, size_t nparents, const struct dp_unit_count *counts, size_t ncounts,
                            const struct dp_lineage_change *lineage, struct dp_err *e)
{
    struct done k = {unit, epoch, recipe_hash, a, n, parents, nparents, counts, ncounts, lineage};
    return change(c, done, &k, e);
}

struct failed {
    int64_t unit, epoch;
    const char *reason;
    const struct dp_catalog_retry *retry;
};

int64_t dp_catalog_delay_s(const struct dp_catalog_retry *r, int64_t failures)
{
    double s = r->base_s;
    for (int64_t i = 0; i < failures && s < r->max_s; i++) s *= 2;
    if (s > r->max_s) s = r->max_s;
    s *= 0.5 + 0.5 * r->jitter;
    return s < 1 ? 1 : (int64_t)(s + 0.5);
}

static int failed(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    const struct failed *k = ctx;
    int64_t failures = 0;
    sqlite3_stmt *st;
    DP_TRY(prepare(c, c->w, &st, e, "SELECT failures FROM unit WHERE id=?", "i", k->unit));
    int rc = step(c, c->w, st, e);
    if (rc == 1) failures = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    DP_TRY(rc);
    int64_t retry_at = k->retry ? (int64_t)time(NULL) + dp_catalog_delay_s(k->retry, failures) : 0;
    RUN(c, e, "UPDATE unit SET state='failed', owner=NULL, lease_until=0, error=?, failures=failures+1, retry_at=? WHERE id=? AND epoch=? AND state='running'",
        "siii", k->reason, retry_at, k->unit, k->epoch);
    return DP_OK;
}

int dp_catalog_failed(struct dp_catalog *c, int64_t unit, int64_t epoch, const char *reason, struct dp_err *e)
{
    return dp_catalog_failed_for(c, unit, epoch, reason, NULL, e);
}

int dp_catalog_failed_for(struct dp_catalog *c, int64_t unit, int64_t epoch, const char *reason, const struct dp_catalog_retry *retry, struct dp_err *e)
{
    struct failed k = {unit, epoch, reason, retry};
    return change(c, failed, &k, e);
}

static int give_back(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    const struct failed *k = ctx;
    RUN(c, e, "UPDATE unit SET state='ready', owner=NULL, lease_until=0, attempts=attempts-1 WHERE id=? AND epoch=? AND state='running'", "ii", k->unit,
        k->epoch);
    return DP_OK;
}

int dp_catalog_give_back(struct dp_catalog *c, int64_t unit, int64_t epoch, struct dp_err *e)
{
    struct failed k = {.unit = unit, .epoch = epoch};
    return change(c, give_back, &k, e);
}

struct retrying {
    int64_t unit;
    int changed;
};

static int retry_now(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    struct retrying *k = ctx;
    /* One by one, a failed one even without an id: `state<>'done'` is what the index unit_open knows. */
    RUN(c, e, "UPDATE unit SET failures=0, retry_at=0, state='ready' WHERE state<>'done' AND state='failed' AND (?=0 OR id=?)", "ii", k->unit, k->unit);
    k->changed = sqlite3_changes(c->w);
    return DP_OK;
}

int dp_catalog_retry(struct dp_catalog *c, int64_t unit, int *changed, struct dp_err *e)
{
    struct retrying k = {.unit = unit};
    int rc = change(c, retry_now, &k, e);
    *changed = k.changed;
    return rc;
}

int dp_catalog_failures(struct dp_catalog *c, const char *stage, const char *key, int64_t *failures, int64_t *retry_at, struct dp_err *e)
{
    sqlite3_stmt *st;
    *failures = *retry_at = 0;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, e, "SELECT failures,retry_at FROM unit WHERE stage=? AND key=? AND state='failed'", "ss", stage, key);
    if (rc >= 0) {
        rc = step(c, c->r, st, e);
        if (rc == 1) {
            *failures = sqlite3_column_int64(st, 0);
            *retry_at = sqlite3_column_int64(st, 1);
        }
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    return rc < 0 ? rc : DP_OK;
}

static int reclaim(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    (void)ctx;
    RUN(c, e, "UPDATE unit SET state='ready', owner=NULL, lease_until=0 WHERE state<>'done' AND state='running'", "");
    return DP_OK;
}

int dp_catalog_reclaim(struct dp_catalog *c, struct dp_err *e)
{
    return change(c, reclaim, NULL, e);
}

bool dp_catalog_is_done(struct dp_catalog *c, const char *stage, const char *key)
{
    sqlite3_stmt *st;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, NULL, "SELECT 1 FROM unit WHERE stage=? AND key=? AND state='done'", "ss", stage, key);
    if (rc >= 0) {
        rc = step(c, c->r, st, NULL);
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    return rc == 1;
}

/* Calls fn with the rows of a statement that gives artifacts, and finalizes it. Under read_mu. */
static int each_artifact(struct dp_catalog *c, sqlite3_stmt *st, int (*fn)(void *ctx, const struct dp_artifact *a), void *ctx, struct dp_err *e)
{
    int rc;
    while ((rc = step(c, c->r, st, e)) == 1) {
        struct dp_artifact a = {text(st, 0), text(st, 1), text(st, 2), sqlite3_column_int64(st, 3), sqlite3_column_int64(st, 4), sqlite3_column_int64(st, 5)};
        rc = fn(ctx, &a);
        if (rc < 0) break;
    }
    sqlite3_finalize(st);
    return rc < 0 ? rc : DP_OK;
}

int dp_catalog_artifacts(struct dp_catalog *c, const char *stage, const char *key, int (*fn)(void *ctx, const struct dp_artifact *a), void *ctx,
                         struct dp_err *e)
{
    sqlite3_stmt *st;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, e,
                     "SELECT a.kind,a.name,a.digest,a.bytes,a.docs,a.payload FROM artifact a JOIN unit u ON u.id=a.unit"
                     " WHERE u.stage=? AND u.key=? AND u.state='done' ORDER BY a.id", "ss", stage, key);
    if (rc >= 0) rc = each_artifact(c, st, fn, ctx, e);
    pthread_mutex_unlock(&c->read_mu);
    return rc < 0 ? rc : DP_OK;
}

int dp_catalog_all(struct dp_catalog *c, int (*fn)(void *ctx, const struct dp_artifact *a), void *ctx, struct dp_err *e)
{
    sqlite3_stmt *st;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, e, "SELECT kind,name,digest,bytes,docs,payload FROM artifact ORDER BY name", "");
    if (rc >= 0) rc = each_artifact(c, st, fn, ctx, e);
    pthread_mutex_unlock(&c->read_mu);
    return rc;
}

int dp_catalog_has_artifact(struct dp_catalog *c, const char *name, struct dp_err *e)
{
    int rc = DP_OK;
    pthread_mutex_lock(&c->read_mu);
    if (!c->has_artifact) rc = prepare(c, c->r, &c->has_artifact, e, "SELECT 1 FROM artifact WHERE name=?", "");
    if (rc >= 0) {
        sqlite3_bind_text(c->has_artifact, 1, name, -1, SQLITE_STATIC);
        rc = step(c, c->r, c->has_artifact, e);
        sqlite3_reset(c->has_artifact);
        sqlite3_clear_bindings(c->has_artifact);
    }
    pthread_mutex_unlock(&c->read_mu);
    return rc;
}

static int lost(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    const char *name = ctx;
    RUN(c, e, "DELETE FROM unit WHERE id=(SELECT unit FROM artifact WHERE name=?)", "s", name);
    return DP_OK;
}

int dp_catalog_lost(struct dp_catalog *c, const char *name, struct dp_err *e)
{
    char *copy = strdup(name);
    if (!copy) DP_FAIL(e, NOMEM, "%s", name);
    int rc = change(c, lost, copy, e);
    free(copy);
    return rc;
}

struct forget {
    const char *stage, *key;
    char **names;
    size_t n;
};

static int forget(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    struct forget *k = ctx;
    sqlite3_stmt *st;
    DP_TRY(prepare(c, c->w, &st, e, "SELECT a.name FROM artifact a JOIN unit u ON u.id=a.unit WHERE u.stage=? AND u.key=?", "ss", k->stage, k->key));
    int rc;
    while ((rc = step(c, c->w, st, e)) == 1) {
        char **more = realloc(k->names, (k->n + 1) * sizeof *more);
        if (more) k->names = more;
        if (!more || !(k->names[k->n] = strdup(text(st, 0)))) {
            rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "forgetting %s %s", k->stage, k->key);
            break;
        }
        k->n++;
    }
    sqlite3_finalize(st);
    DP_TRY(rc);
    RUN(c, e, "DELETE FROM superseded WHERE stage=? AND key=?", "ss", k->stage, k->key);
    RUN(c, e, "DELETE FROM unit WHERE stage=? AND key=?", "ss", k->stage, k->key);
    return DP_OK;
}

int dp_catalog_forget(struct dp_catalog *c, const char *stage, const char *key, void (*fn)(void *ctx, const char *name), void *ctx, struct dp_err *e)
{
    struct forget k = {.stage = stage, .key = key};
    int rc = change(c, forget, &k, e);
    for (size_t i = 0; i < k.n; i++) {
        if (rc >= 0) fn(ctx, k.names[i]);
        free(k.names[i]);
    }
    free(k.names);
    return rc;
}

static int counts_of(struct dp_catalog *c, const char *stage, const char *key, int (*fn)(void *, const char *, const struct dp_stage_counts *), void *ctx,
                     struct dp_err *e)
{
    sqlite3_stmt *st, *dr = NULL;
    DP_TRY(prepare(c, c->r, &st, e,
                   "SELECT n.stage,docs_in,docs_out,bytes_in,bytes_out,ns,n.unit,n.ordinal FROM count n JOIN unit u ON u.id=n.unit"
                   " WHERE u.stage=? AND u.key=? AND u.state='done' ORDER BY n.ordinal", "ss", stage, key));
    int rc;
    while ((rc = step(c, c->r, st, e)) == 1) {
        struct dp_stage_counts n = {.docs_in = (uint64_t)sqlite3_column_int64(st, 1), .docs_out = (uint64_t)sqlite3_column_int64(st, 2),
                                    .bytes_in = (uint64_t)sqlite3_column_int64(st, 3), .bytes_out = (uint64_t)sqlite3_column_int64(st, 4),
                                    .ns = (uint64_t)sqlite3_column_int64(st, 5)};
        rc = prepare(c, c->r, &dr, e, "SELECT reason,docs,bytes FROM dropped WHERE unit=? AND ordinal=?", "ii", sqlite3_column_int64(st, 6),
                     sqlite3_column_int64(st, 7));
        while (rc >= 0 && (rc = step(c, c->r, dr, e)) == 1) {
            enum dp_drop d = dp_drop_parse(dp_span_str(text(dr, 0)));
            if (d == DP_DROP_COUNT) continue;
            n.drop[d] = (uint64_t)sqlite3_column_int64(dr, 1);
            n.drop_bytes[d] = (uint64_t)sqlite3_column_int64(dr, 2);
        }
        sqlite3_finalize(dr);
        dr = NULL;
        if (rc >= 0) rc = fn(ctx, text(st, 0), &n);
        if (rc < 0) break;
    }
    sqlite3_finalize(st);
    return rc < 0 ? rc : DP_OK;
}

int dp_catalog_counts(struct dp_catalog *c, const char *stage, const char *key, int (*fn)(void *ctx, const char *stage, const struct dp_stage_counts *n),
                      void *ctx, struct dp_err *e)
{
    pthread_mutex_lock(&c->read_mu);
    int rc = counts_of(c, stage, key, fn, ctx, e);
    pthread_mutex_unlock(&c->read_mu);
    return rc;
}

int dp_catalog_units(struct dp_catalog *c, int (*fn)(void *ctx, const struct dp_unit_row *u), void *ctx, struct dp_err *e)
{
    sqlite3_stmt *st;
    pthread_mutex_lock(&c->read_mu);
    int rc = prepare(c, c->r, &st, e, "SELECT stage,key,what,state,coalesce(error,''),attempts,epoch FROM unit ORDER BY id", "");
    if (rc >= 0) {
        while ((rc = step(c, c->r, st, e)) == 1) {
            struct dp_unit_row u = {text(st, 0), text(st, 1), text(st, 2), text(st, 3), text(st, 4), sqlite3_column_int64(st, 5), sqlite3_column_int64(st, 6)};
            rc = fn(ctx, &u);
            if (rc < 0) break;
        }
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    return rc < 0 ? rc : DP_OK;
}

struct setting {
    const char *name, *value;
};

static int set_value(struct dp_catalog *c, void *ctx, struct dp_err *e)
{
    const struct setting *s = ctx;
    RUN(c, e, "INSERT INTO setting VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=excluded.value", "ss", s->name, s->value);
    return DP_OK;
}

int dp_catalog_set(struct dp_catalog *c, const char *name, const char *value, struct dp_err *e)
{
    struct setting s = {name, value};
    return change(c, set_value, &s, e);
}

char *dp_catalog_get(struct dp_catalog *c, const char *name)
{
    sqlite3_stmt *st;
    char *value = NULL;
    pthread_mutex_lock(&c->read_mu);
    if (prepare(c, c->r, &st, NULL, "SELECT value FROM setting WHERE name=?", "s", name) >= 0) {
        if (step(c, c->r, st, NULL) == 1) value = strdup(text(st, 0));
        sqlite3_finalize(st);
    }
    pthread_mutex_unlock(&c->read_mu);
    return value;
}

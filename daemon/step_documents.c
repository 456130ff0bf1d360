/* ingest, clean and signatures: one pass a unit makes whatever of the three is missing.
 *
 * Units that are large against the work there is run one after the other, each on all lanes; the rest run side by side, one
 * lane each, largest first. Either way a unit's artifacts are the same bytes. */
#include "daemon/isolate.h"
#include "daemon/lineage.h"
#include "daemon/quarantine.h"
#include "daemon/road.h"
#include "daemon/unit_worker.h"

#include "base/log.h"
#include "base/progress.h"
#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct task {
    struct dp_unit *unit;
    bool records, docs, sig; /* missing */
};

struct pass {
    struct dp_road *road;
    struct task *task;
    size_t tasks;
    pthread_mutex_t mu;
    int rc;
    struct dp_err err;
    int lanes;
};

struct member_ctx {
    struct dp_road *road;
    struct dp_members m;
    const char *docs_path; /* of a finished docs file, to be signed */
};

static bool unchanged(const struct dp_member *k, const struct stat *st)
{
    return S_ISREG(st->st_mode) && (uint64_t)st->st_size == k->bytes && (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec == k->mtime_ns;
}

/* What was read must be what the key says, also when a file was written to meanwhile. */
static int check_members(const struct dp_members *m, struct dp_err *e)
{
    for (size_t i = 0; i < m->n; i++) {
        struct stat st;
        if (lstat(m->v[i].path, &st) == 0 ? !unchanged(&m->v[i], &st) : errno == ENOENT)
            DP_FAIL(e, BUSY, "source %s changed while dpipe read it; run again", m->v[i].path);
    }
    return DP_OK;
}

static int open_docs(void *ctx, size_t i, const char **name, const char **prefix, const char **digest, struct dp_err *e)
{
    const struct member_ctx *m = ctx;
    (void)i;
    int fd = open(m->docs_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open", m->docs_path);
    *name = m->docs_path;
    *prefix = *digest = "";
    return fd;
}

static int open_member(void *ctx, size_t i, const char **name, const char **prefix, const char **digest, struct dp_err *e)
{
    const struct member_ctx *m = ctx;
    const struct dp_member *k = &m->m.v[i];
    int fd = open(k->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* it may be a FIFO by now */
    struct stat st;
    if (fd < 0 && (errno == ENOENT || errno == ELOOP)) DP_FAIL(e, BUSY, "source %s is gone since the sources were looked through; run again", k->path);
    if (fd < 0) DP_FAIL_SYS(e, "source %s: cannot open", k->path);
    if (fstat(fd, &st) != 0 || !unchanged(k, &st)) {
        close(fd);
        DP_FAIL(e, BUSY, "source %s changed while dpipe worked; run again", k->path);
    }
    *name = k->name;
    *prefix = k->prefix;
    *digest = k->digest;
    return fd;
}

static void progress(void *ctx, uint64_t bytes, uint64_t docs)
{
    (void)ctx;
    dp_progress_add(bytes, docs);
}

static bool stop(void *ctx)
{
    return dp_road_stopped(((const struct member_ctx *)ctx)->road);
}

/* A descriptor for the artifact KIND-KEY.EXT in tmp/, and its index in p. */
static int output(struct dp_publish *p, const char *kind, const struct dp_key *key, const char *ext, size_t *index, struct dp_err *e)
{
    char name[96], *path;
    snprintf(name, sizeof name, "%s-%s.%s", kind, key->hex, ext);
    DP_TRY(dp_publish_add(p, kind, name, &path, index, e));
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) fd = dp_err_set(e, dp_code_of_errno(errno), errno, __FILE__, __LINE__, "%s: cannot create", path);
    free(path);
    return fd;
}

static void artifact(struct dp_publish *p, size_t i, const struct dp_unit_result *res, int out)
{
    memcpy(p->digest[i], res->out[out].digest, DP_HEX256);
    p->a[i].docs = (int64_t)res->out[out].docs;
    p->a[i].payload = (int64_t)res->out[out].payload;
}

/* What a unit's pass publishes: up to three catalog units. */
struct claims {
    struct dp_publish records, docs, sig;
    bool has_records, has_docs, has_sig;
};

static int claim_all(struct claims *c, struct dp_road *r, const struct task *t, struct dp_err *e)
{
    int rc = DP_OK;
    if (t->records) DP_TRY(rc = dp_publish_claim(&c->records, r, "ingest", &t->unit->ingest, t->unit->what, e));
    c->has_records = t->records && rc == DP_OK;
    if (t->docs) DP_TRY(rc = dp_publish_claim(&c->docs, r, "clean", &t->unit->docs, t->unit->what, e));
    c->has_docs = t->docs && rc == DP_OK;
    if (t->sig) DP_TRY(rc = dp_publish_claim(&c->sig, r, "signature", &t->unit->sig, t->unit->what, e));
    c->has_sig = t->sig && rc == DP_OK;
    return DP_OK;
}

static void abort_all(struct claims *c, const struct dp_err *e)
{
    if (c->has_records) dp_publish_abort(&c->records, e);
    if (c->has_docs) dp_publish_abort(&c->docs, e);
    if (c->has_sig) dp_publish_abort(&c->sig, e);
}

static int open_outputs(struct claims *c, const struct dp_unit *u, int out[DP_OUTS], size_t at[DP_OUTS], struct dp_err *e)
{
    if (c->has_records) DP_TRY(out[DP_OUT_RECORDS] = output(&c->records, "records", &u->ingest, "jsonl.zst", &at[DP_OUT_RECORDS], e));
    if (c->has_docs) {
        DP_TRY(out[DP_OUT_DOCS] = output(&c->docs, "docs", &u->docs, "jsonl.zst", &at[DP_OUT_DOCS], e));
        DP_TRY(out[DP_OUT_DROPS] = output(&c->docs, "drops", &u->docs, "jsonl.zst", &at[DP_OUT_DROPS], e));
    }
    if (c->has_sig) DP_TRY(out[DP_OUT_SIG] = output(&c->sig, "sig", &u->sig, "bin", &at[DP_OUT_SIG], e));
    return DP_OK;
}

static int commit_all(struct claims *c, struct dp_road *r, const struct dp_unit *u, const struct dp_members *m, const struct dp_unit_result *res,
                      const size_t at[DP_OUTS], struct dp_err *e)
{
    const struct dp_pipeline *clean = &r->options->clean;
    if (c->has_records) {
        const char *parents[DP_PIPELINE_STAGES_MAX];
        size_t n = 0;
        for (; n < m->n && n < DP_PIPELINE_STAGES_MAX; n++) parents[n] = m->v[n].digest;
        struct dp_unit_count count = {"ingest", &res->counts[0]};
        artifact(&c->records, at[DP_OUT_RECORDS], res, DP_OUT_RECORDS);
        DP_TRY(dp_publish_commit(&c->records, parents, n, &count, 1, e));
        c->has_records = false;
    }
    if (c->has_docs) {
        size_t n = dp_options_signature_stage(r->options);
        struct dp_unit_count counts[DP_PIPELINE_STAGES_MAX];
        for (size_t i = 0; i < n; i++) counts[i] = (struct dp_unit_count){clean->type[i]->name, &res->counts[i + 1]};
        const char *parent = u->ingest.hex;
        artifact(&c->docs, at[DP_OUT_DOCS], res, DP_OUT_DOCS);
        artifact(&c->docs, at[DP_OUT_DROPS], res, DP_OUT_DROPS);
        DP_TRY(dp_publish_commit(&c->docs, &parent, 1, counts, n, e));
        c->has_docs = false;
    }
    if (c->has_sig) {
        const char *parent = u->docs.hex;
        artifact(&c->sig, at[DP_OUT_SIG], res, DP_OUT_SIG);
        DP_TRY(dp_publish_commit(&c->sig, &parent, 1, NULL, 0, e));
        c->has_sig = false;
    }
    return DP_OK;
}

static int run_task(struct dp_road *r, const struct task *t, int lanes, int worker, struct dp_err *e)
{
    struct dp_unit *u = t->unit;
    struct claims *c = calloc(1, sizeof *c);
    struct dp_unit_result *res = calloc(1, sizeof *res);
    int out[DP_OUTS] = {-1, -1, -1, -1};
    size_t at[DP_OUTS] = {0};
    char *docs_path = NULL;
    struct member_ctx m = {.road = r};
    int rc = c && res ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "unit %s", u->what);
    if (rc >= 0) rc = dp_road_members(r, u, &m.m, e);
    if (rc >= 0) rc = claim_all(c, r, t, e);
    if (rc >= 0) {
        rc = open_outputs(c, u, out, at, e);
        if (rc < 0)
            for (int i = 0; i < DP_OUTS; i++)
                if (out[i] >= 0) close(out[i]);
    }
    if (rc >= 0 && (c->has_records || c->has_docs || c->has_sig)) {
        size_t sig = dp_options_signature_stage(r->options);
        struct dp_unit_job job = {.ingest = &r->options->ingest, .clean = &r->options->clean, .stages = !c->has_docs ? 0 : c->has_sig ? sig + 1 : sig,
                                  .lanes = lanes, .members = u->members, .open_member = open_member, .progress = progress, .stop = stop, .ctx = &m};
        memcpy(job.out, out, sizeof out);
        if (c->has_sig && !c->has_docs) {
            m.docs_path = docs_path = dp_road_path(r, "clean", u->docs.hex, "docs", 0, e);
            job.sign = true;
            job.members = job.lanes = 1;
            job.open_member = open_docs;
        }
        if (job.sign && !docs_path) {
            close(out[DP_OUT_SIG]);
            rc = DP_NOTFOUND;
        } else rc = r->isolate ? dp_isolate_run(r->isolate, worker, u, &m.m, &job, res, e) : dp_unit_run(&job, res, e);
        if (job.sign) dp_progress_add(u->bytes, 0);
        if (rc >= 0 && !job.sign) rc = check_members(&m.m, e);
    }
    if (rc >= 0) rc = commit_all(c, r, u, &m.m, res, at, e);
    if (rc >= 0 && strcmp(u->origin.hex, u->ingest.hex) != 0) rc = dp_quarantine_settle(&r->ws, u->origin.hex, r->rounds, e);
    if (rc < 0) {
        if (rc != DP_STOPPED) dp_err_prefix(e, "unit %s", u->what);
        if (c) abort_all(c, e);
    }
    free(docs_path);
    dp_members_release(&m.m);
    free(c);
    free(res);
    return rc;
}

/* The policy goes on: the unit waits for its next try (dp_publish_abort wrote when that is), the others don't wait for it. */
static void left_aside(struct pass *p, const struct task *t, const struct dp_err *why)
{
    struct dp_road *r = p->road;
    r->left.failed++;
    if (why->code == DP_BUSY) { /* waits for the next look through the sources */
        r->left.changed = true;
        r->left.waiting++;
    }
    if (r->policy.failed) r->policy.failed(r->policy.failed_ctx, t->unit->what, why);
    else dp_log(ERROR, "run", "%s", why->msg);
}

static bool not_due(struct dp_road *r, const char *stage, const char *key, bool missing, int64_t now, bool *given_up, struct dp_err *e, int *rc)
{
    int64_t failures = 0, retry_at = 0;
    if (!missing || *rc < 0) return false;
    *rc = dp_catalog_failures(r->ws.catalog, stage, key, &failures, &retry_at, e);
    if (*rc < 0 || !failures) return false;
    if (failures >= r->policy.tries) *given_up = true;
    /* Further away than any delay can be: the clock went back since. */
    bool due = retry_at <= now || retry_at - now > (int64_t)r->policy.retry.max_s + 1;
    if (due && !*given_up) return false;
    if (!*given_up && (!r->left.retry_at || retry_at < r->left.retry_at)) r->left.retry_at = retry_at;
    return true;
}

/* Whether a unit that failed before is to be left alone now. */
static int postponed(struct dp_road *r, const struct task *t, bool *out, struct dp_err *e)
{
    bool given_up = false;
    int rc = DP_OK;
    int64_t now = (int64_t)time(NULL);
    *out = false;
    if (!r->policy.go_on) return DP_OK;
    *out = not_due(r, "ingest", t->unit->ingest.hex, t->records, now, &given_up, e, &rc) || not_due(r, "clean", t->unit->docs.hex, t->docs, now, &given_up, e, &rc) ||
           not_due(r, "signature", t->unit->sig.hex, t->sig, now, &given_up, e, &rc);
    r->left.given_up += rc >= 0 && given_up;
    r->left.waiting += rc >= 0 && *out && !given_up;
    return rc;
}

/* What this step's later ones build on: the units that are done. The others leave the plan until it is made again. */
static void keep_done(struct dp_road *r, enum dp_step until)
{
    size_t n = 0;
    for (size_t i = 0; i < r->units; i++) {
        struct dp_unit *u = &r->unit[i];
        struct dp_catalog *c = r->ws.catalog;
        dp_progress_tick();
        bool done = dp_catalog_is_done(c, "ingest", u->ingest.hex) && (until < DP_STEP_CLEAN || dp_catalog_is_done(c, "clean", u->docs.hex)) &&
                    (until < DP_STEP_DEDUP || dp_catalog_is_done(c, "signature", u->sig.hex));
        if (!done) dp_road_unit_release(u);
        else r->unit[n++] = *u;
    }
    r->units = n;
}

/* Failures of this pass that will be tried again: when. */
static int count_waiting(struct dp_road *r, const struct task *t, size_t n, struct dp_err *e)
{
    for (size_t i = 0; r->left.failed && i < n; i++) {
        bool out;
        struct task k = {.unit = t[i].unit, .records = t[i].records && !dp_catalog_is_done(r->ws.catalog, "ingest", t[i].unit->ingest.hex),
                         .docs = t[i].docs && !dp_catalog_is_done(r->ws.catalog, "clean", t[i].unit->docs.hex),
                         .sig = t[i].sig && !dp_catalog_is_done(r->ws.catalog, "signature", t[i].unit->sig.hex)};
        DP_TRY(postponed(r, &k, &out, e));
    }
    return DP_OK;
}

static void pass_task(void *ctx, size_t i, int worker)
{
    struct pass *p = ctx;
    struct dp_err err = {0};
    pthread_mutex_lock(&p->mu);
    bool go = p->rc >= 0 || p->rc == DP_BUSY || p->rc == DP_NOTFOUND;
    pthread_mutex_unlock(&p->mu);
    if (!go || dp_road_held(p->road)) return;
    int rc = run_task(p->road, &p->task[i], p->lanes, worker, &err);
    pthread_mutex_lock(&p->mu);
    p->road->made += rc >= 0;
    if (dp_road_tolerates(p->road, rc)) left_aside(p, &p->task[i], &err);
    else if (rc < 0 && p->rc >= 0) {
        p->rc = rc;
        p->err = err;
    } else if (rc < 0) dp_log(ERROR, "run", "%s", err.msg);
    pthread_mutex_unlock(&p->mu);
}

static int larger_first(const void *a, const void *b)
{
    const struct task *x = a, *y = b;
    if (x->unit->rank != y->unit->rank) return x->unit->rank < y->unit->rank ? -1 : 1;
    if (x->unit->bytes != y->unit->bytes) return x->unit->bytes < y->unit->bytes ? 1 : -1;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

/* Units of one rank, sorted: the large ones by all threads one after the other, the others side by side. */
static void run_tasks(struct pass *p, size_t from, size_t to)
{
    struct dp_road *r = p->road;
    struct task *all = p->task;
    uint64_t bytes = 0;
    size_t i = from;
    for (size_t k = from; k < to; k++) bytes += p->task[k].unit->bytes;
    p->lanes = r->threads;
    for (; r->threads > 1 && i < to && p->task[i].unit->bytes > bytes / (uint64_t)(2 * r->threads); i++) pass_task(p, i, 0);
    p->lanes = 1;
    p->task += i;
    dp_pool_run(r->pool, to - i, pass_task, p);
    p->task = all;
}

int dp_road_documents(struct dp_road *r, enum dp_step until, struct dp_err *e)
{
    struct pass p = {.road = r, .mu = PTHREAD_MUTEX_INITIALIZER, .task = calloc(r->units + 1, sizeof *p.task)};
    uint64_t bytes = 0;
    if (!p.task) DP_FAIL(e, NOMEM, "list of %zu units", r->units);
    for (size_t i = 0; i < r->units; i++) {
        if (dp_progress_stopped()) break; /* said below */
        struct dp_unit *u = &r->unit[i];
        struct task t = {.unit = u, .records = !dp_catalog_is_done(r->ws.catalog, "ingest", u->ingest.hex)};
        if (until >= DP_STEP_CLEAN) {
            t.docs = !dp_catalog_is_done(r->ws.catalog, "clean", u->docs.hex);
            t.sig = until >= DP_STEP_DEDUP && !dp_catalog_is_done(r->ws.catalog, "signature", u->sig.hex);
        }
        if (!t.records && !t.docs && !t.sig) {
            r->found++;
            continue;
        }
        bool later;
        int rc = dp_progress_go_on(e);
        if (rc >= 0) rc = postponed(r, &t, &later, e);
        if (rc < 0) {
            free(p.task);
            return rc;
        }
        if (later) continue;
        p.task[p.tasks++] = t;
        bytes += u->bytes;
    }
    if (p.tasks && r->options->workers.isolate == DP_ISOLATE_PROCESS && !r->isolate) {
        int rc = dp_isolate_open(&r->isolate, r, e);
        if (rc < 0) {
            free(p.task);
            return rc;
        }
    }
    if (p.tasks) {
        qsort(p.task, p.tasks, sizeof *p.task, larger_first);
        dp_progress_begin(until >= DP_STEP_CLEAN ? "clean" : "ingest", "B", bytes);
        for (size_t from = 0, to; from < p.tasks; from = to) {
            for (to = from; to < p.tasks && p.task[to].unit->rank == p.task[from].unit->rank;) to++;
            run_tasks(&p, from, to);
        }
        dp_progress_end();
    }
    if (p.rc < 0) *e = p.err;
    else if (dp_road_held(r)) p.rc = dp_err_set(e, DP_STOPPED, 0, __FILE__, __LINE__, "stopped; what is published stays, run again to go on");
    else if (r->policy.go_on) p.rc = count_waiting(r, p.task, p.tasks, e);
    free(p.task);
    if (p.rc < 0) return p.rc;
    if (!r->policy.go_on) return DP_OK;
    keep_done(r, until);
    return dp_lineage_shrink(r, e);
}

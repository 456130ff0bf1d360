/* A worker takes a batch through every stage before it touches another, and a row through all consecutive row stages: the text is in
 * cache once, and no queue stands between cleaners. The reader's batches come from a fixed pool; a lane that finishes batch n before n-1 parks it in
 * `ready`, and whoever holds the turn delivers all that are in order. */
#include "base/pipeline.h"

#include "base/thread.h"

#include <stdlib.h>
#include <time.h>

int dp_pipeline_init(struct dp_pipeline *p, const struct dp_stage_type *const *types, size_t n, uint32_t columns, struct dp_err *e)
{
    memset(p, 0, sizeof *p);
    DP_ASSERT(n <= DP_PIPELINE_STAGES_MAX);
    for (size_t i = 0; i < n; i++) {
        const struct dp_stage_type *t = types[i];
        if (t->needs & ~columns) {
            dp_pipeline_release(p);
            DP_FAIL(e, CONFIG, "stage %s stands too early: nothing before it fills columns 0x%x", t->name, t->needs & ~columns);
        }
        columns |= t->fills;
        p->type[i] = t;
        p->ctx[i] = calloc(1, t->ctx_size ? t->ctx_size : 1);
        p->count = i + 1;
        int rc = p->ctx[i] ? dp_opt_defaults(t->opts, p->ctx[i], e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "stage %s", t->name);
        if (rc < 0) {
            dp_pipeline_release(p);
            return rc;
        }
    }
    return DP_OK;
}

int dp_pipeline_open(struct dp_pipeline *p, struct dp_err *e)
{
    for (size_t i = 0; i < p->count; i++) {
        int rc = p->type[i]->open ? p->type[i]->open(p->ctx[i], e) : DP_OK;
        if (rc < 0) {
            while (i-- > 0)
                if (p->type[i]->close) p->type[i]->close(p->ctx[i]);
            return rc;
        }
    }
    p->opened = true;
    return DP_OK;
}

void dp_pipeline_release(struct dp_pipeline *p)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->opened && p->type[i]->close) p->type[i]->close(p->ctx[i]);
        if (p->ctx[i]) dp_opt_release(p->type[i]->opts, p->ctx[i]);
        free(p->ctx[i]);
    }
    memset(p, 0, sizeof *p);
}

struct lane {
    struct run *run;
    int index;
    void *worker[DP_PIPELINE_STAGES_MAX];
    struct dp_stage_counts *counts;
    uint16_t *before; /* drop column before a stage */
    uint64_t *bytes;
};

struct run {
    const struct dp_pipeline *p;
    const struct dp_pipeline_io *io;
    struct dp_queue todo, free;
    struct dp_batch **ready; /* ring by sequence number */
    size_t ready_cap;
    uint64_t next_out;
    bool delivering;
    pthread_mutex_t mu;
    int rc;
    struct dp_err err;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What the source delivered: rows, and those it dropped itself. */
static void count_source(struct dp_stage_counts *c, const struct dp_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        c->docs_in++;
        c->bytes_in += b->bytes_in[i];
        if (b->drop[i]) {
            c->drop[b->drop[i]]++;
            c->drop_bytes[b->drop[i]] += b->bytes_in[i];
        } else {
            c->docs_out++;
            c->bytes_out += b->bytes_in[i];
        }
    }
}

static uint64_t tick_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A row of `bytes` that a stage has seen. */
static void count_row(struct dp_stage_counts *c, const struct dp_batch *b, uint32_t i, uint64_t bytes)
{
    c->docs_in++;
    c->bytes_in += bytes;
    if (b->drop[i]) {
        c->drop[b->drop[i]]++;
        c->drop_bytes[b->drop[i]] += bytes;
    } else {
        c->docs_out++;
        c->bytes_out += b->text[i].len;
    }
}

static void enter(struct lane *l, size_t s, struct dp_batch *b)
{
    const struct dp_pipeline_io *io = l->run->io;
    if (io->enter) io->enter(io->ctx, l->index, s, b);
}

static int run_batch(struct lane *l, size_t s, struct dp_batch *b, struct dp_err *e)
{
    const struct dp_pipeline *p = l->run->p;
    for (uint32_t i = 0; i < b->count; i++) {
        l->before[i] = b->drop[i];
        l->bytes[i] = b->text[i].len;
    }
    enter(l, s, b);
    uint64_t t0 = now_ns();
    DP_TRY(dp_stage_run(p->type[s], p->ctx[s], l->worker[s], b, e));
    l->counts[s + 1].ns += now_ns() - t0;
    b->columns |= p->type[s]->fills;
    for (uint32_t i = 0; i < b->count; i++)
        if (!l->before[i]) count_row(&l->counts[s + 1], b, i, l->bytes[i]);
    return DP_OK;
}

/* All stages of the group are entered before its first row: who watches sees the batch, not the stage. */
static void enter_rows(struct lane *l, size_t from, size_t to, struct dp_batch *b)
{
    if (!l->run->io->enter) return;
    for (uint32_t i = 0; i < b->count; i++) l->before[i] = b->drop[i];
    for (size_t s = from; s < to; s++) enter(l, s, b);
    for (uint32_t i = 0; i < b->count; i++)
        if (!l->before[i] && b->drop[i]) count_row(&l->counts[from + 1], b, i, b->text[i].len);
}

/* Stages take scratch of several times a document's size: of giant documents one at a time goes through them, so that memory doesn't follow
 * the number of lanes. Process-wide: units run side by side. */
enum { GIANT_BYTES = 2 << 20 };
static pthread_mutex_t giant = PTHREAD_MUTEX_INITIALIZER;

/* The live row i through stages [from, to); ticks of each are added up. */
static int run_row(struct lane *l, size_t from, size_t to, const bool *on, struct dp_batch *b, uint32_t i, uint64_t *ticks, struct dp_err *e)
{
    const struct dp_pipeline *p = l->run->p;
    uint64_t last = tick_ns();
    for (size_t s = from; s < to && !b->drop[i]; s++) dp_stage_next_row(p->type[s], l->worker[s]);
    for (size_t s = from; s < to && !b->drop[i]; s++) {
        uint64_t bytes = b->text[i].len;
        if (on[s]) {
            DP_TRY(dp_stage_row(p->type[s], p->ctx[s], l->worker[s], b, i, e));
            uint64_t t = tick_ns();
            ticks[s] += t - last;
            last = t;
        }
        count_row(&l->counts[s + 1], b, i, bytes);
    }
    return DP_OK;
}

/* Row stages [from, to), row by row. Asking for the thread's time is a system call: it is asked twice a batch and shared out by the
 * ticks of a cheaper clock. */
static int run_rows(struct lane *l, size_t from, size_t to, struct dp_batch *b, struct dp_err *e)
{
    const struct dp_pipeline *p = l->run->p;
    enter_rows(l, from, to, b);
    uint64_t ticks[DP_PIPELINE_STAGES_MAX] = {0}, all = 0, t0 = now_ns();
    bool on[DP_PIPELINE_STAGES_MAX];
    for (size_t s = from; s < to; s++) on[s] = dp_stage_enabled(p->type[s], p->ctx[s]);
    for (uint32_t i = 0; i < b->count; i++) {
        bool alone = !b->drop[i] && b->text[i].len > GIANT_BYTES;
        if (alone) pthread_mutex_lock(&giant);
        int rc = b->drop[i] ? DP_OK : run_row(l, from, to, on, b, i, ticks, e);
        if (alone) pthread_mutex_unlock(&giant);
        DP_TRY(rc);
    }
    t0 = now_ns() - t0;
    for (size_t s = from; s < to; s++) all += ticks[s];
    for (size_t s = from; s < to && all; s++) l->counts[s + 1].ns += (uint64_t)((double)t0 * (double)ticks[s] / (double)all);
    for (size_t s = from; s < to; s++) b->columns |= p->type[s]->fills;
    return DP_OK;
}

/* Consecutive row stages together, the others batch by batch. */
static int run_groups(struct lane *l, struct dp_batch *b, struct dp_err *e)
{
    const struct dp_pipeline *p = l->run->p;
    for (size_t s = 0, to; s < p->count; s = to) {
        for (to = s + 1; p->type[s]->row && to < p->count && p->type[to]->row;) to++;
        DP_TRY(p->type[s]->row ? run_rows(l, s, to, b, e) : run_batch(l, s, b, e));
    }
    enter(l, p->count, b);
    return DP_OK;
}

/* Each row alone through one stage after the other: whatever happens belongs to one row and one stage. */
static int run_one_by_one(struct lane *l, struct dp_batch *b, struct dp_err *e)
{
    const struct dp_pipeline *p = l->run->p;
    for (uint32_t i = 0; i < b->count; i++) {
        struct dp_batch row = dp_batch_row(b, i);
        int rc = DP_OK;
        for (size_t s = 0; s < p->count && rc >= 0; s++) rc = run_batch(l, s, &row, e);
        if (rc >= 0) enter(l, p->count, &row);
        b->mem = row.mem;
        if (i + 1 == b->count) b->columns = row.columns;
        DP_TRY(rc);
    }
    return DP_OK;
}

static int run_stages(struct lane *l, struct dp_batch *b, struct dp_err *e)
{
    const struct dp_pipeline_io *io = l->run->io;
    count_source(&l->counts[0], b);
    return io->one_by_one && io->one_by_one(io->ctx, b) ? run_one_by_one(l, b, e) : run_groups(l, b, e);
}

static void lane_close(struct lane *l)
{
    const struct dp_pipeline *p = l->run->p;
    dp_stage_workers_close(p->type, p->ctx, p->count, l->worker);
    free(l->counts);
    free(l->before);
    free(l->bytes);
}

static int lane_open(struct lane *l, struct run *r, int index, uint32_t rows, struct dp_err *e)
{
    *l = (struct lane){.run = r, .index = index};
    l->counts = calloc(r->p->count + 1, sizeof *l->counts);
    l->before = calloc(rows, sizeof *l->before);
    l->bytes = calloc(rows, sizeof *l->bytes);
    if (!l->counts || !l->before || !l->bytes) DP_FAIL(e, NOMEM, "pipeline lane");
    return dp_stage_workers_open(r->p->type, r->p->ctx, r->p->count, l->worker, e);
}

static void run_fail(struct run *r, int rc, const struct dp_err *e)
{
    pthread_mutex_lock(&r->mu);
    if (r->rc >= 0) {
        r->rc = rc;
        r->err = *e;
    }
    pthread_mutex_unlock(&r->mu);
    dp_queue_close(&r->todo);
    dp_queue_close(&r->free);
}

/* Park b; if nobody is delivering, deliver all batches that are in order. */
static void deliver(struct run *r, struct dp_batch *b)
{
    pthread_mutex_lock(&r->mu);
    r->ready[b->seq % r->ready_cap] = b;
    if (r->delivering) {
        pthread_mutex_unlock(&r->mu);
        return;
    }
    r->delivering = true;
    struct dp_batch *next;
    while (r->rc >= 0 && (next = r->ready[r->next_out % r->ready_cap])) {
        r->ready[r->next_out % r->ready_cap] = NULL;
        r->next_out++;
        pthread_mutex_unlock(&r->mu);
        struct dp_err err = {0};
        int rc = r->io->done(r->io->ctx, next, &err);
        if (rc < 0) run_fail(r, rc, &err);
        dp_queue_push(&r->free, next);
        pthread_mutex_lock(&r->mu);
    }
    r->delivering = false;
    pthread_mutex_unlock(&r->mu);
}

static void *lane_main(void *v)
{
    struct lane *l = v;
    struct run *r = l->run;
    for (struct dp_batch *b; (b = dp_queue_pop(&r->todo));) {
        struct dp_err err = {0};
        int rc = run_stages(l, b, &err);
        if (rc < 0) {
            run_fail(r, rc, &err);
            return NULL;
        }
        deliver(r, b);
    }
    return NULL;
}

static void add_counts(struct dp_stage_counts *to, const struct dp_stage_counts *c)
{
    to->docs_in += c->docs_in;
    to->docs_out += c->docs_out;
    to->bytes_in += c->bytes_in;
    to->bytes_out += c->bytes_out;
    to->ns += c->ns;
    for (int d = 0; d < DP_DROP_COUNT; d++) {
        to->drop[d] += c->drop[d];
        to->drop_bytes[d] += c->drop_bytes[d];
    }
}

static int check_counts(const struct dp_pipeline *p, const struct dp_stage_counts *counts, struct dp_err *e)
{
    for (size_t s = 0; s <= p->count; s++) {
        uint64_t dropped = 0;
        for (int d = 0; d < DP_DROP_COUNT; d++) dropped += counts[s].drop[d];
        const char *name = s ? p->type[s - 1]->name : "ingest";
        if (counts[s].docs_in != counts[s].docs_out + dropped)
            DP_FAIL(e, BROKEN, "stage %s: %llu documents in, but %llu out and %llu dropped", name, (unsigned long long)counts[s].docs_in,
                    (unsigned long long)counts[s].docs_out, (unsigned long long)dropped);
        if (s && counts[s].docs_in != counts[s - 1].docs_out)
            DP_FAIL(e, BROKEN, "stage %s: got %llu documents, but %llu left the stage before", name, (unsigned long long)counts[s].docs_in,
                    (unsigned long long)counts[s - 1].docs_out);
    }
    return DP_OK;
}

static int read_all(struct run *r, struct lane *inline_lane, struct dp_err *e)
{
    uint64_t seq = 0;
    for (;;) {
        if (r->io->stop && r->io->stop(r->io->ctx)) DP_FAIL(e, STOPPED, "stopped; what is published stays, run again to go on");
        struct dp_batch *b = dp_queue_pop(&r->free);
        if (!b) return DP_OK; /* a lane failed; its error is in r */
        dp_batch_reset(b);
        uint64_t t0 = now_ns();
        int rc = r->io->next(r->io->ctx, b, e);
        if (rc != DP_OK) {
            dp_queue_push(&r->free, b);
            return rc < 0 ? rc : DP_OK;
        }
        b->seq = seq++;
        inline_lane->counts[0].ns += now_ns() - t0;
        if (r->todo.cap == 1) { /* one lane: no thread but this one */
            DP_TRY(run_stages(inline_lane, b, e));
            DP_TRY(r->io->done(r->io->ctx, b, e));
            dp_queue_push(&r->free, b);
        } else if (!dp_queue_push(&r->todo, b)) return DP_OK;
    }
}

int dp_pipeline_run(const struct dp_pipeline *p, const struct dp_pipeline_io *io, int lanes, uint32_t batch_rows,
                    size_t batch_bytes_max, struct dp_stage_counts *counts, struct dp_err *e)
{
    DP_ASSERT(p->opened && lanes >= 1);
    size_t batches = lanes == 1 ? 1 : (size_t)lanes * 2 + 2;
    struct run r = {.p = p, .io = io, .ready_cap = batches + 1};
    struct dp_batch *pool = calloc(batches, sizeof *pool);
    struct lane *lane = calloc((size_t)lanes + 1, sizeof *lane);
    pthread_t *tid = calloc((size_t)lanes, sizeof *tid);
    struct dp_stage_counts *total = calloc(p->count + 1, sizeof *total);
    int rc = DP_OK, opened = 0, started = 0;
    size_t inited = 0;
    r.ready = calloc(r.ready_cap, sizeof *r.ready);
    pthread_mutex_init(&r.mu, NULL);
    if (!pool || !lane || !tid || !total || !r.ready) DP_GOTO(e, NOMEM, "pipeline");
    DP_TRY_OUT(dp_queue_init(&r.todo, batches, e));
    DP_TRY_OUT(dp_queue_init(&r.free, batches + 1, e));
    for (; inited < batches; inited++) {
        DP_TRY_OUT(dp_batch_init(&pool[inited], batch_rows, batch_bytes_max, e));
        dp_queue_push(&r.free, &pool[inited]);
    }
    /* lane[lanes] only counts what the reader's thread does. */
    for (; opened <= (lanes == 1 ? 0 : lanes); opened++) DP_TRY_OUT(lane_open(&lane[opened], &r, opened, batch_rows, e));
    for (; lanes > 1 && started < lanes; started++) {
        int sys = pthread_create(&tid[started], NULL, lane_main, &lane[started]);
        if (sys) {
            rc = dp_err_set(e, DP_NOMEM, sys, __FILE__, __LINE__, "cannot start worker thread %d", started + 1);
            goto out;
        }
    }
    rc = read_all(&r, &lane[lanes == 1 ? 0 : lanes], e);
out:
    if (r.todo.ring) {
        if (rc < 0 && r.free.ring) {
            pthread_mutex_lock(&r.mu);
            if (r.rc >= 0) {
                r.rc = rc;
                r.err = *e;
            }
            pthread_mutex_unlock(&r.mu);
        }
        dp_queue_close(&r.todo);
    }
    for (int i = 0; i < started; i++) pthread_join(tid[i], NULL);
    if (r.rc < 0) {
        rc = r.rc;
        if (e) *e = r.err;
    }
    for (int i = 0; i < opened; i++)
        for (size_t s = 0; s <= p->count; s++) add_counts(&total[s], &lane[i].counts[s]);
    /* lane_open may have failed half-way in lane[opened]; closing it is safe, it starts zeroed. */
    for (int i = 0; lane && i <= lanes; i++)
        if (lane[i].run) lane_close(&lane[i]);
    if (rc >= 0) rc = check_counts(p, total, e);
    for (size_t s = 0; rc >= 0 && s <= p->count; s++) add_counts(&counts[s], &total[s]);
    for (size_t i = 0; i < inited; i++) dp_batch_release(&pool[i]);
    dp_queue_release(&r.todo);
    dp_queue_release(&r.free);
    pthread_mutex_destroy(&r.mu);
    free(pool);
    free(lane);
    free(tid);
    free(total);
    free(r.ready);
    return rc;
}

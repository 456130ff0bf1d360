#include "trainer/parallel.h"

#include "base/buf.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Buckets are as large as messages must be to move at full speed, and small enough that the last one, which nothing hides, is short. More ranks
 * cut them into more parts. */
enum { BUCKET = 1 << 20, A_RANK = 1 << 16, SLOTS = 4, BLOCK = 4096 };

struct bucket {
    uint64_t from, end; /* floats */
    struct dp_dist_part *parts;
    struct dp_dist_op op;
};
struct dp_parallel {
    struct dp_dist *d;
    struct dp_model *m;
    struct dp_optim *o;
    int64_t *step;
    uint64_t *seed;
    struct bucket *buckets;
    struct dp_dist_part *parts;
    size_t count, begun, added;
    float *slots[SLOTS];
    double *sums;
    int32_t *ids; /* of all ranks */
    size_t ids_cap;
    int64_t rows; /* of the step */
    bool same;   /* all ranks have rank 0's weights and moments */
    bool opened; /* the others have opened theirs */
};

/* --- orders --- */

void dp_parallel_order(struct dp_dist *d, enum dp_parallel_order *order)
{
    int64_t word[2] = {(int64_t)*order, d->saved};
    dp_dist_broadcast(d, word, sizeof word);
    *order = (enum dp_parallel_order)word[0];
    d->saved = word[1];
    d->patient = d->rank && (*order == DP_PARALLEL_SAVE || *order == DP_PARALLEL_CLOSE);
}

/* As text, which dp_opt_set reads back: option structs have strings. */
int dp_parallel_options(struct dp_dist *d, struct dp_train_options *o, int64_t *vocab, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    for (const struct dp_opt *r = dp_train_opts; d->rank == 0 && r->name; r++) {
        dp_opt_print(r, o, &b);
        dp_buf_add_char(&b, '\0');
    }
    int rc = dp_buf_check(&b, "options of training", e);
    int64_t head[2] = {(int64_t)b.len, *vocab};
    dp_dist_broadcast(d, head, sizeof head);
    *vocab = head[1];
    if (rc >= 0 && d->rank && !dp_buf_reserve(&b, (size_t)head[0])) rc = dp_buf_check(&b, "options of training", e);
    if (rc >= 0) dp_dist_broadcast(d, b.ptr, (size_t)head[0]);
    if (rc >= 0 && d->rank) rc = dp_opt_defaults(dp_train_opts, o, e);
    const char *at = b.ptr;
    for (const struct dp_opt *r = dp_train_opts; rc >= 0 && d->rank && r->name; r++, at += strlen(at) + 1)
        if (*at) rc = dp_opt_set(r, o, dp_span_str(at), r->name, e);
    dp_buf_release(&b);
    return rc < 0 ? rc : DP_OK;
}

static int64_t slice(const struct dp_dist *d, int64_t rows, int rank)
{
    return rows * rank / d->world;
}

int dp_parallel_batch(const struct dp_dist *d, const struct dp_train_options *o, int64_t *batch, struct dp_err *e)
{
    *batch = o->batch;
    if (!d) return DP_OK;
    int64_t rows = o->batch * o->accum, most = (rows + d->world - 1) / d->world;
    if (rows < d->world)
        DP_FAIL(e, CONFIG, "batch * accum is %lld sequences an update, fewer than the %d ranks: start fewer, or raise batch", (long long)rows, d->world);
    if (most < *batch) *batch = most;
    return DP_OK;
}

/* --- parts --- */

/* The tile where a unit begins that ends before tile `end`: a tile, or all of a matrix that Muon updates as a whole. */
static size_t unit_begin(const struct dp_optim *o, size_t end)
{
    const struct dp_optim_tile *last = &o->tiles[end - 1];
    if (!last->muon) return end - 1;
    for (size_t i = 0; i < o->matrix_count; i++) {
        const struct dp_optim_matrix *x = &o->matrices[i];
        if (last->offset < x->offset || last->offset >= x->offset + (uint64_t)(x->rows * x->cols)) continue;
        for (size_t t = end; t > 0; t--)
            if (o->tiles[t - 1].offset == x->offset) return t - 1;
    }
    DP_ASSERT(false);
    return end - 1;
}

/* Cut a bucket of tiles [first, last): from its end on, a part is as many whole units as come nearest to its share. */
static void cut(struct dp_parallel *p, struct bucket *b, size_t first, size_t last, size_t turn)
{
    size_t world = (size_t)p->d->world, t = last;
    uint64_t end = b->end, size = b->end - b->from;
    for (size_t k = 0; k < world; k++) {
        size_t rank = (k + turn) % world; /* who gets less than the others changes */
        uint64_t until = b->from + size / world * (world - 1 - k), at = end;
        while (t > first) {
            size_t u = unit_begin(p->o, t);
            uint64_t from = p->o->tiles[u].offset;
            if (k + 1 < world && from + (at - from) / 2 < until) break;
            for (; t > u; t--) p->o->tiles[t - 1].other = rank != (size_t)p->d->rank;
            at = from;
        }
        b->parts[rank] = (struct dp_dist_part){at, end - at};
        end = at;
    }
    DP_ASSERT(t == first);
}

static int parts_alloc(struct dp_parallel *p, struct dp_err *e)
{
    size_t world = (size_t)p->d->world, most = p->o->count;
    uint64_t slot = 0;
    p->buckets = calloc(most, sizeof *p->buckets);
    p->parts = calloc(most * world, sizeof *p->parts);
    p->sums = calloc(2 * world, sizeof *p->sums);
    if (!p->buckets || !p->parts || !p->sums) DP_FAIL(e, NOMEM, "parts of %zu tiles for %zu ranks", most, world);
    uint64_t want = p->d->bucket ? p->d->bucket : world * A_RANK > BUCKET ? world * A_RANK : BUCKET;
    for (size_t last = p->o->count; last > 0;) {
        struct bucket *b = &p->buckets[p->count];
        size_t first = last;
        b->end = p->o->tiles[last - 1].offset + (uint64_t)p->o->tiles[last - 1].n;
        do {
            first = unit_begin(p->o, first);
            b->from = p->o->tiles[first].offset;
        } while (first > 0 && b->end - b->from < want);
        b->parts = p->parts + p->count * world;
        cut(p, b, first, last, p->count);
        for (size_t r = 0; r < world; r++)
            if (b->parts[r].n > INT32_MAX) DP_FAIL(e, LIMIT, "a matrix of %llu parameters is too large to be one rank's", (unsigned long long)b->parts[r].n);
        if (b->parts[p->d->rank].n > slot) slot = b->parts[p->d->rank].n;
        b->op.parts = b->parts;
        p->count++;
        last = first;
    }
    for (size_t i = 0, t = 0; i < p->o->matrix_count; i++) {
        while (p->o->tiles[t].offset != p->o->matrices[i].offset) t++;
        p->o->matrices[i].other = p->o->tiles[t].other;
    }
    for (int i = 0; i < SLOTS; i++)
        if (!(p->slots[i] = malloc((slot * world + 1) * sizeof(float)))) DP_FAIL(e, NOMEM, "%llu MiB to exchange gradients", (unsigned long long)(slot * world >> 18));
    return DP_OK;
}

/* Give back the pages of the moments that belong to others; they read as zero then. */
static void forget_others(struct dp_parallel *p)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    float *blocks[] = {p->o->m, p->o->v};
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < p->count * (size_t)p->d->world; i++) {
            if (i % (size_t)p->d->world == (size_t)p->d->rank) continue;
            uintptr_t a = (uintptr_t)(blocks[k] + p->parts[i].at), z = a + p->parts[i].n * sizeof(float);
            a = (a + page - 1) / page * page;
            z = z / page * page;
            if (z > a) (void)madvise((void *)a, z - a, MADV_DONTNEED);
        }
    }
}

int dp_parallel_open(struct dp_parallel **out, struct dp_dist *d, struct dp_model *m, struct dp_optim *o, int64_t *step, uint64_t *seed, struct dp_err *e)
{
    *out = NULL;
    if (!d) return DP_OK;
    struct dp_parallel *p = calloc(1, sizeof *p);
    if (!p) DP_FAIL(e, NOMEM, "ranks");
    *p = (struct dp_parallel){.d = d, .m = m, .o = o, .step = step, .seed = seed};
    int rc = parts_alloc(p, e);
    if (rc < 0) {
        dp_parallel_close(p);
        return rc;
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), bytes = m->layout.floats * sizeof(float) / page * page;
    (void)madvise((void *)((uintptr_t)o->m / page * page), bytes, MADV_NOHUGEPAGE); /* large pages would keep neighbours' parts */
    (void)madvise((void *)((uintptr_t)o->v / page * page), bytes, MADV_NOHUGEPAGE);
    forget_others(p);
    *out = p;
    return DP_OK;
}

int dp_parallel_opened(struct dp_parallel *p, struct dp_train_options *o, int64_t vocab, struct dp_err *e)
{
    enum dp_parallel_order order = DP_PARALLEL_OPEN;
    if (!p || p->d->rank) return DP_OK;
    dp_parallel_order(p->d, &order);
    p->opened = true;
    return dp_parallel_options(p->d, o, &vocab, e);
}

void dp_parallel_close(struct dp_parallel *p)
{
    enum dp_parallel_order order = DP_PARALLEL_CLOSE;
    if (!p) return;
    if (p->opened) dp_parallel_order(p->d, &order);
    for (int i = 0; i < SLOTS; i++) free(p->slots[i]);
    for (size_t i = 0; i < p->count; i++) free(p->buckets[i].op.requests);
    free(p->buckets);
    free(p->parts);
    free(p->sums);
    free(p->ids);
    free(p);
}

void dp_parallel_changed(struct dp_parallel *p)
{
    if (p) p->same = false;
}

/* --- state --- */

/* Moments between rank 0 and their owners. */
static void move_moments(struct dp_parallel *p, bool to_owners)
{
    float *blocks[] = {p->o->m, p->o->v};
    for (size_t i = 0; i < p->count; i++) {
        for (int r = 1; r < p->d->world; r++) {
            const struct dp_dist_part *part = &p->buckets[i].parts[r];
            for (int k = 0; k < 2 && (p->d->rank == 0 || p->d->rank == r); k++) {
                bool sends = (p->d->rank == 0) == to_owners;
                if (sends) dp_dist_send(p->d, p->d->rank ? 0 : r, blocks[k] + part->at, part->n * sizeof(float));
                else dp_dist_receive(p->d, p->d->rank ? 0 : r, blocks[k] + part->at, part->n * sizeof(float));
            }
        }
    }
}

static void make_same(struct dp_parallel *p)
{
    struct {
        int64_t needed, step;
        uint64_t seed;
    } s = {!p->same, *p->step, *p->seed};
    dp_dist_broadcast(p->d, &s, sizeof s);
    p->same = true;
    if (!s.needed) return;
    *p->step = s.step;
    *p->seed = p->m->regime.seed = s.seed;
    dp_dist_broadcast(p->d, p->m->p, p->m->layout.floats * sizeof(float));
    move_moments(p, true);
    forget_others(p);
}

bool dp_parallel_collect(struct dp_parallel *p)
{
    if (!p) return true;
    enum dp_parallel_order order = DP_PARALLEL_SAVE;
    if (p->d->rank == 0) dp_parallel_order(p->d, &order);
    make_same(p);
    move_moments(p, false);
    return p->d->rank == 0;
}

void dp_parallel_collected(struct dp_parallel *p, bool saved)
{
    if (!p) return;
    if (saved) p->d->saved = *p->step;
    forget_others(p);
}

/* --- rows --- */

int dp_parallel_begin(struct dp_parallel *p, enum dp_parallel_order order, struct dp_parallel_rows *r, struct dp_err *e)
{
    if (!p) return DP_OK;
    int64_t width = p->m->c.seq_len + 1, head[2] = {r->rows, r->count};
    if (p->d->rank == 0) dp_parallel_order(p->d, &order);
    make_same(p);
    dp_dist_broadcast(p->d, head, sizeof head);
    int64_t first = slice(p->d, head[0], p->d->rank), n = slice(p->d, head[0], p->d->rank + 1) - first;
    size_t all = (size_t)(head[0] * width);
    const int32_t *ids = r->ids;
    if (p->d->rank) {
        if (all > p->ids_cap) {
            free(p->ids);
            p->ids_cap = 0;
            if (!(p->ids = malloc(all * sizeof *p->ids))) DP_FAIL(e, NOMEM, "batch of %lld rows", (long long)head[0]);
            p->ids_cap = all;
        }
        ids = p->ids;
    }
    dp_dist_broadcast(p->d, (void *)(uintptr_t)ids, all * sizeof *ids); /* rank 0's are only read */
    *r = (struct dp_parallel_rows){ids + first * width, n, head[1], first};
    p->rows = head[0];
    return DP_OK;
}

/* --- gradients --- */

struct adding {
    struct dp_parallel *p;
    float *g, *others;
    uint64_t n;
};

static void add_block(void *ctx, size_t task, int worker)
{
    (void)worker;
    const struct adding *a = ctx;
    uint64_t at = (uint64_t)task * BLOCK, n = a->n - at < BLOCK ? a->n - at : BLOCK;
    float sum[BLOCK];
    for (int r = 0; r < a->p->d->world; r++) {
        const float *x = (r == a->p->d->rank ? a->g : a->others + (uint64_t)r * a->n) + at;
        if (r == 0) memcpy(sum, x, n * sizeof *sum);
        else a->p->m->ops->axpy((int64_t)n, 1.0f, x, sum);
    }
    memcpy(a->g + at, sum, n * sizeof *sum);
}

/* Add what has arrived; with `all`, wait for what has begun. */
static void add_arrived(struct dp_parallel *p, bool all)
{
    for (; p->added < p->begun; p->added++) {
        struct bucket *b = &p->buckets[p->added];
        const struct dp_dist_part *mine = &b->parts[p->d->rank];
        if (all) dp_dist_wait(p->d, &b->op);
        else if (!dp_dist_test(p->d, &b->op)) return;
        struct adding a = {p, p->m->g + mine->at, b->op.into, mine->n};
        dp_pool_run(p->m->pool, (size_t)((mine->n + BLOCK - 1) / BLOCK), add_block, &a);
    }
}

/* Gradients from `from` on are finished (dp_model's hook). */
static void finished(void *ctx, uint64_t from)
{
    struct dp_parallel *p = ctx;
    add_arrived(p, false);
    for (; p->begun < p->count && p->buckets[p->begun].from >= from && p->begun - p->added < SLOTS; p->begun++) {
        struct bucket *b = &p->buckets[p->begun];
        b->op.whole = p->m->g;
        b->op.into = p->slots[p->begun % SLOTS];
        dp_dist_exchange(p->d, &b->op);
    }
}

void dp_parallel_overlap(struct dp_parallel *p)
{
    if (!p) return;
    p->begun = p->added = 0;
    p->m->finished = finished;
    p->m->finished_ctx = p;
}

double dp_parallel_norm(struct dp_parallel *p, double *loss, double *row_loss)
{
    struct dp_optim *o = p->o;
    size_t world = (size_t)p->d->world;
    p->m->finished = NULL;
    while (p->added < p->count) {
        finished(p, 0);
        add_arrived(p, true);
    }
    dp_optim_squares(o, p->m->pool, p->m->g);
    memset(p->sums, 0, world * sizeof *p->sums);
    p->sums[p->d->rank] = *loss;
    dp_dist_sum(p->d, p->sums, world);
    dp_dist_sum(p->d, o->sums, o->count);
    dp_dist_sum(p->d, row_loss, (size_t)p->rows);
    *loss = 0;
    for (size_t r = 0; r < world; r++) *loss += p->sums[r];
    return dp_optim_squares_norm(o);
}

void dp_parallel_decide(struct dp_parallel *p, double *lr, bool *skip)
{
    if (!p) return;
    double word[2] = {*lr, *skip};
    dp_dist_broadcast(p->d, word, sizeof word);
    *lr = word[0];
    *skip = word[1] != 0;
}

void dp_parallel_gather(struct dp_parallel *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->count; i++) {
        p->buckets[i].op.whole = p->m->p;
        dp_dist_gather(p->d, &p->buckets[i].op);
    }
    for (size_t i = 0; i < p->count; i++) dp_dist_wait(p->d, &p->buckets[i].op);
}

void dp_parallel_sum(struct dp_parallel *p, double *v, size_t n)
{
    if (!p) return;
    size_t world = (size_t)p->d->world;
    double *all = p->sums;
    DP_ASSERT(n <= 2);
    memset(all, 0, n * world * sizeof *all);
    memcpy(all + n * (size_t)p->d->rank, v, n * sizeof *v);
    dp_dist_sum(p->d, all, n * world);
    memset(v, 0, n * sizeof *v);
    for (size_t r = 0; r < world; r++)
        for (size_t i = 0; i < n; i++) v[i] += all[r * n + i];
}

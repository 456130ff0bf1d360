/* The blocked driver.
 *
 * Both operands are packed into panels, so the kernel streams and the storage orders differ only in
 * packing. dp_gemm_run packs a super-block of B (all of it where it fits DP_GEMM_PACK; B's panels
 * then come from L3 at a few percent of its bandwidth) in one pool run; in a second one each task
 * takes a strip of rows, packs that strip's block of k into its thread's part of pack_a (it stays in
 * L2) and multiplies it by all panels of B. So A is packed where it is used, with one wake-up of the
 * pool, or two where B isn't packed already. Rows are cut into panels, and panels into strips, as
 * evenly as can be: kernels run any number of rows up to mr, so no tile is mostly padding and
 * threads end together.
 *
 * Must agree with the formula at the top of gemm.h; tests/check/check_gemm.c computes that formula
 * directly. */
#include "trainer/gemm.h"

#include "base/cpu.h"
#include "base/large.h"
#include "trainer/gemm_internal.h"

#include <stdlib.h>
#include <time.h>
#include <xmmintrin.h>

enum { TILE_MAX = 16 * 64, PANELS_MAX = 64, PANELS_B_TASK = 8, UNITS_SUPER = 8 * DP_GEMM_KC };
enum { LINE = 64 }; /* bytes of a cache line */
enum { FLUSH = 0x8040 }; /* MXCSR: flush to zero, denormals are zeros */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t block_k(int bf16)
{
    return bf16 ? DP_GEMM_KC_BF16 : DP_GEMM_KC;
}

const struct dp_gemm_level *dp_gemm_level(void)
{
    if (dp_cpu() >= DP_CPU_AVX512BF16) return &dp_gemm_avx512bf16;
    if (dp_cpu() >= DP_CPU_AVX512) return &dp_gemm_avx512;
    if (dp_cpu() >= DP_CPU_AVX2) return &dp_gemm_avx2;
    return &dp_gemm_scalar;
}

double dp_gemm_peak(const struct dp_gemm_level *l, int bf16)
{
    float (*fn)(int64_t) = bf16 ? l->peak_bf16 : l->peak;
    double best = 0, flops = bf16 ? l->peak_bf16_flops : l->peak_flops;
    int64_t n = 1000;
    volatile float sink = 0;
    for (int run = 0; run < 12; run++) {
        struct timespec t0, t1;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
        sink = sink + fn(n);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
        double s = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
        double rate = (double)n * flops / (s > 1e-9 ? s : 1e-9);
        if (s < 0.005) n *= 4; /* too short to time; not counted */
        else if (rate > best) best = rate;
        if (s < 0.005) run--;
    }
    return best;
}

void dp_gemm_to_bf16(const struct dp_gemm_level *l, int64_t n, const float *src, uint16_t *dst)
{
    if (l->to_bf16) l->to_bf16(n, src, dst);
    else
        for (int64_t i = 0; i < n; i++) dst[i] = dp_bf16(src[i]);
}

float *dp_floats_alloc(uint64_t n)
{
    return n > (UINT64_C(1) << 44) ? NULL : dp_large_alloc((size_t)n * sizeof(float));
}

void dp_gemm_edge_tile(dp_gemm_tile_fn whole, int mr, int nr, int rows, int cols, int64_t units,
                       const float *a, const float *b, const float *base, int64_t ldbase,
                       const float *bias, float *c, int64_t ldc)
{
    float t[TILE_MAX], tbias[64] = {0};
    if (bias) memcpy(tbias, bias, (size_t)cols * sizeof *bias);
    if (base) {
        memset(t, 0, sizeof t);
        for (int i = 0; i < rows; i++)
            memcpy(t + i * nr, base + i * ldbase, (size_t)cols * sizeof *t);
    }
    whole(mr, nr, units, a, b, base ? t : NULL, nr, bias ? tbias : NULL, t, nr, NULL, 0);
    for (int i = 0; i < rows; i++) memcpy(c + i * ldc, t + i * nr, (size_t)cols * sizeof *t);
}

/* bf16 products flush denormals; the scalar kernel does so itself, and this doesn't change that. */
static unsigned flush_on(int bf16)
{
    unsigned old = _mm_getcsr();
    if (bf16) _mm_setcsr(old | FLUSH);
    return old;
}

/* k = 0: nothing to add, but C must still be written. */
static void write_base(const struct dp_gemm_args *g)
{
    unsigned csr = flush_on(g->bf16);
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            float s = g->base ? g->base[i * g->ldbase + j] : 0;
            if (g->bias) s = g->base ? s + g->bias[j] : g->bias[j];
            g->c[i * g->ldc + j] = s;
        }
    }
    _mm_setcsr(csr);
}

/* --- blocks --- */

/* A product cut up for a level. Panel p of A's rows is [row(p), row(p+1)). */
struct plan {
    const struct dp_gemm_level *l;
    const struct dp_gemm_args *g;
    struct dp_gemm_operand a, b;
    int64_t kc, panels; /* panels of A */
};

static struct plan make_plan(const struct dp_gemm_level *l, const struct dp_gemm_args *g)
{
    return (struct plan){l, g, dp_gemm_operand_a(g), dp_gemm_operand_b(g), block_k(g->bf16),
                         (g->m + l->mr - 1) / l->mr};
}

static int64_t panel_row(const struct plan *p, int64_t panel)
{
    return panel * p->g->m / p->panels;
}

/* Packed columns [j0, j1) for k in [k0, k1): blocks of k one after another, panels of nr columns in
 * each. */
struct packed_b {
    float *data;
    int64_t j0, j1, k0, k1;
};

static float *b_panel(const struct plan *p, const struct packed_b *b, int64_t k, int64_t j)
{
    const struct dp_gemm_level *l = p->l;
    int64_t width = round_up(b->j1 - b->j0, l->nr), kc = min64(p->kc, b->k1 - k);
    return b->data + dp_gemm_units(l, p->g->bf16, k - b->k0) * width +
           (j - b->j0) * dp_gemm_units(l, p->g->bf16, kc);
}

/* Columns [ja, je) of the block of k that starts at k; ja is a panel's first. */
static void pack_b(const struct plan *p, const struct packed_b *b, int64_t k, int64_t ja, int64_t je)
{
    int64_t first[PANELS_B_TASK + 1], kc = min64(p->kc, b->k1 - k), nr = p->l->nr;
    while (ja < je) {
        int n = 0;
        int64_t j = ja;
        for (; n < PANELS_B_TASK && j < je; n++, j += nr) first[n] = j;
        first[n] = min64(j, je);
        dp_gemm_pack_panels(p->l, &p->b, first, n, (int)nr, k, kc, b_panel(p, b, k, ja));
        ja = first[n];
    }
}

static void pack_a(const struct plan *p, int64_t p0, int64_t p1, int64_t k, int64_t kc, float *out)
{
    int64_t first[PANELS_MAX + 1];
    for (int64_t i = p0; i <= p1; i++) first[i - p0] = panel_row(p, i);
    dp_gemm_pack_panels(p->l, &p->a, first, (int)(p1 - p0), p->l->aw, k, kc, out);
}

/* Memory to be in L2 before it is packed: rows of some cache lines, step bytes apart. */
struct region {
    const char *at;
    int64_t lines, rows, step;
};

static struct region source_of_a(const struct plan *p, int64_t p0, int64_t p1, int64_t k)
{
    const struct dp_gemm_operand *a = &p->a;
    int64_t size = a->f ? sizeof *a->f : sizeof *a->h, kc = min64(p->kc, p->g->k - k);
    if (p0 >= p1 || kc <= 0) return (struct region){0};
    int64_t v0 = panel_row(p, p0), n = panel_row(p, p1) - v0;
    const char *at = (a->f ? (const char *)a->f : (const char *)a->h) +
                     (v0 * a->vs + k * a->ks) * size;
    if (a->ks == 1) return (struct region){at, (kc * size + LINE - 1) / LINE, n, a->vs * size};
    return (struct region){at, (n * size + LINE - 1) / LINE, kc, a->ks * size};
}

/* What tiles ask for while they multiply, a share of units / 2 cache lines each: the first ones of a
 * column of tiles the next panel of B, which may be in L3 or further, the others what will be packed
 * next. Without this a product whose B isn't in L2 runs at 80 % of the rate. */
struct ahead {
    int64_t share, b_tiles;
    struct region next_a;
    int64_t row, line; /* in next_a: where the next share begins */
};

static struct ahead make_ahead(int64_t units, int64_t nr, const struct region *next_a)
{
    int64_t share = units / 2;
    int64_t b_lines = units * nr * (int64_t)sizeof(float) / LINE;
    return (struct ahead){share, share ? b_lines / share : 0, *next_a, 0, 0};
}

/* The first line of the share of tile `i` of a column, and the distance to the second. */
static const char *take_share(struct ahead *a, const char *next_b, int64_t i, int64_t *step)
{
    *step = LINE;
    if (i < a->b_tiles) return next_b + i * a->share * LINE;
    *step = 0;
    if (a->row >= a->next_a.rows) return next_b;
    const char *at = a->next_a.at + a->row * a->next_a.step + a->line * LINE;
    *step = a->next_a.step;
    if (++a->line == a->next_a.lines) {
        a->line = 0;
        a->row += a->share;
    }
    return at;
}

/* Panels [p0, p1) of A, packed at pa, by columns [ja, je) of B, for the block of k at k: the first
 * block takes base and bias, later ones add to C. next_a: what will be packed next. */
static void multiply(const struct plan *p, int64_t p0, int64_t p1, const struct packed_b *b,
                     int64_t ja, int64_t je, int64_t k, const float *pa,
                     const struct region *next_a)
{
    const struct dp_gemm_level *l = p->l;
    const struct dp_gemm_args *g = p->g;
    int64_t units = dp_gemm_units(l, g->bf16, min64(p->kc, b->k1 - k)), row[PANELS_MAX + 1];
    const float *from = k > 0 ? g->c : g->base, *pb = b_panel(p, b, k, ja);
    int64_t ldbase = k > 0 ? g->ldc : g->ldbase, n = p1 - p0, step;
    dp_gemm_tile_fn tile = g->bf16 ? l->tile_bf16 : l->tile;
    struct ahead ahead = make_ahead(units, l->nr, next_a);
    for (int64_t i = 0; i <= n; i++) row[i] = panel_row(p, p0 + i);
    for (int64_t j = ja; j < je; j += l->nr, pb += units * l->nr) {
        const float *bias = k == 0 && g->bias ? g->bias + j : NULL, *pi = pa;
        int cols = (int)min64(l->nr, je - j);
        for (int64_t i = 0; i < n; i++, pi += units * l->aw) {
            const char *at = take_share(&ahead, (const char *)(pb + units * l->nr), i, &step);
            tile((int)(row[i + 1] - row[i]), cols, units, pi, pb,
                 from ? from + row[i] * ldbase + j : NULL, ldbase, bias,
                 g->c + row[i] * g->ldc + j, g->ldc, at, step);
        }
    }
}

/* Panels of A that `floats` hold for the longest block of k. */
static int64_t strip_panels(const struct plan *p, int64_t floats)
{
    int64_t k = min64(p->kc, p->g->k);
    return min64(floats / (dp_gemm_units(p->l, p->g->bf16, k) * p->l->aw), PANELS_MAX);
}

void dp_gemm_serial(const struct dp_gemm_level *l, float *scratch, const struct dp_gemm_args *g)
{
    if (g->k == 0) write_base(g);
    if (g->k == 0 || g->m <= 0 || g->n <= 0) return;
    struct plan p = make_plan(l, g);
    float *pa = scratch + DP_GEMM_SCRATCH_B;
    int64_t strip = strip_panels(&p, DP_GEMM_SCRATCH_A),
            units = dp_gemm_units(l, g->bf16, min64(p.kc, g->k)),
            nc = DP_GEMM_SCRATCH_B / units / l->nr * l->nr;
    unsigned csr = flush_on(g->bf16);
    for (int64_t j0 = 0; j0 < g->n; j0 += nc) {
        for (int64_t k = 0; k < g->k; k += p.kc) {
            int64_t kc = min64(p.kc, g->k - k);
            struct packed_b b = {scratch, j0, min64(j0 + nc, g->n), k, k + kc};
            pack_b(&p, &b, k, b.j0, b.j1);
            for (int64_t i = 0; i < p.panels; i += strip) {
                int64_t end = min64(i + strip, p.panels);
                pack_a(&p, i, end, k, kc, pa);
                multiply(&p, i, end, &b, b.j0, b.j1, k, pa, &(struct region){0});
            }
        }
    }
    _mm_setcsr(csr);
}

/* --- threads --- */

struct super {
    const struct plan *p;
    struct packed_b b;
    float *pack_a;
    int64_t b_tasks;        /* of a block of k */
    int64_t strips, splits; /* of A's panels, of B's columns */
};

static void pack_b_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    const struct super *s = ctx;
    int64_t k = s->b.k0 + (int64_t)task / s->b_tasks * s->p->kc,
            j = s->b.j0 + (int64_t)task % s->b_tasks * PANELS_B_TASK * s->p->l->nr;
    pack_b(s->p, &s->b, k, j, min64(j + PANELS_B_TASK * s->p->l->nr, s->b.j1));
}

static void run_pack_b(struct dp_pool *pool, struct super *s)
{
    s->b_tasks = round_up(s->b.j1 - s->b.j0, PANELS_B_TASK * s->p->l->nr) /
                 (PANELS_B_TASK * s->p->l->nr);
    int64_t blocks = round_up(s->b.k1 - s->b.k0, s->p->kc) / s->p->kc;
    dp_pool_run(pool, (size_t)(s->b_tasks * blocks), pack_b_task, s);
}

static void multiply_task(void *ctx, size_t task, int worker)
{
    const struct super *s = ctx;
    const struct plan *p = s->p;
    int64_t strip = (int64_t)task / s->splits, split = (int64_t)task % s->splits;
    int64_t p0 = strip * p->panels / s->strips, p1 = (strip + 1) * p->panels / s->strips;
    int64_t p2 = min64((strip + 2) * p->panels / s->strips, p->panels); /* the next strip's end */
    int64_t nr = p->l->nr, columns = round_up(s->b.j1 - s->b.j0, nr) / nr;
    int64_t ja = s->b.j0 + split * columns / s->splits * nr,
            je = min64(s->b.j0 + (split + 1) * columns / s->splits * nr, s->b.j1);
    float *pa = s->pack_a + (int64_t)worker * DP_GEMM_PACK_A;
    unsigned csr = flush_on(p->g->bf16);
    for (int64_t k = s->b.k0; k < s->b.k1; k += p->kc) {
        struct region next = k + p->kc < s->b.k1 ? source_of_a(p, p0, p1, k + p->kc)
                                                 : source_of_a(p, p1, p2, s->b.k0);
        pack_a(p, p0, p1, k, min64(p->kc, s->b.k1 - k), pa);
        multiply(p, p0, p1, &s->b, ja, je, k, pa, &next);
    }
    _mm_setcsr(csr);
}

/* Strips that fill the thread's part of pack_a at most, as many for each thread and two at least;
 * few rows leave that to splits of the columns. */
static void run_multiply(struct dp_pool *pool, struct super *s)
{
    const struct plan *p = s->p;
    int64_t threads = dp_pool_threads(pool), most = strip_panels(p, DP_GEMM_PACK_A);
    int64_t columns = round_up(s->b.j1 - s->b.j0, p->l->nr) / p->l->nr;
    int64_t wanted = threads > 1 ? 2 * threads : 1, strips = (p->panels + most - 1) / most;
    s->strips = min64(round_up(strips > wanted ? strips : wanted, threads), p->panels);
    s->splits = min64((wanted + s->strips - 1) / s->strips, columns);
    dp_pool_run(pool, (size_t)(s->strips * s->splits), multiply_task, s);
}

void dp_gemm_run(struct dp_gemm *gemm, const struct dp_gemm_args *g)
{
    if (g->k == 0) write_base(g);
    if (g->k == 0 || g->m <= 0 || g->n <= 0) return;
    struct plan p = make_plan(gemm->level, g);
    struct super s = {.p = &p, .pack_a = gemm->pack_a};
    if (g->packed) {
        const struct dp_gemm_packed *b = g->packed;
        DP_ASSERT(b->level == p.l && b->n == g->n && b->k == g->k && !b->bf16 == !g->bf16);
        s.b = (struct packed_b){b->data, 0, g->n, 0, g->k};
        run_multiply(gemm->pool, &s);
        return;
    }
    int64_t kb = min64(g->k, p.kc * (UNITS_SUPER / dp_gemm_units(p.l, g->bf16, p.kc)));
    int64_t nb = DP_GEMM_PACK / dp_gemm_units(p.l, g->bf16, kb) / p.l->nr * p.l->nr;
    for (int64_t j = 0; j < g->n; j += nb) {
        for (int64_t k = 0; k < g->k; k += kb) {
            s.b = (struct packed_b){gemm->pack_b, j, min64(j + nb, g->n), k, min64(k + kb, g->k)};
            run_pack_b(gemm->pool, &s);
            run_multiply(gemm->pool, &s);
        }
    }
}

int dp_gemm_open(struct dp_gemm *g, struct dp_pool *pool, struct dp_err *e)
{
    *g = (struct dp_gemm){.level = dp_gemm_level(), .pool = pool};
    uint64_t a = (uint64_t)dp_pool_threads(pool) * DP_GEMM_PACK_A;
    g->pack_a = dp_floats_alloc(a);
    g->pack_b = dp_floats_alloc(DP_GEMM_PACK);
    if (!g->pack_a || !g->pack_b) {
        dp_gemm_close(g);
        DP_FAIL(e, NOMEM, "cannot allocate %zu KiB of packing buffers for matrix products",
                (size_t)((a + DP_GEMM_PACK) * sizeof(float) >> 10));
    }
    return DP_OK;
}

void dp_gemm_close(struct dp_gemm *g)
{
    free(g->pack_a);
    free(g->pack_b);
    g->pack_a = g->pack_b = NULL;
}

int dp_gemm_packed_open(struct dp_gemm_packed *p, const struct dp_gemm *g, int64_t n, int64_t k,
                        int bf16, struct dp_err *e)
{
    uint64_t floats = (uint64_t)round_up(n, g->level->nr) *
                      (uint64_t)dp_gemm_units(g->level, bf16, k);
    *p = (struct dp_gemm_packed){g->level, n, k, bf16, dp_floats_alloc(floats)};
    if (!p->data)
        DP_FAIL(e, NOMEM, "cannot allocate %zu KiB for packed weights",
                (size_t)(floats * sizeof(float) >> 10));
    return DP_OK;
}

void dp_gemm_packed_close(struct dp_gemm_packed *p)
{
    free(p->data);
    p->data = NULL;
}

void dp_gemm_pack(struct dp_gemm *gemm, const struct dp_gemm_args *g, struct dp_gemm_packed *b)
{
    DP_ASSERT(b->level == gemm->level && b->n == g->n && b->k == g->k && !b->bf16 == !g->bf16);
    struct plan p = {.l = gemm->level, .g = g, .b = dp_gemm_operand_b(g), .kc = block_k(g->bf16)};
    struct super s = {.p = &p, .b = {b->data, 0, g->n, 0, g->k}};
    if (g->n > 0 && g->k > 0) run_pack_b(gemm->pool, &s);
}

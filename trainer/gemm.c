/* The blocked driver and the scalar kernel.
 *
 * Both operands are packed into panels (A: mr rows, k-major; B: nr columns, k-major), so the kernel
 * streams and the four storage orders differ only in packing. A panel's missing rows or columns are
 * zeros; a kernel's tile that hangs over the edge goes through a small tile on the stack.
 *
 * dp_gemm_run packs super-blocks of A and B with all of k (or as much as fits DP_GEMM_PACK) in one
 * pool run and multiplies tiles of MC x NC in a second one: two wake-ups a product, where packing
 * inside the loops over k would cost two for each of them and packing in each thread would repeat
 * the work. B's panels then come from L3, at a few percent of its bandwidth: a panel of 256 x 16
 * floats is used for MC rows.
 *
 * Must agree with the formula at the top of gemm.h; tests/check/check_gemm.c computes that formula
 * directly. */
#include "trainer/gemm.h"

#include "base/cpu.h"
#include "base/large.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SCALAR_MR = 4, SCALAR_NR = 16, TILE_MAX = 16 * 64 };

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void kernel_scalar(int64_t kc, const float *a, const float *b, const float *base,
                          int64_t ldbase, const float *bias, float *c, int64_t ldc)
{
    float acc[SCALAR_MR][SCALAR_NR] = {{0}};
    for (int64_t k = 0; k < kc; k++, a += SCALAR_MR, b += SCALAR_NR)
        for (int i = 0; i < SCALAR_MR; i++)
            for (int j = 0; j < SCALAR_NR; j++) acc[i][j] = fmaf(a[i], b[j], acc[i][j]);
    for (int i = 0; i < SCALAR_MR; i++) {
        for (int j = 0; j < SCALAR_NR; j++) {
            float s = acc[i][j];
            if (base && bias) s = (base[i * ldbase + j] + bias[j]) + s;
            else if (base) s = base[i * ldbase + j] + s;
            else if (bias) s = bias[j] + s;
            c[i * ldc + j] = s;
        }
    }
}

static float peak_scalar(int64_t n)
{
    float a = 0, b = 1, c = 2, d = 3, x = 0.999f;
    for (int64_t i = 0; i < n; i++) {
        a = fmaf(a, x, x);
        b = fmaf(b, x, x);
        c = fmaf(c, x, x);
        d = fmaf(d, x, x);
    }
    return a + b + c + d;
}

const struct dp_gemm_level dp_gemm_scalar = {SCALAR_MR,   SCALAR_NR, kernel_scalar, NULL, NULL,
                                             peak_scalar, 8};

const struct dp_gemm_level *dp_gemm_level(void)
{
    if (dp_cpu() >= DP_CPU_AVX512) return &dp_gemm_avx512;
    if (dp_cpu() >= DP_CPU_AVX2) return &dp_gemm_avx2;
    return &dp_gemm_scalar;
}

double dp_gemm_peak(const struct dp_gemm_level *l)
{
    double best = 0;
    int64_t n = 1000;
    volatile float sink = 0;
    for (int run = 0; run < 12; run++) {
        struct timespec t0, t1;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
        sink = sink + l->peak(n);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
        double s = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
        double rate = (double)n * l->peak_flops / (s > 1e-9 ? s : 1e-9);
        if (s < 0.005) n *= 4; /* too short to time; not counted */
        else if (rate > best) best = rate;
        if (s < 0.005) run--;
    }
    return best;
}

float *dp_floats_alloc(uint64_t n)
{
    return n > (UINT64_C(1) << 44) ? NULL : dp_large_alloc((size_t)n * sizeof(float));
}

/* k rows of `width` floats; a constant size makes memcpy one or two moves instead of a call. */
static void copy_rows(const float *src, int64_t ks, int width, int64_t k, float *out)
{
#define COPY(w)                                                                                    \
    case w:                                                                                        \
        for (int64_t p = 0; p < k; p++) memcpy(out + p * (w), src + p * ks, (w) * sizeof *out);    \
        return;
    switch (width) {
        COPY(4)
        COPY(6)
        COPY(12)
        COPY(16)
        COPY(32)
    }
#undef COPY
    for (int64_t p = 0; p < k; p++)
        memcpy(out + p * width, src + p * ks, (size_t)width * sizeof *out);
}

/* One panel of `width` vectors (rows of A, columns of B), `count` of which exist, k values of each.
 * `vs` floats lie between vectors, `ks` between successive k. */
static void pack_panel(const float *src, int64_t vs, int64_t ks, int count, int width, int64_t k,
                       void (*full)(int64_t, const float *, int64_t, float *), float *out)
{
    if (count == width && ks == 1 && full) {
        full(k, src, vs, out);
        return;
    }
    if (count == width && vs == 1) {
        copy_rows(src, ks, width, k, out);
        return;
    }
    for (int64_t p = 0; p < k; p++, out += width) {
        for (int v = 0; v < count; v++) out[v] = src[v * vs + p * ks];
        for (int v = count; v < width; v++) out[v] = 0;
    }
}

/* Rows [i0, ...) of op(A), k in [k0, k0+kc): one panel. */
static void pack_a_panel(const struct dp_gemm_level *l, const struct dp_gemm_args *g, int64_t i0,
                         int64_t k0, int64_t kc, float *out)
{
    int64_t vs = g->ta ? 1 : g->lda, ks = g->ta ? g->lda : 1;
    pack_panel(g->a + i0 * vs + k0 * ks, vs, ks, (int)min64(l->mr, g->m - i0), l->mr, kc, l->pack_a,
               out);
}

static void pack_b_panel(const struct dp_gemm_level *l, const struct dp_gemm_args *g, int64_t j0,
                         int64_t k0, int64_t kc, float *out)
{
    int64_t vs = g->tb ? g->ldb : 1, ks = g->tb ? 1 : g->ldb;
    pack_panel(g->b + j0 * vs + k0 * ks, vs, ks, (int)min64(l->nr, g->n - j0), l->nr, kc, l->pack_b,
               out);
}

/* A tile that hangs over the edge of C: the kernel writes to the stack and the part that exists is
 * copied. */
static void edge_tile(const struct dp_gemm_level *l, int64_t kc, const float *a, const float *b,
                      const float *base, int64_t ldbase, const float *bias, float *c, int64_t ldc,
                      int64_t rows, int64_t cols)
{
    float t[TILE_MAX], tbias[64] = {0};
    int64_t nr = l->nr;
    if (bias) memcpy(tbias, bias, (size_t)cols * sizeof *bias);
    if (base) {
        memset(t, 0, sizeof t);
        for (int64_t i = 0; i < rows; i++)
            memcpy(t + i * nr, base + i * ldbase, (size_t)cols * sizeof *t);
    }
    l->kernel(kc, a, b, base ? t : NULL, nr, bias ? tbias : NULL, t, nr);
    for (int64_t i = 0; i < rows; i++) memcpy(c + i * ldc, t + i * nr, (size_t)cols * sizeof *t);
}

/* Rows [i0, i1) x columns [j0, j1) of C for one block of k. pa: panels of rows from i0, `as` floats
 * apart; pb likewise. `first`: the block k = 0, which takes base and bias; later ones add to C. */
static void multiply_block(const struct dp_gemm_level *l, const struct dp_gemm_args *g, int64_t i0,
                           int64_t i1, int64_t j0, int64_t j1, int64_t kc, const float *pa,
                           int64_t as, const float *pb, int64_t bs, int first)
{
    for (int64_t j = j0; j < j1; j += l->nr, pb += bs) {
        const float *pi = pa;
        for (int64_t i = i0; i < i1; i += l->mr, pi += as) {
            float *c = g->c + i * g->ldc + j;
            const float *base = !first ? c : g->base ? g->base + i * g->ldbase + j : NULL;
            int64_t ldbase = first ? g->ldbase : g->ldc;
            const float *bias = first && g->bias ? g->bias + j : NULL;
            int64_t rows = min64(l->mr, i1 - i), cols = min64(l->nr, j1 - j);
            if (rows == l->mr && cols == l->nr)
                l->kernel(kc, pi, pb, base, ldbase, bias, c, g->ldc);
            else edge_tile(l, kc, pi, pb, base, ldbase, bias, c, g->ldc, rows, cols);
        }
    }
}

/* k = 0: nothing to add, but C must still be written. */
static void write_base(const struct dp_gemm_args *g)
{
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            float s = g->base ? g->base[i * g->ldbase + j] : 0;
            if (g->bias) s = g->base ? s + g->bias[j] : g->bias[j];
            g->c[i * g->ldc + j] = s;
        }
    }
}

void dp_gemm_serial(const struct dp_gemm_level *l, float *scratch, const struct dp_gemm_args *g)
{
    if (g->k == 0) write_base(g);
    float *pb = scratch, *pa = scratch + DP_GEMM_KC * DP_GEMM_NC;
    for (int64_t j0 = 0; j0 < g->n; j0 += DP_GEMM_NC) {
        int64_t j1 = min64(j0 + DP_GEMM_NC, g->n);
        for (int64_t k0 = 0; k0 < g->k; k0 += DP_GEMM_KC) {
            int64_t kc = min64(DP_GEMM_KC, g->k - k0);
            for (int64_t j = j0; j < j1; j += l->nr)
                pack_b_panel(l, g, j, k0, kc, pb + (j - j0) * kc);
            for (int64_t i0 = 0; i0 < g->m; i0 += DP_GEMM_MC) {
                int64_t i1 = min64(i0 + DP_GEMM_MC, g->m);
                for (int64_t i = i0; i < i1; i += l->mr)
                    pack_a_panel(l, g, i, k0, kc, pa + (i - i0) * kc);
                multiply_block(l, g, i0, i1, j0, j1, kc, pa, l->mr * kc, pb, l->nr * kc, k0 == 0);
            }
        }
    }
}

/* One super-block: rows [i0, i1), columns [j0, j1), k in [k0, k1), packed whole. A panel holds its
 * blocks of k one after another. */
struct super {
    struct dp_gemm *gemm;
    const struct dp_gemm_args *g;
    int64_t i0, i1, j0, j1, k0, k1;
    int64_t a_panels, b_panels; /* to pack in this run */
    int64_t tile_cols;          /* tiles in a row of tiles */
};

enum { PANELS_A_TASK = 8 };

static void pack_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    const struct super *s = ctx;
    const struct dp_gemm_level *l = s->gemm->level;
    int64_t k = s->k1 - s->k0, all = s->a_panels + s->b_panels;
    int64_t p = (int64_t)task * PANELS_A_TASK, end = min64(p + PANELS_A_TASK, all);
    for (; p < end; p++) {
        if (p < s->a_panels)
            pack_a_panel(l, s->g, s->i0 + p * l->mr, s->k0, k, s->gemm->pack_a + p * l->mr * k);
        else {
            int64_t q = p - s->a_panels;
            pack_b_panel(l, s->g, s->j0 + q * l->nr, s->k0, k, s->gemm->pack_b + q * l->nr * k);
        }
    }
}

static void tile_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    const struct super *s = ctx;
    const struct dp_gemm_level *l = s->gemm->level;
    int64_t k = s->k1 - s->k0;
    int64_t i0 = s->i0 + (int64_t)task / s->tile_cols * DP_GEMM_MC,
            i1 = min64(i0 + DP_GEMM_MC, s->i1);
    int64_t j0 = s->j0 + (int64_t)task % s->tile_cols * DP_GEMM_NC,
            j1 = min64(j0 + DP_GEMM_NC, s->j1);
    const float *pa = s->gemm->pack_a + (i0 - s->i0) * k, *pb = s->gemm->pack_b + (j0 - s->j0) * k;
    for (int64_t p = 0; p < k; p += DP_GEMM_KC) {
        int64_t kc = min64(DP_GEMM_KC, k - p);
        multiply_block(l, s->g, i0, i1, j0, j1, kc, pa + p * l->mr, l->mr * k, pb + p * l->nr,
                       l->nr * k, s->k0 + p == 0);
    }
}

void dp_gemm_run(struct dp_gemm *gemm, const struct dp_gemm_args *g)
{
    if (g->k == 0) write_base(g);
    if (g->m <= 0 || g->n <= 0) return;
    const struct dp_gemm_level *l = gemm->level;
    for (int64_t k0 = 0; k0 < g->k;) {
        int64_t k = min64(
            g->k - k0, 16 * DP_GEMM_KC); /* a multiple of KC, so that blocks stay where they are */
        int64_t nb = DP_GEMM_PACK / k / DP_GEMM_NC * DP_GEMM_NC,
                mb = DP_GEMM_PACK / k / DP_GEMM_MC * DP_GEMM_MC;
        for (int64_t j0 = 0; j0 < g->n; j0 += nb) {
            for (int64_t i0 = 0; i0 < g->m; i0 += mb) {
                struct super s = {
                    gemm, g, i0, min64(i0 + mb, g->m), j0, min64(j0 + nb, g->n), k0, k0 + k,
                    0,    0, 0};
                s.a_panels = (s.i1 - i0 + l->mr - 1) / l->mr;
                s.b_panels = i0 == 0 ? (s.j1 - j0 + l->nr - 1) / l->nr : 0;
                s.tile_cols = (s.j1 - j0 + DP_GEMM_NC - 1) / DP_GEMM_NC;
                size_t packs = (size_t)(s.a_panels + s.b_panels + PANELS_A_TASK - 1) /
                               PANELS_A_TASK;
                dp_pool_run(gemm->pool, packs, pack_task, &s);
                size_t tiles = (size_t)((s.i1 - i0 + DP_GEMM_MC - 1) / DP_GEMM_MC * s.tile_cols);
                dp_pool_run(gemm->pool, tiles, tile_task, &s);
            }
        }
        k0 += k;
    }
}

int dp_gemm_open(struct dp_gemm *g, struct dp_pool *pool, struct dp_err *e)
{
    *g = (struct dp_gemm){.level = dp_gemm_level(), .pool = pool};
    g->pack_a = dp_floats_alloc(DP_GEMM_PACK);
    g->pack_b = dp_floats_alloc(DP_GEMM_PACK);
    if (!g->pack_a || !g->pack_b) {
        dp_gemm_close(g);
        DP_FAIL(e, NOMEM, "cannot allocate %zu MiB of packing buffers for matrix products",
                (size_t)DP_GEMM_PACK * 2 * sizeof(float) >> 20);
    }
    DP_ASSERT(DP_GEMM_MC % g->level->mr == 0 && DP_GEMM_NC % g->level->nr == 0 &&
              g->level->mr * g->level->nr <= TILE_MAX);
    return DP_OK;
}

void dp_gemm_close(struct dp_gemm *g)
{
    free(g->pack_a);
    free(g->pack_b);
    g->pack_a = g->pack_b = NULL;
}

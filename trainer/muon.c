/* X and its products are [r, c] with r <= c. The polynomial's three terms become one matrix
 * (diagonal included), so that a round is three products; torch adds a X at the end of the third,
 * which differs by rounding alone. What isn't a product goes over tiles of rows of X. Of products a
 * round has 4 r^2 c + 2 r^3 operations: five of them cost about what a step of r..c tokens does in
 * this matrix, so Muon is dear for small batches and free for large ones. */
#include "trainer/muon.h"

#include "trainer/gemm.h"
#include "trainer/tensor_kernels.h"

#include <math.h>
#include <stdlib.h>

enum { ROUNDS = 5, ROWS_A_TASK = 8 };
static const float ns_a = 3.4445f, ns_b = -4.7750f, ns_c = 2.0315f;

struct dp_muon {
    struct dp_gemm gemm;
    float *x, *y, *gram, *poly;
    double *sums; /* one a row of X */
};

int dp_muon_open(struct dp_muon **out, int64_t elements, int64_t side, struct dp_err *e)
{
    *out = NULL;
    struct dp_muon *u = calloc(1, sizeof *u);
    if (!u) DP_FAIL(e, NOMEM, "muon");
    uint64_t n = (uint64_t)elements, s = (uint64_t)side * (uint64_t)side;
    u->x = dp_floats_alloc(n);
    u->y = dp_floats_alloc(n);
    u->gram = dp_floats_alloc(s);
    u->poly = dp_floats_alloc(s);
    u->sums = calloc((size_t)side, sizeof *u->sums);
    int rc = u->x && u->y && u->gram && u->poly && u->sums
                 ? dp_gemm_open(&u->gemm, NULL, e)
                 : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "muon: matrices of %lld elements",
                              (long long)elements);
    if (rc < 0) {
        dp_muon_close(u);
        return rc;
    }
    *out = u;
    return DP_OK;
}

void dp_muon_close(struct dp_muon *u)
{
    if (!u) return;
    dp_gemm_close(&u->gemm);
    free(u->x);
    free(u->y);
    free(u->gram);
    free(u->poly);
    free(u->sums);
    free(u);
}

struct job {
    struct dp_muon *u;
    const struct dp_muon_rates *r;
    int64_t rows, cols; /* of X */
    bool turned;        /* X is the update transposed */
    const float *g;
    float *w, *m, *x;
    float inverse, keep, rate;
};

/* Where element (i, j) of X lies in the tensor. */
static int64_t place(const struct job *j, int64_t row, int64_t col)
{
    return j->turned ? col * j->rows + row : row * j->cols + col;
}

#define EACH_ROW(j, task, row)                                                                     \
    for (int64_t row = (int64_t)(task) * ROWS_A_TASK,                                              \
                 end_ = row + ROWS_A_TASK < (j)->rows ? row + ROWS_A_TASK : (j)->rows;             \
         row < end_; row++)

static void momentum_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    struct job *j = ctx;
    float mix = (float)(1 - j->r->momentum), mu = (float)j->r->momentum;
    EACH_ROW (j, task, row) {
        float *x = j->x + row * j->cols;
        for (int64_t c = 0; c < j->cols; c++) {
            int64_t at = place(j, row, c);
            float g = j->g[at] * j->r->grad_scale, m = j->m[at] + (g - j->m[at]) * mix;
            j->m[at] = m;
            x[c] = j->r->nesterov ? g + (m - g) * mu : m;
        }
        j->u->sums[row] = dp_tensor_sum_squares(j->cols, x);
    }
}

static void scale_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    struct job *j = ctx;
    EACH_ROW (j, task, row)
        for (int64_t c = 0; c < j->cols; c++) j->x[row * j->cols + c] *= j->inverse;
}

static void poly_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    struct job *j = ctx;
    EACH_ROW (j, task, row) {
        float *p = j->u->poly + row * j->rows;
        const float *a = j->u->gram + row * j->rows;
        for (int64_t c = 0; c < j->rows; c++) p[c] = ns_b * a[c] + ns_c * p[c];
        p[row] += ns_a;
    }
}

static void update_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    struct job *j = ctx;
    EACH_ROW (j, task, row)
        for (int64_t c = 0; c < j->cols; c++) {
            float *w = j->w + place(j, row, c);
            *w = *w * j->keep - j->rate * j->x[row * j->cols + c];
        }
}

static void run(struct job *j, struct dp_pool *pool, dp_pool_fn fn)
{
    dp_pool_run(pool, (size_t)((j->rows + ROWS_A_TASK - 1) / ROWS_A_TASK), fn, j);
}

static void newton_schulz(struct job *j, struct dp_pool *pool)
{
    struct dp_muon *u = j->u;
    int64_t r = j->rows, c = j->cols;
    float *other = j->x == u->x ? u->y : u->x;
    for (int i = 0; i < ROUNDS; i++) {
        dp_gemm_run(&u->gemm, &(struct dp_gemm_args){.m = r, .n = r, .k = c, .a = j->x, .lda = c,
                                                     .b = j->x, .ldb = c, .tb = 1, .c = u->gram,
                                                     .ldc = r});
        dp_gemm_run(&u->gemm, &(struct dp_gemm_args){.m = r, .n = r, .k = r, .a = u->gram, .lda = r,
                                                     .b = u->gram, .ldb = r, .c = u->poly,
                                                     .ldc = r});
        run(j, pool, poly_task);
        dp_gemm_run(&u->gemm, &(struct dp_gemm_args){.m = r, .n = c, .k = r, .a = u->poly, .lda = r,
                                                     .b = j->x, .ldb = c, .c = other, .ldc = c});
        float *last = j->x;
        j->x = other;
        other = last;
    }
}

/* Products by the pool's threads, whose packing buffers come with it; where there is no memory for them, by one thread as before (the same bits). */
static void take_pool(struct dp_muon *u, struct dp_pool *pool)
{
    struct dp_gemm with;
    struct dp_err e;
    if (u->gemm.pool == pool || dp_gemm_open(&with, pool, &e) < 0) return;
    dp_gemm_close(&u->gemm);
    u->gemm = with;
}

void dp_muon_step(struct dp_muon *u, struct dp_pool *pool, const struct dp_muon_rates *r, int64_t rows,
                  int64_t cols, const float *g, float *w, float *m)
{
    bool turned = rows > cols;
    struct job j = {.u = u, .r = r, .rows = turned ? cols : rows, .cols = turned ? rows : cols,
                    .turned = turned, .g = g, .w = w, .m = m, .x = u->x};
    double sum = 0, shape = r->rms ? 0.2 * sqrt((double)(rows > cols ? rows : cols))
                                   : sqrt(turned ? (double)rows / (double)cols : 1);
    take_pool(u, pool);
    run(&j, pool, momentum_task);
    for (int64_t i = 0; i < j.rows; i++) sum += u->sums[i];
    double norm = sqrt(sum);
    j.inverse = (float)(1 / (norm > 1e-7 ? norm : 1e-7));
    run(&j, pool, scale_task);
    newton_schulz(&j, pool);
    j.keep = (float)(1 - r->lr * r->decay);
    j.rate = (float)(r->lr * shape);
    run(&j, pool, update_task);
}

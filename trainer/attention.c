/* One task is a (sequence, head) forward and a (sequence, kv head) backward, where dK and dV sum
 * over query blocks and over the group's heads in order: fixed order, no locks. Products are
 * dp_gemm_serial on strided views of qkv; a block of 64 rows needs keys only up to its last row, so
 * about half of the T x T products of an unmasked version are done. */
#include "trainer/attention.h"

#include <string.h>

enum { ROWS = DP_ATTENTION_ROWS };

struct job {
    const struct dp_attention *a;
    const float *qkv, *out, *lse, *dout;
    float *to, *to_lse;
};

uint64_t dp_attention_scratch(int64_t seq)
{
    uint64_t n = DP_GEMM_SCRATCH + 2 * (uint64_t)ROWS * (uint64_t)seq;
    return (n + 15) / 16 * 16;
}

static int64_t qkv_width(const struct dp_attention *a)
{
    return (a->heads + 2 * a->kv_heads) * a->head_dim;
}

static int64_t block_rows(const struct dp_attention *a, int64_t r0)
{
    return a->seq - r0 < ROWS ? a->seq - r0 : ROWS;
}

static void zero_future(float *s, int64_t rows, int64_t cols, int64_t r0)
{
    for (int64_t i = 0; i < rows; i++)
        if (r0 + i + 1 < cols)
            memset(s + i * cols + r0 + i + 1, 0, (size_t)(cols - (r0 + i + 1)) * sizeof *s);
}

/* to[rows][cols] = x y^T, rows of x ldx apart, those of y as in qkv. */
static void row_products(const struct dp_attention *a, float *pack, int64_t rows, int64_t cols,
                         const float *x, int64_t ldx, const float *y, float *to)
{
    dp_gemm_serial(a->gemm, pack,
                   &(struct dp_gemm_args){.m = rows,
                                          .n = cols,
                                          .k = a->head_dim,
                                          .a = x,
                                          .lda = ldx,
                                          .b = y,
                                          .ldb = qkv_width(a),
                                          .tb = 1,
                                          .c = to,
                                          .ldc = cols});
}

/* to[cols][head_dim] += s^T x, s[rows][cols], rows of x ldx apart, those of `to` as in qkv. */
static void add_transposed(const struct dp_attention *a, float *pack, int64_t rows, int64_t cols,
                           const float *s, const float *x, int64_t ldx, float *to)
{
    int64_t w = qkv_width(a);
    dp_gemm_serial(a->gemm, pack,
                   &(struct dp_gemm_args){.m = cols,
                                          .n = a->head_dim,
                                          .k = rows,
                                          .a = s,
                                          .lda = cols,
                                          .ta = 1,
                                          .b = x,
                                          .ldb = ldx,
                                          .c = to,
                                          .ldc = w,
                                          .base = to,
                                          .ldbase = w});
}

static void forward_task(void *ctx, size_t task, int worker)
{
    const struct job *j = ctx;
    const struct dp_attention *a = j->a;
    int64_t b = (int64_t)task / a->heads, h = (int64_t)task % a->heads,
            kvh = h / (a->heads / a->kv_heads);
    int64_t hd = a->head_dim, w = qkv_width(a), d = a->heads * hd;
    const float *q = j->qkv + b * a->seq * w + h * hd;
    const float *k = j->qkv + b * a->seq * w + (a->heads + kvh) * hd, *v = k + a->kv_heads * hd;
    float *out = j->to + b * a->seq * d + h * hd, *lse = j->to_lse + (b * a->heads + h) * a->seq;
    float *pack = a->scratch + (uint64_t)worker * dp_attention_scratch(a->seq),
          *s = pack + DP_GEMM_SCRATCH;
    float scale = a->scale;
    for (int64_t r0 = 0; r0 < a->seq; r0 += ROWS) {
        int64_t rows = block_rows(a, r0), cols = r0 + rows;
        row_products(a, pack, rows, cols, q + r0 * w, w, k, s);
        for (int64_t i = 0; i < rows; i++)
            lse[r0 + i] = a->ops->softmax(r0 + i + 1, scale, s + i * cols);
        zero_future(s, rows, cols, r0);
        dp_gemm_serial(a->gemm, pack,
                       &(struct dp_gemm_args){.m = rows,
                                              .n = hd,
                                              .k = cols,
                                              .a = s,
                                              .lda = cols,
                                              .b = v,
                                              .ldb = w,
                                              .c = out + r0 * d,
                                              .ldc = d});
    }
}

void dp_attention_forward(const struct dp_attention *a, const float *qkv, float *out, float *lse)
{
    struct job j = {.a = a, .qkv = qkv, .to = out, .to_lse = lse};
    dp_pool_run(a->pool, (size_t)(a->batch * a->heads), forward_task, &j);
}

/* Query rows [r0, r0+rows) of head h: their dQ, and their part of dK and dV. */
static void backward_block(const struct job *j, int64_t b, int64_t h, int64_t r0, float *pack)
{
    const struct dp_attention *a = j->a;
    int64_t hd = a->head_dim, w = qkv_width(a), d = a->heads * hd,
            kvh = h / (a->heads / a->kv_heads);
    int64_t rows = block_rows(a, r0), cols = r0 + rows, at = b * a->seq * w;
    int64_t qo = at + h * hd + r0 * w, ko = at + (a->heads + kvh) * hd, vo = ko + a->kv_heads * hd;
    const float *q = j->qkv + qo, *k = j->qkv + ko, *v = j->qkv + vo;
    const float *o = j->out + (b * a->seq + r0) * d + h * hd,
                *dout = j->dout + (b * a->seq + r0) * d + h * hd;
    const float *lse = j->lse + (b * a->heads + h) * a->seq + r0;
    float *s = pack + DP_GEMM_SCRATCH, *ds = s + (uint64_t)ROWS * (uint64_t)a->seq;
    float scale = a->scale;
    row_products(a, pack, rows, cols, q, w, k, s);
    row_products(a, pack, rows, cols, dout, d, v, ds);
    for (int64_t i = 0; i < rows; i++) {
        float delta = a->ops->dot(hd, dout + i * d, o + i * d);
        a->ops->softmax_bwd(r0 + i + 1, scale, lse[i], delta, s + i * cols, ds + i * cols);
    }
    zero_future(s, rows, cols, r0);
    zero_future(ds, rows, cols, r0);
    float *dq = j->to + qo, *dk = j->to + ko, *dv = j->to + vo;
    dp_gemm_serial(a->gemm, pack,
                   &(struct dp_gemm_args){.m = rows,
                                          .n = hd,
                                          .k = cols,
                                          .a = ds,
                                          .lda = cols,
                                          .b = k,
                                          .ldb = w,
                                          .c = dq,
                                          .ldc = w});
    add_transposed(a, pack, rows, cols, ds, q, w, dk);
    add_transposed(a, pack, rows, cols, s, dout, d, dv);
}

static void backward_task(void *ctx, size_t task, int worker)
{
    const struct job *j = ctx;
    const struct dp_attention *a = j->a;
    int64_t b = (int64_t)task / a->kv_heads, kvh = (int64_t)task % a->kv_heads,
            group = a->heads / a->kv_heads;
    int64_t hd = a->head_dim, w = qkv_width(a);
    float *pack = a->scratch + (uint64_t)worker * dp_attention_scratch(a->seq);
    for (int64_t t = 0; t < a->seq; t++) {
        float *dk = j->to + (b * a->seq + t) * w + (a->heads + kvh) * hd;
        memset(dk, 0, (size_t)hd * sizeof *dk);
        memset(dk + a->kv_heads * hd, 0, (size_t)hd * sizeof *dk);
    }
    for (int64_t h = kvh * group; h < (kvh + 1) * group; h++)
        for (int64_t r0 = 0; r0 < a->seq; r0 += ROWS) backward_block(j, b, h, r0, pack);
}

void dp_attention_backward(const struct dp_attention *a, const float *qkv, const float *out,
                           const float *lse, const float *dout, float *dqkv)
{
    struct job j = {.a = a, .qkv = qkv, .out = out, .lse = lse, .dout = dout, .to = dqkv};
    dp_pool_run(a->pool, (size_t)(a->batch * a->kv_heads), backward_task, &j);
}

/* One task is a (sequence, head) forward and a (sequence, kv head) backward, where dK and dV sum
 * over query blocks and over the group's heads in order: fixed order, no locks. Products are
 * dp_gemm_serial on strided views of qkv; a block of 64 rows needs keys only up to its last row, so
 * about half of the T x T products of an unmasked version are done. Documents of a sequence are taken
 * one after the other, each with its own blocks. A document of one token has a constant for its
 * softmax: its q and k get a gradient of exactly 0, as they would not from rounded exponentials. */
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

/* A document: tokens [start, start + n) of sequence b, and one head's view of it. */
struct part {
    int64_t b, h, start, n;
};

static int64_t document_length(const struct dp_attention *a, int64_t b, int64_t start)
{
    if (!a->positions) return a->seq;
    int64_t end = start + 1;
    while (end < a->seq && a->positions[b * a->seq + end] != 0) end++;
    return end - start;
}

static int64_t block_rows(const struct part *p, int64_t r0)
{
    return p->n - r0 < ROWS ? p->n - r0 : ROWS;
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

static void forward_document(const struct job *j, const struct part *p, float *pack)
{
    const struct dp_attention *a = j->a;
    int64_t hd = a->head_dim, w = qkv_width(a), d = a->heads * hd, at = p->b * a->seq + p->start;
    int64_t kvh = p->h / (a->heads / a->kv_heads);
    const float *q = j->qkv + at * w + p->h * hd;
    const float *k = j->qkv + at * w + (a->heads + kvh) * hd, *v = k + a->kv_heads * hd;
    float *out = j->to + at * d + p->h * hd;
    float *lse = j->to_lse + (p->b * a->heads + p->h) * a->seq + p->start;
    float *s = pack + DP_GEMM_SCRATCH;
    if (p->n == 1) {
        lse[0] = a->scale * a->ops->dot(hd, q, k);
        memcpy(out, v, (size_t)hd * sizeof *out);
        return;
    }
    for (int64_t r0 = 0; r0 < p->n; r0 += ROWS) {
        int64_t rows = block_rows(p, r0), cols = r0 + rows;
        row_products(a, pack, rows, cols, q + r0 * w, w, k, s);
        for (int64_t i = 0; i < rows; i++)
            lse[r0 + i] = a->ops->softmax(r0 + i + 1, a->scale, s + i * cols);
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

static void forward_task(void *ctx, size_t task, int worker)
{
    const struct job *j = ctx;
    const struct dp_attention *a = j->a;
    struct part p = {.b = (int64_t)task / a->heads, .h = (int64_t)task % a->heads};
    float *pack = a->scratch + (uint64_t)worker * dp_attention_scratch(a->seq);
    for (; p.start < a->seq; p.start += p.n) {
        p.n = document_length(a, p.b, p.start);
        forward_document(j, &p, pack);
    }
}

void dp_attention_forward(const struct dp_attention *a, const float *qkv, float *out, float *lse)
{
    struct job j = {.a = a, .qkv = qkv, .to = out, .to_lse = lse};
    dp_pool_run(a->pool, (size_t)(a->batch * a->heads), forward_task, &j);
}

/* Query rows [r0, r0+rows) of a document: their dQ, and their part of dK and dV. */
static void backward_block(const struct job *j, const struct part *p, int64_t r0, float *pack)
{
    const struct dp_attention *a = j->a;
    int64_t hd = a->head_dim, w = qkv_width(a), d = a->heads * hd,
            kvh = p->h / (a->heads / a->kv_heads);
    int64_t rows = block_rows(p, r0), cols = r0 + rows, first = p->b * a->seq + p->start;
    int64_t qo = (first + r0) * w + p->h * hd, ko = first * w + (a->heads + kvh) * hd,
            vo = ko + a->kv_heads * hd;
    const float *q = j->qkv + qo, *k = j->qkv + ko, *v = j->qkv + vo;
    const float *o = j->out + (first + r0) * d + p->h * hd,
                *dout = j->dout + (first + r0) * d + p->h * hd;
    const float *lse = j->lse + (p->b * a->heads + p->h) * a->seq + p->start + r0;
    float *dq = j->to + qo, *dk = j->to + ko, *dv = j->to + vo;
    if (p->n == 1) {
        memset(dq, 0, (size_t)hd * sizeof *dq);
        a->ops->axpy(hd, 1.0f, dout, dv);
        return;
    }
    float *s = pack + DP_GEMM_SCRATCH, *ds = s + (uint64_t)ROWS * (uint64_t)a->seq;
    row_products(a, pack, rows, cols, q, w, k, s);
    row_products(a, pack, rows, cols, dout, d, v, ds);
    for (int64_t i = 0; i < rows; i++) {
        float delta = a->ops->dot(hd, dout + i * d, o + i * d);
        a->ops->softmax_bwd(r0 + i + 1, a->scale, lse[i], delta, s + i * cols, ds + i * cols);
    }
    zero_future(s, rows, cols, r0);
    zero_future(ds, rows, cols, r0);
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
    for (struct part p = {.b = b}; p.start < a->seq; p.start += p.n) {
        p.n = document_length(a, b, p.start);
        for (p.h = kvh * group; p.h < (kvh + 1) * group; p.h++)
            for (int64_t r0 = 0; r0 < p.n; r0 += ROWS) backward_block(j, &p, r0, pack);
    }
}

void dp_attention_backward(const struct dp_attention *a, const float *qkv, const float *out,
                           const float *lse, const float *dout, float *dqkv)
{
    struct job j = {.a = a, .qkv = qkv, .out = out, .lse = lse, .dout = dout, .to = dqkv};
    dp_pool_run(a->pool, (size_t)(a->batch * a->kv_heads), backward_task, &j);
}

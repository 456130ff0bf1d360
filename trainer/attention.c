/* One task is a (sequence, head) forward and a (sequence, kv head) backward, where dK and dV sum
 * over query blocks and over the group's heads in order: fixed order, no locks. Products are
 * dp_gemm_serial on strided views of qkv; a block of rows needs keys only up to its last row, so
 * about half of the T x T products of an unmasked version are done. Documents of a sequence are taken
 * one after the other, each with its own blocks. A document of one token has a constant for its
 * softmax: its q and k get a gradient of exactly 0, as they would not from rounded exponentials. */
#include "trainer/attention.h"

#include <string.h>

enum { ROWS = 64, ROWS_LONG = 128, LONG = 512, KEYS = 512 };

struct job {
    const struct dp_attention *a;
    const float *qkv, *out, *lse, *dout;
    float *to, *to_lse;
};

/* Query rows of a block: more of them use a packed key more often, and fewer see less of the future. */
static int64_t most_rows(int64_t n)
{
    return n <= LONG ? ROWS : ROWS_LONG;
}

uint64_t dp_attention_scratch(int64_t seq)
{
    int64_t rows = most_rows(seq), keys = seq < KEYS ? seq : KEYS, forward = rows * seq, backward = 2 * rows * keys;
    return (DP_GEMM_SCRATCH + (uint64_t)(forward > backward ? forward : backward) + 15) / 16 * 16;
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
    int64_t most = most_rows(p->n);
    return p->n - r0 < most ? p->n - r0 : most;
}

/* Columns that row i may see, where row 0 sees `first` and there are `cols`. */
static int64_t seen(int64_t first, int64_t i, int64_t cols)
{
    return first + i < cols ? first + i : cols;
}

static void zero_future(float *s, int64_t rows, int64_t cols, int64_t first)
{
    for (int64_t i = 0; i < rows; i++) {
        int64_t n = seen(first, i, cols);
        memset(s + i * cols + n, 0, (size_t)(cols - n) * sizeof *s);
    }
}

/* to[rows][cols] = x y^T, rows of x ldx apart, those of y as in qkv. */
static void row_products(const struct dp_attention *a, float *pack, int64_t rows, int64_t cols,
                         const float *x, int64_t ldx, const float *y, float *to)
{
    dp_gemm_serial(a->gemm, pack,
                   &(struct dp_gemm_args){.bf16 = a->bf16,
                                          .m = rows,
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
                   &(struct dp_gemm_args){.bf16 = a->bf16,
                                          .m = cols,
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
    for (int64_t r0 = 0, rows; r0 < p->n; r0 += rows) {
        rows = block_rows(p, r0);
        int64_t cols = r0 + rows;
        row_products(a, pack, rows, cols, q + r0 * w, w, k, s);
        for (int64_t i = 0; i < rows; i++)
            lse[r0 + i] = a->ops->softmax(r0 + i + 1, a->scale, s + i * cols);
        zero_future(s, rows, cols, r0 + 1);
        dp_gemm_serial(a->gemm, pack,
                       &(struct dp_gemm_args){.bf16 = a->bf16,
                                              .m = rows,
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

/* Query rows [r0, r0+rows) of a document with keys [c0, c0+cols), KEYS at most: their parts of dQ, dK and dV. A tile of
 * scores and one of their gradients stay in the processor's second cache, however long the document is. KEYS is a
 * multiple of both blocks of k in gemm.h, so dQ's bits are those of one product over all keys. */
struct tile {
    int64_t r0, rows, c0, cols;
    float delta[ROWS_LONG];
};

static void backward_tile(const struct job *j, const struct part *p, const struct tile *t, float *pack)
{
    const struct dp_attention *a = j->a;
    int64_t hd = a->head_dim, w = qkv_width(a), d = a->heads * hd, rows = t->rows, cols = t->cols,
            kvh = p->h / (a->heads / a->kv_heads), first = p->b * a->seq + p->start;
    int64_t qo = (first + t->r0) * w + p->h * hd, ko = (first + t->c0) * w + (a->heads + kvh) * hd,
            vo = ko + a->kv_heads * hd;
    const float *q = j->qkv + qo, *k = j->qkv + ko, *v = j->qkv + vo;
    const float *dout = j->dout + (first + t->r0) * d + p->h * hd;
    const float *lse = j->lse + (p->b * a->heads + p->h) * a->seq + p->start + t->r0;
    float *dq = j->to + qo, *s = pack + DP_GEMM_SCRATCH, *ds = s + rows * cols;
    row_products(a, pack, rows, cols, q, w, k, s);
    row_products(a, pack, rows, cols, dout, d, v, ds);
    int64_t sees = t->r0 - t->c0 + 1;
    for (int64_t i = 0; i < rows; i++)
        a->ops->softmax_bwd(seen(sees, i, cols), a->scale, lse[i], t->delta[i], s + i * cols, ds + i * cols);
    zero_future(s, rows, cols, sees);
    zero_future(ds, rows, cols, sees);
    dp_gemm_serial(a->gemm, pack,
                   &(struct dp_gemm_args){.bf16 = a->bf16,
                                          .m = rows,
                                          .n = hd,
                                          .k = cols,
                                          .a = ds,
                                          .lda = cols,
                                          .b = k,
                                          .ldb = w,
                                          .c = dq,
                                          .ldc = w,
                                          .base = t->c0 ? dq : NULL,
                                          .ldbase = w});
    add_transposed(a, pack, rows, cols, ds, q, w, j->to + ko);
    add_transposed(a, pack, rows, cols, s, dout, d, j->to + vo);
}

/* One document, one query head. */
static void backward_document(const struct job *j, const struct part *p, float *pack)
{
    const struct dp_attention *a = j->a;
    int64_t hd = a->head_dim, w = qkv_width(a), d = a->heads * hd, first = p->b * a->seq + p->start;
    if (p->n == 1) {
        int64_t v = first * w + (a->heads + a->kv_heads + p->h / (a->heads / a->kv_heads)) * hd;
        memset(j->to + first * w + p->h * hd, 0, (size_t)hd * sizeof *j->to);
        a->ops->axpy(hd, 1.0f, j->dout + first * d + p->h * hd, j->to + v);
        return;
    }
    for (struct tile t = {0}; t.r0 < p->n; t.r0 += t.rows) {
        t.rows = block_rows(p, t.r0);
        for (int64_t i = 0; i < t.rows; i++) {
            int64_t at = (first + t.r0 + i) * d + p->h * hd;
            t.delta[i] = a->ops->dot(hd, j->dout + at, j->out + at);
        }
        int64_t end = t.r0 + t.rows;
        for (t.c0 = 0; t.c0 < end; t.c0 += KEYS) {
            t.cols = end - t.c0 < KEYS ? end - t.c0 : KEYS;
            backward_tile(j, p, &t, pack);
        }
    }
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
        for (p.h = kvh * group; p.h < (kvh + 1) * group; p.h++) backward_document(j, &p, pack);
    }
}

void dp_attention_backward(const struct dp_attention *a, const float *qkv, const float *out,
                           const float *lse, const float *dout, float *dqkv)
{
    struct job j = {.a = a, .qkv = qkv, .out = out, .lse = lse, .dout = dout, .to = dqkv};
    dp_pool_run(a->pool, (size_t)(a->batch * a->kv_heads), backward_task, &j);
}

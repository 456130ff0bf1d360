/* The forward and backward pass, written out.
 *
 * Products are dp_gemm_run over the whole batch; what is not a product runs over tiles of rows, or
 * of columns where a sum goes over tokens (bias, norm and embedding gradients), so that each sum
 * belongs to one task and has one order. The classifier goes through `chunk` rows of logits at a
 * time, a multiple of DP_GEMM_KC: its weight gradient then adds the same blocks whatever the chunk.
 * Activations are kept for the backward pass except the attention scores.
 *
 * Must agree with PyTorch on ../data/trainer's vectors (dp_trainer_verify) and with the
 * double-precision model in tests/unit/test_model.c, which shares no code with this one. */
#include "trainer/model.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_A_TASK = 8, COLS_A_TASK = 64, CHUNK_FLOATS = 4 << 20 };

static const char *const part_names[] = {
#define PART_NAME(id, name) #name,
    DP_MODEL_PARTS(PART_NAME)
#undef PART_NAME
};

const char *dp_model_part_name(enum dp_model_part part)
{
    return part_names[part];
}

void dp_model_lap_start(struct dp_model *m)
{
    m->lap = dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
}

void dp_model_lap(struct dp_model *m, enum dp_model_part part)
{
    double now = dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    m->seconds[part] += now - m->lap;
    m->lap = now;
}

/* One elementwise or reducing job over rows or columns; each function reads the members it knows.
 */
struct job {
    struct dp_model *m;
    int64_t rows, width, ld, ld2;
    const float *x, *w, *b, *stat, *dout;
    float *out, *stat_out, *dx, *dw, *db;
    float scale;
};

static void run_rows(struct job *j, dp_pool_fn fn)
{
    dp_pool_run(j->m->pool, (size_t)((j->rows + ROWS_A_TASK - 1) / ROWS_A_TASK), fn, j);
}

static void run_cols(struct job *j, dp_pool_fn fn)
{
    dp_pool_run(j->m->pool, (size_t)((j->width + COLS_A_TASK - 1) / COLS_A_TASK), fn, j);
}

#define EACH_ROW(r)                                                                                \
    for (int64_t r = (int64_t)task * ROWS_A_TASK,                                                  \
                 end_ = r + ROWS_A_TASK < j->rows ? r + ROWS_A_TASK : j->rows;                     \
         r < end_; r++)
#define TASK                                                                                       \
    struct job *j = ctx;                                                                           \
    const struct dp_tensor_level *ops = j->m->ops;                                                 \
    (void)worker;                                                                                  \
    (void)ops
#define TASK_COLS                                                                                  \
    int64_t c0 = (int64_t)task * COLS_A_TASK,                                                      \
            n = j->width - c0 < COLS_A_TASK ? j->width - c0 : COLS_A_TASK

static void norm_task(void *ctx, size_t task, int worker)
{
    TASK;
    EACH_ROW (r)
        ops->norm_fwd(j->width, j->x + r * j->width, j->w, j->b, j->scale, j->out + r * j->width,
                      j->stat_out + 2 * r);
}

static void norm_bwd_task(void *ctx, size_t task, int worker)
{
    TASK;
    EACH_ROW (r)
        ops->norm_bwd(j->width, j->x + r * j->width, j->w, !j->b, j->stat + 2 * r,
                      j->dout + r * j->width, j->dx + r * j->width);
}

static void norm_weights_task(void *ctx, size_t task, int worker)
{
    TASK;
    TASK_COLS;
    ops->norm_bwd_weights(j->rows, c0, n, j->width, j->x, j->stat, j->dout, j->dw, j->db);
}

static void col_sum_task(void *ctx, size_t task, int worker)
{
    TASK;
    TASK_COLS;
    ops->col_sum(j->rows, c0, n, j->width, j->x, j->dw);
}

static void act_task(void *ctx, size_t task, int worker)
{
    TASK;
    int64_t f = j->width;
    EACH_ROW (r) {
        if (j->m->c.arch == DP_ARCH_GPT2) ops->gelu_fwd(f, j->x + r * f, j->out + r * f);
        else ops->swiglu_fwd(f, j->x + 2 * r * f, j->x + 2 * r * f + f, j->out + r * f);
    }
}

static void act_bwd_task(void *ctx, size_t task, int worker)
{
    TASK;
    int64_t f = j->width;
    EACH_ROW (r) {
        const float *d = j->dout + r * f, *x = j->x + r * f;
        if (j->m->c.arch == DP_ARCH_GPT2) ops->gelu_bwd(f, x, d, j->dx + r * f);
        else
            ops->swiglu_bwd(f, x + r * f, x + r * f + f, d, j->dx + 2 * r * f,
                            j->dx + 2 * r * f + f);
    }
}

/* Which position row r stands for. */
static int64_t position(const struct dp_model *m, int64_t r)
{
    return m->restart ? m->positions[r] : r % m->c.seq_len;
}

/* Rotate q and k of each row; scale is the sign. */
static void rope_task(void *ctx, size_t task, int worker)
{
    TASK;
    const struct dp_model_config *c = &j->m->c;
    int64_t hd = dp_model_head_dim(c), half = hd / 2;
    EACH_ROW (r) {
        int64_t at = position(j->m, r) * half;
        const float *cosv = j->m->rope_cos + at, *sinv = j->m->rope_sin + at;
        for (int64_t h = 0; h < c->heads + c->kv_heads; h++)
            ops->rope(half, cosv, sinv, j->scale, j->out + r * j->width + h * hd);
    }
}

/* x = qkv as the product gave it, out = qkv with q and k normed; w, b: weights of q and k. stat_out:
 * by head, then row, so that norm_bwd_weights finds a head's rows together. */
static void qk_norm_task(void *ctx, size_t task, int worker)
{
    TASK;
    const struct dp_model_config *c = &j->m->c;
    int64_t hd = dp_model_head_dim(c), qk = c->heads + c->kv_heads;
    EACH_ROW (r) {
        const float *x = j->x + r * j->width;
        float *out = j->out + r * j->width;
        for (int64_t h = 0; h < qk; h++)
            ops->norm_fwd(hd, x + h * hd, h < c->heads ? j->w : j->b, NULL, j->scale, out + h * hd,
                          j->stat_out + 2 * (h * j->rows + r));
        memcpy(out + qk * hd, x + qk * hd, (size_t)(c->kv_heads * hd) * sizeof *out);
    }
}

/* Columns of both weights' gradients: head after head, row after row. */
static void qk_norm_weights_task(void *ctx, size_t task, int worker)
{
    TASK;
    const struct dp_model_config *c = &j->m->c;
    int64_t hd = dp_model_head_dim(c), c0 = (int64_t)task * COLS_A_TASK,
            n = hd - c0 < COLS_A_TASK ? hd - c0 : COLS_A_TASK;
    for (int64_t h = 0; h < c->heads + c->kv_heads; h++)
        ops->norm_bwd_weights(j->rows, c0, n, j->ld, j->x + h * hd, j->stat + 2 * h * j->rows,
                              j->dout + h * hd, h < c->heads ? j->dw : j->db, NULL);
}

/* The gradient dx of normed q and k becomes that of what went into the norm. */
static void qk_norm_bwd_task(void *ctx, size_t task, int worker)
{
    TASK;
    const struct dp_model_config *c = &j->m->c;
    int64_t hd = dp_model_head_dim(c);
    float *dout = j->m->head_scratch + (int64_t)worker * hd;
    EACH_ROW (r) {
        for (int64_t h = 0; h < c->heads + c->kv_heads; h++) {
            float *dx = j->dx + r * j->width + h * hd;
            memcpy(dout, dx, (size_t)hd * sizeof *dx);
            memset(dx, 0, (size_t)hd * sizeof *dx);
            ops->norm_bwd(hd, j->x + r * j->width + h * hd, h < c->heads ? j->w : j->b, 1,
                          j->stat + 2 * (h * j->rows + r), dout, dx);
        }
    }
}

static void embed_task(void *ctx, size_t task, int worker)
{
    TASK;
    int64_t d = j->width;
    EACH_ROW (r) {
        memcpy(j->out + r * d, j->x + j->m->tokens[r] * d, (size_t)d * sizeof(float));
        if (j->w) ops->axpy(d, 1.0f, j->w + position(j->m, r) * d, j->out + r * d);
    }
}

/* A task owns columns of both tables and goes through all tokens, so that equal tokens add in
 * order. */
static void embed_bwd_task(void *ctx, size_t task, int worker)
{
    TASK;
    TASK_COLS;
    int64_t d = j->width;
    for (int64_t r = 0; r < j->rows; r++) {
        const float *dx = j->x + r * d + c0;
        ops->axpy(n, 1.0f, dx, j->dw + j->m->tokens[r] * d + c0);
        if (j->db) ops->axpy(n, 1.0f, dx, j->db + position(j->m, r) * d + c0);
    }
}

/* Rows of a chunk of logits: width = vocab, ld = index of the chunk's first row. */
static void loss_task(void *ctx, size_t task, int worker)
{
    TASK;
    EACH_ROW (r) {
        int32_t target = j->m->targets[j->ld + r];
        float *row = j->out + r * j->width;
        float z = j->scale != 0 ? (float)j->m->regime.z_loss : 0, lse = 0;
        if (target >= 0)
            j->m->losses[j->ld + r] = ops->cross_entropy(j->width, row, target, j->scale, z, &lse);
        else {
            j->m->losses[j->ld + r] = 0;
            memset(row, 0, (size_t)j->width * sizeof *row);
        }
        j->m->z_losses[j->ld + r] = z * lse * lse;
    }
}

/* Numbers of the places where dropout is. */
enum { SITE_EMBED = 0 };

static int64_t site_attention(const struct dp_model *m, const struct dp_layer_params *p)
{
    return 1 + 2 * (p - m->layout.layer);
}

static int64_t site_ffn(const struct dp_model *m, const struct dp_layer_params *p)
{
    return 2 + 2 * (p - m->layout.layer);
}

/* out = (base +) x kept or dropped; w: base, ld: site. */
static void dropout_task(void *ctx, size_t task, int worker)
{
    TASK;
    const struct dp_model *m = j->m;
    struct dp_dropout d = {j->ld ? m->regime.dropout_residual : m->regime.dropout_embed,
                           m->regime.seed};
    uint64_t first = m->sequence * (uint64_t)m->c.seq_len;
    EACH_ROW (r)
        dp_dropout_row(&d, (uint64_t)j->ld, first + (uint64_t)r, j->width,
                       j->w ? j->w + r * j->width : NULL, j->x + r * j->width,
                       j->out + r * j->width);
}

static void dropout(struct dp_model *m, int64_t site, const float *base, const float *x, float *out)
{
    struct job j = {.m = m,
                    .rows = m->rows,
                    .width = m->c.dim,
                    .ld = site,
                    .x = x,
                    .w = base,
                    .out = out};
    run_rows(&j, dropout_task);
}

static bool drops(const struct dp_model *m, double p)
{
    return m->training && p > 0;
}

/* The gradient dx of the stream becomes that of what was added to it through a dropout. */
static const float *before_dropout(struct dp_model *m, int64_t site)
{
    if (!drops(m, m->regime.dropout_residual)) return m->dx;
    dropout(m, site, NULL, m->dx, m->dropped);
    return m->dropped;
}

static const float *param(const struct dp_model *m, uint64_t offset)
{
    return offset == DP_NO_PARAM ? NULL : m->p + offset;
}

static float *grad(const struct dp_model *m, uint64_t offset)
{
    return offset == DP_NO_PARAM ? NULL : m->g + offset;
}

static void product(struct dp_model *m, struct dp_gemm_args args)
{
    args.bf16 = m->c.dtype == DP_BF16;
    dp_gemm_run(&m->gemm, &args);
}

/* y[rows,out] = x[rows,in] W^T + b (+ residual) */
static void linear(struct dp_model *m, const float *x, int64_t in, uint64_t w, uint64_t b,
                   const float *residual, float *y, int64_t out)
{
    product(m, (struct dp_gemm_args){.m = m->rows,
                                     .n = out,
                                     .k = in,
                                     .a = x,
                                     .lda = in,
                                     .b = m->p + w,
                                     .ldb = in,
                                     .tb = 1,
                                     .c = y,
                                     .ldc = out,
                                     .base = residual,
                                     .ldbase = out,
                                     .bias = param(m, b)});
    dp_model_lap(m, DP_PART_PRODUCTS);
}

/* dW += dy^T x, or = in the first pass of an update */
static void add_weight_gradient(struct dp_model *m, const float *x, int64_t in, uint64_t w, const float *dy,
                                int64_t out)
{
    float *dw = m->g + w;
    product(m, (struct dp_gemm_args){.m = out,
                                     .n = in,
                                     .k = m->rows,
                                     .a = dy,
                                     .lda = out,
                                     .ta = 1,
                                     .b = x,
                                     .ldb = in,
                                     .c = dw,
                                     .ldc = in,
                                     .base = m->fresh ? NULL : dw,
                                     .ldbase = in});
}

/* dW += dy^T x; db += column sums of dy; dx = dy W, which may take x's place. */
static void linear_bwd(struct dp_model *m, const float *x, int64_t in, uint64_t w, uint64_t b, const float *dy,
                       int64_t out, float *dx)
{
    add_weight_gradient(m, x, in, w, dy, out);
    product(m, (struct dp_gemm_args){
                   .m = m->rows, .n = in, .k = out, .a = dy, .lda = out, .b = m->p + w, .ldb = in, .c = dx, .ldc = in});
    dp_model_lap(m, DP_PART_PRODUCTS_BWD);
    struct job j = {.m = m, .rows = m->rows, .width = out, .x = dy, .dw = grad(m, b)};
    if (j.dw) run_cols(&j, col_sum_task);
    dp_model_lap(m, DP_PART_SUMS);
}

/* y = residual + (x W^T + b), the product through a dropout when there is one. */
static void add_linear(struct dp_model *m, const float *x, int64_t in, uint64_t w, uint64_t b,
                       const float *residual, float *y, int64_t site)
{
    bool drop = drops(m, m->regime.dropout_residual);
    linear(m, x, in, w, b, drop ? NULL : residual, y, m->c.dim);
    if (drop) dropout(m, site, residual, y, y);
}

static void norm(struct dp_model *m, const float *x, uint64_t w, uint64_t b, float *out,
                 float *stat)
{
    struct job j = {.m = m,
                    .rows = m->rows,
                    .width = m->c.dim,
                    .x = x,
                    .w = m->p + w,
                    .b = param(m, b),
                    .out = out,
                    .stat_out = stat,
                    .scale = dp_model_norm_eps(&m->c)};
    run_rows(&j, norm_task);
    dp_model_lap(m, DP_PART_NORM);
}

/* dx += gradient through the norm */
static void norm_backward(struct dp_model *m, const float *x, uint64_t w, uint64_t b,
                          const float *stat, const float *dout, float *dx)
{
    struct job j = {.m = m,
                    .rows = m->rows,
                    .width = m->c.dim,
                    .x = x,
                    .w = m->p + w,
                    .b = param(m, b),
                    .stat = stat,
                    .dout = dout,
                    .dx = dx,
                    .dw = m->g + w,
                    .db = grad(m, b)};
    run_rows(&j, norm_bwd_task);
    run_cols(&j, norm_weights_task);
    dp_model_lap(m, DP_PART_NORM);
}

static int64_t in_width(const struct dp_model_config *c)
{
    return c->arch == DP_ARCH_LLAMA ? 2 * c->ffn : c->ffn;
}

static void rotate(struct dp_model *m, float *qkv, float sign)
{
    if (m->c.arch != DP_ARCH_LLAMA) return;
    struct job j = {.m = m, .rows = m->rows, .width = dp_model_qkv_width(&m->c), .out = qkv, .scale = sign};
    run_rows(&j, rope_task);
}

static void qk_norm(struct dp_model *m, const struct dp_layer_params *p,
                    const struct dp_layer_acts *a)
{
    if (!m->c.qk_norm) return;
    struct job j = {.m = m,
                    .rows = m->rows,
                    .width = dp_model_qkv_width(&m->c),
                    .x = a->qkv_raw,
                    .w = m->p + p->q_norm_w,
                    .b = m->p + p->k_norm_w,
                    .out = a->qkv,
                    .stat_out = a->qk_stat,
                    .scale = dp_model_norm_eps(&m->c)};
    run_rows(&j, qk_norm_task);
}

static void qk_norm_backward(struct dp_model *m, const struct dp_layer_params *p,
                             const struct dp_layer_acts *a)
{
    if (!m->c.qk_norm) return;
    int64_t w = dp_model_qkv_width(&m->c);
    struct job j = {.m = m,
                    .rows = m->rows,
                    .width = dp_model_head_dim(&m->c),
                    .ld = w,
                    .x = a->qkv_raw,
                    .w = m->p + p->q_norm_w,
                    .b = m->p + p->k_norm_w,
                    .stat = a->qk_stat,
                    .dout = m->wide,
                    .dx = m->wide,
                    .dw = m->g + p->q_norm_w,
                    .db = m->g + p->k_norm_w};
    run_cols(&j, qk_norm_weights_task);
    j.width = w;
    run_rows(&j, qk_norm_bwd_task);
}

static void activate(struct dp_model *m, const struct dp_layer_acts *a)
{
    struct job j = {.m = m, .rows = m->rows, .width = m->c.ffn, .x = a->pre, .out = m->wide};
    run_rows(&j, act_task);
    dp_model_lap(m, DP_PART_ACT);
}

static void forward_layer(struct dp_model *m, const struct dp_layer_params *p,
                          const struct dp_layer_acts *a, float *out)
{
    int64_t d = m->c.dim, f = m->c.ffn;
    norm(m, a->x, p->norm1_w, p->norm1_b, m->narrow, a->stat1);
    linear(m, m->narrow, d, p->qkv_w, p->qkv_b, NULL, m->c.qk_norm ? a->qkv_raw : a->qkv, dp_model_qkv_width(&m->c));
    qk_norm(m, p, a);
    rotate(m, a->qkv, 1);
    dp_attention_forward(&m->attention, a->qkv, a->att, a->lse);
    dp_model_lap(m, DP_PART_ATTENTION);
    add_linear(m, a->att, dp_model_q_width(&m->c), p->proj_w, p->proj_b, a->x, a->x2, site_attention(m, p));
    norm(m, a->x2, p->norm2_w, p->norm2_b, m->narrow, a->stat2);
    linear(m, m->narrow, d, p->in_w, p->in_b, NULL, a->pre, in_width(&m->c));
    activate(m, a);
    add_linear(m, m->wide, f, p->out_w, p->out_b, a->x2, out, site_ffn(m, p));
}

/* m->dx: gradient of the layer's output on entry, of its input on return. What norms and the
 * activation gave is computed again: it's cheap, and a third of the memory. a->pre becomes its own
 * gradient. */
static void backward_layer(struct dp_model *m, const struct dp_layer_params *p,
                           const struct dp_layer_acts *a)
{
    int64_t d = m->c.dim, f = m->c.ffn;
    activate(m, a);
    linear_bwd(m, m->wide, f, p->out_w, p->out_b, before_dropout(m, site_ffn(m, p)), d, m->wide);
    struct job j = {.m = m, .rows = m->rows, .width = f, .x = a->pre, .dout = m->wide, .dx = a->pre};
    run_rows(&j, act_bwd_task);
    dp_model_lap(m, DP_PART_ACT);
    norm(m, a->x2, p->norm2_w, p->norm2_b, m->narrow, a->stat2);
    linear_bwd(m, m->narrow, d, p->in_w, p->in_b, a->pre, in_width(&m->c), m->dsmall);
    norm_backward(m, a->x2, p->norm2_w, p->norm2_b, a->stat2, m->dsmall, m->dx);
    linear_bwd(m, a->att, dp_model_q_width(&m->c), p->proj_w, p->proj_b,
               before_dropout(m, site_attention(m, p)), d, m->dsmall);
    dp_attention_backward(&m->attention, a->qkv, a->att, a->lse, m->dsmall, m->wide);
    rotate(m, m->wide, -1);
    qk_norm_backward(m, p, a);
    dp_model_lap(m, DP_PART_ATTENTION_BWD);
    norm(m, a->x, p->norm1_w, p->norm1_b, m->narrow, a->stat1);
    linear_bwd(m, m->narrow, d, p->qkv_w, p->qkv_b, m->wide, dp_model_qkv_width(&m->c), m->dsmall);
    norm_backward(m, a->x, p->norm1_w, p->norm1_b, a->stat1, m->dsmall, m->dx);
}

static void scale_task(void *ctx, size_t task, int worker)
{
    TASK;
    EACH_ROW (r)
        for (int64_t i = 0; i < j->width; i++) j->out[r * j->width + i] *= j->scale;
}

/* muP multiplies logits; done to what the head multiplies, which is smaller, and to its gradient. */
static void scale_logits(struct dp_model *m, float *x)
{
    if (!m->c.mup_base_dim) return;
    struct job j = {.m = m,
                    .rows = m->rows,
                    .width = m->c.dim,
                    .out = x,
                    .scale = dp_model_logit_scale(&m->c)};
    run_rows(&j, scale_task);
}

static void forward_body(struct dp_model *m, const int32_t *tokens, int64_t sequences)
{
    DP_ASSERT(sequences >= 0 && sequences <= m->batch);
    m->tokens = tokens;
    m->rows = sequences * m->c.seq_len;
    m->attention.batch = sequences;
    m->attention.positions = m->positions;
    dp_model_lap_start(m);
    struct job j = {.m = m,
                    .rows = m->rows,
                    .width = m->c.dim,
                    .x = m->p + m->layout.wte,
                    .w = param(m, m->layout.wpe),
                    .out = m->acts[0].x};
    run_rows(&j, embed_task);
    if (drops(m, m->regime.dropout_embed))
        dropout(m, SITE_EMBED, NULL, m->acts[0].x, m->acts[0].x);
    dp_model_lap(m, DP_PART_EMBED);
    for (int64_t i = 0; i < m->c.layers; i++)
        forward_layer(m, &m->layout.layer[i], &m->acts[i],
                      i + 1 < m->c.layers ? m->acts[i + 1].x : m->xf);
    norm(m, m->xf, m->layout.normf_w, m->layout.normf_b, m->normf, m->statf);
    scale_logits(m, m->normf);
}

/* Logits of `rows` rows from row r0 of the normed output. */
static void head(struct dp_model *m, int64_t r0, int64_t rows, float *logits)
{
    int64_t d = m->c.dim, v = m->c.vocab;
    product(m, (struct dp_gemm_args){.m = rows,
                                     .n = v,
                                     .k = d,
                                     .a = m->normf + r0 * d,
                                     .lda = d,
                                     .b = m->p + m->layout.head,
                                     .ldb = d,
                                     .tb = 1,
                                     .c = logits,
                                     .ldc = v});
    dp_model_lap(m, DP_PART_HEAD);
}

/* Losses of all rows; with scale, also the head's gradient and dsmall = gradient of the normed
 * output. */
static void classify(struct dp_model *m, float scale)
{
    int64_t d = m->c.dim, v = m->c.vocab;
    for (int64_t r0 = 0; r0 < m->rows; r0 += m->chunk) {
        int64_t rows = m->rows - r0 < m->chunk ? m->rows - r0 : m->chunk;
        head(m, r0, rows, m->logits);
        struct job j = {
            .m = m, .rows = rows, .width = v, .ld = r0, .out = m->logits, .scale = scale};
        run_rows(&j, loss_task);
        dp_model_lap(m, DP_PART_LOSS);
        if (scale == 0) continue;
        float *dw = m->g + m->layout.head;
        product(m, (struct dp_gemm_args){.m = rows,
                                         .n = d,
                                         .k = v,
                                         .a = m->logits,
                                         .lda = v,
                                         .b = m->p + m->layout.head,
                                         .ldb = d,
                                         .c = m->dsmall + r0 * d,
                                         .ldc = d});
        product(m, (struct dp_gemm_args){.m = v,
                                         .n = d,
                                         .k = rows,
                                         .a = m->logits,
                                         .lda = v,
                                         .ta = 1,
                                         .b = m->normf + r0 * d,
                                         .ldb = d,
                                         .c = dw,
                                         .ldc = d,
                                         .base = m->fresh && r0 == 0 ? NULL : dw,
                                         .ldbase = d});
        dp_model_lap(m, DP_PART_HEAD);
    }
}

static void finished(const struct dp_model *m, uint64_t from)
{
    if (m->finished) m->finished(m->finished_ctx, from);
}

static void backward_body(struct dp_model *m)
{
    memset(m->dx, 0, (size_t)(m->rows * m->c.dim) * sizeof *m->dx);
    scale_logits(m, m->dsmall);
    norm_backward(m, m->xf, m->layout.normf_w, m->layout.normf_b, m->statf, m->dsmall, m->dx);
    finished(m, m->layout.normf_w);
    for (int64_t i = m->c.layers - 1; i >= 0; i--) {
        backward_layer(m, &m->layout.layer[i], &m->acts[i]);
        finished(m, m->layout.layer[i].norm1_w);
    }
    if (drops(m, m->regime.dropout_embed))
        dropout(m, SITE_EMBED, NULL, m->dx, m->dx);
    struct job j = {.m = m,
                    .rows = m->rows,
                    .width = m->c.dim,
                    .x = m->dx,
                    .dw = m->g + m->layout.wte,
                    .db = grad(m, m->layout.wpe)};
    run_cols(&j, embed_bwd_task);
    dp_model_lap(m, DP_PART_EMBED);
    finished(m, 0);
}

int dp_model_regime(struct dp_model *m, const struct dp_regime *r, struct dp_err *e)
{
    double embed = r->dropout_embed, residual = r->dropout_residual;
    if (!(embed >= 0 && embed < 1) || !(residual >= 0 && residual < 1))
        DP_FAIL(e, CONFIG, "dropout_embed %g and dropout_residual %g must be in [0, 1)", embed,
                residual);
    if (!(r->z_loss >= 0 && r->z_loss <= 1))
        DP_FAIL(e, CONFIG, "z_loss is %g: must be from 0 to 1 (1e-4 is usual)", r->z_loss);
    uint64_t floats = (uint64_t)m->batch * (uint64_t)m->c.seq_len * (uint64_t)m->c.dim;
    if (residual > 0 && !m->dropped && !(m->dropped = dp_floats_alloc(floats)))
        DP_FAIL(e, NOMEM, "dropout needs %llu MiB: lower batch, seq_len or dim",
                (unsigned long long)(floats >> 18));
    m->regime = *r;
    return DP_OK;
}

void dp_model_documents(struct dp_model *m, const int32_t *positions, bool restart)
{
    m->positions = positions;
    m->restart = positions && restart;
}

void dp_model_fresh_gradients(struct dp_model *m)
{
    for (size_t i = 0; i < m->layout.count; i++) {
        const struct dp_param *p = &m->layout.params[i];
        bool product =
            p->cols && p->offset != m->layout.wpe && (p->offset != m->layout.wte || m->layout.wte == m->layout.head);
        if (!product) memset(m->g + p->offset, 0, dp_param_count(p) * sizeof *m->g);
    }
    m->fresh = true;
    dp_model_lap(m, DP_PART_CLIP);
}

void dp_model_run(struct dp_model *m, const int32_t *tokens, const int32_t *targets,
                  int64_t sequences, float scale, double *loss_sum, int64_t *count)
{
    DP_ASSERT(scale == 0 || m->g);
    m->training = scale != 0;
    forward_body(m, tokens, sequences);
    m->targets = targets;
    classify(m, scale);
    *loss_sum = 0;
    *count = 0;
    m->z_sum = 0;
    for (int64_t r = 0; r < m->rows; r++) {
        *loss_sum += (double)m->losses[r];
        m->z_sum += (double)m->z_losses[r];
        *count += targets[r] >= 0;
    }
    if (scale == 0) return;
    backward_body(m);
    m->fresh = false;
}

void dp_model_logits(struct dp_model *m, const int32_t *tokens, int64_t sequences, float *logits)
{
    m->training = false;
    forward_body(m, tokens, sequences);
    head(m, 0, m->rows, logits);
}

void dp_rope_tables(int64_t seq, int64_t head_dim, double theta, float *cosv, float *sinv)
{
    int64_t half = head_dim / 2;
    for (int64_t t = 0; t < seq; t++) {
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)t * pow(theta, -(double)i / (double)half);
            cosv[t * half + i] = (float)cos(angle);
            sinv[t * half + i] = (float)sin(angle);
        }
    }
}

/* Hands out 64-byte aligned pieces of the arena; the first pass, without a base, only counts. */
struct carver {
    float *base;
    uint64_t used;
};

static float *carve(struct carver *c, int64_t rows, int64_t cols)
{
    float *p = c->base ? c->base + c->used : NULL;
    c->used += ((uint64_t)rows * (uint64_t)cols + 15) / 16 * 16;
    return p;
}

/* Sizes are products of at most 2^18 * 2^16 * 2^20 * 2^10 checked values: no overflow of 64 bits.
 */
static void carve_all(struct dp_model *m, struct carver *k, bool training)
{
    const struct dp_model_config *c = &m->c;
    int64_t n = m->batch * c->seq_len, d = c->dim, f = c->ffn, w = dp_model_qkv_width(c),
            q = dp_model_q_width(c), in = in_width(c);
    for (int64_t i = 0; i < c->layers; i++) {
        struct dp_layer_acts *a = &m->acts[i];
        if (i > 1 && !training) {
            *a = m->acts[i % 2]; /* nothing is kept for a backward pass: two sets take turns */
            continue;
        }
        *a = (struct dp_layer_acts){
            .x = carve(k, n, d),
            .stat1 = carve(k, n, 2),
            .qkv = carve(k, n, w),
            .att = carve(k, n, q),
            .lse = carve(k, n, c->heads),
            .x2 = carve(k, n, d),
            .stat2 = carve(k, n, 2),
            .pre = carve(k, n, in),
            .qkv_raw = c->qk_norm ? carve(k, n, w) : NULL,
            .qk_stat = c->qk_norm ? carve(k, 2 * n, c->heads + c->kv_heads) : NULL,
        };
    }
    m->xf = carve(k, n, d);
    m->normf = carve(k, n, d);
    m->statf = carve(k, n, 2);
    m->losses = carve(k, n, 1);
    m->z_losses = carve(k, n, 1);
    m->logits = carve(k, m->chunk, c->vocab);
    m->rope_cos = carve(k, c->seq_len, dp_model_head_dim(c));
    m->rope_sin = carve(k, c->seq_len, dp_model_head_dim(c));
    m->scratch = carve(k, dp_pool_threads(m->pool), (int64_t)dp_attention_scratch(c->seq_len));
    m->wide = carve(k, n, w > f ? w : f);
    m->narrow = carve(k, n, d);
    if (!training) return;
    if (c->qk_norm) m->head_scratch = carve(k, dp_pool_threads(m->pool), dp_model_head_dim(c));
    m->dx = carve(k, n, d);
    m->dsmall = carve(k, n, d > q ? d : q);
}

static int64_t chunk_rows(const struct dp_model_config *c, int64_t rows)
{
    int64_t chunk = CHUNK_FLOATS / c->vocab / DP_GEMM_KC * DP_GEMM_KC;
    if (chunk < DP_GEMM_KC) chunk = DP_GEMM_KC;
    if (chunk > 4 * DP_GEMM_KC) chunk = 4 * DP_GEMM_KC;
    return chunk < rows ? chunk : rows;
}

static int model_alloc(struct dp_model *m, bool training, struct dp_err *e)
{
    struct carver k = {NULL, 0};
    m->acts = calloc((size_t)m->c.layers, sizeof *m->acts);
    if (!m->acts) DP_FAIL(e, NOMEM, "activation table of %lld layers", (long long)m->c.layers);
    carve_all(m, &k, training);
    k.base = m->arena = dp_floats_alloc(k.used);
    m->p = dp_floats_alloc(m->layout.floats);
    if (training) m->g = dp_floats_alloc(m->layout.floats);
    if (!m->arena || !m->p || (training && !m->g))
        DP_FAIL(
            e, NOMEM,
            "model of %llu parameters needs %llu MiB for activations: lower batch, seq_len or dim",
            (unsigned long long)m->layout.total, (unsigned long long)(k.used >> 18));
    k.used = 0;
    carve_all(m, &k, training);
    return dp_gemm_open(&m->gemm, m->pool, e);
}

uint64_t dp_model_arena_bytes(const struct dp_model_config *c, int64_t batch, bool training,
                              struct dp_pool *pool)
{
    struct carver k = {NULL, 0};
    struct dp_model m = {.c = *c, .batch = batch, .pool = pool};
    m.chunk = chunk_rows(c, batch * c->seq_len);
    if (!(m.acts = calloc((size_t)c->layers, sizeof *m.acts))) return 0;
    carve_all(&m, &k, training);
    free(m.acts);
    return k.used * sizeof(float);
}

double dp_model_flops(const struct dp_model_config *c)
{
    double d = (double)c->dim, q = (double)dp_model_q_width(c), qkv = (double)dp_model_qkv_width(c);
    double weights = (double)c->layers * (d * qkv + q * d + d * (double)in_width(c) + (double)c->ffn * d) +
                     (double)c->vocab * d;
    double attention = 6 * (double)c->layers * (double)c->seq_len *
                       q; /* half of T x T, two products, forward and twice backward */
    return 6 * weights + attention;
}

int dp_model_open(struct dp_model **out, const struct dp_model_config *c, int64_t batch,
                  bool training, struct dp_pool *pool, struct dp_err *e)
{
    *out = NULL;
    if (batch < 1 || batch > 65536)
        DP_FAIL(e, CONFIG, "batch is %lld: must be from 1 to 65536", (long long)batch);
    struct dp_model *m = calloc(1, sizeof *m);
    if (!m) DP_FAIL(e, NOMEM, "model");
    m->c = *c;
    m->batch = batch;
    m->pool = pool;
    dp_pool_keep_near(pool);
    m->ops = dp_tensor_level();
    int rc = dp_layout_init(&m->layout, c, e);
    if (rc >= 0) {
        m->chunk = chunk_rows(c, batch * c->seq_len);
        rc = model_alloc(m, training, e);
    }
    if (rc < 0) {
        dp_model_close(m);
        return rc;
    }
    m->attention = (struct dp_attention){.batch = batch,
                                         .seq = c->seq_len,
                                         .heads = c->heads,
                                         .kv_heads = c->kv_heads,
                                         .head_dim = dp_model_head_dim(c),
                                         .gemm = m->gemm.level,
                                         .ops = m->ops,
                                         .pool = pool,
                                         .scratch = m->scratch,
                                         .scale = dp_model_attention_scale(c),
                                         .bf16 = c->dtype == DP_BF16};
    if (c->arch == DP_ARCH_LLAMA)
        dp_rope_tables(c->seq_len, dp_model_head_dim(c), dp_model_rope_theta(c), m->rope_cos,
                       m->rope_sin);
    *out = m;
    return DP_OK;
}

void dp_model_close(struct dp_model *m)
{
    if (!m) return;
    dp_gemm_close(&m->gemm);
    dp_layout_release(&m->layout);
    free(m->acts);
    free(m->arena);
    free(m->dropped);
    free(m->p);
    free(m->g);
    free(m);
}

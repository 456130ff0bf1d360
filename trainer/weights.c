#include "trainer/weights.h"

#include "base/fs.h"
#include "trainer/ckpt.h"
#include "trainer/half.h"
#include "trainer/import_hf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int reserve(struct dp_weights *w, const struct dp_model_config *c, const char *path, struct dp_err *e)
{
    w->c = *c;
    DP_TRY(dp_layout_init(&w->layout, c, e));
    w->p = dp_floats_alloc(w->layout.floats);
    if (!w->p) DP_FAIL(e, NOMEM, "%s: %llu parameters", path, (unsigned long long)w->layout.total);
    return DP_OK;
}

static int from_folder(struct dp_weights *w, const char *path, struct dp_err *e)
{
    struct dp_hf *h;
    DP_TRY(dp_hf_open(&h, path, e));
    int rc = reserve(w, dp_hf_config(h), path, e);
    if (rc >= 0) rc = dp_hf_load(h, &w->c, &w->layout, w->p, e);
    dp_hf_close(h);
    return rc;
}

static int from_checkpoint(struct dp_weights *w, const char *path, struct dp_err *e)
{
    struct dp_ckpt *k;
    DP_TRY(dp_ckpt_open(&k, path, e));
    int rc = reserve(w, dp_ckpt_config(k), path, e);
    struct dp_ckpt_state s = {.config = &w->c, .layout = &w->layout, .p = w->p};
    if (rc >= 0) rc = dp_ckpt_load(k, &s, e);
    dp_ckpt_close(k);
    return rc;
}

int dp_weights_open(struct dp_weights *w, const char *path, struct dp_err *e)
{
    *w = (struct dp_weights){0};
    int rc = dp_fs_is_folder(path) ? from_folder(w, path, e) : from_checkpoint(w, path, e);
    if (rc < 0) dp_weights_close(w);
    return rc;
}

void dp_weights_close(struct dp_weights *w)
{
    dp_layout_release(&w->layout);
    free(w->p);
    *w = (struct dp_weights){0};
}

static void multiply(const struct dp_weights *w, uint64_t at, int64_t n, float x)
{
    for (int64_t i = 0; at != DP_NO_PARAM && i < n; i++) w->p[at + (uint64_t)i] *= x;
}

void dp_weights_fold_mup(struct dp_weights *w)
{
    struct dp_model_config plain = w->c;
    plain.mup_base_dim = plain.mup_base_head_dim = 0;
    float logits = dp_model_logit_scale(&w->c), scores = dp_model_attention_scale(&w->c) / dp_model_attention_scale(&plain);
    int64_t d = w->c.dim, q = dp_model_q_width(&w->c);
    if (!w->c.mup_base_dim) return;
    multiply(w, w->layout.normf_w, d, logits);
    multiply(w, w->layout.normf_b, d, logits);
    for (int64_t i = 0; i < w->c.layers; i++) {
        const struct dp_layer_params *l = &w->layout.layer[i];
        multiply(w, l->q_norm_w, dp_model_head_dim(&w->c), scores);
        if (w->c.qk_norm) continue; /* which would undo it */
        multiply(w, l->qkv_w, q * d, scores);
        multiply(w, l->qkv_b, q, scores);
    }
    w->c = plain;
}

int dp_weights_shape(const struct dp_weights *w, int64_t vocab, int64_t seq_len, struct dp_model_config *c, struct dp_err *e)
{
    if (vocab > w->c.vocab)
        DP_FAIL(e, CONFIG, "init_from: its model has %lld tokens, the shards were made with %lld: tokenize with the model's own tokenizer",
                (long long)w->c.vocab, (long long)vocab);
    if (seq_len > w->c.seq_len)
        DP_FAIL(e, CONFIG, "init_from: seq_len is %lld, its model was made for %lld: use at most that", (long long)seq_len, (long long)w->c.seq_len);
    const int dtype = c->dtype; /* of this run, not of the model */
    *c = w->c;
    c->dtype = dtype;
    c->seq_len = seq_len;
    return DP_OK;
}

void dp_weights_copy(const struct dp_weights *w, const struct dp_layout *l, float *p)
{
    DP_ASSERT(l->count == w->layout.count);
    for (size_t i = 0; i < l->count; i++) {
        const struct dp_param *to = &l->params[i], *from = &w->layout.params[i];
        DP_ASSERT(to->rows <= from->rows && to->cols == from->cols);
        memcpy(p + to->offset, w->p + from->offset, dp_param_count(to) * sizeof *p);
    }
}

int dp_weights_digest(const char *path, char hex[65], struct dp_err *e)
{
    struct dp_hf *h;
    if (!dp_fs_is_folder(path)) return dp_fs_sha256(path, hex, e);
    DP_TRY(dp_hf_open(&h, path, e));
    int rc = dp_hf_digest(h, hex, e);
    dp_hf_close(h);
    return rc;
}

enum { BLOCK_ROWS = 16 };

/* Rows [r0, r0 + n) of the file's matrix. */
static void gather(const struct dp_weights_part *t, int64_t r0, int64_t n, float *to)
{
    size_t row = (size_t)t->cols * sizeof *to;
    for (int64_t i = 0; t->order != DP_WEIGHTS_TRANSPOSED && i < n; i++) {
        int64_t r = r0 + i, at = t->order == DP_WEIGHTS_PAIRS ? r % t->head_dim : 0;
        if (t->order == DP_WEIGHTS_PAIRS) r += at / 2 + at % 2 * (t->head_dim / 2) - at;
        memcpy(to + i * t->cols, t->p + r * t->cols, row);
    }
    for (int64_t c = 0; t->order == DP_WEIGHTS_TRANSPOSED && c < t->cols; c++)
        for (int64_t i = 0; i < n; i++) to[i * t->cols + c] = t->p[c * t->rows + r0 + i];
}

static int convert(const struct dp_weights_part *t, const float *from, int64_t n, unsigned char *to, struct dp_err *e)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = dp_float_bits(from[i]);
        if (t->type == DP_WEIGHTS_BF16) bits = dp_to_bf16(from[i]);
        if (t->type == DP_WEIGHTS_F16) bits = dp_to_f16(from[i]);
        if (t->type == DP_WEIGHTS_F16 && (bits & 0x7c00) == 0x7c00 && isfinite(from[i]))
            DP_FAIL(e, LIMIT, "tensor \"%s\" has a weight of %g, which F16 can't hold: use bf16 or f32", t->name, (double)from[i]);
        for (size_t k = 0; k < dp_weights_bytes(t->type); k++) *to++ = (unsigned char)(bits >> 8 * k);
    }
    return DP_OK;
}

int dp_weights_emit(const struct dp_weights_part *t, dp_weights_add_fn add, void *ctx, struct dp_err *e)
{
    size_t n = (size_t)t->cols * BLOCK_ROWS;
    float *block = malloc(n * sizeof *block);
    unsigned char *bytes = malloc(n * sizeof *block);
    int rc = block && bytes ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "tensor \"%s\"", t->name);
    for (int64_t r = 0; rc >= 0 && r < t->rows; r += BLOCK_ROWS) {
        int64_t rows = t->rows - r < BLOCK_ROWS ? t->rows - r : BLOCK_ROWS;
        gather(t, r, rows, block);
        rc = convert(t, block, rows * t->cols, bytes, e);
        if (rc >= 0) rc = add(ctx, bytes, (size_t)(rows * t->cols) * dp_weights_bytes(t->type), e);
    }
    free(block);
    free(bytes);
    return rc;
}

/* trainer/weights.h - a model's parameters from whatever has them: one of our checkpoints, or a Hugging
 * Face folder (trainer/import_hf.h).
 *
 * Memory: 4 bytes a parameter. Thread-safety: none shared; reading is pure after open. */
#ifndef DP_TRAINER_WEIGHTS_H
#define DP_TRAINER_WEIGHTS_H

#include "trainer/model.h"

struct dp_weights {
    struct dp_model_config c;
    struct dp_layout layout;
    float *p; /* layout.floats */
};
/* `path`: a checkpoint file, or a folder. */
int dp_weights_open(struct dp_weights *w, const char *path, struct dp_err *e);
void dp_weights_close(struct dp_weights *w);

/* Put muP's factors of logits and of q k^T into the final norm and the queries, and take them out of the config: the same model, within
 * rounding, to software that knows no muP. */
void dp_weights_fold_mup(struct dp_weights *w);
/* To train from these: *c becomes their config with another context. DP_CONFIG: more tokens than they have
 * rows, or a longer context than the model was made for (positions of gpt2 are weights; RoPE was trained so far). */
int dp_weights_shape(const struct dp_weights *w, int64_t vocab, int64_t seq_len, struct dp_model_config *c, struct dp_err *e);
/* Into a model of that config. */
void dp_weights_copy(const struct dp_weights *w, const struct dp_layout *l, float *p);
/* SHA-256 of what dp_weights_open(path) reads. */
int dp_weights_digest(const char *path, char hex[65], struct dp_err *e);

/* What numbers files hold. */
enum dp_weights_type { DP_WEIGHTS_F32, DP_WEIGHTS_F16, DP_WEIGHTS_BF16 };
static inline size_t dp_weights_bytes(int type)
{
    return type == DP_WEIGHTS_F32 ? 4 : 2;
}

/* A matrix on its way into a file, whose rows and columns these are. */
enum dp_weights_order {
    DP_WEIGHTS_PLAIN,
    DP_WEIGHTS_TRANSPOSED, /* p is [cols][rows] */
    DP_WEIGHTS_PAIRS       /* rows 2i and 2i+1 of each head are its rows i and i + head_dim/2: RoPE of neighbours, not of halves */
};
struct dp_weights_part {
    const char *name; /* for messages */
    const float *p;
    int64_t rows, cols, head_dim; /* head_dim: for DP_WEIGHTS_PAIRS */
    int order, type;
};
typedef int (*dp_weights_add_fn)(void *ctx, const void *bytes, size_t n, struct dp_err *e);
/* Hand its bytes, little-endian, to `add`. DP_LIMIT: a weight too large for F16. */
int dp_weights_emit(const struct dp_weights_part *part, dp_weights_add_fn add, void *ctx, struct dp_err *e);

#endif

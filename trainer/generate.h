/* trainer/generate.h - sampling from a checkpoint, token by token with a key/value cache.
 *
 * One sequence; the context is the model's seq_len and generation ends when it is full. Same
 * checkpoint, options and prompt give the same tokens on every machine: weights times vectors are
 * dot products in 16 lanes (gemm.h), the random numbers splitmix64's. (Logits may differ from
 * dp_model_logits in the last bits: another order of the same sums.) Memory: the parameters, layers
 * * seq_len * 2 kv widths for the cache, a few rows. Thread-safety: one caller. */
#ifndef DP_TRAINER_GENERATE_H
#define DP_TRAINER_GENERATE_H

#include "base/err.h"
#include "base/thread.h"
#include "trainer/model.h"

struct dp_generate_options {
    double temperature; /* 0: always the likeliest (the lowest id among equals) */
    int64_t top_k;      /* 0: all */
    double top_p;       /* keep the likeliest until their sum reaches this; 1: all */
    uint64_t seed;
    int64_t tokens_max; /* to generate; 0: until the context is full */
    int32_t stop;       /* end after this token; -1: none */
};

struct dp_generator;
/* From a checkpoint file or a Hugging Face folder (trainer/weights.h). */
int dp_generator_open(struct dp_generator **out, const char *path, struct dp_pool *pool,
                      struct dp_err *e);
/* From parameters in memory, which must outlive it. */
int dp_generator_open_model(struct dp_generator **out, const struct dp_model_config *c,
                            const float *p, struct dp_pool *pool, struct dp_err *e);
void dp_generator_close(struct dp_generator *g);
const struct dp_model_config *dp_generator_config(const struct dp_generator *g);
/* Forget the context. */
void dp_generator_reset(struct dp_generator *g);
/* Append a token; *logits (vocab floats, valid until the next call) predict the one after it.
 * DP_LIMIT when the context is full. */
int dp_generator_feed(struct dp_generator *g, int32_t token, const float **logits,
                      struct dp_err *e);
/* Pick from logits; *state is the random state. */
int32_t dp_generator_pick(struct dp_generator *g, const float *logits,
                          const struct dp_generate_options *o, uint64_t *state);
/* Feed the prompt (1 to seq_len tokens) to an empty context and pass each new token to emit; a
 * nonzero answer ends it. *count: tokens emitted. */
typedef int (*dp_generate_fn)(void *ctx, int32_t token);
int dp_generate(struct dp_generator *g, const int32_t *prompt, int64_t n,
                const struct dp_generate_options *o, dp_generate_fn emit, void *ctx, int64_t *count,
                struct dp_err *e);

#endif

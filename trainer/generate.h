/* trainer/generate.h - sampling from a model, token by token with a key/value cache.
 *
 * One sequence; the context is the model's seq_len and generation ends when it is full. Same
 * checkpoint, options and prompt give the same tokens on every machine: weights times vectors are
 * dot products in 16 lanes (gemm.h), the random numbers splitmix64's. However many tokens are fed at
 * once, logits are the same bits; they may differ from dp_model_logits in the last ones (another order
 * of the same sums). Memory: the parameters, layers * seq_len * 2 kv widths for the cache, eight rows of
 * activations, seq_len scores a thread. Thread-safety: one caller. */
#ifndef DP_TRAINER_GENERATE_H
#define DP_TRAINER_GENERATE_H

#include "base/err.h"
#include "base/thread.h"
#include "trainer/model.h"

/* In this order, as transformers does it: repetition penalty, temperature, top_k, top_p, min_p. */
struct dp_generate_options {
    double temperature; /* 0: always the likeliest (the lowest id among equals) */
    int64_t top_k;      /* 0: all */
    double top_p;       /* keep the likeliest until their sum reaches this; 1: all */
    double min_p;       /* keep what is at least so many times as likely as the likeliest; 0: all */
    double repetition;  /* logits of tokens in the context are divided by it, negative ones multiplied (Keskar et al. 2019); 0 and 1: none */
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
/* Append n >= 1 tokens, eight at a time: weights are read once for eight. *logits as above, of the last. On
 * failure the context is as before. */
int dp_generator_feed_all(struct dp_generator *g, const int32_t *tokens, int64_t n,
                          const float **logits, struct dp_err *e);
/* Pick from logits; *state is the random state. The tokens of the context are those that were fed. */
int32_t dp_generator_pick(struct dp_generator *g, const float *logits,
                          const struct dp_generate_options *o, uint64_t *state);
/* Feed the prompt (1 to seq_len tokens) to an empty context and pass each new token to emit; an
 * answer above 0 ends it, one below 0 is a failure of emit's, which has filled its own error. *count: tokens
 * emitted. *end (may be NULL) says why it ended. */
enum dp_generate_end { DP_END_TOKENS, DP_END_STOP, DP_END_CONTEXT, DP_END_CALLER };
typedef int (*dp_generate_fn)(void *ctx, int32_t token);
int dp_generate(struct dp_generator *g, const int32_t *prompt, int64_t n,
                const struct dp_generate_options *o, dp_generate_fn emit, void *ctx, int64_t *count,
                enum dp_generate_end *end, struct dp_err *e);
/* DP_USAGE names the option that is out of range. */
int dp_generate_check(const struct dp_generate_options *o, struct dp_err *e);

#endif

/* trainer/run_plan.h - what a run will take, before it begins. */
#ifndef DP_TRAINER_RUN_PLAN_H
#define DP_TRAINER_RUN_PLAN_H

#include "trainer/train.h"

/* Where the share of the peak comes from: steps of this model; of one with fewer layers and one
 * sequence, because this one's would take too long or doesn't fit; nothing was measured. */
enum dp_plan_by { DP_PLAN_MEASURED, DP_PLAN_SMALLER, DP_PLAN_ASSUMED };

struct dp_plan {
    struct dp_model_config config;
    uint64_t params, params_embedding; /* of them embeddings and head */
    double flops_token, flops_step, flops;
    double tokens_step, tokens;
    /* bytes */
    uint64_t weights, gradients, moments, activations, buffers, memory, memory_free, checkpoint;
    double peak, mfu, tokens_per_s, step_seconds, seconds; /* seconds: with validation */
    int by;                                                 /* enum dp_plan_by */
    /* Hoffmann et al. 2022: about 20 tokens a parameter are the best use of a budget of operations. */
    double chinchilla_tokens, chinchilla_steps; /* for this model */
    double chinchilla_params;                   /* for these tokens */
    double optimal_params, optimal_tokens;      /* for these operations */
};
/* With `measure` some steps on random tokens are run (a few seconds). DP_CONFIG as dp_trainer_open. */
int dp_plan_make(struct dp_plan *p, const struct dp_train_options *o, int64_t vocab, struct dp_pool *pool,
                 double peak, bool measure, struct dp_err *e);
/* Bytes that the system would give without swapping; 0: unknown. */
uint64_t dp_plan_memory_free(void);

#endif

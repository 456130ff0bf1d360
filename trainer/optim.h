/* trainer/optim.h - AdamW, clipping by the global norm, and the learning-rate schedule.
 *
 * State: first and second moments, laid out as the parameters. Decoupled decay (Loshchilov, Hutter 2019) on tensors of more than one
 * dimension only. Thread-safety: one caller; spread over the pool in fixed tiles, so the bits don't depend on it. */
#ifndef DP_TRAINER_OPTIM_H
#define DP_TRAINER_OPTIM_H

#include "base/err.h"
#include "base/thread.h"
#include "trainer/model.h"

struct dp_optim_tile {
    uint64_t offset;
    int64_t n;
    bool decay;
};
struct dp_optim {
    float *m, *v;
    struct dp_optim_tile *tiles;
    double *sums; /* one a tile */
    size_t count;
};
struct dp_optim_rates {
    double lr, beta1, beta2, eps, weight_decay, clip; /* clip 0: none */
};
int dp_optim_open(struct dp_optim *o, const struct dp_layout *l, struct dp_err *e);
void dp_optim_close(struct dp_optim *o);
/* The Euclidean norm of the gradient: squares in double, tiles added in order. */
double dp_optim_norm(struct dp_optim *o, struct dp_pool *pool, const float *g);
/* One update; `step` counts from 1. The gradient is scaled by min(1, clip / (norm + 1e-6)), as torch does. */
void dp_optim_step(struct dp_optim *o, struct dp_pool *pool, const struct dp_optim_rates *r, int64_t step, double norm,
                   const float *g, float *p);
/* Linear warm-up, lr * (step+1)/warmup, then a cosine to min_lr at `steps`; `step` counts from 0. */
double dp_schedule(double lr, double min_lr, int64_t warmup, int64_t steps, int64_t step);

#endif

/* trainer/optim.h - AdamW and Muon, and clipping by the global norm.
 *
 * AdamW: decoupled decay (Loshchilov, Hutter 2019). Muon (Keller Jordan 2024, as torch.optim.Muon
 * has it; trainer/muon.h) for the hidden matrices, AdamW for embeddings, head and what has one
 * dimension. State: first and second moments, laid out as the parameters; a Muon matrix has its
 * momentum in m, and zeros in v. Decay groups: enum dp_decay. Every tensor has a factor of the
 * learning rate. Thread-safety: one caller; spread over the pool in fixed tiles, so the bits don't
 * depend on it. */
#ifndef DP_TRAINER_OPTIM_H
#define DP_TRAINER_OPTIM_H

#include "base/err.h"
#include "base/thread.h"
#include "trainer/model.h"

enum dp_optimizer { DP_ADAMW, DP_MUON };
/* Which tensors decay: those of more than one dimension; of these not the embeddings and the head;
 * every one. */
enum dp_decay { DP_DECAY_MATRICES, DP_DECAY_HIDDEN, DP_DECAY_ALL };

struct dp_optim_options {
    int kind, decay;      /* enum dp_optimizer, enum dp_decay */
    const char *lr_scale; /* "PART=X,...": tensors whose name holds PART get X times the rate, products
                             where several do; NULL: none */
    bool nesterov, muon_rms;
    double muon_momentum;
};

struct dp_optim_tile {
    uint64_t offset;
    int64_t n;
    bool decay, muon; /* muon: no part of AdamW's update, only of the norm */
    double scale;     /* of the learning rate */
    bool other; /* another rank's (parallel.h): its moments and its update are there */
};
struct dp_optim_matrix {
    uint64_t offset;
    int64_t rows, cols;
    bool decay;
    double scale;
    bool other;
};
struct dp_muon;
struct dp_optim {
    float *m, *v;
    struct dp_optim_tile *tiles;
    double *sums; /* one a tile */
    size_t count;
    struct dp_optim_matrix *matrices; /* Muon's */
    size_t matrix_count;
    struct dp_muon *muon; /* NULL: there are none */
    bool nesterov, muon_rms;
    double muon_momentum;
};
struct dp_optim_rates {
    double lr, beta1, beta2, eps, weight_decay, clip; /* clip 0: none */
    double muon_lr;
};
/* AdamW with decay of matrices. */
int dp_optim_open(struct dp_optim *o, const struct dp_layout *l, struct dp_err *e);
/* DP_CONFIG for an lr_scale that is none, or whose PART no tensor has. */
int dp_optim_open_with(struct dp_optim *o, const struct dp_layout *l,
                       const struct dp_optim_options *how, struct dp_err *e);
void dp_optim_close(struct dp_optim *o);
/* Rates begin as dp_param says (muP; not Muon's, whose updates have a size of their own).
 * Multiply the rate of tensor `param` (its place in the layout) by x: for muP. */
void dp_optim_scale(struct dp_optim *o, const struct dp_layout *l, size_t param, double x);
/* The Euclidean norm of the gradient: squares in double, tiles added in order. */
double dp_optim_norm(struct dp_optim *o, struct dp_pool *pool, const float *g);
/* Its two halves: the sums of squares of this rank's tiles, 0 for the others'; the root of all of them. */
void dp_optim_squares(struct dp_optim *o, struct dp_pool *pool, const float *g);
double dp_optim_squares_norm(const struct dp_optim *o);
/* One update; `step` counts from 1. The gradient is scaled by min(1, clip / (norm + 1e-6)), as
 * torch does. */
void dp_optim_step(struct dp_optim *o, struct dp_pool *pool, const struct dp_optim_rates *r,
                   int64_t step, double norm, const float *g, float *p);

#endif

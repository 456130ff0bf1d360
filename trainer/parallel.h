/* trainer/parallel.h - one trainer's work shared out among ranks: rows of the batch, gradients, optimiser state.
 *
 * Rank 0 leads: each call of its trainer (open, step, eval, save, close) is announced, and the others, in
 * dp_trainer_follow, make the same one. So rank 0's caller knows nothing of ranks. A step's or an evaluation's rows go to all from rank 0;
 * of n rows rank r takes [n r / world, n (r+1) / world): the global order of samples is that of one rank.
 *
 * Gradients: the optimiser's tiles, from the last to the first (the order in which the backward pass finishes them), are grouped into buckets, a
 * bucket into one part a rank. While the backward pass of a step's last micro-batch goes on, finished buckets are exchanged: every rank gets all others'
 * version of its part and adds them in rank order. Then the norm over all tiles (the same sum in the same order as one rank makes), the update of each rank's
 * own tiles, and parameters are gathered. Moments of other ranks' tiles are never touched: their pages are given back (ZeRO-1).
 *
 * Bits: the same for the same number of ranks, whatever the carrier, timing and threads; another number adds gradients in another grouping
 * (each within fp32's rounding). Memory beside the model's: 4 buckets of max(4 MiB, 256 KiB * world). While saving or before the first step, rank 0 has
 * all moments. Thread-safety: as the trainer. */
#ifndef DP_TRAINER_PARALLEL_H
#define DP_TRAINER_PARALLEL_H

#include "trainer/dist.h"
#include "trainer/model.h"
#include "trainer/optim.h"
#include "trainer/train.h"

enum dp_parallel_order { DP_PARALLEL_OPEN, DP_PARALLEL_STEP, DP_PARALLEL_EVAL, DP_PARALLEL_SAVE, DP_PARALLEL_CLOSE, DP_PARALLEL_END };

/* Rank 0: announce; the others: wait for it. */
void dp_parallel_order(struct dp_dist *d, enum dp_parallel_order *order);
/* What rank 0 opened its trainer with: behind DP_PARALLEL_OPEN. */
int dp_parallel_options(struct dp_dist *d, struct dp_train_options *o, int64_t *vocab, struct dp_err *e);
/* The most rows that a rank's forward pass gets. DP_CONFIG when there are fewer rows than ranks. */
int dp_parallel_batch(const struct dp_dist *d, const struct dp_train_options *o, int64_t *batch, struct dp_err *e);

struct dp_parallel;
/* d, model and optimiser are not owned; *step and *seed are the trainer's. d NULL: *out is NULL, and the functions below do nothing, or what one rank does. */
int dp_parallel_open(struct dp_parallel **out, struct dp_dist *d, struct dp_model *m, struct dp_optim *o, int64_t *step, uint64_t *seed, struct dp_err *e);
/* Rank 0, when its trainer is open: the others open theirs. */
int dp_parallel_opened(struct dp_parallel *p, struct dp_train_options *o, int64_t vocab, struct dp_err *e);
void dp_parallel_close(struct dp_parallel *p);
/* Weights or moments of rank 0 were set from outside: the others get them before the next order. */
void dp_parallel_changed(struct dp_parallel *p);

/* Rows given to a call, of which each rank keeps its slice. Others than rank 0 begin with nothing. */
struct dp_parallel_rows {
    const int32_t *ids; /* [rows][seq_len+1] */
    int64_t rows, count; /* targets of all ranks' rows */
    int64_t first;       /* of the rows, among all ranks' */
};
int dp_parallel_begin(struct dp_parallel *p, enum dp_parallel_order order, struct dp_parallel_rows *r, struct dp_err *e);
/* Before the backward pass that completes the gradient: exchange what it finishes. */
void dp_parallel_overlap(struct dp_parallel *p);
/* Behind it: the norm of the summed gradient, and *loss and row_loss[batch*accum] of all ranks, others' rows being 0 here. */
double dp_parallel_norm(struct dp_parallel *p, double *loss, double *row_loss);
/* What rank 0 says about the update. */
void dp_parallel_decide(struct dp_parallel *p, double *lr, bool *skip);
/* Behind the update: everybody's parameters. */
void dp_parallel_gather(struct dp_parallel *p);
/* v[0..n), n <= 2, become sums over ranks, added in rank order. */
void dp_parallel_sum(struct dp_parallel *p, double *v, size_t n);
/* All moments to rank 0; true where the file is to be written. */
bool dp_parallel_collect(struct dp_parallel *p);
/* The file is written (rank 0): let others' moments go; `saved` names it when something happens. */
void dp_parallel_collected(struct dp_parallel *p, bool saved);

#endif

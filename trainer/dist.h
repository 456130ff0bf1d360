/* trainer/dist.h - the seam under data-parallel training: what carries bytes between ranks.
 *
 * Two carriers: MPI (dist_mpi.c, `make MPI=1`), one rank a process; and threads of one process
 * (dist_local.c), which the tests use and which needs nothing. Every rank calls the same functions in
 * the same order; rank 0 is the root of what has one. Sums are of doubles that all but one rank
 * leave zero, or are added in rank order, so no result depends on the carrier or on timing.
 *
 * Errors: a carrier that fails ends the process (MPI's own default): with a rank gone there is no
 * going on. Thread-safety: one thread a rank, the one that opened it. */
#ifndef DP_TRAINER_DIST_H
#define DP_TRAINER_DIST_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_dist_part {
    uint64_t at, n; /* in floats; n < 2^31 */
};

/* One exchange or gather under way; zero before the first. Memory that it names stays untouched until it is done. */
struct dp_dist_op {
    const struct dp_dist_part *parts; /* [world] */
    float *whole;                     /* parts are places in it */
    float *into;                      /* exchange: [world][parts[rank].n], this rank's own row isn't written */
    bool gather;
    uint64_t turn;  /* dist_local.c */
    void *requests; /* dist_mpi.c */
};

struct dp_dist;
struct dp_dist_type {
    void (*begin)(struct dp_dist *d, struct dp_dist_op *op);
    bool (*test)(struct dp_dist *d, struct dp_dist_op *op);
    void (*sum)(struct dp_dist *d, double *v, size_t n);
    void (*broadcast)(struct dp_dist *d, void *p, size_t bytes);
    void (*send)(struct dp_dist *d, int to, const void *p, size_t bytes);
    void (*receive)(struct dp_dist *d, int from, void *p, size_t bytes);
    void (*abort)(struct dp_dist *d, int status);
    void (*close)(struct dp_dist *d);
};
struct dp_dist {
    int rank, world;
    const struct dp_dist_type *type;
    const atomic_bool *stop; /* NULL, or whether the process was told to end: said in the log when others keep it waiting */
    int64_t saved;           /* updates in the newest checkpoint that this rank knows of; -1: none */
    uint64_t bucket;         /* floats of gradient exchanged at once; 0: parallel.c's own choice */
    bool patient;            /* rank 0 may be busy with what the others have no part in: nothing is said */
    bool told;
};

/* Every rank's part r of `whole` goes to rank r: rank q's arrives in into + q * parts[rank].n. */
static inline void dp_dist_exchange(struct dp_dist *d, struct dp_dist_op *op)
{
    op->gather = false;
    d->type->begin(d, op);
}
/* Rank r's part r of `whole` goes into everybody's. */
static inline void dp_dist_gather(struct dp_dist *d, struct dp_dist_op *op)
{
    op->gather = true;
    d->type->begin(d, op);
}
/* Whether it is done; makes all that is under way go on. Not asked again once it said so. */
static inline bool dp_dist_test(struct dp_dist *d, struct dp_dist_op *op)
{
    return d->type->test(d, op);
}
void dp_dist_wait(struct dp_dist *d, struct dp_dist_op *op);
/* v[i] becomes the sum over ranks: exact and the same for all where one rank alone has another value than 0. */
static inline void dp_dist_sum(struct dp_dist *d, double *v, size_t n)
{
    d->type->sum(d, v, n);
}
/* From rank 0 to all. */
static inline void dp_dist_broadcast(struct dp_dist *d, void *p, size_t bytes)
{
    d->type->broadcast(d, p, bytes);
}
static inline void dp_dist_send(struct dp_dist *d, int to, const void *p, size_t bytes)
{
    d->type->send(d, to, p, bytes);
}
static inline void dp_dist_receive(struct dp_dist *d, int from, void *p, size_t bytes)
{
    d->type->receive(d, from, p, bytes);
}
/* Say why and what to do, then end every rank with this status. */
void dp_dist_abort(struct dp_dist *d, const struct dp_err *e, int status);
static inline void dp_dist_close(struct dp_dist *d)
{
    if (d) d->type->close(d);
}

/* For carriers: called over and over while waiting; `turns` begins at 0. Spins, then yields, then sleeps, and tells of a process
 * that was told to end while the others don't answer. */
void dp_dist_idle(struct dp_dist *d, uint64_t *turns);

/* The ranks that mpirun or srun started together: once a process. *out is NULL when there is one, or without MPI. */
int dp_dist_open(struct dp_dist **out, struct dp_err *e);
/* Threads that leave every rank of this machine its share of the processors that it may use; at least 1. */
int dp_dist_threads(struct dp_dist *d);
/* `world` ranks for as many threads of this process: out[world]. Closed one by one. */
int dp_dist_local_open(struct dp_dist **out, int world, struct dp_err *e);

#endif

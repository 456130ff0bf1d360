/* base/ordered.h - jobs done by several threads, their results taken in order.
 *
 * The caller's thread makes jobs and adds them; `work` is called for each on one of the threads, several at a time; `take` for each in the order of adding,
 * one at a time, on any thread. So what comes out doesn't depend on the number of threads. Jobs that wait hold back the one who adds them, by number and by
 * what they cost, so that memory is bounded.
 *
 * Threads are started when the first job is large enough to be worth it: small ones that find nothing to do before them are done by the caller at once, which
 * is what a partner that waits for each answer wants. Thread-safety: all calls below by one thread. */
#ifndef DP_BASE_ORDERED_H
#define DP_BASE_ORDERED_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct dp_ordered;
struct dp_ordered_type {
    void (*work)(void *ctx, void *job, int worker); /* worker in [0, threads): for scratch that one thread has to itself */
    /* A failure ends it all: later jobs are dropped, and adding and finishing fail with it. Where work can fail it notes so in its job, for this to tell. */
    int (*take)(void *ctx, void *job, struct dp_err *e);
    /* It is done with: once for every job added, behind `take` where that is called. True: what it holds is worth keeping for dp_ordered_spare; else it is freed. */
    bool (*drop)(void *ctx, void *job);
    void (*free)(void *job);
};

/* At most `cost_max` of cost is under way, or one job. With one thread all is done by the caller. */
int dp_ordered_open(struct dp_ordered **out, int threads, size_t cost_max, const struct dp_ordered_type *type, void *ctx, struct dp_err *e);
/* The job is dropped on failure too, which is the first failure of `take`. */
int dp_ordered_add(struct dp_ordered *o, void *job, size_t cost, struct dp_err *e);
/* A job that was dropped and kept, the caller's again, with what it had; NULL: none. Memory that was used already costs no page faults. */
void *dp_ordered_spare(struct dp_ordered *o);
/* Waits until all is taken. e may be NULL. */
int dp_ordered_finish(struct dp_ordered *o, struct dp_err *e);
/* Drops what isn't taken yet, frees all; waits for what is being worked on. NULL is fine. */
void dp_ordered_close(struct dp_ordered *o);

#endif

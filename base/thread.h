/* base/thread.h - a pool for loops, its tasks' first failure, and a bounded queue.
 *
 * Nothing computed with these may depend on the number of threads: work is cut by the data, never by
 * the thread count, and results are put together in order. */
#ifndef DP_BASE_THREAD_H
#define DP_BASE_THREAD_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A pool of `threads` (the caller counts as one; 1 starts none). */
struct dp_pool;
int dp_pool_open(struct dp_pool **out, int threads, struct dp_err *e);
void dp_pool_close(struct dp_pool *p);
int dp_pool_threads(const struct dp_pool *p);
/* From now on each worker begins with a share of [0, n) of its own, the same of every run (others take what is left of it when theirs is done): for loops
 * one after the other over the same data, which then stay in that processor's caches. Otherwise all take the lowest i that is left. */
void dp_pool_keep_near(struct dp_pool *p);
/* Call fn(ctx, i, worker) for every i in [0, n), each once, in any order, on any worker in [0, threads);
 * returns when all are done. Not re-entrant; one caller at a time. A NULL pool runs all in the caller. */
typedef void (*dp_pool_fn)(void *ctx, size_t i, int worker);
void dp_pool_run(struct dp_pool *p, size_t n, dp_pool_fn fn, void *ctx);

/* The first failure of tasks that run side by side: what the pool's caller tells, and what the others end for. */
struct dp_failure {
    pthread_mutex_t mu;
    int rc;
    struct dp_err err;
};
#define DP_FAILURE_NONE {.mu = PTHREAD_MUTEX_INITIALIZER}
/* Note a task's result: rc >= 0 is none, and so is one behind another. Returns rc. */
int dp_failure_note(struct dp_failure *f, int rc, const struct dp_err *err);
/* The failure's code, with its error in *e (may be NULL), or DP_OK. */
int dp_failure_get(struct dp_failure *f, struct dp_err *e);

/* A bounded queue of pointers. push blocks while it is full: this is the back-pressure. */
struct dp_queue {
    pthread_mutex_t mu;
    pthread_cond_t not_empty, not_full;
    void **ring;
    size_t cap, head, count;
    bool closed;
};
int dp_queue_init(struct dp_queue *q, size_t cap, struct dp_err *e);
void dp_queue_release(struct dp_queue *q);
/* false when the queue is closed (the item stays the caller's). */
bool dp_queue_push(struct dp_queue *q, void *item);
/* NULL when the queue is closed and empty. */
void *dp_queue_pop(struct dp_queue *q);
/* Wakes everybody; what is queued can still be popped. */
void dp_queue_close(struct dp_queue *q);

#endif

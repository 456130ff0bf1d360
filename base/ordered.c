/* A ring of jobs, numbered as they come: [taken, begun) are worked on or done, [begun, added) wait. A thread that finishes the eldest takes it and all behind it that
 * are done; `taking` keeps others from doing so meanwhile. */
#include "base/ordered.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

enum { SMALL = 8 << 10, JOBS_A_THREAD = 4 };

struct slot {
    void *job;
    size_t cost;
    bool done;
};

struct dp_ordered {
    const struct dp_ordered_type *type;
    void *ctx;
    int threads;
    size_t cost_max;
    pthread_t *thread;
    int started;
    struct seat {
        struct dp_ordered *o;
        int worker;
    } *seat;
    pthread_mutex_t mu;
    pthread_cond_t more, room;
    struct slot *ring;
    size_t slots;
    uint64_t taken, begun, added;
    size_t cost; /* of [taken, added) */
    bool taking, ended;
    void **spare; /* at most `slots` */
    size_t spares;
    int rc;
    struct dp_err err;
};

/* Not locked. */
static void drop(struct dp_ordered *o, void *job)
{
    bool keep = o->type->drop(o->ctx, job);
    pthread_mutex_lock(&o->mu);
    keep = keep && o->spares < o->slots;
    if (keep) o->spare[o->spares++] = job;
    pthread_mutex_unlock(&o->mu);
    if (!keep) o->type->free(job);
}

void *dp_ordered_spare(struct dp_ordered *o)
{
    pthread_mutex_lock(&o->mu);
    void *job = o->spares ? o->spare[--o->spares] : NULL;
    pthread_mutex_unlock(&o->mu);
    return job;
}

/* Locked. What stands at the end of the queue and is done leaves it. */
static void take_done(struct dp_ordered *o)
{
    if (o->taking) return;
    o->taking = true;
    while (o->taken < o->begun && o->ring[o->taken % o->slots].done) {
        struct slot *s = &o->ring[o->taken % o->slots];
        bool good = o->rc >= 0 && !o->ended;
        struct dp_err err = {0};
        pthread_mutex_unlock(&o->mu);
        int rc = good ? o->type->take(o->ctx, s->job, &err) : DP_OK;
        drop(o, s->job);
        pthread_mutex_lock(&o->mu);
        if (rc < 0) {
            o->rc = rc;
            o->err = err;
        }
        o->cost -= s->cost;
        o->taken++;
        pthread_cond_broadcast(&o->room);
    }
    o->taking = false;
    pthread_cond_broadcast(&o->room);
}

static void *thread_main(void *v)
{
    struct seat *seat = v;
    struct dp_ordered *o = seat->o;
    pthread_mutex_lock(&o->mu);
    for (;;) {
        while (o->begun == o->added && !o->ended) pthread_cond_wait(&o->more, &o->mu);
        if (o->begun == o->added) break;
        struct slot *s = &o->ring[o->begun++ % o->slots];
        bool good = o->rc >= 0 && !o->ended;
        pthread_mutex_unlock(&o->mu);
        if (good) o->type->work(o->ctx, s->job, seat->worker);
        pthread_mutex_lock(&o->mu);
        s->done = true;
        take_done(o);
    }
    pthread_mutex_unlock(&o->mu);
    return NULL;
}

int dp_ordered_open(struct dp_ordered **out, int threads, size_t cost_max, const struct dp_ordered_type *type, void *ctx, struct dp_err *e)
{
    *out = NULL;
    struct dp_ordered *o = calloc(1, sizeof *o);
    if (!o) DP_FAIL(e, NOMEM, "threads");
    *o = (struct dp_ordered){.type = type, .ctx = ctx, .threads = threads < 1 ? 1 : threads, .cost_max = cost_max};
    o->slots = (size_t)o->threads * JOBS_A_THREAD;
    pthread_mutex_init(&o->mu, NULL);
    pthread_cond_init(&o->more, NULL);
    pthread_cond_init(&o->room, NULL);
    o->ring = calloc(o->slots, sizeof *o->ring);
    o->spare = calloc(o->slots, sizeof *o->spare);
    o->thread = calloc((size_t)o->threads, sizeof *o->thread);
    o->seat = calloc((size_t)o->threads, sizeof *o->seat);
    if (!o->ring || !o->spare || !o->thread || !o->seat) {
        dp_ordered_close(o);
        DP_FAIL(e, NOMEM, "threads");
    }
    *out = o;
    return DP_OK;
}

static int do_here(struct dp_ordered *o, void *job, struct dp_err *e)
{
    int rc = o->rc;
    if (rc < 0) *e = o->err;
    else {
        o->type->work(o->ctx, job, 0);
        rc = o->type->take(o->ctx, job, e);
        if (rc < 0) {
            o->rc = rc;
            o->err = *e;
        }
    }
    drop(o, job);
    return rc;
}

static int start_threads(struct dp_ordered *o, struct dp_err *e)
{
    while (o->started < o->threads) {
        o->seat[o->started] = (struct seat){o, o->started};
        int sys = pthread_create(&o->thread[o->started], NULL, thread_main, &o->seat[o->started]);
        if (sys && o->started) break; /* fewer will do */
        if (sys) return dp_err_set(e, DP_NOMEM, sys, __FILE__, __LINE__, "cannot start a thread");
        o->started++;
    }
    return DP_OK;
}

int dp_ordered_add(struct dp_ordered *o, void *job, size_t cost, struct dp_err *e)
{
    if (o->threads == 1) return do_here(o, job, e);
    pthread_mutex_lock(&o->mu);
    bool idle = o->taken == o->added && !o->taking; /* no thread is at anything, nor will be: only we add */
    pthread_mutex_unlock(&o->mu);
    if (idle && cost < SMALL) return do_here(o, job, e);
    if (!o->started) {
        int rc = start_threads(o, e);
        if (rc < 0) {
            drop(o, job);
            return rc;
        }
    }
    pthread_mutex_lock(&o->mu);
    while (o->rc >= 0 && o->added > o->taken && (o->added - o->taken == o->slots || o->cost + cost > o->cost_max)) pthread_cond_wait(&o->room, &o->mu);
    int rc = o->rc;
    if (rc >= 0) {
        o->ring[o->added++ % o->slots] = (struct slot){job, cost, false};
        o->cost += cost;
        pthread_cond_signal(&o->more);
    } else *e = o->err;
    pthread_mutex_unlock(&o->mu);
    if (rc < 0) drop(o, job);
    return rc;
}

int dp_ordered_finish(struct dp_ordered *o, struct dp_err *e)
{
    pthread_mutex_lock(&o->mu);
    while (o->taken < o->added || o->taking) pthread_cond_wait(&o->room, &o->mu);
    int rc = o->rc;
    if (rc < 0 && e) *e = o->err;
    pthread_mutex_unlock(&o->mu);
    return rc;
}

void dp_ordered_close(struct dp_ordered *o)
{
    if (!o) return;
    pthread_mutex_lock(&o->mu);
    o->ended = true;
    pthread_cond_broadcast(&o->more);
    pthread_mutex_unlock(&o->mu);
    for (int i = 0; i < o->started; i++) pthread_join(o->thread[i], NULL);
    pthread_cond_destroy(&o->room);
    pthread_cond_destroy(&o->more);
    pthread_mutex_destroy(&o->mu);
    while (o->spares) o->type->free(o->spare[--o->spares]);
    free(o->spare);
    free(o->ring);
    free(o->thread);
    free(o->seat);
    free(o);
}

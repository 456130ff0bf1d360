/* Between two runs that follow each other closely a thread looks for the next one for some 50 microseconds before it sleeps: to wake one costs
 * as much, and a training step has hundreds of runs. With more threads than processors nobody does, as others could use the time. */
#include "base/thread.h"

#include "base/cpu.h"

#include <immintrin.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { LOOKS = 2048 };

/* Of a run's tasks: next .. end are still to do. */
struct share {
    _Alignas(64) _Atomic size_t next;
    size_t end;
};

struct dp_pool {
    int threads, looks;
    pthread_t *tid;
    pthread_mutex_t mu;
    pthread_cond_t start, done;
    _Atomic uint64_t generation; /* written under mu, like running */
    _Atomic int running;
    bool stop;
    dp_pool_fn fn;
    void *ctx;
    bool near;
    struct share *share; /* one a thread; without `near` the first is all */
};

struct pool_arg {
    struct dp_pool *p;
    int worker;
};

/* Its own share first, then what is left of the others'. */
static void pool_work(struct dp_pool *p, int worker)
{
    for (int k = 0; k < p->threads; k++) {
        struct share *s = &p->share[p->near ? (worker + k) % p->threads : k];
        for (size_t i; (i = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed)) < s->end;) p->fn(p->ctx, i, worker);
    }
}

static void *pool_main(void *v)
{
    struct pool_arg arg = *(struct pool_arg *)v;
    free(v);
    struct dp_pool *p = arg.p;
    uint64_t seen = 0;
    pthread_mutex_lock(&p->mu);
    for (;;) {
        if (!p->stop && p->generation == seen) {
            pthread_mutex_unlock(&p->mu);
            for (int i = 0; i < p->looks && atomic_load_explicit(&p->generation, memory_order_relaxed) == seen; i++) _mm_pause();
            pthread_mutex_lock(&p->mu);
        }
        while (!p->stop && p->generation == seen) pthread_cond_wait(&p->start, &p->mu);
        if (p->stop) break;
        seen = p->generation;
        pthread_mutex_unlock(&p->mu);
        pool_work(p, arg.worker);
        pthread_mutex_lock(&p->mu);
        if (--p->running == 0) pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->mu);
    return NULL;
}

int dp_pool_open(struct dp_pool **out, int threads, struct dp_err *e)
{
    *out = NULL;
    struct dp_pool *p = calloc(1, sizeof *p);
    if (!p) DP_FAIL(e, NOMEM, "thread pool");
    p->threads = 1;
    p->looks = threads <= dp_cpu_count() ? LOOKS : 0;
    pthread_mutex_init(&p->mu, NULL);
    pthread_cond_init(&p->start, NULL);
    pthread_cond_init(&p->done, NULL);
    p->tid = calloc(threads > 1 ? (size_t)threads : 1, sizeof *p->tid);
    p->share = aligned_alloc(_Alignof(struct share), sizeof *p->share * (threads > 1 ? (size_t)threads : 1));
    if (!p->tid || !p->share) {
        dp_pool_close(p);
        DP_FAIL(e, NOMEM, "thread pool");
    }
    for (int i = 1; i < threads; i++) {
        struct pool_arg *arg = malloc(sizeof *arg);
        int sys = ENOMEM;
        if (arg) {
            *arg = (struct pool_arg){p, i};
            sys = pthread_create(&p->tid[i - 1], NULL, pool_main, arg);
            if (sys) free(arg);
        }
        if (sys) {
            dp_pool_close(p);
            return dp_err_set(e, DP_NOMEM, sys, __FILE__, __LINE__, "cannot start thread %d of %d", i, threads);
        }
        p->threads++;
    }
    *out = p;
    return DP_OK;
}

void dp_pool_close(struct dp_pool *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->mu);
    p->stop = true;
    pthread_cond_broadcast(&p->start);
    pthread_mutex_unlock(&p->mu);
    for (int i = 1; i < p->threads; i++) pthread_join(p->tid[i - 1], NULL);
    free(p->tid);
    free(p->share);
    pthread_mutex_destroy(&p->mu);
    pthread_cond_destroy(&p->start);
    pthread_cond_destroy(&p->done);
    free(p);
}

void dp_pool_keep_near(struct dp_pool *p)
{
    if (p) p->near = true;
}

int dp_pool_threads(const struct dp_pool *p)
{
    return p ? p->threads : 1;
}

void dp_pool_run(struct dp_pool *p, size_t n, dp_pool_fn fn, void *ctx)
{
    if (!p || p->threads == 1 || n <= 1) {
        for (size_t i = 0; i < n; i++) fn(ctx, i, 0);
        return;
    }
    pthread_mutex_lock(&p->mu);
    p->fn = fn;
    p->ctx = ctx;
    for (size_t i = 0, t = (size_t)p->threads; i < t; i++) {
        atomic_store_explicit(&p->share[i].next, p->near ? i * n / t : 0, memory_order_relaxed);
        p->share[i].end = p->near ? (i + 1) * n / t : i ? 0 : n;
    }
    p->running = p->threads - 1;
    p->generation++;
    pthread_cond_broadcast(&p->start);
    pthread_mutex_unlock(&p->mu);
    pool_work(p, 0);
    for (int i = 0; i < p->looks && atomic_load_explicit(&p->running, memory_order_relaxed); i++) _mm_pause();
    pthread_mutex_lock(&p->mu);
    while (p->running) pthread_cond_wait(&p->done, &p->mu);
    pthread_mutex_unlock(&p->mu);
}

int dp_failure_note(struct dp_failure *f, int rc, const struct dp_err *err)
{
    if (rc >= 0) return rc;
    pthread_mutex_lock(&f->mu);
    if (f->rc >= 0) {
        f->rc = rc;
        f->err = *err;
    }
    pthread_mutex_unlock(&f->mu);
    return rc;
}

int dp_failure_get(struct dp_failure *f, struct dp_err *e)
{
    pthread_mutex_lock(&f->mu);
    int rc = f->rc;
    if (rc < 0 && e) *e = f->err;
    pthread_mutex_unlock(&f->mu);
    return rc;
}

int dp_queue_init(struct dp_queue *q, size_t cap, struct dp_err *e)
{
    *q = (struct dp_queue){.cap = cap};
    q->ring = calloc(cap, sizeof *q->ring);
    if (!q->ring) DP_FAIL(e, NOMEM, "queue of %zu", cap);
    pthread_mutex_init(&q->mu, NULL);
    pthread_cond_init(&q->not_empty, NULL);
    pthread_cond_init(&q->not_full, NULL);
    return DP_OK;
}

void dp_queue_release(struct dp_queue *q)
{
    if (!q->ring) return;
    free(q->ring);
    q->ring = NULL;
    pthread_mutex_destroy(&q->mu);
    pthread_cond_destroy(&q->not_empty);
    pthread_cond_destroy(&q->not_full);
}

bool dp_queue_push(struct dp_queue *q, void *item)
{
    pthread_mutex_lock(&q->mu);
    while (!q->closed && q->count == q->cap) pthread_cond_wait(&q->not_full, &q->mu);
    bool ok = !q->closed;
    if (ok) {
        q->ring[(q->head + q->count++) % q->cap] = item;
        pthread_cond_signal(&q->not_empty);
    }
    pthread_mutex_unlock(&q->mu);
    return ok;
}

void *dp_queue_pop(struct dp_queue *q)
{
    pthread_mutex_lock(&q->mu);
    while (!q->closed && q->count == 0) pthread_cond_wait(&q->not_empty, &q->mu);
    void *item = NULL;
    if (q->count) {
        item = q->ring[q->head];
        q->head = (q->head + 1) % q->cap;
        q->count--;
        pthread_cond_signal(&q->not_full);
    }
    pthread_mutex_unlock(&q->mu);
    return item;
}

void dp_queue_close(struct dp_queue *q)
{
    pthread_mutex_lock(&q->mu);
    q->closed = true;
    pthread_cond_broadcast(&q->not_empty);
    pthread_cond_broadcast(&q->not_full);
    pthread_mutex_unlock(&q->mu);
}

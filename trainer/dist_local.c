/* Ranks as threads: letters in one mailbox, each with sender, receiver and the number of the call it
 * belongs to, which is the same on every rank because all make the same calls. A letter is a copy, so a sender
 * never waits. */
#include "trainer/dist.h"

#include "base/cpu.h"
#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct letter {
    struct letter *next;
    int from, to;
    uint64_t turn;
    size_t bytes;
    char text[];
};
struct office {
    pthread_mutex_t mu;
    struct letter *letters;
    int open;
};
struct local {
    struct dp_dist d;
    struct office *office;
    uint64_t turn; /* of collective calls */
};
#define DIRECT (UINT64_C(1) << 63) /* the turn of letters of send and receive, found in order */

static struct local *self(struct dp_dist *d)
{
    return (struct local *)d;
}

static void post(struct dp_dist *d, int to, uint64_t turn, const void *p, size_t bytes)
{
    struct office *o = self(d)->office;
    struct letter *l = malloc(sizeof *l + bytes), **end;
    DP_ASSERT(l);
    *l = (struct letter){NULL, d->rank, to, turn, bytes};
    memcpy(l->text, p, bytes);
    pthread_mutex_lock(&o->mu);
    for (end = &o->letters; *end; end = &(*end)->next) {}
    *end = l;
    pthread_mutex_unlock(&o->mu);
}

/* false: not there yet. */
static bool fetch(struct dp_dist *d, int from, uint64_t turn, void *p, size_t bytes)
{
    struct office *o = self(d)->office;
    struct letter *l = NULL;
    pthread_mutex_lock(&o->mu);
    for (struct letter **at = &o->letters; *at; at = &(*at)->next) {
        if ((*at)->from != from || (*at)->to != d->rank || (*at)->turn != turn) continue;
        l = *at;
        *at = l->next;
        break;
    }
    pthread_mutex_unlock(&o->mu);
    if (!l) return false;
    DP_ASSERT(l->bytes == bytes);
    memcpy(p, l->text, bytes);
    free(l);
    return true;
}

static void fetch_wait(struct dp_dist *d, int from, uint64_t turn, void *p, size_t bytes)
{
    for (uint64_t turns = 0; !fetch(d, from, turn, p, bytes);) dp_dist_idle(d, &turns);
}

static void begin(struct dp_dist *d, struct dp_dist_op *op)
{
    op->turn = self(d)->turn++ << 32; /* the low half counts the letters that have come */
    for (int r = 0; r < d->world; r++) {
        const struct dp_dist_part *p = &op->parts[op->gather ? d->rank : r];
        if (r != d->rank) post(d, r, op->turn >> 32, op->whole + p->at, p->n * sizeof(float));
    }
}

static bool test(struct dp_dist *d, struct dp_dist_op *op)
{
    for (int r = (int)(uint32_t)op->turn; r < d->world; r++, op->turn++) {
        const struct dp_dist_part *p = &op->parts[op->gather ? r : d->rank];
        float *into = op->gather ? op->whole + p->at : op->into + (uint64_t)r * p->n;
        if (r != d->rank && !fetch(d, r, op->turn >> 32, into, p->n * sizeof(float))) return false;
    }
    return true;
}

static void broadcast(struct dp_dist *d, void *p, size_t bytes)
{
    uint64_t turn = self(d)->turn++;
    if (d->rank) fetch_wait(d, 0, turn, p, bytes);
    else
        for (int r = 1; r < d->world; r++) post(d, r, turn, p, bytes);
}

static void sum(struct dp_dist *d, double *v, size_t n)
{
    uint64_t turn = self(d)->turn++;
    double *all = calloc(n * (size_t)d->world, sizeof *all);
    DP_ASSERT(all);
    for (int r = 0; r < d->world; r++) {
        double *row = all + (size_t)r * n;
        if (r == d->rank) memcpy(row, v, n * sizeof *v);
        else post(d, r, turn, v, n * sizeof *v);
    }
    for (int r = 0; r < d->world; r++)
        if (r != d->rank) fetch_wait(d, r, turn, all + (size_t)r * n, n * sizeof *v);
    memset(v, 0, n * sizeof *v);
    for (int r = 0; r < d->world; r++)
        for (size_t i = 0; i < n; i++) v[i] += all[(size_t)r * n + i];
    free(all);
}

static void send_to(struct dp_dist *d, int to, const void *p, size_t bytes)
{
    post(d, to, DIRECT, p, bytes);
}

static void receive_from(struct dp_dist *d, int from, void *p, size_t bytes)
{
    fetch_wait(d, from, DIRECT, p, bytes);
}

static void abort_all(struct dp_dist *d, int status)
{
    (void)d;
    (void)status;
    abort();
}

static void close_one(struct dp_dist *d)
{
    struct office *o = self(d)->office;
    pthread_mutex_lock(&o->mu);
    bool last = --o->open == 0;
    pthread_mutex_unlock(&o->mu);
    if (last) {
        for (struct letter *l = o->letters, *next; l; l = next) {
            next = l->next;
            free(l);
        }
        pthread_mutex_destroy(&o->mu);
        free(o);
    }
    free(d);
}

int dp_dist_local_open(struct dp_dist **out, int world, struct dp_err *e)
{
    static const struct dp_dist_type type = {begin, test, sum, broadcast, send_to, receive_from, abort_all, close_one};
    struct office *o = calloc(1, sizeof *o);
    for (int r = 0; r < world; r++) out[r] = calloc(1, sizeof(struct local));
    for (int r = 0; r < world; r++) {
        if (o && out[r]) continue;
        free(o);
        for (int k = 0; k < world; k++) free(out[k]);
        DP_FAIL(e, NOMEM, "%d ranks", world);
    }
    pthread_mutex_init(&o->mu, NULL);
    o->open = world;
    for (int r = 0; r < world; r++) *self(out[r]) = (struct local){{.rank = r, .world = world, .type = &type, .saved = -1, .patient = true}, o, 0};
    return DP_OK;
}

/* --- what carriers share --- */

void dp_dist_wait(struct dp_dist *d, struct dp_dist_op *op)
{
    for (uint64_t turns = 0; !dp_dist_test(d, op);) dp_dist_idle(d, &turns);
}

/* "started again, ..." */
static void remedy(const struct dp_dist *d, char *out, size_t size)
{
    if (d->saved > 0)
        snprintf(out, size, "start the job again, with any number of ranks: it goes on from the checkpoint behind step %" PRId64, d->saved);
    else snprintf(out, size, "there is no checkpoint yet: the job begins anew when it is started again");
}

/* Spinning is for what comes within microseconds; yielding leaves a core that others wait for; what takes longer (rank 0 reads, or
 * saves) isn't worth a processor. */
void dp_dist_idle(struct dp_dist *d, uint64_t *turns)
{
    enum { SPIN = 200, YIELD = 20000, TELL = YIELD + 500 };
    uint64_t n = (*turns)++;
    if (n < SPIN) return;
    if (n < YIELD) sched_yield();
    else nanosleep(&(struct timespec){0, 100000}, NULL);
    if (n < TELL || d->patient || d->told || !d->stop || !atomic_load(d->stop)) return;
    char what[160];
    d->told = true;
    remedy(d, what, sizeof what);
    dp_log_write(DP_LOG_ERROR, "train", "rank %d was told to end and another rank doesn't answer; if one died, %s", d->rank, what);
}

void dp_dist_abort(struct dp_dist *d, const struct dp_err *e, int status)
{
    char what[160];
    remedy(d, what, sizeof what);
    dp_log_write(DP_LOG_ERROR, "train", "rank %d of %d: %s; all ranks end; %s", d->rank, d->world, e->msg, what);
    d->type->abort(d, status);
}

#ifndef DP_MPI
int dp_dist_open(struct dp_dist **out, struct dp_err *e)
{
    (void)e;
    *out = NULL;
    return DP_OK;
}

int dp_dist_threads(struct dp_dist *d)
{
    (void)d;
    return dp_cpu_count();
}
#endif

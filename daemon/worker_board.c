#include "daemon/worker_board.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

static struct {
    pthread_mutex_t mu;
    bool taken[DP_BOARD_MAX];
    struct dp_board_note note[DP_BOARD_MAX];
} B = {.mu = PTHREAD_MUTEX_INITIALIZER};

/* The place's note under the lock, or NULL without it. */
static struct dp_board_note *lock(int place)
{
    if (place < 0) return NULL;
    pthread_mutex_lock(&B.mu);
    return &B.note[place];
}

static void unlock(void)
{
    pthread_mutex_unlock(&B.mu);
}

int dp_board_take(void)
{
    int place = 0;
    pthread_mutex_lock(&B.mu);
    while (place < DP_BOARD_MAX && B.taken[place]) place++;
    if (place == DP_BOARD_MAX) place = -1;
    else {
        B.taken[place] = true;
        B.note[place] = (struct dp_board_note){0};
    }
    unlock();
    return place;
}

void dp_board_leave(int place)
{
    if (!lock(place)) return;
    B.taken[place] = false;
    unlock();
}

void dp_board_process(int place, int pid, int lanes)
{
    struct dp_board_note *n = lock(place);
    if (!n) return;
    n->pid = pid;
    n->lanes = lanes;
    n->begun = pid ? (int64_t)time(NULL) : 0;
    unlock();
}

void dp_board_begin(int place, const char *unit)
{
    struct dp_board_note *n = lock(place);
    if (!n) return;
    snprintf(n->unit, sizeof n->unit, "%s", unit ? unit : "?");
    n->unit_begun = (int64_t)time(NULL);
    n->unit_documents = n->unit_bytes = 0;
    unlock();
}

void dp_board_progress(int place, uint64_t bytes, uint64_t documents)
{
    struct dp_board_note *n = lock(place);
    if (!n) return;
    n->unit_bytes += bytes;
    n->unit_documents += documents;
    unlock();
}

void dp_board_end(int place, bool died)
{
    struct dp_board_note *n = lock(place);
    if (!n) return;
    n->units += !died;
    n->deaths += died;
    n->unit[0] = 0;
    n->unit_begun = 0;
    n->unit_documents = n->unit_bytes = 0;
    unlock();
}

size_t dp_board_read(struct dp_board_note *out, size_t max)
{
    size_t n = 0;
    pthread_mutex_lock(&B.mu);
    for (int i = 0; i < DP_BOARD_MAX && n < max; i++)
        if (B.taken[i]) out[n++] = B.note[i];
    unlock();
    return n;
}

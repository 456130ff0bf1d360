#include "trainer_feed/feed_receiver.h"

#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct dp_feed_receiver {
    pthread_t thread;
    bool thread_up;
    struct dp_feed_conn conn;
    struct dp_feed_accept a;
    struct dp_feed_shape shape;
    struct dp_feed_widen widen;
    struct dp_feed_ring *ring;
    char *slots, *scratch; /* scratch: a payload, decompressed */
    struct dp_zstd_decoder *z;
    int batch_fd, room_fd, end_fd, quit_fd;
    uint64_t made, credit, seen; /* seen: what was taken, when credit was last thought about */
    _Atomic uint64_t bytes;
    int rc; /* of the thread, when end_fd says so */
    bool refused; /* rc is what the server said */
    struct dp_err err;
};

static void signal_fd(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0) return;
}

static int batch(struct dp_feed_receiver *r, const struct dp_feed_frame *f, struct dp_err *e)
{
    if (r->made >= r->credit) DP_FAIL(e, CORRUPT, "feed: a batch that wasn't asked for");
    struct dp_span payload = f->payload;
    if (f->flags & DP_FEED_ZSTD) {
        if (!r->z) DP_TRY(dp_zstd_decoder_open(&r->z, e));
        if (!r->scratch && !(r->scratch = malloc((size_t)dp_feed_batch_bytes_max(&r->shape) + 1))) DP_FAIL(e, NOMEM, "feed: a batch");
        DP_TRY(dp_zstd_decode(r->z, payload, r->scratch, f->raw_bytes, e));
        payload = dp_span(r->scratch, f->raw_bytes);
    }
    DP_TRY(dp_feed_batch_decode(&r->shape, &r->a, &r->widen, payload, r->slots + r->made % r->a.slots * r->a.slot_bytes, e));
    atomic_store_explicit(&r->bytes, r->conn.bytes_in, memory_order_relaxed);
    atomic_store(&r->ring->made, ++r->made);
    dp_feed_ring_wake(&r->ring->hungry, r->batch_fd);
    return DP_OK;
}

static int heard(struct dp_feed_receiver *r, const struct dp_feed_frame *f, struct dp_err *e)
{
    switch (f->kind) {
    case DP_FEED_BATCH: return batch(r, f, e);
    case DP_FEED_PING: return dp_feed_conn_say(&r->conn, DP_FEED_PONG, f->arg, dp_span("", 0), e);
    case DP_FEED_PONG: return DP_OK;
    case DP_FEED_REFUSE: r->refused = true; return dp_feed_refuse_parse(f->payload, e);
    default: DP_FAIL(e, CORRUPT, "feed: frame %u from a server that serves", f->kind);
    }
}

/* Free slots as credit, many at once: a frame for every half of the ring, but at once when the server has none left. */
static int grant(struct dp_feed_receiver *r, struct dp_err *e)
{
    r->seen = atomic_load(&r->ring->taken);
    uint64_t may = r->seen + r->a.slots;
    if (may == r->credit || (may - r->credit < (r->a.slots + 1) / 2 && r->credit > r->made)) return DP_OK;
    r->credit = may;
    return dp_feed_conn_say(&r->conn, DP_FEED_CREDIT, may, dp_span("", 0), e);
}

static int receive(struct dp_feed_receiver *r, struct dp_err *e)
{
    const int others[] = {r->room_fd, r->quit_fd};
    for (;;) {
        struct dp_feed_frame f;
        uint64_t quit;
        int rc;
        DP_TRY(grant(r, e));
        while ((rc = dp_feed_conn_receive(&r->conn, &f, e)) == DP_OK) {
            DP_TRY(heard(r, &f, e));
            DP_TRY(grant(r, e));
            if (dp_feed_conn_unsent(&r->conn)) DP_TRY(dp_feed_conn_flush(&r->conn, e));
        }
        if (rc != DP_EMPTY) return rc;
        rc = dp_feed_conn_flush(&r->conn, e);
        if (rc < 0 || rc == DP_EOF) return rc;
        if (r->credit - r->made < (r->a.slots + 1) / 2) { /* else what comes wakes us soon enough to see what was given back */
            atomic_store(&r->ring->crammed, 1);
            if (atomic_load(&r->ring->taken) != r->seen) continue;
        }
        DP_TRY(dp_feed_conn_wait(&r->conn, others, 2, (int)(r->conn.dead_s * 100) + 1, e));
        if (read(r->quit_fd, &quit, sizeof quit) > 0) return DP_EOF;
        dp_feed_ring_heard(r->room_fd);
        rc = dp_feed_conn_tend(&r->conn, e);
        if (rc != DP_OK) return rc;
    }
}

static void *receiver_main(void *arg)
{
    struct dp_feed_receiver *r = arg;
    r->rc = receive(r, &r->err);
    signal_fd(r->end_fd);
    signal_fd(r->batch_fd);
    return NULL;
}

int dp_feed_receiver_open(struct dp_feed_receiver **out, struct dp_feed_conn *conn, const struct dp_feed_accept *a, struct dp_err *e)
{
    sigset_t all, before;
    *out = NULL;
    struct dp_feed_receiver *r = calloc(1, sizeof *r);
    if (!r) {
        dp_feed_conn_close(conn);
        DP_FAIL(e, NOMEM, "feed client");
    }
    r->conn = *conn;
    *conn = (struct dp_feed_conn){.fd = -1};
    r->a = *a;
    dp_feed_shape_init(&r->shape, a->seq_len, a->batch, a->vocab_size, a->meta);
    dp_feed_widen_init(&r->widen);
    r->batch_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->ring = aligned_alloc(64, sizeof *r->ring);
    r->slots = aligned_alloc(64, (size_t)(a->slots * a->slot_bytes));
    int rc = r->ring && r->slots && r->batch_fd >= 0 && r->room_fd >= 0 && r->end_fd >= 0 && r->quit_fd >= 0
                 ? DP_OK
                 : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed: %" PRIu64 " batches of %" PRIu64 " bytes", a->slots, a->slot_bytes);
    if (rc >= 0) {
        memset(r->ring, 0, sizeof *r->ring);
        *r->ring = (struct dp_feed_ring){.magic = DP_FEED_RING_MAGIC, .slots = a->slots, .slot_bytes = a->slot_bytes};
        rc = dp_feed_conn_limit(&r->conn, dp_feed_batch_bytes_max(&r->shape), e);
    }
    if (rc >= 0) { /* signals are the caller's threads' */
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        int bad = pthread_create(&r->thread, NULL, receiver_main, r);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        r->thread_up = bad == 0;
        if (bad) rc = dp_err_set(e, DP_NOMEM, bad, __FILE__, __LINE__, "feed: the receiving thread");
    }
    if (rc < 0) dp_feed_receiver_close(r);
    else *out = r;
    return rc;
}

void dp_feed_receiver_close(struct dp_feed_receiver *r)
{
    if (!r) return;
    if (r->thread_up) {
        signal_fd(r->quit_fd);
        pthread_join(r->thread, NULL);
    }
    dp_feed_conn_close(&r->conn);
    int fds[] = {r->batch_fd, r->room_fd, r->end_fd, r->quit_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0) close(fds[i]);
    dp_zstd_decoder_close(r->z);
    free(r->ring);
    free(r->slots);
    free(r->scratch);
    free(r);
}

struct dp_feed_ring *dp_feed_receiver_ring(struct dp_feed_receiver *r)
{
    return r->ring;
}
const char *dp_feed_receiver_slots(const struct dp_feed_receiver *r)
{
    return r->slots;
}
int dp_feed_receiver_batch_fd(const struct dp_feed_receiver *r)
{
    return r->batch_fd;
}
int dp_feed_receiver_room_fd(const struct dp_feed_receiver *r)
{
    return r->room_fd;
}
int dp_feed_receiver_end_fd(const struct dp_feed_receiver *r)
{
    return r->end_fd;
}

void dp_feed_receiver_count(const struct dp_feed_receiver *r, uint64_t *batches, uint64_t *bytes)
{
    *batches = atomic_load(&r->ring->made);
    *bytes = atomic_load_explicit(&r->bytes, memory_order_relaxed);
}

int dp_feed_receiver_result(struct dp_feed_receiver *r, struct dp_err *e)
{
    if (r->thread_up) pthread_join(r->thread, NULL);
    r->thread_up = false;
    if (r->refused) {
        *e = r->err;
        return r->rc;
    }
    /* What was damaged on the way, or by a network that went, another connection can set right. */
    if (r->err.code) dp_log(WARN, "feed", "%s", r->err.msg);
    if (r->rc == DP_NOMEM) *e = r->err;
    return r->rc == DP_NOMEM ? DP_NOMEM : DP_EOF;
}

/* One client on this machine: hand out the ring, then fill slots while there is room. The thread sleeps in poll on three
 * descriptors: room in the ring, the client's socket (which ends when the client does, by whatever death), and the server's stop. */
#include "trainer_feed/feed_internal.h"
#include "trainer_feed/feed_serving.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where batches are read as they are made, the ring's lines go from one core's cache to the other's by way of what they share; a ring of a megabyte
 * stays there (`dpipe bench feed`). */
#define RING_USUAL (UINT64_C(1) << 20)
enum { SLOTS_USUAL_MIN = 4, SLOTS_USUAL_MAX = 64 };

static int ring_plan(struct dp_feed_serving *c, uint64_t slots, struct dp_err *e)
{
    uint64_t slot = c->a.slot_bytes, most = c->s->o.ring_bytes_max;
    if (!slots) {
        slots = RING_USUAL / slot;
        slots = slots < SLOTS_USUAL_MIN ? SLOTS_USUAL_MIN : slots > SLOTS_USUAL_MAX ? SLOTS_USUAL_MAX : slots;
        while (slots > 1 && slots * slot + DP_FEED_RING_HEAD > most) slots--;
    }
    c->ring_bytes = DP_FEED_RING_HEAD + slots * slot;
    if (c->ring_bytes > most)
        DP_FAIL(e, LIMIT, "feed: %" PRIu64 " slots of %" PRIu64 " bytes (batch %" PRId64 ", seq_len %" PRId64 ") are over %" PRIu64 ", this server's limit of a ring",
                slots, slot, c->a.batch, c->a.seq_len, most);
    c->a.slots = slots;
    return DP_OK;
}

static int ring_open(struct dp_feed_serving *c, struct dp_err *e)
{
    c->ring_fd = memfd_create("dpipe-feed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (c->ring_fd < 0 || fallocate(c->ring_fd, 0, 0, (off_t)c->ring_bytes) != 0 || /* not at a write's fault */
        fcntl(c->ring_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        DP_FAIL_SYS(e, "feed: a ring of %" PRIu64 " bytes", c->ring_bytes);
    c->batch_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->batch_fd < 0 || c->room_fd < 0) DP_FAIL_SYS(e, "feed: eventfd");
    void *p = mmap(NULL, c->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, c->ring_fd, 0);
    if (p == MAP_FAILED) DP_FAIL_SYS(e, "feed: mapping a ring of %" PRIu64 " bytes", c->ring_bytes);
    c->ring = p;
    c->ring->magic = DP_FEED_RING_MAGIC;
    c->ring->slots = c->a.slots;
    c->ring->slot_bytes = c->a.slot_bytes;
    return DP_OK;
}

/* The client's request; DP_EOF when it went, or we are to stop. */
static int hear(struct dp_feed_serving *c, struct dp_err *e)
{
    int rc = DP_EMPTY;
    for (int ms = 0; rc == DP_EMPTY && ms < DP_FEED_HEAR_SECONDS * 1000; ms += DP_FEED_TICK_MS) {
        if (dp_feed_stopping(c->s)) return DP_EOF;
        rc = dp_channel_receive(c->sock, &c->m, DP_FEED_TICK_MS, e);
    }
    if (rc == DP_EMPTY) DP_FAIL(e, USAGE, "feed: no request within %d s", DP_FEED_HEAR_SECONDS);
    if (rc != DP_OK) return rc;
    dp_message_close(&c->m);
    if (c->m.kind != DP_FEED_ASK) DP_FAIL(e, USAGE, "feed: message %" PRIu32 " where a request was expected", c->m.kind);
    return DP_OK;
}

static int greet(struct dp_feed_serving *c, struct dp_err *e)
{
    struct dp_buf b;
    uint64_t slots = 0;
    int rc = hear(c, e);
    if (rc == DP_OK) rc = dp_feed_serving_accept(c, dp_span(c->m.bytes, c->m.len), &slots, e);
    if (rc == DP_OK) rc = ring_plan(c, slots, e);
    if (rc == DP_OK) rc = ring_open(c, e);
    if (rc != DP_OK) return rc;
    const int fds[DP_FEED_FDS] = {c->ring_fd, c->batch_fd, c->room_fd};
    dp_buf_init(&b, DP_CHANNEL_BYTES_MAX);
    dp_feed_accept_print(&c->a, &b);
    rc = dp_buf_check(&b, "answer", e);
    if (rc >= 0) rc = dp_channel_send(c->sock, DP_FEED_ACCEPT, b.ptr, b.len, fds, DP_FEED_FDS, DP_FEED_HEAR_SECONDS * 1000, e);
    dp_buf_release(&b);
    return rc;
}

static int taken(struct dp_feed_serving *c, struct dp_err *e)
{
    c->taken = atomic_load_explicit(&c->ring->taken, memory_order_acquire);
    if (c->made - c->taken > c->a.slots) DP_FAIL(e, USAGE, "feed: a client says it took batch %" PRIu64 ", of %" PRIu64 " made", c->taken, c->made);
    return DP_OK;
}

/* Until there is room. DP_EOF when the client is gone or we are to stop; DP_USAGE when it broke the rules. */
static int wait_for_room(struct dp_feed_serving *c, struct dp_err *e)
{
    struct pollfd p[] = {{c->room_fd, POLLIN, 0}, {c->sock, POLLIN, 0}, {c->s->stop_fd, POLLIN, 0}};
    dp_feed_ring_look(&c->patience, &c->ring->taken, c->taken);
    for (;;) {
        if (dp_feed_stopping(c->s)) return DP_EOF;
        DP_TRY(taken(c, e));
        if (c->made - c->taken < c->a.slots) return DP_OK;
        atomic_store(&c->ring->crammed, 1);
        if (atomic_load(&c->ring->taken) != c->taken) continue;
        if (poll(p, 3, -1) < 0 && errno != EINTR) DP_FAIL_SYS(e, "feed: poll");
        if (p[0].revents) {
            dp_feed_ring_heard(c->room_fd);
            dp_feed_ring_step_aside(&c->neighbour, c->ring);
        }
        if (!p[1].revents) continue;
        int rc = dp_channel_receive(c->sock, &c->m, 0, e);
        dp_message_close(&c->m);
        if (rc == DP_OK) DP_FAIL(e, USAGE, "feed: message %" PRIu32 " from a client that is being served", c->m.kind);
        if (rc != DP_EMPTY) return rc;
    }
}

static int fill(struct dp_feed_serving *c, struct dp_err *e)
{
    uint64_t step = (uint64_t)c->a.batch * (uint64_t)c->a.world, sample = c->a.sample;
    for (;; sample += step) {
        struct dp_feed_meta m;
        if (c->made - c->taken >= c->a.slots) {
            int rc = wait_for_room(c, e);
            if (rc != DP_OK) return rc;
        }
        if (dp_feed_stopping(c->s)) return DP_EOF;
        char *slot = (char *)c->ring + DP_FEED_RING_HEAD + c->made % c->a.slots * c->a.slot_bytes;
        struct dp_feed_slot head = {sample, sample + step};
        memcpy(slot, &head, sizeof head);
        dp_feed_shape_meta(&c->shape, slot, &m);
        DP_TRY(dp_feed_rows(c->feed, slot + DP_FEED_SLOT_HEAD, (size_t)c->shape.id_bytes, c->shape.meta ? &m : NULL, e));
        atomic_store(&c->ring->made, ++c->made);
        if (dp_feed_ring_wake(&c->ring->hungry, c->batch_fd)) dp_feed_ring_step_aside(&c->neighbour, c->ring);
        dp_feed_serving_count(c);
    }
}

int dp_feed_serve_ring(struct dp_feed_serving *c, struct dp_err *e)
{
    int rc = greet(c, e);
    if (rc == DP_OK) {
        atomic_store(&c->serving, true);
        rc = fill(c, e);
    }
    if (rc < 0) dp_feed_serving_refuse(c->sock, e);
    return rc;
}

void dp_feed_serving_refuse(int sock, const struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, DP_CHANNEL_BYTES_MAX);
    dp_feed_refuse_print(e, &b);
    dp_channel_send(sock, DP_FEED_REFUSE, b.ptr, b.len, NULL, 0, 1000, NULL);
    dp_buf_release(&b);
}

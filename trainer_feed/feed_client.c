/* The consumer's side of the ring. The state that the server sends at the start, with the sample number that the client itself counts, is all that
 * is needed to go on with another server, also when the manifest has grown meanwhile. */
#include "trainer_feed/feed_client.h"

#include "base/channel.h"
#include "base/log.h"
#include "trainer_feed/feed_wire.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 200, ANSWER_SECONDS = 600, RETRY_MS_MIN = 5, RETRY_MS_MAX = 500, SPINS = 300 /* about a microsecond */ };

struct dp_feed_client {
    char *path, *wants;
    uint64_t slots, reconnects;
    double reconnect_seconds;
    const atomic_bool *stop;
    bool has_state, known; /* a state to resume from; a server has accepted us before */
    struct dp_feed_state state;
    uint64_t sample; /* of the next batch */
    struct dp_feed_accept a;
    int sock, batch_fd, room_fd; /* -1: none */
    struct dp_feed_ring *ring;   /* writable: the head alone */
    const char *slot;            /* readable: the rest */
    uint64_t made, taken;
    bool held; /* the batch at `taken` is the caller's */
    struct dp_message m;
};

static bool stopped(const struct dp_feed_client *c)
{
    return c->stop && atomic_load(c->stop);
}

static void hang_up(struct dp_feed_client *c)
{
    if (c->slot) munmap((void *)(uintptr_t)c->slot, c->a.slots * c->a.slot_bytes);
    if (c->ring) munmap(c->ring, DP_FEED_RING_HEAD);
    int fds[] = {c->sock, c->batch_fd, c->room_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0) close(fds[i]);
    c->sock = c->batch_fd = c->room_fd = -1;
    c->slot = NULL;
    c->ring = NULL;
    c->made = c->taken = 0;
    c->held = false;
}

/* --- connecting --- */

static int dial(struct dp_feed_client *c, struct dp_err *e)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(c->path) >= sizeof name.sun_path) DP_FAIL(e, CONFIG, "%s: a socket's name has at most %zu bytes", c->path, sizeof name.sun_path - 1);
    memcpy(name.sun_path, c->path, strlen(c->path) + 1);
    c->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->sock < 0) DP_FAIL_SYS(e, "feed: socket");
    if (connect(c->sock, (const struct sockaddr *)&name, sizeof name) == 0) return DP_OK;
    if (errno == ECONNREFUSED || errno == ENOENT) DP_FAIL(e, NOTFOUND, "%s: no feed server is there; start one with `dpipe feed --serve`", c->path);
    if (errno == EAGAIN) DP_FAIL(e, BUSY, "%s: the feed server takes no connection now", c->path);
    DP_FAIL_SYS(e, "%s: connect", c->path);
}

static int ask(struct dp_feed_client *c, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, DP_FEED_ASK_BYTES_MAX);
    dp_buf_add_str(&b, c->wants);
    if (b.len && b.ptr[b.len - 1] != '\n') dp_buf_add_char(&b, '\n');
    dp_buf_printf(&b, "start=%" PRIu64 "\nslots=%" PRIu64 "\n", c->sample, c->slots);
    if (c->has_state) {
        dp_buf_add_str(&b, "state=");
        dp_feed_state_print(&c->state, &b);
        dp_buf_add_char(&b, '\n');
    }
    int rc = dp_buf_check(&b, "feed: request", e);
    if (rc >= 0) rc = dp_channel_send(c->sock, DP_FEED_ASK, b.ptr, b.len, NULL, 0, 1000, e);
    dp_buf_release(&b);
    return rc;
}

static int gone(const struct dp_feed_client *c, struct dp_err *e)
{
    DP_FAIL(e, NOTFOUND, "%s: the feed server is gone", c->path);
}

/* Opening a big data set takes the server a while. */
static int hear(struct dp_feed_client *c, struct dp_err *e)
{
    int rc = DP_EMPTY;
    for (int ms = 0; rc == DP_EMPTY && ms < ANSWER_SECONDS * 1000; ms += TICK_MS) {
        if (stopped(c)) DP_FAIL(e, STOPPED, "feed: stopped while waiting for %s", c->path);
        rc = dp_channel_receive(c->sock, &c->m, TICK_MS, e);
    }
    if (rc == DP_EOF) rc = dp_channel_receive(c->sock, &c->m, 0, e); /* a reset comes before what was said: a refusal, unasked */
    if (rc == DP_EOF) return gone(c, e);
    if (rc == DP_EMPTY) DP_FAIL(e, BUSY, "%s: no answer for %d s", c->path, ANSWER_SECONDS);
    DP_TRY(rc);
    struct dp_span text = dp_span(c->m.bytes, c->m.len);
    if (c->m.kind == DP_FEED_REFUSE) return dp_feed_refuse_parse(text, e);
    if (c->m.kind != DP_FEED_ACCEPT || c->m.fds != DP_FEED_FDS) DP_FAIL(e, CORRUPT, "%s: what answers is no feed server", c->path);
    return dp_feed_accept_parse(&c->a, text, e);
}

/* Seals first: what can't shrink can't fault. */
static int map_ring(struct dp_feed_client *c, struct dp_err *e)
{
    struct stat st;
    uint64_t bytes = c->a.slots * c->a.slot_bytes;
    int fd = c->m.fd[0], seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) != 0 || st.st_size < DP_FEED_RING_HEAD ||
        (uint64_t)st.st_size - DP_FEED_RING_HEAD < bytes)
        DP_FAIL(e, CORRUPT, "%s: the server's ring is not what it says", c->path);
    void *head = mmap(NULL, DP_FEED_RING_HEAD, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (head == MAP_FAILED) DP_FAIL_SYS(e, "feed: mapping the ring");
    c->ring = head;
    void *slots = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, DP_FEED_RING_HEAD);
    if (slots == MAP_FAILED) DP_FAIL_SYS(e, "feed: mapping a ring of %" PRIu64 " bytes", bytes);
    c->slot = slots;
    if (c->ring->magic != DP_FEED_RING_MAGIC) DP_FAIL(e, CORRUPT, "%s: the server's ring is of another version", c->path);
    c->batch_fd = c->m.fd[1];
    c->room_fd = c->m.fd[2];
    c->m.fd[1] = c->m.fd[2] = -1;
    return DP_OK;
}

static int connect_once(struct dp_feed_client *c, struct dp_err *e)
{
    struct dp_feed_accept was = c->a;
    DP_ASSERT(c->sock < 0);
    c->m.fds = 0;
    int rc = dial(c, e);
    if (rc >= 0) rc = ask(c, e);
    if (rc == DP_EOF) rc = gone(c, e);
    if (rc >= 0) rc = hear(c, e);
    if (rc >= 0) rc = map_ring(c, e);
    dp_message_close(&c->m);
    const struct dp_feed_accept *a = &c->a;
    bool same = a->seq_len == was.seq_len && a->batch == was.batch && a->rank == was.rank && a->world == was.world;
    if (rc >= 0 && (a->sample != c->sample || (c->known && !same)))
        rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__,
                        "%s: the server gives batches of %" PRId64 " x %" PRId64 ", rank %" PRId64 " of %" PRId64 ", from sample %" PRIu64
                        "; this run had %" PRId64 " x %" PRId64 ", rank %" PRId64 " of %" PRId64 " and goes on at %" PRIu64,
                        c->path, a->batch, a->seq_len, a->rank, a->world, a->sample, was.batch, was.seq_len, was.rank, was.world, c->sample);
    if (rc < 0) {
        hang_up(c);
        c->a = was;
        return rc;
    }
    c->state = c->a.state;
    c->has_state = c->known = true;
    return DP_OK;
}

int dp_feed_client_open(struct dp_feed_client **out, const struct dp_feed_client_options *o, struct dp_err *e)
{
    *out = NULL;
    struct dp_feed_client *c = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "feed client");
    c->sock = c->batch_fd = c->room_fd = -1;
    c->path = strdup(o->path);
    c->wants = strdup(o->wants ? o->wants : "");
    c->slots = o->slots;
    c->reconnect_seconds = o->reconnect_seconds;
    c->stop = o->stop;
    c->sample = o->state ? o->state->sample : o->start;
    c->has_state = o->state != NULL;
    if (o->state) c->state = *o->state;
    int rc = c->path && c->wants ? connect_once(c, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed client");
    if (rc < 0) dp_feed_client_close(c);
    else *out = c;
    return rc;
}

void dp_feed_client_close(struct dp_feed_client *c)
{
    if (!c) return;
    hang_up(c);
    free(c->path);
    free(c->wants);
    free(c);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Until a server accepts us at c->sample. What another try can't change is returned at once. */
static int reconnect(struct dp_feed_client *c, struct dp_err *e)
{
    double end = now() + c->reconnect_seconds;
    hang_up(c);
    if (c->reconnect_seconds <= 0) return gone(c, e);
    dp_log(WARN, "feed", "%s: the feed server is gone; connecting again, to go on at sample %" PRIu64, c->path, c->sample);
    for (int ms = RETRY_MS_MIN;; ms = ms * 2 > RETRY_MS_MAX ? RETRY_MS_MAX : ms * 2) {
        if (stopped(c)) DP_FAIL(e, STOPPED, "feed: stopped while connecting to %s", c->path);
        int rc = connect_once(c, e);
        if (rc >= 0) {
            c->reconnects++;
            dp_log(INFO, "feed", "%s: connected again, at sample %" PRIu64, c->path, c->sample);
            return rc;
        }
        if ((rc != DP_NOTFOUND && rc != DP_BUSY) || now() >= end) return rc;
        struct timespec t = {0, ms * 1000000L};
        nanosleep(&t, NULL);
    }
}

/* --- batches --- */

static void wake(_Atomic uint32_t *flag, int fd)
{
    uint64_t one = 1;
    if (atomic_load(flag) && atomic_exchange(flag, 0) && write(fd, &one, sizeof one) < 0) return; /* full is awake */
}

static void give_back(struct dp_feed_client *c)
{
    if (!c->held) return;
    c->held = false;
    atomic_store(&c->ring->taken, ++c->taken);
    /* A server that sleeps is left to until half of the ring is free: one wake-up for many batches. We never sleep on a ring that isn't empty,
     * so it can't be forgotten. */
    uint64_t free_slots = c->a.slots - (atomic_load_explicit(&c->ring->made, memory_order_acquire) - c->taken);
    if (free_slots * 2 >= c->a.slots) wake(&c->ring->crammed, c->room_fd);
}

/* A small batch takes the server less time than falling asleep and being woken takes us both: look for a while first. */
static void spin(struct dp_feed_client *c)
{
    for (int i = 0; i < SPINS && atomic_load_explicit(&c->ring->made, memory_order_acquire) == c->made; i++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
}

/* Something is to be read on the socket: a last word, or the end. It was seen before the ring was seen empty, so no batch stands before it. */
static int last_word(struct dp_feed_client *c, struct dp_err *e)
{
    int rc = dp_channel_receive(c->sock, &c->m, 0, e);
    dp_message_close(&c->m);
    if (rc == DP_OK && c->m.kind == DP_FEED_REFUSE) return dp_feed_refuse_parse(dp_span(c->m.bytes, c->m.len), e);
    if (rc == DP_OK) DP_FAIL(e, CORRUPT, "%s: message %" PRIu32 " from a server that serves", c->path, c->m.kind);
    return rc;
}

/* DP_OK when there is a batch; DP_EOF when the server is gone. */
static int wait_for_batch(struct dp_feed_client *c, struct dp_err *e)
{
    spin(c);
    struct pollfd p[] = {{c->batch_fd, POLLIN, 0}, {c->sock, POLLIN, 0}};
    for (;;) {
        c->made = atomic_load_explicit(&c->ring->made, memory_order_acquire);
        if (c->made - c->taken > c->a.slots) DP_FAIL(e, CORRUPT, "%s: the ring's counters are damaged", c->path);
        if (c->made != c->taken) return DP_OK;
        if (stopped(c)) DP_FAIL(e, STOPPED, "feed: stopped at sample %" PRIu64, c->sample);
        atomic_store(&c->ring->hungry, 1);
        if (atomic_load(&c->ring->made) != c->made) continue;
        int n = poll(p, 2, TICK_MS);
        if (n < 0 && errno != EINTR) DP_FAIL_SYS(e, "feed: poll");
        if (n <= 0) continue;
        uint64_t many;
        if (p[0].revents && read(c->batch_fd, &many, sizeof many) < 0 && errno != EAGAIN) DP_FAIL_SYS(e, "feed: eventfd");
        if (!p[1].revents || atomic_load(&c->ring->made) != c->made) continue;
        int rc = last_word(c, e);
        if (rc != DP_EMPTY) return rc;
    }
}

int dp_feed_client_next(struct dp_feed_client *c, struct dp_feed_batch *b, struct dp_err *e)
{
    for (;;) {
        int rc = DP_EOF;
        if (c->sock >= 0) {
            give_back(c);
            rc = c->made != c->taken ? DP_OK : wait_for_batch(c, e);
        }
        DP_TRY(rc);
        if (rc == DP_OK) break;
        DP_TRY(reconnect(c, e));
    }
    const char *slot = c->slot + c->taken % c->a.slots * c->a.slot_bytes;
    struct dp_feed_slot head;
    memcpy(&head, slot, sizeof head);
    uint64_t next = c->sample + (uint64_t)c->a.batch * (uint64_t)c->a.world;
    if (head.sample != c->sample || head.next != next)
        DP_FAIL(e, CORRUPT, "%s: the server gave sample %" PRIu64 " where %" PRIu64 " was due", c->path, head.sample, c->sample);
    *b = (struct dp_feed_batch){(const int32_t *)(const void *)(slot + DP_FEED_SLOT_HEAD), head.sample, next};
    c->sample = next;
    c->held = true;
    return DP_OK;
}

void dp_feed_client_info(const struct dp_feed_client *c, struct dp_feed_client_info *out)
{
    const struct dp_feed_accept *a = &c->a;
    *out = (struct dp_feed_client_info){.seq_len = a->seq_len, .batch = a->batch, .rank = a->rank, .world = a->world, .eot = a->eot,
        .vocab_size = (uint32_t)a->vocab_size, .pad = (int32_t)a->pad, .samples = a->samples, .tokens = a->tokens, .documents = a->documents,
        .slots = a->slots, .reconnects = c->reconnects};
    if (c->ring) out->ready = atomic_load(&c->ring->made) - c->taken - c->held;
}

void dp_feed_client_state(const struct dp_feed_client *c, struct dp_feed_state *s)
{
    *s = c->state;
    s->sample = c->sample;
}

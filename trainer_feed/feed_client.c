/* The consumer's side of a ring: the server's own on the same machine, or one that the receiving thread fills (feed_receiver.c). The state that the
 * server sends at the start, with the sample number that the client itself counts, is all that is needed to go on with another server, also when the
 * manifest has grown meanwhile. */
#include "trainer_feed/feed_client.h"

#include "base/channel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/tcp.h"
#include "trainer_feed/feed_receiver.h"
#include "trainer_feed/feed_server.h"

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

enum { TICK_MS = 200, ANSWER_SECONDS = 600, SHAKE_SECONDS = 10, RETRY_MS_MIN = 5, RETRY_MS_MAX = 500 };
#define WINDOW_USUAL (UINT64_C(1) << 20) /* bytes of batches under way over TCP */

struct dp_feed_client {
    char *addr, *wants, *token, *host;
    bool tcp;
    struct dp_tls *tls;
    unsigned meta;
    int compress;
    uint64_t slots, reconnects, batches, bytes; /* the last two: of connections before this one */
    double dead_seconds, reconnect_seconds, lost_at; /* since when no batch has come, monotonic; 0: they come */
    int retry_ms;
    const atomic_bool *stop;
    bool grow;
    bool has_state, known; /* a state to resume from; a server has accepted us before */
    struct dp_feed_state state;
    uint64_t sample; /* of the next batch */
    struct dp_feed_accept a;
    struct dp_feed_shape shape;
    struct dp_feed_widen widen;
    int32_t *wide; /* a batch, where ids come as uint16 */
    struct dp_feed_receiver *net;  /* TCP; then the next three are its */
    int sock, batch_fd, room_fd;   /* -1: none; sock: readable when the server has a last word or is gone */
    struct dp_feed_ring *ring;     /* writable: the head alone */
    const char *slot;              /* readable: the rest */
    struct dp_feed_patience patience;
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
    if (c->net) {
        uint64_t batches, bytes;
        dp_feed_receiver_count(c->net, &batches, &bytes);
        c->batches += batches;
        c->bytes += bytes;
        dp_feed_receiver_close(c->net);
        c->sock = c->batch_fd = c->room_fd = -1;
        c->slot = NULL;
        c->ring = NULL;
        c->net = NULL;
    }
    if (c->ring) c->batches += c->made;
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
    if (strlen(c->addr) >= sizeof name.sun_path) DP_FAIL(e, CONFIG, "%s: a socket's name has at most %zu bytes", c->addr, sizeof name.sun_path - 1);
    memcpy(name.sun_path, c->addr, strlen(c->addr) + 1);
    c->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->sock < 0) DP_FAIL_SYS(e, "feed: socket");
    if (connect(c->sock, (const struct sockaddr *)&name, sizeof name) == 0) return DP_OK;
    if (errno == ECONNREFUSED || errno == ENOENT) DP_FAIL(e, NOTFOUND, "%s: no feed server is there; start one with `dpipe feed --serve`", c->addr);
    if (errno == EAGAIN) DP_FAIL(e, BUSY, "%s: the feed server takes no connection now", c->addr);
    DP_FAIL_SYS(e, "%s: connect", c->addr);
}

static int print_ask(const struct dp_feed_client *c, struct dp_buf *b, struct dp_err *e)
{
    dp_buf_init(b, DP_FEED_ASK_BYTES_MAX);
    dp_buf_printf(b, "wire=%d\n", DP_FEED_WIRE);
    dp_buf_add_str(b, c->wants);
    if (b->len && b->ptr[b->len - 1] != '\n') dp_buf_add_char(b, '\n');
    dp_buf_printf(b, "start=%" PRIu64 "\nslots=%" PRIu64 "\n", c->sample, c->slots);
    if (c->meta) {
        dp_buf_add_str(b, "meta=");
        dp_feed_meta_print(c->meta, b);
        dp_buf_add_char(b, '\n');
    }
    if (c->tcp && c->compress) dp_buf_printf(b, "compress=%d\n", c->compress);
    if (c->tcp && c->token) dp_buf_printf(b, "token=%s\n", c->token);
    if (c->grow && !c->known) dp_buf_add_str(b, "grow=1\n");
    if (c->has_state) {
        dp_buf_add_str(b, "state=");
        dp_feed_state_print(&c->state, b);
        dp_buf_add_char(b, '\n');
    }
    return dp_buf_check(b, "feed: request", e);
}

static int ask(struct dp_feed_client *c, struct dp_err *e)
{
    struct dp_buf b;
    int rc = print_ask(c, &b, e);
    if (rc >= 0) rc = dp_channel_send(c->sock, DP_FEED_ASK, b.ptr, b.len, NULL, 0, 1000, e);
    dp_buf_release(&b);
    return rc;
}

static int gone(const struct dp_feed_client *c, struct dp_err *e)
{
    DP_FAIL(e, NOTFOUND, "%s: the feed server is gone", c->addr);
}

/* Opening a big data set takes the server a while. */
static int hear(struct dp_feed_client *c, struct dp_err *e)
{
    int rc = DP_EMPTY;
    for (int ms = 0; rc == DP_EMPTY && ms < ANSWER_SECONDS * 1000; ms += TICK_MS) {
        if (stopped(c)) DP_FAIL(e, STOPPED, "feed: stopped while waiting for %s", c->addr);
        rc = dp_channel_receive(c->sock, &c->m, TICK_MS, e);
    }
    if (rc == DP_EOF) rc = dp_channel_receive(c->sock, &c->m, 0, e); /* a reset comes before what was said: a refusal, unasked */
    if (rc == DP_EOF) return gone(c, e);
    if (rc == DP_EMPTY) DP_FAIL(e, BUSY, "%s: no answer for %d s", c->addr, ANSWER_SECONDS);
    DP_TRY(rc);
    struct dp_span text = dp_span(c->m.bytes, c->m.len);
    if (c->m.kind == DP_FEED_REFUSE) return dp_feed_refuse_parse(text, e);
    if (c->m.kind != DP_FEED_ACCEPT || c->m.fds != DP_FEED_FDS) DP_FAIL(e, CORRUPT, "%s: what answers is no feed server", c->addr);
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
        DP_FAIL(e, CORRUPT, "%s: the server's ring is not what it says", c->addr);
    void *head = mmap(NULL, DP_FEED_RING_HEAD, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (head == MAP_FAILED) DP_FAIL_SYS(e, "feed: mapping the ring");
    c->ring = head;
    void *slots = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, DP_FEED_RING_HEAD);
    if (slots == MAP_FAILED) DP_FAIL_SYS(e, "feed: mapping a ring of %" PRIu64 " bytes", bytes);
    c->slot = slots;
    if (c->ring->magic != DP_FEED_RING_MAGIC) DP_FAIL(e, CORRUPT, "%s: the server's ring is of another version", c->addr);
    c->batch_fd = c->m.fd[1];
    c->room_fd = c->m.fd[2];
    c->m.fd[1] = c->m.fd[2] = -1;
    return DP_OK;
}

static int connect_ring(struct dp_feed_client *c, struct dp_err *e)
{
    c->m.fds = 0;
    int rc = dial(c, e);
    if (rc >= 0) rc = ask(c, e);
    if (rc == DP_EOF) rc = gone(c, e);
    if (rc >= 0) rc = hear(c, e);
    if (rc >= 0) rc = map_ring(c, e);
    dp_message_close(&c->m);
    return rc;
}

/* --- over TCP --- */

/* A frame, or DP_EOF; waiting for at most `seconds`. */
static int await(struct dp_feed_client *c, struct dp_feed_conn *n, struct dp_feed_frame *f, double seconds, struct dp_err *e)
{
    double end = dp_now() + seconds;
    for (;;) {
        int rc = dp_feed_conn_flush(n, e);
        if (rc < 0) return rc; /* gone, but not before its last word was read */
        rc = dp_feed_conn_receive(n, f, e);
        if (rc == DP_OK && (f->kind == DP_FEED_PING || f->kind == DP_FEED_PONG)) continue;
        if (rc != DP_EMPTY) return rc;
        if (stopped(c)) DP_FAIL(e, STOPPED, "feed: stopped while waiting for %s", c->addr);
        if (dp_now() > end) DP_FAIL(e, BUSY, "%s: no answer for %.0f s", c->addr, seconds);
        DP_TRY(dp_feed_conn_wait(n, NULL, 0, TICK_MS, e));
    }
}

static int shake_hands(struct dp_feed_client *c, struct dp_feed_conn *n, struct dp_err *e)
{
    double end = dp_now() + SHAKE_SECONDS;
    while (!n->shaken) {
        int rc = dp_feed_conn_flush(n, e);
        if (rc == DP_EOF) DP_FAIL(e, NOTFOUND, "%s: the other side hung up before TLS was agreed on", c->addr);
        if (rc < 0) return dp_err_prefix(e, "%s", c->addr);
        if (stopped(c)) DP_FAIL(e, STOPPED, "feed: stopped while connecting to %s", c->addr);
        if (rc == DP_EMPTY && dp_now() > end) DP_FAIL(e, BUSY, "%s: no TLS within %d s", c->addr, SHAKE_SECONDS);
        if (rc == DP_EMPTY) DP_TRY(dp_feed_conn_wait(n, NULL, 0, TICK_MS, e));
    }
    return DP_OK;
}

static int converse(struct dp_feed_client *c, struct dp_feed_conn *n, struct dp_err *e)
{
    struct dp_feed_frame f;
    struct dp_buf b;
    DP_TRY(shake_hands(c, n, e));
    int rc = print_ask(c, &b, e);
    if (rc >= 0) rc = dp_feed_conn_say(n, DP_FEED_ASK, 0, dp_buf_span(&b), e);
    dp_buf_release(&b);
    if (rc >= 0) rc = await(c, n, &f, ANSWER_SECONDS, e);
    if (rc == DP_CORRUPT && n->tls) e->code = DP_CONFIG; /* TLS 1.3 tells only now that our certificate isn't wanted, or missing */
    if (rc == DP_CORRUPT) {
        dp_err_prefix(e, "%s: what answers is no feed server%s", c->addr, n->tls ? " that lets us in" : ", or wants TLS");
        return e->code;
    }
    if (rc == DP_EOF) return gone(c, e);
    DP_TRY(rc);
    if (f.kind == DP_FEED_REFUSE) return dp_feed_refuse_parse(f.payload, e);
    if (f.kind != DP_FEED_ACCEPT || f.flags) DP_FAIL(e, CORRUPT, "%s: frame %u where an answer was expected", c->addr, f.kind);
    return dp_feed_accept_parse(&c->a, f.payload, e);
}

static int connect_tcp(struct dp_feed_client *c, struct dp_err *e)
{
    struct dp_feed_conn n;
    int fd = dp_tcp_connect(c->addr, "feed", SHAKE_SECONDS * 1000, c->stop, e);
    if (fd < 0) return fd;
    int rc = dp_feed_conn_open(&n, fd, c->tls, c->host, e);
    if (c->dead_seconds > 0) n.dead_s = c->dead_seconds;
    if (rc >= 0) rc = converse(c, &n, e);
    if (rc >= 0) { /* the credit is ours to give */
        uint64_t slots = c->slots ? c->slots : WINDOW_USUAL / c->a.slot_bytes;
        c->a.slots = c->slots ? slots : slots < 4 ? 4 : slots > 64 ? 64 : slots;
        rc = dp_feed_receiver_open(&c->net, &n, &c->a, e);
    } else dp_feed_conn_close(&n);
    if (rc < 0) return rc;
    c->ring = dp_feed_receiver_ring(c->net);
    c->slot = dp_feed_receiver_slots(c->net);
    c->batch_fd = dp_feed_receiver_batch_fd(c->net);
    c->room_fd = dp_feed_receiver_room_fd(c->net);
    c->sock = dp_feed_receiver_end_fd(c->net);
    return DP_OK;
}

/* --- */

static int connect_once(struct dp_feed_client *c, struct dp_err *e)
{
    struct dp_feed_accept was = c->a;
    DP_ASSERT(c->sock < 0);
    int rc = c->tcp ? connect_tcp(c, e) : connect_ring(c, e);
    const struct dp_feed_accept *a = &c->a;
    bool same = a->seq_len == was.seq_len && a->batch == was.batch && a->rank == was.rank && a->world == was.world && a->meta == was.meta;
    if (rc >= 0 && (a->sample != c->sample || (c->known && !same)))
        rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__,
                        "%s: the server gives batches of %" PRId64 " x %" PRId64 ", rank %" PRId64 " of %" PRId64 ", from sample %" PRIu64
                        "; this run had %" PRId64 " x %" PRId64 ", rank %" PRId64 " of %" PRId64 " and goes on at %" PRIu64,
                        c->addr, a->batch, a->seq_len, a->rank, a->world, a->sample, was.batch, was.seq_len, was.rank, was.world, c->sample);
    if (rc >= 0 && a->meta != c->meta) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: the server gives other masks than were asked for", c->addr);
    dp_feed_shape_init(&c->shape, a->seq_len, a->batch, a->vocab_size, a->meta);
    if (rc >= 0 && c->shape.id_bytes == 2 && !c->wide) {
        c->wide = aligned_alloc(64, ((size_t)a->batch * ((size_t)a->seq_len + 1) * sizeof *c->wide + 63) / 64 * 64);
        if (!c->wide) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed: a batch");
    }
    if (rc < 0) {
        hang_up(c);
        c->a = was;
        return rc;
    }
    c->state = c->a.state;
    c->has_state = c->known = true;
    return DP_OK;
}

static int set_up_tls(struct dp_feed_client *c, const struct dp_feed_client_options *o, struct dp_err *e)
{
    char host[256];
    if (!c->tcp || !(o->tls || o->ca || o->cert)) return DP_OK;
    const struct dp_tls_config t = {.cert = o->cert, .key = o->key, .ca = o->ca};
    DP_TRY(dp_tcp_host(o->addr, "feed", host, e));
    c->host = strdup(o->host ? o->host : host);
    return c->host ? dp_tls_open(&c->tls, &t, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed client");
}

int dp_feed_client_open(struct dp_feed_client **out, const struct dp_feed_client_options *o, struct dp_err *e)
{
    *out = NULL;
    struct dp_feed_client *c = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "feed client");
    c->sock = c->batch_fd = c->room_fd = -1;
    c->addr = strdup(o->addr);
    c->wants = strdup(o->wants ? o->wants : "");
    c->token = o->token ? strdup(o->token) : NULL;
    c->tcp = !dp_feed_addr_is_path(o->addr);
    c->meta = o->meta & DP_FEED_META_ALL;
    c->compress = o->compress;
    c->dead_seconds = o->dead_seconds;
    dp_feed_widen_init(&c->widen);
    c->slots = o->slots;
    c->reconnect_seconds = o->reconnect_seconds;
    c->stop = o->stop;
    c->sample = o->state ? o->state->sample : o->start;
    c->has_state = o->state != NULL;
    c->grow = o->grow;
    if (o->state) c->state = *o->state;
    int rc = c->addr && c->wants && (c->token || !o->token) ? set_up_tls(c, o, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed client");
    if (rc >= 0) rc = connect_once(c, e);
    if (rc < 0) dp_feed_client_close(c);
    else *out = c;
    return rc;
}

void dp_feed_client_close(struct dp_feed_client *c)
{
    if (!c) return;
    hang_up(c);
    dp_tls_close(c->tls);
    free(c->addr);
    free(c->wants);
    free(c->token);
    free(c->host);
    free(c->wide);
    free(c);
}

/* Until a server accepts us at c->sample. What another try can't change is returned at once. The time and the back-off run from the last batch on, so
 * that a server that accepts and dies is one that is gone. */
static int reconnect(struct dp_feed_client *c, struct dp_err *e)
{
    hang_up(c);
    if (c->reconnect_seconds <= 0) return gone(c, e);
    if (!c->lost_at) {
        dp_log(WARN, "feed", "%s: the feed server is gone; connecting again, to go on at sample %" PRIu64, c->addr, c->sample);
        c->lost_at = dp_now();
        c->retry_ms = 0;
    }
    for (int rc = DP_OK;; c->retry_ms = c->retry_ms ? c->retry_ms * 2 > RETRY_MS_MAX ? RETRY_MS_MAX : c->retry_ms * 2 : RETRY_MS_MIN) {
        struct timespec t = {0, c->retry_ms * 1000000L};
        if (rc < 0 && rc != DP_NOTFOUND && rc != DP_BUSY) return rc;
        if (stopped(c)) DP_FAIL(e, STOPPED, "feed: stopped while connecting to %s", c->addr);
        if (c->retry_ms && dp_now() >= c->lost_at + c->reconnect_seconds) {
            c->lost_at = 0; /* another call looks again */
            return rc < 0 ? rc : gone(c, e);
        }
        nanosleep(&t, NULL);
        rc = connect_once(c, e);
        if (rc < 0) continue;
        c->reconnects++;
        c->retry_ms = c->retry_ms ? c->retry_ms : RETRY_MS_MIN;
        dp_log(INFO, "feed", "%s: connected again, at sample %" PRIu64, c->addr, c->sample);
        return rc;
    }
}

/* --- batches --- */

static void give_back(struct dp_feed_client *c)
{
    if (!c->held) return;
    c->held = false;
    atomic_store(&c->ring->taken, ++c->taken);
    /* A server that sleeps is left to until half of the ring is free: one wake-up for many batches. We never sleep on a ring that isn't empty,
     * so it can't be forgotten. */
    uint64_t free_slots = c->a.slots - (atomic_load_explicit(&c->ring->made, memory_order_acquire) - c->taken);
    if (free_slots * 2 < c->a.slots || !atomic_load(&c->ring->crammed)) return;
    dp_feed_ring_tell_cpu(c->ring);
    dp_feed_ring_wake(&c->ring->crammed, c->room_fd);
}

/* Something is to be read on the socket: a last word, or the end. It was seen before the ring was seen empty, so no batch stands before it. */
static int last_word(struct dp_feed_client *c, struct dp_err *e)
{
    if (c->net) return dp_feed_receiver_result(c->net, e);
    int rc = dp_channel_receive(c->sock, &c->m, 0, e);
    dp_message_close(&c->m);
    if (rc == DP_OK && c->m.kind == DP_FEED_REFUSE) return dp_feed_refuse_parse(dp_span(c->m.bytes, c->m.len), e);
    if (rc == DP_OK) DP_FAIL(e, CORRUPT, "%s: message %" PRIu32 " from a server that serves", c->addr, c->m.kind);
    return rc;
}

/* DP_OK when there is a batch; DP_EOF when the server is gone. */
static int wait_for_batch(struct dp_feed_client *c, struct dp_err *e)
{
    dp_feed_ring_look(&c->patience, &c->ring->made, c->made);
    struct pollfd p[] = {{c->batch_fd, POLLIN, 0}, {c->sock, POLLIN, 0}};
    for (;;) {
        c->made = atomic_load_explicit(&c->ring->made, memory_order_acquire);
        if (c->made - c->taken > c->a.slots) DP_FAIL(e, CORRUPT, "%s: the ring's counters are damaged", c->addr);
        if (c->made != c->taken) return DP_OK;
        if (stopped(c)) DP_FAIL(e, STOPPED, "feed: stopped at sample %" PRIu64, c->sample);
        dp_feed_ring_tell_cpu(c->ring);
        atomic_store(&c->ring->hungry, 1);
        if (atomic_load(&c->ring->made) != c->made) continue;
        int n = poll(p, 2, TICK_MS);
        if (n < 0 && errno != EINTR) DP_FAIL_SYS(e, "feed: poll");
        if (n <= 0) continue;
        if (p[0].revents) dp_feed_ring_heard(c->batch_fd);
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
        DP_FAIL(e, CORRUPT, "%s: the server gave sample %" PRIu64 " where %" PRIu64 " was due", c->addr, head.sample, c->sample);
    const void *ids = slot + DP_FEED_SLOT_HEAD;
    if (c->wide) c->widen.u16(c->wide, ids, (size_t)c->a.batch * ((size_t)c->a.seq_len + 1));
    *b = (struct dp_feed_batch){.ids = c->wide ? c->wide : ids, .sample = head.sample, .next = next};
    dp_feed_shape_meta(&c->shape, slot, &b->meta);
    c->lost_at = 0;
    c->sample = next;
    c->held = true;
    return DP_OK;
}

void dp_feed_client_info(const struct dp_feed_client *c, struct dp_feed_client_info *out)
{
    const struct dp_feed_accept *a = &c->a;
    *out = (struct dp_feed_client_info){.seq_len = a->seq_len, .batch = a->batch, .rank = a->rank, .world = a->world, .eot = a->eot,
        .vocab_size = (uint32_t)a->vocab_size, .pad = (int32_t)a->pad, .samples = a->samples, .tokens = a->tokens, .documents = a->documents,
        .slots = a->slots, .meta = a->meta, .reconnects = c->reconnects};
    out->batches = c->batches;
    out->bytes = c->bytes;
    uint64_t batches = 0, bytes = 0;
    if (c->net) dp_feed_receiver_count(c->net, &batches, &bytes);
    else if (c->ring) batches = atomic_load(&c->ring->made);
    out->batches += batches;
    out->bytes += bytes;
    if (c->ring) out->ready = atomic_load(&c->ring->made) - c->taken - c->held;
}

void dp_feed_client_state(const struct dp_feed_client *c, struct dp_feed_state *s)
{
    *s = c->state;
    s->sample = c->sample;
}

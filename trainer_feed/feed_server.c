/* A thread a client: receive the request, open a feed, hand out the ring, then fill slots while there is room. A thread sleeps in poll on three
 * descriptors: room in the ring, the client's socket (which ends when the client does, by whatever death), and the server's stop.
 *
 * Sleeping without losing a wake-up: the sleeper raises its flag, then looks at the counter again; the other side moves the counter, then
 * looks at the flag. All four are sequentially consistent, so one of the two sees the other. Nobody makes a system call while both run. */
#include "trainer_feed/feed_server.h"

#include "base/channel.h"
#include "base/log.h"
#include "trainer_feed/feed_wire.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CLIENTS = 64, CLIENTS_LIMIT = 1024, ASK_SECONDS = 10, BACKLOG = 64, TICK_MS = 200 };
#define RING_BYTES (UINT64_C(256) << 20)
#define RING_USUAL (UINT64_C(4) << 20) /* beyond second caches: lines that one core still holds are the slow ones to take over (bench_feed_ring) */

struct client {
    struct dp_feed_server *s;
    pthread_t thread;
    atomic_bool done;
    int sock, ring_fd, batch_fd, room_fd; /* -1: none */
    struct dp_feed *feed;
    void *own;
    bool opened;
    struct dp_feed_accept a;
    struct dp_feed_ring *ring;
    uint64_t ring_bytes, made, taken; /* counters as we know them */
    struct dp_message m;
};

struct dp_feed_server {
    struct dp_feed_server_options o;
    struct sockaddr_un name;
    dev_t dev; /* of the socket's name, to remove no other's */
    ino_t ino;
    int listener, stop_fd;
    atomic_bool stopping;
    atomic_int count;
    pthread_mutex_t opening;
    bool mutex;
    struct client **client; /* [clients_max] */
};

/* --- one client --- */

static void client_free(struct client *c)
{
    if (c->ring) munmap(c->ring, c->ring_bytes);
    int fds[] = {c->sock, c->ring_fd, c->batch_fd, c->room_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0) close(fds[i]);
    free(c);
}

static int open_feed(struct client *c, const struct dp_feed_ask *ask, struct dp_err *e)
{
    struct dp_feed_server *s = c->s;
    struct dp_feed_state st;
    pthread_mutex_lock(&s->opening);
    int rc = s->o.open ? s->o.open(s->o.ctx, &c->feed, &c->own, &ask->feed, e) : dp_feed_open(&c->feed, s->o.manifest, &ask->feed, e);
    c->opened = rc >= 0;
    pthread_mutex_unlock(&s->opening);
    DP_TRY(rc);
    dp_feed_state(c->feed, &st);
    if (ask->has_state) st = ask->state;
    if (ask->has_start) st.sample = ask->start;
    return dp_feed_resume(c->feed, &st, e);
}

static void close_feed(struct client *c)
{
    pthread_mutex_lock(&c->s->opening);
    dp_feed_close(c->feed);
    if (c->opened && c->s->o.close) c->s->o.close(c->s->o.ctx, c->own);
    pthread_mutex_unlock(&c->s->opening);
}

/* Before the feed is opened, which may take long. */
static int ring_plan(struct client *c, uint64_t slots, struct dp_err *e)
{
    uint64_t slot = c->a.slot_bytes, most = c->s->o.ring_bytes_max;
    if (!slots) {
        slots = RING_USUAL / slot;
        slots = slots < 2 ? 2 : slots > 64 ? 64 : slots;
        while (slots > 1 && slots * slot + DP_FEED_RING_HEAD > most) slots--;
    }
    c->ring_bytes = DP_FEED_RING_HEAD + slots * slot;
    if (c->ring_bytes > most)
        DP_FAIL(e, LIMIT, "feed: %" PRIu64 " slots of %" PRIu64 " bytes (batch %" PRId64 ", seq_len %" PRId64 ") are over %" PRIu64 ", this server's limit of a ring",
                slots, slot, c->a.batch, c->a.seq_len, most);
    c->a.slots = slots;
    return DP_OK;
}

static int ring_open(struct client *c, struct dp_err *e)
{
    c->ring_fd = memfd_create("dpipe-feed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (c->ring_fd < 0 || fallocate(c->ring_fd, 0, 0, (off_t)c->ring_bytes) != 0 || /* not at a write's fault */
        fcntl(c->ring_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        DP_FAIL_SYS(e, "feed: a ring of %" PRIu64 " bytes", c->ring_bytes);
    c->batch_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->batch_fd < 0 || c->room_fd < 0) DP_FAIL_SYS(e, "feed: eventfd");
    void *p = mmap(NULL, c->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->ring_fd, 0);
    if (p == MAP_FAILED) DP_FAIL_SYS(e, "feed: mapping a ring of %" PRIu64 " bytes", c->ring_bytes);
    c->ring = p;
    c->ring->magic = DP_FEED_RING_MAGIC;
    c->ring->slots = c->a.slots;
    c->ring->slot_bytes = c->a.slot_bytes;
    return DP_OK;
}

static bool stopping(const struct dp_feed_server *s)
{
    return atomic_load_explicit(&s->stopping, memory_order_relaxed);
}

/* The client's request; DP_EOF when it went, or we are to stop. */
static int hear(struct client *c, struct dp_feed_ask *ask, struct dp_err *e)
{
    int rc = DP_EMPTY;
    for (int ms = 0; rc == DP_EMPTY && ms < ASK_SECONDS * 1000; ms += TICK_MS) {
        if (stopping(c->s)) return DP_EOF;
        rc = dp_channel_receive(c->sock, &c->m, TICK_MS, e);
    }
    if (rc == DP_EMPTY) DP_FAIL(e, USAGE, "feed: no request within %d s", ASK_SECONDS);
    if (rc != DP_OK) return rc;
    dp_message_close(&c->m);
    if (c->m.kind != DP_FEED_ASK) DP_FAIL(e, USAGE, "feed: message %" PRIu32 " where a request was expected", c->m.kind);
    return dp_feed_ask_parse(ask, &c->s->o.feed, dp_span(c->m.bytes, c->m.len), e);
}

static int greet(struct client *c, struct dp_err *e)
{
    struct dp_feed_ask ask;
    int rc = hear(c, &ask, e);
    if (rc != DP_OK) return rc;
    const struct dp_feed_options *o = &ask.feed;
    c->a = (struct dp_feed_accept){.seq_len = o->seq_len, .batch = o->batch, .rank = o->rank, .world = o->world,
                                   .slot_bytes = dp_feed_slot_bytes(o->seq_len, o->batch)};
    rc = ring_plan(c, ask.slots, e);
    if (rc >= 0) rc = open_feed(c, &ask, e);
    if (rc >= 0) {
        c->a.eot = dp_feed_eot(c->feed);
        c->a.pad = dp_feed_pad(c->feed);
        c->a.vocab_size = dp_feed_vocab_size(c->feed);
        c->a.samples = dp_feed_samples(c->feed);
        c->a.tokens = dp_feed_tokens(c->feed);
        c->a.documents = dp_feed_documents(c->feed);
        dp_feed_state(c->feed, &c->a.state);
        c->a.sample = c->a.state.sample;
        rc = ring_open(c, e);
    }
    dp_feed_ask_release(&ask);
    DP_TRY(rc);
    struct dp_buf b;
    const int fds[DP_FEED_FDS] = {c->ring_fd, c->batch_fd, c->room_fd};
    dp_buf_init(&b, DP_CHANNEL_BYTES_MAX);
    dp_feed_accept_print(&c->a, &b);
    rc = dp_buf_check(&b, "answer", e);
    if (rc >= 0) rc = dp_channel_send(c->sock, DP_FEED_ACCEPT, b.ptr, b.len, fds, DP_FEED_FDS, ASK_SECONDS * 1000, e);
    dp_buf_release(&b);
    return rc;
}

/* Until there is room. DP_EOF when the client is gone or we are to stop; DP_USAGE when it broke the rules. */
static int wait_for_room(struct client *c, struct dp_err *e)
{
    struct pollfd p[] = {{c->room_fd, POLLIN, 0}, {c->sock, POLLIN, 0}, {c->s->stop_fd, POLLIN, 0}};
    for (;;) {
        if (stopping(c->s)) return DP_EOF;
        c->taken = atomic_load_explicit(&c->ring->taken, memory_order_acquire);
        if (c->made - c->taken > c->a.slots)
            DP_FAIL(e, USAGE, "feed: a client says it took batch %" PRIu64 ", of %" PRIu64 " made", c->taken, c->made);
        if (c->made - c->taken < c->a.slots) return DP_OK;
        atomic_store(&c->ring->crammed, 1);
        if (atomic_load(&c->ring->taken) != c->taken) continue;
        if (poll(p, 3, -1) < 0 && errno != EINTR) DP_FAIL_SYS(e, "feed: poll");
        uint64_t many;
        if (p[0].revents && read(c->room_fd, &many, sizeof many) < 0 && errno != EAGAIN) DP_FAIL_SYS(e, "feed: eventfd");
        if (!p[1].revents) continue;
        int rc = dp_channel_receive(c->sock, &c->m, 0, e);
        dp_message_close(&c->m);
        if (rc == DP_OK) DP_FAIL(e, USAGE, "feed: message %" PRIu32 " from a client that is being served", c->m.kind);
        if (rc != DP_EMPTY) return rc;
    }
}

/* A full eventfd (a client that sleeps on something else) is awake enough, hence the result doesn't matter. */
static void wake(_Atomic uint32_t *flag, int fd)
{
    uint64_t one = 1;
    if (atomic_load(flag) && atomic_exchange(flag, 0) && write(fd, &one, sizeof one) < 0) return;
}

static int fill(struct client *c, struct dp_err *e)
{
    uint64_t step = (uint64_t)c->a.batch * (uint64_t)c->a.world, sample = c->a.sample;
    for (;; sample += step) {
        if (c->made - c->taken >= c->a.slots) {
            int rc = wait_for_room(c, e);
            if (rc != DP_OK) return rc;
        }
        if (stopping(c->s)) return DP_EOF;
        char *slot = (char *)c->ring + DP_FEED_RING_HEAD + c->made % c->a.slots * c->a.slot_bytes;
        struct dp_feed_slot head = {sample, sample + step};
        memcpy(slot, &head, sizeof head);
        DP_TRY(dp_feed_next(c->feed, (int32_t *)(void *)(slot + DP_FEED_SLOT_HEAD), e));
        atomic_store(&c->ring->made, ++c->made);
        wake(&c->ring->hungry, c->batch_fd);
    }
}

static void refuse(int sock, const struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, DP_CHANNEL_BYTES_MAX);
    dp_feed_refuse_print(e, &b);
    dp_channel_send(sock, DP_FEED_REFUSE, b.ptr, b.len, NULL, 0, 1000, NULL);
    dp_buf_release(&b);
}

static void *client_main(void *arg)
{
    struct client *c = arg;
    struct dp_err e = {0};
    int rc = greet(c, &e);
    if (rc == DP_OK) {
        dp_log(DEBUG, "feed", "client of %s: rank %" PRId64 " of %" PRId64 " from sample %" PRIu64, c->s->o.path, c->a.rank, c->a.world, c->a.sample);
        rc = fill(c, &e);
    }
    if (rc < 0) {
        dp_log(WARN, "feed", "client of %s, after %" PRIu64 " batches: %s", c->s->o.path, c->made, e.msg);
        refuse(c->sock, &e);
    }
    close_feed(c);
    shutdown(c->sock, SHUT_RDWR);
    atomic_fetch_sub(&c->s->count, 1);
    atomic_store(&c->done, true);
    return NULL;
}

/* --- the server --- */

static int take_name(struct dp_feed_server *s, struct dp_err *e)
{
    struct stat st;
    const struct sockaddr *to = (const struct sockaddr *)&s->name;
    if (bind(s->listener, to, sizeof s->name) == 0) return DP_OK;
    if (errno != EADDRINUSE) DP_FAIL_SYS(e, "%s: cannot make the feed's socket", s->o.path);
    if (lstat(s->o.path, &st) == 0 && !S_ISSOCK(st.st_mode)) DP_FAIL(e, CONFIG, "%s: is there already, and no socket", s->o.path);
    int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) DP_FAIL_SYS(e, "feed: socket");
    bool dead = connect(probe, to, sizeof s->name) != 0 && errno == ECONNREFUSED; /* nobody listens: left by one that was killed */
    close(probe);
    if (!dead) DP_FAIL(e, BUSY, "%s: another server has this socket", s->o.path);
    if (unlink(s->o.path) != 0 && errno != ENOENT) DP_FAIL_SYS(e, "%s: cannot remove what a killed server left", s->o.path);
    if (bind(s->listener, to, sizeof s->name) != 0) DP_FAIL_SYS(e, "%s: cannot make the feed's socket", s->o.path);
    return DP_OK;
}

static int listen_on(struct dp_feed_server *s, struct dp_err *e)
{
    struct stat st;
    s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->listener < 0 || s->stop_fd < 0) DP_FAIL_SYS(e, "feed: socket");
    DP_TRY(take_name(s, e));
    if (lstat(s->o.path, &st) != 0 || chmod(s->o.path, 0600) != 0 || listen(s->listener, BACKLOG) != 0) DP_FAIL_SYS(e, "%s: listen", s->o.path);
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    return DP_OK;
}

int dp_feed_server_open(struct dp_feed_server **out, const struct dp_feed_server_options *o, struct dp_err *e)
{
    *out = NULL;
    if (strlen(o->path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        DP_FAIL(e, CONFIG, "%s: a socket's name has at most %zu bytes", o->path, sizeof((struct sockaddr_un *)0)->sun_path - 1);
    struct dp_feed_server *s = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "feed server");
    s->o = *o;
    s->listener = s->stop_fd = -1;
    if (s->o.clients_max < 1) s->o.clients_max = CLIENTS;
    if (s->o.clients_max > CLIENTS_LIMIT) s->o.clients_max = CLIENTS_LIMIT;
    if (!s->o.ring_bytes_max) s->o.ring_bytes_max = RING_BYTES;
    s->name.sun_family = AF_UNIX;
    memcpy(s->name.sun_path, o->path, strlen(o->path) + 1);
    s->client = calloc((size_t)s->o.clients_max, sizeof *s->client);
    s->mutex = pthread_mutex_init(&s->opening, NULL) == 0;
    int rc = s->client && s->mutex ? listen_on(s, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed server");
    if (rc < 0) dp_feed_server_close(s);
    else *out = s;
    return rc;
}

static void join(struct dp_feed_server *s, int i)
{
    pthread_join(s->client[i]->thread, NULL);
    client_free(s->client[i]);
    s->client[i] = NULL;
}

static int start(struct dp_feed_server *s, int sock, struct dp_err *e)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    int i = 0;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0) DP_FAIL_SYS(e, "feed: peer");
    if (peer.uid != geteuid() && peer.uid != 0) DP_FAIL(e, CONFIG, "feed: this server is for user %u, not %u", geteuid(), peer.uid);
    while (i < s->o.clients_max && s->client[i]) i++;
    if (i == s->o.clients_max) DP_FAIL(e, BUSY, "feed: %d clients are being served, and no more are", s->o.clients_max);
    struct client *c = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "feed: client");
    c->s = s;
    c->sock = sock;
    c->ring_fd = c->batch_fd = c->room_fd = -1;
    atomic_fetch_add(&s->count, 1);
    int bad = pthread_create(&c->thread, NULL, client_main, c);
    if (bad) {
        atomic_fetch_sub(&s->count, 1);
        free(c);
        DP_FAIL(e, NOMEM, "feed: a client's thread: %s", strerror(bad));
    }
    s->client[i] = c;
    return DP_OK;
}

int dp_feed_server_run(struct dp_feed_server *s, struct dp_err *e)
{
    struct pollfd p[] = {{s->listener, POLLIN, 0}, {s->stop_fd, POLLIN, 0}};
    while (!stopping(s) && !(s->o.stop && atomic_load(s->o.stop))) {
        int n = poll(p, 2, TICK_MS);
        if (n < 0 && errno != EINTR) DP_FAIL_SYS(e, "feed: poll");
        for (int i = 0; i < s->o.clients_max; i++)
            if (s->client[i] && atomic_load(&s->client[i]->done)) join(s, i);
        if (n <= 0 || !p[0].revents) continue;
        int sock = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        struct dp_err why = {0};
        if (sock < 0 && (errno == EMFILE || errno == ENFILE)) { /* it stays in the queue until one of ours ends */
            poll(p + 1, 1, TICK_MS);
        } else if (sock >= 0 && start(s, sock, &why) < 0) {
            dp_log(WARN, "feed", "%s: %s", s->o.path, why.msg);
            refuse(sock, &why);
            close(sock);
        }
    }
    return DP_OK;
}

void dp_feed_server_stop(struct dp_feed_server *s)
{
    uint64_t one = 1;
    atomic_store(&s->stopping, true);
    if (write(s->stop_fd, &one, sizeof one) < 0) return; /* full: they are all awake */
}

int dp_feed_server_clients(const struct dp_feed_server *s)
{
    return atomic_load(&s->count);
}

void dp_feed_server_close(struct dp_feed_server *s)
{
    struct stat st;
    if (!s) return;
    if (s->stop_fd >= 0) dp_feed_server_stop(s);
    for (int i = 0; s->client && i < s->o.clients_max; i++)
        if (s->client[i]) join(s, i);
    if (s->ino && lstat(s->o.path, &st) == 0 && st.st_ino == s->ino && st.st_dev == s->dev) unlink(s->o.path);
    if (s->listener >= 0) close(s->listener);
    if (s->stop_fd >= 0) close(s->stop_fd);
    if (s->mutex) pthread_mutex_destroy(&s->opening);
    free(s->client);
    free(s);
}

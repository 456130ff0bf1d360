/* A thread a client (feed_serve_ring.c, feed_serve_tcp.c); here are the listener, who may come in, and what is told of those who are. */
#include "trainer_feed/feed_server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/tcp.h"
#include "trainer_feed/feed_serving.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <netinet/in.h>
#include <unistd.h>

enum { CLIENTS = 64, CLIENTS_LIMIT = 1024, ASKING = 16, BACKLOG = 64, RATE_SECONDS = 5 };
#define RING_BYTES (UINT64_C(256) << 20)

bool dp_feed_addr_is_path(const char *addr)
{
    const char *colon = strrchr(addr, ':');
    return strchr(addr, '/') || !colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1);
}

/* --- one client --- */

static void client_free(struct dp_feed_serving *c)
{
    if (c->ring) munmap(c->ring, c->ring_bytes);
    int fds[] = {c->sock, c->ring_fd, c->batch_fd, c->room_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0) close(fds[i]);
    dp_feed_conn_close(&c->conn);
    free(c);
}

static int open_feed(struct dp_feed_serving *c, const struct dp_feed_ask *ask, struct dp_err *e)
{
    struct dp_feed_server *s = c->s;
    struct dp_feed_state st;
    pthread_mutex_lock(&s->opening);
    if (dp_feed_stopping(s)) { /* others were being opened for long */
        pthread_mutex_unlock(&s->opening);
        DP_FAIL(e, BUSY, "feed: the server is stopping; try again");
    }
    int rc = s->o.open ? s->o.open(s->o.ctx, &c->feed, &c->own, &ask->feed, ask->has_state ? &ask->state : NULL, e)
                       : dp_feed_open(&c->feed, s->o.manifest, &ask->feed, e);
    c->opened = rc >= 0;
    pthread_mutex_unlock(&s->opening);
    DP_TRY(rc);
    dp_feed_state(c->feed, &st);
    if (ask->has_state) st = ask->state;
    if (ask->has_start) st.sample = ask->start;
    DP_TRY(dp_feed_resume(c->feed, &st, e));
    if (!ask->grow) return DP_OK;
    rc = dp_feed_reload(c->feed, e);
    return rc < 0 ? rc : DP_OK;
}

static void close_feed(struct dp_feed_serving *c)
{
    pthread_mutex_lock(&c->s->opening);
    dp_feed_close(c->feed);
    if (c->opened && c->s->o.close) c->s->o.close(c->s->o.ctx, c->own);
    pthread_mutex_unlock(&c->s->opening);
}

static int take_place(struct dp_feed_serving *c, struct dp_err *e)
{
    struct dp_feed_server *s = c->s;
    int served = 0;
    pthread_mutex_lock(&s->list);
    for (int i = 0; i < s->slots; i++) served += s->client[i] && atomic_load(&s->client[i]->asked) && !atomic_load(&s->client[i]->done);
    if (served < s->o.clients_max) atomic_store(&c->asked, true);
    pthread_mutex_unlock(&s->list);
    if (served >= s->o.clients_max) DP_FAIL(e, BUSY, "feed: %d clients are being served, and no more are", s->o.clients_max);
    return DP_OK;
}

static void fill_accept(struct dp_feed_serving *c, const struct dp_feed_ask *ask)
{
    const struct dp_feed_options *o = &ask->feed;
    const struct dp_feed *f = c->feed;
    c->a = (struct dp_feed_accept){.seq_len = o->seq_len, .batch = o->batch, .rank = o->rank, .world = o->world, .eot = dp_feed_eot(f),
        .pad = dp_feed_pad(f), .vocab_size = dp_feed_vocab_size(f), .samples = dp_feed_samples(f), .tokens = dp_feed_tokens(f),
        .documents = dp_feed_documents(f), .compress = ask->compress, .meta = ask->meta};
    dp_feed_state(f, &c->a.state);
    c->a.sample = c->a.state.sample;
    dp_feed_shape_init(&c->shape, o->seq_len, o->batch, c->a.vocab_size, ask->meta);
    c->a.slot_bytes = c->shape.slot_bytes;
}

int dp_feed_serving_accept(struct dp_feed_serving *c, struct dp_span text, uint64_t *slots, struct dp_err *e)
{
    struct dp_feed_ask ask;
    struct dp_feed_shape least;
    DP_TRY(dp_feed_ask_parse(&ask, &c->s->o.feed, text, e));
    int rc = take_place(c, e);
    /* Before the feed is opened, which may take long. Over TCP the slots are in the client's memory. */
    uint64_t slots_here = ask.slots && !c->s->tcp ? ask.slots : 1;
    dp_feed_shape_init(&least, ask.feed.seq_len, ask.feed.batch, 1, ask.meta);
    *slots = ask.slots;
    if (rc >= 0 && slots_here * least.slot_bytes > c->s->o.ring_bytes_max)
        rc = dp_err_set(e, DP_LIMIT, 0, __FILE__, __LINE__,
                        "feed: batches of %" PRIu64 " bytes (batch %" PRId64 ", seq_len %" PRId64 ") times %" PRIu64 " are over %" PRIu64 ", this server's limit of a ring",
                        least.slot_bytes, ask.feed.batch, ask.feed.seq_len, slots_here, c->s->o.ring_bytes_max);
    if (rc >= 0) rc = open_feed(c, &ask, e);
    if (rc >= 0) {
        fill_accept(c, &ask);
        c->since = c->rate_at = dp_now();
        atomic_fetch_add(&c->s->accepted, 1);
        dp_log(DEBUG, "feed", "%s: %s: rank %" PRId64 " of %" PRId64 " from sample %" PRIu64, c->s->o.addr, c->peer, c->a.rank, c->a.world, c->a.sample);
    }
    dp_feed_ask_release(&ask);
    return rc;
}

void dp_feed_serving_count(struct dp_feed_serving *c)
{
    atomic_store_explicit(&c->told_made, c->made, memory_order_relaxed);
    atomic_store_explicit(&c->told_bytes, c->conn.bytes_out, memory_order_relaxed);
}

static void *client_main(void *arg)
{
    struct dp_feed_serving *c = arg;
    struct dp_feed_server *s = c->s;
    struct dp_err e = {0};
    int rc = s->tcp ? dp_feed_serve_tcp(c, &e) : dp_feed_serve_ring(c, &e);
    if (rc < 0) atomic_fetch_add(&s->refused, 1);
    if (rc < 0 || e.code) dp_log(WARN, "feed", "%s: %s, after %" PRIu64 " batches: %s", s->o.addr, c->peer, c->made, e.msg);
    close_feed(c);
    pthread_mutex_lock(&s->list); /* what it did goes over to the server's sums in one step */
    atomic_store(&c->serving, false);
    atomic_fetch_add(&s->batches, c->made);
    atomic_fetch_add(&s->ids, c->made * (uint64_t)c->a.batch * (uint64_t)c->a.seq_len);
    atomic_fetch_add(&s->bytes, c->conn.bytes_out);
    pthread_mutex_unlock(&s->list);
    shutdown(s->tcp ? c->conn.fd : c->sock, SHUT_RDWR);
    atomic_fetch_sub(&s->count, 1);
    atomic_store(&c->done, true);
    return NULL;
}

/* --- the server --- */

static int take_name(struct dp_feed_server *s, struct dp_err *e)
{
    struct stat st;
    const struct sockaddr *to = (const struct sockaddr *)&s->name;
    if (bind(s->listener, to, sizeof s->name) == 0) return DP_OK;
    if (errno != EADDRINUSE) DP_FAIL_SYS(e, "%s: cannot make the feed's socket", s->o.addr);
    if (lstat(s->o.addr, &st) == 0 && !S_ISSOCK(st.st_mode)) DP_FAIL(e, CONFIG, "%s: is there already, and no socket", s->o.addr);
    int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) DP_FAIL_SYS(e, "feed: socket");
    bool dead = connect(probe, to, sizeof s->name) != 0 && errno == ECONNREFUSED; /* nobody listens: left by one that was killed */
    close(probe);
    if (!dead) DP_FAIL(e, BUSY, "%s: another server has this socket", s->o.addr);
    if (unlink(s->o.addr) != 0 && errno != ENOENT) DP_FAIL_SYS(e, "%s: cannot remove what a killed server left", s->o.addr);
    if (bind(s->listener, to, sizeof s->name) != 0) DP_FAIL_SYS(e, "%s: cannot make the feed's socket", s->o.addr);
    return DP_OK;
}

static int listen_path(struct dp_feed_server *s, struct dp_err *e)
{
    struct stat st;
    if (strlen(s->o.addr) >= sizeof s->name.sun_path)
        DP_FAIL(e, CONFIG, "%s: a socket's name has at most %zu bytes", s->o.addr, sizeof s->name.sun_path - 1);
    s->name.sun_family = AF_UNIX;
    memcpy(s->name.sun_path, s->o.addr, strlen(s->o.addr) + 1);
    s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listener < 0) DP_FAIL_SYS(e, "feed: socket");
    DP_TRY(take_name(s, e));
    if (lstat(s->o.addr, &st) != 0) DP_FAIL_SYS(e, "%s: listen", s->o.addr);
    s->dev = st.st_dev; /* from here on it is removed at the end, also of a start that fails */
    s->ino = st.st_ino;
    if (chmod(s->o.addr, 0600) != 0 || listen(s->listener, BACKLOG) != 0) DP_FAIL_SYS(e, "%s: listen", s->o.addr);
    return DP_OK;
}

/* As for HTTP: what other machines reach is guarded, or isn't opened. */
static int listen_tcp(struct dp_feed_server *s, struct dp_err *e)
{
    const struct dp_feed_server_options *o = &s->o;
    bool loopback = false;
    if (o->client_ca && !o->cert) DP_FAIL(e, CONFIG, "feed: certificates of clients are asked for by TLS, which wants one of the server too");
    if (o->cert) {
        const struct dp_tls_config t = {.server = true, .cert = o->cert, .key = o->key, .ca = o->client_ca};
        DP_TRY(dp_tls_open(&s->tls, &t, e));
    }
    if (s->listener < 0) {
        DP_TRY(s->listener = dp_tcp_listen(o->addr, "feed", &loopback, e));
    } else loopback = dp_tcp_is_loopback(s->listener);
    if (!loopback && !o->token && !o->client_ca)
        DP_FAIL(e, CONFIG, "feed: %s is reached from other machines: it needs a token, or TLS with certificates of clients", o->addr);
    if (!loopback && !o->cert) dp_log(WARN, "feed", "%s is reached from other machines, without TLS: token and data travel in clear text", o->addr);
    return DP_OK;
}

int dp_feed_server_open(struct dp_feed_server **out, const struct dp_feed_server_options *o, struct dp_err *e)
{
    *out = NULL;
    struct dp_feed_server *s = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "feed server");
    s->o = *o;
    s->listener = o->listener > 0 ? o->listener : -1;
    if (s->o.clients_max < 1) s->o.clients_max = CLIENTS;
    if (s->o.clients_max > CLIENTS_LIMIT) s->o.clients_max = CLIENTS_LIMIT;
    if (!s->o.ring_bytes_max) s->o.ring_bytes_max = RING_BYTES;
    s->slots = s->o.clients_max + ASKING;
    s->tcp = !dp_feed_addr_is_path(o->addr);
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->client = calloc((size_t)s->slots, sizeof *s->client);
    s->mutex = pthread_mutex_init(&s->opening, NULL) == 0 && pthread_mutex_init(&s->list, NULL) == 0;
    int rc = s->client && s->mutex && s->stop_fd >= 0 ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "feed server");
    if (rc >= 0) rc = s->tcp ? listen_tcp(s, e) : s->listener < 0 ? listen_path(s, e) : DP_OK;
    if (rc < 0) dp_feed_server_close(s);
    else *out = s;
    return rc;
}

static void join(struct dp_feed_server *s, int i)
{
    struct dp_feed_serving *c = s->client[i];
    pthread_join(c->thread, NULL);
    pthread_mutex_lock(&s->list);
    s->client[i] = NULL;
    pthread_mutex_unlock(&s->list);
    client_free(c);
}

/* Takes sock over when it succeeds. */
static int start(struct dp_feed_server *s, int sock, int i, struct dp_err *e)
{
    struct ucred peer = {0};
    socklen_t n = sizeof peer;
    if (!s->tcp && getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0) DP_FAIL_SYS(e, "feed: peer");
    bool admitted = s->tcp || (s->o.admit ? s->o.admit(s->o.ctx, sock) : peer.uid == geteuid() || peer.uid == 0);
    if (!admitted) DP_FAIL(e, CONFIG, "feed: this server is for user %u, not %u", geteuid(), peer.uid);
    struct dp_feed_serving *c = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "feed: client");
    c->s = s;
    c->sock = c->ring_fd = c->batch_fd = c->room_fd = c->conn.fd = -1;
    c->came = dp_now();
    int rc = DP_OK;
    if (s->tcp) {
        dp_tcp_tune(sock);
        dp_tcp_peer(sock, c->peer, sizeof c->peer);
        rc = dp_feed_conn_open(&c->conn, sock, s->tls, NULL, e);
        if (rc < 0) c->conn.fd = -1;
        if (s->o.dead_seconds > 0) c->conn.dead_s = s->o.dead_seconds;
    } else {
        snprintf(c->peer, sizeof c->peer, "user %u, pid %d", peer.uid, (int)peer.pid);
        c->sock = sock;
    }
    atomic_fetch_add(&s->count, 1);
    pthread_mutex_lock(&s->list);
    int bad = rc < 0 ? 0 : pthread_create(&c->thread, NULL, client_main, c);
    if (rc >= 0 && !bad) s->client[i] = c;
    pthread_mutex_unlock(&s->list);
    if (rc >= 0 && !bad) return DP_OK;
    atomic_fetch_sub(&s->count, 1);
    c->sock = c->conn.fd = -1;
    client_free(c);
    if (bad) DP_FAIL(e, NOMEM, "feed: a client's thread: %s", strerror(bad));
    return rc;
}

/* A free place, -1 when there is none: then who has been about to say something for longest is sent away. */
static int place(struct dp_feed_server *s)
{
    struct dp_feed_serving *oldest = NULL;
    for (int i = 0; i < s->slots; i++) {
        struct dp_feed_serving *c = s->client[i];
        if (!c) return i;
        if (!atomic_load(&c->asked) && !atomic_load(&c->done) && (!oldest || c->came < oldest->came)) oldest = c;
    }
    if (oldest) shutdown(s->tcp ? oldest->conn.fd : oldest->sock, SHUT_RDWR); /* closed by its join alone, which is ours */
    return -1;
}

static void tend(struct dp_feed_server *s)
{
    double t = dp_now();
    for (int i = 0; i < s->slots; i++) {
        struct dp_feed_serving *c = s->client[i];
        if (c && atomic_load(&c->done)) {
            join(s, i);
            continue;
        }
        if (!c || !atomic_load(&c->serving) || t - c->rate_at < RATE_SECONDS) continue;
        uint64_t made = atomic_load_explicit(&c->told_made, memory_order_relaxed);
        pthread_mutex_lock(&s->list);
        c->rate = (double)((made - c->rate_made) * (uint64_t)c->a.batch * (uint64_t)c->a.seq_len) / (t - c->rate_at);
        c->rate_made = made;
        c->rate_at = t;
        pthread_mutex_unlock(&s->list);
    }
}

static void let_in(struct dp_feed_server *s)
{
    struct pollfd stop = {s->stop_fd, POLLIN, 0};
    struct dp_err why = {0};
    int i = place(s);
    if (i < 0) { /* it stays in the queue until the one that is sent away has gone */
        poll(&stop, 1, 5);
        return;
    }
    int sock = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (sock < 0 && (errno == EMFILE || errno == ENFILE)) poll(&stop, 1, DP_FEED_TICK_MS); /* until one of ours ends */
    else if (sock >= 0 && start(s, sock, i, &why) < 0) {
        dp_log(WARN, "feed", "%s: %s", s->o.addr, why.msg);
        atomic_fetch_add(&s->refused, 1);
        if (!s->tcp) dp_feed_serving_refuse(sock, &why);
        close(sock);
    }
}

int dp_feed_server_run(struct dp_feed_server *s, struct dp_err *e)
{
    struct pollfd p[] = {{s->listener, POLLIN, 0}, {s->stop_fd, POLLIN, 0}};
    while (!dp_feed_stopping(s) && !(s->o.stop && atomic_load(s->o.stop))) {
        int n = poll(p, 2, DP_FEED_TICK_MS);
        if (n < 0 && errno != EINTR) DP_FAIL_SYS(e, "feed: poll");
        tend(s);
        if (n > 0 && p[0].revents) let_in(s);
    }
    dp_feed_server_stop(s);
    for (int i = 0; i < s->slots; i++)
        if (s->client[i]) join(s, i);
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

int dp_feed_server_port(const struct dp_feed_server *s)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    if (!s->tcp || getsockname(s->listener, (struct sockaddr *)&a, &n) != 0) return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&a)->sin6_port : ((struct sockaddr_in *)(void *)&a)->sin_port);
}

size_t dp_feed_server_list(struct dp_feed_server *s, struct dp_feed_server_client *out, size_t n)
{
    size_t k = 0;
    double t = dp_now();
    pthread_mutex_lock(&s->list);
    for (int i = 0; i < s->slots; i++) {
        const struct dp_feed_serving *c = s->client[i];
        if (!c || !atomic_load(&c->serving)) continue;
        uint64_t made = atomic_load_explicit(&c->told_made, memory_order_relaxed);
        if (k < n) {
            out[k] = (struct dp_feed_server_client){.rank = c->a.rank, .world = c->a.world, .batch = c->a.batch, .seq_len = c->a.seq_len,
                .sample = c->a.sample + made * (uint64_t)c->a.batch * (uint64_t)c->a.world, .batches = made,
                .bytes = atomic_load_explicit(&c->told_bytes, memory_order_relaxed), .seconds = t - c->since, .ids_per_s = c->rate};
            memcpy(out[k].peer, c->peer, sizeof c->peer);
        }
        k++;
    }
    pthread_mutex_unlock(&s->list);
    return k;
}

void dp_feed_server_totals(struct dp_feed_server *s, struct dp_feed_server_totals *out)
{
    pthread_mutex_lock(&s->list);
    *out = (struct dp_feed_server_totals){.accepted = atomic_load(&s->accepted), .refused = atomic_load(&s->refused), .batches = atomic_load(&s->batches),
                                          .ids = atomic_load(&s->ids), .bytes = atomic_load(&s->bytes)};
    for (int i = 0; i < s->slots; i++) {
        const struct dp_feed_serving *c = s->client[i];
        if (!c || !atomic_load(&c->serving)) continue;
        uint64_t made = atomic_load_explicit(&c->told_made, memory_order_relaxed);
        out->clients++;
        out->batches += made;
        out->ids += made * (uint64_t)c->a.batch * (uint64_t)c->a.seq_len;
        out->bytes += atomic_load_explicit(&c->told_bytes, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->list);
}

void dp_feed_server_close(struct dp_feed_server *s)
{
    struct stat st;
    if (!s) return;
    if (s->stop_fd >= 0) dp_feed_server_stop(s);
    for (int i = 0; s->client && i < s->slots; i++)
        if (s->client[i]) join(s, i);
    if (s->ino && lstat(s->o.addr, &st) == 0 && st.st_ino == s->ino && st.st_dev == s->dev) unlink(s->o.addr);
    if (s->listener >= 0) close(s->listener);
    if (s->stop_fd >= 0) close(s->stop_fd);
    if (s->mutex) {
        pthread_mutex_destroy(&s->opening);
        pthread_mutex_destroy(&s->list);
    }
    dp_tls_close(s->tls);
    free(s->client);
    free(s);
}

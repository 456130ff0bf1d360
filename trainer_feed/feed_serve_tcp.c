/* One client over TCP. The thread makes a batch only when the one before has left for the kernel and the client has granted credit for it: what it
 * holds is one frame, whatever the client does. It sleeps in poll on the connection and on the server's stop. */
#include "base/clock.h"
#include "base/tcp.h"
#include "trainer_feed/feed_internal.h"
#include "trainer_feed/feed_serving.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { LAST_WORD_SECONDS = 5 };

/* What a batch is made of on the way. */
struct making {
    struct dp_feed_meta m;
    unsigned meta; /* that dp_feed_rows is to fill */
    char *room;
    struct dp_zstd_writer *z;
    struct dp_buf scratch;
};

static bool permitted(const struct dp_feed_serving *c, struct dp_span text)
{
    char said[1025];
    struct dp_span token = dp_feed_ask_token(text);
    if (!c->s->o.token) return true;
    if (token.len >= sizeof said) return false;
    memcpy(said, token.ptr, token.len);
    said[token.len] = 0;
    return dp_secret_equal(said, c->s->o.token);
}

static int hear(struct dp_feed_serving *c, struct dp_feed_frame *f, struct dp_err *e)
{
    double end = dp_now() + DP_FEED_HEAR_SECONDS;
    for (;;) {
        int rc = dp_feed_conn_receive(&c->conn, f, e);
        if (rc != DP_EMPTY) return rc;
        if (dp_feed_stopping(c->s)) return DP_EOF;
        if (dp_now() > end) DP_FAIL(e, USAGE, "feed: no request within %d s", DP_FEED_HEAR_SECONDS);
        DP_TRY(dp_feed_conn_wait(&c->conn, &c->s->stop_fd, 1, DP_FEED_TICK_MS, e));
    }
}

static int greet(struct dp_feed_serving *c, struct dp_err *e)
{
    struct dp_feed_frame f;
    struct dp_buf b;
    uint64_t slots = 0;
    int rc = hear(c, &f, e);
    if (rc != DP_OK) return rc;
    if (f.kind != DP_FEED_ASK || f.flags) DP_FAIL(e, USAGE, "feed: frame %u where a request was expected", f.kind);
    if (!permitted(c, f.payload)) DP_FAIL(e, CONFIG, "feed: the token is missing or wrong");
    rc = dp_feed_serving_accept(c, f.payload, &slots, e);
    if (rc != DP_OK) return rc;
    c->a.slots = slots ? slots : 4;
    uint64_t bytes = dp_feed_batch_bytes_max(&c->shape);
    if (3 * bytes > c->s->o.ring_bytes_max)
        DP_FAIL(e, LIMIT, "feed: three batches of %" PRIu64 " bytes (batch %" PRId64 ", seq_len %" PRId64 ") are over %" PRIu64 ", this server's limit of a ring", bytes,
                c->a.batch, c->a.seq_len, c->s->o.ring_bytes_max);
    dp_buf_init(&b, DP_FEED_CONTROL_BYTES_MAX);
    dp_feed_accept_print(&c->a, &b);
    rc = dp_buf_check(&b, "answer", e);
    if (rc >= 0) rc = dp_feed_conn_say(&c->conn, DP_FEED_ACCEPT, 0, dp_buf_span(&b), e);
    dp_buf_release(&b);
    if (rc >= 0) { /* what comes stays small; what goes may be batches */
        rc = dp_feed_conn_limit(&c->conn, bytes, e);
        c->conn.bytes_max = DP_FEED_CONTROL_BYTES_MAX;
    }
    return rc;
}

/* --- batches --- */

static void making_release(struct making *k)
{
    dp_zstd_writer_close(k->z);
    dp_buf_release(&k->scratch);
    free(k->room);
}

static int making_init(struct dp_feed_serving *c, struct making *k, struct dp_err *e)
{
    struct dp_feed_shape own;
    *k = (struct making){.meta = c->shape.meta};
    dp_buf_init(&k->scratch, (size_t)dp_feed_batch_bytes_max(&c->shape) * 2 + 4096);
    if (k->meta & DP_FEED_META_POSITIONS) k->meta |= DP_FEED_META_CU_SEQLENS;
    if (k->meta & DP_FEED_META_CU_SEQLENS) k->meta |= DP_FEED_META_SEGMENTS;
    if (k->meta & DP_FEED_META_SEGMENTS) k->meta |= DP_FEED_META_CU_SEQLENS;
    k->meta &= ~(unsigned)(DP_FEED_META_POSITIONS | DP_FEED_META_SAMPLE); /* the client's own doing */
    dp_feed_shape_init(&own, c->a.seq_len, c->a.batch, 1, k->meta);
    if (k->meta) {
        k->room = malloc((size_t)own.slot_bytes);
        if (!k->room) DP_FAIL(e, NOMEM, "feed: masks of a batch");
        dp_feed_shape_meta(&own, k->room, &k->m);
    }
    return c->a.compress ? dp_zstd_writer_open(&k->z, (int)c->a.compress, e) : DP_OK;
}

static int make(struct dp_feed_serving *c, struct making *k, struct dp_err *e)
{
    uint64_t step = (uint64_t)c->a.batch * (uint64_t)c->a.world, sample = c->a.sample + c->made * step;
    struct dp_feed_slot head = {sample, sample + step};
    char *payload = dp_feed_conn_room(&c->conn, (size_t)dp_feed_batch_bytes_max(&c->shape));
    if (!payload) return dp_buf_check(&c->conn.out, "feed: a batch", e);
    DP_TRY(dp_feed_rows(c->feed, payload + DP_FEED_BATCH_IDS, (size_t)c->shape.id_bytes, k->meta ? &k->m : NULL, e));
    size_t n = dp_feed_batch_encode(&c->shape, &head, &k->m, payload);
    DP_TRY(dp_feed_conn_put(&c->conn, DP_FEED_BATCH, sample, n, k->z, &k->scratch, e));
    c->made++;
    dp_feed_serving_count(c);
    return DP_OK;
}

static int heard(struct dp_feed_serving *c, const struct dp_feed_frame *f, struct dp_err *e)
{
    switch (f->kind) {
    case DP_FEED_CREDIT:
        if (f->arg < c->credit || f->arg > c->made + DP_FEED_SLOTS_MAX)
            DP_FAIL(e, USAGE, "feed: credit for %" PRIu64 " batches, of %" PRIu64 " made and %" PRIu64 " granted", f->arg, c->made, c->credit);
        c->credit = f->arg;
        return DP_OK;
    case DP_FEED_PING:
        if (dp_feed_conn_unsent(&c->conn)) return DP_OK; /* what is on its way says as much */
        return dp_feed_conn_say(&c->conn, DP_FEED_PONG, f->arg, dp_span("", 0), e);
    case DP_FEED_PONG: return DP_OK;
    default: DP_FAIL(e, USAGE, "feed: frame %u from a client that is being served", f->kind);
    }
}

static int serve(struct dp_feed_serving *c, struct making *k, struct dp_err *e)
{
    for (;;) {
        struct dp_feed_frame f;
        int rc;
        if (dp_feed_stopping(c->s)) return DP_EOF;
        while ((rc = dp_feed_conn_receive(&c->conn, &f, e)) == DP_OK) DP_TRY(heard(c, &f, e));
        if (rc != DP_EMPTY) return rc;
        if (!dp_feed_conn_unsent(&c->conn) && c->made < c->credit) DP_TRY(make(c, k, e));
        rc = dp_feed_conn_flush(&c->conn, e);
        if (rc < 0 || rc == DP_EOF) return rc;
        if (rc == DP_OK && c->made < c->credit) continue;
        DP_TRY(dp_feed_conn_wait(&c->conn, &c->s->stop_fd, 1, (int)(c->conn.dead_s * 100) + 1, e));
        rc = dp_feed_conn_tend(&c->conn, e);
        if (rc != DP_OK) return rc;
    }
}

/* The reason, behind all batches made; the other side has a while to read them. */
static void last_word(struct dp_feed_serving *c, const struct dp_err *why)
{
    struct dp_err ignored;
    struct dp_buf b;
    double end = dp_now() + LAST_WORD_SECONDS;
    dp_buf_init(&b, DP_FEED_CONTROL_BYTES_MAX);
    dp_feed_refuse_print(why, &b);
    int rc = dp_feed_conn_say(&c->conn, DP_FEED_REFUSE, 0, dp_buf_span(&b), &ignored);
    while (rc >= 0 && (rc = dp_feed_conn_flush(&c->conn, &ignored)) == DP_EMPTY && dp_now() < end && !dp_feed_stopping(c->s))
        rc = dp_feed_conn_wait(&c->conn, &c->s->stop_fd, 1, DP_FEED_TICK_MS, &ignored);
    dp_buf_release(&b);
    if (rc != DP_OK || c->conn.tls) return;
    /* What it still sends would, unread, turn our end into a reset, which overtakes the reason: read until it has hung up, too. */
    char rest[4096];
    shutdown(c->conn.fd, SHUT_WR);
    for (end = dp_now() + 1; dp_now() < end && !dp_feed_stopping(c->s);) {
        ssize_t n = recv(c->conn.fd, rest, sizeof rest, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) break;
        if (n < 0 && dp_feed_conn_wait(&c->conn, &c->s->stop_fd, 1, 50, &ignored) < 0) break;
    }
}

int dp_feed_serve_tcp(struct dp_feed_serving *c, struct dp_err *e)
{
    struct making k = {0};
    int rc = greet(c, e);
    if (rc == DP_OK) rc = making_init(c, &k, e);
    if (rc == DP_OK) {
        atomic_store(&c->serving, true);
        rc = serve(c, &k, e);
    }
    if (rc < 0) last_word(c, e);
    making_release(&k);
    return rc;
}

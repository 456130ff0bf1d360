/* Bytes are taken from the socket only as far as the frame at hand goes and the next one's head, so that what is left behind a frame is less than a
 * head, and moving it to the front costs nothing. */
#include "trainer_feed/feed_conn.h"

#include "base/clock.h"
#include "base/tcp.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int dp_feed_conn_open(struct dp_feed_conn *c, int fd, struct dp_tls *tls, const char *host, struct dp_err *e)
{
    *c = (struct dp_feed_conn){.fd = fd, .shaken = tls == NULL, .bytes_max = DP_FEED_CONTROL_BYTES_MAX, .dead_s = DP_FEED_DEAD_SECONDS};
    dp_buf_init(&c->in, DP_FEED_CONTROL_BYTES_MAX + 2 * DP_FEED_FRAME_HEAD + 1);
    dp_buf_init(&c->out, 4 * DP_FEED_CONTROL_BYTES_MAX);
    c->heard = c->moved = c->spoke = dp_now();
    return tls ? dp_tls_conn_open(&c->tls, tls, fd, host, e) : DP_OK;
}

void dp_feed_conn_close(struct dp_feed_conn *c)
{
    dp_tls_conn_close(c->tls);
    if (c->fd >= 0) close(c->fd);
    dp_buf_release(&c->in);
    dp_buf_release(&c->out);
    *c = (struct dp_feed_conn){.fd = -1};
}

int dp_feed_conn_limit(struct dp_feed_conn *c, uint64_t bytes_max, struct dp_err *e)
{
    if (bytes_max < DP_FEED_CONTROL_BYTES_MAX) bytes_max = DP_FEED_CONTROL_BYTES_MAX;
    if (bytes_max > UINT32_MAX / 2) DP_FAIL(e, LIMIT, "feed: batches of %" PRIu64 " bytes are too large for a frame", bytes_max);
    c->bytes_max = bytes_max;
    c->in.bytes_max = (size_t)bytes_max + 2 * DP_FEED_FRAME_HEAD + 1;
    c->out.bytes_max = 2 * (size_t)bytes_max + 4 * DP_FEED_CONTROL_BYTES_MAX;
    return DP_OK;
}

/* --- bytes --- */

static int shake(struct dp_feed_conn *c, struct dp_err *e)
{
    c->wants = 0;
    int rc = dp_tls_handshake(c->tls, &c->wants, e);
    c->shaken = rc == DP_OK;
    return rc;
}

static int read_some(struct dp_feed_conn *c, void *p, size_t n, size_t *got, struct dp_err *e)
{
    if (c->tls) {
        if (!c->shaken) {
            int rc = shake(c, e);
            if (rc != DP_OK) return rc;
        }
        short events = 0;
        int rc = dp_tls_read(c->tls, p, n, got, &events, e);
        if (rc == DP_EMPTY && events & POLLOUT) c->wants = POLLOUT;
        return rc;
    }
    ssize_t k = recv(c->fd, p, n, MSG_DONTWAIT);
    if (k == 0 || (k < 0 && (errno == ECONNRESET || errno == ETIMEDOUT || errno == EPIPE || errno == EHOSTUNREACH || errno == ENETUNREACH))) return DP_EOF;
    if (k < 0 && (errno == EAGAIN || errno == EINTR)) return DP_EMPTY;
    if (k < 0) DP_FAIL_SYS(e, "feed: receive");
    *got = (size_t)k;
    return DP_OK;
}

static int write_some(struct dp_feed_conn *c, const void *p, size_t n, size_t *done, struct dp_err *e)
{
    if (c->tls) {
        if (!c->shaken) {
            int rc = shake(c, e);
            if (rc != DP_OK) return rc;
        }
        short events = 0;
        return dp_tls_write(c->tls, p, n, done, &events, e);
    }
    ssize_t k = send(c->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (k < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)) return DP_EMPTY;
    if (k < 0 && (errno == EPIPE || errno == ECONNRESET || errno == ETIMEDOUT || errno == EHOSTUNREACH || errno == ENETUNREACH)) return DP_EOF;
    if (k < 0) DP_FAIL_SYS(e, "feed: send");
    *done = (size_t)k;
    return DP_OK;
}

/* --- frames --- */

static void drop_seen(struct dp_feed_conn *c)
{
    if (!c->seen) return;
    c->in.len -= c->seen;
    if (c->in.len) memmove(c->in.ptr, c->in.ptr + c->seen, c->in.len);
    c->seen = 0;
}

int dp_feed_conn_receive(struct dp_feed_conn *c, struct dp_feed_frame *f, struct dp_err *e)
{
    drop_seen(c);
    for (;;) {
        int rc = dp_feed_frame_parse(c->in.ptr ? c->in.ptr : "", c->in.len, c->bytes_max, f, e);
        if (rc == DP_OK) c->seen = f->size;
        if (rc != DP_EMPTY) return rc;
        size_t want = f->size + DP_FEED_FRAME_HEAD - c->in.len, got = 0;
        char *to = dp_buf_reserve(&c->in, want);
        if (!to) return dp_buf_check(&c->in, "feed: a frame", e);
        rc = read_some(c, to, want, &got, e);
        if (rc != DP_OK) return rc;
        c->in.len += got;
        c->bytes_in += got;
        c->heard = dp_now();
    }
}

char *dp_feed_conn_room(struct dp_feed_conn *c, size_t n)
{
    if (c->sent == c->out.len) c->out.len = c->sent = 0;
    char *p = dp_buf_reserve(&c->out, DP_FEED_FRAME_HEAD + n);
    return p ? p + DP_FEED_FRAME_HEAD : NULL;
}

int dp_feed_conn_put(struct dp_feed_conn *c, unsigned kind, uint64_t arg, size_t n, struct dp_zstd_writer *z, struct dp_buf *scratch, struct dp_err *e)
{
    char *head = c->out.ptr + c->out.len, *payload = head + DP_FEED_FRAME_HEAD;
    struct dp_feed_frame f = {.kind = kind, .arg = arg, .raw_bytes = (uint32_t)n, .payload = dp_span(payload, n)};
    if (z) {
        dp_buf_clear(scratch);
        DP_TRY(dp_zstd_frame(z, f.payload, scratch, e));
        if (scratch->len < n - n / 10) {
            memcpy(payload, scratch->ptr, scratch->len);
            f.payload.len = scratch->len;
            f.flags = DP_FEED_ZSTD;
        }
    }
    dp_feed_frame_head(head, &f);
    if (c->sent == c->out.len) c->moved = dp_now(); /* nothing was waiting: its time begins */
    c->out.len += DP_FEED_FRAME_HEAD + f.payload.len;
    c->spoke = dp_now();
    return DP_OK;
}

int dp_feed_conn_say(struct dp_feed_conn *c, unsigned kind, uint64_t arg, struct dp_span payload, struct dp_err *e)
{
    char *p = dp_feed_conn_room(c, payload.len);
    if (!p) return dp_buf_check(&c->out, "feed: frames that the other side doesn't read", e);
    if (payload.len) memcpy(p, payload.ptr, payload.len);
    return dp_feed_conn_put(c, kind, arg, payload.len, NULL, NULL, e);
}

int dp_feed_conn_flush(struct dp_feed_conn *c, struct dp_err *e)
{
    if (!c->shaken && c->sent == c->out.len) return shake(c, e);
    while (c->sent < c->out.len) {
        size_t done = 0;
        int rc = write_some(c, c->out.ptr + c->sent, c->out.len - c->sent, &done, e);
        if (rc != DP_OK) return rc;
        c->sent += done;
        c->bytes_out += done;
        c->moved = dp_now();
    }
    c->out.len = c->sent = 0;
    return DP_OK;
}

/* --- waiting --- */

short dp_feed_conn_events(const struct dp_feed_conn *c)
{
    if (!c->shaken) return c->wants ? c->wants : POLLIN | POLLOUT;
    return (short)(POLLIN | (c->sent < c->out.len || c->wants & POLLOUT ? POLLOUT : 0));
}

bool dp_feed_conn_ready(const struct dp_feed_conn *c)
{
    return c->tls && c->shaken && dp_tls_pending(c->tls);
}

int dp_feed_conn_wait(struct dp_feed_conn *c, const int *others, int n, int timeout_ms, struct dp_err *e)
{
    struct pollfd p[4] = {{c->fd, dp_feed_conn_events(c), 0}};
    DP_ASSERT(n < 4);
    for (int i = 0; i < n; i++) p[i + 1] = (struct pollfd){others[i], POLLIN, 0};
    int k = poll(p, (nfds_t)n + 1, dp_feed_conn_ready(c) ? 0 : timeout_ms);
    if (k < 0 && errno != EINTR) DP_FAIL_SYS(e, "feed: poll");
    c->wants = 0;
    return DP_OK;
}

int dp_feed_conn_tend(struct dp_feed_conn *c, struct dp_err *e)
{
    double t = dp_now();
    enum dp_code gone = DP_EOF;
    if (t - c->heard > c->dead_s) {
        dp_err_set(e, gone, 0, __FILE__, __LINE__, "feed: no sign of life for %g s", c->dead_s);
        return gone;
    }
    if (dp_feed_conn_unsent(c) && t - c->moved > c->dead_s) {
        dp_err_set(e, gone, 0, __FILE__, __LINE__, "feed: it read nothing for %g s of what it gave credit for", c->dead_s);
        return gone;
    }
    if (t - c->spoke > c->dead_s / 3 && !dp_feed_conn_unsent(c)) return dp_feed_conn_say(c, DP_FEED_PING, 0, dp_span("", 0), e);
    return DP_OK;
}

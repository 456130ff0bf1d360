/* trainer_feed/feed_conn.h - one TCP connection of the feed: frames in and out, with or without TLS, never waiting.
 *
 * Memory: incoming, one frame of the limit of the moment; outgoing, what the caller puts in: it looks at dp_feed_conn_unsent first.
 * One thread at a time. */
#ifndef DP_TRAINER_FEED_FEED_CONN_H
#define DP_TRAINER_FEED_FEED_CONN_H

#include "base/tls.h"
#include "trainer_feed/feed_frame.h"

enum {
    DP_FEED_DEAD_SECONDS = 30, /* unless told otherwise: of silence from the other side, or of its not reading, and it is dead */
    DP_FEED_CONTROL_BYTES_MAX = DP_FEED_ASK_BYTES_MAX, /* of frames that are no batches */
};

struct dp_feed_conn {
    int fd; /* not blocking; ours */
    struct dp_tls_conn *tls;
    bool shaken;
    short wants; /* what TLS waits for beside what we want; 0 */
    struct dp_buf in, out;
    size_t seen, sent; /* of `in`: parsed; of `out`: gone */
    uint64_t bytes_max, bytes_in, bytes_out;
    double dead_s;
    double heard, moved, spoke; /* monotonic: the last byte that came, that went, the last frame put in */
};

/* Takes fd over in any case. tls may be NULL; host: whom the server's certificate must name. */
int dp_feed_conn_open(struct dp_feed_conn *c, int fd, struct dp_tls *tls, const char *host, struct dp_err *e);
void dp_feed_conn_close(struct dp_feed_conn *c);
/* Frames that come from now on may have payloads of so many bytes, and `out` holds two such. */
int dp_feed_conn_limit(struct dp_feed_conn *c, uint64_t bytes_max, struct dp_err *e);

/* The next frame: DP_OK, valid until the next call; DP_EMPTY when it isn't there yet; DP_EOF when the other side is gone; DP_CORRUPT. */
int dp_feed_conn_receive(struct dp_feed_conn *c, struct dp_feed_frame *f, struct dp_err *e);
/* Put in a small frame. DP_LIMIT when too much is unsent. */
int dp_feed_conn_say(struct dp_feed_conn *c, unsigned kind, uint64_t arg, struct dp_span payload, struct dp_err *e);
/* Or a large one in three steps: room for a payload of at most n bytes, NULL when memory is short; the caller writes it there; then its head. With
 * z, it is compressed if that takes a tenth off. */
char *dp_feed_conn_room(struct dp_feed_conn *c, size_t n);
int dp_feed_conn_put(struct dp_feed_conn *c, unsigned kind, uint64_t arg, size_t n, struct dp_zstd_writer *z, struct dp_buf *scratch, struct dp_err *e);
/* Send: DP_OK when all is gone, DP_EMPTY when the other side must read first, DP_EOF when it is gone. */
int dp_feed_conn_flush(struct dp_feed_conn *c, struct dp_err *e);
static inline size_t dp_feed_conn_unsent(const struct dp_feed_conn *c)
{
    return c->out.len - c->sent;
}
/* What to poll the descriptor for, and whether something can be read without polling. */
short dp_feed_conn_events(const struct dp_feed_conn *c);
bool dp_feed_conn_ready(const struct dp_feed_conn *c);
/* Wait up to timeout_ms for the connection or for one of n other descriptors. */
int dp_feed_conn_wait(struct dp_feed_conn *c, const int *others, int n, int timeout_ms, struct dp_err *e);
/* A ping when we were silent for a third of dead_s. DP_EOF when the other side is dead, with a reason in e. */
int dp_feed_conn_tend(struct dp_feed_conn *c, struct dp_err *e);

#endif

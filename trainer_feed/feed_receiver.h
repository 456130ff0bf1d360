/* trainer_feed/feed_receiver.h - the thread of a TCP client that receives batches into a ring of the client's own.
 *
 * To the client it is what a server on the same machine would be: it fills slots, moves `made`, and sleeps while the ring is full. What it
 * grants the server as credit are the ring's free slots. It answers pings, so that a trainer may compute for hours, and notices a server that gives
 * no sign of life. Threads: open and close from the client's; the ring as trainer_feed/feed_ring.h says. */
#ifndef DP_TRAINER_FEED_FEED_RECEIVER_H
#define DP_TRAINER_FEED_FEED_RECEIVER_H

#include "trainer_feed/feed_conn.h"
#include "trainer_feed/feed_ring.h"

struct dp_feed_receiver;
/* conn is taken over in any case. */
int dp_feed_receiver_open(struct dp_feed_receiver **out, struct dp_feed_conn *conn, const struct dp_feed_accept *a, struct dp_err *e);
void dp_feed_receiver_close(struct dp_feed_receiver *r); /* NULL is fine */
struct dp_feed_ring *dp_feed_receiver_ring(struct dp_feed_receiver *r);
const char *dp_feed_receiver_slots(const struct dp_feed_receiver *r);
int dp_feed_receiver_batch_fd(const struct dp_feed_receiver *r); /* eventfds, as a server's */
int dp_feed_receiver_room_fd(const struct dp_feed_receiver *r);
int dp_feed_receiver_end_fd(const struct dp_feed_receiver *r);   /* readable when it has ended */
/* Bytes and batches that came; from any thread. */
void dp_feed_receiver_count(const struct dp_feed_receiver *r, uint64_t *batches, uint64_t *bytes);
/* Then, behind the last batch in the ring: DP_EOF when the server is gone, or what it said last. */
int dp_feed_receiver_result(struct dp_feed_receiver *r, struct dp_err *e);

#endif

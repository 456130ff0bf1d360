/* trainer_feed/feed_client.h - batches from a feed server in another process (trainer_feed/feed_server.h).
 *
 *   struct dp_feed_client *c;
 *   struct dp_feed_batch b;
 *   dp_feed_client_open(&c, &(struct dp_feed_client_options){.path = "feed.sock", .wants = "seq_len=2048\nbatch=8\n"}, &err);
 *   for (;;) { dp_feed_client_next(c, &b, &err); train(b.ids); }
 *
 * Batches are those that dp_feed_next gives in one process. When the server dies the client says so (log), gives out what lies finished in
 * the ring, connects again and goes on at the exact sample: with the same data, or it fails. The ids are read where they lie.
 * Threads: one at a time. */
#ifndef DP_TRAINER_FEED_FEED_CLIENT_H
#define DP_TRAINER_FEED_FEED_CLIENT_H

#include "trainer_feed/feed.h"

#include <stdatomic.h>

struct dp_feed_client_options {
    const char *path;  /* of the server's socket */
    const char *wants; /* lines NAME=VALUE of dp_feed_opts (but domains) that are to differ from the server's; NULL: none */
    uint64_t start;    /* the first global sample */
    const struct dp_feed_state *state; /* of an earlier run over the same data: then start is not read. NULL: none */
    uint64_t slots;                    /* batches that may lie finished; 0: as the server likes, about 4 MiB */
    double reconnect_seconds;          /* how long to look for a server that is gone; 0: not at all */
    const atomic_bool *stop;           /* may be NULL: waiting ends with DP_STOPPED within 200 ms */
};
struct dp_feed_client_info {
    int64_t seq_len, batch, rank, world, eot;
    uint32_t vocab_size;
    int32_t pad;
    uint64_t samples, tokens, documents;
    uint64_t slots, reconnects;
    uint64_t ready; /* batches that lie finished in the ring: when it is 0 again and again, the server is the slower side */
};
struct dp_feed_batch {
    const int32_t *ids; /* [batch][seq_len + 1], 64-byte aligned; until the next call */
    uint64_t sample;    /* first global sample of the step; this rank's rows begin at sample + rank*batch */
    uint64_t next;      /* first of the next step */
};

struct dp_feed_client;
/* Connects once. DP_NOTFOUND when no server is there; the server's own refusal is its code and message. */
int dp_feed_client_open(struct dp_feed_client **out, const struct dp_feed_client_options *o, struct dp_err *e);
void dp_feed_client_close(struct dp_feed_client *c); /* NULL is fine */
/* The next batch; the one before is given back. DP_NOTFOUND when the server is gone for longer than reconnect_seconds: another call tries again. */
int dp_feed_client_next(struct dp_feed_client *c, struct dp_feed_batch *b, struct dp_err *e);
void dp_feed_client_info(const struct dp_feed_client *c, struct dp_feed_client_info *out);
/* For a checkpoint: behind the batch that was given out last. */
void dp_feed_client_state(const struct dp_feed_client *c, struct dp_feed_state *s);

#endif

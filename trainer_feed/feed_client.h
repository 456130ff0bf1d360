/* trainer_feed/feed_client.h - batches from a feed server in another process, on this machine or another (trainer_feed/feed_server.h).
 *
 *   struct dp_feed_client *c;
 *   struct dp_feed_batch b;
 *   dp_feed_client_open(&c, &(struct dp_feed_client_options){.addr = "run/feed.sock", .wants = "seq_len=2048\nbatch=8\n"}, &err);
 *   for (;;) { dp_feed_client_next(c, &b, &err); train(b.ids); }
 *
 * Batches are those that dp_feed_next gives in one process. When the server dies the client says so (log), gives out what has come whole, connects
 * again and goes on at the exact sample: with the same data, or it fails.
 * Memory: the ring is the server's; over TCP, `slots` batches here. Ids of vocabularies up to 65,536 come as uint16 and are widened into one batch more.
 * Threads: one at a time; over TCP a thread of the client's own receives, so that batches come, and the server knows that we live, while the caller
 * computes. It blocks all signals. */
#ifndef DP_TRAINER_FEED_FEED_CLIENT_H
#define DP_TRAINER_FEED_FEED_CLIENT_H

#include "trainer_feed/feed.h"

#include <stdatomic.h>

struct dp_feed_client_options {
    const char *addr;  /* of the server: with a slash, a Unix socket's path; else HOST:PORT, [HOST]:PORT or :PORT */
    const char *wants; /* lines NAME=VALUE of dp_feed_opts (but domains) that are to differ from the server's; NULL: none */
    uint64_t start;    /* the first global sample */
    const struct dp_feed_state *state; /* of an earlier run over the same data: then start is not read. NULL: none */
    bool grow; /* with a state: look for more shards behind its data first, as dp_feed_reload at its sample; reconnecting doesn't */
    uint64_t slots;                    /* batches that may lie finished; 0: about 1 MiB */
    unsigned meta;                     /* DP_FEED_META_...: what else is to come */
    double reconnect_seconds;          /* how long to look for a server that is gone; 0: not at all */
    const atomic_bool *stop;           /* may be NULL: waiting ends with DP_STOPPED within 200 ms */
    /* TCP */
    int compress;          /* zstd level 1 to 9 of what comes; 0: none */
    const char *token;     /* NULL: none */
    bool tls;              /* also when ca or cert is given */
    const char *ca;        /* PEM file: who may have signed the server's certificate; NULL: whom the system trusts */
    const char *cert, *key; /* PEM files: ours; NULL: none */
    double dead_seconds;   /* of silence of the server, and it is gone; 0: 30 */
    const char *host;      /* whom the server's certificate must name; NULL: the host of addr */
};
/* "cu_seqlens,positions", "all" or nothing, as a set of DP_FEED_META_.... */
int dp_feed_meta_parse(struct dp_span text, unsigned *out, struct dp_err *e);

struct dp_feed_client_info {
    int64_t seq_len, batch, rank, world, eot;
    uint32_t vocab_size;
    int32_t pad;
    unsigned meta;
    uint64_t samples, tokens, documents;
    uint64_t slots, reconnects;
    uint64_t batches; /* that came; over TCP, also what they took, frames and all: */
    uint64_t bytes;
    uint64_t ready; /* batches that lie finished in the ring: when it is 0 again and again, the server is the slower side */
};
struct dp_feed_batch {
    const int32_t *ids; /* [batch][seq_len + 1], 64-byte aligned; like meta to be read only, until the next call */
    uint64_t sample;    /* first global sample of the step; this rank's rows begin at sample + rank*batch */
    uint64_t next;      /* first of the next step */
    struct dp_feed_meta meta; /* what was asked for, else NULL */
};

struct dp_feed_client;
/* Connects once. DP_NOTFOUND when no server is there, DP_BUSY when it takes nobody now, DP_CONFIG when it isn't whom we trust or we aren't whom it
 * lets in; the server's own refusal is its code and message. Strings are copied, but for those of TLS, which are read now. */
int dp_feed_client_open(struct dp_feed_client **out, const struct dp_feed_client_options *o, struct dp_err *e);
void dp_feed_client_close(struct dp_feed_client *c); /* NULL is fine */
/* The next batch; the one before is given back. DP_NOTFOUND when the server is gone for longer than reconnect_seconds: another call tries again. */
int dp_feed_client_next(struct dp_feed_client *c, struct dp_feed_batch *b, struct dp_err *e);
void dp_feed_client_info(const struct dp_feed_client *c, struct dp_feed_client_info *out);
/* For a checkpoint: behind the batch that was given out last. */
void dp_feed_client_state(const struct dp_feed_client *c, struct dp_feed_state *s);

#endif

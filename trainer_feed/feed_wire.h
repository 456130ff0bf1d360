/* trainer_feed/feed_wire.h - what a feed server and its client say to each other; docs/formats/feed_wire.md is the format.
 *
 * Messages are those of base/channel.h on an AF_UNIX SOCK_SEQPACKET socket; texts are lines NAME=VALUE. Batches don't travel in messages
 * but lie in a ring of slots in a memfd whose size is sealed: one producer, one consumer, two counters, and an eventfd each to wake
 * the side that sleeps. The ring is the credit: a client that doesn't read stops its server thread, and nothing else.
 *
 * Trust. The server takes a request as hostile text and the consumer's counter as a hostile number; what else a client writes into the
 * ring only hurts that client. Paths are never taken from a request. The client checks sizes, seals and sample numbers, so that
 * a wrong server can't make it fault or go on at a wrong sample. */
#ifndef DP_TRAINER_FEED_FEED_WIRE_H
#define DP_TRAINER_FEED_FEED_WIRE_H

#include "base/buf.h"
#include "trainer_feed/feed.h"

#include <stdatomic.h>

enum { DP_FEED_ASK = 1, DP_FEED_ACCEPT, DP_FEED_REFUSE }; /* kinds of messages */
enum {
    DP_FEED_ASK_BYTES_MAX = 16 << 10,
    DP_FEED_SLOTS_MAX = 1024,
    DP_FEED_RING_HEAD = 4096, /* bytes before the first slot */
    DP_FEED_SLOT_HEAD = 64,   /* bytes of a slot before its ids */
    DP_FEED_FDS = 3,          /* with ACCEPT: the memfd, "there is a batch", "there is room" */
};
#define DP_FEED_RING_MAGIC UINT64_C(0x31676e6952665064) /* "dPfRing1" */

/* The ring's first page. Each side writes its own cache lines. */
struct dp_feed_ring {
    uint64_t magic, slots, slot_bytes;
    _Alignas(64) _Atomic uint64_t made;     /* batches finished; slot k % slots has the k-th. By the server */
    _Alignas(64) _Atomic uint64_t taken;    /* batches given back. By the client */
    _Alignas(64) _Atomic uint32_t hungry;   /* the client sleeps until there is a batch: whoever clears it wakes it */
    _Alignas(64) _Atomic uint32_t crammed;  /* the server sleeps until there is room */
};
struct dp_feed_slot {
    uint64_t sample; /* first global sample of the step; rank r's rows begin at sample + r*batch */
    uint64_t next;   /* first of the step after it: where a client that has used this one resumes */
};

struct dp_feed_ask {
    struct dp_feed_options feed; /* domains is the defaults' own string; mixture ours */
    uint64_t start, slots;       /* slots 0: as the server likes */
    bool has_start, has_state;
    struct dp_feed_state state;
};
/* `text` over the server's own options: any row of dp_feed_opts but `domains` (the server's business), and start, slots, state; each
 * at most once. DP_USAGE or DP_CONFIG says which line is wrong and why; *a is then empty. */
int dp_feed_ask_parse(struct dp_feed_ask *a, const struct dp_feed_options *defaults, struct dp_span text, struct dp_err *e);
void dp_feed_ask_release(struct dp_feed_ask *a);

struct dp_feed_accept {
    int64_t seq_len, batch, rank, world, eot, pad;
    uint64_t vocab_size, slots, slot_bytes, samples, tokens, documents, sample;
    struct dp_feed_state state; /* at `sample` */
};
void dp_feed_accept_print(const struct dp_feed_accept *a, struct dp_buf *out);
/* DP_CORRUPT for what no server of this version says. */
int dp_feed_accept_parse(struct dp_feed_accept *a, struct dp_span text, struct dp_err *e);

/* "CODE MESSAGE". Parsing gives the code (DP_CORRUPT when there is none) with the message in e. */
void dp_feed_refuse_print(const struct dp_err *e, struct dp_buf *out);
int dp_feed_refuse_parse(struct dp_span text, struct dp_err *e);

void dp_feed_state_print(const struct dp_feed_state *s, struct dp_buf *out); /* lower-case hex of its bytes */

/* Bytes of a slot, a multiple of 64. */
uint64_t dp_feed_slot_bytes(int64_t seq_len, int64_t batch);

#endif

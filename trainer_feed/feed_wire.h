/* trainer_feed/feed_wire.h - what a feed server and its client say to each other; docs/formats/feed_wire.md is the format.
 *
 * Two transports with the same texts (lines NAME=VALUE) and the same batches. On one machine, messages are those of base/channel.h on an
 * AF_UNIX SOCK_SEQPACKET socket, and batches lie in a ring of slots in a memfd whose size is sealed: one producer, one consumer, two
 * counters, and an eventfd each to wake the side that sleeps. The ring is the credit: a client that doesn't read stops its server thread, and
 * nothing else. Between machines, everything travels in frames over TCP (trainer_feed/feed_frame.h), and credit is granted in frames.
 *
 * Trust. The server takes a request as hostile text and the consumer's counter as a hostile number; what else a client writes into the
 * ring only hurts that client. Paths are never taken from a request. The client checks sizes, seals and sample numbers, so that
 * a wrong server can't make it fault or go on at a wrong sample. */
#ifndef DP_TRAINER_FEED_FEED_WIRE_H
#define DP_TRAINER_FEED_FEED_WIRE_H

#include "base/buf.h"
#include "trainer_feed/feed_client.h"

#include <stdatomic.h>

enum { DP_FEED_ASK = 1, DP_FEED_ACCEPT, DP_FEED_REFUSE }; /* kinds of messages */
enum {
    DP_FEED_WIRE = 2, /* the version; 1 had int32 ids, no meta and no TCP */
    DP_FEED_ASK_BYTES_MAX = 16 << 10,
    DP_FEED_SLOTS_MAX = 1024,
    DP_FEED_COMPRESS_MAX = 9, /* zstd's memory at this level stays under 32 MiB a client; beyond 1 it hardly pays (docs/formats/feed_wire.md) */
    DP_FEED_RING_HEAD = 4096, /* bytes before the first slot */
    DP_FEED_SLOT_HEAD = 64,   /* bytes of a slot before its ids */
    DP_FEED_FDS = 3,          /* with ACCEPT: the memfd, "there is a batch", "there is room" */
};
#define DP_FEED_RING_MAGIC UINT64_C(0x32676e6952665064) /* "dPfRing2" */

/* The ring's first page. Each side writes its own cache lines. */
struct dp_feed_ring {
    uint64_t magic, slots, slot_bytes;
    _Alignas(64) _Atomic uint64_t made;     /* batches finished; slot k % slots has the k-th. By the server */
    _Alignas(64) _Atomic uint64_t taken;    /* batches given back. By the client */
    _Alignas(64) _Atomic uint32_t hungry;   /* the client sleeps until there is a batch: whoever clears it wakes it */
    _Atomic uint32_t reader_cpu;            /* where the client last ran when it slept or woke the server, plus 1; 0: not told */
    _Alignas(64) _Atomic uint32_t crammed;  /* the server sleeps until there is room */
};
struct dp_feed_slot {
    uint64_t sample; /* first global sample of the step; rank r's rows begin at sample + r*batch */
    uint64_t next;   /* first of the step after it: where a client that has used this one resumes */
};

/* A batch in memory: the head, ids[batch][seq_len + 1] as uint16 where the vocabulary allows, else int32 (a ring of half the size stays in
 * caches that both sides share; the reader widens into memory of its own), and what was asked for of struct dp_feed_meta, in its
 * order, each at the next multiple of 64. */
struct dp_feed_shape {
    int64_t seq_len, batch;
    int id_bytes;      /* 2 or 4 */
    unsigned meta;     /* DP_FEED_META_... */
    uint64_t slot_bytes;
    uint64_t at[6];    /* of cu_seqlens, segments, positions, loss_mask, domain, sample; 0: not there */
};
void dp_feed_shape_init(struct dp_feed_shape *s, int64_t seq_len, int64_t batch, uint64_t vocab_size, unsigned meta);
/* The arrays of a batch in memory; NULL those that aren't there. */
void dp_feed_shape_meta(const struct dp_feed_shape *s, const void *slot, struct dp_feed_meta *out);
/* What dp_feed_meta_parse (trainer_feed/feed_client.h) reads. */
void dp_feed_meta_print(unsigned meta, struct dp_buf *out);

struct dp_feed_ask {
    struct dp_feed_options feed; /* domains is the defaults' own string; mixture ours */
    uint64_t start, slots;       /* slots 0: as the server likes */
    uint64_t compress;           /* zstd level of frames on TCP, at most DP_FEED_COMPRESS_MAX; 0: none */
    unsigned meta;
    bool has_start, has_state;
    bool grow; /* take up what came behind the state's data, as dp_feed_reload */
    struct dp_feed_state state;
};
/* `text` over the server's own options: any row of dp_feed_opts but `domains` (the server's business), and wire, start, slots, state,
 * grow, meta, compress and token; each at most once. DP_USAGE or DP_CONFIG says which line is wrong and why; *a is then empty. */
int dp_feed_ask_parse(struct dp_feed_ask *a, const struct dp_feed_options *defaults, struct dp_span text, struct dp_err *e);
void dp_feed_ask_release(struct dp_feed_ask *a);
/* The text's line "token=": empty without one. Nothing else is looked at. */
struct dp_span dp_feed_ask_token(struct dp_span text);

struct dp_feed_accept {
    int64_t seq_len, batch, rank, world, eot, pad;
    uint64_t vocab_size, slots, slot_bytes, samples, tokens, documents, sample, compress;
    struct dp_feed_state state; /* at `sample` */
    unsigned meta;
};
void dp_feed_accept_print(const struct dp_feed_accept *a, struct dp_buf *out);
/* DP_CORRUPT for what no server of this version says. */
int dp_feed_accept_parse(struct dp_feed_accept *a, struct dp_span text, struct dp_err *e);

/* "CODE MESSAGE". Parsing gives the code (DP_CORRUPT when there is none) with the message in e. */
void dp_feed_refuse_print(const struct dp_err *e, struct dp_buf *out);
int dp_feed_refuse_parse(struct dp_span text, struct dp_err *e);

void dp_feed_state_print(const struct dp_feed_state *s, struct dp_buf *out); /* lower-case hex of its bytes */

#endif

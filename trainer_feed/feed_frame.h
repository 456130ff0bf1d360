/* trainer_feed/feed_frame.h - frames of the feed's TCP stream, and batches as they travel in them; docs/formats/feed_wire.md is the format.
 *
 * A frame is a head of 32 bytes, itself guarded by a checksum so that a wrong length is never waited for, and a payload with another. Everything
 * that comes from the other side is hostile until it has passed here: lengths against the limit of the moment, ids against the
 * vocabulary, segments against the row. Pure; no memory but what is passed in. */
#ifndef DP_TRAINER_FEED_FEED_FRAME_H
#define DP_TRAINER_FEED_FEED_FRAME_H

#include "base/zstd.h"
#include "trainer_feed/feed_widen.h"
#include "trainer_feed/feed_wire.h"

enum { DP_FEED_FRAME_HEAD = 32, DP_FEED_ZSTD = 1 /* flag: the payload is a zstd frame */ };
/* Kinds beside DP_FEED_ASK, ACCEPT and REFUSE. CREDIT's argument is how many batches, counted from the first, may have been sent. */
enum { DP_FEED_BATCH = 4, DP_FEED_CREDIT, DP_FEED_PING, DP_FEED_PONG };

struct dp_feed_frame {
    unsigned kind, flags;
    uint64_t arg;       /* BATCH: its first sample; CREDIT; PING and PONG: anything */
    uint32_t raw_bytes; /* of the payload, decompressed */
    struct dp_span payload;
    size_t size; /* of the whole frame */
};
/* The frame at the beginning of p[0, n): DP_OK; DP_EMPTY when more must come, f->size telling how much in all (at least); DP_CORRUPT when it is
 * none, is damaged, or its payload is larger than bytes_max (on the wire or decompressed). f->payload points into p. */
int dp_feed_frame_parse(const void *p, size_t n, uint64_t bytes_max, struct dp_feed_frame *f, struct dp_err *e);
/* Fill in the head of a frame whose payload stands behind it; payload and size are looked at. */
void dp_feed_frame_head(char head[DP_FEED_FRAME_HEAD], const struct dp_feed_frame *f);

/* Bytes that a batch of this shape has at most as a payload. */
uint64_t dp_feed_batch_bytes_max(const struct dp_feed_shape *s);
/* Where the ids begin in a payload; they stand as dp_feed_rows writes them. */
enum { DP_FEED_BATCH_IDS = 16 };
/* The rest of a payload, behind the ids that are there already: from `m` (arrays of s->meta; cu_seqlens and segments too when positions are
 * asked). Returns the payload's length. */
size_t dp_feed_batch_encode(const struct dp_feed_shape *s, const struct dp_feed_slot *head, const struct dp_feed_meta *m, char *payload);
/* From a payload, decompressed, to a slot. DP_CORRUPT says what is wrong. rank: for `sample`. */
int dp_feed_batch_decode(const struct dp_feed_shape *s, const struct dp_feed_accept *a, const struct dp_feed_widen *w, struct dp_span payload, void *slot,
                         struct dp_err *e);

#endif

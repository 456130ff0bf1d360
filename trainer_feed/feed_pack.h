/* trainer_feed/feed_pack.h - best-fit packing: documents whole where they fit, rows filled with what fits best.
 *
 * A row has C = T + 1 places. A document of n < C ids is one piece. A longer one is cut at row bounds: m = (n - 1) / T rows
 * of its ids [jT, jT + T], j < m, each sharing one id with the next, and then, when (n - 1) % T > 0, a last piece of its ids
 * [mT, n). So each id of a document but its first is a target exactly once, and no row begins with a target.
 *
 * Documents are packed in windows of 65,536 consecutive document numbers of the manifest. Within one, pieces are taken by
 * falling length, equal ones in document order; each goes into the row with the least room that is enough (of several the one
 * that last got that room), else into a new row. Rows of a window: those of long documents, in document order, then the packed
 * ones in the order they were begun. A row's pieces stand in document order; its rest is padding.
 * The layout is a pure function of the manifest's document ends, the selection and T.
 *
 * Memory: 2 bytes a document, 2 a packed row, 8 a long document, 32 a window (feed_spill.h: in a temporary file when large);
 * while it is built 2 MiB and 4.1 bytes x T. Limit: T to 2^20. Thread-safety: read-only once built. */
#ifndef DP_TRAINER_FEED_FEED_PACK_H
#define DP_TRAINER_FEED_FEED_PACK_H

#include "base/err.h"
#include "trainer_feed/feed_docs.h"
#include "trainer_feed/feed_spill.h"

#include <stddef.h>
#include <stdint.h>

enum { DP_FEED_PACK_WINDOW = 1 << 16, DP_FEED_PACK_LEN_MAX = 1 << 20 };

struct dp_feed_window { /* what comes before it */
    uint64_t row, piece, packed, longs;
};

struct dp_feed_pack {
    const struct dp_feed_docs *docs; /* the caller's */
    uint64_t seq_len;
    uint64_t rows, tokens, documents; /* documents without ids count, and are in no row */
    uint64_t padding;                 /* places without an id */
    uint64_t cut;                     /* documents over more than one row */
    size_t windows;
    struct dp_feed_window *window; /* [windows + 1] */
    struct dp_feed_spill piece;    /* u16: a piece's document in its window, by row */
    struct dp_feed_spill packed;   /* u16: where a packed row's pieces begin in its window's */
    struct dp_feed_spill longs;    /* u64: long rows of the window up to and with this document << 16 | the document */
};

/* seq_len <= DP_FEED_PACK_LEN_MAX. spill_limit 0, except in tests. */
int dp_feed_pack_open(struct dp_feed_pack *p, const struct dp_feed_docs *docs, uint64_t seq_len, size_t spill_limit,
                      struct dp_err *e);
void dp_feed_pack_release(struct dp_feed_pack *p);

/* The pieces of a row, one after the other. */
struct dp_feed_pieces {
    uint64_t token, n; /* this piece: n ids from global number `token` */
    const uint16_t *at, *end;
    uint64_t first_doc;
    size_t shard;
};
void dp_feed_pack_row(const struct dp_feed_pack *p, uint64_t row, struct dp_feed_pieces *it);
/* Ask memory for the document ends that dp_feed_pack_row of this row will read. */
void dp_feed_pack_prefetch(const struct dp_feed_pack *p, uint64_t row);
/* To the next piece; false behind the last. */
bool dp_feed_pack_next(const struct dp_feed_pack *p, struct dp_feed_pieces *it);

#endif

/* trainer_feed/feed_index.h - from a position in a split's stream to a position in the shards.
 *
 * The shards' ids, in manifest order, have global numbers. A split is a subset of the documents
 * (feed_docs.h); its stream is cut into runs: stretches of documents of the split without one of the other side
 * between them, which are contiguous in global numbers. Every `stride`-th run has an entry; stride
 * is 1 until there are more than DP_FEED_RUNS_MAX runs and then doubles, and the runs between two
 * entries are found by walking documents and asking their side again.
 *
 * Memory: 24 bytes an entry, at most 48 MiB (72 while it grows), and 4 bytes for each of at most
 * 2^22 buckets. A corpus of 10^8 documents with 1 % in val has about 10^6 runs. Building is one
 * pass over ends and content hashes.
 * Thread-safety: read-only once built. */
#ifndef DP_TRAINER_FEED_FEED_INDEX_H
#define DP_TRAINER_FEED_FEED_INDEX_H

#include "base/err.h"
#include "trainer_feed/feed_docs.h"

#include <stddef.h>
#include <stdint.h>

enum { DP_FEED_RUNS_MAX = 1 << 21 };

struct dp_feed_run {
    uint64_t pos;   /* ids of the split before the run */
    uint64_t token; /* global number of its first id */
    uint64_t doc;   /* global number of its first document */
};

struct dp_feed_index {
    const struct dp_feed_docs *docs; /* the caller's */
    uint64_t tokens, documents;      /* of the split */
    struct dp_feed_run *run;    /* ascending pos */
    size_t runs, runs_cap, runs_max;
    uint64_t stride;
    uint32_t *bucket; /* entry that holds position b << bucket_shift */
    size_t buckets;
    int bucket_shift;
};

/* Index what `docs` selects; docs must outlive the index. runs_max is DP_FEED_RUNS_MAX, except in tests (at least 2). */
int dp_feed_index_open(struct dp_feed_index *ix, const struct dp_feed_docs *docs, size_t runs_max, struct dp_err *e);
void dp_feed_index_release(struct dp_feed_index *ix);
/* The piece of the stream that begins at pos < tokens: *token is its global number; returns how
 * many ids follow contiguously in global numbers, 1 to `want`. */
uint64_t dp_feed_index_find(const struct dp_feed_index *ix, uint64_t pos, uint64_t want,
                            uint64_t *token);

#endif

/* trainer_feed/feed_docs.h - the documents that one domain takes from a manifest, and the shards they lie in.
 *
 * Shards, documents and ids of the manifest's first `shards` shards have global numbers, in manifest order. A selection says
 * which documents are taken: a side of the split by content hash, and by option a set of sources.
 *
 * Damage. With `skip`, a shard whose body is missing, short or too long keeps its place: its documents are known from the side
 * file, and all its frames are bad. A shard without a good side file has no documents (and `hash` says so). With `check` each
 * frame's checksum is tested the first time that one of its ids is read. A frame is good or bad by its bytes alone, so what
 * a feed makes of it doesn't depend on who reads what when.
 *
 * Memory: 48 bytes a shard and 2 bits a frame. Thread-safety: read-only once open; frames may be checked from any thread. */
#ifndef DP_TRAINER_FEED_FEED_DOCS_H
#define DP_TRAINER_FEED_FEED_DOCS_H

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "shards/manifest.h"
#include "shards/shard.h"
#include "trainer_feed/feed.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_feed_select {
    int split; /* enum dp_feed_split */
    double val_fraction, test_fraction;
    dp_feed_takes_fn takes; /* NULL: all sources */
    void *ctx;
};

struct dp_feed_docs {
    const struct dp_manifest *m; /* the caller's */
    size_t shards, absent;       /* absent: without a side file */
    struct dp_shard **shard;     /* NULL where absent */
    struct dp_map *side, *blank; /* of shards without a body; len 0 elsewhere */
    uint64_t *token_start, *doc_start, *frame_start; /* [shards + 1]: global numbers where each begins */
    _Atomic uint32_t *frame;                         /* 16 frames a word: 0 unknown, 1 good, 2 bad */
    struct dp_feed_select select;
    uint64_t val_below, test_below;
    bool all, none; /* no document need be looked at */
    bool check, skip;
    struct dp_hash128 hash; /* of the shards' contents, in order, and of the sources taken */
};

/* The manifest must outlive it. `shards` <= m->count. */
int dp_feed_docs_open(struct dp_feed_docs *s, const struct dp_manifest *m, const char *manifest_path, size_t shards,
                      const struct dp_feed_select *select, bool check, bool skip, struct dp_err *e);
void dp_feed_docs_release(struct dp_feed_docs *s);
/* What `hash` is without selection and damage: of the first n shards of a list. */
struct dp_hash128 dp_feed_docs_prefix(const struct dp_manifest *m, size_t n);

static inline uint64_t dp_feed_docs_count(const struct dp_feed_docs *s, size_t shard)
{
    return s->doc_start[shard + 1] - s->doc_start[shard];
}
/* Documents are asked in order, shard by shard, through one of these (zeroed first): it remembers the last source. */
struct dp_feed_asker {
    uint64_t key; /* shard and source, plus 1 */
    bool taken;
};
bool dp_feed_docs_takes(const struct dp_feed_docs *s, struct dp_feed_asker *a, size_t shard, uint64_t document);
/* The shard that holds global id or document `x`. */
size_t dp_feed_docs_shard(const struct dp_feed_docs *s, uint64_t token);
size_t dp_feed_docs_shard_of(const struct dp_feed_docs *s, uint64_t document);
/* Ids [first, first + n) of a shard: DP_CORRUPT, naming shard and frame, when a frame of them is known to be bad, or is now
 * found to be (`check`). */
int dp_feed_docs_touch(const struct dp_feed_docs *s, size_t shard, uint64_t first, uint64_t n, struct dp_err *e);
/* Frames known to be bad. */
uint64_t dp_feed_docs_bad_frames(const struct dp_feed_docs *s);

#endif

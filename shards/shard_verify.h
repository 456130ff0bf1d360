/* shards/shard_verify.h - is everything that a manifest names there, whole, and what was written?
 *
 * Checked of each shard: both files exist with the sizes and counts of the manifest; the side
 * file's SHA-256, which covers the frame checksums; document ends; each frame's CRC-32C and the
 * range of each id; with `sha256` also the body's digest. Any flipped bit of a body is found with
 * its frame, any of a side file with its section. Cost: one read of everything.
 * Memory: the maps, and the text of problems of 64 shards. Thread-safety: one caller per call. */
#ifndef DP_SHARDS_SHARD_VERIFY_H
#define DP_SHARDS_SHARD_VERIFY_H

#include "base/err.h"
#include "base/thread.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_verify_problem {
    const char *shard;   /* name in the manifest */
    size_t shard_number; /* its index there */
    int64_t frame;       /* -1: the trouble isn't in one frame of the body */
    uint64_t first_id;   /* of the frame */
    int code;            /* DP_NOTFOUND, DP_CORRUPT, DP_IO... */
    const char *what;
};
/* Called on the caller's thread, in the order of the manifest. Strings live until it returns. */
typedef void (*dp_verify_fn)(void *ctx, const struct dp_verify_problem *p);

struct dp_verify_totals {
    uint64_t shards, shards_bad, problems;
    uint64_t frames, tokens, documents; /* of shards that could be opened */
};

/* `pool` and `report` may be NULL. Returns DP_OK when nothing is wrong, DP_CORRUPT (with a summary)
 * when there are problems, and another code when verification itself failed or the manifest can't
 * be read. */
int dp_verify_manifest(const char *path, struct dp_pool *pool, bool sha256, dp_verify_fn report,
                       void *ctx, struct dp_verify_totals *totals, struct dp_err *e);

#endif

/* shards/shard_pack.h - the two halves of a compressed body: cutting ids into zstd frames, and
 * giving back one frame on demand. Internal to shards/shard_*.c.
 *
 * Frames are independent and stand back to back, so `zstd -dc NAME.zbin` is the flat body. They
 * have no checksum of zstd's: the table has a CRC-32C of the compressed bytes, which also covers
 * the bits that a decoder ignores, and the side file has one of the ids.
 * Memory: a packer holds one frame of ids, one compressed, zstd's state (about 1.3 MiB at level 3)
 * and 8 bytes a frame written (128 KiB at most for frames of 65,536 ids, 2 MiB for the smallest). A reader holds 8 bytes a frame of each open shard,
 * and each thread that reads a decoder and DP_PACK_SLOTS frames of ids, freed when the thread ends.
 * Thread-safety: a packer has one owner; a dp_packs is read-only, any thread may get frames of it. */
#ifndef DP_SHARDS_SHARD_PACK_H
#define DP_SHARDS_SHARD_PACK_H

#include "base/buf.h"
#include "base/fs.h"
#include "base/span.h"
#include "base/zstd.h"
#include "shards/shard.h"
#include "shards/shard_layout.h"

enum { DP_PACK_SLOTS = 4 };

struct dp_packer {
    struct dp_zstd_writer *z;
    char *ids;
    size_t fill, cap; /* bytes */
    struct dp_buf packed;
    struct dpx_pack *table;
    uint64_t frames, frames_cap, bytes;
};
int dp_packer_open(struct dp_packer *p, const struct dp_shard_packing *how, int width,
                   struct dp_err *e);
/* Add n bytes of ids; full frames go to `out`. */
int dp_packer_add(struct dp_packer *p, const void *ids, size_t n, struct dp_out *out,
                  struct dp_err *e);
int dp_packer_finish(struct dp_packer *p, struct dp_out *out, struct dp_err *e);
void dp_packer_close(struct dp_packer *p); /* of a zeroed one too */

struct dp_packs {
    const char *body;
    const struct dpx_pack *table;
    uint64_t *offset; /* [frames + 1] in the body */
    uint64_t frames, tokens, uid;
    uint32_t ids;
    int width;
};
/* The table must be there (frames = ceil(tokens / ids) entries); DP_CORRUPT, named, when it doesn't
 * add up to the body. */
int dp_packs_open(struct dp_packs *p, struct dp_span body, const struct dpx_pack *table,
                  uint64_t tokens, uint32_t ids, int width, const char *name, struct dp_err *e);
void dp_packs_close(struct dp_packs *p);
/* The ids of frame k < frames: valid until this thread asks for DP_PACK_SLOTS other ones. A failure
 * (DP_CORRUPT, DP_NOMEM) is said in `what`, without name and frame. */
int dp_packs_get(const struct dp_packs *p, uint64_t k, const void **ids, char what[160]);

#endif

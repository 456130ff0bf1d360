/* shards/shard_layout.h - the side file's header, shared by writer and reader only. Table:
 * docs/formats/shard.md. */
#ifndef DP_SHARDS_SHARD_LAYOUT_H
#define DP_SHARDS_SHARD_LAYOUT_H

#include "base/hash.h"
#include "shards/shard.h"

#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "shards are read in place: little-endian machines only");

/* Sections follow in this order without gaps: 8-byte columns first, so that each is aligned in a
 * mapped file. */
enum { DPX_ENDS, DPX_CONTENTS, DPX_DOC_IDS, DPX_SOURCES, DPX_FRAMES, DPX_SECTIONS };

enum { DPX_ZSTD = 1 }; /* flags: the body is zstd frames, and a frame table follows the sections */

struct dpx_header {
    char magic[4]; /* "DPX1" */
    uint32_t version;
    uint32_t id_bytes;
    uint32_t vocab_size;
    int64_t eot;
    uint64_t tokens;
    uint64_t documents;
    struct dp_hash128 tokenizer;
    uint32_t frame_ids;
    uint32_t flags; /* 0, or DPX_ZSTD */
    uint64_t frames;
    uint64_t file_bytes; /* of the side file */
    uint32_t section_crc[DPX_SECTIONS];
    /* Of a compressed body; 0 of a flat one. */
    uint32_t pack_ids;   /* ids of a zstd frame; the last may be shorter */
    uint64_t pack_bytes; /* of the body */
    uint32_t pack_crc;   /* of the frame table, which ends the file */
    uint32_t reserved[2]; /* 0 */
    uint32_t header_crc;  /* of the bytes before it */
};
_Static_assert(sizeof(struct dpx_header) == 128 && offsetof(struct dpx_header, header_crc) == 124 &&
                   offsetof(struct dpx_header, section_crc) == 80 &&
                   offsetof(struct dpx_header, pack_ids) == 100 &&
                   offsetof(struct dpx_header, pack_bytes) == 104,
               "the header's bytes are the file format");

/* An entry of the frame table. */
struct dpx_pack {
    uint32_t bytes; /* of the frame */
    uint32_t crc;   /* CRC-32C of those */
};
_Static_assert(sizeof(struct dpx_pack) == 8, "the table's bytes are the file format");

/* Whether zstd frames may have n ids: frames of checksums hold whole ones, or are held. */
static inline bool dpx_pack_ids_ok(uint32_t n)
{
    if (n > DP_SHARD_FRAME_IDS) return n % DP_SHARD_FRAME_IDS == 0 && n <= DP_SHARD_PACK_IDS_MAX;
    return n >= DP_SHARD_PACK_IDS_MIN && DP_SHARD_FRAME_IDS % n == 0;
}
static inline uint64_t dpx_frames_of(uint64_t tokens, uint32_t frame_ids)
{
    return tokens / frame_ids + (tokens % frame_ids != 0);
}
/* Bytes an entry of each section takes. */
static const uint8_t dpx_width[DPX_SECTIONS] = {8, 16, 16, 4, 4};
static const char *const dpx_section[DPX_SECTIONS] = {
    "document ends", "content hashes", "document ids", "source numbers", "frame checksums"};

#endif

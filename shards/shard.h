/* shards/shard.h - one shard of token ids: a flat body and a side file.
 *
 * NAME.bin  the ids and nothing else: u16 when the vocabulary has at most 65,536 ids, else u32;
 * little-endian.
 * NAME.zbin the same ids as zstd frames, for cold and remote storage: a third of the bytes, and one
 * frame can be read alone.
 * NAME.dpx  what is known of them: where documents end, which they are, and checksums. Byte table:
 * docs/formats/shard.md.
 *
 * The body has no header so that one file serves as Megatron .bin, nanoGPT, OLMo and datatrove body
 * at once, and maps with its rows at aligned offsets. Everything a reader must trust is in the side
 * file, each byte of which some CRC covers.
 *
 * Invariants of an open shard: body size = tokens x width, or the sum of the frame table; document ends never decrease, the last
 * is `tokens`; all side-file checksums held when it was opened. Ids themselves are checked by
 * dp_shard_verify (and by range in the feed), not at open.
 * Memory: the reader maps both files and holds nothing else; opening and verifying give pages back as
 * they go. The writer holds a frame and 320 KiB; 44 bytes a document and 4 a frame wait in temporary
 * files. A mapped file that somebody
 * truncates raises SIGBUS: published files are immutable.
 * Thread-safety: a writer has one owner; an open shard is read-only and may be shared.
 * Little-endian machines only. */
#ifndef DP_SHARDS_SHARD_H
#define DP_SHARDS_SHARD_H

#include "base/err.h"
#include "base/hash.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define DP_SHARD_TOKENS_MAX (UINT64_C(1) << 30) /* ids of one shard */
#define DP_SHARD_DOCS_MAX (UINT64_C(1) << 23)   /* documents of one shard */
#define DP_SHARD_VOCAB_MAX (UINT32_C(1) << 31)  /* so that every id fits an int32 */
#define DP_SHARD_FRAME_IDS 65536u /* ids under one checksum; the last frame may be shorter */

#define DP_SHARD_PACK_IDS_MAX (16 * DP_SHARD_FRAME_IDS) /* ids of a zstd frame */
#define DP_SHARD_PACK_IDS_MIN (DP_SHARD_FRAME_IDS / 16)

enum dp_shard_dtype { DP_SHARD_U16 = 2, DP_SHARD_U32 = 4 }; /* the value is the width in bytes */

struct dp_shard_meta {
    uint32_t vocab_size;         /* every id is below it; 1 to DP_SHARD_VOCAB_MAX */
    int64_t eot;                 /* id that ends every document, -1 for none */
    struct dp_hash128 tokenizer; /* digest of the tokenizer; zero when unknown */
    int dtype; /* enum dp_shard_dtype; follows from vocab_size. A writer takes 0 for "follow" */
};
/* The type that a vocabulary's ids have. */
static inline int dp_shard_dtype_of(uint32_t vocab_size)
{
    return vocab_size <= 65536 ? DP_SHARD_U16 : DP_SHARD_U32;
}
/* DP_CONFIG when the numbers contradict each other; fills dtype when it is 0. `name` begins the
 * message. */
int dp_shard_meta_check(struct dp_shard_meta *m, const char *name, struct dp_err *e);

/* ---- writing ---- */

struct dp_shard_writer;
/* Creates both files (which must not exist); the caller publishes them by rename after finish:
 * body, side file, then manifest. */
int dp_shard_writer_open(struct dp_shard_writer **out, const char *bin_path, const char *dpx_path,
                         const struct dp_shard_meta *m, struct dp_err *e);
/* The same with a compressed body. Level 1 to 19; frame_ids a multiple of DP_SHARD_FRAME_IDS, to
 * DP_SHARD_PACK_IDS_MAX, or a half, fourth, eighth or sixteenth of it. NULL: a flat body. The same bytes for the same libzstd. */
struct dp_shard_packing {
    int level;
    uint32_t frame_ids;
};
int dp_shard_writer_open_packed(struct dp_shard_writer **out, const char *bin_path,
                                const char *dpx_path, const struct dp_shard_meta *m,
                                const struct dp_shard_packing *packing, struct dp_err *e);
/* True when a document of n ids (without EOT) still fits under the limits of one shard. */
bool dp_shard_writer_fits(const struct dp_shard_writer *w, size_t n);
/* Append a document of n ids, without its EOT: the writer adds it when meta.eot >= 0. DP_CORRUPT
 * for an id outside the vocabulary, DP_LIMIT when it doesn't fit (both leave the shard as it was).
 * After any other failure the writer is dead. */
int dp_shard_writer_add(struct dp_shard_writer *w, struct dp_hash128 doc_id,
                        struct dp_hash128 content, uint32_t source, const uint32_t *ids, size_t n,
                        struct dp_err *e);
/* Append ids of a document that dp_shard_writer_add ends, with the last of them or none: for documents that aren't held in memory. Fails as that does, but the
 * writer is dead then. */
int dp_shard_writer_part(struct dp_shard_writer *w, const uint32_t *ids, size_t n, struct dp_err *e);
uint64_t dp_shard_writer_tokens(const struct dp_shard_writer *w); /* EOTs included */
uint64_t dp_shard_writer_documents(const struct dp_shard_writer *w);
/* Write the side file, flush and fsync both. The digests are SHA-256 in hex; either may be NULL. */
int dp_shard_writer_finish(struct dp_shard_writer *w, char bin_digest[DP_HEX256],
                           char dpx_digest[DP_HEX256], struct dp_err *e);
/* Free. Files of a writer that wasn't finished are removed. NULL is fine. */
void dp_shard_writer_close(struct dp_shard_writer *w);

/* ---- reading ---- */

struct dp_shard;
/* Map and validate. DP_CORRUPT names the file, the field and its offset. */
int dp_shard_open(struct dp_shard **out, const char *bin_path, const char *dpx_path,
                  struct dp_err *e);
/* The same over bytes in memory, which must outlive the shard; both 8-byte aligned. `name` begins
 * messages. */
int dp_shard_open_mem(struct dp_shard **out, struct dp_span bin, struct dp_span dpx,
                      const char *name, struct dp_err *e);
void dp_shard_close(struct dp_shard *s);
/* Give back the memory of pages that were looked at: for who walks through all of a shard. What accessors gave stays valid. */
void dp_shard_trim(const struct dp_shard *s);

const struct dp_shard_meta *dp_shard_meta(const struct dp_shard *s);
uint64_t dp_shard_tokens(const struct dp_shard *s);
uint64_t dp_shard_documents(const struct dp_shard *s);
uint64_t dp_shard_frames(const struct dp_shard *s);
uint64_t dp_shard_body_bytes(const struct dp_shard *s);
uint32_t dp_shard_pack_ids(const struct dp_shard *s); /* of a zstd frame; 0: the body is flat */
/* [tokens] of u16 or u32; NULL when the body is compressed */
const void *dp_shard_ids(const struct dp_shard *s);
/* Ids [first, first + n), which must exist, of either kind of body. All are below vocab_size and so
 * fit an int32; DP_CORRUPT names the first frame that is damaged or has one that isn't. A compressed
 * frame's checksum is tested; a flat one's isn't (dp_shard_verify_frame). Any thread; each keeps the
 * DP_PACK_SLOTS = 4 frames it decoded last (shards/shard_pack.h), 512 KiB for frames of 65,536 u16
 * ids, until it ends. */
int dp_shard_copy_ids(const struct dp_shard *s, uint64_t first, uint64_t n, int32_t *out,
                      struct dp_err *e);
const uint64_t *dp_shard_ends(const struct dp_shard *s); /* [documents], cumulative, EOT counted */
const struct dp_hash128 *dp_shard_contents(const struct dp_shard *s); /* [documents] */
const struct dp_hash128 *dp_shard_doc_ids(const struct dp_shard *s);  /* [documents] */
const uint32_t *dp_shard_sources(const struct dp_shard *s);           /* [documents] */
/* Id number `token`, which must exist; UINT32_MAX when its compressed frame is damaged. */
uint32_t dp_shard_id(const struct dp_shard *s, uint64_t token);
/* The document that holds token number `token`, which must exist; O(log documents). */
uint64_t dp_shard_document_at(const struct dp_shard *s, uint64_t token);

/* A frame whose bytes are not what was written. `what` is a sentence's end: "checksum 1234abcd, not
 * ..." */
typedef void (*dp_shard_report_fn)(void *ctx, uint64_t frame, uint64_t first_id, const char *what);
/* Check every frame's checksum (of a compressed body: of its bytes and of its ids) and every id's range. DP_CORRUPT, naming the first bad frame, when
 * `report` (which may be NULL) was called at least once; it is called for each bad frame in order.
 * Detects any flipped bit of the body. */
int dp_shard_verify(const struct dp_shard *s, dp_shard_report_fn report, void *ctx,
                    struct dp_err *e);
/* One frame of it, of DP_SHARD_FRAME_IDS ids: DP_OK, or DP_CORRUPT naming the frame. frame < dp_shard_frames(). */
int dp_shard_verify_frame(const struct dp_shard *s, uint64_t frame, struct dp_err *e);

#endif

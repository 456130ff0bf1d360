/* Writing a shard.
 *
 * Ids are narrowed into a frame-sized buffer; a full frame is checksummed once and handed to the
 * buffered, hashing writer, so that each byte is touched while in cache. The side file is columnar
 * (readers binary-search ends and scan hashes), so its columns wait in memory until finish:
 * spooling rows would save that memory and cost every reader a stride. The limit of 2^23 documents
 * bounds it; a caller that asks dp_shard_writer_fits() starts the next shard instead of meeting it.
 *
 * Crash invariants (docs/formats/shard.md):
 *  1. Both files are created with O_EXCL under names that no manifest holds: nobody reads them
 *     before they are renamed.
 *  2. The side file stays empty until the whole body is written and fsynced. So a side file with a
 *     valid header describes a body that was durable before it; an empty or short one fails its
 *     own size and checksum tests.
 *  3. finish returns 0 only when both files are fsynced. The digests it gives are of exactly the
 *     bytes that were fsynced.
 *  4. A failed write kills the writer: no later call can make a shard with a hole in it.
 *  5. Publishing order is the caller's: rename body, rename side file, fsync the folder, then write
 *     a manifest that names them. What a manifest names is therefore complete; what it doesn't
 *     name is garbage that start-up may remove. */
#include "shards/shard.h"

#include "base/fs.h"
#include "shards/shard_layout.h"
#include "shards/shard_pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct dp_shard_writer {
    struct dp_shard_meta meta;
    struct dp_out *bin, *dpx;
    char *bin_path, *dpx_path;
    uint64_t tokens, docs, docs_cap, frames_cap, frames;
    uint64_t *ends;
    struct dp_hash128 *contents, *doc_ids;
    uint32_t *sources, *frame_crc;
    uint8_t *frame; /* DP_SHARD_FRAME_IDS ids of the body's type */
    uint32_t fill;  /* ids in it */
    bool dead, finished;
    bool packing; /* the body goes through pack */
    struct dp_packer pack;
};

int dp_shard_meta_check(struct dp_shard_meta *m, const char *name, struct dp_err *e)
{
    if (m->vocab_size == 0 || m->vocab_size > DP_SHARD_VOCAB_MAX)
        DP_FAIL(e, CONFIG, "%s: vocab_size %" PRIu32 " is outside 1 to %" PRIu32, name,
                m->vocab_size, DP_SHARD_VOCAB_MAX);
    if (m->eot < -1 || m->eot >= (int64_t)m->vocab_size)
        DP_FAIL(e, CONFIG, "%s: eot %" PRId64 " is no id of a vocabulary of %" PRIu32, name, m->eot,
                m->vocab_size);
    int dtype = dp_shard_dtype_of(m->vocab_size);
    if (m->dtype == 0) m->dtype = dtype;
    if (m->dtype != dtype)
        DP_FAIL(e, CONFIG, "%s: ids of %d bytes for a vocabulary of %" PRIu32 "; it takes %d", name,
                m->dtype, m->vocab_size, dtype);
    return DP_OK;
}

int dp_shard_writer_open(struct dp_shard_writer **out, const char *bin_path, const char *dpx_path,
                         const struct dp_shard_meta *m, struct dp_err *e)
{
    return dp_shard_writer_open_packed(out, bin_path, dpx_path, m, NULL, e);
}

int dp_shard_writer_open_packed(struct dp_shard_writer **out, const char *bin_path,
                                const char *dpx_path, const struct dp_shard_meta *m,
                                const struct dp_shard_packing *packing, struct dp_err *e)
{
    *out = NULL;
    struct dp_shard_meta meta = *m;
    DP_TRY(dp_shard_meta_check(&meta, bin_path, e));
    struct dp_shard_writer *w = calloc(1, sizeof *w);
    if (!w) DP_FAIL(e, NOMEM, "%s: shard writer", bin_path);
    int rc = DP_OK;
    w->meta = meta;
    w->frame = malloc((size_t)DP_SHARD_FRAME_IDS * (size_t)meta.dtype);
    char *bin = strdup(bin_path), *dpx = strdup(dpx_path);
    if (!w->frame || !bin || !dpx) DP_GOTO(e, NOMEM, "%s: shard writer", bin_path);
    w->packing = packing != NULL;
    if (packing) DP_TRY_OUT(dp_packer_open(&w->pack, packing, meta.dtype, e));
    /* close removes what its paths name, so a path is set only once the file is this writer's. */
    DP_TRY_OUT(dp_out_open(&w->bin, bin_path, true, e));
    w->bin_path = bin;
    bin = NULL;
    DP_TRY_OUT(dp_out_open(&w->dpx, dpx_path, true, e));
    w->dpx_path = dpx;
    dpx = NULL;
    *out = w;
    w = NULL;
out:
    free(bin);
    free(dpx);
    dp_shard_writer_close(w);
    return rc;
}

bool dp_shard_writer_fits(const struct dp_shard_writer *w, size_t n)
{
    uint64_t more = (uint64_t)n + (w->meta.eot >= 0);
    return w->docs < DP_SHARD_DOCS_MAX && n <= DP_SHARD_TOKENS_MAX &&
           more <= DP_SHARD_TOKENS_MAX - w->tokens;
}

/* Grow one column; on failure the old one stays valid, so a half-grown set is harmless. */
static bool grow(void *column, uint64_t cap, size_t width)
{
    void *old, *p;
    memcpy(&old, column, sizeof old);
    p = realloc(old, (size_t)cap * width);
    if (p) memcpy(column, &p, sizeof p);
    return p != NULL;
}

static int reserve(struct dp_shard_writer *w, struct dp_err *e)
{
    if (w->docs == w->docs_cap) {
        uint64_t cap = w->docs_cap ? w->docs_cap * 2 : 1024;
        if (!grow(&w->ends, cap, 8) || !grow(&w->contents, cap, 16) ||
            !grow(&w->doc_ids, cap, 16) || !grow(&w->sources, cap, 4))
            DP_FAIL(e, NOMEM, "%s: index of %" PRIu64 " documents", w->bin_path, cap);
        w->docs_cap = cap;
    }
    return DP_OK;
}

static int flush_frame(struct dp_shard_writer *w, struct dp_err *e)
{
    if (w->frames == w->frames_cap) {
        uint64_t cap = w->frames_cap ? w->frames_cap * 2 : 64;
        if (!grow(&w->frame_crc, cap, 4))
            DP_FAIL(e, NOMEM, "%s: checksums of %" PRIu64 " frames", w->bin_path, cap);
        w->frames_cap = cap;
    }
    size_t bytes = (size_t)w->fill * (size_t)w->meta.dtype;
    w->frame_crc[w->frames++] = dp_crc32c(0, w->frame, bytes);
    w->fill = 0;
    return w->packing ? dp_packer_add(&w->pack, w->frame, bytes, w->bin, e)
                      : dp_out_add(w->bin, w->frame, bytes, e);
}

static void narrow(uint8_t *to, int dtype, uint32_t at, const uint32_t *ids, size_t n)
{
    if (dtype == DP_SHARD_U32) {
        memcpy(to + (size_t)at * 4, ids, n * 4);
        return;
    }
    uint16_t *u = (uint16_t *)(void *)to + at;
    for (size_t i = 0; i < n; i++) u[i] = (uint16_t)ids[i];
}

static int put(struct dp_shard_writer *w, const uint32_t *ids, size_t n, struct dp_err *e)
{
    while (n) {
        size_t k = DP_SHARD_FRAME_IDS - w->fill;
        if (k > n) k = n;
        narrow(w->frame, w->meta.dtype, w->fill, ids, k);
        w->fill += (uint32_t)k;
        w->tokens += k;
        ids += k;
        n -= k;
        if (w->fill == DP_SHARD_FRAME_IDS) DP_TRY(flush_frame(w, e));
    }
    return DP_OK;
}

int dp_shard_writer_add(struct dp_shard_writer *w, struct dp_hash128 doc_id,
                        struct dp_hash128 content, uint32_t source, const uint32_t *ids, size_t n,
                        struct dp_err *e)
{
    if (w->dead || w->finished)
        DP_FAIL(e, IO, "%s: the shard is %s", w->bin_path,
                w->dead ? "broken by an earlier failure" : "finished");
    if (!dp_shard_writer_fits(w, n))
        DP_FAIL(e, LIMIT,
                "%s: a document of %zu ids doesn't fit after %" PRIu64 " ids in %" PRIu64
                " documents; start the next shard",
                w->bin_path, n, w->tokens, w->docs);
    /* All ids before any is written: a bad document then leaves no trace. */
    uint32_t high = 0;
    for (size_t i = 0; i < n; i++) high = ids[i] > high ? ids[i] : high;
    if (n && high >= w->meta.vocab_size)
        DP_FAIL(e, CORRUPT,
                "%s: document %" PRIu64 " has id %" PRIu32 ", the vocabulary ends at %" PRIu32
                "; is it the same tokenizer?",
                w->bin_path, w->docs, high, w->meta.vocab_size);
    DP_TRY(reserve(w, e));
    int rc = put(w, ids, n, e);
    uint32_t eot = (uint32_t)w->meta.eot;
    if (rc >= 0 && w->meta.eot >= 0) rc = put(w, &eot, 1, e);
    if (rc < 0) {
        w->dead = true;
        return rc;
    }
    w->ends[w->docs] = w->tokens;
    w->contents[w->docs] = content;
    w->doc_ids[w->docs] = doc_id;
    w->sources[w->docs] = source;
    w->docs++;
    return DP_OK;
}

uint64_t dp_shard_writer_tokens(const struct dp_shard_writer *w) { return w->tokens; }

uint64_t dp_shard_writer_documents(const struct dp_shard_writer *w) { return w->docs; }

static int write_side(struct dp_shard_writer *w, char digest[DP_HEX256], struct dp_err *e)
{
    const void *column[DPX_SECTIONS] = {w->ends, w->contents, w->doc_ids, w->sources, w->frame_crc};
    struct dpx_header h = {.magic = {'D', 'P', 'X', '1'},
                           .version = 1,
                           .id_bytes = (uint32_t)w->meta.dtype,
                           .vocab_size = w->meta.vocab_size,
                           .eot = w->meta.eot,
                           .tokens = w->tokens,
                           .documents = w->docs,
                           .tokenizer = w->meta.tokenizer,
                           .frame_ids = DP_SHARD_FRAME_IDS,
                           .frames = w->frames,
                           .file_bytes = sizeof h};
    size_t bytes[DPX_SECTIONS];
    for (int i = 0; i < DPX_SECTIONS; i++) {
        bytes[i] = (size_t)(i == DPX_FRAMES ? w->frames : w->docs) * dpx_width[i];
        h.section_crc[i] = dp_crc32c(0, bytes[i] ? column[i] : "", bytes[i]);
        h.file_bytes += bytes[i];
    }
    const struct dp_packer *pk = &w->pack;
    size_t table = (size_t)pk->frames * sizeof *pk->table;
    if (w->packing) {
        h.flags = DPX_ZSTD;
        h.pack_ids = (uint32_t)(pk->cap / (size_t)w->meta.dtype);
        h.pack_bytes = pk->bytes;
        h.pack_crc = dp_crc32c(0, table ? (const void *)pk->table : "", table);
        h.file_bytes += table;
    }
    h.header_crc = dp_crc32c(0, &h, offsetof(struct dpx_header, header_crc));
    DP_TRY(dp_out_add(w->dpx, &h, sizeof h, e));
    for (int i = 0; i < DPX_SECTIONS; i++)
        if (bytes[i]) DP_TRY(dp_out_add(w->dpx, column[i], bytes[i], e));
    if (table) DP_TRY(dp_out_add(w->dpx, pk->table, table, e));
    return dp_out_finish(w->dpx, digest, e);
}

int dp_shard_writer_finish(struct dp_shard_writer *w, char bin_digest[DP_HEX256],
                           char dpx_digest[DP_HEX256], struct dp_err *e)
{
    if (w->dead || w->finished)
        DP_FAIL(e, IO, "%s: the shard is %s", w->bin_path,
                w->dead ? "broken by an earlier failure" : "finished");
    int rc = DP_OK;
    w->dead = true;
    if (w->fill) DP_TRY_OUT(flush_frame(w, e));
    DP_ASSERT(w->frames == dpx_frames_of(w->tokens, DP_SHARD_FRAME_IDS));
    if (w->packing) DP_TRY_OUT(dp_packer_finish(&w->pack, w->bin, e));
    DP_TRY_OUT(dp_out_finish(w->bin, bin_digest, e));
    DP_TRY_OUT(write_side(w, dpx_digest, e));
    w->dead = false;
    w->finished = true;
out:
    return rc;
}

void dp_shard_writer_close(struct dp_shard_writer *w)
{
    if (!w) return;
    if (!w->finished && w->bin_path) unlink(w->bin_path);
    if (!w->finished && w->dpx_path) unlink(w->dpx_path);
    dp_out_close(w->bin);
    dp_out_close(w->dpx);
    dp_packer_close(&w->pack);
    free(w->bin_path);
    free(w->dpx_path);
    free(w->ends);
    free(w->contents);
    free(w->doc_ids);
    free(w->sources);
    free(w->frame_crc);
    free(w->frame);
    free(w);
}

/* Writing a shard.
 *
 * Ids are narrowed into a frame-sized buffer; a full frame is checksummed once and handed to the
 * buffered, hashing writer, so that each byte is touched while in cache. The side file is columnar
 * (readers binary-search ends and scan hashes), so its columns wait until finish: each in a buffer
 * and, when that is full, in a temporary file beside the side file, unlinked at birth. A shard has
 * 2^23 documents at most; a caller that asks dp_shard_writer_fits() starts the next one instead of
 * meeting that.
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

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COLUMN_CAP = 64 * 1024 };

/* One section of the side file to be. */
struct column {
    char *buf;
    size_t fill;
    uint64_t spooled; /* bytes in the file, before those in buf */
    int fd;           /* -1: none yet */
    uint32_t crc;     /* of all */
};

struct dp_shard_writer {
    struct dp_shard_meta meta;
    struct dp_out *bin, *dpx;
    char *bin_path, *dpx_path;
    uint64_t tokens, docs, frames;
    struct column column[DPX_SECTIONS];
    uint8_t *frame; /* DP_SHARD_FRAME_IDS ids of the body's type */
    uint32_t fill;  /* ids in it */
    bool dead, finished;
    bool part;    /* a document's beginning is in */
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
    for (int i = 0; i < DPX_SECTIONS; i++) w->column[i].fd = -1;
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

static int spool(struct dp_shard_writer *w, struct column *c, struct dp_err *e)
{
    if (c->fd < 0) {
        const char *slash = strrchr(w->dpx_path, '/');
        char *dir = slash ? strndup(w->dpx_path, (size_t)(slash - w->dpx_path) + 1) : strdup(".");
        if (!dir) DP_FAIL(e, NOMEM, "%s", w->dpx_path);
        int rc = dp_fs_unlinked(dir, "a shard's index", &c->fd, e);
        free(dir);
        DP_TRY(rc);
    }
    DP_TRY(dp_fs_write_all(c->fd, c->buf, c->fill, w->dpx_path, e));
    c->spooled += c->fill;
    c->fill = 0;
    return DP_OK;
}

/* Room for one more value in a column: then putting it can't fail. */
static int room(struct dp_shard_writer *w, int section, struct dp_err *e)
{
    struct column *c = &w->column[section];
    if (!c->buf && !(c->buf = malloc(COLUMN_CAP))) DP_FAIL(e, NOMEM, "%s: writer", w->dpx_path);
    return c->fill + dpx_width[section] > COLUMN_CAP ? spool(w, c, e) : DP_OK;
}

static void put_value(struct dp_shard_writer *w, int section, const void *value)
{
    struct column *c = &w->column[section];
    memcpy(c->buf + c->fill, value, dpx_width[section]);
    c->crc = dp_crc32c(c->crc, value, dpx_width[section]);
    c->fill += dpx_width[section];
}

static int write_frame(struct dp_shard_writer *w, const void *frame, size_t n, struct dp_err *e)
{
    DP_TRY(room(w, DPX_FRAMES, e));
    size_t bytes = n * (size_t)w->meta.dtype;
    uint32_t crc = dp_crc32c(0, frame, bytes);
    put_value(w, DPX_FRAMES, &crc);
    w->frames++;
    /* Begin to write to the disk now, so that finish has less to wait for. Not every system can: no matter. */
    if (w->frames % 64 == 0) sync_file_range(dp_out_descriptor(w->bin), 0, 0, SYNC_FILE_RANGE_WRITE);
    return w->packing ? dp_packer_add(&w->pack, frame, bytes, w->bin, e)
                      : dp_out_add(w->bin, frame, bytes, e);
}

static int flush_frame(struct dp_shard_writer *w, struct dp_err *e)
{
    uint32_t n = w->fill;
    w->fill = 0;
    return write_frame(w, w->frame, n, e);
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
        if (w->meta.dtype == DP_SHARD_U32 && k == DP_SHARD_FRAME_IDS) { /* a whole frame as it is */
            DP_TRY(write_frame(w, ids, k, e));
            w->tokens += k;
            ids += k;
            n -= k;
            continue;
        }
        narrow(w->frame, w->meta.dtype, w->fill, ids, k);
        w->fill += (uint32_t)k;
        w->tokens += k;
        ids += k;
        n -= k;
        if (w->fill == DP_SHARD_FRAME_IDS) DP_TRY(flush_frame(w, e));
    }
    return DP_OK;
}

/* All ids before any is written: a bad document then leaves no trace. */
static int check_ids(struct dp_shard_writer *w, const uint32_t *ids, size_t n, struct dp_err *e)
{
    if (w->dead || w->finished)
        DP_FAIL(e, IO, "%s: the shard is %s", w->bin_path,
                w->dead ? "broken by an earlier failure" : "finished");
    if (!dp_shard_writer_fits(w, n))
        DP_FAIL(e, LIMIT,
                "%s: a document of %zu ids doesn't fit after %" PRIu64 " ids in %" PRIu64
                " documents; start the next shard",
                w->bin_path, n, w->tokens, w->docs);
    /* The vocabulary ends at 2^31 at most: an id has the top bit, or what it is past the end gives one. Two at a time: the low one borrows from the other
     * only where it is past the end itself. */
    uint32_t last = w->meta.vocab_size - 1, high = 0;
    uint64_t past = 0, two, lasts = (uint64_t)last << 32 | last;
    for (size_t i = 0; i + 2 <= n; i += 2) {
        memcpy(&two, ids + i, sizeof two);
        past |= two | (lasts - two);
    }
    if (n % 2) past |= ids[n - 1] | (last - ids[n - 1]);
    bool bad = past & UINT64_C(0x8000000080000000);
    for (size_t i = 0; i < n && bad; i++) high = ids[i] > high ? ids[i] : high;
    if (bad)
        DP_FAIL(e, CORRUPT,
                "%s: document %" PRIu64 " has id %" PRIu32 ", the vocabulary ends at %" PRIu32
                "; is it the same tokenizer?",
                w->bin_path, w->docs, high, w->meta.vocab_size);
    return DP_OK;
}

int dp_shard_writer_part(struct dp_shard_writer *w, const uint32_t *ids, size_t n, struct dp_err *e)
{
    int rc = check_ids(w, ids, n, e);
    if (rc >= 0) rc = put(w, ids, n, e);
    w->part = true;
    if (rc < 0) w->dead = true;
    return rc;
}

int dp_shard_writer_add(struct dp_shard_writer *w, struct dp_hash128 doc_id,
                        struct dp_hash128 content, uint32_t source, const uint32_t *ids, size_t n,
                        struct dp_err *e)
{
    int rc = check_ids(w, ids, n, e);
    if (rc < 0) {
        w->dead = w->dead || w->part;
        return rc;
    }
    for (int i = 0; rc >= 0 && i < DPX_FRAMES; i++) rc = room(w, i, e);
    if (rc >= 0) rc = put(w, ids, n, e);
    uint32_t eot = (uint32_t)w->meta.eot;
    if (rc >= 0 && w->meta.eot >= 0) rc = put(w, &eot, 1, e);
    if (rc < 0) {
        w->dead = true;
        return rc;
    }
    w->part = false;
    put_value(w, DPX_ENDS, &w->tokens);
    put_value(w, DPX_CONTENTS, &content);
    put_value(w, DPX_DOC_IDS, &doc_id);
    put_value(w, DPX_SOURCES, &source);
    w->docs++;
    return DP_OK;
}

uint64_t dp_shard_writer_tokens(const struct dp_shard_writer *w) { return w->tokens; }

uint64_t dp_shard_writer_documents(const struct dp_shard_writer *w) { return w->docs; }

static int write_column(struct dp_shard_writer *w, const struct column *c, struct dp_err *e)
{
    char block[16 * 1024];
    for (uint64_t at = 0; at < c->spooled;) {
        size_t n = c->spooled - at < sizeof block ? (size_t)(c->spooled - at) : sizeof block, got;
        DP_TRY(dp_fs_pread_all(c->fd, block, n, at, &got, w->dpx_path, e));
        if (got != n) DP_FAIL(e, IO, "%s: its temporary file lost its end", w->dpx_path);
        DP_TRY(dp_out_add(w->dpx, block, n, e));
        at += n;
    }
    return c->fill ? dp_out_add(w->dpx, c->buf, c->fill, e) : DP_OK;
}

static int write_side(struct dp_shard_writer *w, char digest[DP_HEX256], struct dp_err *e)
{
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
    for (int i = 0; i < DPX_SECTIONS; i++) {
        const struct column *c = &w->column[i];
        DP_ASSERT(c->spooled + c->fill == (i == DPX_FRAMES ? w->frames : w->docs) * dpx_width[i]);
        h.section_crc[i] = c->crc;
        h.file_bytes += c->spooled + c->fill;
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
    for (int i = 0; i < DPX_SECTIONS; i++) DP_TRY(write_column(w, &w->column[i], e));
    if (table) DP_TRY(dp_out_add(w->dpx, pk->table, table, e));
    return dp_out_finish(w->dpx, digest, e);
}

int dp_shard_writer_finish(struct dp_shard_writer *w, char bin_digest[DP_HEX256],
                           char dpx_digest[DP_HEX256], struct dp_err *e)
{
    if (w->dead || w->finished)
        DP_FAIL(e, IO, "%s: the shard is %s", w->bin_path,
                w->dead ? "broken by an earlier failure" : "finished");
    DP_ASSERT(!w->part);
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
    for (int i = 0; i < DPX_SECTIONS; i++) {
        if (w->column[i].fd >= 0) close(w->column[i].fd);
        free(w->column[i].buf);
    }
    free(w->frame);
    free(w);
}

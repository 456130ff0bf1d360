/* Reading a shard: two maps, checked once, then used in place.
 *
 * Order of trust: sizes before anything is dereferenced, the header's checksum before its fields,
 * counts against limits before they are multiplied, the file's size against the counts, the
 * sections' checksums, and last what a checksum can't promise of a hostile file: that document ends
 * never decrease and stop at the token count. After that no accessor needs to check. Opening costs
 * one pass over the side file (44 bytes a document). The body isn't read: dp_shard_verify does
 * that. */
#include "shards/shard.h"

#include "base/fs.h"
#include "shards/shard_layout.h"
#include "shards/shard_pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { FRAMES_TRIM = DP_MAP_TRIM / (DP_SHARD_FRAME_IDS * 4) };
_Static_assert(FRAMES_TRIM >= 1, "frames are small beside what is given back at once");

struct dp_shard {
    struct dp_shard_meta meta;
    struct dp_map bin, dpx; /* len 0 when the bytes are the caller's */
    char *name;
    uint64_t tokens, docs, frames, body_bytes;
    const void *ids;       /* NULL: compressed, see packs */
    struct dp_packs packs; /* ids 0: flat */
    const uint64_t *ends;
    const struct dp_hash128 *contents, *doc_ids;
    const uint32_t *sources, *frame_crc;
    const struct dpx_pack *table; /* NULL: flat */
};

static int check_header(struct dp_span dpx, const char *name, struct dpx_header *h,
                        struct dp_err *e)
{
    if (dpx.len < sizeof *h)
        DP_FAIL(
            e, CORRUPT,
            "%s: the side file has %zu bytes, its header alone takes %zu; it was never finished",
            name, dpx.len, sizeof *h);
    memcpy(h, dpx.ptr, sizeof *h);
    if (memcmp(h->magic, "DPX1", 4) != 0)
        DP_FAIL(e, CORRUPT, "%s: no shard side file: it doesn't begin with DPX1", name);
    uint32_t crc = dp_crc32c(0, h, offsetof(struct dpx_header, header_crc));
    if (crc != h->header_crc)
        DP_FAIL(e, CORRUPT, "%s: the header's checksum is %08" PRIx32 ", byte 124 says %08" PRIx32,
                name, crc, h->header_crc);
    if (h->version != 1)
        DP_FAIL(e, CORRUPT, "%s: version %" PRIu32 " of the side file, this program reads 1", name,
                h->version);
    if (h->flags & ~(uint32_t)DPX_ZSTD)
        DP_FAIL(e, CORRUPT, "%s: flags %08" PRIx32 " at byte 60 that this program doesn't know",
                name, h->flags);
    if (h->frame_ids != DP_SHARD_FRAME_IDS)
        DP_FAIL(e, CORRUPT, "%s: frames of %" PRIu32 " ids at byte 56", name, h->frame_ids);
    bool packed = h->flags & DPX_ZSTD;
    if (h->reserved[0] || h->reserved[1] ||
        (!packed && (h->pack_ids || h->pack_bytes || h->pack_crc)))
        DP_FAIL(e, CORRUPT, "%s: reserved bytes at %d to 123 are not zero", name, packed ? 116 : 100);
    if (packed && !dpx_pack_ids_ok(h->pack_ids))
        DP_FAIL(e, CORRUPT, "%s: zstd frames of %" PRIu32 " ids at byte 100", name, h->pack_ids);
    if (h->tokens > DP_SHARD_TOKENS_MAX || h->documents > DP_SHARD_DOCS_MAX)
        DP_FAIL(e, CORRUPT,
                "%s: %" PRIu64 " ids in %" PRIu64 " documents are past the limits of one shard",
                name, h->tokens, h->documents);
    uint64_t frames = dpx_frames_of(h->tokens, h->frame_ids),
             bytes = sizeof *h + 44 * h->documents + 4 * frames;
    if (packed) bytes += sizeof(struct dpx_pack) * dpx_frames_of(h->tokens, h->pack_ids);
    if (h->frames != frames || h->file_bytes != bytes)
        DP_FAIL(e, CORRUPT, "%s: the header's counts contradict each other", name);
    if (dpx.len != bytes)
        DP_FAIL(e, CORRUPT, "%s: the side file has %zu bytes, its header says %" PRIu64, name,
                dpx.len, bytes);
    return DP_OK;
}

/* CRC of a part of the side file, whose pages are given back on the way. */
static uint32_t crc_of(const struct dp_shard *s, const char *p, size_t n)
{
    uint32_t crc = 0;
    while (n) {
        size_t k = n < DP_MAP_TRIM ? n : DP_MAP_TRIM;
        crc = dp_crc32c(crc, p, k);
        if (k == DP_MAP_TRIM) dp_map_trim(&s->dpx);
        p += k;
        n -= k;
    }
    return crc;
}

static int check_sections(struct dp_shard *s, struct dp_span dpx, const struct dpx_header *h,
                          struct dp_err *e)
{
    const char *at[DPX_SECTIONS], *p = dpx.ptr + sizeof *h;
    for (int i = 0; i < DPX_SECTIONS; i++) {
        size_t n = (size_t)(i == DPX_FRAMES ? h->frames : h->documents) * dpx_width[i];
        uint32_t crc = crc_of(s, p, n);
        if (crc != h->section_crc[i])
            DP_FAIL(e, CORRUPT,
                    "%s: the %s at byte %zu have checksum %08" PRIx32
                    ", the header says %08" PRIx32,
                    s->name, dpx_section[i], (size_t)(p - dpx.ptr), crc, h->section_crc[i]);
        at[i] = p;
        p += n;
    }
    if (h->flags & DPX_ZSTD) {
        uint32_t crc = dp_crc32c(0, p, dpx.len - (size_t)(p - dpx.ptr));
        if (crc != h->pack_crc)
            DP_FAIL(e, CORRUPT,
                    "%s: the frame table at byte %zu has checksum %08" PRIx32
                    ", the header says %08" PRIx32,
                    s->name, (size_t)(p - dpx.ptr), crc, h->pack_crc);
        s->table = (const void *)p;
    }
    s->ends = (const void *)at[DPX_ENDS];
    s->contents = (const void *)at[DPX_CONTENTS];
    s->doc_ids = (const void *)at[DPX_DOC_IDS];
    s->sources = (const void *)at[DPX_SOURCES];
    s->frame_crc = (const void *)at[DPX_FRAMES];
    uint64_t last = 0;
    for (uint64_t d = 0; d < h->documents; d++) {
        if (s->ends[d] < last || s->ends[d] > h->tokens)
            DP_FAIL(e, CORRUPT,
                    "%s: document %" PRIu64 " ends at id %" PRIu64 " of %" PRIu64
                    ", the one before at %" PRIu64,
                    s->name, d, s->ends[d], h->tokens, last);
        last = s->ends[d];
        if (d % (DP_MAP_TRIM / 8) == DP_MAP_TRIM / 8 - 1) dp_map_trim(&s->dpx);
    }
    dp_map_trim(&s->dpx);
    if (last != h->tokens)
        DP_FAIL(e, CORRUPT, "%s: documents end at id %" PRIu64 ", the body at %" PRIu64, s->name,
                last, h->tokens);
    return DP_OK;
}

static int attach(struct dp_shard *s, struct dp_span bin, struct dp_span dpx, struct dp_err *e)
{
    struct dpx_header h;
    DP_TRY(check_header(dpx, s->name, &h, e));
    s->meta = (struct dp_shard_meta){h.vocab_size, h.eot, h.tokenizer, (int)h.id_bytes};
    if (h.id_bytes == 0 || dp_shard_meta_check(&s->meta, s->name, e) < 0)
        DP_FAIL(e, CORRUPT,
                "%s: vocabulary of %" PRIu32 ", EOT %" PRId64 " and ids of %" PRIu32
                " bytes don't go together",
                s->name, h.vocab_size, h.eot, h.id_bytes);
    s->tokens = h.tokens;
    s->docs = h.documents;
    s->frames = h.frames;
    s->body_bytes = bin.len;
    if (h.flags & DPX_ZSTD) {
        if (bin.len != h.pack_bytes)
            DP_FAIL(e, CORRUPT, "%s: the body has %zu bytes, byte 104 says %" PRIu64, s->name,
                    bin.len, h.pack_bytes);
        DP_TRY(check_sections(s, dpx, &h, e));
        return dp_packs_open(&s->packs, bin, s->table, h.tokens, h.pack_ids, s->meta.dtype, s->name,
                             e);
    }
    if (bin.len != h.tokens * h.id_bytes)
        DP_FAIL(e, CORRUPT,
                "%s: the body has %zu bytes, %" PRIu64 " ids of %" PRIu32 " take %" PRIu64, s->name,
                bin.len, h.tokens, h.id_bytes, h.tokens * h.id_bytes);
    s->ids = bin.ptr;
    return check_sections(s, dpx, &h, e);
}

static int shard_new(struct dp_shard **out, const char *name, struct dp_err *e)
{
    *out = NULL;
    struct dp_shard *s = calloc(1, sizeof *s);
    char *copy = strdup(name);
    if (!s || !copy) {
        free(s);
        free(copy);
        DP_FAIL(e, NOMEM, "%s", name);
    }
    s->name = copy;
    *out = s;
    return DP_OK;
}

int dp_shard_open_mem(struct dp_shard **out, struct dp_span bin, struct dp_span dpx,
                      const char *name, struct dp_err *e)
{
    struct dp_shard *s;
    *out = NULL;
    DP_ASSERT(((uintptr_t)bin.ptr & 3) == 0 && ((uintptr_t)dpx.ptr & 7) == 0);
    DP_TRY(shard_new(&s, name, e));
    int rc = attach(s, bin, dpx, e);
    if (rc < 0) dp_shard_close(s);
    else *out = s;
    return rc;
}

int dp_shard_open(struct dp_shard **out, const char *bin_path, const char *dpx_path,
                  struct dp_err *e)
{
    struct dp_shard *s;
    *out = NULL;
    int rc = DP_OK;
    DP_TRY(shard_new(&s, dpx_path, e));
    DP_TRY_OUT(dp_map_open(&s->bin, bin_path, e));
    DP_TRY_OUT(dp_map_open(&s->dpx, dpx_path, e));
    DP_TRY_OUT(attach(s, dp_span(s->bin.ptr, s->bin.len), dp_span(s->dpx.ptr, s->dpx.len), e));
    *out = s;
    s = NULL;
out:
    dp_shard_close(s);
    return rc;
}

void dp_shard_close(struct dp_shard *s)
{
    if (!s) return;
    dp_packs_close(&s->packs);
    dp_map_close(&s->bin);
    dp_map_close(&s->dpx);
    free(s->name);
    free(s);
}

void dp_shard_trim(const struct dp_shard *s)
{
    dp_map_trim(&s->bin);
    dp_map_trim(&s->dpx);
}

const struct dp_shard_meta *dp_shard_meta(const struct dp_shard *s) { return &s->meta; }
uint64_t dp_shard_tokens(const struct dp_shard *s) { return s->tokens; }
uint64_t dp_shard_documents(const struct dp_shard *s) { return s->docs; }
uint64_t dp_shard_frames(const struct dp_shard *s) { return s->frames; }
uint64_t dp_shard_body_bytes(const struct dp_shard *s) { return s->body_bytes; }
uint32_t dp_shard_pack_ids(const struct dp_shard *s) { return s->packs.ids; }
const void *dp_shard_ids(const struct dp_shard *s) { return s->ids; }
const uint64_t *dp_shard_ends(const struct dp_shard *s) { return s->ends; }
const struct dp_hash128 *dp_shard_contents(const struct dp_shard *s) { return s->contents; }
const struct dp_hash128 *dp_shard_doc_ids(const struct dp_shard *s) { return s->doc_ids; }
const uint32_t *dp_shard_sources(const struct dp_shard *s) { return s->sources; }

/* Where id `token` lies, and up to *n ids behind it without a gap (1 <= *n); lowers *n. */
static int locate(const struct dp_shard *s, uint64_t token, uint64_t *n, const void **p,
                  char what[160])
{
    size_t width = (size_t)s->meta.dtype;
    if (!s->table) {
        *p = (const char *)s->ids + token * width;
        return DP_OK;
    }
    uint64_t k = token / s->packs.ids, left = (k + 1) * s->packs.ids - token;
    const void *ids;
    int rc = dp_packs_get(&s->packs, k, &ids, what);
    if (rc < 0) return rc;
    if (*n > left) *n = left;
    *p = (const char *)ids + token % s->packs.ids * width;
    return DP_OK;
}

uint32_t dp_shard_id(const struct dp_shard *s, uint64_t token)
{
    char what[160];
    uint64_t one = 1;
    const void *p;
    DP_ASSERT(token < s->tokens);
    if (locate(s, token, &one, &p, what) < 0) return UINT32_MAX;
    return s->meta.dtype == DP_SHARD_U16 ? *(const uint16_t *)p : *(const uint32_t *)p;
}

uint64_t dp_shard_document_at(const struct dp_shard *s, uint64_t token)
{
    DP_ASSERT(token < s->tokens);
    uint64_t low = 0, high = s->docs; /* the first document with end > token */
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (s->ends[mid] > token) high = mid;
        else low = mid + 1;
    }
    return low;
}

/* The first of n ids at p that is outside the vocabulary; n when all are inside. */
static size_t first_outside(const struct dp_shard *s, const void *p, size_t n)
{
    uint32_t vocab = s->meta.vocab_size;
    if (s->meta.dtype == DP_SHARD_U16) {
        const uint16_t *u = p;
        if (vocab > 65535) return n;
        for (size_t i = 0; i < n; i++)
            if (u[i] >= vocab) return i;
    } else {
        const uint32_t *u = p;
        for (size_t i = 0; i < n; i++)
            if (u[i] >= vocab) return i;
    }
    return n;
}

static void say_outside(const struct dp_shard *s, uint64_t token, char what[160])
{
    snprintf(what, 160, "id number %" PRIu64 " is %" PRIu32 ", the vocabulary ends at %" PRIu32,
             token, dp_shard_id(s, token), s->meta.vocab_size);
}

/* DP_OK, or a code and in `what` what is wrong with frame f. */
static int check_frame(const struct dp_shard *s, uint64_t f, char what[160])
{
    uint64_t first = f * DP_SHARD_FRAME_IDS, left = s->tokens - first,
             n = left < DP_SHARD_FRAME_IDS ? left : DP_SHARD_FRAME_IDS;
    uint64_t outside = UINT64_MAX;
    uint32_t crc = 0;
    for (uint64_t at = first, end = first + n; at < end;) { /* zstd frames may be smaller */
        uint64_t k = end - at;
        const void *p;
        DP_TRY(locate(s, at, &k, &p, what));
        crc = dp_crc32c(crc, p, (size_t)k * (size_t)s->meta.dtype);
        size_t bad = first_outside(s, p, (size_t)k);
        if (bad < k && outside == UINT64_MAX) outside = at + bad;
        at += k;
    }
    if (crc != s->frame_crc[f]) {
        snprintf(what, 160, "checksum %08" PRIx32 ", %08" PRIx32 " when it was written", crc,
                 s->frame_crc[f]);
        return DP_CORRUPT;
    }
    if (outside == UINT64_MAX) return DP_OK;
    say_outside(s, outside, what);
    return DP_CORRUPT;
}

static int frame_fail(const struct dp_shard *s, uint64_t frame, int rc, const char *what,
                      struct dp_err *e)
{
    return dp_err_set(e, (enum dp_code)rc, 0, __FILE__, __LINE__,
                      "%s: frame %" PRIu64 " (ids from %" PRIu64 "): %s", s->name, frame,
                      frame * DP_SHARD_FRAME_IDS, what);
}

int dp_shard_verify_frame(const struct dp_shard *s, uint64_t frame, struct dp_err *e)
{
    char what[160];
    DP_ASSERT(frame < s->frames);
    int rc = check_frame(s, frame, what);
    return rc < 0 ? frame_fail(s, frame, rc, what, e) : DP_OK;
}

int dp_shard_verify(const struct dp_shard *s, dp_shard_report_fn report, void *ctx,
                    struct dp_err *e)
{
    int rc = DP_OK;
    for (uint64_t f = 0; f < s->frames; f++) {
        char what[160];
        int one = check_frame(s, f, what);
        if (f % FRAMES_TRIM == FRAMES_TRIM - 1) dp_shard_trim(s);
        if (one >= 0) continue;
        if (rc == DP_OK || one == DP_NOMEM) rc = frame_fail(s, f, one, what, e);
        if (one == DP_NOMEM) break; /* no finding: the check itself failed */
        if (report) report(ctx, f, f * DP_SHARD_FRAME_IDS, what);
    }
    return rc;
}

/* Widen n ids; true when all are at most `last`. Blocks of a fixed length become vectors at -O2. */
static bool widen16(const uint16_t *p, size_t n, int32_t last, int32_t *out)
{
    int32_t over = 0;
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (size_t k = 0; k < 32; k++) {
            out[i + k] = p[i + k];
            over |= out[i + k] > last;
        }
    for (; i < n; i++) {
        out[i] = p[i];
        over |= out[i] > last;
    }
    return !over;
}

static bool widen32(const uint32_t *p, size_t n, int32_t last, int32_t *out)
{
    int32_t over = 0;
    memcpy(out, p, n * sizeof *out);
    for (size_t i = 0; i < n; i++) over |= (out[i] > last) | (out[i] < 0);
    return !over;
}

int dp_shard_copy_ids(const struct dp_shard *s, uint64_t first, uint64_t n, int32_t *out,
                      struct dp_err *e)
{
    int32_t last = (int32_t)(s->meta.vocab_size - 1);
    DP_ASSERT(first <= s->tokens && n <= s->tokens - first);
    while (n) {
        char what[160];
        uint64_t k = n;
        const void *p;
        int rc = locate(s, first, &k, &p, what);
        if (rc < 0) return frame_fail(s, first / DP_SHARD_FRAME_IDS, rc, what, e);
        if (!(s->meta.dtype == DP_SHARD_U16 ? widen16(p, (size_t)k, last, out)
                                            : widen32(p, (size_t)k, last, out))) {
            uint64_t bad = first + first_outside(s, p, (size_t)k);
            say_outside(s, bad, what);
            return frame_fail(s, bad / DP_SHARD_FRAME_IDS, DP_CORRUPT, what, e);
        }
        first += k;
        n -= k;
        out += k;
    }
    return DP_OK;
}

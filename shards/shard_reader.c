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

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { FRAMES_TRIM = DP_MAP_TRIM / (DP_SHARD_FRAME_IDS * 4) };
_Static_assert(FRAMES_TRIM >= 1, "frames are small beside what is given back at once");

struct dp_shard {
    struct dp_shard_meta meta;
    struct dp_map bin, dpx; /* len 0 when the bytes are the caller's */
    char *name;
    uint64_t tokens, docs, frames;
    const void *ids;
    const uint64_t *ends;
    const struct dp_hash128 *contents, *doc_ids;
    const uint32_t *sources, *frame_crc;
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
    if (h->flags != 0)
        DP_FAIL(e, CORRUPT, "%s: flags %08" PRIx32 " at byte 60 that this program doesn't know",
                name, h->flags);
    if (h->frame_ids != DP_SHARD_FRAME_IDS)
        DP_FAIL(e, CORRUPT, "%s: frames of %" PRIu32 " ids at byte 56", name, h->frame_ids);
    for (size_t i = 0; i < sizeof h->reserved / sizeof *h->reserved; i++)
        if (h->reserved[i]) DP_FAIL(e, CORRUPT, "%s: reserved bytes 100 to 123 are not zero", name);
    if (h->tokens > DP_SHARD_TOKENS_MAX || h->documents > DP_SHARD_DOCS_MAX)
        DP_FAIL(e, CORRUPT,
                "%s: %" PRIu64 " ids in %" PRIu64 " documents are past the limits of one shard",
                name, h->tokens, h->documents);
    uint64_t frames = dpx_frames_of(h->tokens, h->frame_ids),
             bytes = sizeof *h + 44 * h->documents + 4 * frames;
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
const void *dp_shard_ids(const struct dp_shard *s) { return s->ids; }
const uint64_t *dp_shard_ends(const struct dp_shard *s) { return s->ends; }
const struct dp_hash128 *dp_shard_contents(const struct dp_shard *s) { return s->contents; }
const struct dp_hash128 *dp_shard_doc_ids(const struct dp_shard *s) { return s->doc_ids; }
const uint32_t *dp_shard_sources(const struct dp_shard *s) { return s->sources; }

uint32_t dp_shard_id(const struct dp_shard *s, uint64_t token)
{
    DP_ASSERT(token < s->tokens);
    return s->meta.dtype == DP_SHARD_U16 ? ((const uint16_t *)s->ids)[token]
                                         : ((const uint32_t *)s->ids)[token];
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

/* The first id of the frame that is outside the vocabulary; n when all are inside. */
static size_t first_outside(const struct dp_shard *s, uint64_t first, size_t n)
{
    uint32_t vocab = s->meta.vocab_size;
    if (s->meta.dtype == DP_SHARD_U16) {
        const uint16_t *p = (const uint16_t *)s->ids + first;
        if (vocab > 65535) return n;
        for (size_t i = 0; i < n; i++)
            if (p[i] >= vocab) return i;
    } else {
        const uint32_t *p = (const uint32_t *)s->ids + first;
        for (size_t i = 0; i < n; i++)
            if (p[i] >= vocab) return i;
    }
    return n;
}

/* Says in `what` what is wrong with frame f; an empty text when nothing is. */
static void check_frame(const struct dp_shard *s, uint64_t f, char what[160])
{
    uint64_t first = f * DP_SHARD_FRAME_IDS, left = s->tokens - first;
    size_t n = left < DP_SHARD_FRAME_IDS ? (size_t)left : DP_SHARD_FRAME_IDS,
           width = (size_t)s->meta.dtype;
    uint32_t crc = dp_crc32c(0, (const char *)s->ids + first * width, n * width);
    what[0] = 0;
    if (crc != s->frame_crc[f]) {
        snprintf(what, 160, "checksum %08" PRIx32 ", %08" PRIx32 " when it was written", crc,
                 s->frame_crc[f]);
        return;
    }
    size_t bad = first_outside(s, first, n);
    if (bad < n)
        snprintf(what, 160, "id number %" PRIu64 " is %" PRIu32 ", the vocabulary ends at %" PRIu32,
                 first + bad, dp_shard_id(s, first + bad), s->meta.vocab_size);
}

int dp_shard_verify_frame(const struct dp_shard *s, uint64_t frame, struct dp_err *e)
{
    char what[160];
    DP_ASSERT(frame < s->frames);
    check_frame(s, frame, what);
    if (*what)
        DP_FAIL(e, CORRUPT, "%s: frame %" PRIu64 " (ids from %" PRIu64 "): %s", s->name, frame,
                frame * DP_SHARD_FRAME_IDS, what);
    return DP_OK;
}

int dp_shard_verify(const struct dp_shard *s, dp_shard_report_fn report, void *ctx,
                    struct dp_err *e)
{
    int rc = DP_OK;
    for (uint64_t f = 0; f < s->frames; f++) {
        char what[160];
        check_frame(s, f, what);
        if (f % FRAMES_TRIM == FRAMES_TRIM - 1) dp_shard_trim(s);
        if (!*what) continue;
        if (rc == DP_OK) rc = dp_shard_verify_frame(s, f, e); /* for its message */
        if (report) report(ctx, f, f * DP_SHARD_FRAME_IDS, what);
    }
    return rc;
}

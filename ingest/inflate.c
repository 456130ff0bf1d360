/* One stream type over five libraries. Each codec is a `step`: bytes in, bytes out, and one of MORE, END (of a member), BAD.
 * Everything else (member boundaries, accounting, refusals, resynchronising) is the same for all and written once.
 *
 * gzip has a fast path: while the compressed bytes are in memory, libdeflate decodes a whole member into the window in one call
 * (2.4x zlib, notes/ingest.md). It needs the size of the output beforehand, which a gzip header doesn't tell, so the window is doubled up
 * to 4 MiB while the member doesn't fit; larger members go to zlib. A member that libdeflate refuses also goes to zlib, which
 * gives what stands before the damage. If zlib then has the whole member and only its checksum is wrong, the member is withheld: the
 * damage can be anywhere in it.
 *
 * Resynchronising: from one byte behind the bad member's begin (its deflate stream may have run on into the next member) when the source
 * is in memory, else from where the decoder stood. Candidates are tried, not trusted; the work spent on bad members is limited
 * to 64 MiB + 4 x the source, so that a file of fake magics costs linear time. */
#include "ingest/inflate.h"

#include <brotli/decode.h>
#include <bzlib.h>
#include <libdeflate.h>
#include <lz4frame.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <stdio.h>
#include <stdlib.h>

enum { WHOLE_MAX = 4 << 20, ZSTD_WINDOW_LOG_MAX = 27, DICT_MAX = 16 << 20 };
#define XZ_MEMORY_MAX (UINT64_C(128) << 20)
#define RESYNC_FREE (UINT64_C(64) << 20)

enum step { MORE, END, BAD, OUT_OF_MEMORY };

struct codec {
    struct dp_stream s; /* first: a dp_stream is the codec */
    struct dp_stream *src;
    enum dp_codec kind;
    bool in_member, resync, skip_whole;
    const char *why;        /* of BAD */
    uint64_t member_in;     /* offset of the member in src */
    uint64_t member_out;    /* bytes that came out of it */
    uint64_t produced;      /* end of the window in this stream */
    uint64_t resync_work;
    struct libdeflate_decompressor *whole;
    z_stream z;
    ZSTD_DCtx *zstd;
    lzma_stream xz;
    bz_stream bz;
    LZ4F_dctx *lz4;
    bool z_open, bz_open;
};

static const struct {
    const char *name;
    unsigned char magic[6];
    int magic_len;
    const char *suffix[4], *tar_suffix[4];
} codecs[DP_CODEC_COUNT] = {
    [DP_CODEC_GZIP] = {"gzip", {0x1f, 0x8b, 8}, 3, {".gz", ".gzip", ".z"}, {".tgz", ".taz"}},
    [DP_CODEC_ZSTD] = {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, {".zst", ".zstd"}, {".tzst"}},
    [DP_CODEC_XZ] = {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, {".xz"}, {".txz"}},
    [DP_CODEC_BZIP2] = {"bzip2", {'B', 'Z', 'h'}, 3, {".bz2", ".bz"}, {".tbz", ".tbz2"}},
    [DP_CODEC_LZ4] = {"lz4", {0x04, 0x22, 0x4d, 0x18}, 4, {".lz4"}, {".tlz4"}},
};

const char *dp_codec_name(enum dp_codec codec)
{
    return codecs[codec].name ? codecs[codec].name : "none";
}

/* Whether a member can begin here; n bytes are at hand, 8 are enough to know. */
static bool is_magic(enum dp_codec k, const unsigned char *p, size_t n)
{
    size_t m = (size_t)codecs[k].magic_len;
    /* Skippable frames, 184D2A5? (zstd and lz4). */
    if ((k == DP_CODEC_ZSTD || k == DP_CODEC_LZ4) && n >= 4 && (p[0] & 0xf0) == 0x50 && p[1] == 0x2a && p[2] == 0x4d && p[3] == 0x18)
        return true;
    if (n < m || memcmp(p, codecs[k].magic, m) != 0) return false;
    if (k == DP_CODEC_GZIP) return n > 3 && (p[3] & 0xe0) == 0;
    if (k == DP_CODEC_BZIP2) /* then the magic of a block or of the end */
        return n >= 8 && p[3] >= '1' && p[3] <= '9' && (memcmp(p + 4, "1AY&", 4) == 0 || memcmp(p + 4, "\x17\x72\x45\x38", 4) == 0);
    return true;
}

enum dp_codec dp_codec_sniff(struct dp_span first)
{
    const unsigned char *p = (const unsigned char *)first.ptr;
    for (int k = 1; k < DP_CODEC_COUNT; k++)
        if (first.len && is_magic((enum dp_codec)k, p, first.len)) return (enum dp_codec)k;
    return DP_CODEC_NONE;
}

static bool ends_with(struct dp_span name, const char *suffix)
{
    size_t n = strlen(suffix);
    return name.len > n && strncasecmp(name.ptr + name.len - n, suffix, n) == 0;
}

bool dp_codec_suffix(enum dp_codec codec, struct dp_span name, size_t *stem, bool *tar)
{
    for (int t = 0; t < 2; t++) {
        const char *const *list = t ? codecs[codec].tar_suffix : codecs[codec].suffix;
        for (int i = 0; i < 4 && list[i]; i++) {
            if (!ends_with(name, list[i])) continue;
            *stem = name.len - strlen(list[i]);
            *tar = t == 1;
            return true;
        }
    }
    return false;
}

/* --- one step of each codec: *in and *out say what may be used, then what was --- */

static enum step step_gzip(struct codec *c, const char *in, size_t *in_n, char *out, size_t *out_n)
{
    uInt in_max = *in_n < (1u << 30) ? (uInt)*in_n : 1u << 30, out_max = *out_n < (1u << 30) ? (uInt)*out_n : 1u << 30;
    c->z.next_in = (Bytef *)(uintptr_t)in;
    c->z.avail_in = in_max;
    c->z.next_out = (Bytef *)out;
    c->z.avail_out = out_max;
    int rc = inflate(&c->z, Z_NO_FLUSH);
    *in_n = in_max - c->z.avail_in;
    *out_n = out_max - c->z.avail_out;
    if (rc == Z_STREAM_END) return END;
    if (rc == Z_OK || rc == Z_BUF_ERROR) return MORE;
    if (rc == Z_MEM_ERROR) return OUT_OF_MEMORY;
    c->why = c->z.msg ? c->z.msg : "bad gzip member";
    return BAD;
}

static enum step step_zstd(struct codec *c, const char *in, size_t *in_n, char *out, size_t *out_n)
{
    ZSTD_inBuffer ib = {in, *in_n, 0};
    ZSTD_outBuffer ob = {out, *out_n, 0};
    size_t rc = ZSTD_decompressStream(c->zstd, &ob, &ib);
    *in_n = ib.pos;
    *out_n = ob.pos;
    if (ZSTD_getErrorCode(rc) == ZSTD_error_memory_allocation) return OUT_OF_MEMORY;
    if (ZSTD_isError(rc)) {
        c->why = ZSTD_getErrorName(rc);
        return BAD;
    }
    return rc == 0 ? END : MORE;
}

static enum step step_xz(struct codec *c, const char *in, size_t *in_n, char *out, size_t *out_n)
{
    c->xz.next_in = (const uint8_t *)in;
    c->xz.avail_in = *in_n;
    c->xz.next_out = (uint8_t *)out;
    c->xz.avail_out = *out_n;
    lzma_ret rc = lzma_code(&c->xz, LZMA_RUN);
    *in_n -= c->xz.avail_in;
    *out_n -= c->xz.avail_out;
    if (rc == LZMA_STREAM_END) return END;
    if (rc == LZMA_OK || rc == LZMA_BUF_ERROR) return MORE;
    if (rc == LZMA_MEM_ERROR) return OUT_OF_MEMORY;
    c->why = rc == LZMA_MEMLIMIT_ERROR ? "needs more than 128 MiB of memory to decode" : "bad xz data";
    return BAD;
}

static enum step step_bzip2(struct codec *c, const char *in, size_t *in_n, char *out, size_t *out_n)
{
    unsigned in_max = *in_n < (1u << 30) ? (unsigned)*in_n : 1u << 30, out_max = *out_n < (1u << 30) ? (unsigned)*out_n : 1u << 30;
    c->bz.next_in = (char *)(uintptr_t)in;
    c->bz.avail_in = in_max;
    c->bz.next_out = out;
    c->bz.avail_out = out_max;
    int rc = BZ2_bzDecompress(&c->bz);
    *in_n = in_max - c->bz.avail_in;
    *out_n = out_max - c->bz.avail_out;
    if (rc == BZ_STREAM_END) return END;
    if (rc == BZ_OK) return MORE;
    if (rc == BZ_MEM_ERROR) return OUT_OF_MEMORY;
    c->why = "bad bzip2 data";
    return BAD;
}

static enum step step_lz4(struct codec *c, const char *in, size_t *in_n, char *out, size_t *out_n)
{
    size_t rc = LZ4F_decompress(c->lz4, out, out_n, in, in_n, NULL);
    if (LZ4F_isError(rc) && strcmp(LZ4F_getErrorName(rc), "ERROR_allocation_failed") == 0) return OUT_OF_MEMORY;
    if (LZ4F_isError(rc)) {
        *in_n = *out_n = 0;
        c->why = LZ4F_getErrorName(rc);
        return BAD;
    }
    return rc == 0 ? END : MORE;
}

static enum step (*const steps[DP_CODEC_COUNT])(struct codec *, const char *, size_t *, char *, size_t *) = {
    [DP_CODEC_GZIP] = step_gzip, [DP_CODEC_ZSTD] = step_zstd, [DP_CODEC_XZ] = step_xz,
    [DP_CODEC_BZIP2] = step_bzip2, [DP_CODEC_LZ4] = step_lz4,
};

/* Make the decoder ready for a new member; decoders are kept where the library can reset them. */
static int decoder_begin(struct codec *c, struct dp_err *e)
{
    bool ok = true;
    switch (c->kind) {
    case DP_CODEC_GZIP:
        if (c->z_open) ok = inflateReset(&c->z) == Z_OK;
        else ok = c->z_open = inflateInit2(&c->z, 15 + 16) == Z_OK;
        break;
    case DP_CODEC_ZSTD:
        if (!c->zstd) c->zstd = ZSTD_createDCtx();
        ok = c->zstd && !ZSTD_isError(ZSTD_DCtx_reset(c->zstd, ZSTD_reset_session_only))
             && !ZSTD_isError(ZSTD_DCtx_setParameter(c->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX));
        break;
    case DP_CODEC_XZ: /* liblzma reuses the memory of an open stream */
        ok = lzma_stream_decoder(&c->xz, XZ_MEMORY_MAX, 0) == LZMA_OK;
        break;
    case DP_CODEC_BZIP2:
        if (c->bz_open) BZ2_bzDecompressEnd(&c->bz);
        memset(&c->bz, 0, sizeof c->bz);
        ok = c->bz_open = BZ2_bzDecompressInit(&c->bz, 0, 0) == BZ_OK;
        break;
    case DP_CODEC_LZ4:
        if (!c->lz4) ok = !LZ4F_isError(LZ4F_createDecompressionContext(&c->lz4, LZ4F_VERSION));
        else LZ4F_resetDecompressionContext(c->lz4);
        break;
    default: DP_ASSERT(false);
    }
    if (!ok) DP_FAIL(e, NOMEM, "%s: a %s decoder", c->s.run->name, codecs[c->kind].name);
    return DP_OK;
}

static void stream_close(struct dp_stream *s)
{
    struct codec *c = (struct codec *)s;
    if (c->whole) libdeflate_free_decompressor(c->whole);
    if (c->z_open) inflateEnd(&c->z);
    if (c->bz_open) BZ2_bzDecompressEnd(&c->bz);
    ZSTD_freeDCtx(c->zstd);
    lzma_end(&c->xz);
    if (c->lz4) LZ4F_freeDecompressionContext(c->lz4);
    dp_stream_close(c->src);
    free(c);
}

/* --- members --- */

/* The current member can't go on: report, stop in front of it, look for the next one later. */
static void member_bad(struct codec *c, enum dp_code code, const char *why)
{
    dp_run_damage(c->s.run, c->s.where, c->member_in, code, "%s member at offset %llu: %s after %llu bytes out; going on at the next member",
                  codecs[c->kind].name, (unsigned long long)c->member_in, why, (unsigned long long)c->member_out);
    c->resync_work += c->src->offset - c->member_in;
    c->in_member = false;
    c->resync = true;
    c->s.broken = true;
}

/* Move the source to the next magic; false at its end. */
static int find_magic(struct codec *c, bool *found, struct dp_err *e)
{
    *found = false;
    if (c->src->whole && c->src->offset > c->member_in + 1 && c->member_in < c->src->base_len)
        dp_stream_seek(c->src, c->member_in + 1);
    else if (c->src->offset == c->member_in && c->src->len) dp_stream_skip(c->src, 1);
    uint64_t begin = c->src->offset;
    if (c->resync_work > RESYNC_FREE + 4 * (c->src->offset + c->src->len)) {
        dp_run_damage(c->s.run, c->s.where, c->src->offset, DP_LIMIT,
                      "too many bad %s members; the rest of this file is not read", codecs[c->kind].name);
        return DP_OK;
    }
    for (;;) {
        DP_TRY(dp_stream_need(c->src, 8, e));
        if (c->src->broken && c->src->len < 8) {
            dp_stream_skip(c->src, c->src->len);
            dp_stream_resume(c->src);
            continue;
        }
        if (c->src->len < 8) return DP_OK;
        const unsigned char *p = (const unsigned char *)c->src->ptr;
        size_t n = c->src->len - 7, i = 0;
        const char first = (char)codecs[c->kind].magic[0];
        while (i < n && !is_magic(c->kind, p + i, 8)) {
            const char *q = dp_stream_find(c->src, i + 1, n, &first, 1);
            i = q ? (size_t)(q - c->src->ptr) : n;
        }
        dp_stream_skip(c->src, i);
        if (i < n) {
            *found = true;
            c->resync_work += (c->src->offset - begin) / 64; /* memchr is cheap, but not free */
            return DP_OK;
        }
    }
}

/* The dictionary of a WARC-zstd file: a skippable frame 184D2A5D whose content is the dictionary, or one zstd frame of it. It should be the
 * first frame; where such files were put one behind the other, each brings its own. */
static int zstd_dictionary(struct codec *c, struct dp_err *e)
{
    static const unsigned char magic[4] = {0x5d, 0x2a, 0x4d, 0x18};
    DP_TRY(dp_stream_need(c->src, 8, e));
    const unsigned char *p = (const unsigned char *)c->src->ptr;
    if (c->src->len < 8 || memcmp(p, magic, 4) != 0) return DP_OK;
    size_t n = (size_t)p[4] | (size_t)p[5] << 8 | (size_t)p[6] << 16 | (size_t)p[7] << 24;
    if (n > DICT_MAX) return DP_OK; /* read as a skippable frame: frames that need it are then reported */
    DP_TRY(dp_stream_need(c->src, 8 + n, e));
    if (c->src->len < 8 + n) return DP_OK;
    const char *dict = c->src->ptr + 8;
    char *plain = NULL;
    bool raw = n >= 8 && memcmp(dict, "\x37\xa4\x30\xec", 4) == 0;
    if (!raw && c->member_in && !is_magic(DP_CODEC_ZSTD, (const unsigned char *)dict, n)) return DP_OK; /* somebody else's frame */
    if (is_magic(DP_CODEC_ZSTD, (const unsigned char *)dict, n)) {
        unsigned long long size = ZSTD_getFrameContentSize(dict, n);
        if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN || size > DICT_MAX) size = DICT_MAX;
        plain = malloc(size ? (size_t)size : 1);
        if (!plain) DP_FAIL(e, NOMEM, "%s: zstd dictionary of %llu bytes", c->s.run->name, size);
        size_t got = ZSTD_decompress(plain, (size_t)size, dict, n);
        if (ZSTD_isError(got)) {
            free(plain);
            return DP_OK;
        }
        dict = plain;
        n = got;
    }
    size_t rc = ZSTD_DCtx_loadDictionary(c->zstd, dict, n);
    free(plain);
    if (ZSTD_isError(rc)) DP_FAIL(e, NOMEM, "%s: zstd dictionary: %s", c->s.run->name, ZSTD_getErrorName(rc));
    return DP_OK;
}

/* Go to the next member. Sets eof at the end. */
static int member_begin(struct codec *c, struct dp_err *e)
{
    bool found = true;
    if (c->resync) {
        DP_TRY(find_magic(c, &found, e));
        c->resync = false;
        if (!found) {
            c->s.eof = true;
            return DP_OK;
        }
    }
    size_t zeros = 0; /* padding between and after members (tapes, xz) */
    do {
        DP_TRY(dp_stream_need(c->src, 8, e));
        for (zeros = 0; zeros < c->src->len && c->src->ptr[zeros] == 0;) zeros++;
        dp_stream_skip(c->src, zeros);
    } while (zeros);
    if (!c->src->len) {
        c->s.eof = !c->src->broken;
        if (c->src->broken) dp_stream_resume(c->src);
        return DP_OK;
    }
    c->member_in = c->src->offset;
    c->member_out = 0;
    if (!is_magic(c->kind, (const unsigned char *)c->src->ptr, c->src->len)) {
        member_bad(c, DP_CORRUPT, "no member begins here (garbage)");
        return DP_OK;
    }
    if (!dp_run_member(c->s.run, c->s.where, c->member_in)) {
        c->s.eof = true;
        return DP_OK;
    }
    DP_TRY(decoder_begin(c, e));
    if (c->kind == DP_CODEC_ZSTD) DP_TRY(zstd_dictionary(c, e));
    c->in_member = true;
    dp_stream_add_mark(&c->s, c->produced, c->member_in);
    return DP_OK;
}

/* Count n bytes out; ends the member when it is a bomb. */
static bool account(struct codec *c, size_t n)
{
    c->member_out += n;
    c->produced += n;
    double ratio_max = c->s.run->o->ratio_max;
    uint64_t in = c->src->offset - c->member_in;
    uint64_t chain_in = c->s.chain->offset - c->s.chain_base;
    bool bomb = c->member_out > DP_RATIO_FREE_BYTES && (double)c->member_out > ratio_max * (double)(in + 1);
    /* Of one layer alone, members are judged one by one: a bad one doesn't take the others with it. */
    bool chain_bomb = c->src != c->s.chain && c->produced > DP_RATIO_FREE_BYTES && (double)c->produced > ratio_max * (double)(chain_in + 1);
    if (!bomb && !chain_bomb) {
        if (dp_run_produced(c->s.run, c->s.where, c->member_in, n)) return true;
        c->s.eof = true;
        return false;
    }
    dp_run_forgive(c->s.run, (chain_bomb ? c->produced : c->member_out) - n);
    char why[160];
    snprintf(why, sizeof why, "refused, it expands more than %.0f times (limit ratio_max; raise it if you trust the source)", ratio_max);
    member_bad(c, DP_LIMIT, why);
    if (chain_bomb) c->s.eof = true; /* the layers below are part of it: nothing more to get from here */
    return false;
}

/* A whole gzip member by libdeflate. *done: the member is in dst; otherwise zlib shall do it (or room_min was raised). */
static void member_whole(struct codec *c, char *dst, size_t room, size_t *got, bool *done)
{
    size_t in_used = 0, out_n = 0;
    *done = false;
    enum libdeflate_result rc = libdeflate_gzip_decompress_ex(c->whole, c->src->ptr, c->src->len, dst, room, &in_used, &out_n);
    if (rc == LIBDEFLATE_SUCCESS) {
        dp_stream_skip(c->src, in_used);
        c->in_member = false;
        c->skip_whole = false;
        *done = true;
        if (account(c, out_n)) *got = out_n;
    } else if (rc == LIBDEFLATE_INSUFFICIENT_SPACE && room < WHOLE_MAX) {
        c->s.room_min = 2 * room;
        *done = true;
    } else {
        c->skip_whole = rc == LIBDEFLATE_INSUFFICIENT_SPACE; /* the next member is probably as large */
    }
}

static int stream_produce(struct dp_stream *s, char *dst, size_t room, size_t *got, struct dp_err *e)
{
    struct codec *c = (struct codec *)s;
    *got = 0;
    while (*got == 0 && !s->eof && !s->broken) {
        if (!c->in_member) {
            DP_TRY(member_begin(c, e));
            if (!c->in_member) continue;
        }
        if (c->whole && c->src->whole && c->member_out == 0 && c->src->offset == c->member_in && !c->skip_whole) {
            bool done;
            member_whole(c, dst, room, got, &done);
            if (s->room_min) return DP_OK;
            if (done) continue;
        }
        if (!c->src->len) DP_TRY(dp_stream_need(c->src, 1, e));
        size_t in_n = c->src->len, out_n = room;
        bool dry = in_n == 0;
        enum step st = steps[c->kind](c, c->src->ptr, &in_n, dst, &out_n);
        /* Memory is the environment's trouble: taken for damage, it would change what a source gives from run to run. */
        if (st == OUT_OF_MEMORY) DP_FAIL(e, NOMEM, "%s: a %s decoder", s->run->name, codecs[c->kind].name);
        dp_stream_skip(c->src, in_n);
        bool checksum = st == BAD && c->kind == DP_CODEC_GZIP && c->member_out == 0 && c->src->whole
                        && (strcmp(c->why, "incorrect data check") == 0 || strcmp(c->why, "incorrect length check") == 0);
        if (checksum) out_n = 0; /* all of the member is at hand, and it is wrong somewhere */
        if (out_n && !account(c, out_n)) break;
        *got = out_n;
        if (st == END) {
            c->in_member = false;
            c->skip_whole = false;
        } else if (st == BAD) {
            member_bad(c, DP_CORRUPT, checksum ? "wrong checksum, the member is left out" : c->why);
        } else if (dry && !out_n) {
            if (c->src->broken) dp_stream_resume(c->src);
            member_bad(c, DP_CORRUPT, "the data ends inside the member");
        } else if (!in_n && !out_n) {
            member_bad(c, DP_CORRUPT, "the decoder makes no progress");
        }
    }
    return DP_OK;
}

int dp_inflate_open(struct dp_stream **out, enum dp_codec codec, struct dp_stream *source, struct dp_err *e)
{
    struct codec *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) DP_FAIL(e, NOMEM, "%s: a %s decoder", source->run->name, codecs[codec].name);
    if (codec == DP_CODEC_GZIP && !(c->whole = libdeflate_alloc_decompressor())) {
        free(c);
        DP_FAIL(e, NOMEM, "%s: a gzip decoder", source->run->name);
    }
    c->s.run = source->run;
    c->s.where = source->where;
    c->s.produce = stream_produce;
    c->s.close = stream_close;
    c->s.ptr = "";
    c->s.chain = source->chain ? source->chain : source;
    c->s.chain_base = source->chain ? source->chain_base : source->offset;
    c->src = source;
    c->kind = codec;
    c->xz = (lzma_stream)LZMA_STREAM_INIT;
    *out = &c->s;
    return DP_OK;
}

/* --- HTTP bodies --- */

static bool gzip_follows(const z_stream *z, int window_bits)
{
    return window_bits > 15 && z->avail_in > 18 && z->next_in[0] == 0x1f && z->next_in[1] == 0x8b && z->next_in[2] == 8;
}

static int body_zlib(int window_bits, struct dp_span body, struct dp_buf *out, struct dp_err *e)
{
    z_stream z = {0};
    if (inflateInit2(&z, window_bits) != Z_OK) DP_FAIL(e, NOMEM, "a decoder for an HTTP body");
    size_t before = out->len;
    int rc = DP_OK;
    z.next_in = (Bytef *)(uintptr_t)body.ptr;
    z.avail_in = (uInt)(body.len < (1u << 30) ? body.len : 1u << 30);
    for (int zrc = Z_OK; zrc == Z_OK;) {
        size_t left = out->bytes_max - out->len, room = left < 64 * 1024 ? left : 64 * 1024;
        char *p = room ? dp_buf_reserve(out, room) : NULL;
        if (!p) {
            char extra; /* full: fine if the body ends exactly here */
            if (room) DP_GOTO(e, NOMEM, "an HTTP body");
            z.next_out = (Bytef *)&extra;
            z.avail_out = 1;
            zrc = inflate(&z, Z_NO_FLUSH);
            rc = zrc == Z_STREAM_END && z.avail_out && !gzip_follows(&z, window_bits) ? DP_OK : DP_LIMIT;
            break;
        }
        z.next_out = (Bytef *)p;
        z.avail_out = (uInt)room;
        zrc = inflate(&z, Z_NO_FLUSH);
        out->len += room - z.avail_out;
        if (zrc == Z_STREAM_END && gzip_follows(&z, window_bits)) zrc = inflateReset(&z);
        if (zrc == Z_STREAM_END) break;
        if (zrc == Z_MEM_ERROR) DP_GOTO(e, NOMEM, "an HTTP body");
        if (zrc != Z_OK) rc = out->len > before ? DP_EMPTY : DP_CORRUPT;
    }
out:
    inflateEnd(&z);
    return rc;
}

static int body_zstd(struct dp_span body, struct dp_buf *out, struct dp_err *e)
{
    ZSTD_DCtx *d = ZSTD_createDCtx();
    if (!d) DP_FAIL(e, NOMEM, "a decoder for an HTTP body");
    ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, 23); /* RFC 9659 */
    size_t before = out->len;
    ZSTD_inBuffer in = {body.ptr, body.len, 0};
    int rc = DP_OK;
    for (;;) {
        size_t left = out->bytes_max - out->len, room = left < 64 * 1024 ? left : 64 * 1024;
        char *p = room ? dp_buf_reserve(out, room) : NULL;
        if (!p && room) DP_GOTO(e, NOMEM, "an HTTP body");
        ZSTD_outBuffer ob = {p, room, 0};
        size_t was = in.pos, zrc = ZSTD_decompressStream(d, &ob, &in);
        out->len += ob.pos;
        if (!ZSTD_isError(zrc) && zrc == 0) break;
        if (ZSTD_getErrorCode(zrc) == ZSTD_error_memory_allocation) DP_GOTO(e, NOMEM, "an HTTP body");
        if (!room) DP_GOTO(NULL, LIMIT, "full");
        if (ZSTD_isError(zrc) || (in.pos == was && !ob.pos)) {
            rc = out->len > before ? DP_EMPTY : DP_CORRUPT;
            break;
        }
    }
out:
    ZSTD_freeDCtx(d);
    return rc;
}

static int body_brotli(struct dp_span body, struct dp_buf *out, struct dp_err *e)
{
    BrotliDecoderState *d = BrotliDecoderCreateInstance(NULL, NULL, NULL);
    if (!d) DP_FAIL(e, NOMEM, "a decoder for an HTTP body");
    size_t before = out->len, in_n = body.len;
    const uint8_t *in = (const uint8_t *)body.ptr;
    int rc = DP_OK;
    for (;;) {
        char spare; /* full: fine if the body ends exactly here */
        size_t left = out->bytes_max - out->len, room = left < 64 * 1024 ? left : 64 * 1024, free_n = room ? room : 1;
        char *p = room ? dp_buf_reserve(out, room) : &spare;
        if (!p) DP_GOTO(e, NOMEM, "an HTTP body");
        uint8_t *to = (uint8_t *)p;
        BrotliDecoderResult r = BrotliDecoderDecompressStream(d, &in_n, &in, &free_n, &to, NULL);
        if (room) out->len += room - free_n;
        else if (!free_n) DP_GOTO(NULL, LIMIT, "full");
        if (r == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT) continue;
        BrotliDecoderErrorCode code = BrotliDecoderGetErrorCode(d);
        if (code <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES && code >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES) DP_GOTO(e, NOMEM, "an HTTP body");
        if (r == BROTLI_DECODER_RESULT_SUCCESS) rc = in_n ? DP_CORRUPT : DP_OK;
        else rc = out->len > before ? DP_EMPTY : DP_CORRUPT;
        break;
    }
out:
    BrotliDecoderDestroyInstance(d);
    return rc;
}

int dp_inflate_body(enum dp_coding coding, struct dp_span body, struct dp_buf *out, struct dp_err *e)
{
    if (coding == DP_CODING_ZSTD) return body_zstd(body, out, e);
    if (coding == DP_CODING_BROTLI) return body_brotli(body, out, e);
    if (coding == DP_CODING_GZIP) return body_zlib(15 + 16, body, out, e);
    /* RFC 9110 says zlib; many servers send raw deflate. A zlib header is a multiple of 31 with method 8. */
    const unsigned char *p = (const unsigned char *)body.ptr;
    bool zlib = body.len >= 2 && (p[0] & 15) == 8 && (p[0] << 8 | p[1]) % 31 == 0;
    return body_zlib(zlib ? 15 : -15, body, out, e);
}

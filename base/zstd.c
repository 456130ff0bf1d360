#include "base/zstd.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

struct dp_zstd_writer {
    ZSTD_CCtx *c;
};

int dp_zstd_writer_open(struct dp_zstd_writer **out, int level, struct dp_err *e)
{
    struct dp_zstd_writer *w = calloc(1, sizeof *w);
    *out = NULL;
    if (w) w->c = ZSTD_createCCtx();
    if (!w || !w->c) {
        dp_zstd_writer_close(w);
        DP_FAIL(e, NOMEM, "zstd compressor");
    }
    ZSTD_CCtx_setParameter(w->c, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(w->c, ZSTD_c_checksumFlag, 1);
    *out = w;
    return DP_OK;
}

int dp_zstd_frame(struct dp_zstd_writer *w, struct dp_span in, struct dp_buf *out, struct dp_err *e)
{
    char *to = dp_buf_reserve(out, ZSTD_compressBound(in.len));
    if (!to) return dp_buf_check(out, "zstd frame", e);
    size_t n = ZSTD_compress2(w->c, to, ZSTD_compressBound(in.len), in.ptr, in.len);
    if (ZSTD_isError(n)) DP_FAIL(e, NOMEM, "zstd: %s", ZSTD_getErrorName(n));
    out->len += n;
    return DP_OK;
}

void dp_zstd_writer_checksum(struct dp_zstd_writer *w, bool on)
{
    ZSTD_CCtx_setParameter(w->c, ZSTD_c_checksumFlag, on);
}

void dp_zstd_writer_close(struct dp_zstd_writer *w)
{
    if (!w) return;
    ZSTD_freeCCtx(w->c);
    free(w);
}

struct dp_zstd_decoder {
    ZSTD_DCtx *d;
};

int dp_zstd_decoder_open(struct dp_zstd_decoder **out, struct dp_err *e)
{
    struct dp_zstd_decoder *d = calloc(1, sizeof *d);
    *out = NULL;
    if (d) d->d = ZSTD_createDCtx();
    if (!d || !d->d) {
        dp_zstd_decoder_close(d);
        DP_FAIL(e, NOMEM, "zstd decompressor");
    }
    *out = d;
    return DP_OK;
}

int dp_zstd_decode(struct dp_zstd_decoder *d, struct dp_span in, void *out, size_t n, struct dp_err *e)
{
    size_t got = ZSTD_decompressDCtx(d->d, out, n, in.ptr, in.len);
    if (ZSTD_isError(got)) DP_FAIL(e, CORRUPT, "zstd damage: %s", ZSTD_getErrorName(got));
    if (got != n) DP_FAIL(e, CORRUPT, "a zstd frame of %zu bytes, not %zu", got, n);
    return DP_OK;
}

void dp_zstd_decoder_close(struct dp_zstd_decoder *d)
{
    if (!d) return;
    ZSTD_freeDCtx(d->d);
    free(d);
}

enum { IN_CAP = 128 * 1024 };

struct dp_zstd_reader {
    ZSTD_DCtx *d;
    int fd;
    char *name;
    ZSTD_inBuffer in;
    uint64_t offset; /* of the byte after `in` */
    bool in_frame, eof;
    char buf[IN_CAP];
};

int dp_zstd_reader_open(struct dp_zstd_reader **out, int fd, const char *name, struct dp_err *e)
{
    struct dp_zstd_reader *r = calloc(1, sizeof *r);
    *out = NULL;
    if (r) {
        r->d = ZSTD_createDCtx();
        r->name = strdup(name);
    }
    if (!r || !r->d || !r->name) {
        dp_zstd_reader_close(r);
        DP_FAIL(e, NOMEM, "%s: zstd decompressor", name);
    }
    r->fd = fd;
    r->in.src = r->buf;
    *out = r;
    return DP_OK;
}

int dp_zstd_read(struct dp_zstd_reader *r, void *p, size_t n, size_t *got, struct dp_err *e)
{
    ZSTD_outBuffer o = {p, n, 0};
    while (o.pos < n) {
        if (r->in.pos == r->in.size && !r->eof) {
            ssize_t k;
            do k = read(r->fd, r->buf, IN_CAP);
            while (k < 0 && errno == EINTR);
            if (k < 0) DP_FAIL_SYS(e, "%s: read at %llu", r->name, (unsigned long long)r->offset);
            r->in.size = (size_t)k;
            r->in.pos = 0;
            r->offset += (uint64_t)k;
            r->eof = k == 0;
        }
        if (r->eof && !r->in_frame) break;
        size_t before = o.pos, fed = r->in.pos;
        size_t left = ZSTD_decompressStream(r->d, &o, &r->in);
        if (ZSTD_isError(left))
            DP_FAIL(e, CORRUPT, "%s: zstd damage near byte %llu: %s", r->name,
                    (unsigned long long)(r->offset - r->in.size + r->in.pos), ZSTD_getErrorName(left));
        r->in_frame = left != 0;
        if (r->eof && r->in_frame && o.pos == before && r->in.pos == fed)
            DP_FAIL(e, CORRUPT, "%s: the file ends inside a zstd frame at byte %llu", r->name, (unsigned long long)r->offset);
    }
    *got = o.pos;
    return DP_OK;
}

void dp_zstd_reader_close(struct dp_zstd_reader *r)
{
    if (!r) return;
    ZSTD_freeDCtx(r->d);
    free(r->name);
    free(r);
}

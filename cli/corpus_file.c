/* A piece is filled to PIECE bytes before anybody looks where it may end, so pieces don't depend on how much a pipe or a decoder gives at
 * once. It ends behind its last newline; a piece without one grows, up to WINDOW, from where a text that isn't JSON is cut inside. */
#include "cli/corpus_file.h"

#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "tokenizer/text_cut.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PIECE = 1 << 20, WINDOW = 16 << 20, JSON_MAX = 1 << 30, SNIFF = 64 * 1024 };

struct raw {
    struct dp_stream s; /* first */
    struct dp_corpus_file *f;
};

static int raw_read(struct dp_corpus_file *f, char *dst, size_t room, size_t *got, struct dp_err *e)
{
    ssize_t n;
    *got = 0;
    do n = read(f->fd, dst, room);
    while (n < 0 && errno == EINTR);
    if (n < 0) DP_FAIL_SYS(e, "%s: cannot read", f->path);
    *got = (size_t)n;
    f->raw += (uint64_t)n;
    return DP_OK;
}

static int raw_produce(struct dp_stream *s, char *dst, size_t room, size_t *got, struct dp_err *e)
{
    DP_TRY(raw_read(((struct raw *)s)->f, dst, room, got, e));
    s->eof = *got == 0;
    return DP_OK;
}

static void raw_close(struct dp_stream *s)
{
    dp_stream_release_buffer(s);
    free(s);
}

static void damaged(void *ctx, const struct dp_damage *d)
{
    struct dp_corpus_file *f = ctx;
    if (!f->damage[0]) snprintf(f->damage, sizeof f->damage, "%.180s at byte %llu of it", d->msg, (unsigned long long)d->offset);
}

static int check_damage(const struct dp_corpus_file *f, struct dp_err *e)
{
    if (f->damage[0]) DP_FAIL(e, CORRUPT, "%s: the compressed data is damaged: %s; mend it or leave it out", f->path, f->damage);
    return DP_OK;
}

/* Up to n bytes of the content; *got is 0 at its end only. */
static int content(struct dp_corpus_file *f, char *dst, size_t n, size_t *got, struct dp_err *e)
{
    if (!f->stream) return raw_read(f, dst, n, got, e);
    struct dp_stream *s = f->stream;
    DP_TRY(dp_stream_need(s, 1, e));
    DP_TRY(check_damage(f, e));
    *got = s->len < n ? s->len : n;
    memcpy(dst, s->ptr, *got);
    dp_stream_skip(s, *got);
    return DP_OK;
}

/* Go to f->offset: what is before it was read already, or belongs to another part. */
static int go_to_offset(struct dp_corpus_file *f, struct dp_err *e)
{
    char buf[SNIFF];
    size_t got;
    if (!f->stream) {
        if (lseek(f->fd, (off_t)f->offset, SEEK_SET) < 0) DP_FAIL_SYS(e, "%s: cannot go to byte %llu", f->path, (unsigned long long)f->offset);
        f->raw = f->raw_told = f->offset;
        char before = '\n';
        DP_TRY(dp_fs_pread_all(f->fd, &before, f->offset ? 1 : 0, f->offset ? f->offset - 1 : 0, &got, f->path, e));
        f->in_line = before != '\n';
        return DP_OK;
    }
    for (uint64_t left = f->offset; left; left -= got) {
        DP_TRY(content(f, buf, left < sizeof buf ? (size_t)left : sizeof buf, &got, e));
        if (!got) DP_FAIL(e, CORRUPT, "%s: it has only %llu bytes now", f->path, (unsigned long long)(f->offset - left));
    }
    return DP_OK;
}

/* A part of a plain file begins behind the first newline at or behind its first byte less one. */
static int go_to_begin(struct dp_corpus_file *f, struct dp_err *e)
{
    char buf[SNIFF];
    size_t got;
    f->offset = f->begin - 1;
    DP_TRY(go_to_offset(f, e));
    for (;;) {
        DP_TRY(content(f, buf, sizeof buf, &got, e));
        if (!got) break;
        const char *nl = memchr(buf, '\n', got);
        f->offset += nl ? (size_t)(nl - buf) + 1 : got;
        if (nl) break;
    }
    return go_to_offset(f, e);
}

static int open_stream(struct dp_corpus_file *f, struct dp_err *e)
{
    struct raw *r = calloc(1, sizeof *r);
    if (!r) DP_FAIL(e, NOMEM, "%s", f->path);
    f->limits = (struct dp_ingest_options){.doc_bytes_max = JSON_MAX, .total_bytes_max = UINT64_MAX, .ratio_max = 1e18, .members_max = INT64_MAX};
    f->run = (struct dp_ingest_run){.o = &f->limits, .name = f->path, .file_bytes = f->bytes, .damage = damaged, .damage_ctx = f};
    r->f = f;
    r->s.run = &f->run;
    r->s.where = "";
    r->s.produce = raw_produce;
    r->s.close = raw_close;
    r->s.ptr = "";
    f->stream = &r->s;
    DP_TRY(dp_stream_need(f->stream, SNIFF, e));
    struct dp_span first = dp_span(f->stream->ptr, f->stream->len < SNIFF ? f->stream->len : SNIFF);
    enum dp_codec codec = dp_codec_sniff(first);
    if (codec != DP_CODEC_NONE) {
        struct dp_stream *s = NULL;
        DP_TRY(dp_inflate_open(&s, codec, f->stream, e));
        f->stream = s;
    } else {
        if (first.len && memchr(first.ptr, 0, first.len)) dp_log(WARN, "train-bpe", "%s: not text (it has zero bytes); its bytes are counted as they are", f->path);
        if (f->bytes) { /* seekable: as it is */
            dp_stream_close(f->stream);
            f->stream = NULL;
        }
    }
    return DP_OK;
}

int dp_corpus_file_open(struct dp_corpus_file *f, struct dp_err *e)
{
    bool std = strcmp(f->path, "-") == 0;
    f->fd = std ? STDIN_FILENO : open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0) DP_FAIL_SYS(e, "%s: cannot open", f->path);
    posix_fadvise(f->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    f->open = true;
    f->at_end = false;
    f->rest_at = f->rest_len = 0;
    f->raw = f->raw_told = 0;
    f->damage[0] = 0;
    DP_TRY(open_stream(f, e));
    if (f->stream && f->begin) { /* compressed, and cut for many: whoever has its begin reads it */
        f->at_end = true;
        return DP_OK;
    }
    if (f->stream) f->end = 0;
    if (f->begin && f->offset <= f->begin) return go_to_begin(f, e);
    return f->offset || !f->stream ? go_to_offset(f, e) : DP_OK;
}

void dp_corpus_file_close(struct dp_corpus_file *f)
{
    if (!f->open) return;
    dp_stream_close(f->stream);
    f->stream = NULL;
    free(f->rest);
    f->rest = NULL;
    f->rest_at = f->rest_len = 0;
    if (strcmp(f->path, "-") != 0) close(f->fd);
    f->open = false;
}

static int room(const struct dp_corpus_file *f, struct dp_piece *p, size_t cap, struct dp_err *e)
{
    if (p->cap >= cap) return DP_OK;
    char *q = realloc(p->ptr, cap);
    if (!q) DP_FAIL(e, NOMEM, "%s: a text of %zu bytes", f->path, cap);
    p->ptr = q;
    p->cap = cap;
    return DP_OK;
}

/* Read on until the piece has n bytes, or the content ends. */
static int fill(struct dp_corpus_file *f, struct dp_piece *p, size_t n, struct dp_err *e)
{
    DP_TRY(room(f, p, n, e));
    while (p->len < n && !(f->at_end && !f->rest_len)) {
        size_t got = n - p->len < f->rest_len ? n - p->len : f->rest_len;
        if (got) {
            memcpy(p->ptr + p->len, f->rest + f->rest_at, got);
            f->rest_at += got;
            f->rest_len -= got;
        } else {
            DP_TRY(content(f, p->ptr + p->len, n - p->len, &got, e));
            f->at_end = got == 0;
        }
        p->len += got;
    }
    return DP_OK;
}

/* Keep what is behind `cut` for the next piece. */
static int leave(struct dp_corpus_file *f, struct dp_piece *p, size_t cut, struct dp_err *e)
{
    size_t n = p->len - cut, all = n + f->rest_len;
    if (n > f->rest_at) {
        char *q = malloc(all);
        if (!q) DP_FAIL(e, NOMEM, "%s: a text of %zu bytes", f->path, all);
        if (f->rest_len) memcpy(q + n, f->rest + f->rest_at, f->rest_len);
        free(f->rest);
        f->rest = q;
        f->rest_at = n;
    }
    f->rest_at -= n;
    f->rest_len = all;
    if (n) memcpy(f->rest + f->rest_at, p->ptr + cut, n);
    p->len = cut;
    return DP_OK;
}

static size_t text_cut(const struct dp_corpus_options *o, const struct dp_piece *p)
{
    struct dp_span text = dp_span(p->ptr, p->len);
    return dp_special_find_cut(o->specials, text, dp_text_cut(o->split, text));
}

/* Behind the last newline; with whole_file the last cut; 0: neither is there. */
static size_t find_cut(const struct dp_corpus_options *o, const struct dp_piece *p)
{
    if (o->whole_file) return text_cut(o, p);
    const char *nl = memrchr(p->ptr, '\n', p->len);
    return nl ? (size_t)(nl - p->ptr) + 1 : 0;
}

/* Inside a character is no place to cut where there is no better one. */
static size_t character_cut(const struct dp_piece *p)
{
    size_t n = p->len;
    for (int back = 0; back < 4 && n > 1; back++)
        if (((uint8_t)p->ptr[--n] & 0xc0) != 0x80) break;
    return n;
}

static int cut_piece(struct dp_corpus_file *f, const struct dp_corpus_options *o, struct dp_piece *p, struct dp_err *e)
{
    while (!(f->at_end && !f->rest_len)) {
        size_t cut = find_cut(o, p);
        if (!cut && p->len >= WINDOW && !o->jsonl && dp_text_can_cut(o->split)) {
            cut = text_cut(o, p);
            if (!cut) cut = character_cut(p);
        }
        if (cut) return leave(f, p, cut, e);
        if (p->len >= JSON_MAX) DP_FAIL(e, LIMIT, "%s: the text at byte %llu has more than 1 GiB", f->path, (unsigned long long)p->offset);
        DP_TRY(fill(f, p, p->len * 2, e));
    }
    return DP_OK;
}

/* Of a part: nothing behind the record that stands across its end. */
static void end_part(struct dp_corpus_file *f, struct dp_piece *p)
{
    f->in_line = p->ptr[p->len - 1] != '\n';
    if (!f->end || f->offset + p->len < f->end) return;
    size_t from = f->offset < f->end ? (size_t)(f->end - f->offset) - 1 : 0;
    const char *nl = memchr(p->ptr + from, '\n', p->len - from);
    if (!nl) return;
    f->in_line = false;
    p->len = (size_t)(nl - p->ptr) + 1;
    f->rest_len = 0;
    f->at_end = true;
}

int dp_corpus_file_next(struct dp_corpus_file *f, const struct dp_corpus_options *o, struct dp_piece *p, struct dp_err *e)
{
    if (f->end && f->offset >= f->end && !f->in_line) return DP_EOF;
    p->len = 0;
    p->offset = f->offset;
    DP_TRY(fill(f, p, PIECE, e));
    if (!p->len) return DP_EOF;
    DP_TRY(cut_piece(f, o, p, e));
    end_part(f, p);
    if (o->whole_file && !p->offset) f->text_hash = dp_hash64(p->ptr, p->len, 0);
    p->text_hash = f->text_hash;
    p->raw = f->raw - f->raw_told;
    f->raw_told = f->raw;
    f->offset += p->len;
    return DP_OK;
}

#include "base/docs.h"

#include "base/zstd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    FRAME_BYTES = 1 << 20,
    LINE_MAX = 192 << 20, /* a 16 MiB document of control characters, all escaped, and its members */
};

struct dp_lines {
    struct dp_out *out;
    struct dp_zstd_writer *z;
    struct dp_buf raw, packed, table;
    uint32_t frames;
};

int dp_lines_fd(struct dp_lines **out, int fd, const char *name, int level, struct dp_err *e)
{
    *out = NULL;
    struct dp_lines *l = calloc(1, sizeof *l);
    if (!l) {
        close(fd);
        DP_FAIL(e, NOMEM, "%s: writer", name);
    }
    dp_buf_init(&l->raw, (size_t)LINE_MAX + FRAME_BYTES);
    dp_buf_init(&l->packed, (size_t)LINE_MAX * 2);
    dp_buf_init(&l->table, (size_t)1 << 30);
    int rc = dp_zstd_writer_open(&l->z, level, e);
    if (rc >= 0) rc = dp_out_fd(&l->out, fd, name, true, e);
    if (rc < 0) {
        if (!l->out) close(fd);
        dp_lines_close(l);
        return rc;
    }
    *out = l;
    return DP_OK;
}

struct dp_buf *dp_lines_buf(struct dp_lines *l)
{
    return &l->raw;
}

static void put32(struct dp_buf *b, uint32_t v)
{
    unsigned char c[4] = {(unsigned char)v, (unsigned char)(v >> 8), (unsigned char)(v >> 16), (unsigned char)(v >> 24)};
    dp_buf_add(b, c, 4);
}

static int end_frame(struct dp_lines *l, struct dp_err *e)
{
    if (!l->raw.len) return DP_OK;
    dp_buf_clear(&l->packed);
    DP_TRY(dp_zstd_frame(l->z, dp_buf_span(&l->raw), &l->packed, e));
    DP_TRY(dp_out_add(l->out, l->packed.ptr, l->packed.len, e));
    put32(&l->table, (uint32_t)l->packed.len);
    put32(&l->table, (uint32_t)l->raw.len);
    DP_TRY(dp_buf_check(&l->table, "seek table", e));
    l->frames++;
    dp_buf_clear(&l->raw);
    return DP_OK;
}

int dp_lines_end(struct dp_lines *l, struct dp_err *e)
{
    DP_TRY(dp_buf_check(&l->raw, "a document's line", e));
    return l->raw.len >= FRAME_BYTES ? end_frame(l, e) : DP_OK;
}

/* zstd's seekable format, version 0.1.0: a skippable frame of (compressed, decompressed) sizes and a footer. */
int dp_lines_finish(struct dp_lines *l, char hex[65], uint64_t *bytes, struct dp_err *e)
{
    DP_TRY(end_frame(l, e));
    dp_buf_clear(&l->packed);
    put32(&l->packed, 0x184D2A5E);
    put32(&l->packed, (uint32_t)l->table.len + 9);
    dp_buf_add_span(&l->packed, dp_buf_span(&l->table));
    put32(&l->packed, l->frames);
    dp_buf_add_char(&l->packed, 0);
    put32(&l->packed, 0x8F92EAB1);
    DP_TRY(dp_buf_check(&l->packed, "seek table", e));
    DP_TRY(dp_out_add(l->out, l->packed.ptr, l->packed.len, e));
    *bytes = dp_out_bytes(l->out);
    return dp_out_finish(l->out, hex, e);
}

void dp_lines_close(struct dp_lines *l)
{
    if (!l) return;
    dp_out_close(l->out);
    dp_zstd_writer_close(l->z);
    dp_buf_release(&l->raw);
    dp_buf_release(&l->packed);
    dp_buf_release(&l->table);
    free(l);
}

static void print_id(struct dp_jsonw *w, struct dp_hash128 id)
{
    char hex[DP_HEX128];
    dp_hash128_hex(id, hex);
    dp_jsonw_key(w, "id");
    dp_jsonw_cstr(w, hex);
}

static void print_if(struct dp_jsonw *w, const char *key, struct dp_span s)
{
    if (!s.len) return;
    dp_jsonw_key(w, key);
    dp_jsonw_str(w, s);
}

/* Decimal numbers of a fixed form: a float's shortest text would differ between float and double readers. */
static void print_score(struct dp_jsonw *w, const char *key, double v)
{
    char t[32];
    if (v == 0) return;
    snprintf(t, sizeof t, "%.6g", v);
    dp_jsonw_key(w, key);
    dp_jsonw_raw(w, dp_span_str(t));
}

void dp_docs_print(const struct dp_batch *b, uint32_t i, struct dp_buf *out)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, out, 0);
    dp_jsonw_begin(&w, '{');
    print_id(&w, b->id[i]);
    dp_jsonw_key(&w, "text");
    dp_jsonw_str(&w, b->text[i]);
    print_if(&w, "url", b->url[i]);
    print_if(&w, "lang", dp_span_str(b->lang[i]));
    print_score(&w, "lang_score", (double)b->lang_score[i]);
    print_score(&w, "score", (double)b->score[i]);
    print_if(&w, "title", b->title[i]);
    print_if(&w, "pos", b->pos[i]);
    if (b->meta[i].len) {
        dp_jsonw_key(&w, "meta");
        dp_buf_add_char(out, '{');
        dp_buf_add_span(out, b->meta[i]);
        dp_buf_add_char(out, '}');
    }
    dp_buf_add_str(out, "}\n");
}

void dp_drops_print(const struct dp_batch *b, uint32_t i, size_t excerpt_bytes, struct dp_buf *out)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, out, 0);
    dp_jsonw_begin(&w, '{');
    print_id(&w, b->id[i]);
    dp_jsonw_key(&w, "reason");
    dp_jsonw_cstr(&w, dp_drop_name(b->drop[i]));
    dp_jsonw_key(&w, "value");
    dp_jsonw_real(&w, b->value[i]);
    dp_jsonw_key(&w, "limit");
    dp_jsonw_real(&w, b->limit[i]);
    print_if(&w, "url", b->url[i]);
    print_if(&w, "lang", dp_span_str(b->lang[i]));
    print_if(&w, "pos", b->pos[i]);
    dp_jsonw_key(&w, "bytes");
    dp_jsonw_uint(&w, b->text[i].len ? b->text[i].len : b->bytes_in[i]);
    struct dp_span head = b->text[i];
    if (head.len > excerpt_bytes) {
        head.len = excerpt_bytes;
        while (head.len && ((unsigned char)head.ptr[head.len] & 0xc0) == 0x80) head.len--;
    }
    print_if(&w, "text", head);
    dp_buf_add_str(out, "}\n");
}

struct dp_docs_reader {
    int fd;
    char *path;
    struct dp_zstd_reader *z;
    struct dp_buf buf;
    size_t at;
    uint64_t line;
    bool eof;
    struct dp_arena mem;
};

int dp_docs_open_fd(struct dp_docs_reader **out, int fd, const char *name, struct dp_err *e)
{
    *out = NULL;
    struct dp_docs_reader *r = calloc(1, sizeof *r);
    int rc = DP_OK;
    if (!r) {
        close(fd);
        DP_FAIL(e, NOMEM, "%s: reader", name);
    }
    dp_buf_init(&r->buf, (size_t)LINE_MAX + FRAME_BYTES);
    dp_arena_init(&r->mem, LINE_MAX);
    r->fd = fd;
    r->path = strdup(name);
    if (!r->path) DP_GOTO(e, NOMEM, "%s: reader", name);
    rc = dp_zstd_reader_open(&r->z, r->fd, name, e);
out:
    if (rc < 0) dp_docs_close(r);
    else *out = r;
    return rc;
}

int dp_docs_open(struct dp_docs_reader **out, const char *path, struct dp_err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *out = NULL;
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open", path);
    return dp_docs_open_fd(out, fd, path, e);
}

int dp_docs_next_line(struct dp_docs_reader *r, struct dp_span *line, struct dp_err *e)
{
    size_t seen = 0; /* bytes already searched for a newline */
    for (;;) {
        const char *from = r->buf.ptr ? r->buf.ptr + r->at : NULL;
        size_t have = r->buf.len - r->at;
        const char *nl = have > seen ? memchr(from + seen, '\n', have - seen) : NULL;
        if (nl || (r->eof && have)) {
            *line = dp_span(from, nl ? (size_t)(nl - from) : have);
            r->at += line->len + (nl != NULL);
            r->line++;
            return DP_OK;
        }
        if (r->eof) return DP_EOF;
        seen = have;
        if (r->at) {
            memmove(r->buf.ptr, r->buf.ptr + r->at, have);
            r->buf.len = have;
            r->at = 0;
        }
        char *to = dp_buf_reserve(&r->buf, 512 * 1024);
        if (!to) return dp_buf_check(&r->buf, r->path, e);
        size_t got;
        DP_TRY(dp_zstd_read(r->z, to, 512 * 1024, &got, e));
        r->buf.len += got;
        r->eof = got == 0;
    }
}

int dp_docs_next(struct dp_docs_reader *r, struct dp_doc *doc, struct dp_err *e)
{
    struct dp_span line;
    int rc = dp_docs_next_line(r, &line, e);
    if (rc != DP_OK) return rc;
    enum { ID, TEXT, URL, LANG, TITLE, POS, META, SCORE, LANG_SCORE, N };
    struct dp_json_field f[N] = {{.key = "id"}, {.key = "text"}, {.key = "url"}, {.key = "lang"}, {.key = "title"}, {.key = "pos"}, {.key = "meta"}, {.key = "score"}, {.key = "lang_score"}};
    dp_arena_reset(&r->mem);
    rc = dp_json_fields(line, f, N, &r->mem, e);
    if (rc < 0) return dp_err_prefix(e, "%s line %llu", r->path, (unsigned long long)r->line);
    if (!f[ID].str.ptr || !f[TEXT].str.ptr)
        DP_FAIL(e, CORRUPT, "%s line %llu: no \"id\" or no \"text\"", r->path, (unsigned long long)r->line);
    rc = dp_hash128_parse(f[ID].str, &doc->id, e);
    if (rc < 0) return dp_err_prefix(e, "%s line %llu", r->path, (unsigned long long)r->line);
    doc->text = f[TEXT].str;
    doc->url = f[URL].str;
    doc->lang = f[LANG].str;
    doc->title = f[TITLE].str;
    doc->pos = f[POS].str;
    doc->meta = f[META].raw;
    doc->score = f[SCORE].raw.len ? strtod(f[SCORE].raw.ptr, NULL) : 0;
    doc->lang_score = f[LANG_SCORE].raw.len ? strtod(f[LANG_SCORE].raw.ptr, NULL) : 0;
    return DP_OK;
}

uint64_t dp_docs_line_number(const struct dp_docs_reader *r)
{
    return r->line;
}

void dp_docs_close(struct dp_docs_reader *r)
{
    if (!r) return;
    dp_zstd_reader_close(r->z);
    if (r->fd >= 0) close(r->fd);
    free(r->path);
    dp_buf_release(&r->buf);
    dp_arena_release(&r->mem);
    free(r);
}

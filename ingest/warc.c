/* A record is read whole into the stream's window: header, block, and the first bytes behind it. Those bytes judge Content-Length, the one
 * field that everything hangs on: behind a right length stand newlines, the next record or the end. Where they don't, the block is searched for
 * the next record's first line, and when one is inside, the length was too large: the record is reported and reading goes on there.
 * Parsers that trust the length lose a record or the rest of the file at that point (notes/ingest.md, section 4).
 *
 * A record too large to hold is dropped by counting; there only the begin of a compressed member can show that the length was wrong. */
#include "ingest/warc.h"

#include "base/buf.h"
#include "base/json.h"
#include "ingest/format_guess.h"
#include "ingest/http_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { HEADER_MAX = 64 * 1024, TAIL = 12, URL_MAX = 16 * 1024 };

struct header {
    struct dp_span type, url, date, content_type;
    uint64_t length;
    bool has_length, bad_length;
    size_t bytes; /* of the header, blank line included */
};

struct dp_warc {
    struct dp_stream *s;
    struct dp_ingest_run *run;
    uint64_t drop;     /* bytes to drop before the next record */
    uint64_t begin;    /* offset of the record */
    bool dropping;     /* ... of a record too large to hold */
    bool arc;
    struct dp_http http;
    struct dp_buf meta, url;
    char mime[DP_MIME_MAX], charset[64];
};

/* "WARC/1.0" or "WARC/0.17" and the end of the line. */
static bool version_line(const char *p, size_t n)
{
    if (n < 9 || memcmp(p, "WARC/", 5) != 0 || (p[5] != '1' && p[5] != '0') || p[6] != '.') return false;
    size_t i = 7;
    while (i < n && i < 10 && p[i] >= '0' && p[i] <= '9') i++;
    while (i < n && (p[i] == ' ' || p[i] == '\r')) i++;
    return i < n && p[i] == '\n';
}

bool dp_warc_sniff(struct dp_span f)
{
    return version_line(f.ptr, f.len) || (f.len > 11 && memcmp(f.ptr, "filedesc://", 11) == 0);
}

int dp_warc_open(struct dp_warc **out, struct dp_stream *source, struct dp_err *e)
{
    struct dp_warc *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w) DP_FAIL(e, NOMEM, "%s: a WARC reader", source->run->name);
    w->s = source;
    w->run = source->run;
    dp_http_init(&w->http, (size_t)source->run->o->doc_bytes_max);
    dp_buf_init(&w->meta, 256 * 1024);
    dp_buf_init(&w->url, 4 * URL_MAX);
    *out = w;
    if (dp_stream_need(source, 11, e) < 0) return e ? (int)e->code : DP_IO;
    w->arc = source->len >= 11 && memcmp(source->ptr, "filedesc://", 11) == 0;
    return DP_OK;
}

void dp_warc_close(struct dp_warc *w)
{
    if (!w) return;
    dp_http_release(&w->http);
    dp_buf_release(&w->meta);
    dp_buf_release(&w->url);
    free(w);
}

/* --- header --- */

static struct dp_span trim(struct dp_span s)
{
    while (s.len && strchr(" \t\r\n", s.ptr[0]) && s.ptr[0]) s = dp_span(s.ptr + 1, s.len - 1); /* newlines: of folded lines */
    while (s.len && strchr(" \t\r\n", s.ptr[s.len - 1]) && s.ptr[s.len - 1]) s.len--;
    return s;
}

static bool is(struct dp_span name, const char *want, size_t n)
{
    return name.len == n && strncasecmp(name.ptr, want, n) == 0;
}
#define IS(name, word) is(name, word, sizeof word - 1)

static bool parse_u64(struct dp_span s, uint64_t *v)
{
    *v = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return false;
        if (__builtin_mul_overflow(*v, 10u, v) || __builtin_add_overflow(*v, (unsigned)(s.ptr[i] - '0'), v)) return false;
    }
    return s.len > 0;
}

static void field(struct header *h, struct dp_span line)
{
    const char *colon = memchr(line.ptr, ':', line.len);
    if (!colon) return;
    struct dp_span name = trim(dp_span(line.ptr, (size_t)(colon - line.ptr)));
    struct dp_span value = trim(dp_span(colon + 1, line.len - (size_t)(colon + 1 - line.ptr)));
    if (IS(name, "warc-type")) h->type = value;
    else if (IS(name, "warc-date")) h->date = value;
    else if (IS(name, "content-type")) h->content_type = value;
    else if (IS(name, "warc-target-uri")) {
        if (value.len >= 2 && value.ptr[0] == '<' && value.ptr[value.len - 1] == '>') value = dp_span(value.ptr + 1, value.len - 2); /* wget */
        h->url = value;
    } else if (IS(name, "content-length")) {
        uint64_t was = h->length;
        bool good = parse_u64(value, &h->length);
        h->bad_length = h->bad_length || !good || (h->has_length && h->length != was);
        h->has_length = true;
    }
}

/* Have the whole header at hand. *bytes = 0: it ends too early or is too long (then *too_long). */
static int header_at_hand(struct dp_warc *w, size_t *bytes, bool *too_long, struct dp_err *e)
{
    struct dp_stream *s = w->s;
    size_t i = 0;
    *bytes = 0;
    *too_long = false;
    for (;;) {
        size_t reach = s->len < HEADER_MAX + 1 ? s->len : HEADER_MAX + 1;
        const char *nl = i < reach ? memchr(s->ptr + i, '\n', reach - i) : NULL;
        if (nl) {
            size_t end = (size_t)(nl - s->ptr), n = end - i;
            if (end >= HEADER_MAX) {
                *too_long = true;
                return DP_OK;
            }
            bool blank = n == 0 || (n == 1 && s->ptr[i] == '\r');
            i = end + 1;
            if (!blank) continue;
            *bytes = i;
            return DP_OK;
        }
        if (s->len > HEADER_MAX) {
            *too_long = true;
            return DP_OK;
        }
        size_t had = s->len;
        DP_TRY(dp_stream_need(s, s->len + 1, e));
        if (s->len == had) return DP_OK;
    }
}

static void parse_header(struct header *h, const char *p, size_t bytes)
{
    memset(h, 0, sizeof *h);
    h->bytes = bytes;
    for (size_t i = 0; i < bytes;) {
        size_t end = (size_t)((const char *)memchr(p + i, '\n', bytes - i) - p);
        while (i && end + 1 < bytes && (p[end + 1] == ' ' || p[end + 1] == '\t')) /* folded: the value goes on */
            end = (size_t)((const char *)memchr(p + end + 1, '\n', bytes - end - 1) - p);
        if (i) field(h, dp_span(p + i, end - i));
        i = end + 1;
    }
}

/* ARC 1: "URL IP date type length"; the URL may hold blanks, so from the right. */
static bool parse_arc(struct header *h, const char *p, size_t n)
{
    struct dp_span f[4], line = dp_span(p, n);
    memset(h, 0, sizeof *h);
    h->bytes = n;
    while (line.len && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r')) line.len--;
    for (int i = 0; i < 4; i++) {
        const char *sp = line.len ? memrchr(line.ptr, ' ', line.len) : NULL;
        if (!sp) return false;
        f[i] = dp_span(sp + 1, line.len - (size_t)(sp + 1 - line.ptr));
        line.len = (size_t)(sp - line.ptr);
    }
    uint64_t date;
    h->has_length = parse_u64(f[0], &h->length);
    h->content_type = f[1];
    h->date = f[2];
    h->url = line;
    bool about = line.len > 11 && memcmp(line.ptr, "filedesc://", 11) == 0;
    h->type = dp_span_str(about ? "warcinfo" : "response");
    return h->has_length && f[2].len >= 8 && parse_u64(f[2], &date) && memchr(line.ptr, ':', line.len);
}

/* --- finding the way back --- */

/* The first record line in the window's [from, end) that stands at the begin of a line, or end. */
static size_t find_inside(struct dp_stream *s, size_t from, size_t end)
{
    const char *q;
    while ((q = dp_stream_find(s, from, end, "\nWARC/", 6))) {
        from = (size_t)(q + 1 - s->ptr);
        if (version_line(q + 1, s->len - from)) return from;
    }
    return end;
}

/* Skip garbage up to the next line that begins a record; the window is then at it, or empty at the end. */
static int resync(struct dp_warc *w, struct dp_err *e)
{
    struct dp_stream *s = w->s;
    for (;;) {
        DP_TRY(dp_stream_need(s, TAIL, e));
        size_t i = 0;
        for (;;) {
            const char *q = dp_stream_find(s, i, s->len, "WARC/", 5);
            size_t at = q ? (size_t)(q - s->ptr) : s->len;
            if (!q || version_line(q, s->len - at)) {
                i = at;
                break;
            }
            if (s->len - at < TAIL) { /* perhaps cut by the window */
                i = at;
                break;
            }
            i = at + 5;
        }
        if (i < s->len && version_line(s->ptr + i, s->len - i)) {
            dp_stream_skip(s, i);
            return DP_OK;
        }
        bool stop = s->eof || s->broken;
        size_t keep = stop ? 0 : s->len - i < TAIL ? s->len - i : 4;
        if (!stop && keep < 4) keep = s->len < 4 ? s->len : 4;
        dp_stream_skip(s, s->len - keep);
        if (s->broken) {
            dp_stream_resume(s);
            return DP_OK;
        }
        if (s->eof) return DP_OK;
        if (s->len >= TAIL) continue;
        size_t had = s->len;
        DP_TRY(dp_stream_need(s, had + TAIL, e));
    }
}

/* Drop what is left of a record too large to hold. Stops early where a member of its own begins the next record. */
static int drop_rest(struct dp_warc *w, struct dp_err *e)
{
    struct dp_stream *s = w->s;
    while (w->drop) {
        DP_TRY(dp_stream_need(s, TAIL, e));
        struct dp_mark m;
        bool another = s->offset != w->begin && dp_stream_member_at(s, s->offset, &m) && m.out == s->offset && version_line(s->ptr, s->len);
        if (!s->len || another) {
            dp_run_damage(w->run, s->where, w->begin, DP_CORRUPT,
                          "the record at offset %llu ends %llu bytes before its Content-Length says", (unsigned long long)w->begin,
                          (unsigned long long)w->drop);
            if (!s->len && s->broken) dp_stream_resume(s);
            w->drop = 0;
            break;
        }
        size_t k = w->drop < s->len ? (size_t)w->drop : s->len;
        for (int i = 0; i < s->marks; i++) /* stop at each begin of a member */
            if (s->mark[i].out > s->offset && s->mark[i].out - s->offset < k) k = (size_t)(s->mark[i].out - s->offset);
        dp_stream_skip(s, k);
        w->drop -= k;
    }
    w->dropping = false;
    return DP_OK;
}

/* --- a record --- */

static int add_meta(struct dp_warc *w, const struct header *h, int status, struct dp_err *e)
{
    dp_buf_clear(&w->meta);
    if (h->date.len && h->date.len <= 64) {
        dp_buf_add_str(&w->meta, "\"date\":\"");
        dp_json_escape(&w->meta, h->date);
        dp_buf_add_char(&w->meta, '"');
    }
    if (status) dp_buf_printf(&w->meta, "%s\"status\":%d", w->meta.len ? "," : "", status);
    return dp_buf_check(&w->meta, "a WARC record's date", e);
}

/* Blanks in a URL are written %20; longer ones than any client sends are cut off the record. */
static int take_url(struct dp_warc *w, struct dp_span url, struct dp_err *e)
{
    dp_buf_clear(&w->url);
    if (url.len > URL_MAX) return DP_OK;
    while (url.len) {
        size_t n = 0;
        while (n < url.len && (unsigned char)url.ptr[n] > ' ') n++;
        dp_buf_add(&w->url, url.ptr, n);
        if (n == url.len) break;
        if (url.ptr[n] == ' ') dp_buf_add_str(&w->url, "%20");
        else /* a folded line, or garbage: no URL has control characters */
            while (n + 1 < url.len && (unsigned char)url.ptr[n + 1] <= ' ') n++;
        url = dp_span(url.ptr + n + 1, url.len - n - 1);
    }
    return dp_buf_check(&w->url, "a WARC record's URL", e);
}

static void position(const struct dp_warc *w, struct dp_record *rec)
{
    struct dp_mark m;
    unsigned long long at = w->begin;
    if (!dp_stream_member_at(w->s, w->begin, &m)) snprintf(rec->at, sizeof rec->at, "@%llu", at);
    else if (m.out == w->begin) snprintf(rec->at, sizeof rec->at, "@%llu", (unsigned long long)m.in);
    else snprintf(rec->at, sizeof rec->at, "@%llu+%llu", (unsigned long long)m.in, at - m.out);
}

static void drop_record(struct dp_record *rec, enum dp_drop why, double value, double limit)
{
    rec->drop = why;
    rec->value = value;
    rec->limit = limit;
    rec->text = dp_span("", 0);
}

static int fill_http(struct dp_warc *w, struct dp_span block, struct dp_record *rec, struct dp_err *e)
{
    struct dp_http *h = &w->http;
    DP_TRY(dp_http_parse(h, block, e));
    if (h->trouble)
        dp_run_damage(w->run, w->s->where, w->begin, DP_CORRUPT, "the record at offset %llu: %s; what could be read is kept",
                      (unsigned long long)w->begin, h->trouble);
    rec->text = h->body;
    rec->bytes_in = h->body.len;
    rec->mime = dp_span_str(h->mime);
    rec->charset = dp_span_str(h->charset);
    uint64_t max = w->run->o->doc_bytes_max;
    if (h->status && h->status != 200) drop_record(rec, DP_DROP_HTTP_STATUS, h->status, 200);
    else if (h->too_large || h->body.len > max) drop_record(rec, DP_DROP_TOO_LARGE, (double)(h->too_large ? max + 1 : h->body.len), (double)max);
    else if (h->unknown_coding && dp_looks_binary(h->body)) drop_record(rec, DP_DROP_FORMAT, 0, 0);
    return DP_OK;
}

/* The record with header h and its whole block at hand. DP_EMPTY: no document. */
static int fill(struct dp_warc *w, const struct header *h, struct dp_record *rec, struct dp_err *e)
{
    struct dp_span block = dp_span(w->s->ptr + h->bytes, (size_t)h->length);
    uint64_t max = w->run->o->doc_bytes_max;
    bool response = IS(h->type, "response");
    dp_content_type(h->content_type, w->mime, w->charset);
    bool http = w->arc ? block.len >= 5 && strncasecmp(block.ptr, "HTTP/", 5) == 0
                       : strcmp(w->mime, "application/http") == 0 || (!w->mime[0] && response);
    bool page = strcmp(w->mime, "text/html") == 0 || strcmp(w->mime, "application/xhtml+xml") == 0;
    if (response && !http && !w->arc && block.len >= 5 && memcmp(block.ptr, "HTTP/", 5) == 0) http = true; /* declared as what it carries */
    if (response && !http && !w->arc && !page) return DP_EMPTY; /* DNS answers and the like */
    w->http.status = 0;
    if (http) {
        DP_TRY(fill_http(w, block, rec, e));
    } else {
        rec->text = block;
        rec->bytes_in = block.len;
        rec->mime = dp_span_str(w->mime);
        rec->charset = dp_span_str(w->charset);
        if (block.len > max) drop_record(rec, DP_DROP_TOO_LARGE, (double)block.len, (double)max);
    }
    if (!rec->drop) {
        rec->format = dp_format_of_mime(rec->mime, rec->charset, rec->text, w->run->o->plain_text_html);
        if (!rec->text.len) drop_record(rec, DP_DROP_EMPTY, 0, 1);
        else if (rec->format == DP_FORMAT_BINARY) drop_record(rec, DP_DROP_FORMAT, 0, 0);
    }
    DP_TRY(add_meta(w, h, w->http.status, e));
    DP_TRY(take_url(w, h->url, e));
    rec->meta = dp_buf_span(&w->meta);
    rec->url = dp_buf_span(&w->url);
    return DP_OK;
}

/* What stands behind a block, as far as it is at hand: newlines, then the next record or nothing. */
static bool good_tail(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && (p[i] == '\r' || p[i] == '\n')) i++;
    size_t left = n - i < 5 ? n - i : 5;
    return memcmp(p + i, "WARC/", left) == 0;
}

/* The block isn't followed by what follows blocks, or is cut short: report, and go to where reading can go on. */
static int bad_length(struct dp_warc *w, const struct header *h, struct dp_err *e)
{
    struct dp_stream *s = w->s;
    size_t inside = find_inside(s, h->bytes > 1 ? h->bytes - 1 : 0, s->len);
    dp_run_damage(w->run, s->where, w->begin, DP_CORRUPT,
                  inside < s->len ? "the record at offset %llu: the next one begins before its Content-Length %llu is over; left out"
                                  : "the record at offset %llu is cut short (Content-Length %llu); left out",
                  (unsigned long long)w->begin, (unsigned long long)h->length);
    if (inside < s->len) {
        dp_stream_skip(s, inside);
        return DP_OK;
    }
    dp_stream_skip(s, s->len);
    dp_stream_resume(s);
    (void)e;
    return DP_OK;
}

static bool wanted(const struct dp_warc *w, const struct header *h)
{
    (void)w;
    return IS(h->type, "response") || IS(h->type, "resource") || IS(h->type, "conversion");
}

/* Have n bytes at hand. The window may move, and the header's fields point into it. */
static int grow(struct dp_warc *w, struct header *h, size_t n, struct dp_err *e)
{
    const char *was = w->s->ptr;
    DP_TRY(dp_stream_need(w->s, n, e));
    if (w->s->ptr == was) return DP_OK;
    if (w->arc) parse_arc(h, w->s->ptr, h->bytes);
    else parse_header(h, w->s->ptr, h->bytes);
    return DP_OK;
}

/* A header was parsed: deliver, skip or report. DP_EMPTY: go on with the next record. */
static int take_record(struct dp_warc *w, struct header *h, struct dp_record *rec, struct dp_err *e)
{
    struct dp_stream *s = w->s;
    uint64_t max = w->run->o->doc_bytes_max;
    if (h->length > max + HEADER_MAX && !(s->whole && h->length > s->len - h->bytes)) {
        w->drop = h->bytes + h->length;
        w->dropping = true;
        if (!wanted(w, h)) {
            w->run->stats.skipped++;
            return DP_EMPTY;
        }
        rec->bytes_in = h->length;
        drop_record(rec, DP_DROP_TOO_LARGE, (double)h->length, (double)max);
        DP_TRY(add_meta(w, h, 0, e));
        DP_TRY(take_url(w, h->url, e));
        rec->meta = dp_buf_span(&w->meta);
        rec->url = dp_buf_span(&w->url);
        return DP_OK;
    }
    size_t n = s->whole && h->length > s->len ? s->len : h->bytes + (size_t)h->length;
    DP_TRY(grow(w, h, n, e));
    if (s->len < h->bytes || s->len - h->bytes < h->length) {
        DP_TRY(bad_length(w, h, e));
        return DP_EMPTY;
    }
    if (!w->arc && (s->len == n || s->ptr[n] == '\r')) DP_TRY(grow(w, h, n + 1, e));
    bool good = w->arc || good_tail(s->ptr + n, s->len - n);
    if (!good) {
        DP_TRY(grow(w, h, n + TAIL, e)); /* the record line may stand across the end */
        if (find_inside(s, h->bytes - 1, s->len - n < TAIL ? s->len : n + TAIL) < n) {
            DP_TRY(bad_length(w, h, e));
            return DP_EMPTY;
        }
    }
    w->drop = n;
    if (!wanted(w, h)) {
        w->run->stats.skipped++;
        return DP_EMPTY;
    }
    int rc = fill(w, h, rec, e);
    if (rc == DP_EMPTY) w->run->stats.skipped++;
    return rc;
}

/* The next header. DP_EMPTY: there was damage, look again. */
static int next_header(struct dp_warc *w, struct header *h, struct dp_err *e)
{
    struct dp_stream *s = w->s;
    size_t i;
    do { /* newlines between records, whatever their number */
        DP_TRY(dp_stream_need(s, 1, e));
        for (i = 0; i < s->len && (s->ptr[i] == '\r' || s->ptr[i] == '\n'); i++) {}
        dp_stream_skip(s, i);
    } while (i);
    if (!s->len) {
        if (!s->broken) return DP_EOF;
        dp_stream_resume(s);
        return DP_EMPTY;
    }
    w->begin = s->offset;
    if (w->arc) {
        const char *nl;
        size_t had = 0;
        while (!(nl = memchr(s->ptr, '\n', s->len)) && s->len < HEADER_MAX && s->len > had) {
            had = s->len;
            DP_TRY(dp_stream_need(s, had + 1, e));
        }
        if (nl && parse_arc(h, s->ptr, (size_t)(nl + 1 - s->ptr))) return DP_OK;
        dp_run_damage(w->run, s->where, w->begin, DP_CORRUPT, "no ARC record begins at offset %llu; going on at the next line", (unsigned long long)w->begin);
        dp_stream_skip(s, nl ? (size_t)(nl + 1 - s->ptr) : s->len);
        return DP_EMPTY;
    }
    DP_TRY(dp_stream_need(s, TAIL, e));
    if (!version_line(s->ptr, s->len)) {
        dp_run_damage(w->run, s->where, w->begin, DP_CORRUPT, "no WARC record begins at offset %llu; going on at the next one", (unsigned long long)w->begin);
        DP_TRY(resync(w, e));
        return DP_EMPTY;
    }
    size_t bytes;
    bool too_long;
    DP_TRY(header_at_hand(w, &bytes, &too_long, e));
    if (bytes) parse_header(h, s->ptr, bytes);
    const char *why = too_long ? "has a header of more than 64 KiB" : !bytes ? "ends inside its header"
                      : !h->has_length ? "has no Content-Length" : h->bad_length ? "has a Content-Length that is no number" : NULL;
    if (!why && !h->type.len) why = "has no WARC-Type";
    if (!why) return DP_OK;
    dp_run_damage(w->run, s->where, w->begin, DP_CORRUPT, "the record at offset %llu %s; going on at the next one", (unsigned long long)w->begin, why);
    dp_stream_skip(s, 5); /* past this one's own first line */
    DP_TRY(resync(w, e));
    return DP_EMPTY;
}

int dp_warc_next(struct dp_warc *w, struct dp_record *rec, struct dp_err *e)
{
    for (;;) {
        if (w->dropping) DP_TRY(drop_rest(w, e));
        dp_stream_skip(w->s, (size_t)w->drop);
        w->drop = 0;
        struct header h;
        int rc = next_header(w, &h, e);
        if (rc < 0 || rc == DP_EOF) return rc;
        if (rc == DP_EMPTY) continue;
        memset(rec, 0, sizeof *rec);
        position(w, rec);
        rc = take_record(w, &h, rec, e);
        if (rc != DP_EMPTY) return rc;
    }
}

/* Order of decoding: chunked first (transfer), then content codings from the last named to the first. Declarations are checked against
 * the bytes before they are believed: crawlers often store the decoded body under the original headers. */
#include "ingest/http_message.h"

#include "ingest/format_guess.h"
#include "ingest/inflate.h"

#include <stdlib.h>
#include <strings.h>

enum { CODINGS_MAX = 3 };

void dp_http_init(struct dp_http *h, size_t body_bytes_max)
{
    memset(h, 0, sizeof *h);
    dp_buf_init(&h->chunk, body_bytes_max);
    dp_buf_init(&h->plain, body_bytes_max);
}

void dp_http_release(struct dp_http *h)
{
    dp_buf_release(&h->chunk);
    dp_buf_release(&h->plain);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct dp_span trim(struct dp_span s)
{
    while (s.len && is_space(s.ptr[0])) s = dp_span(s.ptr + 1, s.len - 1);
    while (s.len && is_space(s.ptr[s.len - 1])) s.len--;
    return s;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static void copy_lower(char *to, size_t cap, struct dp_span from)
{
    if (from.len >= cap) from.len = 0;
    for (size_t i = 0; i < from.len; i++) {
        char c = lower(from.ptr[i]);
        to[i] = c;
        if (c <= 32 || c >= 127) { /* no type or charset holds these: not worth carrying */
            to[0] = 0;
            return;
        }
    }
    to[from.len] = 0;
}

/* The next piece of a ;-separated (or ,-separated) list. */
static struct dp_span piece(struct dp_span *rest, char separator)
{
    const char *q = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    struct dp_span p = dp_span(rest->ptr, q ? (size_t)(q - rest->ptr) : rest->len);
    *rest = q ? dp_span(q + 1, rest->len - p.len - 1) : dp_span("", 0);
    return trim(p);
}

void dp_content_type(struct dp_span value, char *mime, char *charset)
{
    struct dp_span rest = trim(value);
    copy_lower(mime, DP_MIME_MAX, piece(&rest, ';'));
    charset[0] = 0;
    while (rest.len && !charset[0]) {
        struct dp_span p = piece(&rest, ';');
        if (p.len < 8 || strncasecmp(p.ptr, "charset", 7) != 0) continue;
        p = trim(dp_span(p.ptr + 7, p.len - 7));
        if (!p.len || p.ptr[0] != '=') continue;
        p = trim(dp_span(p.ptr + 1, p.len - 1));
        while (p.len && (p.ptr[0] == '"' || p.ptr[0] == '\'')) p = dp_span(p.ptr + 1, p.len - 1);
        while (p.len && (p.ptr[p.len - 1] == '"' || p.ptr[p.len - 1] == '\'')) p.len--;
        copy_lower(charset, 64, p);
    }
}

/* Take chunks apart. false when the body isn't chunked, or not to its end: then *clean says whether what was
 * decoded stands (cut short) or the body is no chunked body at all. */
static bool unchunk(struct dp_span body, struct dp_buf *out, bool *any)
{
    size_t i = 0;
    dp_buf_clear(out);
    *any = false;
    for (;;) {
        uint64_t n = 0;
        size_t digits = 0;
        for (; i < body.len && digits < 16; i++, digits++) {
            char c = lower(body.ptr[i]);
            int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
            if (v < 0) break;
            n = n << 4 | (uint64_t)v;
        }
        if (!digits) return false;
        /* blanks or an extension to the end of the line */
        while (i < body.len && (body.ptr[i] == ' ' || body.ptr[i] == '\t')) i++;
        if (i < body.len && body.ptr[i] == ';') {
            const char *nl = memchr(body.ptr + i, '\n', body.len - i);
            if (!nl) return false;
            i = (size_t)(nl - body.ptr);
        }
        if (i < body.len && body.ptr[i] == '\r') i++;
        if (i >= body.len || body.ptr[i] != '\n') return false;
        i++;
        if (n == 0) return *any = true; /* trailers don't matter */
        size_t k = n < body.len - i ? (size_t)n : body.len - i;
        dp_buf_add(out, body.ptr + i, k);
        if (out->full) return false;
        *any = true;
        if (k < n) return false;
        i += k;
        if (i < body.len && body.ptr[i] == '\r') i++;
        if (i >= body.len || body.ptr[i] != '\n') return false;
        i++;
    }
}

/* Codings in the order in which they were applied. */
struct codings {
    int n;
    struct dp_span v[CODINGS_MAX];
};

struct headers {
    bool chunked;
    struct codings content, transfer;
};

static bool field_is(struct dp_span name, const char *want)
{
    return name.len == strlen(want) && strncasecmp(name.ptr, want, name.len) == 0;
}

static void add_codings(struct dp_http *h, struct codings *to, struct dp_span list)
{
    while (list.len) {
        struct dp_span c = piece(&list, ',');
        if (!c.len || field_is(c, "identity") || field_is(c, "none") || field_is(c, "chunked")) continue;
        if (to->n < CODINGS_MAX) to->v[to->n++] = c;
        else h->unknown_coding = true;
    }
}

static void header_field(struct dp_http *h, struct headers *hd, struct dp_span line)
{
    const char *colon = memchr(line.ptr, ':', line.len);
    if (!colon) return;
    struct dp_span name = trim(dp_span(line.ptr, (size_t)(colon - line.ptr)));
    struct dp_span value = trim(dp_span(colon + 1, line.len - (size_t)(colon + 1 - line.ptr)));
    if (field_is(name, "content-type")) {
        if (!h->mime[0]) dp_content_type(value, h->mime, h->charset);
    } else if (field_is(name, "transfer-encoding")) {
        add_codings(h, &hd->transfer, value);
        while (value.len)
            if (field_is(piece(&value, ','), "chunked")) hd->chunked = true;
    } else if (field_is(name, "content-encoding")) {
        add_codings(h, &hd->content, value);
    }
}

/* Status line and fields; the offset of the body. */
static size_t head(struct dp_http *h, struct headers *hd, struct dp_span block)
{
    size_t i = 0, max = block.len < DP_HTTP_HEADER_MAX ? block.len : DP_HTTP_HEADER_MAX;
    bool first = true;
    if (block.len < 5 || strncasecmp(block.ptr, "HTTP/", 5) != 0) return 0;
    while (i < max) {
        const char *nl = memchr(block.ptr + i, '\n', block.len - i);
        while (nl && !first && nl > block.ptr + i + 1 && (size_t)(nl + 1 - block.ptr) < max && (nl[1] == ' ' || nl[1] == '\t')) /* folded */
            nl = memchr(nl + 1, '\n', block.len - (size_t)(nl + 1 - block.ptr));
        size_t end = nl ? (size_t)(nl - block.ptr) : block.len, n = end - i;
        if (n && block.ptr[i + n - 1] == '\r') n--;
        struct dp_span line = dp_span(block.ptr + i, n);
        i = nl ? end + 1 : end;
        if (!n) return i;
        if (first) {
            const char *sp = memchr(line.ptr, ' ', line.len);
            for (size_t k = sp ? (size_t)(sp - line.ptr) : n; k < n && line.ptr[k] == ' '; k++) sp = line.ptr + k;
            for (int d = 1; sp && d <= 3 && sp + d < line.ptr + n && sp[d] >= '0' && sp[d] <= '9'; d++) h->status = h->status * 10 + (sp[d] - '0');
            first = false;
        } else {
            header_field(h, hd, line);
        }
    }
    return i;
}

/* Undo one coding; the result is in `plain`, or the body stays as it is. */
static int decode(struct dp_http *h, struct dp_span coding, struct dp_err *e)
{
    enum dp_coding c;
    const unsigned char *p = (const unsigned char *)h->body.ptr;
    size_t n = h->body.len;
    if (field_is(coding, "gzip") || field_is(coding, "x-gzip")) {
        if (n < 3 || p[0] != 0x1f || p[1] != 0x8b) return DP_OK; /* stored decoded */
        c = DP_CODING_GZIP;
    } else if (field_is(coding, "deflate")) {
        c = DP_CODING_DEFLATE;
    } else if (field_is(coding, "zstd")) {
        if (n < 4 || memcmp(p, "\x28\xb5\x2f\xfd", 4) != 0) return DP_OK;
        c = DP_CODING_ZSTD;
    } else if (field_is(coding, "br")) {
        c = DP_CODING_BROTLI;
    } else if (field_is(coding, "compress") || field_is(coding, "x-compress") || field_is(coding, "dcb") || field_is(coding, "dcz")) {
        h->unknown_coding = true; /* a body stored decoded is still fine, and looks it */
        return DP_OK;
    } else {
        return DP_OK; /* "utf-8" and the like: not a coding */
    }
    struct dp_buf out = h->plain;
    bool in_plain = h->body.ptr >= h->plain.ptr && h->plain.ptr && h->body.ptr < h->plain.ptr + h->plain.cap;
    if (in_plain) { /* a second coding: swap the buffers */
        h->plain = h->chunk;
        h->chunk = out;
    }
    dp_buf_clear(&h->plain);
    int rc = dp_inflate_body(c, h->body, &h->plain, e);
    if (rc == DP_NOMEM) return rc;
    if (c == DP_CODING_BROTLI && rc != DP_OK && rc != DP_LIMIT && !dp_looks_binary(h->body)) return DP_OK; /* no magic tells: stored decoded */
    if (rc == DP_LIMIT) h->too_large = true;
    else if (rc == DP_EMPTY) h->trouble = "the compressed body ends early or is damaged";
    else if (rc == DP_CORRUPT) {
        if (c == DP_CODING_BROTLI) h->unknown_coding = true;
        if (c != DP_CODING_DEFLATE) h->trouble = "the body can't be decompressed as its Content-Encoding says";
        return DP_OK;
    }
    h->body = dp_buf_span(&h->plain);
    return DP_OK;
}

int dp_http_parse(struct dp_http *h, struct dp_span block, struct dp_err *e)
{
    struct headers hd = {0};
    h->status = 0;
    h->mime[0] = h->charset[0] = 0;
    h->trouble = NULL;
    h->unknown_coding = h->too_large = false;
    size_t at = head(h, &hd, block);
    h->body = dp_span(block.ptr + at, block.len - at);
    if (hd.chunked && h->body.len) {
        bool any = false, whole = unchunk(h->body, &h->chunk, &any);
        if (h->chunk.full && h->chunk.len + h->body.len < h->chunk.bytes_max) DP_FAIL(e, NOMEM, "an HTTP body");
        if (h->chunk.full) h->too_large = true;
        else if (any) {
            h->body = dp_buf_span(&h->chunk);
            if (!whole) h->trouble = "the chunked body ends early or is damaged";
        }
    }
    const struct codings *const undo[2] = {&hd.transfer, &hd.content};
    for (int k = 0; k < 2; k++)
        for (int i = undo[k]->n - 1; i >= 0 && !h->too_large && !h->unknown_coding && h->body.len; i--) DP_TRY(decode(h, undo[k]->v[i], e));
    return DP_OK;
}

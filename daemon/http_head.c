#include "daemon/http_head.h"

#include <stdlib.h>
#include <strings.h>

static int hex(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent-decoding into out[cap]; false for what is no text, or too long. */
static bool decode(struct dp_span s, bool plus, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        int c = (unsigned char)s.ptr[i];
        if (c == '%') {
            int a = i + 1 < s.len ? hex((unsigned char)s.ptr[i + 1]) : -1, b = i + 2 < s.len ? hex((unsigned char)s.ptr[i + 2]) : -1;
            if (a < 0 || b < 0) return false;
            c = a * 16 + b;
            i += 2;
        } else if (plus && c == '+') c = ' ';
        if (c < 0x20 || c == 0x7f || n + 1 >= cap) return false;
        out[n++] = (char)c;
    }
    out[n] = 0;
    return true;
}

static struct dp_span until(struct dp_span *s, char c)
{
    const char *p = memchr(s->ptr, c, s->len);
    size_t n = p ? (size_t)(p - s->ptr) : s->len;
    struct dp_span piece = dp_span(s->ptr, n);
    n += p != NULL;
    *s = dp_span(s->ptr + n, s->len - n);
    return piece;
}

static int target(struct dp_http_head *h, struct dp_span t)
{
    if (!t.len || t.ptr[0] != '/') return 400; /* no proxying: absolute targets are refused too */
    struct dp_span query = t, path = until(&query, '?');
    if (path.len >= sizeof h->path) return 414;
    if (!decode(path, false, h->path, sizeof h->path)) return 400;
    while (query.len) {
        struct dp_span value = until(&query, '&');
        if (!value.len) continue;
        struct dp_span name = until(&value, '=');
        if (h->params == DP_HTTP_PARAMS) return 400;
        if (!decode(name, true, h->param[h->params].name, sizeof h->param[0].name)) return 400;
        if (!decode(value, true, h->param[h->params].value, sizeof h->param[0].value)) return 400;
        h->params++;
    }
    return 0;
}

static int request_line(struct dp_http_head *h, struct dp_span line)
{
    struct dp_span rest = line, method = until(&rest, ' '), t = until(&rest, ' ');
    if (!method.len || method.len > 16) return 400;
    for (size_t i = 0; i < method.len; i++)
        if (method.ptr[i] < 'A' || method.ptr[i] > 'Z') return 400;
    h->method = dp_span_is(method, "GET") ? DP_HTTP_GET : dp_span_is(method, "HEAD") ? DP_HTTP_HEAD : dp_span_is(method, "POST") ? DP_HTTP_POST : DP_HTTP_OTHER;
    if (rest.len != 8 || memcmp(rest.ptr, "HTTP/", 5) != 0 || rest.ptr[6] != '.') return 400;
    if (rest.ptr[5] != '1' || (rest.ptr[7] != '0' && rest.ptr[7] != '1')) return 505;
    h->minor = rest.ptr[7] - '0';
    h->keep_alive = h->minor == 1;
    return target(h, t);
}

static bool token_char(unsigned char c)
{
    return c > 0x20 && c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", c);
}

static bool name_is(struct dp_span a, const char *s)
{
    return a.len == strlen(s) && strncasecmp(a.ptr, s, a.len) == 0;
}

static int keep_once(char *out, size_t cap, struct dp_span v)
{
    if (*out) return 400;
    if (v.len >= cap) return 431;
    memcpy(out, v.ptr, v.len);
    out[v.len] = 0;
    return 0;
}

/* A field that may come in several lines is one list (RFC 9110, 5.2); what doesn't fit is left out. */
static void add_to_list(char *out, size_t cap, struct dp_span v)
{
    size_t n = strlen(out), comma = n ? 2 : 0;
    if (v.len + comma >= cap - n) return;
    memcpy(out + n, ", ", comma);
    memcpy(out + n + comma, v.ptr, v.len);
    out[n + comma + v.len] = 0;
}

static bool has_word(struct dp_span list, const char *word)
{
    while (list.len) {
        struct dp_span w = until(&list, ',');
        while (w.len && (*w.ptr == ' ' || *w.ptr == '\t')) w = dp_span(w.ptr + 1, w.len - 1);
        while (w.len && (w.ptr[w.len - 1] == ' ' || w.ptr[w.len - 1] == '\t')) w.len--;
        if (name_is(w, word)) return true;
    }
    return false;
}

static int body_length(struct dp_http_head *h, struct dp_span v, bool *seen)
{
    if (*seen || !v.len || v.len > 15) return 400;
    *seen = true;
    for (size_t i = 0; i < v.len; i++) {
        if (v.ptr[i] < '0' || v.ptr[i] > '9') return 400;
        h->body_bytes = h->body_bytes * 10 + (uint64_t)(v.ptr[i] - '0');
    }
    return 0;
}

static int field(struct dp_http_head *h, struct dp_span line, bool *length_seen)
{
    struct dp_span v = line, name = until(&v, ':');
    if (!name.len || name.len == line.len) return 400;
    for (size_t i = 0; i < name.len; i++)
        if (!token_char((unsigned char)name.ptr[i])) return 400; /* a folded line begins with a blank and ends here */
    while (v.len && (*v.ptr == ' ' || *v.ptr == '\t')) v = dp_span(v.ptr + 1, v.len - 1);
    while (v.len && (v.ptr[v.len - 1] == ' ' || v.ptr[v.len - 1] == '\t')) v.len--;
    for (size_t i = 0; i < v.len; i++)
        if (((unsigned char)v.ptr[i] < 0x20 && v.ptr[i] != '\t') || v.ptr[i] == 0x7f) return 400;
    if (name_is(name, "host")) return keep_once(h->host, sizeof h->host, v);
    if (name_is(name, "authorization")) return keep_once(h->authorization, sizeof h->authorization, v);
    if (name_is(name, "accept")) add_to_list(h->accept, sizeof h->accept, v);
    else if (name_is(name, "if-none-match")) add_to_list(h->if_none_match, sizeof h->if_none_match, v);
    else if (name_is(name, "origin")) return keep_once(h->origin, sizeof h->origin, v);
    else if (name_is(name, "sec-fetch-site")) return keep_once(h->fetch_site, sizeof h->fetch_site, v);
    else if (name_is(name, "last-event-id")) return keep_once(h->last_event, sizeof h->last_event, v);
    else if (name_is(name, "x-dpipe-action")) h->action = true;
    if (name_is(name, "content-length")) return body_length(h, v, length_seen);
    if (name_is(name, "transfer-encoding")) return 501;
    if (name_is(name, "connection")) {
        if (has_word(v, "close")) h->keep_alive = false;
        else if (has_word(v, "keep-alive")) h->keep_alive = true;
    }
    return 0;
}

int dp_http_head_parse(struct dp_http_head *h, struct dp_span head)
{
    bool first = true, length_seen = false;
    memset(h, 0, sizeof *h);
    if (head.len > DP_HTTP_HEAD_MAX) return 431;
    if (!head.len || head.ptr[head.len - 1] != '\n') return 400;
    while (head.len) {
        struct dp_span line = until(&head, '\n');
        if (!line.len || line.ptr[line.len - 1] != '\r') return 400;
        line.len--;
        if (memchr(line.ptr, '\r', line.len) || memchr(line.ptr, 0, line.len)) return 400;
        if (!line.len) return first || head.len ? 400 : h->minor == 1 && !h->host[0] ? 400 : 0;
        int status = first ? request_line(h, line) : field(h, line, &length_seen);
        if (status) return status;
        first = false;
    }
    return 400; /* no empty line at the end */
}

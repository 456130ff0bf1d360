/* The tree is jansson: correct, kept, 107 MB/s, and every file dpipe parses whole is small. What a JSONL line goes
 * through (dp_json_fields) and what is written (dp_jsonw) is here, because documents pass them by the gigabyte. */
#include "base/json.h"

#include "base/cpu.h"
#include "base/fs.h"
#include "base/json_plain.h"

#include <jansson.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- tree: struct dp_json is a json_t by another name --- */

static json_t *node(const struct dp_json *v)
{
    return (json_t *)(uintptr_t)v;
}

int dp_json_parse(struct dp_json **out, struct dp_span text, const char *name, struct dp_err *e)
{
    json_error_t je;
    *out = NULL;
    /* jansson takes a NUL behind a number or a word for the end of its look-ahead, and passes over it. */
    const char *nul = text.len ? memchr(text.ptr, 0, text.len) : NULL;
    if (nul) DP_FAIL(e, CORRUPT, "%s: byte %zu is NUL, which JSON can't hold: a damaged file, or UTF-16", name, (size_t)(nul - text.ptr));
    json_t *v = json_loadb(text.len ? text.ptr : "", text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    if (!v) {
        if (json_error_code(&je) == json_error_out_of_memory) DP_FAIL(e, NOMEM, "%s: JSON of %zu bytes", name, text.len);
        DP_FAIL(e, CORRUPT, "%s:%d:%d: not JSON: %s", name, je.line, je.column, je.text);
    }
    *out = (struct dp_json *)v;
    return DP_OK;
}

int dp_json_parse_file(struct dp_json **out, const char *path, size_t bytes_max, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, bytes_max);
    *out = NULL;
    int rc = dp_fs_read(path, &b, e);
    if (rc >= 0) rc = dp_json_parse(out, dp_buf_span(&b), path, e);
    dp_buf_release(&b);
    return rc;
}

void dp_json_free(struct dp_json *root)
{
    json_decref(node(root));
}

enum dp_json_kind dp_json_kind(const struct dp_json *v)
{
    if (!v) return DP_JSON_NULL;
    switch (json_typeof(node(v))) {
    case JSON_OBJECT: return DP_JSON_OBJECT;
    case JSON_ARRAY: return DP_JSON_ARRAY;
    case JSON_STRING: return DP_JSON_STRING;
    case JSON_INTEGER: return DP_JSON_INT;
    case JSON_REAL: return DP_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return DP_JSON_BOOL;
    default: return DP_JSON_NULL;
    }
}

struct dp_json *dp_json_get(const struct dp_json *v, const char *key)
{
    return v ? (struct dp_json *)json_object_get(node(v), key) : NULL;
}

size_t dp_json_count(const struct dp_json *v)
{
    if (!v) return 0;
    return json_is_array(node(v)) ? json_array_size(node(v)) : json_object_size(node(v));
}

struct dp_json *dp_json_at(const struct dp_json *v, size_t i)
{
    return v ? (struct dp_json *)json_array_get(node(v), i) : NULL;
}

void *dp_json_next(const struct dp_json *object, void *it, const char **key, struct dp_json **value)
{
    if (!object) return NULL;
    it = it ? json_object_iter_next(node(object), it) : json_object_iter(node(object));
    if (it) {
        *key = json_object_iter_key(it);
        *value = (struct dp_json *)json_object_iter_value(it);
    }
    return it;
}

struct dp_span dp_json_str(const struct dp_json *v)
{
    if (!v || !json_is_string(node(v))) return dp_span(NULL, 0);
    return dp_span(json_string_value(node(v)), json_string_length(node(v)));
}

int64_t dp_json_int(const struct dp_json *v, int64_t otherwise)
{
    return v && json_is_integer(node(v)) ? (int64_t)json_integer_value(node(v)) : otherwise;
}

double dp_json_real(const struct dp_json *v, double otherwise)
{
    return v && json_is_number(node(v)) ? json_number_value(node(v)) : otherwise;
}

bool dp_json_bool(const struct dp_json *v, bool otherwise)
{
    return v && json_is_boolean(node(v)) ? json_is_true(node(v)) : otherwise;
}

/* --- writer --- */

/* Length of the valid UTF-8 sequence at p (Unicode 16, table 3-7), or 0. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2) return 0;
    if (p[0] < 0xe0) return n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (p[0] < 0xf0) {
        if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return 0;
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0;
        return 3;
    }
    if (p[0] > 0xf4 || n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return 4;
}

void dp_json_escape(struct dp_buf *buf, struct dp_span s)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *p = (const unsigned char *)s.ptr, *end = p + s.len, *from = p;
    while (p < end) {
        if (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\') {
            p++;
            /* And on, eight bytes at a time: none of them below 0x20, above 0x7e, a quote or a backslash. */
            for (uint64_t v; end - p >= 8; p += 8) {
                memcpy(&v, p, 8);
                const uint64_t ones = UINT64_C(0x0101010101010101);
                uint64_t q = v ^ ones * '"', b = v ^ ones * '\\';
                if ((v | (v + ones) | (v - ones * 0x20) | (q - ones) | (b - ones)) & ones * 0x80) break;
            }
            continue;
        }
        size_t n = *p >= 0x80 ? utf8_len(p, (size_t)(end - p)) : 0;
        if (n) {
            p += n;
            continue;
        }
        dp_buf_add(buf, from, (size_t)(p - from));
        char u[6] = {'\\', 0};
        size_t len = 2;
        switch (*p) {
        case '"': u[1] = '"'; break;
        case '\\': u[1] = '\\'; break;
        case '\n': u[1] = 'n'; break;
        case '\r': u[1] = 'r'; break;
        case '\t': u[1] = 't'; break;
        case '\b': u[1] = 'b'; break;
        case '\f': u[1] = 'f'; break;
        default:
            len = *p < 0x80 ? 6 : 3;
            if (*p < 0x80) memcpy(u, (char[6]){'\\', 'u', '0', '0', hex[*p >> 4], hex[*p & 15]}, 6);
            else memcpy(u, "\xef\xbf\xbd", 3);
        }
        dp_buf_add(buf, u, len);
        from = ++p;
    }
    if (p > from) dp_buf_add(buf, from, (size_t)(p - from));
}

void dp_jsonw_init(struct dp_jsonw *w, struct dp_buf *buf, int indent)
{
    *w = (struct dp_jsonw){.buf = buf, .indent = indent};
}

static void newline(struct dp_jsonw *w)
{
    if (!w->indent) return;
    dp_buf_add_char(w->buf, '\n');
    for (int i = 0; i < w->depth * w->indent; i++) dp_buf_add_char(w->buf, ' ');
}

/* What stands before a value or a key: a comma and a new line; nothing between a key and its value. */
static void before(struct dp_jsonw *w)
{
    if (!w->after_key) {
        if (w->comma) dp_buf_add_char(w->buf, ',');
        if (w->depth > 0) newline(w);
    }
    w->after_key = false;
    w->comma = true;
}

void dp_jsonw_begin(struct dp_jsonw *w, char open)
{
    before(w);
    dp_buf_add_char(w->buf, open);
    w->depth++;
    w->comma = false;
}

void dp_jsonw_end(struct dp_jsonw *w, char close)
{
    w->depth--;
    if (w->comma) newline(w);
    dp_buf_add_char(w->buf, close);
    w->comma = true;
}

void dp_jsonw_key_span(struct dp_jsonw *w, struct dp_span key)
{
    before(w);
    dp_buf_add_char(w->buf, '"');
    dp_json_escape(w->buf, key);
    dp_buf_add_str(w->buf, w->indent ? "\": " : "\":");
    w->after_key = true;
}

void dp_jsonw_key(struct dp_jsonw *w, const char *key)
{
    dp_jsonw_key_span(w, dp_span_str(key));
}

void dp_jsonw_str(struct dp_jsonw *w, struct dp_span s)
{
    before(w);
    dp_buf_add_char(w->buf, '"');
    dp_json_escape(w->buf, s);
    dp_buf_add_char(w->buf, '"');
}

void dp_jsonw_cstr(struct dp_jsonw *w, const char *s)
{
    if (s) dp_jsonw_str(w, dp_span_str(s));
    else dp_jsonw_null(w);
}

void dp_jsonw_int(struct dp_jsonw *w, int64_t v)
{
    before(w);
    if (v < 0) dp_buf_add_char(w->buf, '-');
    dp_buf_add_uint(w->buf, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

void dp_jsonw_uint(struct dp_jsonw *w, uint64_t v)
{
    before(w);
    dp_buf_add_uint(w->buf, v);
}

void dp_jsonw_real(struct dp_jsonw *w, double v)
{
    if (!isfinite(v)) {
        dp_jsonw_null(w);
        return;
    }
    char t[40];
    for (int digits = 6; digits <= 17; digits++) { /* 17 always read back equal */
        snprintf(t, sizeof t, "%.*g", digits, v);
        if (strtod(t, NULL) == v) break;
    }
    before(w);
    dp_buf_add_str(w->buf, t);
}

void dp_jsonw_bool(struct dp_jsonw *w, bool v)
{
    before(w);
    dp_buf_add_str(w->buf, v ? "true" : "false");
}

void dp_jsonw_null(struct dp_jsonw *w)
{
    before(w);
    dp_buf_add_str(w->buf, "null");
}

void dp_jsonw_raw(struct dp_jsonw *w, struct dp_span json)
{
    before(w);
    dp_buf_add_span(w->buf, json);
}

void dp_jsonw_copy(struct dp_jsonw *w, const struct dp_json *v)
{
    const char *key;
    struct dp_json *member;
    switch (v ? dp_json_kind(v) : DP_JSON_NULL) {
    case DP_JSON_NULL: dp_jsonw_null(w); break;
    case DP_JSON_BOOL: dp_jsonw_bool(w, dp_json_bool(v, false)); break;
    case DP_JSON_INT: dp_jsonw_int(w, dp_json_int(v, 0)); break;
    case DP_JSON_REAL: dp_jsonw_real(w, dp_json_real(v, 0)); break;
    case DP_JSON_STRING: dp_jsonw_str(w, dp_json_str(v)); break;
    case DP_JSON_ARRAY:
        dp_jsonw_begin(w, '[');
        for (size_t i = 0; i < dp_json_count(v); i++) dp_jsonw_copy(w, dp_json_at(v, i));
        dp_jsonw_end(w, ']');
        break;
    case DP_JSON_OBJECT:
        dp_jsonw_begin(w, '{');
        for (void *it = NULL; (it = dp_json_next(v, it, &key, &member));) {
            dp_jsonw_key(w, key);
            dp_jsonw_copy(w, member);
        }
        dp_jsonw_end(w, '}');
        break;
    }
}

/* --- fields of a line --- */

struct scan {
    const char *start, *p, *end;
    struct dp_err *e;
};

static int bad(struct scan *s, const char *what)
{
    DP_FAIL(s->e, CORRUPT, "not JSON: %s at byte %zu of the line", what, (size_t)(s->p - s->start));
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) s->p++;
}

size_t dp_json_plain_scalar(const char *p, size_t n)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    size_t i = 0;
    for (uint64_t v; i + 8 <= n; i += 8) {
        memcpy(&v, p + i, 8);
        uint64_t q = v ^ ones * '"', b = v ^ ones * '\\', hit = (((q - ones) & ~q) | ((b - ones) & ~b) | ((v - ones * 0x20) & ~v)) & high;
        if (hit) return i + (size_t)__builtin_ctzll(hit) / 8; /* the lowest is exact: only those above it may be borrowed */
    }
    return i;
}

/* At an opening quote: *inside gets what stands between the quotes, *escapes whether it has backslashes. */
static int skip_string(struct scan *s, struct dp_span *inside, bool *escapes)
{
    const char *from = ++s->p;
    *escapes = false;
    for (;;) {
        size_t left = (size_t)(s->end - s->p);
        s->p += left >= 32 && dp_cpu() >= DP_CPU_AVX2 ? dp_json_plain_avx2(s->p, left) : dp_json_plain_scalar(s->p, left);
        if (s->p == s->end) return bad(s, "the string has no end");
        unsigned char c = (unsigned char)*s->p;
        if (c == '"') break;
        if (c < 0x20) return bad(s, "a control character in a string");
        if (c == '\\') {
            *escapes = true;
            if (++s->p == s->end) return bad(s, "the string has no end");
            if (*s->p == 'u') {
                for (int i = 1; i <= 4; i++) {
                    char h = s->end - s->p > i ? s->p[i] : 0;
                    if (!((h >= '0' && h <= '9') || (h >= 'a' && h <= 'f') || (h >= 'A' && h <= 'F'))) return bad(s, "\\u without four hex digits");
                }
                s->p += 4;
            } else if (!memchr("\"\\/bfnrt", *s->p, 8)) return bad(s, "an unknown escape");
        }
        s->p++;
    }
    *inside = dp_span(from, (size_t)(s->p - from));
    s->p++;
    return DP_OK;
}

static int skip_literal(struct scan *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3 && s->p < s->end && *s->p >= 'a'; i++) { /* most are numbers */
        size_t n = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= n && memcmp(s->p, words[i], n) == 0) {
            s->p += n;
            return DP_OK;
        }
    }
    const char *from = s->p;
    if (s->p < s->end && *s->p == '-') s->p++;
    const char *digits = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
    if (s->p == digits || (*digits == '0' && s->p - digits > 1)) {
        s->p = from;
        return bad(s, "no value");
    }
    if (s->p < s->end && *s->p == '.') {
        const char *frac = ++s->p;
        while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
        if (s->p == frac) return bad(s, "no digit after the point");
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-')) s->p++;
        const char *exp = s->p;
        while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
        if (s->p == exp) return bad(s, "no digit in the exponent");
    }
    return DP_OK;
}

/* Any value. Nesting is tracked in a bit stack, so that no input can exhaust the machine's stack. */
static int skip_value(struct scan *s)
{
    enum { DEPTH = 512 };
    uint64_t is_object[DEPTH / 64 + 1] = {0};
    int depth = 0;
    struct dp_span str;
    bool esc, want_value = true;
    do {
        skip_space(s);
        if (s->p == s->end) return bad(s, "the line ends inside a value");
        char c = *s->p;
        bool object = depth && (is_object[depth >> 6] >> (depth & 63) & 1);
        if (want_value) {
            if (c == '{' || c == '[') {
                if (++depth > DEPTH) return bad(s, "nested too deep");
                if (c == '{') is_object[depth >> 6] |= UINT64_C(1) << (depth & 63);
                else is_object[depth >> 6] &= ~(UINT64_C(1) << (depth & 63));
                s->p++;
                skip_space(s);
                if (s->p < s->end && *s->p == (c == '{' ? '}' : ']')) {
                    s->p++;
                    depth--;
                    want_value = false;
                    continue;
                }
                if (c == '[') continue;
            } else {
                if (c == '"') DP_TRY(skip_string(s, &str, &esc));
                else DP_TRY(skip_literal(s));
                want_value = false;
                continue;
            }
        } else {
            if (c == (object ? '}' : ']')) {
                s->p++;
                depth--;
                continue;
            }
            if (c != ',') return bad(s, "neither a comma nor the end of the container");
            s->p++;
            want_value = true;
            if (!object) continue;
        }
        /* In an object a key and a colon stand before the value. */
        skip_space(s);
        if (s->p == s->end || *s->p != '"') return bad(s, "no key");
        DP_TRY(skip_string(s, &str, &esc));
        skip_space(s);
        if (s->p == s->end || *s->p != ':') return bad(s, "no colon after the key");
        s->p++;
    } while (depth || want_value);
    return DP_OK;
}

static unsigned hex4(const char *p)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        v = v << 4 | (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return v;
}

/* Escapes only shorten: \uXXXX is six bytes for at most three, a pair twelve for four. */
static int unescape(struct dp_span in, struct dp_span *out, struct dp_arena *mem, struct dp_err *e)
{
    char *to = dp_arena_alloc(mem, in.len + 1), *start = to;
    if (!to) DP_FAIL(e, LIMIT, "a string of %zu bytes doesn't fit the batch", in.len);
    const char *p = in.ptr, *end = p + in.len;
    while (p < end) {
        const char *b = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((b ? b : end) - p);
        memcpy(to, p, n);
        to += n;
        p += n;
        if (p == end) break;
        p += 2;
        switch (p[-1]) {
        case 'b': *to++ = '\b'; continue;
        case 'f': *to++ = '\f'; continue;
        case 'n': *to++ = '\n'; continue;
        case 'r': *to++ = '\r'; continue;
        case 't': *to++ = '\t'; continue;
        case 'u': break;
        default: *to++ = p[-1]; continue;
        }
        unsigned c = hex4(p);
        p += 4;
        if (c >= 0xd800 && c < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
            unsigned low = hex4(p + 2);
            if (low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                p += 6;
            }
        }
        if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
        if (c < 0x80) *to++ = (char)c;
        else if (c < 0x800) {
            *to++ = (char)(0xc0 | c >> 6);
            *to++ = (char)(0x80 | (c & 63));
        } else if (c < 0x10000) {
            *to++ = (char)(0xe0 | c >> 12);
            *to++ = (char)(0x80 | (c >> 6 & 63));
            *to++ = (char)(0x80 | (c & 63));
        } else {
            *to++ = (char)(0xf0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 63));
            *to++ = (char)(0x80 | (c >> 6 & 63));
            *to++ = (char)(0x80 | (c & 63));
        }
    }
    *to = 0;
    *out = dp_span(start, (size_t)(to - start));
    return DP_OK;
}

int dp_json_fields(struct dp_span line, struct dp_json_field *f, size_t n, struct dp_arena *mem, struct dp_err *e)
{
    struct scan s = {line.ptr, line.ptr, line.ptr + line.len, e};
    for (size_t i = 0; i < n; i++) f[i].raw = f[i].str = dp_span(NULL, 0);
    skip_space(&s);
    if (s.p == s.end || *s.p != '{') return bad(&s, "no object");
    s.p++;
    skip_space(&s);
    if (s.p < s.end && *s.p == '}') s.p++;
    else
        for (;;) {
            struct dp_span key, str;
            bool esc;
            skip_space(&s);
            if (s.p == s.end || *s.p != '"') return bad(&s, "no key");
            DP_TRY(skip_string(&s, &key, &esc));
            if (esc) DP_TRY(unescape(key, &key, mem, e));
            skip_space(&s);
            if (s.p == s.end || *s.p != ':') return bad(&s, "no colon after the key");
            s.p++;
            skip_space(&s);
            const char *from = s.p;
            bool is_string = s.p < s.end && *s.p == '"';
            if (is_string) DP_TRY(skip_string(&s, &str, &esc));
            else DP_TRY(skip_value(&s));
            for (size_t i = 0; i < n; i++) {
                if (!dp_span_is(key, f[i].key)) continue;
                f[i].raw = dp_span(from, (size_t)(s.p - from));
                f[i].str = dp_span(NULL, 0);
                if (is_string && esc) DP_TRY(unescape(str, &f[i].str, mem, e));
                else if (is_string) f[i].str = str;
                break;
            }
            skip_space(&s);
            if (s.p == s.end) return bad(&s, "the line ends inside the object");
            if (*s.p == '}') {
                s.p++;
                break;
            }
            if (*s.p != ',') return bad(&s, "neither a comma nor the end of the object");
            s.p++;
        }
    skip_space(&s);
    if (s.p != s.end) return bad(&s, "more after the object");
    return DP_OK;
}

/* clean/html_refs.c - a name is looked up by narrowing a range of the sorted table, byte by byte, which finds the longest match on the way. */
#include "clean/html_refs.h"

#include "base/utf8.h"

/* Entries [lo, hi) that have `c` at place `at`. */
static void narrow(unsigned *lo, unsigned *hi, size_t at, char c)
{
    unsigned a = *lo, b = *hi;
    while (a < b) {
        unsigned m = (a + b) / 2;
        if ((unsigned char)dp_html_ref[m].name[at] < (unsigned char)c) a = m + 1;
        else b = m;
    }
    *lo = a;
    for (b = *hi; a < b;) {
        unsigned m = (a + b) / 2;
        if ((unsigned char)dp_html_ref[m].name[at] <= (unsigned char)c) a = m + 1;
        else b = m;
    }
    *hi = a;
}

/* The longest reference that begins at p (behind "&"); its length, or 0. */
static size_t longest(const char *p, const char *e, const struct dp_html_ref **ref)
{
    unsigned lo = 0, hi = DP_HTML_REFS;
    size_t best = 0;
    for (size_t at = 0; p + at < e && at < sizeof dp_html_ref->name - 1 && p[at]; at++) {
        narrow(&lo, &hi, at, p[at]);
        if (lo == hi) break;
        /* The shortest name of the range comes first. */
        if (!dp_html_ref[lo].name[at + 1]) *ref = &dp_html_ref[lo], best = at + 1;
    }
    return best;
}

static bool alnum(char c)
{
    return (unsigned char)((c | 32) - 'a') < 26 || (unsigned char)(c - '0') < 10;
}

static char *put(char *o, const char *s)
{
    while (*s) *o++ = *s++;
    return o;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (unsigned char)((c | 32) - 'a') < 6 ? (c | 32) - 'a' + 10 : -1;
}

/* p behind "&#". Returns what follows, or NULL when no digit does. */
static const char *numeric(const char *p, const char *e, char **o)
{
    /* What windows-1252 has at 80-9F. */
    static const uint16_t high[32] = {0x20AC, 0x81, 0x201A, 0x192, 0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0x8D, 0x17D, 0x8F,
                                      0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0x9D, 0x17E, 0x178};
    bool hex = p < e && (*p | 32) == 'x';
    const char *from = p += hex;
    uint32_t c = 0;
    for (int d; p < e && (d = hex_digit(*p)) >= 0 && (hex || d < 10); p++) {
        c = c * (hex ? 16 : 10) + (uint32_t)d;
        if (c > 0x10FFFF) c = 0x110000;
    }
    if (p == from) return NULL;
    if (p < e && *p == ';') p++;
    if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
    if (c >= 0x80 && c <= 0x9F) c = high[c - 0x80];
    *o += dp_utf8_put(c, *o);
    return p;
}

/* p at "&". Returns what follows; when nothing fits, the "&" alone is written. */
static const char *reference(const char *p, const char *e, bool attribute, char **o)
{
    const char *q = p + 1;
    if (q < e && *q == '#') {
        const char *after = numeric(q + 1, e, o);
        if (after) return after;
    } else if (q < e && alnum(*q)) {
        const struct dp_html_ref *ref = NULL;
        size_t n = longest(q, e, &ref);
        bool as_text = attribute && n && q[n - 1] != ';' && q + n < e && (q[n] == '=' || alnum(q[n]));
        if (n && !as_text) {
            *o = put(*o, ref->utf8);
            return q + n;
        }
    }
    *(*o)++ = '&';
    return q;
}

size_t dp_html_decode(struct dp_span raw, unsigned how, char *out)
{
    char *o = out;
    for (const char *p = raw.ptr, *e = p + raw.len; p < e;) {
        char c = *p;
        if (c == '&' && how & DP_HTML_DECODE_REFS) {
            p = reference(p, e, how & DP_HTML_DECODE_ATTRIBUTE, &o);
            continue;
        }
        p++;
        if (c == '\r' && how & DP_HTML_DECODE_LINES) {
            *o++ = '\n';
            if (p < e && *p == '\n') p++;
        } else if (c == 0 && how & DP_HTML_DECODE_NUL) o = put(o, "\xEF\xBF\xBD");
        else *o++ = how & DP_HTML_DECODE_LOWER && c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
    }
    return (size_t)(o - out);
}

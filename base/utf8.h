/* base/utf8.h - validate, repair and walk UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF).
 *
 * The scalar validator is the specification; AVX2 gives the same answers. Pure; any thread. */
#ifndef DP_BASE_UTF8_H
#define DP_BASE_UTF8_H

#include "base/buf.h"
#include "base/span.h"

#include <stdint.h>

/* Length of the longest valid prefix of p[0..n); n when all of it is valid. A sequence cut by the end is invalid. */
size_t dp_utf8_valid_len(const char *p, size_t n);
size_t dp_utf8_valid_len_scalar(const char *p, size_t n);
size_t dp_utf8_valid_len_avx2(const char *p, size_t n);
/* Length of the leading run of bytes below 0x80. */
size_t dp_utf8_ascii_len(const char *p, size_t n);
size_t dp_utf8_ascii_len_scalar(const char *p, size_t n);
size_t dp_utf8_ascii_len_avx2(const char *p, size_t n);
/* What is in valid UTF-8: characters, and among them control characters that text doesn't have (C0 but \b \t \n \f \r and ESC). */
struct dp_utf8_census {
    size_t chars, controls;
};
struct dp_utf8_census dp_utf8_census(const char *p, size_t n);
struct dp_utf8_census dp_utf8_census_scalar(const char *p, size_t n);
struct dp_utf8_census dp_utf8_census_avx2(const char *p, size_t n);
static inline bool dp_utf8_valid(struct dp_span s)
{
    return dp_utf8_valid_len(s.ptr, s.len) == s.len;
}
/* Append s with every maximal invalid subpart (Unicode 3.9, table 3-8; WHATWG the same) replaced by U+FFFD;
 * returns the number of replacements. */
size_t dp_utf8_repair(struct dp_span s, struct dp_buf *out);
/* *out is `text` where it is valid, else the repaired text in `buf` (emptied before): what Python's bytes.decode("utf-8", errors="replace") gives.
 * DP_LIMIT: longer than the buffer may be. */
int dp_utf8_replace(struct dp_span text, struct dp_buf *buf, struct dp_span *out, struct dp_err *e);
/* Bytes that the sequence of a lead byte has in valid UTF-8. */
static inline unsigned dp_utf8_size(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}
/* The character at *p of valid UTF-8; moves *p past it. */
static inline uint32_t dp_utf8_next(const char **p)
{
    const unsigned char *s = (const unsigned char *)*p;
    if (s[0] < 0x80) return *p += 1, s[0];
    if (s[0] < 0xE0) return *p += 2, (s[0] & 31u) << 6 | (s[1] & 63u);
    if (s[0] < 0xF0) return *p += 3, (s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u);
    return *p += 4, (s[0] & 7u) << 18 | (s[1] & 63u) << 12 | (s[2] & 63u) << 6 | (s[3] & 63u);
}
/* The character that ends at *p (there must be one); moves *p to its start. */
static inline uint32_t dp_utf8_prev(const char **p)
{
    const char *s = *p - 1;
    while (((unsigned char)*s & 0xC0) == 0x80) s--;
    *p = s;
    return dp_utf8_next(&s);
}
/* Characters of valid UTF-8: bytes less those that continue a sequence, eight at once. */
static inline size_t dp_utf8_count(const char *p, size_t n)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t k = n, i = 0;
    for (uint64_t w; i + 8 <= n; i += 8) {
        memcpy(&w, p + i, 8);
        if (w & ones << 7) k -= (w >> 7 & ~w >> 6 & ones) * ones >> 56;
    }
    for (; i < n; i++) k -= ((unsigned char)p[i] & 0xC0) == 0x80;
    return k;
}
/* Write cp (a scalar value) to out; returns 1..4. */
static inline unsigned dp_utf8_put(uint32_t cp, char *out)
{
    if (cp < 0x80) return out[0] = (char)cp, 1;
    if (cp < 0x800) return out[0] = (char)(0xC0 | cp >> 6), out[1] = (char)(0x80 | (cp & 63)), 2;
    if (cp < 0x10000)
        return out[0] = (char)(0xE0 | cp >> 12), out[1] = (char)(0x80 | (cp >> 6 & 63)), out[2] = (char)(0x80 | (cp & 63)), 3;
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 63));
    out[2] = (char)(0x80 | (cp >> 6 & 63));
    out[3] = (char)(0x80 | (cp & 63));
    return 4;
}

#endif

#include "base/base64.h"

#include <stdint.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
enum { NO_DIGIT = 0x80 };

static const uint8_t value_of[256] = {
    [0 ... '+' - 1] = NO_DIGIT, ['+'] = 62, ['+' + 1 ... '/' - 1] = NO_DIGIT, ['/'] = 63,
    ['0'] = 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, ['9' + 1 ... 'A' - 1] = NO_DIGIT,
    ['A'] = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, ['Z' + 1 ... 'a' - 1] = NO_DIGIT,
    ['a'] = 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, ['z' + 1 ... 255] = NO_DIGIT,
};

static int bad_digit(struct dp_span in, struct dp_err *e)
{
    size_t i = 0;
    while (i < in.len && value_of[(uint8_t)in.ptr[i]] < 64) i++;
    if (i == in.len) DP_FAIL(e, CORRUPT, "base64 of %zu digits: one is missing or too many", in.len);
    DP_FAIL(e, CORRUPT, "byte %zu is no base64", i);
}

int dp_base64_decode(struct dp_span in, char *to, size_t *n, struct dp_err *e)
{
    const char *start = to;
    if (in.len && in.len % 4 == 0 && in.ptr[in.len - 1] == '=') in.len -= in.ptr[in.len - 2] == '=' ? 2 : 1;
    const uint8_t *p = (const uint8_t *)in.ptr, *end = p + in.len;
    unsigned wrong = 0;
    for (; end - p >= 4; p += 4, to += 3) {
        unsigned a = value_of[p[0]], b = value_of[p[1]], c = value_of[p[2]], d = value_of[p[3]], v = a << 18 | b << 12 | c << 6 | d;
        wrong |= a | b | c | d;
        to[0] = (char)(v >> 16);
        to[1] = (char)(v >> 8);
        to[2] = (char)v;
    }
    if (end - p > 1) {
        unsigned a = value_of[p[0]], b = value_of[p[1]], c = end - p > 2 ? value_of[p[2]] : 0, v = a << 18 | b << 12 | c << 6;
        wrong |= a | b | c;
        *to++ = (char)(v >> 16);
        if (end - p > 2) *to++ = (char)(v >> 8);
    }
    if ((wrong & NO_DIGIT) || end - p == 1) return bad_digit(in, e);
    *n = (size_t)(to - start);
    return DP_OK;
}

void dp_base64_encode(struct dp_buf *out, struct dp_span bytes)
{
    size_t n = (bytes.len + 2) / 3 * 4;
    char *to = dp_buf_reserve(out, n);
    if (!to) return;
    const uint8_t *p = (const uint8_t *)bytes.ptr, *end = p + bytes.len;
    for (; p < end; p += 3, to += 4) {
        size_t left = (size_t)(end - p);
        unsigned v = (unsigned)p[0] << 16 | (left > 1 ? (unsigned)p[1] << 8 : 0) | (left > 2 ? p[2] : 0);
        to[0] = digits[v >> 18];
        to[1] = digits[v >> 12 & 63];
        to[2] = left > 1 ? digits[v >> 6 & 63] : '=';
        to[3] = left > 2 ? digits[v & 63] : '=';
        if (left < 3) break;
    }
    out->len += n;
    out->ptr[out->len] = 0;
}

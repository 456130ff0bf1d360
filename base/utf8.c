/* base/utf8.c - the scalar validator and repair, and the choice of kernel.
 *
 * One sequence at a time, after skipping ASCII by words of eight bytes: documents are mostly ASCII or mostly not, and
 * both are predictable. Agrees with RFC 3629 section 4; tests/check/check_utf8 style comparisons are in tests/unit/test_utf8.c. */
#include "base/utf8.h"

#include "base/cpu.h"

size_t dp_utf8_ascii_len_scalar(const char *p, size_t n)
{
    size_t i = 0;
    for (uint64_t w; i + 8 <= n; i += 8) {
        memcpy(&w, p + i, 8);
        if (w & UINT64_C(0x8080808080808080)) break;
    }
    while (i < n && (unsigned char)p[i] < 0x80) i++;
    return i;
}

/* Size of the valid sequence at p, or minus the size of the maximal invalid subpart (1..3). */
static int sequence(const unsigned char *p, size_t n)
{
    unsigned c = p[0], lo = 0x80, hi = 0xBF;
    int need = c < 0x80 ? 0 : c < 0xC2 ? -1 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : c < 0xF5 ? 3 : -1;
    if (need < 0) return -1;
    if (c == 0xE0) lo = 0xA0;
    else if (c == 0xED) hi = 0x9F;
    else if (c == 0xF0) lo = 0x90;
    else if (c == 0xF4) hi = 0x8F;
    for (int i = 1; i <= need; i++) {
        if ((size_t)i >= n || p[i] < lo || p[i] > hi) return -i;
        lo = 0x80;
        hi = 0xBF;
    }
    return need + 1;
}

size_t dp_utf8_valid_len_scalar(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        i += dp_utf8_ascii_len_scalar(p + i, n - i);
        while (i < n && (unsigned char)p[i] >= 0x80) {
            int k = sequence((const unsigned char *)p + i, n - i);
            if (k < 0) return i;
            i += (size_t)k;
        }
    }
    return n;
}

struct dp_utf8_census dp_utf8_census_scalar(const char *p, size_t n)
{
    struct dp_utf8_census s = {0, 0};
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        s.chars += (c & 0xC0) != 0x80;
        s.controls += c < 0x20 && c != '\b' && c != '\t' && c != '\n' && c != '\f' && c != '\r' && c != 0x1B;
    }
    return s;
}

#if defined(__x86_64__)
size_t dp_utf8_valid_len(const char *p, size_t n)
{
    return n >= 32 && dp_cpu() >= DP_CPU_AVX2 ? dp_utf8_valid_len_avx2(p, n) : dp_utf8_valid_len_scalar(p, n);
}
size_t dp_utf8_ascii_len(const char *p, size_t n)
{
    return n >= 32 && dp_cpu() >= DP_CPU_AVX2 ? dp_utf8_ascii_len_avx2(p, n) : dp_utf8_ascii_len_scalar(p, n);
}
struct dp_utf8_census dp_utf8_census(const char *p, size_t n)
{
    return n >= 32 && dp_cpu() >= DP_CPU_AVX2 ? dp_utf8_census_avx2(p, n) : dp_utf8_census_scalar(p, n);
}
#else
size_t dp_utf8_valid_len(const char *p, size_t n)
{
    return dp_utf8_valid_len_scalar(p, n);
}
size_t dp_utf8_ascii_len(const char *p, size_t n)
{
    return dp_utf8_ascii_len_scalar(p, n);
}
struct dp_utf8_census dp_utf8_census(const char *p, size_t n)
{
    return dp_utf8_census_scalar(p, n);
}
#endif

size_t dp_utf8_repair(struct dp_span s, struct dp_buf *out)
{
    size_t bad = 0, i = 0;
    while (i < s.len) {
        size_t ok = dp_utf8_valid_len(s.ptr + i, s.len - i);
        dp_buf_add(out, s.ptr + i, ok);
        i += ok;
        while (i < s.len) {
            int k = sequence((const unsigned char *)s.ptr + i, s.len - i);
            if (k > 0) break;
            dp_buf_add(out, "\xEF\xBF\xBD", 3);
            bad++;
            i += (size_t)-k;
        }
    }
    return bad;
}

int dp_utf8_replace(struct dp_span text, struct dp_buf *buf, struct dp_span *out, struct dp_err *e)
{
    *out = text;
    if (!text.len || dp_utf8_valid(text)) return DP_OK;
    dp_buf_clear(buf);
    dp_utf8_repair(text, buf);
    DP_TRY(dp_buf_check(buf, "a text with U+FFFD for what is no UTF-8", e));
    *out = dp_buf_span(buf);
    return DP_OK;
}

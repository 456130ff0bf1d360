/* base/utf8_avx2.c - the same answers 32 bytes at a time.
 *
 * Keiser and Lemire, "Validating UTF-8 In Less Than One Instruction Per Byte" (2021): three table look-ups by nibble classify
 * every pair of bytes; a set bit that survives all three names an error. Which byte was bad isn't known, so that the scalar
 * code looks again from the last sequence before the block; the tail goes through it too. */
#include "base/utf8.h"

#if defined(__AVX2__)
#include <immintrin.h>

enum {
    TOO_SHORT = 1,
    TOO_LONG = 2,
    OVERLONG_3 = 4,
    TOO_LARGE = 8,
    SURROGATE = 16,
    OVERLONG_2 = 32,
    TOO_LARGE_1000 = 64,
    OVERLONG_4 = 64,
    TWO_CONTS = 128,
    CARRY = TOO_SHORT | TOO_LONG | TWO_CONTS
};

static inline __m256i twice(const uint8_t t[16])
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)t));
}

static const uint8_t high_1[16] = {TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TWO_CONTS,
    TWO_CONTS, TWO_CONTS, TWO_CONTS, TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,
    TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4};
#define BIG (CARRY | TOO_LARGE | TOO_LARGE_1000)
static const uint8_t low_1[16] = {CARRY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4, CARRY | OVERLONG_2, CARRY, CARRY,
    CARRY | TOO_LARGE, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG | SURROGATE, BIG, BIG};
#define CONT (TOO_LONG | OVERLONG_2 | TWO_CONTS)
static const uint8_t high_2[16] = {TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
    CONT | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4, CONT | OVERLONG_3 | TOO_LARGE, CONT | SURROGATE | TOO_LARGE,
    CONT | SURROGATE | TOO_LARGE, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT};

size_t dp_utf8_valid_len_avx2(const char *p, size_t n)
{
    const __m256i t1 = twice(high_1), t2 = twice(low_1), t3 = twice(high_2), nibble = _mm256_set1_epi8(15);
    __m256i prev = _mm256_setzero_si256();
    bool open = false; /* the block before had bytes >= 0x80 */
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i in = _mm256_loadu_si256((const __m256i *)(p + i));
        bool ascii = _mm256_movemask_epi8(in) == 0;
        if (!ascii || open) {
            __m256i carry = _mm256_permute2x128_si256(prev, in, 0x21);
            __m256i p1 = _mm256_alignr_epi8(in, carry, 15), p2 = _mm256_alignr_epi8(in, carry, 14),
                    p3 = _mm256_alignr_epi8(in, carry, 13);
            __m256i a = _mm256_shuffle_epi8(t1, _mm256_and_si256(_mm256_srli_epi16(p1, 4), nibble));
            __m256i b = _mm256_shuffle_epi8(t2, _mm256_and_si256(p1, nibble));
            __m256i c = _mm256_shuffle_epi8(t3, _mm256_and_si256(_mm256_srli_epi16(in, 4), nibble));
            __m256i special = _mm256_and_si256(_mm256_and_si256(a, b), c);
            __m256i third = _mm256_subs_epu8(p2, _mm256_set1_epi8((char)(0xE0 - 0x80)));
            __m256i fourth = _mm256_subs_epu8(p3, _mm256_set1_epi8((char)(0xF0 - 0x80)));
            __m256i must = _mm256_and_si256(_mm256_or_si256(third, fourth), _mm256_set1_epi8((char)0x80));
            if (!_mm256_testz_si256(_mm256_xor_si256(must, special), _mm256_xor_si256(must, special))) break;
        }
        open = !ascii;
        prev = in;
    }
    /* Back to the start of the last sequence that may be unfinished. */
    size_t back = 0;
    while (back < 3 && back < i && ((unsigned char)p[i - back - 1] & 0xC0) == 0x80) back++;
    if (back < i && (unsigned char)p[i - back - 1] >= 0xC0) back++;
    else back = 0;
    i -= back;
    return i + dp_utf8_valid_len_scalar(p + i, n - i);
}

size_t dp_utf8_ascii_len_avx2(const char *p, size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        unsigned m = (unsigned)_mm256_movemask_epi8(_mm256_loadu_si256((const __m256i *)(p + i)));
        if (m) return i + (size_t)__builtin_ctz(m);
    }
    return i + dp_utf8_ascii_len_scalar(p + i, n - i);
}
/* The sum of the four 64-bit lanes. */
static size_t lanes(__m256i v)
{
    return (size_t)(_mm256_extract_epi64(v, 0) + _mm256_extract_epi64(v, 1) + _mm256_extract_epi64(v, 2) + _mm256_extract_epi64(v, 3));
}

struct dp_utf8_census dp_utf8_census_avx2(const char *p, size_t n)
{
    /* By low nibble: 1 where 0x is such a control, 2 where 1x is. */
    static const uint8_t low[16] = {3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 1, 2, 2, 3, 3};
    static const uint8_t high[16] = {1, 2};
    const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256(), tl = twice(low), th = twice(high);
    __m256i chars = zero, controls = zero;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(p + i));
        __m256i lead = _mm256_cmpgt_epi8(v, _mm256_set1_epi8((char)0xBF));
        __m256i kind = _mm256_and_si256(_mm256_shuffle_epi8(tl, _mm256_and_si256(v, nibble)), _mm256_shuffle_epi8(th, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble)));
        __m256i one = _mm256_set1_epi8(1);
        chars = _mm256_add_epi64(chars, _mm256_sad_epu8(_mm256_and_si256(lead, one), zero));
        controls = _mm256_add_epi64(controls, _mm256_sad_epu8(_mm256_min_epu8(kind, one), zero));
    }
    struct dp_utf8_census s = dp_utf8_census_scalar(p + i, n - i);
    s.chars += lanes(chars);
    s.controls += lanes(controls);
    return s;
}
#else
typedef int dp_utf8_avx2_unused; /* ISO C wants a declaration */
#endif

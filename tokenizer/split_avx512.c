/* tokenizer/split_avx512.c - split_scan.h on one 512-bit register. */
#if defined(__AVX512VBMI2__)
#include <immintrin.h>

#include "tokenizer/split_scan.h"

static inline uint64_t range(__m512i v, char from, unsigned n)
{
    return _mm512_cmplt_epu8_mask(_mm512_sub_epi8(v, _mm512_set1_epi8(from)), _mm512_set1_epi8((char)n));
}

static inline uint64_t equal(__m512i v, char c)
{
    return _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8(c));
}

static inline struct window classify(const uint8_t *p)
{
    __m512i v = _mm512_loadu_si512(p);
    struct window w = {.known = UINT64_MAX, .start = UINT64_MAX};
    w.upper = range(v, 'A', 26);
    w.lower = range(v, 'a', 26);
    w.number = range(v, '0', 10);
    w.space = equal(v, ' ');
    w.newline = equal(v, '\n') | equal(v, '\r');
    w.blank = (range(v, '\t', 5) & ~w.newline) | w.space;
    w.quote = equal(v, '\'');
    w.slash = equal(v, '/');
    w.printable = range(v, '!', 94);
    w.high = _mm512_movepi8_mask(v);
    return w;
}

static inline uint64_t bytes_in(const uint8_t *p, unsigned from, unsigned n)
{
    return range(_mm512_loadu_si512(p), (char)from, n);
}

/* The places of set bits, eight at a time; nearly all windows have at most 24. Writes up to 24 beyond the last. */
static inline void emit(uint64_t starts, size_t base, size_t *ends)
{
    static const uint8_t iota[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                     22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
                                     44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    uint8_t at[64];
    int n = __builtin_popcountll(starts);
    __m512i b = _mm512_set1_epi64((long long)base);
    _mm512_storeu_si512(at, _mm512_maskz_compress_epi8(starts, _mm512_loadu_si512(iota)));
    for (int i = 0; i < 24; i += 8)
        _mm512_storeu_si512(ends + i, _mm512_add_epi64(b, _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(at + i)))));
    for (int i = 24; i < n; i += 8)
        _mm512_storeu_si512(ends + i, _mm512_add_epi64(b, _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)(at + i)))));
}

SCAN_FUNCTION(dp_split_scan_avx512)
#endif

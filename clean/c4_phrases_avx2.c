/* clean/c4_phrases_avx2.c - 32 places at once; the last of them once more from the end, so that only short lines are left to the scalar code. */
#include "clean/c4_phrases.h"

#if defined(__AVX2__)
#include <immintrin.h>

static inline __m256i is(__m256i v, int c)
{
    return _mm256_cmpeq_epi8(v, _mm256_set1_epi8((char)c));
}

static inline bool here(const char *p)
{
    const __m256i bit = _mm256_set1_epi8(32);
    __m256i a = _mm256_or_si256(_mm256_loadu_si256((const __m256i *)p), bit);
    __m256i b = _mm256_or_si256(_mm256_loadu_si256((const __m256i *)(p + 1)), bit);
    __m256i c = _mm256_or_si256(_mm256_loadu_si256((const __m256i *)(p + 2)), bit);
    __m256i v = _mm256_and_si256(_mm256_and_si256(is(a, 'v'), is(b, 'a')), _mm256_or_si256(is(c, 's'), is(c, 'c')));
    __m256i o = _mm256_and_si256(_mm256_and_si256(is(a, 'o'), is(b, 'k')), is(c, 'i'));
    __m256i m = _mm256_and_si256(is(a, 'm'), _mm256_or_si256(_mm256_and_si256(is(b, 's'), is(c, ' ')), _mm256_and_si256(is(b, ' '), is(c, 'i'))));
    __m256i k = _mm256_and_si256(is(b, 0x84 | 32), is(c, 0xAA));
    __m256i any = _mm256_or_si256(_mm256_or_si256(v, o), _mm256_or_si256(m, k));
    return !_mm256_testz_si256(any, any);
}

bool dp_c4_suspect_avx2(const char *p, size_t n)
{
    if (n < 34) return dp_c4_suspect_scalar(p, n);
    for (size_t i = 0; i + 34 < n; i += 32)
        if (here(p + i)) return true;
    return here(p + n - 34);
}
#else
typedef int dp_c4_phrases_avx2_unused; /* ISO C wants a declaration */
#endif

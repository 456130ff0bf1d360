/* base/json_avx2.c - the same answers as dp_json_plain_scalar, 32 bytes at a time. */
#include "base/json_plain.h"

#if defined(__AVX2__)
#include <immintrin.h>

size_t dp_json_plain_avx2(const char *p, size_t n)
{
    const __m256i quote = _mm256_set1_epi8('"'), backslash = _mm256_set1_epi8('\\'), last = _mm256_set1_epi8(0x1f);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + i)), control = _mm256_cmpeq_epi8(_mm256_min_epu8(v, last), v);
        unsigned m = (unsigned)_mm256_movemask_epi8(_mm256_or_si256(control, _mm256_or_si256(_mm256_cmpeq_epi8(v, quote), _mm256_cmpeq_epi8(v, backslash))));
        if (m) return i + (size_t)__builtin_ctz(m);
    }
    return i;
}
#else
size_t dp_json_plain_avx2(const char *p, size_t n)
{
    return dp_json_plain_scalar(p, n);
}
#endif

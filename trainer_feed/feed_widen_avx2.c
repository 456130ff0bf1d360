/* 16 (or 8) ids at a time; tails are scalar. Four maxima would not help: loads decide. */
#include "trainer_feed/feed_widen.h"

#if defined(__x86_64__)
#include <immintrin.h>

static uint32_t high_of(__m256i v)
{
    __m128i h = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(h);
}

static uint32_t high_of16(__m256i v)
{
    return high_of(_mm256_max_epu32(_mm256_srli_epi32(v, 16), _mm256_blend_epi16(v, _mm256_setzero_si256(), 0xaa)));
}

uint32_t dp_feed_widen16_avx2(int32_t *to, const uint16_t *from, size_t n)
{
    __m256i high16 = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i v = _mm256_loadu_si256((const void *)(from + i));
        high16 = _mm256_max_epu16(high16, v);
        _mm256_storeu_si256((void *)(to + i), _mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)));
        _mm256_storeu_si256((void *)(to + i + 8),
                            _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1)));
    }
    uint32_t high = high_of16(high16);
    for (; i < n; i++) {
        to[i] = from[i];
        high = from[i] > high ? from[i] : high;
    }
    return high;
}

uint32_t dp_feed_widen32_avx2(int32_t *to, const uint32_t *from, size_t n)
{
    __m256i high32 = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_loadu_si256((const void *)(from + i));
        high32 = _mm256_max_epu32(high32, v);
        _mm256_storeu_si256((void *)(to + i), v);
    }
    uint32_t high = high_of(high32);
    for (; i < n; i++) {
        to[i] = (int32_t)from[i];
        high = from[i] > high ? from[i] : high;
    }
    return high;
}

uint32_t dp_feed_copy16_avx2(uint16_t *to, const uint16_t *from, size_t n)
{
    __m256i high16 = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_loadu_si256((const void *)(from + i)), w = _mm256_loadu_si256((const void *)(from + i + 16));
        high16 = _mm256_max_epu16(high16, _mm256_max_epu16(v, w));
        _mm256_storeu_si256((void *)(to + i), v);
        _mm256_storeu_si256((void *)(to + i + 16), w);
    }
    uint32_t high = high_of16(high16);
    for (; i < n; i++) {
        to[i] = from[i];
        high = from[i] > high ? from[i] : high;
    }
    return high;
}
#endif

/* 4 ids at a time; the tail is scalar. */
#include "trainer_feed/feed_pair.h"

#if defined(__x86_64__)
#include <immintrin.h>

void dp_feed_pair_avx2(int64_t *restrict inputs, int64_t *restrict targets, const int32_t *restrict row, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m128i a = _mm_loadu_si128((const void *)(row + i)), b = _mm_loadu_si128((const void *)(row + i + 1));
        _mm256_storeu_si256((void *)(inputs + i), _mm256_cvtepu32_epi64(a));
        _mm256_storeu_si256((void *)(targets + i), _mm256_cvtepu32_epi64(b));
    }
    for (; i < n; i++) {
        inputs[i] = (int64_t)(uint32_t)row[i];
        targets[i] = (int64_t)(uint32_t)row[i + 1];
    }
}
#endif

/* 8 ids at a time; the tail is masked. */
#include "trainer_feed/feed_pair.h"

#if defined(__x86_64__)
#include <immintrin.h>

void dp_feed_pair_avx512(int64_t *restrict inputs, int64_t *restrict targets, const int32_t *restrict row, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        _mm512_storeu_si512(inputs + i, _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *)(row + i))));
        _mm512_storeu_si512(targets + i, _mm512_cvtepu32_epi64(_mm256_loadu_si256((const void *)(row + i + 1))));
    }
    __mmask8 rest = (__mmask8)((1u << (n - i)) - 1);
    if (!rest) return;
    _mm512_mask_storeu_epi64(inputs + i, rest, _mm512_cvtepu32_epi64(_mm256_maskz_loadu_epi32(rest, row + i)));
    _mm512_mask_storeu_epi64(targets + i, rest, _mm512_cvtepu32_epi64(_mm256_maskz_loadu_epi32(rest, row + i + 1)));
}
#endif

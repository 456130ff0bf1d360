/* AVX2 kernels of dedup/minhash.h; agree with the scalar ones bit for bit.
 * Up to 4 vectors of slots stay in registers with their constants while all shingles of the block pass. */
#include "dedup/minhash.h"

#include <immintrin.h>

static inline __attribute__((always_inline)) void group(uint32_t *slots, const uint32_t *a, const uint32_t *b, const int vectors,
                                                        const uint32_t *x, size_t n)
{
    __m256i m[4], va[4], vb[4];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        m[v] = _mm256_loadu_si256((const __m256i *)(const void *)(slots + 8 * v));
        va[v] = _mm256_loadu_si256((const __m256i *)(const void *)(a + 8 * v));
        vb[v] = _mm256_loadu_si256((const __m256i *)(const void *)(b + 8 * v));
    }
    for (size_t i = 0; i < n; i++) {
        __m256i vx = _mm256_set1_epi32((int)x[2 * i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            m[v] = _mm256_min_epu32(m[v], _mm256_add_epi32(_mm256_mullo_epi32(va[v], vx), vb[v]));
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) _mm256_storeu_si256((__m256i *)(void *)(slots + 8 * v), m[v]);
}

void dp_minhash_avx2(uint32_t *slots, const uint32_t *a, const uint32_t *b, size_t k, const uint32_t *x, size_t n)
{
    size_t vectors = (k + 7) / 8, v = 0;
    for (; vectors - v >= 4; v += 4) group(slots + 8 * v, a + 8 * v, b + 8 * v, 4, x, n);
    switch (vectors - v) {
    case 3: group(slots + 8 * v, a + 8 * v, b + 8 * v, 3, x, n); break;
    case 2: group(slots + 8 * v, a + 8 * v, b + 8 * v, 2, x, n); break;
    case 1: group(slots + 8 * v, a + 8 * v, b + 8 * v, 1, x, n); break;
    }
}

uint32_t dp_agree_avx2(const uint16_t *p, const uint16_t *q, size_t k)
{
    uint32_t n = 0;
    size_t j = 0;
    for (; k - j >= 16; j += 16) {
        __m256i eq = _mm256_cmpeq_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(p + j)),
                                        _mm256_loadu_si256((const __m256i *)(const void *)(q + j)));
        n += (uint32_t)__builtin_popcount((unsigned)_mm256_movemask_epi8(eq)) / 2;
    }
    for (; j < k; j++) n += p[j] == q[j];
    return n;
}

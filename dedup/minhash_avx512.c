/* AVX-512 kernels of dedup/minhash.h; agree with the scalar ones bit for bit. Up to 8 vectors of slots stay in registers. */
#include "dedup/minhash.h"

#include <immintrin.h>

static inline __attribute__((always_inline)) void group(uint32_t *slots, const uint32_t *a, const uint32_t *b, const int vectors,
                                                        const uint32_t *x, size_t n)
{
    __m512i m[8], va[8], vb[8];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        m[v] = _mm512_loadu_si512(slots + 16 * v);
        va[v] = _mm512_loadu_si512(a + 16 * v);
        vb[v] = _mm512_loadu_si512(b + 16 * v);
    }
    for (size_t i = 0; i < n; i++) {
        __m512i vx = _mm512_set1_epi32((int)x[2 * i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            m[v] = _mm512_min_epu32(m[v], _mm512_add_epi32(_mm512_mullo_epi32(va[v], vx), vb[v]));
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) _mm512_storeu_si512(slots + 16 * v, m[v]);
}

void dp_minhash_avx512(uint32_t *slots, const uint32_t *a, const uint32_t *b, size_t k, const uint32_t *x, size_t n)
{
    size_t vectors = (k + 15) / 16, v = 0;
    for (; vectors - v >= 4; v += 4) group(slots + 16 * v, a + 16 * v, b + 16 * v, 4, x, n);
    for (; v < vectors; v++) group(slots + 16 * v, a + 16 * v, b + 16 * v, 1, x, n);
}

uint32_t dp_agree_avx512(const uint16_t *p, const uint16_t *q, size_t k)
{
    uint32_t n = 0;
    size_t j = 0;
    for (; k - j >= 32; j += 32)
        n += (uint32_t)__builtin_popcount(_mm512_cmpeq_epi16_mask(_mm512_loadu_si512(p + j), _mm512_loadu_si512(q + j)));
    for (; j < k; j++) n += p[j] == q[j];
    return n;
}

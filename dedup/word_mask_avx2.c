/* AVX2 kernel of dedup/word_mask.h; agrees with the scalar one bit for bit. Compares are signed: bytes >= 0x80 end the walk anyway. */
#include "dedup/word_mask.h"

#include <immintrin.h>

static inline uint32_t half(__m256i c, uint8_t *out)
{
    __m256i low = _mm256_or_si256(c, _mm256_set1_epi8(0x20));
    _mm256_storeu_si256((__m256i *)(void *)out, low);
    __m256i letter = _mm256_and_si256(_mm256_cmpgt_epi8(low, _mm256_set1_epi8('a' - 1)), _mm256_cmpgt_epi8(_mm256_set1_epi8('z' + 1), low));
    __m256i digit = _mm256_and_si256(_mm256_cmpgt_epi8(c, _mm256_set1_epi8('0' - 1)), _mm256_cmpgt_epi8(_mm256_set1_epi8('9' + 1), c));
    return (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(letter, digit));
}

size_t dp_word_mask_avx2(const uint8_t *in, size_t n, uint8_t *out, uint64_t *mask)
{
    size_t at = 0;
    for (; n - at >= 64; at += 64) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(in + at));
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(in + at + 32));
        uint64_t m = half(a, out + at) | (uint64_t)half(b, out + at + 32) << 32;
        if (_mm256_movemask_epi8(_mm256_or_si256(a, b))) break;
        mask[at / 64] = m;
    }
    return at;
}

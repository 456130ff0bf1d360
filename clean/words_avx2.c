/* clean/words_avx2.c - the masks of clean/words.c, 64 bytes at a time. */
#include "clean/words.h"

#if defined(__AVX2__)
#include <immintrin.h>

static inline uint64_t bits(__m256i a, __m256i b)
{
    return (uint32_t)_mm256_movemask_epi8(a) | (uint64_t)(uint32_t)_mm256_movemask_epi8(b) << 32;
}
/* Bytes in [lo, lo + n): unsigned comparison by saturation. */
static inline __m256i within(__m256i v, char lo, char n)
{
    __m256i d = _mm256_sub_epi8(v, _mm256_set1_epi8(lo));
    return _mm256_cmpeq_epi8(_mm256_min_epu8(d, _mm256_set1_epi8((char)(n - 1))), d);
}
static inline __m256i is_space(__m256i v)
{
    return _mm256_or_si256(within(v, 9, 5), within(v, 0x1C, 5)); /* the blank, 0x20, follows the separators */
}
static inline __m256i is_letter(__m256i v)
{
    return within(_mm256_or_si256(v, _mm256_set1_epi8(0x20)), 'a', 26);
}
static inline __m256i is_lead(__m256i v)
{
    return _mm256_or_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8((char)0xC2)), within(v, (char)0xE1, 3));
}

void dp_word_masks_avx2(const char *p, size_t blocks, uint64_t *space, uint64_t *letter, uint64_t *lead)
{
    for (size_t i = 0; i < blocks; i++, p += 64) {
        __m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)(p + 32));
        space[i] = bits(is_space(a), is_space(b));
        letter[i] = bits(is_letter(a), is_letter(b));
        lead[i] = _mm256_movemask_epi8(_mm256_or_si256(a, b)) ? bits(is_lead(a), is_lead(b)) : 0;
    }
}
#else
typedef int dp_words_avx2_unused; /* ISO C wants a declaration */
#endif

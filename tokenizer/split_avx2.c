/* tokenizer/split_avx2.c - split_scan.h on two 256-bit registers. */
#if defined(__AVX2__)
#include <immintrin.h>

#include "tokenizer/split_scan.h"

static inline uint64_t join(__m256i a, __m256i b)
{
    return (uint32_t)_mm256_movemask_epi8(a) | (uint64_t)(uint32_t)_mm256_movemask_epi8(b) << 32;
}

static inline __m256i within(__m256i v, char from, unsigned n)
{
    __m256i x = _mm256_sub_epi8(v, _mm256_set1_epi8(from));
    return _mm256_cmpeq_epi8(_mm256_min_epu8(x, _mm256_set1_epi8((char)(n - 1))), x);
}

static inline uint64_t range(__m256i a, __m256i b, char from, unsigned n)
{
    return join(within(a, from, n), within(b, from, n));
}

static inline uint64_t equal(__m256i a, __m256i b, char c)
{
    __m256i k = _mm256_set1_epi8(c);
    return join(_mm256_cmpeq_epi8(a, k), _mm256_cmpeq_epi8(b, k));
}

static inline struct window classify(const uint8_t *p)
{
    __m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)(p + 32));
    struct window w = {.known = UINT64_MAX, .start = UINT64_MAX};
    w.upper = range(a, b, 'A', 26);
    w.lower = range(a, b, 'a', 26);
    w.number = range(a, b, '0', 10);
    w.space = equal(a, b, ' ');
    w.newline = equal(a, b, '\n') | equal(a, b, '\r');
    w.blank = (range(a, b, '\t', 5) & ~w.newline) | w.space;
    w.quote = equal(a, b, '\'');
    w.slash = equal(a, b, '/');
    w.printable = range(a, b, '!', 94);
    w.high = join(a, b);
    return w;
}

static inline uint64_t bytes_in(const uint8_t *p, unsigned from, unsigned n)
{
    return range(_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 32)), (char)from, n);
}

static inline void emit(uint64_t starts, size_t base, size_t *ends)
{
    for (; starts; starts &= starts - 1) *ends++ = base + (size_t)__builtin_ctzll(starts);
}

SCAN_FUNCTION(dp_split_scan_avx2)
#endif

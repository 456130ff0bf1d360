/* tokenizer/pretoken_head_avx2.c - pretoken_head.inc with BMI2's instructions. */
#include "tokenizer/pretoken_head.h"

#if defined(__AVX2__)
#include <immintrin.h>
#include <string.h>

static inline uint64_t low_bytes(uint64_t key, size_t n)
{
    return _bzhi_u64(key, (unsigned)n * 8);
}

#define FIND dp_head_find_avx2
#include "tokenizer/pretoken_head.inc"
#endif

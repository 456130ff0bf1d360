#include "tokenizer/pretoken_head.h"

#include "base/cpu.h"

#include <string.h>

static inline uint64_t low_bytes(uint64_t key, size_t n)
{
    static const uint64_t masks[DP_HEAD_BYTES + 1] = {0,
                                                      0xff,
                                                      0xffff,
                                                      0xffffff,
                                                      0xffffffff,
                                                      UINT64_C(0xffffffffff),
                                                      UINT64_C(0xffffffffffff),
                                                      UINT64_C(0xffffffffffffff),
                                                      UINT64_MAX};
    return key & masks[n < DP_HEAD_BYTES ? n : DP_HEAD_BYTES];
}

#define FIND dp_head_find_scalar
#include "tokenizer/pretoken_head.inc"

dp_head_find_fn *dp_head_find(void)
{
    return dp_cpu() >= DP_CPU_AVX2 ? dp_head_find_avx2 : dp_head_find_scalar;
}

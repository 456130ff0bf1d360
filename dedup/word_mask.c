#include "dedup/word_mask.h"

#include "base/cpu.h"

size_t dp_word_mask_scalar(const uint8_t *in, size_t n, uint8_t *out, uint64_t *mask)
{
    size_t at = 0;
    for (; n - at >= 64; at += 64) {
        uint64_t m = 0;
        uint8_t all = 0;
        for (int i = 0; i < 64; i++) {
            uint8_t c = in[at + i], low = c | 0x20;
            all |= c;
            out[at + i] = low;
            m |= (uint64_t)((uint8_t)(low - 'a') < 26 || (uint8_t)(c - '0') < 10) << i;
        }
        if (all & 0x80) break;
        mask[at / 64] = m;
    }
    return at;
}

dp_word_mask_fn dp_word_mask(void)
{
    return dp_cpu() >= DP_CPU_AVX2 ? dp_word_mask_avx2 : dp_word_mask_scalar;
}

/* AVX-512-BF16: fp32 is AVX-512's, bf16 products run vdpbf16ps: two fused multiply-adds a lane, the
 * odd k of the pair first, both flushing denormals whatever MXCSR says. */
#include "trainer/gemm_avx512.h"

#include <immintrin.h>

#define MULTIPLY(acc, a, b) _mm512_dpbf16_ps(acc, (__m512bh)(a), (__m512bh)(b))
#include "trainer/gemm_tile512.inc"

const struct dp_gemm_level dp_gemm_avx512bf16 = {
    .mr = MR,
    .nr = NR,
    .aw = AW,
    .pairs = 1,
    .tile = dp_gemm_avx512_tile,
    .tile_bf16 = tile,
    .peak = dp_gemm_avx512_peak,
    .peak_flops = 2 * 16 * 2 * MR,
    .peak_bf16 = peak,
    .peak_bf16_flops = 4 * 16 * 2 * MR,
};

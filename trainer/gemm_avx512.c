/* AVX-512F, in fp32; bf16 products run the same tile on operands that were rounded while packed. */
#include "trainer/gemm_avx512.h"

#include <immintrin.h>

#define MULTIPLY(acc, a, b) _mm512_fmadd_ps(a, b, acc)
#include "trainer/gemm_pack512.inc"
#include "trainer/gemm_tile512.inc"

const struct dp_gemm_level dp_gemm_avx512 = {
    .mr = MR,
    .nr = NR,
    .aw = AW,
    .tile = tile,
    .tile_bf16 = tile,
    .rows = {dp_gemm_avx512_rows_f32, dp_gemm_avx512_rows_to_bf16, dp_gemm_avx512_rows_bf16},
    .columns = {dp_gemm_avx512_columns_f32, dp_gemm_avx512_columns_to_bf16,
                dp_gemm_avx512_columns_bf16},
    .to_bf16 = dp_gemm_avx512_to_bf16,
    .peak = peak,
    .peak_flops = 2 * 16 * 2 * MR,
    .peak_bf16 = peak,
    .peak_bf16_flops = 2 * 16 * 2 * MR,
};

void dp_gemm_avx512_tile(int rows, int cols, int64_t units, const float *a, const float *b,
                         const float *base, int64_t ldbase, const float *bias, float *c,
                         int64_t ldc, const char *ahead, int64_t step)
{
    tile(rows, cols, units, a, b, base, ldbase, bias, c, ldc, ahead, step);
}

float dp_gemm_avx512_peak(int64_t n)
{
    return peak(n);
}

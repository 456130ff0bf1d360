/* trainer/gemm_avx512.h - kernels of the AVX-512 level, in two files; the AVX-512-BF16 level takes
 * those of fp32. */
#ifndef DP_TRAINER_GEMM_AVX512_H
#define DP_TRAINER_GEMM_AVX512_H

#include "trainer/gemm_kernels.h"

#define DP_GEMM_ROWS(name)                                                                         \
    void name(int64_t k, int count, int width, const void *src, int64_t ld, float *out)
#define DP_GEMM_COLUMNS(name)                                                                      \
    void name(int64_t k, int panels, const int64_t *first, int width, const void *src, int64_t ld, \
              float *out, int64_t size)
DP_GEMM_ROWS(dp_gemm_avx512_rows_f32);
DP_GEMM_ROWS(dp_gemm_avx512_rows_to_bf16);
DP_GEMM_ROWS(dp_gemm_avx512_rows_bf16);
DP_GEMM_COLUMNS(dp_gemm_avx512_columns_f32);
DP_GEMM_COLUMNS(dp_gemm_avx512_columns_to_bf16);
DP_GEMM_COLUMNS(dp_gemm_avx512_columns_bf16);
void dp_gemm_avx512_to_bf16(int64_t n, const float *src, uint16_t *dst);
void dp_gemm_avx512_tile(int rows, int cols, int64_t units, const float *a, const float *b,
                         const float *base, int64_t ldbase, const float *bias, float *c,
                         int64_t ldc, const char *ahead, int64_t step);
float dp_gemm_avx512_peak(int64_t n);

#endif

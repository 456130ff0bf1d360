/* trainer/gemm_avx512.h - what the AVX-512-BF16 level takes from the AVX-512 level. */
#ifndef DP_TRAINER_GEMM_AVX512_H
#define DP_TRAINER_GEMM_AVX512_H

#include "trainer/gemm_kernels.h"

void dp_gemm_avx512_tile(int rows, int cols, int64_t units, const float *a, const float *b,
                         const float *base, int64_t ldbase, const float *bias, float *c,
                         int64_t ldc);
float dp_gemm_avx512_peak(int64_t n);

#endif

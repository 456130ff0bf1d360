/* trainer/gemm_kernels.h - what a CPU level supplies to the matrix products of gemm.c.
 *
 * A packed panel holds `width` vectors (rows of A or columns of B) of some k values, k-major, in
 * units of 4 bytes: [unit][width]. A unit is one float (fp32), or for bf16 products a pair of bf16,
 * the even k in the low half (levels with `pairs`); without it each bf16 is a float again and
 * the odd k of a pair stands before the even one, which is the order of the sum. */
#ifndef DP_TRAINER_GEMM_KERNELS_H
#define DP_TRAINER_GEMM_KERNELS_H

#include "trainer/gemm.h"

/* c[rows,cols] = base + bias + packed a[units][aw] * packed b[units][nr]; rows in [1,mr], cols in
 * [1,nr]; base and bias may be NULL. For bf16 products the processor flushes denormals while it
 * runs. While it multiplies it may ask for units / 2 cache lines that a later tile wants, from
 * `ahead` on, `step` bytes apart: the address need not be valid. */
typedef void (*dp_gemm_tile_fn)(int rows, int cols, int64_t units, const float *a, const float *b,
                                const float *base, int64_t ldbase, const float *bias, float *c,
                                int64_t ldc, const char *ahead, int64_t step);
/* Pack `count` <= width vectors of k values, the rest zeros; a vector is contiguous and `ld` elements
 * after the one before it. */
typedef void (*dp_gemm_rows_fn)(int64_t k, int count, int width, const void *src, int64_t ld,
                                float *out);
/* Pack vectors that are neighbours, k values `ld` apart: panel i takes vectors [first[i],
 * first[i+1]), counted from src, to out + i * size. */
typedef void (*dp_gemm_columns_fn)(int64_t k, int panels, const int64_t *first, int width,
                                   const void *src, int64_t ld, float *out, int64_t size);

enum dp_gemm_format { DP_GEMM_F32, DP_GEMM_F32_TO_BF16, DP_GEMM_BF16, DP_GEMM_FORMATS };

struct dp_gemm_level {
    int mr, nr, aw; /* aw >= mr: width of A's panels; B's is nr */
    int pairs;
    dp_gemm_tile_fn tile, tile_bf16;
    dp_gemm_rows_fn rows[DP_GEMM_FORMATS]; /* NULL: the plain loop, as in the next line */
    dp_gemm_columns_fn columns[DP_GEMM_FORMATS];
    void (*to_bf16)(int64_t n, const float *src, uint16_t *dst);
    /* For measuring the processor's peak: n rounds of independent fused multiply-adds, `peak_flops`
     * operations a round. */
    float (*peak)(int64_t n);
    int peak_flops;
    float (*peak_bf16)(int64_t n);
    int peak_bf16_flops;
};

/* A tile that hangs over the edge of C, for levels whose kernel writes whole tiles only. */
void dp_gemm_edge_tile(dp_gemm_tile_fn whole, int mr, int nr, int rows, int cols, int64_t units,
                       const float *a, const float *b, const float *base, int64_t ldbase,
                       const float *bias, float *c, int64_t ldc);

#endif

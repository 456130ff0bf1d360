/* The scalar kernels: the specification of gemm.h in code. */
#include "trainer/gemm_kernels.h"

#include <math.h>

enum { MR = 4, NR = 16 };

static void tile(int rows, int cols, int64_t units, const float *a, const float *b,
                 const float *base, int64_t ldbase, const float *bias, float *c, int64_t ldc,
                             const char *ahead, int64_t step)
{
    (void)ahead, (void)step;
    (void)ahead, (void)step;
    float acc[MR][NR] = {{0}};
    for (int64_t k = 0; k < units; k++, a += MR, b += NR)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < NR; j++) acc[i][j] = fmaf(a[i], b[j], acc[i][j]);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) {
            float s = acc[i][j];
            if (base && bias) s = (base[i * ldbase + j] + bias[j]) + s;
            else if (base) s = base[i * ldbase + j] + s;
            else if (bias) s = bias[j] + s;
            c[i * ldc + j] = s;
        }
    }
}

static float flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

/* a and b are bf16: normal or zero once flushed. Near the smallest normal number the sum is done
 * again 2^64 higher up, where it is rounded to 24 bits: only then is it known to be denormal. A
 * large acc that all but cancels leaves a multiple of 2^-84, or zero. */
static float fma_flushed(float a, float b, float acc)
{
    a = flush(a);
    b = flush(b);
    acc = flush(acc);
    float r = fmaf(a, b, acc);
    if (fabsf(r) > 0x1p-126f || fabsf(acc) > 0x1p-60f || isnan(r)) return r;
    float small = fabsf(a) < fabsf(b) ? a : b, large = fabsf(a) < fabsf(b) ? b : a;
    r = fmaf(small * 0x1p64f, large, acc * 0x1p64f);
    return fabsf(r) < 0x1p-62f ? copysignf(0, r) : r * 0x1p-64f;
}

static float add_flushed(float a, float b)
{
    return flush(flush(a) + flush(b)); /* a denormal sum is exact */
}

static void tile_bf16(int rows, int cols, int64_t units, const float *a, const float *b,
                      const float *base, int64_t ldbase, const float *bias, float *c, int64_t ldc,
          const char *ahead, int64_t step)
{
    (void)ahead, (void)step;
    float acc[MR][NR] = {{0}};
    for (int64_t k = 0; k < units; k++, a += MR, b += NR)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < cols; j++) acc[i][j] = fma_flushed(a[i], b[j], acc[i][j]);
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < cols; j++) {
            float s = acc[i][j];
            if (base && bias) s = add_flushed(add_flushed(base[i * ldbase + j], bias[j]), s);
            else if (base) s = add_flushed(base[i * ldbase + j], s);
            else if (bias) s = add_flushed(bias[j], s);
            c[i * ldc + j] = s;
        }
    }
}

static float peak(int64_t n)
{
    float a = 0, b = 1, c = 2, d = 3, x = 0.999f;
    for (int64_t i = 0; i < n; i++) {
        a = fmaf(a, x, x);
        b = fmaf(b, x, x);
        c = fmaf(c, x, x);
        d = fmaf(d, x, x);
    }
    return a + b + c + d;
}

const struct dp_gemm_level dp_gemm_scalar = {
    .mr = MR,
    .nr = NR,
    .aw = MR,
    .tile = tile,
    .tile_bf16 = tile_bf16,
    .peak = peak,
    .peak_flops = 8,
    .peak_bf16 = peak,
    .peak_bf16_flops = 8,
};

/* The specification: 16 lanes in plain C, fmaf for every fused operation. Slow on purpose (a call to fmaf a lane).
 * Also what all levels share: the choice of level, and the logarithm and sum of squares that need no vector level. */
#include "trainer/tensor_kernels.h"

#include "base/cpu.h"

#include <math.h>
#include <string.h>

struct lanes {
    float f[16];
};
#define vec struct lanes
#define LANES(expr)                                                                                \
    vec r_;                                                                                        \
    for (int l = 0; l < 16; l++) r_.f[l] = (expr);                                                 \
    return r_

static inline vec v_set(float a)
{
    LANES(a);
}
static inline vec v_load(const float *p)
{
    LANES(p[l]);
}
static inline void v_store(float *p, vec a)
{
    memcpy(p, a.f, sizeof a.f);
}
static inline vec v_add(vec a, vec b)
{
    LANES(a.f[l] + b.f[l]);
}
static inline vec v_sub(vec a, vec b)
{
    LANES(a.f[l] - b.f[l]);
}
static inline vec v_mul(vec a, vec b)
{
    LANES(a.f[l] * b.f[l]);
}
static inline vec v_div(vec a, vec b)
{
    LANES(a.f[l] / b.f[l]);
}
static inline vec v_fma(vec a, vec b, vec c)
{
    LANES(fmaf(a.f[l], b.f[l], c.f[l]));
}
static inline vec v_max(vec a, vec b)
{
    LANES(a.f[l] > b.f[l] ? a.f[l] : b.f[l]);
}
static inline vec v_min(vec a, vec b)
{
    LANES(a.f[l] < b.f[l] ? a.f[l] : b.f[l]);
}
static inline vec v_sqrt(vec a)
{
    LANES(sqrtf(a.f[l]));
}
static inline vec v_rint(vec a)
{
    LANES(rintf(a.f[l]));
}
static inline float pow2_of(float n)
{
    /* NaN has no integer; the vector levels shift a bit pattern that the product with NaN hides. */
    uint32_t bits = n == n ? (uint32_t)((int32_t)n + 127) << 23 : 0;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static inline vec v_ldexp(vec x, vec n)
{
    LANES(x.f[l] * pow2_of(n.f[l]));
}

#define LEVEL dp_tensor_scalar
#include "trainer/tensor_template.inc"

const struct dp_tensor_level *dp_tensor_level(void)
{
    if (dp_cpu() >= DP_CPU_AVX512) return &dp_tensor_avx512;
    if (dp_cpu() >= DP_CPU_AVX2) return &dp_tensor_avx2;
    return &dp_tensor_scalar;
}

double dp_tensor_log(double x)
{
    if (!(x > 0) || x > 1e300) return x != x ? x : x > 0 ? (double)INFINITY : -(double)INFINITY;
    int k;
    double m = frexp(x, &k);
    if (m < 0.70710678118654752) {
        m *= 2;
        k--;
    }
    /* log m = 2 atanh(f), f = (m-1)/(m+1) in [-0.1716, 0.1716]: ten terms leave 1e-17. */
    double f = (m - 1) / (m + 1), f2 = f * f, s = 0;
    for (int i = 21; i >= 1; i -= 2) s = s * f2 + 1.0 / i;
    return k * 0.69314718055994531 + 2 * f * s;
}

double dp_tensor_sum_squares(int64_t n, const float *x)
{
    double l[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) l[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i < n; i++, j++) l[j] += (double)x[i] * (double)x[i];
    for (int h = 8; h; h /= 2)
        for (int j = 0; j < h; j++) l[j] += l[j + h];
    return l[0];
}

/* AVX2 + FMA: the 16 lanes are two registers. Bodies and rules: tensor_template.inc. */
#include "trainer/tensor_kernels.h"


#include <immintrin.h>
#include <math.h>

struct lanes {
    __m256 lo, hi;
};
#define vec struct lanes
#define V __attribute__((always_inline)) static inline
#define TWO(op) ((vec){op(a.lo, b.lo), op(a.hi, b.hi)})

V vec v_set(float a)
{
    return (vec){_mm256_set1_ps(a), _mm256_set1_ps(a)};
}
V vec v_load(const float *p)
{
    return (vec){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
V void v_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
V vec v_add(vec a, vec b)
{
    return TWO(_mm256_add_ps);
}
V vec v_sub(vec a, vec b)
{
    return TWO(_mm256_sub_ps);
}
V vec v_mul(vec a, vec b)
{
    return TWO(_mm256_mul_ps);
}
V vec v_div(vec a, vec b)
{
    return TWO(_mm256_div_ps);
}
V vec v_max(vec a, vec b)
{
    return TWO(_mm256_max_ps);
}
V vec v_min(vec a, vec b)
{
    return TWO(_mm256_min_ps);
}
V vec v_fma(vec a, vec b, vec c)
{
    return (vec){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
V vec v_sqrt(vec a)
{
    return (vec){_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)};
}
V vec v_rint(vec a)
{
    return (vec){_mm256_round_ps(a.lo, _MM_FROUND_CUR_DIRECTION), _mm256_round_ps(a.hi, _MM_FROUND_CUR_DIRECTION)};
}
V __m256 pow2_of(__m256 n)
{
    __m256i i = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(i, 23));
}
V vec v_ldexp(vec x, vec n)
{
    return (vec){_mm256_mul_ps(x.lo, pow2_of(n.lo)), _mm256_mul_ps(x.hi, pow2_of(n.hi))};
}

#define LEVEL dp_tensor_avx2
#include "trainer/tensor_template.inc"

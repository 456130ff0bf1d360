/* AVX-512F: the 16 lanes are one register. Bodies and rules: tensor_template.inc. */
#include "trainer/tensor_kernels.h"

#include <immintrin.h>
#include <math.h>

#define vec __m512
#define V __attribute__((always_inline)) static inline

V vec v_set(float a)
{
    return _mm512_set1_ps(a);
}
V vec v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
V void v_store(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}
V vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
V vec v_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}
V vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}
V vec v_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}
V vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}
V vec v_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}
V vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
V vec v_sqrt(vec a)
{
    return _mm512_sqrt_ps(a);
}
V vec v_rint(vec a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_CUR_DIRECTION);
}
V vec v_ldexp(vec x, vec n)
{
    __m512i i = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_mul_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(i, 23)));
}

#define LEVEL dp_tensor_avx512
#include "trainer/tensor_template.inc"

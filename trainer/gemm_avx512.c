/* AVX-512F: tiles of 12 x 32, 24 accumulators, two loads and twelve (embedded) broadcasts a step of k.
 * Panels are packed by the plain loops of gemm.c. Must agree with kernel_scalar in gemm.c bit for bit. */
#include "trainer/gemm.h"

#include <immintrin.h>

enum { MR = 12, NR = 32 };

static inline __attribute__((always_inline)) void store_row(__m512 lo, __m512 hi, const float *base, const float *bias, float *c)
{
    if (base && bias) {
        lo = _mm512_add_ps(_mm512_add_ps(_mm512_loadu_ps(base), _mm512_loadu_ps(bias)), lo);
        hi = _mm512_add_ps(_mm512_add_ps(_mm512_loadu_ps(base + 16), _mm512_loadu_ps(bias + 16)), hi);
    } else if (base || bias) {
        const float *p = base ? base : bias;
        lo = _mm512_add_ps(_mm512_loadu_ps(p), lo);
        hi = _mm512_add_ps(_mm512_loadu_ps(p + 16), hi);
    }
    _mm512_storeu_ps(c, lo);
    _mm512_storeu_ps(c + 16, hi);
}

#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define DECLARE(i) __m512 lo##i = _mm512_setzero_ps(), hi##i = lo##i;
#define ROW(i)                                                                                     \
    {                                                                                              \
        __m512 av = _mm512_set1_ps(a[i]);                                                          \
        lo##i = _mm512_fmadd_ps(av, b0, lo##i);                                                    \
        hi##i = _mm512_fmadd_ps(av, b1, hi##i);                                                    \
    }
#define STORE(i) store_row(lo##i, hi##i, base ? base + (i)*ldbase : NULL, bias, c + (i)*ldc);

static void kernel_avx512(int64_t kc, const float *a, const float *b, const float *base, int64_t ldbase, const float *bias,
                          float *c, int64_t ldc)
{
    ROWS(DECLARE)
    for (int64_t k = 0; k < kc; k++, a += MR, b += NR) {
        __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16);
        ROWS(ROW)
    }
    ROWS(STORE)
}

#define CHAIN(i) __m512 r##i = x;
#define CHAIN_STEP(i) r##i = _mm512_fmadd_ps(r##i, x, x);
#define CHAIN_SUM(i) s = _mm512_add_ps(s, r##i);

static float peak_avx512(int64_t n)
{
    __m512 x = _mm512_set1_ps(0.999f), s = x;
    ROWS(CHAIN)
    for (int64_t i = 0; i < n; i++) {
        ROWS(CHAIN_STEP)
    }
    ROWS(CHAIN_SUM)
    return _mm512_cvtss_f32(s);
}

const struct dp_gemm_level dp_gemm_avx512 = {MR, NR, kernel_avx512, NULL, NULL, peak_avx512, 12 * 16 * 2};

/* AVX2 + FMA: tiles of 6 x 16, 12 accumulators, two loads and six broadcasts for 12 fused
 * multiply-adds a step of k. 6 x 16 is the largest tile that 16 registers hold with room for B's
 * two vectors and a broadcast; the two FMA units need 8-10 independent chains. The packers
 * transpose 8 x 8 in registers, since NT products (all forward ones) would else spend 10-20 % of
 * their time there. Must agree with gemm_scalar.c bit for bit. */
#include "trainer/gemm_kernels.h"

#include <immintrin.h>

enum { MR = 6, NR = 16 };

static inline __attribute__((always_inline)) void store_row(__m256 lo, __m256 hi, const float *base,
                                                            const float *bias, float *c)
{
    if (base && bias) {
        lo = _mm256_add_ps(_mm256_add_ps(_mm256_loadu_ps(base), _mm256_loadu_ps(bias)), lo);
        hi = _mm256_add_ps(_mm256_add_ps(_mm256_loadu_ps(base + 8), _mm256_loadu_ps(bias + 8)), hi);
    } else if (base || bias) {
        const float *p = base ? base : bias;
        lo = _mm256_add_ps(_mm256_loadu_ps(p), lo);
        hi = _mm256_add_ps(_mm256_loadu_ps(p + 8), hi);
    }
    _mm256_storeu_ps(c, lo);
    _mm256_storeu_ps(c + 8, hi);
}

#define ROW(i)                                                                                     \
    do {                                                                                           \
        __m256 av = _mm256_broadcast_ss(a + (i));                                                  \
        lo##i = _mm256_fmadd_ps(av, b0, lo##i);                                                    \
        hi##i = _mm256_fmadd_ps(av, b1, hi##i);                                                    \
    } while (0)
#define STORE(i) store_row(lo##i, hi##i, base ? base + (i)*ldbase : NULL, bias, c + (i)*ldc)

/* Whole tiles only. */
static void tile_avx2(int rows, int cols, int64_t units, const float *a, const float *b,
                      const float *base, int64_t ldbase, const float *bias, float *c, int64_t ldc,
                      const char *ahead, int64_t step)
{
    if (rows < MR || cols < NR) {
        dp_gemm_edge_tile(tile_avx2, MR, NR, rows, cols, units, a, b, base, ldbase, bias, c, ldc);
        return;
    }
    __m256 lo0 = _mm256_setzero_ps(), lo1 = lo0, lo2 = lo0, lo3 = lo0, lo4 = lo0, lo5 = lo0;
    __m256 hi0 = lo0, hi1 = lo0, hi2 = lo0, hi3 = lo0, hi4 = lo0, hi5 = lo0;
    for (int i = 0; i < MR; i++) _mm_prefetch((const char *)(c + i * ldc), _MM_HINT_T0);
#pragma GCC unroll 4
    for (int64_t k = 0; k < units; k++, a += MR, b += NR) {
        __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
        if (k % 2) {
            _mm_prefetch(ahead, _MM_HINT_T1);
            ahead += step;
        }
        ROW(0);
        ROW(1);
        ROW(2);
        ROW(3);
        ROW(4);
        ROW(5);
    }
    STORE(0);
    STORE(1);
    STORE(2);
    STORE(3);
    STORE(4);
    STORE(5);
}

/* Rows r[0..8) to columns. */
static inline __attribute__((always_inline)) void transpose8(__m256 r[8])
{
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int h = 0; h < 2; h++) {
        u[4 * h + 0] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0x44);
        u[4 * h + 1] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0xee);
        u[4 * h + 2] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0x44);
        u[4 * h + 3] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
        r[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
    }
}

/* Six rows: a stored vector of eight overlaps the next k's first two floats, which the next store
 * mends; so the last k of a panel is copied one by one. */
static void rows_a(int64_t k, int count, const float *a, int64_t lda, float *out)
{
    int64_t p = 0;
    for (; p + 8 < k; p += 8) {
        __m256 r[8];
        for (int i = 0; i < 8; i++)
            r[i] = i < count ? _mm256_loadu_ps(a + i * lda + p) : _mm256_setzero_ps();
        transpose8(r);
        for (int i = 0; i < 8; i++) _mm256_storeu_ps(out + (p + i) * MR, r[i]);
    }
    for (; p < k; p++)
        for (int i = 0; i < MR; i++) out[p * MR + i] = i < count ? a[i * lda + p] : 0;
}

static void rows_b(int64_t k, int count, const float *b, int64_t ldb, float *out)
{
    int64_t p = 0;
    for (; p + 8 <= k; p += 8) {
        for (int h = 0; h < NR; h += 8) {
            __m256 r[8];
            for (int i = 0; i < 8; i++)
                r[i] = h + i < count ? _mm256_loadu_ps(b + (h + i) * ldb + p)
                                     : _mm256_setzero_ps();
            transpose8(r);
            for (int i = 0; i < 8; i++) _mm256_storeu_ps(out + (p + i) * NR + h, r[i]);
        }
    }
    for (; p < k; p++)
        for (int i = 0; i < NR; i++) out[p * NR + i] = i < count ? b[i * ldb + p] : 0;
}

static void pack_rows(int64_t k, int count, int width, const void *src, int64_t ld, float *out)
{
    if (width == MR) rows_a(k, count, src, ld, out);
    else rows_b(k, count, src, ld, out);
}

static void pack_columns(int64_t k, int panels, const int64_t *first, int width, const void *src,
                         int64_t ld, float *out, int64_t size)
{
    const float *from = src;
    for (int64_t p = 0; p < k; p++, from += ld, out += width) {
        for (int i = 0; i < panels; i++) {
            int64_t count = first[i + 1] - first[i];
            float *to = out + i * size;
            if (count == NR) memcpy(to, from + first[i], NR * sizeof *to);
            else if (count == MR && width == MR) memcpy(to, from + first[i], MR * sizeof *to);
            else
                for (int v = 0; v < width; v++) to[v] = v < count ? from[first[i] + v] : 0;
        }
    }
}

static float peak_avx2(int64_t n)
{
    __m256 x = _mm256_set1_ps(0.999f), y = x, s;
#define START(i)                                                                                   \
    r##i = _mm256_set1_ps((float)i) /* different, or the compiler makes one chain of all */
    __m256 START(0), START(1), START(2), START(3), START(4), START(5), START(6), START(7), START(8),
        START(9), START(10), START(11);
    for (int64_t i = 0; i < n; i++) {
        r0 = _mm256_fmadd_ps(r0, x, y);
        r1 = _mm256_fmadd_ps(r1, x, y);
        r2 = _mm256_fmadd_ps(r2, x, y);
        r3 = _mm256_fmadd_ps(r3, x, y);
        r4 = _mm256_fmadd_ps(r4, x, y);
        r5 = _mm256_fmadd_ps(r5, x, y);
        r6 = _mm256_fmadd_ps(r6, x, y);
        r7 = _mm256_fmadd_ps(r7, x, y);
        r8 = _mm256_fmadd_ps(r8, x, y);
        r9 = _mm256_fmadd_ps(r9, x, y);
        r10 = _mm256_fmadd_ps(r10, x, y);
        r11 = _mm256_fmadd_ps(r11, x, y);
    }
    s = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(r0, r1), _mm256_add_ps(r2, r3)),
                      _mm256_add_ps(_mm256_add_ps(r4, r5), _mm256_add_ps(r6, r7)));
    s = _mm256_add_ps(s, _mm256_add_ps(_mm256_add_ps(r8, r9), _mm256_add_ps(r10, r11)));
    return _mm256_cvtss_f32(s);
}

const struct dp_gemm_level dp_gemm_avx2 = {
    .mr = MR,
    .nr = NR,
    .aw = MR,
    .tile = tile_avx2,
    .tile_bf16 = tile_avx2,
    .rows = {pack_rows},
    .columns = {pack_columns},
    .peak = peak_avx2,
    .peak_flops = 12 * 8 * 2,
    .peak_bf16 = peak_avx2,
    .peak_bf16_flops = 12 * 8 * 2,
};

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
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        u[4 * h + 0] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0x44);
        u[4 * h + 1] = _mm256_shuffle_ps(t[4 * h], t[4 * h + 2], 0xee);
        u[4 * h + 2] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0x44);
        u[4 * h + 3] = _mm256_shuffle_ps(t[4 * h + 1], t[4 * h + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
        r[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
    }
}

#define ALWAYS static inline __attribute__((always_inline))

/* Nearest bf16 as floats; as dp_bf16. */
ALWAYS __m256 round_bf16(__m256 x)
{
    const __m256i bits = _mm256_castps_si256(x), exponent = _mm256_set1_epi32(0x7f800000);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    r = _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    r = _mm256_and_si256(r, _mm256_set1_epi32((int)0xffff0000));
    __m256i small = _mm256_cmpeq_epi32(_mm256_and_si256(bits, exponent), _mm256_setzero_si256());
    __m256i sign = _mm256_and_si256(bits, _mm256_set1_epi32((int)0x80000000));
    return _mm256_castsi256_ps(_mm256_blendv_epi8(r, sign, small));
}

ALWAYS __m256 load8(enum dp_gemm_format f, const void *src, int64_t at)
{
    if (f == DP_GEMM_BF16) {
        __m128i h = _mm_loadu_si128((const __m128i *)(const void *)((const uint16_t *)src + at));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
    }
    __m256 x = _mm256_loadu_ps((const float *)src + at);
    return f == DP_GEMM_F32 ? x : round_bf16(x);
}

/* The first n floats, zeros after them. */
ALWAYS __m256 load_part(enum dp_gemm_format f, int64_t n, const float *src)
{
    __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256 x = _mm256_maskload_ps(src, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lanes));
    return f == DP_GEMM_F32 ? x : round_bf16(x);
}

ALWAYS void store6(float *to, __m256 x)
{
    _mm_storeu_ps(to, _mm256_castps256_ps128(x));
    _mm_storel_pi((__m64 *)(void *)(to + 4), _mm256_extractf128_ps(x, 1));
}

ALWAYS float load1(enum dp_gemm_format f, const void *src, int64_t at)
{
    if (f == DP_GEMM_BF16) return dp_from_bf16(((const uint16_t *)src)[at]);
    float x = ((const float *)src)[at];
    return f == DP_GEMM_F32 ? x : dp_from_bf16(dp_bf16(x));
}

/* For bf16 the odd k of a pair comes first. Of six rows a stored vector of eight overlaps the next
 * k's first two floats, which the next store mends; so the last k of a panel go one by one. */
ALWAYS void rows(enum dp_gemm_format f, int64_t k, int count, int width, const void *src,
                 int64_t ld, float *out)
{
    int swap = f != DP_GEMM_F32;
    int64_t p = 0, n = (k + swap) & ~(int64_t)swap;
    for (; p + 8 < k + (width != MR); p += 8) {
        for (int v = 0; v < width; v += 8) {
            __m256 r[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                r[i] = v + i < count ? load8(f, src, (v + i) * ld + p) : _mm256_setzero_ps();
            transpose8(r);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) _mm256_storeu_ps(out + (p + i) * width + v, r[i ^ swap]);
        }
    }
    for (; p < n; p++)
        for (int v = 0; v < width; v++)
            out[(p ^ swap) * width + v] = v < count && p < k ? load1(f, src, v * ld + p) : 0;
}

ALWAYS void columns(enum dp_gemm_format f, int64_t k, int panels, const int64_t *first, int width,
                    const void *src, int64_t ld, float *out, int64_t size)
{
    int swap = f != DP_GEMM_F32;
    int64_t n = (k + swap) & ~(int64_t)swap;
    for (int64_t p = 0; p < n; p++) {
        for (int i = 0; i < panels; i++) {
            int64_t count = p < k ? first[i + 1] - first[i] : 0, at = p * ld + first[i], v = 0;
            float *to = out + i * size + (p ^ swap) * width;
            if (width == MR && f != DP_GEMM_BF16) {
                store6(to, load_part(f, count, (const float *)src + at));
                continue;
            }
            for (; v + 8 <= count; v += 8) _mm256_storeu_ps(to + v, load8(f, src, at + v));
            for (; v < count; v++) to[v] = load1(f, src, at + v);
            for (; v < width; v++) to[v] = 0;
        }
    }
}

#define PACKERS(name, format)                                                                      \
    static void rows_##name(int64_t k, int count, int width, const void *src, int64_t ld,          \
                            float *out)                                                            \
    {                                                                                              \
        if (width == MR) rows(format, k, count, MR, src, ld, out);                                 \
        else rows(format, k, count, NR, src, ld, out);                                             \
    }                                                                                              \
    static void columns_##name(int64_t k, int panels, const int64_t *first, int width,             \
                               const void *src, int64_t ld, float *out, int64_t size)              \
    {                                                                                              \
        columns(format, k, panels, first, width, src, ld, out, size);                              \
    }
PACKERS(f32, DP_GEMM_F32)
PACKERS(to_bf16, DP_GEMM_F32_TO_BF16)
PACKERS(bf16, DP_GEMM_BF16)

static void to_bf16(int64_t n, const float *src, uint16_t *dst)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i x = _mm256_castps_si256(round_bf16(_mm256_loadu_ps(src + i)));
        x = _mm256_srli_epi32(x, 16);
        x = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
        _mm_storeu_si128((__m128i *)(void *)(dst + i), _mm256_castsi256_si128(x));
    }
    for (; i < n; i++) dst[i] = dp_bf16(src[i]);
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
    .rows = {rows_f32, rows_to_bf16, rows_bf16},
    .columns = {columns_f32, columns_to_bf16, columns_bf16},
    .to_bf16 = to_bf16,
    .peak = peak_avx2,
    .peak_flops = 12 * 8 * 2,
    .peak_bf16 = peak_avx2,
    .peak_bf16_flops = 12 * 8 * 2,
};

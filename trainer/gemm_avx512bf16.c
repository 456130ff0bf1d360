/* AVX-512-BF16: fp32 is AVX-512's, bf16 products run vdpbf16ps: two fused multiply-adds a lane, the
 * odd k of the pair first, both flushing denormals whatever MXCSR says. */
#include "trainer/gemm_avx512.h"

#include <immintrin.h>

#define MULTIPLY(acc, a, b) _mm512_dpbf16_ps(acc, (__m512bh)(a), (__m512bh)(b))
#include "trainer/gemm_pack512.inc"
#include "trainer/gemm_tile512.inc"

/* 32 values of k of a vector, as 16 pairs; n of them exist. */
ALWAYS __m512 load_pairs(int given, int64_t n, const void *src, int64_t at)
{
    if (given) {
        __mmask32 m = n >= 32 ? 0xffffffff : n <= 0 ? 0 : (1u << n) - 1;
        return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(m, (const uint16_t *)src + at));
    }
    __m512 lo = _mm512_maskz_loadu_ps(mask16(n), (const float *)src + at),
           hi = _mm512_maskz_loadu_ps(mask16(n - 16), (const float *)src + at + 16);
    return (__m512)_mm512_cvtne2ps_pbh(hi, lo);
}

ALWAYS void pack_rows(int given, int64_t k, int count, int width, const void *src, int64_t ld,
                      float *out)
{
    int ahead = count < 16 ? count : 16;
    for (int v = 0; v < width; v += 16) {
        for (int64_t p = 0; p < k; p += 32) {
            __m512 r[16];
            int64_t n = k - p < 32 ? (k - p + 1) / 2 : 16;
            const char *next = (const char *)src + ((v + ahead) * ld + p) * (given ? 2 : 4);
            fetch_rows(next, ld * (given ? 2 : 4));
            if (!given) fetch_rows(next + 64, ld * 4);
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                r[i] = load_pairs(given, v + i < count ? k - p : 0, src, (v + i) * ld + p);
            transpose16(r);
            float *to = out + p / 2 * width + v;
            if (n == 16) {
#pragma GCC unroll 16
                for (int i = 0; i < 16; i++) _mm512_storeu_ps(to + i * width, r[i]);
            } else
                for (int i = 0; i < n; i++) _mm512_storeu_ps(to + i * width, r[i]);
        }
    }
}

/* 16 vectors' pairs of one even k and the odd one after it, if there is one. */
ALWAYS __m512i load_two(int given, __mmask16 even, __mmask16 odd, const void *src, int64_t at,
                        int64_t ld)
{
    if (given) {
        const uint16_t *h = (const uint16_t *)src + at;
        __m512i x = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(even, h)),
                y = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(odd, h + ld));
        return _mm512_or_si512(x, _mm512_slli_epi32(y, 16));
    }
    static const uint16_t interleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                            21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                            11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const float *f = (const float *)src + at;
    __m512i x = (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(odd, f + ld),
                                             _mm512_maskz_loadu_ps(even, f));
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(interleave), x);
}

ALWAYS void pack_columns(int given, int64_t k, int panels, const int64_t *first, int width,
                         const void *src, int64_t ld, float *out, int64_t size)
{
    int64_t bytes = given ? 2 : 4;
    for (int64_t p = 0; p < k; p += 2 * AT_ONCE) {
        int units = (int)(k - p < 2 * AT_ONCE ? (k - p + 1) / 2 : AT_ONCE);
        for (int i = 0; i < panels; i++) {
            for (int v = 0; v < width; v += 16) {
                float *to = out + i * size + p / 2 * width + v;
                int64_t at = p * ld + first[i] + v;
                __mmask16 m = mask16(first[i + 1] - first[i] - v);
#pragma GCC unroll 4
                for (int q = 0; q < units; q++, at += 2 * ld) {
                    const char *next = (const char *)src + (at + FETCH_ROWS * ld) * bytes;
                    _mm_prefetch(next, _MM_HINT_T0);
                    _mm_prefetch(next + ld * bytes, _MM_HINT_T0);
                    __mmask16 odd = p + 2 * q + 1 < k ? m : 0;
                    _mm512_storeu_si512(to + q * width, load_two(given, m, odd, src, at, ld));
                }
            }
        }
    }
}

static void rows_to_bf16(int64_t k, int count, int width, const void *src, int64_t ld, float *out)
{
    pack_rows(0, k, count, width, src, ld, out);
}

static void rows_bf16(int64_t k, int count, int width, const void *src, int64_t ld, float *out)
{
    pack_rows(1, k, count, width, src, ld, out);
}

static void columns_to_bf16(int64_t k, int panels, const int64_t *first, int width,
                            const void *src, int64_t ld, float *out, int64_t size)
{
    pack_columns(0, k, panels, first, width, src, ld, out, size);
}

static void columns_bf16(int64_t k, int panels, const int64_t *first, int width, const void *src,
                         int64_t ld, float *out, int64_t size)
{
    pack_columns(1, k, panels, first, width, src, ld, out, size);
}

static void to_bf16(int64_t n, const float *src, uint16_t *dst)
{
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = mask16(n - i);
        __m256i h = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, src + i));
        _mm256_mask_storeu_epi16(dst + i, m, h);
    }
}

const struct dp_gemm_level dp_gemm_avx512bf16 = {
    .mr = MR,
    .nr = NR,
    .aw = AW,
    .pairs = 1,
    .tile = dp_gemm_avx512_tile,
    .tile_bf16 = tile,
    .rows = {dp_gemm_avx512_rows_f32, rows_to_bf16, rows_bf16},
    .columns = {dp_gemm_avx512_columns_f32, columns_to_bf16, columns_bf16},
    .to_bf16 = to_bf16,
    .peak = dp_gemm_avx512_peak,
    .peak_flops = 2 * 16 * 2 * MR,
    .peak_bf16 = peak,
    .peak_bf16_flops = 4 * 16 * 2 * MR,
};

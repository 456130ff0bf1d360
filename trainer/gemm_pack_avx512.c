/* Packers of the AVX-512 level: fp32, and bf16 as floats, the odd k of a pair first. They read with
 * masks, so what is missing of a panel or a vector becomes zeros without being touched. */
#include "trainer/gemm_avx512.h"

#include <immintrin.h>

#include "trainer/gemm_pack512.inc"

/* Nearest bf16 as floats; as dp_bf16. */
static inline __attribute__((always_inline)) __m512 round_bf16(__m512 x)
{
    const __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    r = _mm512_mask_or_epi32(r, nan, bits, _mm512_set1_epi32(0x400000));
    r = _mm512_and_si512(r, _mm512_set1_epi32((int)0xffff0000));
    __mmask16 small = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
    r = _mm512_mask_and_epi32(r, small, bits, _mm512_set1_epi32((int)0x80000000));
    return _mm512_castsi512_ps(r);
}

static inline __attribute__((always_inline)) __m512 load(enum dp_gemm_format f, __mmask16 m,
                                                         const void *src, int64_t at)
{
    if (f == DP_GEMM_BF16) {
        __m256i h = _mm256_maskz_loadu_epi16(m, (const uint16_t *)src + at);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
    }
    __m512 x = _mm512_maskz_loadu_ps(m, (const float *)src + at);
    return f == DP_GEMM_F32 ? x : round_bf16(x);
}

static inline __attribute__((always_inline)) void pack_rows(enum dp_gemm_format f, int64_t k,
                                                            int count, int width, const void *src,
                                                            int64_t ld, float *out)
{
    int swap = f != DP_GEMM_F32, ahead = count < 16 ? count : 16;
    for (int v = 0; v < width; v += 16) {
        for (int64_t p = 0; p < k; p += 16) {
            __m512 r[16];
            __mmask16 m = mask16(k - p);
            int64_t n = k - p < 16 ? (k - p + swap) & ~(int64_t)swap : 16;
            fetch_rows((const char *)src + ((v + ahead) * ld + p) * (f == DP_GEMM_BF16 ? 2 : 4),
                       ld * (f == DP_GEMM_BF16 ? 2 : 4));
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                r[i] = load(f, v + i < count ? m : 0, src, (v + i) * ld + p);
            transpose16(r);
            float *to = out + p * width + v;
            if (n == 16) {
#pragma GCC unroll 16
                for (int i = 0; i < 16; i++) _mm512_storeu_ps(to + (i ^ swap) * width, r[i]);
            } else
                for (int i = 0; i < n; i++) _mm512_storeu_ps(to + (i ^ swap) * width, r[i]);
        }
    }
}

static inline __attribute__((always_inline)) void pack_columns(enum dp_gemm_format f, int64_t k,
                                                               int panels, const int64_t *first,
                                                               int width, const void *src,
                                                               int64_t ld, float *out,
                                                               int64_t size)
{
    int swap = f != DP_GEMM_F32;
    int64_t n = (k + swap) & ~(int64_t)swap, bytes = f == DP_GEMM_BF16 ? 2 : 4;
    for (int64_t p = 0; p < n; p += AT_ONCE) {
        int rows = (int)(n - p < AT_ONCE ? n - p : AT_ONCE);
        for (int i = 0; i < panels; i++) {
            for (int v = 0; v < width; v += 16) {
                float *to = out + i * size + p * width + v;
                int64_t at = p * ld + first[i] + v;
                __mmask16 m = mask16(first[i + 1] - first[i] - v);
#pragma GCC unroll 4
                for (int q = 0; q < rows; q++) {
                    _mm_prefetch((const char *)src + (at + (q + FETCH_ROWS) * ld) * bytes,
                                 _MM_HINT_T0);
                    _mm512_storeu_ps(to + (q ^ swap) * width,
                                     load(f, p + q < k ? m : 0, src, at + q * ld));
                }
            }
        }
    }
}

#define PACKERS(name, format)                                                                      \
    void dp_gemm_avx512_rows_##name(int64_t k, int count, int width, const void *src, int64_t ld,  \
                                    float *out)                                                    \
    {                                                                                              \
        pack_rows(format, k, count, width, src, ld, out);                                          \
    }                                                                                              \
    void dp_gemm_avx512_columns_##name(int64_t k, int panels, const int64_t *first, int width,     \
                                       const void *src, int64_t ld, float *out, int64_t size)      \
    {                                                                                              \
        pack_columns(format, k, panels, first, width, src, ld, out, size);                         \
    }
PACKERS(f32, DP_GEMM_F32)
PACKERS(to_bf16, DP_GEMM_F32_TO_BF16)
PACKERS(bf16, DP_GEMM_BF16)

void dp_gemm_avx512_to_bf16(int64_t n, const float *src, uint16_t *dst)
{
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = mask16(n - i);
        __m512i x = _mm512_castps_si512(round_bf16(_mm512_maskz_loadu_ps(m, src + i)));
        _mm256_mask_storeu_epi16(dst + i, m, _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16)));
    }
}

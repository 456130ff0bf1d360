/* Packing of operands into panels: the plain loops, and the choice of a level's packer.
 *
 * The four storage orders come down to two: vectors that are contiguous in k are transposed in
 * registers, vectors that lie side by side are copied row by row. The second goes over all panels of
 * a group for each k: a panel takes 56 or 128 bytes of a row, and where rows are a power of two apart
 * the rest of their cache lines would be gone when the next panel wants it. */
#include "trainer/gemm_internal.h"

static float element(const struct dp_gemm_operand *x, int64_t v, int64_t k)
{
    return x->f ? x->f[v * x->vs + k * x->ks] : dp_from_bf16(x->h[v * x->vs + k * x->ks]);
}

static uint16_t element_bf16(const struct dp_gemm_operand *x, int64_t v, int64_t k)
{
    return x->f ? dp_bf16(x->f[v * x->vs + k * x->ks]) : x->h[v * x->vs + k * x->ks];
}

static void pack_plain(const struct dp_gemm_level *l, const struct dp_gemm_operand *x, int64_t v0,
                       int count, int width, int64_t k0, int64_t k, float *out)
{
    if (!x->bf16) {
        for (int64_t p = 0; p < k; p++, out += width)
            for (int v = 0; v < width; v++) out[v] = v < count ? element(x, v0 + v, k0 + p) : 0;
        return;
    }
    for (int64_t p = 0; p < k; p += 2) {
        for (int v = 0; v < width; v++) {
            uint16_t even = v < count ? element_bf16(x, v0 + v, k0 + p) : 0;
            uint16_t odd = v < count && p + 1 < k ? element_bf16(x, v0 + v, k0 + p + 1) : 0;
            if (l->pairs) {
                uint32_t pair = even | (uint32_t)odd << 16;
                memcpy(out + v, &pair, sizeof pair);
            } else {
                out[v] = dp_from_bf16(odd);
                out[width + v] = dp_from_bf16(even);
            }
        }
        out += l->pairs ? width : 2 * width;
    }
}

void dp_gemm_pack_panels(const struct dp_gemm_level *l, const struct dp_gemm_operand *x,
                         const int64_t *first, int panels, int width, int64_t k0, int64_t k,
                         float *out)
{
    enum dp_gemm_format format = !x->bf16 ? DP_GEMM_F32 : x->f ? DP_GEMM_F32_TO_BF16 : DP_GEMM_BF16;
    int64_t size = dp_gemm_units(l, x->bf16, k) * width, at = k0 * x->ks;
    const void *src = x->f ? (const void *)(x->f + at) : x->h + at;
    if (x->ks != 1 && x->vs == 1 && l->columns[format]) {
        l->columns[format](k, panels, first, width, src, x->ks, out, size);
        return;
    }
    for (int i = 0; i < panels; i++, out += size) {
        int count = (int)(first[i + 1] - first[i]);
        at = k0 * x->ks + first[i] * x->vs;
        src = x->f ? (const void *)(x->f + at) : x->h + at;
        if (x->ks == 1 && l->rows[format]) l->rows[format](k, count, width, src, x->vs, out);
        else pack_plain(l, x, first[i], count, width, k0, k, out);
    }
}

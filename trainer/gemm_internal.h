/* trainer/gemm_internal.h - shared by gemm.c and gemm_pack.c: operands as both see them. */
#ifndef DP_TRAINER_GEMM_INTERNAL_H
#define DP_TRAINER_GEMM_INTERNAL_H

#include "trainer/gemm_kernels.h"

/* Rows of op(A), or columns of op(B): element (v, k) is at v * vs + k * ks of f, or of h. */
struct dp_gemm_operand {
    const float *f;
    const uint16_t *h;
    int64_t vs, ks;
    int bf16; /* to pack for a bf16 product */
};

static inline struct dp_gemm_operand dp_gemm_operand_a(const struct dp_gemm_args *g)
{
    return (struct dp_gemm_operand){g->a, g->a16, g->ta ? 1 : g->lda, g->ta ? g->lda : 1, g->bf16};
}

static inline struct dp_gemm_operand dp_gemm_operand_b(const struct dp_gemm_args *g)
{
    return (struct dp_gemm_operand){g->b, g->b16, g->tb ? g->ldb : 1, g->tb ? 1 : g->ldb, g->bf16};
}

/* Units of a panel of k values. */
static inline int64_t dp_gemm_units(const struct dp_gemm_level *l, int bf16, int64_t k)
{
    return !bf16 ? k : l->pairs ? (k + 1) / 2 : (k + 1) / 2 * 2;
}

/* Panels of vectors [first[i], first[i+1]) for i < panels, k values from k0 on; panel i goes to out
 * + i * units * width. */
void dp_gemm_pack_panels(const struct dp_gemm_level *l, const struct dp_gemm_operand *x,
                         const int64_t *first, int panels, int width, int64_t k0, int64_t k,
                         float *out);

#endif

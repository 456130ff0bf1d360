/* trainer/gemm.h - matrix products in single precision and in bf16, the same bits on every machine.
 *
 * What all of trainer/ promises: results are bit-identical for every thread count, every run and
 * every CPU level. How:
 *  - The scalar code is the specification. Vector levels run the same IEEE operations on the same
 * operands; they only do several elements at once. -ffp-contract=off, so a fused multiply-add
 * stands where fma is written and nowhere else.
 *  - A GEMM element is   C[i,j] = base[i,j] + bias[j] + S(0) + S(1) + ...   added from the left,
 * where S(b) is the chain acc = 0; acc = fma(A[i,k], B[k,j], acc) for k ascending in block b of
 * DP_GEMM_KC values of k. The first sum leaves out what is absent. Tiles, packing and threads do
 * not enter into it.
 *  - A bf16 product: operands are bf16 (dp_bf16 of what is given as float), blocks are
 * DP_GEMM_KC_BF16 values of k, padded with a zero to an even count, and S(b) takes pairs in the
 * order of vdpbf16ps: acc = fma(A[i,k+1], B[k+1,j], acc), then acc = fma(A[i,k], B[k,j], acc).
 * Every fma and every addition reads denormals as zeros and writes them as zeros of their sign
 * ("denormal" is judged after rounding to 24 bits, as the processor does). Levels without the
 * instruction run fp32's kernels on rounded operands with the same flushing: the same bits.
 *  - Sums over a row use 16 virtual lanes combined in one tree (tensor_template.inc); sums over
 * tokens go token by token.
 *  - exp is one polynomial in fma, log one series in double; work is cut by fixed tiles of the
 * data. Not promised: the same bits as other software, or NaN payloads.
 *
 * Memory: dp_gemm owns a buffer for B of DP_GEMM_PACK floats and one for A of DP_GEMM_PACK_A floats
 * a thread; a serial scratch is DP_GEMM_SCRATCH floats and belongs to one thread. Limits: m, n, k
 * and strides < 2^31 elements. NaN and infinities pass through as IEEE says. */
#ifndef DP_TRAINER_GEMM_H
#define DP_TRAINER_GEMM_H

#include "base/err.h"
#include "base/thread.h"
#include "trainer/half.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    DP_GEMM_KC = 256, /* part of the specification: block of k summed from zero */
    DP_GEMM_KC_BF16 = 512,
    DP_GEMM_PACK = 1 << 21, /* floats; not part of it, like the rest here */
    DP_GEMM_PACK_A = 1 << 16,
    DP_GEMM_SCRATCH_A = 256 * 160,
    DP_GEMM_SCRATCH_B = 256 * 256,
    DP_GEMM_SCRATCH = DP_GEMM_SCRATCH_A + DP_GEMM_SCRATCH_B,
};

/* To bf16: nearest, ties to even; denormals become zeros, NaN a quiet NaN (what vcvtneps2bf16 does).
 */
static inline uint16_t dp_bf16(float f)
{
    uint32_t u = dp_float_bits(f);
    return (u & 0x7f800000) == 0 ? (uint16_t)(u >> 16 & 0x8000) : dp_to_bf16(f);
}

/* B of a product in packed form, for weights that several products read between two updates. */
struct dp_gemm_packed {
    const struct dp_gemm_level *level;
    int64_t n, k;
    int bf16;
    void *data;
};

/* C[m,n] = base + bias + op(A) op(B). `ta`: A is stored [k,m]; `tb`: B is stored [n,k]; rows are
 * `ld` elements apart. base NULL: zero; base may be C (accumulate) or another [m,n] matrix. bias
 * NULL: zero, else n floats. C must not overlap A or B.
 * bf16: a bf16 product. Its operands are floats, rounded here, or bf16 already: a16 where a is NULL,
 * b16 where b is. `packed` (of the same n, k and bf16) takes the place of b, b16, ldb and tb. */
struct dp_gemm_args {
    int64_t m, n, k;
    const float *a;
    int64_t lda;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    const float *base;
    int64_t ldbase;
    const float *bias;
    int ta, tb;
    int bf16;
    const uint16_t *a16, *b16;
    const struct dp_gemm_packed *packed;
};

struct dp_gemm_level; /* the kernels of a CPU level: trainer/gemm_kernels.h */
extern const struct dp_gemm_level dp_gemm_scalar, dp_gemm_avx2, dp_gemm_avx512,
    dp_gemm_avx512bf16;
/* The level that dp_cpu() says. */
const struct dp_gemm_level *dp_gemm_level(void);

/* The peak of one thread in floating-point operations per second of CPU time, measured in about 0.1
 * s: what MFU divides by. bf16: of bf16 products at this level. */
double dp_gemm_peak(const struct dp_gemm_level *level, int bf16);

/* n floats to bf16. */
void dp_gemm_to_bf16(const struct dp_gemm_level *level, int64_t n, const float *src, uint16_t *dst);

/* A level, a pool (not owned, may be NULL) and packing memory. One call at a time. */
struct dp_gemm {
    const struct dp_gemm_level *level;
    struct dp_pool *pool;
    float *pack_a, *pack_b;
};
int dp_gemm_open(struct dp_gemm *g, struct dp_pool *pool, struct dp_err *e);
void dp_gemm_close(struct dp_gemm *g);
/* Over all threads of the pool. */
void dp_gemm_run(struct dp_gemm *g, const struct dp_gemm_args *args);
/* In the calling thread; scratch of DP_GEMM_SCRATCH floats, 64-byte aligned. Same bits. */
void dp_gemm_serial(const struct dp_gemm_level *level, float *scratch,
                    const struct dp_gemm_args *args);

/* Room for a B of [k,n]; about 4 n k bytes, in bf16 half of it on processors with the instruction. */
int dp_gemm_packed_open(struct dp_gemm_packed *p, const struct dp_gemm *g, int64_t n, int64_t k,
                        int bf16, struct dp_err *e);
void dp_gemm_packed_close(struct dp_gemm_packed *p);
/* Pack b or b16 (with ldb, tb) of args, over all threads. The product's bits are those without it. */
void dp_gemm_pack(struct dp_gemm *g, const struct dp_gemm_args *args, struct dp_gemm_packed *p);

/* n zeroed floats, 64-byte aligned (2 MiB and huge pages asked for when large); NULL when out of
 * memory. Freed with free(). */
float *dp_floats_alloc(uint64_t n);

#endif

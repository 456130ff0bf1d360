/* trainer/gemm.h - single-precision matrix products, the same bits on every machine.
 *
 * What all of trainer/ promises: results are bit-identical for every thread count, every run and every CPU level. How:
 *  - The scalar code is the specification. Vector levels run the same IEEE operations on the same operands; they only
 *    do several elements at once. -ffp-contract=off, so a fused multiply-add stands where fma is written and nowhere else.
 *  - A GEMM element is   C[i,j] = base[i,j] + bias[j] + S(0) + S(1) + ...   added from the left, where S(b) is the chain
 *    acc = 0; acc = fma(A[i,k], B[k,j], acc) for k ascending in block b of DP_GEMM_KC values of k. The first sum
 *    leaves out what is absent. Tiles, packing and threads do not enter into it.
 *  - Sums over a row use 16 virtual lanes combined in one tree (tensor_template.inc); sums over tokens go token by token.
 *  - exp is one polynomial in fma, log one series in double; work is cut by fixed tiles of the data.
 * Not promised: the same bits as other software, or NaN payloads.
 *
 * Memory: dp_gemm owns two packing buffers of at most DP_GEMM_PACK floats each (+ one panel); a serial scratch is DP_GEMM_SCRATCH
 * floats and belongs to one thread. Limits: m, n, k and strides < 2^31 elements. NaN and infinities pass through as IEEE says. */
#ifndef DP_TRAINER_GEMM_H
#define DP_TRAINER_GEMM_H

#include "base/err.h"
#include "base/thread.h"

#include <stddef.h>
#include <stdint.h>

enum {
    DP_GEMM_KC = 256,       /* part of the specification: block of k summed from zero */
    DP_GEMM_MC = 96,        /* a multiple of every level's mr; not part of it, like the rest here */
    DP_GEMM_NC = 256,
    DP_GEMM_PACK = 1 << 21, /* floats */
    DP_GEMM_SCRATCH = DP_GEMM_KC * (DP_GEMM_MC + DP_GEMM_NC + 64),
};

/* C[m,n] = base + bias + op(A) op(B). `ta`: A is stored [k,m]; `tb`: B is stored [n,k]; rows are `ld` floats apart.
 * base NULL: zero; base may be C (accumulate) or another [m,n] matrix. bias NULL: zero, else n floats. C must not overlap A or B. */
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
};

/* One level's inner kernel: c[mr,nr] = base + bias + packed a[kc][mr] * packed b[kc][nr]; base and bias may be NULL. */
typedef void (*dp_gemm_kernel_fn)(int64_t kc, const float *a, const float *b, const float *base, int64_t ldbase,
                                  const float *bias, float *c, int64_t ldc);
struct dp_gemm_level {
    int mr, nr; /* mr divides DP_GEMM_MC, nr divides DP_GEMM_NC */
    dp_gemm_kernel_fn kernel;
    /* Transpose rows[0..mr) x k into out[k][mr]; ld floats between rows. NULL: the plain loop. */
    void (*pack_a)(int64_t k, const float *a, int64_t lda, float *out);
    void (*pack_b)(int64_t k, const float *b, int64_t ldb, float *out); /* the same for nr rows */
    /* For measuring the processor's peak: n rounds of independent fused multiply-adds, `peak_flops` operations a round. */
    float (*peak)(int64_t n);
    int peak_flops;
};
extern const struct dp_gemm_level dp_gemm_scalar, dp_gemm_avx2, dp_gemm_avx512;
/* The level that dp_cpu() says. */
const struct dp_gemm_level *dp_gemm_level(void);

/* The peak of one thread in floating-point operations per second of CPU time, measured in about 0.1 s: what MFU divides by. */
double dp_gemm_peak(const struct dp_gemm_level *level);

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
void dp_gemm_serial(const struct dp_gemm_level *level, float *scratch, const struct dp_gemm_args *args);

/* n zeroed floats, 64-byte aligned (2 MiB and huge pages asked for when large); NULL when out of memory. Freed with free(). */
float *dp_floats_alloc(uint64_t n);

#endif

/* trainer/tensor_kernels.h - everything in a training step that is not a matrix product, one row or
 * tile a call.
 *
 * Each level fills one struct of function pointers from the same source (tensor_template.inc), so
 * the levels are bit-identical by construction (rules: top of gemm.h). No function here makes
 * threads; callers cut rows or columns by fixed tiles. Memory: none of its own. Thread-safety:
 * pure. Pointers need no alignment; lengths may be any n >= 0 unless stated. */
#ifndef DP_TRAINER_TENSOR_KERNELS_H
#define DP_TRAINER_TENSOR_KERNELS_H

#include <stdint.h>

/* What AdamW needs for one step; see optim.h. */
struct dp_adamw {
    float keep2;      /* beta2 */
    float mix1, mix2; /* 1 - beta1, 1 - beta2, each rounded once */
    float eps;
    float decay;      /* 1 - lr * weight decay, or 1 */
    float grad_scale; /* clipping factor, applied to the gradient as it is read */
    float rate;       /* lr / (1 - beta1^t) */
    float root;       /* 1 / sqrt(1 - beta2^t) */
};

struct dp_tensor_level {
    /* out = (x - mean) * rstd * w + b over n; b NULL: RMS norm (mean 0, w only). stat[0..1] = mean,
     * rstd for the backward pass. */
    void (*norm_fwd)(int64_t n, const float *x, const float *w, const float *b, float eps,
                     float *out, float stat[2]);
    /* dx += the norm's input gradient for one row. */
    void (*norm_bwd)(int64_t n, const float *x, const float *w, int rms, const float stat[2],
                     const float *dout, float *dx);
    /* Columns [c0, c0+n), n <= 64, of `rows` rows: dw += sum dout * xhat, db += sum dout (db may be
     * NULL), row by row. */
    void (*norm_bwd_weights)(int64_t rows, int64_t c0, int64_t n, int64_t ld, const float *x,
                             const float *stat, const float *dout, float *dw, float *db);
    /* Columns [c0, c0+n), n <= 64: out[c] += sum over rows of x[r][c], row by row. */
    void (*col_sum)(int64_t rows, int64_t c0, int64_t n, int64_t ld, const float *x, float *out);
    /* tanh-approximated GELU (Hendrycks, Gimpel 2016) and its gradient: dx = dout * gelu'(x); dx
     * may be dout. */
    void (*gelu_fwd)(int64_t n, const float *x, float *out);
    void (*gelu_bwd)(int64_t n, const float *x, const float *dout, float *dx);
    /* out = silu(gate) * up (Shazeer 2020). */
    void (*swiglu_fwd)(int64_t n, const float *gate, const float *up, float *out);
    void (*swiglu_bwd)(int64_t n, const float *gate, const float *up, const float *dout,
                       float *dgate, float *dup);
    /* Rotary embedding of one head vector of 2*half floats, rotate_half convention; sign -1 undoes
     * it (the gradient). */
    void (*rope)(int64_t half, const float *cosv, const float *sinv, float sign, float *x);
    /* s[0..n) -> softmax(scale * s) in place; returns m + log(sum), the scaled row's log-sum-exp. n
     * >= 1. */
    float (*softmax)(int64_t n, float scale, float *s);
    /* p = exp(scale*s - lse) into s; dp -> p * (dp - delta) * scale. */
    void (*softmax_bwd)(int64_t n, float scale, float lse, float delta, float *s, float *dp);
    /* logits[0..n) -> (softmax - onehot(target)) * scale in place; returns the loss -log
     * softmax[target]. scale 0: loss only, logits kept. *lse: log of the sum of exp(logits); z != 0
     * adds the gradient of z * lse^2 (not its value to the result). */
    float (*cross_entropy)(int64_t n, float *logits, int64_t target, float scale, float z,
                           float *lse);
    float (*dot)(int64_t n, const float *a, const float *b);
    /* x += a * y */
    void (*axpy)(int64_t n, float a, const float *y, float *x);
    void (*adamw)(int64_t n, const struct dp_adamw *o, const float *g, float *p, float *m,
                  float *v);
    /* out[k] = dot(n, a, b + k * ldb), k < 4: the same bits in less time. */
    void (*dot4)(int64_t n, const float *a, const float *b, int64_t ldb, float *out);
};
extern const struct dp_tensor_level dp_tensor_scalar, dp_tensor_avx2, dp_tensor_avx512;
/* The level that dp_cpu() says. */
const struct dp_tensor_level *dp_tensor_level(void);

/* Natural logarithm by a series in double without fused operations: the same bits at every level. x
 * > 0 and normal. */
double dp_tensor_log(double x);
/* sum x^2 in 16 lanes of double, combined in the fixed tree. */
double dp_tensor_sum_squares(int64_t n, const float *x);

#endif

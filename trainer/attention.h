/* trainer/attention.h - causal softmax attention with grouped keys and values, forward and
 * backward.
 *
 * Rows of `qkv` are tokens: heads*head_dim of q, then kv_heads*head_dim of k, then of v; query head
 * h uses kv head h / (heads/kv_heads). No T x T storage: scores exist for 64 query rows at a
 * time (128 of long documents), and the backward pass computes them again, 512 keys at a time, from
 * the log-sum-exp of each row (FlashAttention's bookkeeping, Dao et al. 2022). Memory:
 * dp_attention_scratch() floats a worker, the caller's. Bits: as gemm.h promises.
 *
 * Documents: with `positions`, a sequence is cut where they are 0, and each stretch is attended as
 * if it were a sequence alone: no other document's tokens enter its sums, and where it stands in
 * the row doesn't change its bits. */
#ifndef DP_TRAINER_ATTENTION_H
#define DP_TRAINER_ATTENTION_H

#include "base/thread.h"
#include "trainer/gemm.h"
#include "trainer/tensor_kernels.h"

struct dp_attention {
    int64_t batch, seq, heads, kv_heads, head_dim;
    const struct dp_gemm_level *gemm;
    const struct dp_tensor_level *ops;
    struct dp_pool *pool;
    float *scratch; /* workers * dp_attention_scratch(seq), 64-byte aligned */
    float scale;    /* of q k^T; usually 1/sqrt(head_dim) */
    /* [batch][seq]: of each token in its document, 0 at its first; NULL: a sequence is one. */
    const int32_t *positions;
    int bf16; /* products, not softmax */
};

uint64_t dp_attention_scratch(int64_t seq);
/* out [batch*seq][heads*head_dim], lse [batch][heads][seq]. */
void dp_attention_forward(const struct dp_attention *a, const float *qkv, float *out, float *lse);
/* dqkv is overwritten. */
void dp_attention_backward(const struct dp_attention *a, const float *qkv, const float *out,
                           const float *lse, const float *dout, float *dqkv);

#endif

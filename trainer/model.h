/* trainer/model.h - GPT-2 and Llama as one block structure: parameters, forward and backward pass.
 *
 * Both are  x += proj(attention(qkv(norm1 x)));  x += out(act(in(norm2 x)))  and differ in the norm
 * (LayerNorm with bias, RMSNorm), biases, position (learned table, RoPE in the rotate_half
 * convention), activation (tanh GELU, SwiGLU) and names (nanoGPT's; Hugging Face's
 * LlamaForCausalLM). Weights are [out, in]. q, k, v (and gate, up) of Llama lie next to each other,
 * so they are one product like GPT-2's c_attn.
 *
 * Memory: parameters and gradients in one block of floats each, activations in one arena sized at
 * open: about batch*seq*(3 dim + qkv + 1..2 ffn) floats a layer, plus one chunk of logits (never
 * batch*seq*vocab). Thread-safety: one caller; work is spread over the pool. Bits: as gemm.h
 * promises. */
#ifndef DP_TRAINER_MODEL_H
#define DP_TRAINER_MODEL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/thread.h"
#include "trainer/attention.h"
#include "trainer/dropout.h"
#include "trainer/gemm.h"
#include "trainer/tensor_kernels.h"

#include <stdbool.h>
#include <stdint.h>

/* What products multiply; sums, weights, norms, softmax and loss are fp32 in both. */
enum dp_dtype { DP_FP32, DP_BF16 };
enum dp_arch { DP_ARCH_GPT2, DP_ARCH_LLAMA };
enum { DP_MODEL_NAME_MAX = 80 };

struct dp_model_config {
    int arch; /* enum dp_arch */
    int64_t layers, dim, heads, kv_heads, ffn, seq_len, vocab;
    bool tied;         /* the head shares the token embedding */
    bool qk_norm;      /* RMS norm of each head's q and k, before RoPE (Qwen3) */
    int64_t head_dim;  /* 0: dim / heads */
    double norm_eps;   /* 0: 1e-5 */
    double rope_theta; /* 0: 10,000 */
    /* muP (Yang et al. 2022, table 8, Adam): hyper-parameters found at a dim of mup_base_dim hold at
     * this one. With m = dim / mup_base_dim: hidden matrices begin 1/sqrt(m) as large and learn at
     * 1/m of the rate, logits are multiplied by 1/m, q k^T by sqrt(mup_base_head_dim) / head_dim.
     * ffn must grow with dim. 0: off; mup_base_head_dim 0: head_dim (heads grow in number). */
    int64_t mup_base_dim, mup_base_head_dim;
    int dtype;         /* enum dp_dtype */
};
/* What the config says once its zeros are filled in. */
int64_t dp_model_head_dim(const struct dp_model_config *c);
int64_t dp_model_q_width(const struct dp_model_config *c);   /* heads * head_dim */
int64_t dp_model_qkv_width(const struct dp_model_config *c); /* with the keys and values */
float dp_model_norm_eps(const struct dp_model_config *c);
double dp_model_rope_theta(const struct dp_model_config *c);
float dp_model_attention_scale(const struct dp_model_config *c);
float dp_model_logit_scale(const struct dp_model_config *c);
/* Checks ranges and divisibility; DP_CONFIG names the option. GPT-2 wants kv_heads = heads. */
int dp_model_config_check(const struct dp_model_config *c, struct dp_err *e);
const char *dp_arch_name(int arch);

struct dp_param {
    char name[DP_MODEL_NAME_MAX];
    int64_t rows, cols; /* cols 0: one dimension */
    uint64_t offset;    /* in floats */
    bool residual;      /* projects into the residual stream: initialised smaller */
    bool hidden;        /* a matrix inside a block: from activations to activations */
    double rate;        /* the optimiser multiplies the learning rate by it; 1 but for muP */
};
static inline uint64_t dp_param_count(const struct dp_param *p)
{
    return (uint64_t)p->rows * (uint64_t)(p->cols ? p->cols : 1);
}

/* Offsets of a layer's tensors; what an architecture lacks is DP_NO_PARAM. */
#define DP_NO_PARAM UINT64_MAX
struct dp_layer_params {
    uint64_t norm1_w, norm1_b, norm2_w, norm2_b, qkv_w, qkv_b, proj_w, proj_b, in_w, in_b, out_w,
        out_b, q_norm_w, k_norm_w;
};
/* Where every parameter lies; owned, released with dp_layout_release. */
struct dp_layout {
    struct dp_param *params;
    size_t count, cap;
    struct dp_layer_params *layer;
    uint64_t wte, wpe, normf_w, normf_b, head;
    uint64_t floats; /* with padding, a multiple of 16 */
    uint64_t total;  /* parameters proper */
};
int dp_layout_init(struct dp_layout *l, const struct dp_model_config *c, struct dp_err *e);
void dp_layout_release(struct dp_layout *l);
/* NULL when there is none. */
const struct dp_param *dp_layout_find(const struct dp_layout *l, const char *name);
enum dp_init_kind { DP_INIT_UNIFORM, DP_INIT_NORMAL };
struct dp_init {
    int kind;           /* enum dp_init_kind */
    double std;         /* 0: 0.02 */
    bool residual_like; /* residual projections as large as the others, not 1/sqrt(2 layers) of it */
};
/* Weights of that distribution (muP's factors on top), norms 1, biases 0: a pure function of the
 * config, the seed and each matrix's place in parameter order. */
void dp_layout_init_as(const struct dp_layout *l, const struct dp_model_config *c,
                       const struct dp_init *how, uint64_t seed, float *p);
/* The same with zeros: uniform weights of standard deviation 0.02 (0.02/sqrt(2 layers) for residual
 * projections), norms 1, biases 0. The i-th number, counted over matrices in parameter order, is
 * splitmix64's first output from state mix(seed) + i: seed 0 gives the weights of the reference curve
 * in ../data/trainer. */
void dp_layout_init_weights(const struct dp_layout *l, const struct dp_model_config *c,
                            uint64_t seed, float *p);

/* What training does beside the model itself; zeros: nothing. */
struct dp_regime {
    double dropout_embed;    /* of the embeddings' sum */
    double dropout_residual; /* of what attention and feed-forward add to the stream, as GPT-2 has it */
    double z_loss;           /* adds z_loss * (log of the sum of exp(logits))^2 to each token's loss */
    uint64_t seed;           /* of dropout */
};

/* What a step's time goes into: CPU seconds of the process, added up since the caller last zeroed
 * them. */
#define DP_MODEL_PARTS(X)                                                                          \
    X(PRODUCTS, products)       /* of layers, forward */                                           \
    X(PRODUCTS_BWD, products_backward)                                                             \
    X(HEAD, head)               /* the classifier's three products */                              \
    X(LOSS, loss)               /* softmax and cross-entropy */                                    \
    X(ATTENTION, attention)                                                                        \
    X(ATTENTION_BWD, attention_backward)                                                           \
    X(NORM, norms)                                                                                 \
    X(ACT, activations)                                                                            \
    X(SUMS, bias_sums)                                                                             \
    X(EMBED, embedding)                                                                            \
    X(CLIP, gradient_norm)      /* of the trainer: zeroing, measuring */                           \
    X(UPDATE, update)
enum dp_model_part {
#define DP_MODEL_PART(id, name) DP_PART_##id,
    DP_MODEL_PARTS(DP_MODEL_PART)
#undef DP_MODEL_PART
    DP_PARTS
};
const char *dp_model_part_name(enum dp_model_part part);

struct dp_layer_acts {
    float *x, *stat1, *qkv, *att, *lse, *x2, *stat2, *pre;
    float *qkv_raw, *qk_stat; /* with qk_norm: as the product gave them; [heads+kv_heads][rows][2] */
};
struct dp_model {
    struct dp_model_config c;
    struct dp_layout layout;
    int64_t batch;
    float *p, *g; /* parameters, gradients (NULL when opened without training) */
    struct dp_gemm gemm;
    struct dp_attention attention;
    const struct dp_tensor_level *ops;
    struct dp_pool *pool;
    float *arena;
    struct dp_layer_acts *acts;
    float *xf, *normf, *statf, *logits, *losses, *z_losses, *dx, *dsmall, *rope_cos, *rope_sin, *scratch, *head_scratch;
    float *wide, *narrow;            /* of one layer: act, then its gradient or dqkv; a norm's output */
    bool fresh;                      /* the next run with a scale sets gradients */
    int64_t chunk;                   /* rows of logits held */
    const int32_t *tokens, *targets; /* of the call that runs */
    int64_t rows;                    /* tokens of the call that runs */
    /* Set by dp_model_documents. */
    const int32_t *positions;
    bool restart;
    /* Set by dp_model_regime; at work in calls of dp_model_run with a gradient. */
    struct dp_regime regime;
    float *dropped; /* gradient behind a dropout, NULL without */
    bool training;  /* the call that runs */
    /* Set by the caller before such a call: the number of its first sequence, counted from the
     * beginning of training over all passes of all ranks. It is what dropout's numbers depend on. */
    uint64_t sequence;
    double z_sum; /* of z-losses in the last call; not in its loss_sum */
    double seconds[DP_PARTS];
    double lap; /* when the part that runs began */
    /* NULL, or called on the caller's thread between parts of the backward pass: gradients of parameters from float `from` of
     * the layout on are finished (parallel.h). */
    void (*finished)(void *ctx, uint64_t from);
    void *finished_ctx;
};
/* All time since the last lap, or dp_model_lap_start, is `part`'s. */
void dp_model_lap_start(struct dp_model *m);
void dp_model_lap(struct dp_model *m, enum dp_model_part part);

/* Room for `batch` sequences of seq_len. Parameters are zero until set. The pool is not owned. */
int dp_model_open(struct dp_model **out, const struct dp_model_config *c, int64_t batch,
                  bool training, struct dp_pool *pool, struct dp_err *e);
void dp_model_close(struct dp_model *m);
/* What the activations of such a model take; 0: no memory to say it. The config is a checked one. */
uint64_t dp_model_arena_bytes(const struct dp_model_config *c, int64_t batch, bool training,
                              struct dp_pool *pool);
/* Multiplications and additions a token of training: 6 (12 L C^2 + V C) + 6 L T C for GPT-2. */
double dp_model_flops(const struct dp_model_config *c);
/* The documents of the sequences that the next calls are given: positions[sequences][seq_len] is the
 * place of each token in its document, 0 at its first (as trainer_feed/feed.h has them); it is not
 * copied. A token attends to its own document only, and with `restart` the embedding or rotation of
 * its position is that of its place there, so a document's logits don't depend, bit for bit, on
 * where it is packed, or with what. Positions must be in [0, index in the row] and grow by one or
 * start anew. NULL: a sequence is one document. */
void dp_model_documents(struct dp_model *m, const int32_t *positions, bool restart);
/* DP_CONFIG for probabilities outside [0, 1) or a z_loss that isn't in [0, 1]. */
int dp_model_regime(struct dp_model *m, const struct dp_regime *r, struct dp_err *e);
/* Mean-free loss of `sequences` <= batch rows of seq_len tokens; target -1 is ignored. Adds nothing
 * to gradients when scale = 0, else the gradient of scale * (sum of losses). *loss_sum and *count
 * are set. Tokens must be in [0, vocab), targets in [-1, vocab). */
void dp_model_run(struct dp_model *m, const int32_t *tokens, const int32_t *targets,
                  int64_t sequences, float scale, double *loss_sum, int64_t *count);
/* Forget the gradients: the next run with a scale sets them instead of adding. Cheaper than zeroing
 * them, as products then needn't read them. */
void dp_model_fresh_gradients(struct dp_model *m);
/* logits [sequences*seq_len][vocab]; for tests and export. */
void dp_model_logits(struct dp_model *m, const int32_t *tokens, int64_t sequences, float *logits);
/* Fill cos/sin [seq_len][head_dim/2] of RoPE. */
void dp_rope_tables(int64_t seq, int64_t head_dim, double theta, float *cosv, float *sinv);

#endif

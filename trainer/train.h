/* trainer/train.h - the trainer as its users see it: open, step, evaluate, save, load.
 *
 * The caller brings token ids (trainer_feed) and a pool; the trainer knows nothing of files but
 * checkpoints. A row of ids is seq_len + 1 tokens: inputs are the first seq_len, targets the last.
 * A negative id means "token ~id, but no loss where it is the target" (label masks); with documents
 * masked or restarted, DP_TRAIN_FIRST in what is left marks a document's first token. The same
 * options, ids and checkpoint give the same bits whatever the pool or CPU level. Memory: 16 bytes a
 * parameter and the activations (model.h). Thread-safety: one caller. */
#ifndef DP_TRAINER_TRAIN_H
#define DP_TRAINER_TRAIN_H

#include "base/err.h"
#include "base/opt.h"
#include "base/thread.h"
#include "trainer/dist.h"
#include "trainer/model.h"
#include "trainer/safetensors.h"
#include "trainer/spike.h"

enum { DP_TRAIN_FIRST = 1 << 30 };
enum dp_documents { DP_DOCUMENTS_JOINED, DP_DOCUMENTS_MASKED, DP_DOCUMENTS_RESTARTED };
/* Put what the feed says of a row (trainer_feed/feed.h's positions and loss_mask [seq_len], either may
 * be NULL) into its ids[seq_len + 1]. */
void dp_train_mark(int32_t *ids, int64_t seq_len, const int32_t *positions, const uint8_t *loss_mask);

struct dp_train_options {
    int arch;  /* enum dp_arch */
    int dtype; /* enum dp_dtype */
    int64_t layers, dim, heads;
    int64_t kv_heads; /* 0: heads */
    int64_t ffn;      /* 0: 4 dim (gpt2), 8/3 dim rounded up to 32 (llama) */
    int64_t seq_len, batch, accum, steps, warmup, eval_every, eval_batches, ckpt_every;
    double lr, min_lr, beta1, beta2, eps, weight_decay, clip;
    int64_t seed;
    bool tied;   /* the head shares the token embedding; gpt2's does */
    bool untied; /* not even gpt2's */
    bool qk_norm;
    int64_t head_dim; /* 0: dim / heads */
    double norm_eps, rope_theta;
    int documents; /* enum dp_documents */
    double dropout_embed, dropout_residual, z_loss, init_std;
    int init;           /* enum dp_init_kind */
    bool init_residual; /* residual projections begin smaller */
    int64_t mup_base_dim, mup_base_head_dim;
    int optimizer, schedule, decay; /* enum dp_optimizer, dp_schedule_kind, dp_decay */
    int64_t decay_steps, spike_window, ckpt_keep;
    double muon_lr, muon_momentum, spike;
    int muon_scale;  /* 0: by shape, as its author; 1: to AdamW's RMS */
    bool nesterov, spike_skip;
    char *lr_scale;
    char *init_from; /* weights to begin with, and the shape of the model (trainer/weights.h); NULL: random ones */
};
extern const struct dp_opt
    dp_train_opts[]; /* defaults: a GPT-2 of about 10M parameters with 8,192 tokens */

/* The model that the options describe, and whether the options fit together (DP_CONFIG). */
struct dp_model_config dp_train_config(const struct dp_train_options *o, int64_t vocab);
int dp_train_check(const struct dp_train_options *o, struct dp_err *e);

struct dp_step_result {
    double loss, norm, lr; /* norm before clipping */
    int64_t tokens;        /* targets counted in the loss */
    int64_t step;          /* updates done, this one included */
    struct dp_spike_judgement spike;
    bool skipped; /* a spike, and spike_skip: parameters and moments are as before */
};

struct dp_trainer;
/* Weights are initialised from options->seed. DP_CONFIG for options that don't fit together. The
 * pool is not owned. */
int dp_trainer_open(struct dp_trainer **out, const struct dp_train_options *o, int64_t vocab_size,
                    struct dp_pool *pool, struct dp_err *e);
/* The same with the ranks of d (NULL: none): rank 0 calls it and what follows as if it were alone, batch * accum rows being those of all
 * ranks; the others are in dp_trainer_follow. d is not owned. docs/train-mpi.md. */
int dp_trainer_open_ranks(struct dp_trainer **out, const struct dp_train_options *o, int64_t vocab_size,
                          struct dp_pool *pool, struct dp_dist *d, struct dp_err *e);
/* Ranks but 0: do what rank 0's trainers do, until it dismisses them. */
int dp_trainer_follow(struct dp_dist *d, struct dp_pool *pool, struct dp_err *e);
/* Rank 0, behind its last trainer. */
void dp_trainer_dismiss(struct dp_dist *d);
void dp_trainer_close(struct dp_trainer *t);
/* One update from ids[batch*accum][seq_len+1]. DP_CORRUPT: an id outside the vocabulary, or a loss
 * or gradient that is not finite; then parameters and moments are as before. */
int dp_trainer_step(struct dp_trainer *t, const int32_t *ids, struct dp_step_result *r,
                    struct dp_err *e);
/* Mean losses (nats) of the last step's rows [batch*accum]; NaN for a row without targets. */
const double *dp_trainer_row_losses(const struct dp_trainer *t);
/* The rate of the update behind `step` others. */
double dp_trainer_rate(const struct dp_trainer *t, int64_t step);
/* Keep the window of spike detection in checkpoints, which without spike_skip (where it decides about
 * weights) isn't done: they are the same bytes whether spikes are looked for or not. */
void dp_trainer_keep_losses(struct dp_trainer *t);
/* Adds nothing; sum of losses (nats) and number of targets over ids[rows][seq_len+1]. */
int dp_trainer_eval(struct dp_trainer *t, const int32_t *ids, int64_t rows, double *loss_sum,
                    int64_t *count, struct dp_err *e);
/* Writes a new file at `path` and fsyncs it; publishing it by rename is the caller's. At most
 * DP_CKPT_EXTRA_MAX pairs. */
int dp_trainer_save(struct dp_trainer *t, const char *path, const struct dp_safetensors_kv *extra,
                    size_t extra_count, struct dp_err *e);
/* Continue from a checkpoint of the same architecture and sizes. On failure nothing has changed. */
int dp_trainer_load(struct dp_trainer *t, const char *path, struct dp_err *e);
uint64_t dp_trainer_params(const struct dp_trainer *t);
int64_t dp_trainer_steps_done(const struct dp_trainer *t);
/* Multiplications and additions of one step, as 6 (12 L C^2 + V C) + 6 L T C per token does for
 * GPT-2. */
double dp_trainer_flops(const struct dp_trainer *t);
/* The model, for generation, export and tests. */
struct dp_model *dp_trainer_model(struct dp_trainer *t);

/* The largest absolute differences between a replay here and a vector file. */
struct dp_verify_result {
    double logits, losses, grad, grad_norms, after3, m3, v3;
    double key_bias_grad; /* largest gradient of gpt2's key biases: 0 in exact arithmetic, and left
                             out of after3 */
    int64_t tensors;      /* reference tensors compared */
    int64_t steps;
    char worst[DP_MODEL_NAME_MAX +
               16]; /* the tensor furthest beyond its tolerance, or nearest to it */
    bool ok;        /* all within about 10x PyTorch's own distance between fp32 and fp64 */
};
/* Replay a file in the format of ../data/trainer: any sizes that its metadata states; as many steps
 * as `losses` has. Reference tensors of grad., after3., m3. and v3. may be absent (then they are
 * not counted), init., tokens, targets, losses may not. */
int dp_trainer_verify(const char *path, struct dp_pool *pool, struct dp_verify_result *r,
                      struct dp_err *e);

#endif

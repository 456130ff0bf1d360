/* A step: check ids, count targets (the mean is over all micro-batches, so each one's gradient is
 * scaled by the same 1/count), run forward and backward for each micro-batch into the same
 * gradient, measure the norm, clip and update. Whatever is not finite is found before the update,
 * so a failed step leaves the state as the last checkpoint would. */
#include "trainer/train.h"

#include "trainer/ckpt.h"
#include "trainer/optim.h"
#include "trainer/lr_schedule.h"
#include "trainer/parallel.h"
#include "trainer/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROW(n, t, p, lo, hi, a, h)                                                                 \
    .name = #n, .type = (t), .offset = offsetof(struct dp_train_options, n), .preset = (p),        \
    .min = (lo), .max = (hi), .arg = (a), .help = (h)
#define INT(n, p, lo, hi, h) {ROW(n, DP_OPT_INT, p, lo, hi, "N", h)}
#define SIDE(n, p, lo, hi, h) {ROW(n, DP_OPT_INT, p, lo, hi, "N", h), .flags = DP_OPT_NOKEY}
#define REAL(n, p, lo, hi, h) {ROW(n, DP_OPT_REAL, p, lo, hi, "X", h)}
/* Options that came after artifacts had been made with this table. */
#define LATER .flags = DP_OPT_LATER
#define PICK(n, p, c, h) {ROW(n, DP_OPT_CHOICE, p, 0, 0, NULL, h), .choices = (c), LATER}

const struct dp_opt dp_train_opts[] = {
    {ROW(arch, DP_OPT_CHOICE, "gpt2", 0, 0, NULL, "architecture"), .choices = "gpt2|llama"},
    {ROW(dtype, DP_OPT_CHOICE, "fp32", 0, 0, NULL, "what products multiply; weights, sums, norms and loss stay fp32"),
     .choices = "fp32|bf16"},
    INT(layers, "6", 1, 1024, "transformer blocks"),
    INT(dim, "384", 1, 131072, "width of the residual stream"),
    INT(heads, "6", 1, 4096, "attention heads; must divide dim"),
    INT(kv_heads, "0", 0, 4096, "key and value heads (llama); 0: as many as heads"),
    INT(ffn, "0", 0, 524288, "width of the feed-forward layer; 0: 4 dim (gpt2), 8/3 dim (llama)"),
    INT(seq_len, "256", 1, 262144, "tokens a sequence"),
    INT(batch, "4", 1, 65536, "sequences a forward pass"),
    INT(accum, "1", 1, 65536, "forward passes an update"),
    INT(steps, "1000", 1, 1e12, "updates in all; the learning rate ends there"),
    INT(warmup, "50", 0, 1e12, "updates of linear warm-up"),
    REAL(lr, "1e-3", 0, 10, "peak learning rate"),
    REAL(min_lr, "1e-4", 0, 10, "learning rate at the end of the cosine"),
    REAL(beta1, "0.9", 0, 0.9999999, "decay of AdamW's first moment"),
    REAL(beta2, "0.95", 0, 0.9999999, "decay of AdamW's second moment"),
    REAL(eps, "1e-8", 1e-30, 1, "AdamW's epsilon"),
    REAL(weight_decay, "0.1", 0, 10, "decoupled decay of matrices"),
    REAL(clip, "1", 0, 1e9, "largest norm of the gradient; 0: no clipping"),
    INT(seed, "1", 0, 9e18, "seed of the initial weights"),
    {ROW(tied, DP_OPT_BOOL, "false", 0, 0, NULL,
         "let llama's head share the token embedding (gpt2's does)")},
    {ROW(untied, DP_OPT_BOOL, "false", 0, 0, NULL, "give gpt2's head weights of its own"), LATER},
    {ROW(qk_norm, DP_OPT_BOOL, "false", 0, 0, NULL, "RMS norm of each head's queries and keys"),
     LATER},
    {ROW(head_dim, DP_OPT_INT, "0", 0, 131072, "N", "width of a head; 0: dim / heads"), LATER},
    {ROW(norm_eps, DP_OPT_REAL, "1e-5", 1e-30, 1, "X", "added to the variance in norms"), LATER},
    {ROW(rope_theta, DP_OPT_REAL, "10000", 1, 1e12, "X", "base of rotary positions (llama)"), LATER},
    PICK(documents, "joined", "joined|masked|restarted",
         "masked: tokens attend to their own document only; restarted: and positions begin anew in each"),
    {ROW(dropout_embed, DP_OPT_REAL, "0", 0, 0.999, "X", "dropout of the embeddings"), LATER},
    {ROW(dropout_residual, DP_OPT_REAL, "0", 0, 0.999, "X",
         "dropout of what attention and feed-forward add to the stream"),
     LATER},
    {ROW(z_loss, DP_OPT_REAL, "0", 0, 1, "X",
         "weight of the squared log of the softmax's sum, which keeps logits small; 1e-4 is usual"),
     LATER},
    PICK(init, "uniform", "uniform|normal", "distribution of the initial weights"),
    {ROW(init_std, DP_OPT_REAL, "0.02", 1e-9, 100, "X", "their standard deviation"), LATER},
    {ROW(init_residual, DP_OPT_BOOL, "true", 0, 0, NULL,
         "projections into the stream begin 1/sqrt(2 layers) as large"),
     LATER},
    {ROW(mup_base_dim, DP_OPT_INT, "0", 0, 131072, "N",
         "muP: the dim that lr and init_std were found with; 0: off"),
     LATER},
    {ROW(mup_base_head_dim, DP_OPT_INT, "0", 0, 131072, "N",
         "muP: its width of a head; 0: the same as here"),
     LATER},
    PICK(optimizer, "adamw", "adamw|muon",
         "muon: for the matrices of the blocks; embeddings, head and vectors stay with adamw"),
    {ROW(muon_lr, DP_OPT_REAL, "0.02", 0, 10, "X", "peak learning rate of Muon's matrices"), LATER},
    {ROW(muon_momentum, DP_OPT_REAL, "0.95", 0, 0.9999999, "X", "decay of Muon's momentum"), LATER},
    {ROW(nesterov, DP_OPT_BOOL, "true", 0, 0, NULL, "Muon looks ahead by Nesterov's rule"), LATER},
    PICK(muon_scale, "shape", "shape|rms",
         "Muon's rate by a matrix's shape, or (rms) as large as AdamW's updates, for muon_lr = lr"),
    PICK(schedule, "cosine", "cosine|linear|wsd|constant",
         "behind the warm-up; wsd: stay at lr, then fall linearly over the last decay_steps"),
    {ROW(decay_steps, DP_OPT_INT, "0", 0, 1e12, "N", "wsd: updates that fall; 0: a fifth of steps"), LATER},
    PICK(decay, "matrices", "matrices|hidden|all",
         "what weight_decay is for: matrices, those that are neither embedding nor head, or all"),
    {ROW(lr_scale, DP_OPT_LIST, NULL, 0, 0, "PART=X,...",
         "factors of the learning rate of tensors whose name has PART in it"),
     LATER},
    {ROW(spike, DP_OPT_REAL, "8", 0, 1e9, "X",
         "a loss so many deviations above the running median is a spike: it is reported with the "
         "batch's documents; 0: none is"),
     LATER},
    {ROW(spike_window, DP_OPT_INT, "64", 16, DP_SPIKE_WINDOW_MAX, "N", "losses that the median is of"), LATER},
    {ROW(spike_skip, DP_OPT_BOOL, "false", 0, 0, NULL, "leave out the update of a spike"), LATER},
    {ROW(init_from, DP_OPT_STRING, NULL, 0, 0, "PATH",
         "begin with the weights of a Hugging Face folder or a checkpoint, whose shape replaces arch to ffn"),
     .flags = DP_OPT_PATH | DP_OPT_NOKEY}, /* the key has its digest */
    SIDE(eval_every, "100", 0, 1e12, "updates between evaluations; 0: none"),
    SIDE(eval_batches, "8", 1, 1e9, "batches an evaluation"),
    SIDE(ckpt_every, "500", 0, 1e12, "updates between checkpoints; 0: only at the end"),
    SIDE(ckpt_keep, "2", 1, 1000, "checkpoints that stay (train --out); older ones are removed"),
    DP_OPT_END,
};

struct dp_trainer {
    struct dp_train_options o;
    struct dp_model *model;
    struct dp_optim optim;
    struct dp_weights start; /* of init_from, while opening */
    struct dp_pool *pool;
    struct dp_parallel *ranks; /* NULL: alone */
    int64_t batch;             /* sequences a forward pass here: o.batch, or less with ranks */
    int32_t *tokens, *targets; /* one micro-batch */
    int32_t *places;           /* of its tokens in their documents; NULL: rows are one */
    double *row_loss;          /* of the last step */
    int64_t step;
    uint64_t seed;
    struct dp_schedule schedule;
    struct dp_spike spike;
    bool keep_losses;
};

struct dp_model_config dp_train_config(const struct dp_train_options *o, int64_t vocab)
{
    bool llama = o->arch == DP_ARCH_LLAMA;
    int64_t ffn = o->ffn ? o->ffn : llama ? (o->dim * 8 / 3 + 31) / 32 * 32 : o->dim * 4;
    return (struct dp_model_config){.arch = o->arch,
                                    .layers = o->layers,
                                    .dim = o->dim,
                                    .heads = o->heads,
                                    .kv_heads = o->kv_heads ? o->kv_heads : o->heads,
                                    .ffn = ffn,
                                    .seq_len = o->seq_len,
                                    .vocab = vocab,
                                    .tied = o->tied || (!llama && !o->untied),
                                    .qk_norm = o->qk_norm,
                                    .head_dim = o->head_dim,
                                    .norm_eps = o->norm_eps,
                                    .rope_theta = o->rope_theta,
                                    .mup_base_dim = o->mup_base_dim,
                                    .mup_base_head_dim = o->mup_base_head_dim,
                                    .dtype = o->dtype};
}

int dp_train_check(const struct dp_train_options *o, struct dp_err *e)
{
    if (o->accum < 1 || o->steps < 1 || o->warmup < 0)
        DP_FAIL(e, CONFIG, "accum and steps must be positive, warmup not negative");
    if (o->warmup > o->steps)
        DP_FAIL(e, CONFIG, "warmup %lld is longer than steps %lld", (long long)o->warmup,
                (long long)o->steps);
    if (o->tied && o->untied) DP_FAIL(e, CONFIG, "tied and untied: choose one");
    if (!(o->lr >= 0) || !(o->min_lr >= 0) || o->min_lr > o->lr)
        DP_FAIL(e, CONFIG, "min_lr %g must be from 0 to lr %g", o->min_lr, o->lr);
    if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1))
        DP_FAIL(e, CONFIG, "beta1 and beta2 must be in [0, 1)");
    if (!(o->eps > 0) || !(o->weight_decay >= 0) || !(o->clip >= 0))
        DP_FAIL(e, CONFIG, "eps must be positive, weight_decay and clip not negative");
    if (!(o->muon_lr >= 0) || !(o->muon_momentum >= 0 && o->muon_momentum < 1))
        DP_FAIL(e, CONFIG, "muon_lr must not be negative, muon_momentum in [0, 1)");
    if (o->decay_steps < 0 || o->decay_steps > o->steps)
        DP_FAIL(e, CONFIG, "decay_steps %lld must be from 0 to steps %lld",
                (long long)o->decay_steps, (long long)o->steps);
    return DP_OK;
}

/* Options that say by themselves what o and init_from's weights say together: what ranks without its files open. */
static struct dp_train_options with_shape(const struct dp_train_options *o, const struct dp_model_config *c)
{
    struct dp_train_options s = *o;
    if (!o->init_from) return s;
    s.init_from = NULL;
    s.arch = c->arch;
    s.dtype = c->dtype;
    s.layers = c->layers;
    s.dim = c->dim;
    s.heads = c->heads;
    s.kv_heads = c->kv_heads;
    s.ffn = c->ffn;
    s.tied = c->tied;
    s.untied = !c->tied && c->arch == DP_ARCH_GPT2;
    s.qk_norm = c->qk_norm;
    s.head_dim = c->head_dim;
    s.norm_eps = (double)dp_model_norm_eps(c);
    s.rope_theta = dp_model_rope_theta(c);
    s.mup_base_dim = c->mup_base_dim;
    s.mup_base_head_dim = c->mup_base_head_dim;
    return s;
}

static int open_parts(struct dp_trainer *t, int64_t vocab, struct dp_dist *d, struct dp_err *e)
{
    DP_TRY(dp_train_check(&t->o, e));
    if (t->o.dim < 1 || t->o.dim > 1 << 17)
        DP_FAIL(e, CONFIG, "dim is %lld: must be from 1 to %d", (long long)t->o.dim, 1 << 17);
    struct dp_model_config c = dp_train_config(&t->o, vocab);
    if (t->o.init_from) {
        DP_TRY(dp_weights_open(&t->start, t->o.init_from, e));
        DP_TRY(dp_weights_shape(&t->start, vocab, c.seq_len, &c, e));
    }
    DP_TRY(dp_parallel_batch(d, &t->o, &t->batch, e));
    DP_TRY(dp_model_open(&t->model, &c, t->batch, true, t->pool, e));
    const struct dp_regime regime = {t->o.dropout_embed, t->o.dropout_residual, t->o.z_loss, t->seed};
    DP_TRY(dp_model_regime(t->model, &regime, e));
    const struct dp_optim_options how = {t->o.optimizer, t->o.decay,           t->o.lr_scale,
                                         t->o.nesterov,  t->o.muon_scale == 1, t->o.muon_momentum};
    DP_TRY(dp_optim_open_with(&t->optim, &t->model->layout, &how, e));
    DP_TRY(dp_parallel_open(&t->ranks, d, t->model, &t->optim, &t->step, &t->seed, e));
    size_t n = (size_t)t->batch * (size_t)c.seq_len;
    t->tokens = calloc(n, sizeof *t->tokens);
    t->targets = calloc(n, sizeof *t->targets);
    t->row_loss = calloc((size_t)(t->o.batch * t->o.accum), sizeof *t->row_loss);
    if (!t->tokens || !t->targets || !t->row_loss) DP_FAIL(e, NOMEM, "batch of %zu tokens", n);
    if (t->o.documents != DP_DOCUMENTS_JOINED) {
        t->places = calloc(n, sizeof *t->places);
        if (!t->places) DP_FAIL(e, NOMEM, "batch of %zu tokens", n);
        dp_model_documents(t->model, t->places, t->o.documents == DP_DOCUMENTS_RESTARTED);
    }
    const struct dp_init init = {t->o.init, t->o.init_std, !t->o.init_residual};
    if (t->o.init_from) dp_weights_copy(&t->start, &t->model->layout, t->model->p);
    else dp_layout_init_as(&t->model->layout, &c, &init, t->seed, t->model->p);
    dp_weights_close(&t->start);
    struct dp_train_options same = with_shape(&t->o, &c);
    return dp_parallel_opened(t->ranks, &same, c.vocab, e);
}

int dp_trainer_open(struct dp_trainer **out, const struct dp_train_options *o, int64_t vocab_size,
                    struct dp_pool *pool, struct dp_err *e)
{
    return dp_trainer_open_ranks(out, o, vocab_size, pool, NULL, e);
}

int dp_trainer_open_ranks(struct dp_trainer **out, const struct dp_train_options *o, int64_t vocab_size,
                          struct dp_pool *pool, struct dp_dist *d, struct dp_err *e)
{
    *out = NULL;
    struct dp_trainer *t = calloc(1, sizeof *t);
    if (!t) DP_FAIL(e, NOMEM, "trainer");
    t->o = *o;
    t->pool = pool;
    t->seed = (uint64_t)o->seed;
    t->schedule = (struct dp_schedule){o->schedule, o->lr,    o->min_lr,
                                       o->warmup,   o->steps, o->decay_steps};
    bool fits = o->spike_window >= 1 && o->spike_window <= DP_SPIKE_WINDOW_MAX;
    t->spike = (struct dp_spike){.window = fits ? o->spike_window : 1, .limit = fits ? o->spike : 0};
    int rc = open_parts(t, vocab_size, d, e);
    if (rc < 0) {
        dp_trainer_close(t);
        return rc;
    }
    *out = t;
    return DP_OK;
}

void dp_trainer_close(struct dp_trainer *t)
{
    if (!t) return;
    dp_weights_close(&t->start);
    dp_parallel_close(t->ranks);
    dp_model_close(t->model);
    dp_optim_close(&t->optim);
    free(t->tokens);
    free(t->targets);
    free(t->places);
    free(t->row_loss);
    free(t);
}

/* ids[rows][seq_len+1] -> targets that count. */
static int check_ids(const struct dp_trainer *t, const int32_t *ids, int64_t rows, int64_t *count,
                     struct dp_err *e)
{
    int64_t width = t->model->c.seq_len + 1;
    *count = 0;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < width; i++) {
            int32_t id = ids[r * width + i], token = id < 0 ? ~id : id;
            if (t->places) token &= ~DP_TRAIN_FIRST;
            if (token >= t->model->c.vocab)
                DP_FAIL(e, CORRUPT,
                        "token %d at row %lld, position %lld is outside the vocabulary of %lld: "
                        "the shards were made with another tokenizer",
                        token, (long long)r, (long long)i, (long long)t->model->c.vocab);
            *count += i > 0 && id >= 0;
        }
    }
    return DP_OK;
}

static void split(struct dp_trainer *t, const int32_t *ids, int64_t rows)
{
    int64_t n = t->model->c.seq_len;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i++) {
            int32_t id = ids[r * (n + 1) + i], next = ids[r * (n + 1) + i + 1];
            if (id < 0) id = ~id;
            if (t->places) {
                bool first = i == 0 || (id & DP_TRAIN_FIRST);
                t->places[r * n + i] = first ? 0 : t->places[r * n + i - 1] + 1;
                id &= ~DP_TRAIN_FIRST;
                if (next >= 0) next &= ~DP_TRAIN_FIRST;
            }
            t->tokens[r * n + i] = id;
            t->targets[r * n + i] = next < 0 ? -1 : next;
        }
    }
}

void dp_train_mark(int32_t *ids, int64_t seq_len, const int32_t *positions, const uint8_t *loss_mask)
{
    for (int64_t i = 0; i < seq_len; i++) {
        if (positions && i && positions[i] == 0)
            ids[i] = ids[i] < 0 ? ~(~ids[i] | DP_TRAIN_FIRST) : ids[i] | DP_TRAIN_FIRST;
        if (loss_mask && !loss_mask[i] && ids[i + 1] >= 0) ids[i + 1] = ~ids[i + 1];
    }
}

/* Of the micro-batch that ran last, from its first row's place among the step's rows. */
static void keep_row_losses(struct dp_trainer *t, int64_t rows, double *out)
{
    int64_t n = t->model->c.seq_len;
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        int64_t targets = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += (double)t->model->losses[r * n + i];
            targets += t->targets[r * n + i] >= 0;
        }
        out[r] = targets ? sum / (double)targets : (double)NAN;
    }
}

const double *dp_trainer_row_losses(const struct dp_trainer *t)
{
    return t->row_loss;
}

double dp_trainer_rate(const struct dp_trainer *t, int64_t step)
{
    return dp_schedule_rate(&t->schedule, step);
}

void dp_trainer_keep_losses(struct dp_trainer *t)
{
    t->keep_losses = true;
}

static void update(struct dp_trainer *t, double norm, double lr)
{
    struct dp_optim_rates rates = {lr,
                                   t->o.beta1,
                                   t->o.beta2,
                                   t->o.eps,
                                   t->o.weight_decay,
                                   t->o.clip,
                                   t->o.lr > 0 ? t->o.muon_lr * lr / t->o.lr : 0};
    dp_optim_step(&t->optim, t->pool, &rates, t->step, norm, t->model->g, t->model->p);
}

/* Sum of losses of this rank's rows, and their gradient scaled by 1/count. */
static double accumulate(struct dp_trainer *t, const struct dp_parallel_rows *rows)
{
    struct dp_model *m = t->model;
    double sum = 0;
    dp_model_lap_start(m);
    dp_model_fresh_gradients(m); /* a rank has a row at least */
    memset(t->row_loss, 0, (size_t)(t->o.batch * t->o.accum) * sizeof *t->row_loss);
    for (int64_t at = 0; at < rows->rows; at += t->batch) {
        int64_t now = rows->rows - at < t->batch ? rows->rows - at : t->batch, n;
        double part;
        if (at + now == rows->rows) dp_parallel_overlap(t->ranks);
        split(t, rows->ids + at * (m->c.seq_len + 1), now);
        m->sequence = (uint64_t)(t->step * t->o.batch * t->o.accum + rows->first + at);
        dp_model_run(m, t->tokens, t->targets, now, (float)(1.0 / (double)rows->count), &part, &n);
        keep_row_losses(t, now, t->row_loss + rows->first + at);
        sum += part;
    }
    dp_model_lap_start(m);
    return sum;
}

int dp_trainer_step(struct dp_trainer *t, const int32_t *ids, struct dp_step_result *r,
                    struct dp_err *e)
{
    struct dp_parallel_rows rows = {ids, ids ? t->o.batch * t->o.accum : 0, 0, 0};
    DP_TRY(check_ids(t, ids, rows.rows, &rows.count, e));
    if (ids && !rows.count)
        DP_FAIL(e, CORRUPT,
                "step %lld: no token of the batch counts in the loss: check the label mask",
                (long long)t->step);
    DP_TRY(dp_parallel_begin(t->ranks, DP_PARALLEL_STEP, &rows, e));
    double sum = accumulate(t, &rows), count = (double)rows.count;
    double norm = t->ranks ? dp_parallel_norm(t->ranks, &sum, t->row_loss)
                           : dp_optim_norm(&t->optim, t->pool, t->model->g);
    dp_model_lap(t->model, DP_PART_CLIP);
    if (!isfinite(sum) || !isfinite(norm))
        DP_FAIL(e, CORRUPT,
                "step %lld: loss %g, gradient norm %g: training has diverged; resume from a "
                "checkpoint with a lower lr or more warmup",
                (long long)t->step, sum / count, norm);
    double loss = sum / count, lr = dp_schedule_rate(&t->schedule, t->step);
    struct dp_spike_judgement spike = dp_spike_judge(&t->spike, loss);
    bool skip = spike.spike && t->o.spike_skip;
    dp_spike_add(&t->spike, loss);
    t->step++;
    dp_parallel_decide(t->ranks, &lr, &skip);
    if (!skip) {
        update(t, norm, lr);
        dp_parallel_gather(t->ranks);
    }
    dp_model_lap(t->model, DP_PART_UPDATE);
    *r = (struct dp_step_result){loss, norm, lr, rows.count, t->step, spike, skip};
    return DP_OK;
}

int dp_trainer_eval(struct dp_trainer *t, const int32_t *ids, int64_t rows, double *loss_sum,
                    int64_t *count, struct dp_err *e)
{
    struct dp_parallel_rows mine = {ids, rows, 0, 0};
    double sums[2] = {0, 0};
    DP_TRY(check_ids(t, ids, rows, &mine.count, e));
    DP_TRY(dp_parallel_begin(t->ranks, DP_PARALLEL_EVAL, &mine, e));
    for (int64_t at = 0; at < mine.rows; at += t->batch) {
        int64_t now = mine.rows - at < t->batch ? mine.rows - at : t->batch, n;
        double part;
        split(t, mine.ids + at * (t->model->c.seq_len + 1), now);
        dp_model_run(t->model, t->tokens, t->targets, now, 0, &part, &n);
        sums[0] += part;
        sums[1] += (double)n;
    }
    dp_parallel_sum(t->ranks, sums, 2);
    *loss_sum = sums[0];
    *count = (int64_t)sums[1];
    if (!isfinite(*loss_sum))
        DP_FAIL(e, CORRUPT,
                "step %lld: validation loss is not finite: resume from an earlier checkpoint",
                (long long)t->step);
    return DP_OK;
}

static const char recent_losses[] = "recent_losses";

static struct dp_ckpt_state state_of(struct dp_trainer *t)
{
    return (struct dp_ckpt_state){&t->model->c, &t->model->layout, t->model->p, t->optim.m,
                                  t->optim.v,   t->step,           t->seed};
}

static int write_state(struct dp_trainer *t, const char *path, const struct dp_safetensors_kv *extra,
                       size_t extra_count, struct dp_err *e)
{
    struct dp_ckpt_state s = state_of(t);
    struct dp_safetensors_kv all[DP_CKPT_EXTRA_MAX];
    struct dp_buf losses;
    if (!t->o.spike_skip && !t->keep_losses) return dp_ckpt_write(path, &s, extra, extra_count, e);
    if (extra_count >= DP_CKPT_EXTRA_MAX)
        DP_FAIL(e, LIMIT, "%zu extra keys in a checkpoint: at most %d", extra_count,
                DP_CKPT_EXTRA_MAX - 1);
    for (size_t i = 0; i < extra_count; i++) all[i] = extra[i];
    dp_buf_init(&losses, 1 << 16);
    dp_spike_print(&t->spike, &losses);
    dp_buf_add_char(&losses, 0);
    int rc = dp_buf_check(&losses, "recent losses", e);
    if (rc >= 0) {
        all[extra_count] = (struct dp_safetensors_kv){recent_losses, losses.ptr};
        rc = dp_ckpt_write(path, &s, all, extra_count + 1, e);
    }
    dp_buf_release(&losses);
    return rc;
}

int dp_trainer_save(struct dp_trainer *t, const char *path, const struct dp_safetensors_kv *extra,
                    size_t extra_count, struct dp_err *e)
{
    bool writes = dp_parallel_collect(t->ranks);
    int rc = writes ? write_state(t, path, extra, extra_count, e) : DP_OK;
    dp_parallel_collected(t->ranks, writes && rc >= 0);
    return rc;
}

int dp_trainer_load(struct dp_trainer *t, const char *path, struct dp_err *e)
{
    struct dp_ckpt *c;
    DP_TRY(dp_ckpt_open(&c, path, e));
    struct dp_ckpt_state s = state_of(t);
    struct dp_spike spike = {.window = t->spike.window, .limit = t->spike.limit};
    struct dp_span losses = dp_ckpt_meta(c, recent_losses);
    int rc = losses.ptr ? dp_spike_parse(&spike, losses, e) : DP_OK;
    if (rc < 0) dp_err_prefix(e, "%s", path);
    else rc = dp_ckpt_load(c, &s, e);
    if (rc >= 0) {
        t->step = s.step;
        t->seed = t->model->regime.seed = s.seed;
        t->spike = spike;
        dp_parallel_changed(t->ranks);
    }
    dp_ckpt_close(c);
    return rc;
}

uint64_t dp_trainer_params(const struct dp_trainer *t)
{
    return t->model->layout.total;
}

int64_t dp_trainer_steps_done(const struct dp_trainer *t)
{
    return t->step;
}

double dp_trainer_flops(const struct dp_trainer *t)
{
    return dp_model_flops(&t->model->c) * (double)(t->o.batch * t->o.accum * t->o.seq_len);
}

struct dp_model *dp_trainer_model(struct dp_trainer *t)
{
    return t->model;
}

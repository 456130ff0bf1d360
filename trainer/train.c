/* A step: check ids, count targets (the mean is over all micro-batches, so each one's gradient is scaled by the same 1/count),
 * run forward and backward for each micro-batch into the same gradient, measure the norm, clip and update. Whatever is not finite is
 * found before the update, so a failed step leaves the state as the last checkpoint would. */
#include "trainer/train.h"

#include "trainer/ckpt.h"
#include "trainer/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct dp_train_options, member)
const struct dp_opt dp_train_opts[] = {
    {.name = "arch", .type = DP_OPT_CHOICE, .offset = AT(arch), .preset = "gpt2", .choices = "gpt2|llama", .help = "architecture"},
    {.name = "layers", .type = DP_OPT_INT, .offset = AT(layers), .preset = "6", .min = 1, .max = 1024, .arg = "N", .help = "transformer blocks"},
    {.name = "dim", .type = DP_OPT_INT, .offset = AT(dim), .preset = "384", .min = 1, .max = 131072, .arg = "N", .help = "width of the residual stream"},
    {.name = "heads", .type = DP_OPT_INT, .offset = AT(heads), .preset = "6", .min = 1, .max = 4096, .arg = "N", .help = "attention heads; must divide dim"},
    {.name = "kv_heads", .type = DP_OPT_INT, .offset = AT(kv_heads), .preset = "0", .min = 0, .max = 4096, .arg = "N", .help = "key and value heads (llama); 0: as many as heads"},
    {.name = "ffn", .type = DP_OPT_INT, .offset = AT(ffn), .preset = "0", .min = 0, .max = 524288, .arg = "N", .help = "width of the feed-forward layer; 0: 4 dim (gpt2), 8/3 dim (llama)"},
    {.name = "seq_len", .type = DP_OPT_INT, .offset = AT(seq_len), .preset = "256", .min = 1, .max = 262144, .arg = "N", .help = "tokens a sequence"},
    {.name = "batch", .type = DP_OPT_INT, .offset = AT(batch), .preset = "4", .min = 1, .max = 65536, .arg = "N", .help = "sequences a forward pass"},
    {.name = "accum", .type = DP_OPT_INT, .offset = AT(accum), .preset = "1", .min = 1, .max = 65536, .arg = "N", .help = "forward passes an update"},
    {.name = "steps", .type = DP_OPT_INT, .offset = AT(steps), .preset = "1000", .min = 1, .max = 1e12, .arg = "N", .help = "updates in all; the learning rate ends there"},
    {.name = "warmup", .type = DP_OPT_INT, .offset = AT(warmup), .preset = "50", .min = 0, .max = 1e12, .arg = "N", .help = "updates of linear warm-up"},
    {.name = "lr", .type = DP_OPT_REAL, .offset = AT(lr), .preset = "1e-3", .min = 0, .max = 10, .arg = "X", .help = "peak learning rate"},
    {.name = "min_lr", .type = DP_OPT_REAL, .offset = AT(min_lr), .preset = "1e-4", .min = 0, .max = 10, .arg = "X", .help = "learning rate at the end of the cosine"},
    {.name = "beta1", .type = DP_OPT_REAL, .offset = AT(beta1), .preset = "0.9", .min = 0, .max = 0.9999999, .arg = "X", .help = "decay of AdamW's first moment"},
    {.name = "beta2", .type = DP_OPT_REAL, .offset = AT(beta2), .preset = "0.95", .min = 0, .max = 0.9999999, .arg = "X", .help = "decay of AdamW's second moment"},
    {.name = "eps", .type = DP_OPT_REAL, .offset = AT(eps), .preset = "1e-8", .min = 1e-30, .max = 1, .arg = "X", .help = "AdamW's epsilon"},
    {.name = "weight_decay", .type = DP_OPT_REAL, .offset = AT(weight_decay), .preset = "0.1", .min = 0, .max = 10, .arg = "X", .help = "decoupled decay of matrices"},
    {.name = "clip", .type = DP_OPT_REAL, .offset = AT(clip), .preset = "1", .min = 0, .max = 1e9, .arg = "X", .help = "largest norm of the gradient; 0: no clipping"},
    {.name = "seed", .type = DP_OPT_INT, .offset = AT(seed), .preset = "1", .min = 0, .max = 9e18, .arg = "N", .help = "seed of the initial weights"},
    {.name = "tied", .type = DP_OPT_BOOL, .offset = AT(tied), .preset = "false", .help = "let llama's head share the token embedding (gpt2 always does)"},
    {.name = "eval_every", .type = DP_OPT_INT, .offset = AT(eval_every), .preset = "100", .min = 0, .max = 1e12, .arg = "N", .help = "updates between evaluations; 0: none", .flags = DP_OPT_NOKEY},
    {.name = "eval_batches", .type = DP_OPT_INT, .offset = AT(eval_batches), .preset = "8", .min = 1, .max = 1e9, .arg = "N", .help = "batches an evaluation", .flags = DP_OPT_NOKEY},
    {.name = "ckpt_every", .type = DP_OPT_INT, .offset = AT(ckpt_every), .preset = "500", .min = 0, .max = 1e12, .arg = "N", .help = "updates between checkpoints; 0: only at the end", .flags = DP_OPT_NOKEY},
    DP_OPT_END,
};

struct dp_trainer {
    struct dp_train_options o;
    struct dp_model *model;
    struct dp_optim optim;
    struct dp_pool *pool;
    int32_t *tokens, *targets; /* one micro-batch */
    int64_t step;
    uint64_t seed;
};

static struct dp_model_config config_of(const struct dp_train_options *o, int64_t vocab)
{
    bool llama = o->arch == DP_ARCH_LLAMA;
    int64_t ffn = o->ffn ? o->ffn : llama ? (o->dim * 8 / 3 + 31) / 32 * 32 : o->dim * 4;
    return (struct dp_model_config){.arch = o->arch, .layers = o->layers, .dim = o->dim, .heads = o->heads,
                                    .kv_heads = o->kv_heads ? o->kv_heads : o->heads, .ffn = ffn, .seq_len = o->seq_len,
                                    .vocab = vocab, .tied = o->tied || !llama};
}

static int check_options(const struct dp_train_options *o, struct dp_err *e)
{
    if (o->accum < 1 || o->steps < 1 || o->warmup < 0) DP_FAIL(e, CONFIG, "accum and steps must be positive, warmup not negative");
    if (o->warmup > o->steps) DP_FAIL(e, CONFIG, "warmup %lld is longer than steps %lld", (long long)o->warmup, (long long)o->steps);
    if (!(o->lr >= 0) || !(o->min_lr >= 0) || o->min_lr > o->lr) DP_FAIL(e, CONFIG, "min_lr %g must be from 0 to lr %g", o->min_lr, o->lr);
    if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1)) DP_FAIL(e, CONFIG, "beta1 and beta2 must be in [0, 1)");
    if (!(o->eps > 0) || !(o->weight_decay >= 0) || !(o->clip >= 0)) DP_FAIL(e, CONFIG, "eps must be positive, weight_decay and clip not negative");
    return DP_OK;
}

static int open_parts(struct dp_trainer *t, int64_t vocab, struct dp_err *e)
{
    DP_TRY(check_options(&t->o, e));
    if (t->o.dim < 1 || t->o.dim > 1 << 17) DP_FAIL(e, CONFIG, "dim is %lld: must be from 1 to %d", (long long)t->o.dim, 1 << 17);
    struct dp_model_config c = config_of(&t->o, vocab);
    DP_TRY(dp_model_open(&t->model, &c, t->o.batch, true, t->pool, e));
    DP_TRY(dp_optim_open(&t->optim, &t->model->layout, e));
    size_t n = (size_t)t->o.batch * (size_t)c.seq_len;
    t->tokens = calloc(n, sizeof *t->tokens);
    t->targets = calloc(n, sizeof *t->targets);
    if (!t->tokens || !t->targets) DP_FAIL(e, NOMEM, "batch of %zu tokens", n);
    dp_layout_init_weights(&t->model->layout, &c, t->seed, t->model->p);
    return DP_OK;
}

int dp_trainer_open(struct dp_trainer **out, const struct dp_train_options *o, int64_t vocab_size, struct dp_pool *pool, struct dp_err *e)
{
    *out = NULL;
    struct dp_trainer *t = calloc(1, sizeof *t);
    if (!t) DP_FAIL(e, NOMEM, "trainer");
    t->o = *o;
    t->pool = pool;
    t->seed = (uint64_t)o->seed;
    int rc = open_parts(t, vocab_size, e);
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
    dp_model_close(t->model);
    dp_optim_close(&t->optim);
    free(t->tokens);
    free(t->targets);
    free(t);
}

/* ids[rows][seq_len+1] -> targets that count. */
static int check_ids(const struct dp_trainer *t, const int32_t *ids, int64_t rows, int64_t *count, struct dp_err *e)
{
    int64_t width = t->model->c.seq_len + 1;
    *count = 0;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < width; i++) {
            int32_t id = ids[r * width + i], token = id < 0 ? ~id : id;
            if (token >= t->model->c.vocab)
                DP_FAIL(e, CORRUPT, "token %d at row %lld, position %lld is outside the vocabulary of %lld: the shards were made with another tokenizer",
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
            t->tokens[r * n + i] = id < 0 ? ~id : id;
            t->targets[r * n + i] = next < 0 ? -1 : next;
        }
    }
}

int dp_trainer_step(struct dp_trainer *t, const int32_t *ids, struct dp_step_result *r, struct dp_err *e)
{
    struct dp_model *m = t->model;
    int64_t count, width = m->c.seq_len + 1;
    DP_TRY(check_ids(t, ids, t->o.batch * t->o.accum, &count, e));
    if (!count) DP_FAIL(e, CORRUPT, "step %lld: no token of the batch counts in the loss: check the label mask", (long long)t->step);
    double sum = 0;
    memset(m->g, 0, (size_t)m->layout.floats * sizeof *m->g);
    for (int64_t a = 0; a < t->o.accum; a++) {
        double part;
        int64_t n;
        split(t, ids + a * t->o.batch * width, t->o.batch);
        dp_model_run(m, t->tokens, t->targets, t->o.batch, (float)(1.0 / (double)count), &part, &n);
        sum += part;
    }
    double norm = dp_optim_norm(&t->optim, t->pool, m->g);
    if (!isfinite(sum) || !isfinite(norm))
        DP_FAIL(e, CORRUPT, "step %lld: loss %g, gradient norm %g: training has diverged; resume from a checkpoint with a lower lr or more warmup",
                (long long)t->step, sum / (double)count, norm);
    double lr = dp_schedule(t->o.lr, t->o.min_lr, t->o.warmup, t->o.steps, t->step);
    struct dp_optim_rates rates = {lr, t->o.beta1, t->o.beta2, t->o.eps, t->o.weight_decay, t->o.clip};
    t->step++;
    dp_optim_step(&t->optim, t->pool, &rates, t->step, norm, m->g, m->p);
    *r = (struct dp_step_result){sum / (double)count, norm, lr, count, t->step};
    return DP_OK;
}

int dp_trainer_eval(struct dp_trainer *t, const int32_t *ids, int64_t rows, double *loss_sum, int64_t *count, struct dp_err *e)
{
    int64_t width = t->model->c.seq_len + 1, all;
    DP_TRY(check_ids(t, ids, rows, &all, e));
    *loss_sum = 0;
    *count = 0;
    for (int64_t r = 0; r < rows; r += t->o.batch) {
        int64_t now = rows - r < t->o.batch ? rows - r : t->o.batch, n;
        double part;
        split(t, ids + r * width, now);
        dp_model_run(t->model, t->tokens, t->targets, now, 0, &part, &n);
        *loss_sum += part;
        *count += n;
    }
    if (!isfinite(*loss_sum)) DP_FAIL(e, CORRUPT, "step %lld: validation loss is not finite: resume from an earlier checkpoint", (long long)t->step);
    return DP_OK;
}

static struct dp_ckpt_state state_of(struct dp_trainer *t)
{
    return (struct dp_ckpt_state){&t->model->c, &t->model->layout, t->model->p, t->optim.m, t->optim.v, t->step, t->seed};
}

int dp_trainer_save(struct dp_trainer *t, const char *path, const struct dp_safetensors_kv *extra, size_t extra_count, struct dp_err *e)
{
    struct dp_ckpt_state s = state_of(t);
    return dp_ckpt_write(path, &s, extra, extra_count, e);
}

int dp_trainer_load(struct dp_trainer *t, const char *path, struct dp_err *e)
{
    struct dp_ckpt *c;
    DP_TRY(dp_ckpt_open(&c, path, e));
    struct dp_ckpt_state s = state_of(t);
    int rc = dp_ckpt_load(c, &s, e);
    if (rc >= 0) {
        t->step = s.step;
        t->seed = s.seed;
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
    const struct dp_model_config *c = &t->model->c;
    double d = (double)c->dim, qkv = d / (double)c->heads * (double)(c->heads + 2 * c->kv_heads);
    double in = (double)(c->arch == DP_ARCH_LLAMA ? 2 * c->ffn : c->ffn);
    double weights = (double)c->layers * (d * qkv + d * d + d * in + (double)c->ffn * d) + (double)c->vocab * d;
    double attention = 6 * (double)c->layers * (double)c->seq_len * d; /* half of T x T, two products, forward and twice backward */
    return (6 * weights + attention) * (double)(t->o.batch * t->o.accum * c->seq_len);
}

struct dp_model *dp_trainer_model(struct dp_trainer *t)
{
    return t->model;
}

/* Which parameters a configuration has, in the order of the reference implementation's
 * named_parameters() (it fixes which random number a weight gets), and where they lie. A tensor
 * begins at a multiple of 16 floats, except those that one product reads together (q|k|v, gate|up),
 * which are joined. */
#include "trainer/model.h"

#include "base/hash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const arch_names[] = {"gpt2", "llama"};

const char *dp_arch_name(int arch)
{
    return arch_names[arch == DP_ARCH_LLAMA];
}

int64_t dp_model_head_dim(const struct dp_model_config *c)
{
    return c->head_dim ? c->head_dim : c->dim / c->heads;
}

int64_t dp_model_q_width(const struct dp_model_config *c)
{
    return dp_model_head_dim(c) * c->heads;
}

int64_t dp_model_qkv_width(const struct dp_model_config *c)
{
    return dp_model_head_dim(c) * (c->heads + 2 * c->kv_heads);
}

float dp_model_norm_eps(const struct dp_model_config *c)
{
    return c->norm_eps > 0 ? (float)c->norm_eps : 1e-5f;
}

double dp_model_rope_theta(const struct dp_model_config *c)
{
    return c->rope_theta > 0 ? c->rope_theta : 10000;
}

float dp_model_attention_scale(const struct dp_model_config *c)
{
    int64_t base = c->mup_base_dim ? c->mup_base_head_dim : 0;
    if (base) return (float)(sqrt((double)base) / (double)dp_model_head_dim(c));
    return 1.0f / sqrtf((float)dp_model_head_dim(c));
}

/* muP's m */
static double width_factor(const struct dp_model_config *c)
{
    return c->mup_base_dim ? (double)c->dim / (double)c->mup_base_dim : 1;
}

float dp_model_logit_scale(const struct dp_model_config *c)
{
    return (float)(1 / width_factor(c));
}

int dp_model_config_check(const struct dp_model_config *c, struct dp_err *e)
{
    const struct {
        const char *name;
        int64_t value, max;
    } ranges[] = {
        {"layers", c->layers, 1024},     {"dim", c->dim, 1 << 17}, {"heads", c->heads, 4096},
        {"kv_heads", c->kv_heads, 4096}, {"ffn", c->ffn, 1 << 19}, {"seq_len", c->seq_len, 1 << 18},
        {"vocab", c->vocab, 1 << 22},
    };
    if (c->arch != DP_ARCH_GPT2 && c->arch != DP_ARCH_LLAMA)
        DP_FAIL(e, CONFIG, "unknown architecture %d: use gpt2 or llama", c->arch);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (ranges[i].value < 1 || ranges[i].value > ranges[i].max)
            DP_FAIL(e, CONFIG, "%s is %lld: must be from 1 to %lld", ranges[i].name,
                    (long long)ranges[i].value, (long long)ranges[i].max);
    if (c->head_dim < 0 || c->head_dim > 1 << 17 || c->head_dim * c->heads > 1 << 19)
        DP_FAIL(e, CONFIG, "head_dim %lld of %lld heads: must be from 1 to %d, heads * head_dim to %d; 0: dim / heads",
                (long long)c->head_dim, (long long)c->heads, 1 << 17, 1 << 19);
    if (!c->head_dim && c->dim % c->heads)
        DP_FAIL(e, CONFIG, "dim %lld is no multiple of heads %lld: give head_dim", (long long)c->dim,
                (long long)c->heads);
    if (!(c->norm_eps >= 0 && c->norm_eps <= 1) || !(c->rope_theta >= 0 && c->rope_theta <= 1e12))
        DP_FAIL(e, CONFIG, "norm_eps %g must be from 0 to 1, rope_theta %g from 0 to 1e12",
                c->norm_eps, c->rope_theta);
    if (c->mup_base_dim < 0 || c->mup_base_dim > 1 << 17 || c->mup_base_head_dim < 0 ||
        c->mup_base_head_dim > 1 << 17 || (c->mup_base_head_dim && !c->mup_base_dim))
        DP_FAIL(e, CONFIG,
                "mup_base_dim %lld and mup_base_head_dim %lld must be from 0 to %d, and the second 0 "
                "when the first is",
                (long long)c->mup_base_dim, (long long)c->mup_base_head_dim, 1 << 17);
    if (c->heads % c->kv_heads)
        DP_FAIL(e, CONFIG, "heads %lld is no multiple of kv_heads %lld", (long long)c->heads,
                (long long)c->kv_heads);
    if (c->arch == DP_ARCH_GPT2 && c->heads != c->kv_heads)
        DP_FAIL(e, CONFIG, "gpt2 has no grouped heads: set kv_heads to heads or 0");
    if (c->arch == DP_ARCH_LLAMA && dp_model_head_dim(c) % 2)
        DP_FAIL(e, CONFIG, "%s is %lld: rotary embedding needs an even number",
                c->head_dim ? "head_dim" : "dim/heads", (long long)dp_model_head_dim(c));
    return DP_OK;
}

enum { JOIN = 1, RESIDUAL = 2, HIDDEN = 4 };

/* Append a tensor; its offset. The table was sized for all of them. */
static uint64_t add(struct dp_layout *l, int64_t rows, int64_t cols, int how, const char *fmt,
                    int64_t layer)
{
    DP_ASSERT(l->count < l->cap);
    struct dp_param *p = &l->params[l->count++];
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)layer);
    const char *hash = strchr(fmt, '#');
    if (hash)
        snprintf(p->name, sizeof p->name, "%.*s%s%s", (int)(hash - fmt), fmt, number, hash + 1);
    else snprintf(p->name, sizeof p->name, "%s", fmt);
    p->rows = rows;
    p->cols = cols;
    p->residual = how & RESIDUAL;
    p->hidden = how & HIDDEN;
    if (!(how & JOIN)) l->floats = (l->floats + 15) / 16 * 16;
    p->offset = l->floats;
    l->floats += dp_param_count(p);
    l->total += dp_param_count(p);
    return p->offset;
}

static void add_qk_norm(struct dp_layout *l, const struct dp_model_config *c, const char *q,
                        const char *k, int64_t layer)
{
    struct dp_layer_params *p = &l->layer[layer];
    p->q_norm_w = p->k_norm_w = DP_NO_PARAM;
    if (!c->qk_norm) return;
    p->q_norm_w = add(l, dp_model_head_dim(c), 0, 0, q, layer);
    p->k_norm_w = add(l, dp_model_head_dim(c), 0, 0, k, layer);
}

static void add_gpt2(struct dp_layout *l, const struct dp_model_config *c)
{
    int64_t d = c->dim, f = c->ffn, q = dp_model_q_width(c);
    l->wte = add(l, c->vocab, d, 0, "transformer.wte.weight", 0);
    l->wpe = add(l, c->seq_len, d, 0, "transformer.wpe.weight", 0);
    for (int64_t i = 0; i < c->layers; i++) {
        struct dp_layer_params *p = &l->layer[i];
        p->norm1_w = add(l, d, 0, 0, "transformer.h.#.ln_1.weight", i);
        p->norm1_b = add(l, d, 0, 0, "transformer.h.#.ln_1.bias", i);
        p->norm2_w = add(l, d, 0, 0, "transformer.h.#.ln_2.weight", i);
        p->norm2_b = add(l, d, 0, 0, "transformer.h.#.ln_2.bias", i);
        p->qkv_w = add(l, 3 * q, d, HIDDEN, "transformer.h.#.attn.c_attn.weight", i);
        p->qkv_b = add(l, 3 * q, 0, 0, "transformer.h.#.attn.c_attn.bias", i);
        p->proj_w = add(l, d, q, HIDDEN | RESIDUAL, "transformer.h.#.attn.c_proj.weight", i);
        p->proj_b = add(l, d, 0, 0, "transformer.h.#.attn.c_proj.bias", i);
        add_qk_norm(l, c, "transformer.h.#.attn.q_norm.weight", "transformer.h.#.attn.k_norm.weight", i);
        p->in_w = add(l, f, d, HIDDEN, "transformer.h.#.mlp.c_fc.weight", i);
        p->in_b = add(l, f, 0, 0, "transformer.h.#.mlp.c_fc.bias", i);
        p->out_w = add(l, d, f, HIDDEN | RESIDUAL, "transformer.h.#.mlp.c_proj.weight", i);
        p->out_b = add(l, d, 0, 0, "transformer.h.#.mlp.c_proj.bias", i);
    }
    l->normf_w = add(l, d, 0, 0, "transformer.ln_f.weight", 0);
    l->normf_b = add(l, d, 0, 0, "transformer.ln_f.bias", 0);
}

static void add_llama(struct dp_layout *l, const struct dp_model_config *c)
{
    int64_t d = c->dim, f = c->ffn, q = dp_model_q_width(c), kv = dp_model_head_dim(c) * c->kv_heads;
    l->wte = add(l, c->vocab, d, 0, "model.embed_tokens.weight", 0);
    l->wpe = DP_NO_PARAM;
    for (int64_t i = 0; i < c->layers; i++) {
        struct dp_layer_params *p = &l->layer[i];
        p->norm1_b = p->norm2_b = p->qkv_b = p->proj_b = p->in_b = p->out_b = DP_NO_PARAM;
        p->norm1_w = add(l, d, 0, 0, "model.layers.#.input_layernorm.weight", i);
        p->norm2_w = add(l, d, 0, 0, "model.layers.#.post_attention_layernorm.weight", i);
        p->qkv_w = add(l, q, d, HIDDEN, "model.layers.#.self_attn.q_proj.weight", i);
        add(l, kv, d, HIDDEN | JOIN, "model.layers.#.self_attn.k_proj.weight", i);
        add(l, kv, d, HIDDEN | JOIN, "model.layers.#.self_attn.v_proj.weight", i);
        p->proj_w = add(l, d, q, HIDDEN | RESIDUAL, "model.layers.#.self_attn.o_proj.weight", i);
        add_qk_norm(l, c, "model.layers.#.self_attn.q_norm.weight", "model.layers.#.self_attn.k_norm.weight", i);
        p->in_w = add(l, f, d, HIDDEN, "model.layers.#.mlp.gate_proj.weight", i);
        add(l, f, d, HIDDEN | JOIN, "model.layers.#.mlp.up_proj.weight", i);
        p->out_w = add(l, d, f, HIDDEN | RESIDUAL, "model.layers.#.mlp.down_proj.weight", i);
    }
    l->normf_w = add(l, d, 0, 0, "model.norm.weight", 0);
    l->normf_b = DP_NO_PARAM;
}

int dp_layout_init(struct dp_layout *l, const struct dp_model_config *c, struct dp_err *e)
{
    *l = (struct dp_layout){0};
    DP_TRY(dp_model_config_check(c, e));
    l->cap = (size_t)c->layers * 14 + 8;
    l->params = calloc(l->cap, sizeof *l->params);
    l->layer = calloc((size_t)c->layers, sizeof *l->layer);
    if (!l->params || !l->layer) {
        dp_layout_release(l);
        DP_FAIL(e, NOMEM, "parameter table of %lld layers", (long long)c->layers);
    }
    if (c->arch == DP_ARCH_GPT2) add_gpt2(l, c);
    else add_llama(l, c);
    l->head = c->tied ? l->wte : add(l, c->vocab, c->dim, 0, "lm_head.weight", 0);
    l->floats = (l->floats + 15) / 16 * 16;
    for (size_t i = 0; i < l->count; i++)
        l->params[i].rate = l->params[i].hidden ? 1 / width_factor(c) : 1;
    return DP_OK;
}

void dp_layout_release(struct dp_layout *l)
{
    free(l->params);
    free(l->layer);
    *l = (struct dp_layout){0};
}

const struct dp_param *dp_layout_find(const struct dp_layout *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->params[i].name, name) == 0) return &l->params[i];
    return NULL;
}

/* Uniform on [-1, 1) */
static double signed_unit(uint64_t *state)
{
    return 2 * ((double)(dp_splitmix64(state) >> 11) * 0x1p-53) - 1;
}

/* A standard normal number by Marsaglia's polar method, which needs no sine: the logarithm and root
 * have the same bits everywhere. Each weight has a stream of its own, so rejection moves no other. */
static double normal(uint64_t counter)
{
    uint64_t state = dp_mix64(counter);
    double x, y, s;
    do {
        x = signed_unit(&state);
        y = signed_unit(&state);
        s = x * x + y * y;
    } while (s >= 1 || s == 0);
    return x * sqrt(-2 * dp_tensor_log(s) / s);
}

void dp_layout_init_as(const struct dp_layout *l, const struct dp_model_config *c,
                       const struct dp_init *how, uint64_t seed, float *p)
{
    uint64_t next = dp_mix64(seed);
    double std = how->std > 0 ? how->std : 0.02;
    double residual_std = how->residual_like ? std : std / sqrt(2.0 * (double)c->layers);
    for (size_t i = 0; i < l->count; i++) {
        const struct dp_param *t = &l->params[i];
        uint64_t n = dp_param_count(t);
        if (!t->cols) {
            size_t len = strlen(t->name);
            float fill = len > 5 && strcmp(t->name + len - 5, ".bias") == 0 ? 0.0f : 1.0f;
            for (uint64_t j = 0; j < n; j++) p[t->offset + j] = fill;
            continue;
        }
        double size = t->residual ? residual_std : std;
        if (t->hidden) size /= sqrt(width_factor(c));
        double range = size * sqrt(3.0); /* uniform on [-r, r) has deviation r/sqrt 3 */
        for (uint64_t j = 0; j < n; j++) {
            uint64_t state = next++;
            p[t->offset + j] = (float)(how->kind == DP_INIT_NORMAL ? normal(state) * size
                                                                   : signed_unit(&state) * range);
        }
    }
}

void dp_layout_init_weights(const struct dp_layout *l, const struct dp_model_config *c,
                            uint64_t seed, float *p)
{
    dp_layout_init_as(l, c, &(struct dp_init){0}, seed, p);
}

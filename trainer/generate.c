/* One token at a time there is no matrix product, only weights read once: a dot product an output
 * row, rows spread over the pool in tiles of 64. Prompts go the same way, which is slower than a
 * batched prefill but has one code path. Sampling works on candidates sorted by (logit descending,
 * id ascending), cut by top_k and then top_p, in double. */
#include "trainer/generate.h"

#include "base/hash.h"
#include "trainer/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_A_TASK = 64 };

struct candidate {
    float logit;
    int32_t id;
    double p;
};

struct dp_generator {
    struct dp_model_config c;
    struct dp_layout layout;
    const struct dp_tensor_level *ops;
    struct dp_pool *pool;
    float *own; /* parameters when they came from a file */
    const float *p;
    float *memory; /* everything below */
    float *cache;  /* [layers][seq][2 kv width]: k then v */
    float *x, *h, *qkv, *att, *scores, *pre, *act, *logits, *rope_cos, *rope_sin;
    struct candidate *candidates;
    int64_t used; /* tokens in the context */
};

struct job {
    const struct dp_generator *g;
    const float *x, *w, *b;
    float *y;
    int64_t in, out;
    int add;
};

static void rows_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    const struct job *j = ctx;
    int64_t r = (int64_t)task * ROWS_A_TASK,
            end = r + ROWS_A_TASK < j->out ? r + ROWS_A_TASK : j->out;
    for (; r < end; r++) {
        float s = j->g->ops->dot(j->in, j->x, j->w + r * j->in);
        if (j->b) s = j->b[r] + s;
        j->y[r] = j->add ? j->y[r] + s : s;
    }
}

static const float *param(const struct dp_generator *g, uint64_t offset)
{
    return offset == DP_NO_PARAM ? NULL : g->p + offset;
}

/* y = W x + b, or y += */
static void apply(const struct dp_generator *g, const float *x, int64_t in, uint64_t w, uint64_t b,
                  float *y, int64_t out, int add)
{
    struct job j = {g, x, g->p + w, param(g, b), y, in, out, add};
    dp_pool_run(g->pool, (size_t)((out + ROWS_A_TASK - 1) / ROWS_A_TASK), rows_task, &j);
}

static void normalise(const struct dp_generator *g, uint64_t w, uint64_t b)
{
    float stat[2];
    g->ops->norm_fwd(g->c.dim, g->x, g->p + w, param(g, b), dp_model_norm_eps(&g->c), g->h,
                     stat);
}

/* RMS norm of each head's q and k, in place. */
static void norm_heads(struct dp_generator *g, const struct dp_layer_params *p)
{
    int64_t hd = dp_model_head_dim(&g->c);
    float stat[2];
    for (int64_t h = 0; h < g->c.heads + g->c.kv_heads; h++)
        g->ops->norm_fwd(hd, g->qkv + h * hd, g->p + (h < g->c.heads ? p->q_norm_w : p->k_norm_w),
                         NULL, dp_model_norm_eps(&g->c), g->qkv + h * hd, stat);
}

static void attend(struct dp_generator *g, int64_t layer)
{
    const struct dp_model_config *c = &g->c;
    int64_t hd = dp_model_head_dim(c), q = c->heads * hd, kv = c->kv_heads * hd, t = g->used;
    float *rows = g->cache + layer * c->seq_len * 2 * kv;
    if (c->qk_norm) norm_heads(g, &g->layout.layer[layer]);
    if (c->arch == DP_ARCH_LLAMA)
        for (int64_t h = 0; h < c->heads + c->kv_heads; h++)
            g->ops->rope(hd / 2, g->rope_cos + t * (hd / 2), g->rope_sin + t * (hd / 2), 1,
                         g->qkv + h * hd);
    memcpy(rows + t * 2 * kv, g->qkv + q, (size_t)(2 * kv) * sizeof *rows);
    memset(g->att, 0, (size_t)q * sizeof *g->att);
    for (int64_t h = 0; h < c->heads; h++) {
        const float *k = rows + h / (c->heads / c->kv_heads) * hd, *v = k + kv;
        for (int64_t i = 0; i <= t; i++)
            g->scores[i] = g->ops->dot(hd, g->qkv + h * hd, k + i * 2 * kv);
        g->ops->softmax(t + 1, dp_model_attention_scale(c), g->scores);
        for (int64_t i = 0; i <= t; i++)
            g->ops->axpy(hd, g->scores[i], v + i * 2 * kv, g->att + h * hd);
    }
}

static void run_layer(struct dp_generator *g, int64_t layer)
{
    const struct dp_model_config *c = &g->c;
    const struct dp_layer_params *p = &g->layout.layer[layer];
    int64_t d = c->dim, f = c->ffn;
    normalise(g, p->norm1_w, p->norm1_b);
    apply(g, g->h, d, p->qkv_w, p->qkv_b, g->qkv, dp_model_qkv_width(c), 0);
    attend(g, layer);
    apply(g, g->att, dp_model_q_width(c), p->proj_w, p->proj_b, g->x, d, 1);
    normalise(g, p->norm2_w, p->norm2_b);
    apply(g, g->h, d, p->in_w, p->in_b, g->pre, c->arch == DP_ARCH_LLAMA ? 2 * f : f, 0);
    if (c->arch == DP_ARCH_LLAMA) g->ops->swiglu_fwd(f, g->pre, g->pre + f, g->act);
    else g->ops->gelu_fwd(f, g->pre, g->act);
    apply(g, g->act, f, p->out_w, p->out_b, g->x, d, 1);
}

int dp_generator_feed(struct dp_generator *g, int32_t token, const float **logits, struct dp_err *e)
{
    const struct dp_model_config *c = &g->c;
    if (token < 0 || token >= c->vocab)
        DP_FAIL(e, CORRUPT,
                "token %d is outside the model's vocabulary of %lld: use the tokenizer it was "
                "trained with",
                token, (long long)c->vocab);
    if (g->used >= c->seq_len)
        DP_FAIL(e, LIMIT, "the context of %lld tokens is full: shorten the prompt",
                (long long)c->seq_len);
    memcpy(g->x, g->p + g->layout.wte + (int64_t)token * c->dim, (size_t)c->dim * sizeof *g->x);
    if (g->layout.wpe != DP_NO_PARAM)
        g->ops->axpy(c->dim, 1.0f, g->p + g->layout.wpe + g->used * c->dim, g->x);
    for (int64_t i = 0; i < c->layers; i++) run_layer(g, i);
    g->used++;
    normalise(g, g->layout.normf_w, g->layout.normf_b);
    if (c->mup_base_dim)
        for (int64_t i = 0; i < c->dim; i++) g->h[i] *= dp_model_logit_scale(c);
    apply(g, g->h, c->dim, g->layout.head, DP_NO_PARAM, g->logits, c->vocab, 0);
    *logits = g->logits;
    return DP_OK;
}

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

int32_t dp_generator_pick(struct dp_generator *g, const float *logits,
                          const struct dp_generate_options *o, uint64_t *state)
{
    int64_t n = g->c.vocab;
    struct candidate *k = g->candidates;
    if (!(o->temperature > 0)) {
        int64_t best = 0;
        for (int64_t i = 1; i < n; i++)
            if (logits[i] > logits[best]) best = i;
        return (int32_t)best;
    }
    for (int64_t i = 0; i < n; i++)
        k[i] = (struct candidate){isnan(logits[i]) ? -INFINITY : logits[i], (int32_t)i, 0};
    qsort(k, (size_t)n, sizeof *k, compare_candidates);
    if (o->top_k > 0 && o->top_k < n) n = o->top_k;
    double sum = 0, kept = 0;
    for (int64_t i = 0; i < n; i++) {
        k[i].p = i ? exp(((double)k[i].logit - (double)k[0].logit) / o->temperature) : 1;
        sum += k[i].p;
    }
    int64_t cut = 0;
    while (cut < n && (cut == 0 || kept < o->top_p * sum)) kept += k[cut++].p;
    double at = (double)(dp_splitmix64(state) >> 11) * 0x1p-53 * kept;
    for (int64_t i = 0; i < cut; i++)
        if ((at -= k[i].p) < 0) return k[i].id;
    return k[cut - 1].id;
}

int dp_generate(struct dp_generator *g, const int32_t *prompt, int64_t n,
                const struct dp_generate_options *o, dp_generate_fn emit, void *ctx, int64_t *count,
                struct dp_err *e)
{
    *count = 0;
    if (n < 1)
        DP_FAIL(e, USAGE,
                "generation needs a prompt of at least one token (the end-of-text token will do)");
    if (o->top_k < 0 || !(o->top_p > 0) || !(o->temperature >= 0))
        DP_FAIL(e, USAGE, "temperature and top_k must not be negative, top_p must be positive");
    dp_generator_reset(g);
    const float *logits = NULL;
    uint64_t state = o->seed;
    for (int64_t i = 0; i < n; i++) DP_TRY(dp_generator_feed(g, prompt[i], &logits, e));
    while (!o->tokens_max || *count < o->tokens_max) {
        int32_t token = dp_generator_pick(g, logits, o, &state);
        ++*count;
        if (emit(ctx, token) || token == o->stop || g->used == g->c.seq_len) break;
        if (o->tokens_max && *count == o->tokens_max) break;
        DP_TRY(dp_generator_feed(g, token, &logits, e));
    }
    return DP_OK;
}

void dp_generator_reset(struct dp_generator *g)
{
    g->used = 0;
}

const struct dp_model_config *dp_generator_config(const struct dp_generator *g)
{
    return &g->c;
}

static int generator_alloc(struct dp_generator *g, struct dp_err *e)
{
    const struct dp_model_config *c = &g->c;
    int64_t hd = dp_model_head_dim(c), kv = c->kv_heads * hd;
    const struct {
        float **to;
        int64_t n;
    } parts[] = {
        {&g->cache, c->layers * c->seq_len * 2 * kv},
        {&g->x, c->dim},
        {&g->h, c->dim},
        {&g->qkv, dp_model_qkv_width(c)},
        {&g->att, dp_model_q_width(c)},
        {&g->scores, c->seq_len},
        {&g->pre, 2 * c->ffn},
        {&g->act, c->ffn},
        {&g->logits, c->vocab},
        {&g->rope_cos, c->seq_len * hd},
        {&g->rope_sin, c->seq_len * hd},
    };
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        total += ((uint64_t)parts[i].n + 15) / 16 * 16;
    g->memory = dp_floats_alloc(total);
    g->candidates = calloc((size_t)c->vocab, sizeof *g->candidates);
    if (!g->memory || !g->candidates)
        DP_FAIL(e, NOMEM, "generation needs %llu MiB for its cache",
                (unsigned long long)(total >> 18));
    float *at = g->memory;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].to = at;
        at += ((uint64_t)parts[i].n + 15) / 16 * 16;
    }
    if (c->arch == DP_ARCH_LLAMA) dp_rope_tables(c->seq_len, hd, dp_model_rope_theta(c), g->rope_cos, g->rope_sin);
    return DP_OK;
}

static int generator_init(struct dp_generator **out, const struct dp_model_config *c,
                          struct dp_pool *pool, struct dp_err *e)
{
    struct dp_generator *g = calloc(1, sizeof *g);
    if (!g) DP_FAIL(e, NOMEM, "generator");
    g->c = *c;
    g->pool = pool;
    g->ops = dp_tensor_level();
    int rc = dp_layout_init(&g->layout, c, e);
    if (rc >= 0) rc = generator_alloc(g, e);
    if (rc < 0) {
        dp_generator_close(g);
        return rc;
    }
    *out = g;
    return DP_OK;
}

int dp_generator_open_model(struct dp_generator **out, const struct dp_model_config *c,
                            const float *p, struct dp_pool *pool, struct dp_err *e)
{
    *out = NULL;
    DP_TRY(generator_init(out, c, pool, e));
    (*out)->p = p;
    return DP_OK;
}

int dp_generator_open(struct dp_generator **out, const char *path, struct dp_pool *pool,
                      struct dp_err *e)
{
    struct dp_weights w;
    *out = NULL;
    DP_TRY(dp_weights_open(&w, path, e));
    int rc = generator_init(out, &w.c, pool, e);
    if (rc >= 0) {
        (*out)->p = (*out)->own = w.p;
        w.p = NULL;
    }
    dp_weights_close(&w);
    return rc;
}

void dp_generator_close(struct dp_generator *g)
{
    if (!g) return;
    dp_layout_release(&g->layout);
    free(g->own);
    free(g->memory);
    free(g->candidates);
    free(g);
}

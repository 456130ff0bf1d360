/* Few tokens at a time there is no matrix product, only weights read once: a dot product an output row and
 * token, rows spread over the pool in tiles of 64. A prompt goes the same way, eight tokens at a time, so that a
 * row of weights is in cache for seven of them and each sum is the one it would be alone. Attention is a task
 * a (token, head). Sampling works on candidates sorted by (logit descending, id ascending), cut by top_k, top_p
 * and min_p, in double. */
#include "trainer/generate.h"

#include "base/hash.h"
#include "trainer/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_A_TASK = 64, TOKENS_AT_ONCE = 8 };

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
    float *x, *h, *qkv, *att, *pre, *act; /* [TOKENS_AT_ONCE][...] */
    float *scores; /* [threads][seq] */
    float *logits, *rope_cos, *rope_sin;
    struct candidate *candidates;
    int32_t *context; /* [seq] the tokens that were fed */
    uint8_t *seen;    /* [vocab] in the context: for the repetition penalty */
    int64_t used;     /* tokens in the context */
};

struct job {
    const struct dp_generator *g;
    const float *x, *w, *b;
    float *y;
    int64_t in, out, tokens, layer;
    int add;
};

static void rows_task(void *ctx, size_t task, int worker)
{
    (void)worker;
    const struct job *j = ctx;
    int64_t begin = (int64_t)task * ROWS_A_TASK,
            end = begin + ROWS_A_TASK < j->out ? begin + ROWS_A_TASK : j->out;
    for (int64_t r = begin, n; r < end; r += n) {
        const float *w = j->w + r * j->in;
        n = j->tokens == 1 || end - r < 4 ? 1 : 4; /* a single token waits for memory, which four rows at once read slower */
        for (int64_t t = 0; t < j->tokens; t++) {
            float s[4], *y = j->y + t * j->out + r;
            const float *x = j->x + t * j->in;
            if (n == 4) j->g->ops->dot4(j->in, x, w, j->in, s);
            else s[0] = j->g->ops->dot(j->in, x, w);
            for (int64_t k = 0; k < n; k++) {
                float v = j->b ? j->b[r + k] + s[k] : s[k];
                y[k] = j->add ? y[k] + v : v;
            }
        }
    }
}

static const float *param(const struct dp_generator *g, uint64_t offset)
{
    return offset == DP_NO_PARAM ? NULL : g->p + offset;
}

/* y = W x + b, or y += */
static void apply(const struct dp_generator *g, int64_t tokens, const float *x, int64_t in, uint64_t w, uint64_t b,
                  float *y, int64_t out, int add)
{
    struct job j = {.g = g, .x = x, .w = g->p + w, .b = param(g, b), .y = y, .in = in, .out = out, .tokens = tokens, .add = add};
    dp_pool_run(g->pool, (size_t)((out + ROWS_A_TASK - 1) / ROWS_A_TASK), rows_task, &j);
}

static void normalise(const struct dp_generator *g, int64_t tokens, uint64_t w, uint64_t b)
{
    float stat[2];
    int64_t d = g->c.dim;
    for (int64_t t = 0; t < tokens; t++)
        g->ops->norm_fwd(d, g->x + t * d, g->p + w, param(g, b), dp_model_norm_eps(&g->c), g->h + t * d, stat);
}

/* Norm and rotate the heads of q and k of the token at place `at`, and put k and v into the cache. */
static void place_token(struct dp_generator *g, int64_t layer, float *qkv, int64_t at)
{
    const struct dp_model_config *c = &g->c;
    const struct dp_layer_params *p = &g->layout.layer[layer];
    int64_t hd = dp_model_head_dim(c), kv = c->kv_heads * hd;
    float stat[2];
    for (int64_t h = 0; h < c->heads + c->kv_heads; h++) {
        float *x = qkv + h * hd;
        if (c->qk_norm)
            g->ops->norm_fwd(hd, x, g->p + (h < c->heads ? p->q_norm_w : p->k_norm_w), NULL, dp_model_norm_eps(c), x, stat);
        if (c->arch == DP_ARCH_LLAMA)
            g->ops->rope(hd / 2, g->rope_cos + at * (hd / 2), g->rope_sin + at * (hd / 2), 1, x);
    }
    memcpy(g->cache + (layer * c->seq_len + at) * 2 * kv, qkv + c->heads * hd, (size_t)(2 * kv) * sizeof *qkv);
}

static void attend_task(void *ctx, size_t task, int worker)
{
    const struct job *j = ctx;
    const struct dp_generator *g = j->g;
    const struct dp_model_config *c = &g->c;
    int64_t b = (int64_t)task / c->heads, h = (int64_t)task % c->heads, n = g->used + b + 1;
    int64_t hd = dp_model_head_dim(c), kv = c->kv_heads * hd;
    const float *k = g->cache + j->layer * c->seq_len * 2 * kv + h / (c->heads / c->kv_heads) * hd, *v = k + kv;
    const float *q = g->qkv + b * dp_model_qkv_width(c) + h * hd;
    float *scores = g->scores + worker * c->seq_len, *out = g->att + b * dp_model_q_width(c) + h * hd;
    memset(out, 0, (size_t)hd * sizeof *out);
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) g->ops->dot4(hd, q, k + i * 2 * kv, 2 * kv, scores + i);
    for (; i < n; i++) scores[i] = g->ops->dot(hd, q, k + i * 2 * kv);
    g->ops->softmax(n, dp_model_attention_scale(c), scores);
    for (i = 0; i < n; i++) g->ops->axpy(hd, scores[i], v + i * 2 * kv, out);
}

static void run_layer(struct dp_generator *g, int64_t layer, int64_t n)
{
    const struct dp_model_config *c = &g->c;
    const struct dp_layer_params *p = &g->layout.layer[layer];
    int64_t d = c->dim, f = c->ffn, in = c->arch == DP_ARCH_LLAMA ? 2 * f : f, w = dp_model_qkv_width(c);
    normalise(g, n, p->norm1_w, p->norm1_b);
    apply(g, n, g->h, d, p->qkv_w, p->qkv_b, g->qkv, w, 0);
    for (int64_t t = 0; t < n; t++) place_token(g, layer, g->qkv + t * w, g->used + t);
    struct job j = {.g = g, .layer = layer};
    dp_pool_run(g->pool, (size_t)(n * c->heads), attend_task, &j);
    apply(g, n, g->att, dp_model_q_width(c), p->proj_w, p->proj_b, g->x, d, 1);
    normalise(g, n, p->norm2_w, p->norm2_b);
    apply(g, n, g->h, d, p->in_w, p->in_b, g->pre, in, 0);
    for (int64_t t = 0; t < n; t++) {
        const float *pre = g->pre + t * in;
        if (c->arch == DP_ARCH_LLAMA) g->ops->swiglu_fwd(f, pre, pre + f, g->act + t * f);
        else g->ops->gelu_fwd(f, pre, g->act + t * f);
    }
    apply(g, n, g->act, f, p->out_w, p->out_b, g->x, d, 1);
}

static int check_tokens(const struct dp_generator *g, const int32_t *tokens, int64_t n, struct dp_err *e)
{
    for (int64_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= g->c.vocab)
            DP_FAIL(e, CORRUPT,
                    "token %d is outside the model's vocabulary of %lld: use the tokenizer it was "
                    "trained with",
                    tokens[i], (long long)g->c.vocab);
    if (n > g->c.seq_len - g->used)
        DP_FAIL(e, LIMIT, "%lld tokens behind %lld in a context of %lld: shorten the prompt",
                (long long)n, (long long)g->used, (long long)g->c.seq_len);
    return DP_OK;
}

int dp_generator_feed_all(struct dp_generator *g, const int32_t *tokens, int64_t n, const float **logits, struct dp_err *e)
{
    const struct dp_model_config *c = &g->c;
    DP_ASSERT(n >= 1);
    DP_TRY(check_tokens(g, tokens, n, e));
    for (int64_t at = 0, now; at < n; at += now) {
        now = n - at < TOKENS_AT_ONCE ? n - at : TOKENS_AT_ONCE;
        for (int64_t t = 0; t < now; t++) {
            float *x = g->x + t * c->dim;
            memcpy(x, g->p + g->layout.wte + (int64_t)tokens[at + t] * c->dim, (size_t)c->dim * sizeof *x);
            if (g->layout.wpe != DP_NO_PARAM) g->ops->axpy(c->dim, 1.0f, g->p + g->layout.wpe + (g->used + t) * c->dim, x);
            g->context[g->used + t] = tokens[at + t];
        }
        for (int64_t i = 0; i < c->layers; i++) run_layer(g, i, now);
        g->used += now;
        if (at + now < n) continue;
        float *last = g->h + (now - 1) * c->dim;
        normalise(g, now, g->layout.normf_w, g->layout.normf_b);
        for (int64_t i = 0; c->mup_base_dim && i < c->dim; i++) last[i] *= dp_model_logit_scale(c);
        apply(g, 1, last, c->dim, g->layout.head, DP_NO_PARAM, g->logits, c->vocab, 0);
    }
    *logits = g->logits;
    return DP_OK;
}

int dp_generator_feed(struct dp_generator *g, int32_t token, const float **logits, struct dp_err *e)
{
    return dp_generator_feed_all(g, &token, 1, logits, e);
}

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* A logit under the repetition penalty; NaN is never picked. */
static float penalised(const struct dp_generator *g, const float *logits, int64_t i, const struct dp_generate_options *o)
{
    float x = isnan(logits[i]) ? -INFINITY : logits[i];
    if (!g->seen[i]) return x;
    return (float)(x < 0 ? (double)x * o->repetition : (double)x / o->repetition);
}

static void mark_context(struct dp_generator *g, const struct dp_generate_options *o, uint8_t mark)
{
    for (int64_t i = 0; o->repetition > 0 && o->repetition != 1 && i < g->used; i++) g->seen[g->context[i]] = mark;
}

/* The first `n` candidates that stay; their p are set, *kept is the sum. */
static int64_t cut_candidates(struct candidate *k, int64_t n, const struct dp_generate_options *o, double *kept)
{
    double sum = 0;
    if (o->top_k > 0 && o->top_k < n) n = o->top_k;
    for (int64_t i = 0; i < n; i++) {
        k[i].p = i ? exp(((double)k[i].logit - (double)k[0].logit) / o->temperature) : 1;
        sum += k[i].p;
    }
    int64_t cut = 0;
    *kept = 0;
    while (cut < n && (cut == 0 || (*kept < o->top_p * sum && k[cut].p >= o->min_p))) *kept += k[cut++].p;
    return cut;
}

int32_t dp_generator_pick(struct dp_generator *g, const float *logits,
                          const struct dp_generate_options *o, uint64_t *state)
{
    int64_t n = g->c.vocab;
    struct candidate *k = g->candidates;
    mark_context(g, o, 1);
    for (int64_t i = 0; i < n; i++) k[i] = (struct candidate){penalised(g, logits, i, o), (int32_t)i, 0};
    mark_context(g, o, 0);
    if (!(o->temperature > 0)) {
        int64_t best = 0;
        for (int64_t i = 1; i < n; i++)
            if (k[i].logit > k[best].logit) best = i;
        return (int32_t)best;
    }
    qsort(k, (size_t)n, sizeof *k, compare_candidates);
    double kept;
    int64_t cut = cut_candidates(k, n, o, &kept);
    double at = (double)(dp_splitmix64(state) >> 11) * 0x1p-53 * kept;
    for (int64_t i = 0; i < cut; i++)
        if ((at -= k[i].p) < 0) return k[i].id;
    return k[cut - 1].id;
}

int dp_generate_check(const struct dp_generate_options *o, struct dp_err *e)
{
    if (o->top_k < 0 || !(o->temperature >= 0)) DP_FAIL(e, USAGE, "temperature and top_k must not be negative");
    if (!(o->top_p > 0) || !(o->min_p >= 0 && o->min_p <= 1)) DP_FAIL(e, USAGE, "top_p must be above 0, min_p from 0 to 1");
    if (!(o->repetition >= 0)) DP_FAIL(e, USAGE, "the repetition penalty must not be negative");
    return DP_OK;
}

int dp_generate(struct dp_generator *g, const int32_t *prompt, int64_t n,
                const struct dp_generate_options *o, dp_generate_fn emit, void *ctx, int64_t *count,
                enum dp_generate_end *end, struct dp_err *e)
{
    enum dp_generate_end why = DP_END_TOKENS;
    *count = 0;
    if (n < 1)
        DP_FAIL(e, USAGE,
                "generation needs a prompt of at least one token (the end-of-text token will do)");
    DP_TRY(dp_generate_check(o, e));
    dp_generator_reset(g);
    const float *logits = NULL;
    uint64_t state = o->seed;
    DP_TRY(dp_generator_feed_all(g, prompt, n, &logits, e));
    for (;;) {
        int32_t token = dp_generator_pick(g, logits, o, &state);
        ++*count;
        int answer = emit(ctx, token);
        if (answer < 0) return answer;
        if (answer) why = DP_END_CALLER;
        else if (token == o->stop) why = DP_END_STOP;
        else if (g->used == g->c.seq_len) why = DP_END_CONTEXT;
        else if (!o->tokens_max || *count < o->tokens_max) {
            DP_TRY(dp_generator_feed(g, token, &logits, e));
            continue;
        }
        break;
    }
    if (end) *end = why;
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
    const int64_t b = TOKENS_AT_ONCE;
    const struct {
        float **to;
        int64_t n;
    } parts[] = {
        {&g->cache, c->layers * c->seq_len * 2 * kv},
        {&g->x, b * c->dim},
        {&g->h, b * c->dim},
        {&g->qkv, b * dp_model_qkv_width(c)},
        {&g->att, b * dp_model_q_width(c)},
        {&g->scores, (g->pool ? dp_pool_threads(g->pool) : 1) * c->seq_len},
        {&g->pre, b * 2 * c->ffn},
        {&g->act, b * c->ffn},
        {&g->logits, c->vocab},
        {&g->rope_cos, c->seq_len * hd},
        {&g->rope_sin, c->seq_len * hd},
    };
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        total += ((uint64_t)parts[i].n + 15) / 16 * 16;
    g->memory = dp_floats_alloc(total);
    g->candidates = calloc((size_t)c->vocab, sizeof *g->candidates);
    g->context = calloc((size_t)c->seq_len, sizeof *g->context);
    g->seen = calloc((size_t)c->vocab, sizeof *g->seen);
    if (!g->memory || !g->candidates || !g->context || !g->seen)
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
    free(g->context);
    free(g->seen);
    free(g);
}

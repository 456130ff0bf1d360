/* Replay of a vector file (../data/trainer/README.md): forward, backward, clip and AdamW from init.* over the file's batches, every
 * reference tensor compared. The tolerances are ten times the distance that PyTorch's own fp32 has from fp64 on those nets.
 *
 * Pitfall of the format, from its README: the key third of gpt2's c_attn.bias has no gradient in exact arithmetic (softmax ignores a
 * shift), so AdamW divides rounding noise by its own size. That third is left out of after3, and its gradient reported instead. */
#include "trainer/optim.h"
#include "trainer/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    double logits, losses, grad, grad_norms, after, m, v, key_bias;
} tolerance = {2e-5, 5e-6, 1.1e-6, 1e-4, 6e-5, 1.1e-7, 7.1e-9, 1e-7};

struct replay {
    struct dp_safetensors *f;
    const char *path;
    struct dp_model_config c;
    struct dp_optim_rates rates;
    struct dp_model *model;
    struct dp_optim optim;
    struct dp_pool *pool;
    int64_t batch, steps;
    int32_t *tokens, *targets; /* [steps][batch][seq] */
    float *logits;
    struct dp_verify_result *r;
    double worst; /* largest difference / tolerance */
};

static int meta_real(const struct dp_safetensors *f, const char *key, double *out, struct dp_err *e)
{
    struct dp_span s = dp_safetensors_meta(f, key);
    char text[64], *end;
    snprintf(text, sizeof text, "%.*s", (int)(s.len < 63 ? s.len : 63), s.ptr ? s.ptr : "");
    *out = strtod(text, &end);
    if (!*text || *end || !isfinite(*out))
        DP_FAIL(e, CORRUPT, "%s: metadata \"%s\" is missing or no number: no vector file", dp_safetensors_path(f), key);
    return DP_OK;
}

static int meta_int(const struct dp_safetensors *f, const char *key, int64_t *out, struct dp_err *e)
{
    double v;
    DP_TRY(meta_real(f, key, &v, e));
    if (v < 1 || v > INT32_MAX || v != floor(v)) DP_FAIL(e, CORRUPT, "%s: metadata \"%s\" is %g", dp_safetensors_path(f), key, v);
    *out = (int64_t)v;
    return DP_OK;
}

static int read_meta(struct replay *p, struct dp_err *e)
{
    const struct {
        const char *key;
        int64_t *to;
    } ints[] = {{"B", &p->batch},         {"T", &p->c.seq_len},   {"vocab", &p->c.vocab},       {"dim", &p->c.dim},
                {"layers", &p->c.layers}, {"heads", &p->c.heads}, {"kv_heads", &p->c.kv_heads}, {"ffn", &p->c.ffn}};
    const struct {
        const char *key;
        double *to;
    } reals[] = {{"lr", &p->rates.lr},   {"beta1", &p->rates.beta1},               {"beta2", &p->rates.beta2},
                 {"eps", &p->rates.eps}, {"weight_decay", &p->rates.weight_decay}, {"clip", &p->rates.clip}};
    struct dp_span arch = dp_safetensors_meta(p->f, "arch");
    if (!dp_span_is(arch, "gpt2") && !dp_span_is(arch, "llama"))
        DP_FAIL(e, CORRUPT, "%s: metadata \"arch\" is neither gpt2 nor llama: no vector file", p->path);
    p->c.arch = dp_span_is(arch, "llama") ? DP_ARCH_LLAMA : DP_ARCH_GPT2;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) DP_TRY(meta_int(p->f, ints[i].key, ints[i].to, e));
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) DP_TRY(meta_real(p->f, reals[i].key, reals[i].to, e));
    p->c.tied = !dp_safetensors_find(p->f, "init.lm_head.weight");
    return DP_OK;
}

/* A tensor of the file with that type and number of elements. */
static int want(const struct replay *p, const char *name, const char *dtype, uint64_t elements, const struct dp_safetensor **out, struct dp_err *e)
{
    *out = dp_safetensors_find(p->f, name);
    if (!*out) DP_FAIL(e, CORRUPT, "%s: tensor \"%s\" is missing: no vector file of these sizes", p->path, name);
    if (strcmp((*out)->dtype, dtype) != 0 || (*out)->elements != elements)
        DP_FAIL(e, CORRUPT, "%s: tensor \"%s\" is %s[%llu], not %s[%llu] as the metadata says", p->path, name, (*out)->dtype,
                (unsigned long long)(*out)->elements, dtype, (unsigned long long)elements);
    return DP_OK;
}

static int read_tokens(struct replay *p, struct dp_err *e)
{
    const struct dp_safetensor *losses = dp_safetensors_find(p->f, "losses"), *t;
    if (!losses || strcmp(losses->dtype, "F32") != 0 || losses->elements < 1 || losses->elements > 100000)
        DP_FAIL(e, CORRUPT, "%s: no tensor \"losses\" of F32: no vector file", p->path);
    p->steps = (int64_t)losses->elements;
    uint64_t n = (uint64_t)p->steps * (uint64_t)p->batch * (uint64_t)p->c.seq_len;
    const char *names[] = {"tokens", "targets"};
    int32_t **to[] = {&p->tokens, &p->targets};
    for (int k = 0; k < 2; k++) {
        DP_TRY(want(p, names[k], "I32", n, &t, e));
        *to[k] = malloc((size_t)n * sizeof(int32_t));
        if (!*to[k]) DP_FAIL(e, NOMEM, "%s: %llu tokens", p->path, (unsigned long long)n);
        memcpy(*to[k], t->data, (size_t)n * sizeof(int32_t));
        for (uint64_t i = 0; i < n; i++)
            if ((*to[k])[i] >= p->c.vocab || (*to[k])[i] < -k)
                DP_FAIL(e, CORRUPT, "%s: %s[%llu] is %d, outside the vocabulary", p->path, names[k], (unsigned long long)i, (*to[k])[i]);
    }
    return DP_OK;
}

static int read_init(struct replay *p, struct dp_err *e)
{
    DP_TRY(dp_model_open(&p->model, &p->c, p->batch, true, p->pool, e));
    DP_TRY(dp_optim_open(&p->optim, &p->model->layout, e));
    const struct dp_layout *l = &p->model->layout;
    for (size_t i = 0; i < l->count; i++) {
        const struct dp_safetensor *t;
        char name[DP_MODEL_NAME_MAX + 8];
        snprintf(name, sizeof name, "init.%s", l->params[i].name);
        DP_TRY(want(p, name, "F32", dp_param_count(&l->params[i]), &t, e));
        memcpy(p->model->p + l->params[i].offset, t->data, (size_t)t->elements * sizeof(float));
    }
    return DP_OK;
}

static void note(struct replay *p, const char *name, double diff, double tol, double *largest)
{
    if (!(diff <= *largest)) *largest = diff; /* NaN stays */
    double ratio = diff / tol;
    if (!(ratio <= p->worst)) {
        p->worst = ratio;
        snprintf(p->r->worst, sizeof p->r->worst, "%s", name);
    }
}

/* Elements [skip0, skip1) are left out. */
static double distance(const struct dp_safetensor *t, const float *got, uint64_t skip0, uint64_t skip1)
{
    double d = 0;
    for (uint64_t i = 0; i < t->elements; i++) {
        float ref;
        if (i >= skip0 && i < skip1) continue;
        memcpy(&ref, t->data + i * sizeof ref, sizeof ref);
        double x = fabs((double)got[i] - (double)ref);
        if (!(x <= d)) d = x;
    }
    return d;
}

/* Compare "PREFIX.NAME" for every parameter with a block of floats. */
static int compare_block(struct replay *p, const char *prefix, const float *block, double tol, double *largest, struct dp_err *e)
{
    const struct dp_layout *l = &p->model->layout;
    for (size_t i = 0; i < l->count; i++) {
        const struct dp_param *q = &l->params[i];
        const struct dp_safetensor *t;
        char name[DP_MODEL_NAME_MAX + 8];
        snprintf(name, sizeof name, "%s.%s", prefix, q->name);
        if (!dp_safetensors_find(p->f, name)) continue;
        DP_TRY(want(p, name, "F32", dp_param_count(q), &t, e));
        size_t len = strlen(q->name);
        bool key_bias = len > 16 && strcmp(q->name + len - 16, "attn.c_attn.bias") == 0;
        uint64_t d = (uint64_t)p->c.dim, lo = key_bias ? d : 0, hi = key_bias ? 2 * d : 0;
        if (key_bias && strcmp(prefix, "grad") == 0) {
            for (uint64_t k = lo; k < hi; k++) note(p, name, fabs((double)block[q->offset + k]), tolerance.key_bias, &p->r->key_bias_grad);
        }
        if (strncmp(prefix, "after", 5) != 0) lo = hi = 0;
        note(p, name, distance(t, block + q->offset, lo, hi), tol, largest);
        p->r->tensors++;
    }
    return DP_OK;
}

static int compare_logits(struct replay *p, struct dp_err *e)
{
    const struct dp_safetensor *t;
    uint64_t n = (uint64_t)p->batch * (uint64_t)p->c.seq_len * (uint64_t)p->c.vocab;
    DP_TRY(want(p, "logits", "F32", n, &t, e));
    p->logits = malloc((size_t)n * sizeof *p->logits);
    if (!p->logits) DP_FAIL(e, NOMEM, "%s: %llu logits", p->path, (unsigned long long)n);
    dp_model_logits(p->model, p->tokens, p->batch, p->logits);
    note(p, "logits", distance(t, p->logits, 0, 0), tolerance.logits, &p->r->logits);
    p->r->tensors++;
    return DP_OK;
}

static int run_steps(struct replay *p, struct dp_err *e)
{
    const struct dp_safetensor *losses, *norms = NULL;
    struct dp_model *m = p->model;
    int64_t n = p->batch * p->c.seq_len;
    DP_TRY(want(p, "losses", "F32", (uint64_t)p->steps, &losses, e));
    if (dp_safetensors_find(p->f, "grad_norms")) DP_TRY(want(p, "grad_norms", "F32", (uint64_t)p->steps, &norms, e));
    for (int64_t s = 0; s < p->steps; s++) {
        const int32_t *targets = p->targets + s * n;
        double sum;
        int64_t count = 0;
        float ref;
        for (int64_t i = 0; i < n; i++) count += targets[i] >= 0;
        if (!count) DP_FAIL(e, CORRUPT, "%s: all targets of step %lld are ignored", p->path, (long long)s);
        memset(m->g, 0, (size_t)m->layout.floats * sizeof *m->g);
        dp_model_run(m, p->tokens + s * n, targets, p->batch, (float)(1.0 / (double)count), &sum, &count);
        if (s == 0) DP_TRY(compare_block(p, "grad", m->g, tolerance.grad, &p->r->grad, e));
        double norm = dp_optim_norm(&p->optim, p->pool, m->g);
        memcpy(&ref, losses->data + s * 4, sizeof ref);
        note(p, "losses", fabs(sum / (double)count - (double)ref), tolerance.losses, &p->r->losses);
        if (norms) {
            memcpy(&ref, norms->data + s * 4, sizeof ref);
            note(p, "grad_norms", fabs(norm - (double)ref), tolerance.grad_norms, &p->r->grad_norms);
        }
        dp_optim_step(&p->optim, p->pool, &p->rates, s + 1, norm, m->g, m->p);
    }
    p->r->tensors += norms ? 2 : 1;
    DP_TRY(compare_block(p, "after3", m->p, tolerance.after, &p->r->after3, e));
    DP_TRY(compare_block(p, "m3", p->optim.m, tolerance.m, &p->r->m3, e));
    return compare_block(p, "v3", p->optim.v, tolerance.v, &p->r->v3, e);
}

int dp_trainer_verify(const char *path, struct dp_pool *pool, struct dp_verify_result *r, struct dp_err *e)
{
    struct replay p = {.path = path, .pool = pool, .r = r};
    *r = (struct dp_verify_result){0};
    int rc = dp_safetensors_open(&p.f, path, e);
    if (rc < 0) return rc;
    DP_TRY_OUT(read_meta(&p, e));
    DP_TRY_OUT(dp_model_config_check(&p.c, e));
    DP_TRY_OUT(read_tokens(&p, e));
    DP_TRY_OUT(read_init(&p, e));
    DP_TRY_OUT(compare_logits(&p, e));
    DP_TRY_OUT(run_steps(&p, e));
    r->steps = p.steps;
    r->ok = p.worst <= 1;
    rc = DP_OK;
out:
    dp_model_close(p.model);
    dp_optim_close(&p.optim);
    dp_safetensors_close(p.f);
    free(p.tokens);
    free(p.targets);
    free(p.logits);
    return rc;
}

/* Replay of a vector file (../data/trainer/README.md): forward, backward, clip and AdamW from
 * init.* over the file's batches, every reference tensor compared.
 *
 * What is near enough: the file may say (metadata tolerance.GROUP; tests/parity/trainer_vectors.py
 * states ten times the distance that PyTorch's own fp32 has from fp64 there). Else it is ten times
 * that distance as measured on the two nets of ../data/trainer, and more where the file's numbers are
 * larger or its sums longer than theirs.
 *
 * Pitfall: AdamW divides a gradient by its own size, so what rounding leaves of one that is 0 in
 * exact arithmetic moves a weight as far as any other. One is known beforehand: the key third of
 * gpt2's c_attn.bias (softmax ignores a shift; not with QK-norm). It is left out of after3, and its
 * gradient reported instead. For all others what is allowed to an element of after3 grows each step
 * with the noise of its gradient over the root of v, to at most two whole updates. */
#include "trainer/optim.h"
#include "trainer/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOGITS, LOSSES, GRAD, GRAD_NORMS, AFTER, M, V, GROUPS };
static const struct {
    const char *name;
    double tolerance, size; /* on the nets of ../data/trainer: ten times the gap, the largest number */
} groups[GROUPS] = {
    {"logits", 2e-5, 2.6},       {"losses", 5e-6, 6},  {"grad", 1.1e-6, 0.17},  {"grad_norms", 1e-4, 4.5},
    {"after3", 6e-5, 1.2},       {"m3", 1.1e-7, 8e-3}, {"v3", 7.1e-9, 3.5e-4},
};
static const double key_bias_tolerance = 0.1; /* of grad's */
/* The longest sums of those nets, through both layers. */
static const double usual_sums = 2 * 176;

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
    int32_t *places; /* [steps][batch][seq]; NULL: sequences are one document */
    bool restart;
    double z_loss, tolerance[GROUPS];
    double worst;  /* largest difference / tolerance */
    double *noise; /* how far its gradient's noise may have moved each weight */
};

static int meta_real(const struct dp_safetensors *f, const char *key, double *out, struct dp_err *e)
{
    struct dp_span s = dp_safetensors_meta(f, key);
    char text[64], *end;
    snprintf(text, sizeof text, "%.*s", (int)(s.len < 63 ? s.len : 63), s.ptr ? s.ptr : "");
    *out = strtod(text, &end);
    if (!*text || *end || !isfinite(*out))
        DP_FAIL(e, CORRUPT, "%s: metadata \"%s\" is missing or no number: no vector file",
                dp_safetensors_path(f), key);
    return DP_OK;
}

static int meta_int(const struct dp_safetensors *f, const char *key, int64_t *out, struct dp_err *e)
{
    double v;
    DP_TRY(meta_real(f, key, &v, e));
    if (v < 1 || v > INT32_MAX || v != floor(v))
        DP_FAIL(e, CORRUPT, "%s: metadata \"%s\" is %g", dp_safetensors_path(f), key, v);
    *out = (int64_t)v;
    return DP_OK;
}

/* The same for what a file may leave out; `out` stays then. */
static int meta_real_or(const struct dp_safetensors *f, const char *key, double min, double max,
                        double *out, struct dp_err *e)
{
    if (!dp_safetensors_meta(f, key).ptr) return DP_OK;
    DP_TRY(meta_real(f, key, out, e));
    if (!(*out >= min && *out <= max))
        DP_FAIL(e, CORRUPT, "%s: metadata \"%s\" is %g", dp_safetensors_path(f), key, *out);
    return DP_OK;
}

static int meta_int_or(const struct dp_safetensors *f, const char *key, int64_t *out,
                       struct dp_err *e)
{
    double v = 0;
    DP_TRY(meta_real_or(f, key, 0, INT32_MAX, &v, e));
    if (v != floor(v)) DP_FAIL(e, CORRUPT, "%s: metadata \"%s\" is %g", dp_safetensors_path(f), key, v);
    *out = (int64_t)v;
    return DP_OK;
}

static int read_options(struct replay *p, struct dp_err *e)
{
    int64_t qk_norm, restart;
    DP_TRY(meta_int_or(p->f, "qk_norm", &qk_norm, e));
    DP_TRY(meta_int_or(p->f, "restart", &restart, e));
    DP_TRY(meta_int_or(p->f, "head_dim", &p->c.head_dim, e));
    DP_TRY(meta_int_or(p->f, "mup_base_dim", &p->c.mup_base_dim, e));
    DP_TRY(meta_int_or(p->f, "mup_base_head_dim", &p->c.mup_base_head_dim, e));
    DP_TRY(meta_real_or(p->f, "norm_eps", 0, 1, &p->c.norm_eps, e));
    DP_TRY(meta_real_or(p->f, "rope_theta", 0, 1e12, &p->c.rope_theta, e));
    DP_TRY(meta_real_or(p->f, "z_loss", 0, 1, &p->z_loss, e));
    p->c.qk_norm = qk_norm != 0;
    p->restart = restart != 0;
    p->c.tied = !dp_safetensors_find(p->f, "init.lm_head.weight");
    return DP_OK;
}

static int read_meta(struct replay *p, struct dp_err *e)
{
    const struct {
        const char *key;
        int64_t *to;
    } ints[] = {{"B", &p->batch},
                {"T", &p->c.seq_len},
                {"vocab", &p->c.vocab},
                {"dim", &p->c.dim},
                {"layers", &p->c.layers},
                {"heads", &p->c.heads},
                {"kv_heads", &p->c.kv_heads},
                {"ffn", &p->c.ffn}};
    const struct {
        const char *key;
        double *to;
    } reals[] = {{"lr", &p->rates.lr},
                 {"beta1", &p->rates.beta1},
                 {"beta2", &p->rates.beta2},
                 {"eps", &p->rates.eps},
                 {"weight_decay", &p->rates.weight_decay},
                 {"clip", &p->rates.clip}};
    struct dp_span arch = dp_safetensors_meta(p->f, "arch");
    if (!dp_span_is(arch, "gpt2") && !dp_span_is(arch, "llama"))
        DP_FAIL(e, CORRUPT, "%s: metadata \"arch\" is neither gpt2 nor llama: no vector file",
                p->path);
    p->c.arch = dp_span_is(arch, "llama") ? DP_ARCH_LLAMA : DP_ARCH_GPT2;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        DP_TRY(meta_int(p->f, ints[i].key, ints[i].to, e));
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        DP_TRY(meta_real(p->f, reals[i].key, reals[i].to, e));
    return read_options(p, e);
}

static double largest(const struct dp_safetensor *t)
{
    double d = 0;
    for (uint64_t i = 0; i < t->elements; i++) {
        float x;
        memcpy(&x, t->data + i * sizeof x, sizeof x);
        if (fabs((double)x) > d) d = fabs((double)x);
    }
    return d;
}

/* See the top. */
static int set_tolerances(struct replay *p, struct dp_err *e)
{
    const struct dp_layout *l = &p->model->layout;
    double sums = (double)p->c.layers * (double)(p->c.dim > p->c.ffn ? p->c.dim : p->c.ffn);
    for (int g = 0; g < GROUPS; g++) {
        double size = 0;
        const struct dp_safetensor *t = dp_safetensors_find(p->f, groups[g].name);
        if (t && strcmp(t->dtype, "F32") == 0) size = largest(t);
        for (size_t i = 0; i < l->count; i++) {
            char name[DP_MODEL_NAME_MAX + 8];
            snprintf(name, sizeof name, "%s.%s", groups[g].name, l->params[i].name);
            t = dp_safetensors_find(p->f, name);
            if (t && strcmp(t->dtype, "F32") == 0) size = fmax(size, largest(t));
        }
        char key[32];
        p->tolerance[g] =
            groups[g].tolerance * fmax(1, size / groups[g].size) * sqrt(fmax(1, sums / usual_sums));
        snprintf(key, sizeof key, "tolerance.%s", groups[g].name);
        DP_TRY(meta_real_or(p->f, key, 0, 1, &p->tolerance[g], e));
    }
    return DP_OK;
}

/* A tensor of the file with that type and number of elements. */
static int want(const struct replay *p, const char *name, const char *dtype, uint64_t elements,
                const struct dp_safetensor **out, struct dp_err *e)
{
    *out = dp_safetensors_find(p->f, name);
    if (!*out)
        DP_FAIL(e, CORRUPT, "%s: tensor \"%s\" is missing: no vector file of these sizes", p->path,
                name);
    if (strcmp((*out)->dtype, dtype) != 0 || (*out)->elements != elements)
        DP_FAIL(e, CORRUPT, "%s: tensor \"%s\" is %s[%llu], not %s[%llu] as the metadata says",
                p->path, name, (*out)->dtype, (unsigned long long)(*out)->elements, dtype,
                (unsigned long long)elements);
    return DP_OK;
}

static int read_tokens(struct replay *p, struct dp_err *e)
{
    const struct dp_safetensor *losses = dp_safetensors_find(p->f, "losses"), *t;
    if (!losses || strcmp(losses->dtype, "F32") != 0 || losses->elements < 1 ||
        losses->elements > 100000)
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
                DP_FAIL(e, CORRUPT, "%s: %s[%llu] is %d, outside the vocabulary", p->path, names[k],
                        (unsigned long long)i, (*to[k])[i]);
    }
    return DP_OK;
}

/* [steps][B][T], as dp_model_documents wants them. */
static int read_positions(struct replay *p, struct dp_err *e)
{
    int64_t n = p->steps * p->batch * p->c.seq_len, last = -1;
    const struct dp_safetensor *t;
    if (!dp_safetensors_find(p->f, "positions")) return DP_OK;
    DP_TRY(want(p, "positions", "I32", (uint64_t)n, &t, e));
    p->places = malloc((size_t)n * sizeof *p->places);
    if (!p->places) DP_FAIL(e, NOMEM, "%s: %lld positions", p->path, (long long)n);
    memcpy(p->places, t->data, (size_t)n * sizeof *p->places);
    for (int64_t i = 0; i < n; i++) {
        int64_t place = p->places[i];
        if (place != 0 && (i % p->c.seq_len == 0 || place != last + 1))
            DP_FAIL(e, CORRUPT, "%s: positions[%lld] is %lld: neither 0 nor one more than before",
                    p->path, (long long)i, (long long)place);
        last = place;
    }
    return DP_OK;
}

static int read_init(struct replay *p, struct dp_err *e)
{
    DP_TRY(dp_model_open(&p->model, &p->c, p->batch, true, p->pool, e));
    DP_TRY(dp_model_regime(p->model, &(struct dp_regime){.z_loss = p->z_loss}, e));
    DP_TRY(dp_optim_open(&p->optim, &p->model->layout, e));
    const struct dp_layout *l = &p->model->layout;
    p->noise = calloc((size_t)l->floats, sizeof *p->noise);
    if (!p->noise) DP_FAIL(e, NOMEM, "%s: %llu weights", p->path, (unsigned long long)l->total);
    for (size_t i = 0; i < l->count; i++) {
        const struct dp_safetensor *t;
        char name[DP_MODEL_NAME_MAX + 8];
        snprintf(name, sizeof name, "init.%s", l->params[i].name);
        DP_TRY(want(p, name, "F32", dp_param_count(&l->params[i]), &t, e));
        memcpy(p->model->p + l->params[i].offset, t->data, (size_t)t->elements * sizeof(float));
    }
    return DP_OK;
}

static void note_ratio(struct replay *p, const char *name, double ratio)
{
    if (!(ratio <= p->worst)) {
        p->worst = ratio;
        snprintf(p->r->worst, sizeof p->r->worst, "%s", name);
    }
}

static void note(struct replay *p, const char *name, double diff, double tol, double *largest_diff)
{
    if (!(diff <= *largest_diff)) *largest_diff = diff; /* NaN stays */
    note_ratio(p, name, diff / tol);
}

static double distance(const struct dp_safetensor *t, const float *got)
{
    double d = 0;
    for (uint64_t i = 0; i < t->elements; i++) {
        float ref;
        memcpy(&ref, t->data + i * sizeof ref, sizeof ref);
        double x = fabs((double)got[i] - (double)ref);
        if (!(x <= d)) d = x;
    }
    return d;
}

/* The key third of gpt2's attention bias, whose gradient is only noise. */
static bool is_noise(const struct replay *p, const struct dp_param *q, uint64_t i)
{
    uint64_t w = (uint64_t)dp_model_q_width(&p->c);
    size_t len = strlen(q->name);
    return !p->c.qk_norm && len > 16 && strcmp(q->name + len - 16, "attn.c_attn.bias") == 0 && i >= w && i < 2 * w;
}

/* Behind update number `step`. */
static void add_noise(struct replay *p, int64_t step)
{
    const struct dp_optim_rates *r = &p->rates;
    double correct1 = 1 - pow(r->beta1, (double)step), correct2 = 1 - pow(r->beta2, (double)step);
    for (uint64_t i = 0; i < p->model->layout.floats; i++) {
        double root = sqrt((double)p->optim.v[i] / correct2) + r->eps;
        p->noise[i] += r->lr * fmin(2, p->tolerance[M] / correct1 / root);
    }
}

/* Weights after the last step, each with the noise of its own gradient. */
static void compare_after(struct replay *p, const char *name, const struct dp_safetensor *t,
                          const struct dp_param *q)
{
    for (uint64_t i = 0; i < t->elements; i++) {
        float ref;
        if (is_noise(p, q, i)) continue;
        memcpy(&ref, t->data + i * sizeof ref, sizeof ref);
        note(p, name, fabs((double)p->model->p[q->offset + i] - (double)ref),
             p->tolerance[AFTER] + p->noise[q->offset + i], &p->r->after3);
    }
}

/* Compare "GROUP.NAME" for every parameter with a block of floats. */
static int compare_block(struct replay *p, int group, const float *block, double *largest_diff,
                         struct dp_err *e)
{
    const struct dp_layout *l = &p->model->layout;
    for (size_t i = 0; i < l->count; i++) {
        const struct dp_param *q = &l->params[i];
        const struct dp_safetensor *t;
        char name[DP_MODEL_NAME_MAX + 8];
        snprintf(name, sizeof name, "%s.%s", groups[group].name, q->name);
        if (!dp_safetensors_find(p->f, name)) continue;
        DP_TRY(want(p, name, "F32", dp_param_count(q), &t, e));
        for (uint64_t k = 0; group == GRAD && k < t->elements; k++)
            if (is_noise(p, q, k))
                note(p, name, fabs((double)block[q->offset + k]),
                     key_bias_tolerance * p->tolerance[GRAD], &p->r->key_bias_grad);
        if (group == AFTER) compare_after(p, name, t, q);
        else note(p, name, distance(t, block + q->offset), p->tolerance[group], largest_diff);
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
    dp_model_documents(p->model, p->places, p->restart);
    dp_model_logits(p->model, p->tokens, p->batch, p->logits);
    note(p, "logits", distance(t, p->logits), p->tolerance[LOGITS], &p->r->logits);
    p->r->tensors++;
    return DP_OK;
}

static int run_steps(struct replay *p, struct dp_err *e)
{
    const struct dp_safetensor *losses, *norms = NULL;
    struct dp_model *m = p->model;
    int64_t n = p->batch * p->c.seq_len;
    DP_TRY(want(p, "losses", "F32", (uint64_t)p->steps, &losses, e));
    if (dp_safetensors_find(p->f, "grad_norms"))
        DP_TRY(want(p, "grad_norms", "F32", (uint64_t)p->steps, &norms, e));
    for (int64_t s = 0; s < p->steps; s++) {
        const int32_t *targets = p->targets + s * n;
        double sum;
        int64_t count = 0;
        float ref;
        for (int64_t i = 0; i < n; i++) count += targets[i] >= 0;
        if (!count)
            DP_FAIL(e, CORRUPT, "%s: all targets of step %lld are ignored", p->path, (long long)s);
        memset(m->g, 0, (size_t)m->layout.floats * sizeof *m->g);
        dp_model_documents(m, p->places ? p->places + s * n : NULL, p->restart);
        dp_model_run(m, p->tokens + s * n, targets, p->batch, (float)(1.0 / (double)count), &sum,
                     &count);
        if (s == 0) DP_TRY(compare_block(p, GRAD, m->g, &p->r->grad, e));
        double norm = dp_optim_norm(&p->optim, p->pool, m->g);
        memcpy(&ref, losses->data + s * 4, sizeof ref);
        note(p, "losses", fabs((sum + m->z_sum) / (double)count - (double)ref), p->tolerance[LOSSES],
             &p->r->losses);
        if (norms) {
            memcpy(&ref, norms->data + s * 4, sizeof ref);
            note(p, "grad_norms", fabs(norm - (double)ref), p->tolerance[GRAD_NORMS],
                 &p->r->grad_norms);
        }
        dp_optim_step(&p->optim, p->pool, &p->rates, s + 1, norm, m->g, m->p);
        add_noise(p, s + 1);
    }
    p->r->tensors += norms ? 2 : 1;
    DP_TRY(compare_block(p, AFTER, m->p, &p->r->after3, e));
    DP_TRY(compare_block(p, M, p->optim.m, &p->r->m3, e));
    return compare_block(p, V, p->optim.v, &p->r->v3, e);
}

int dp_trainer_verify(const char *path, struct dp_pool *pool, struct dp_verify_result *r,
                      struct dp_err *e)
{
    struct replay p = {.path = path, .pool = pool, .r = r};
    *r = (struct dp_verify_result){0};
    int rc = dp_safetensors_open(&p.f, path, e);
    if (rc < 0) return rc;
    DP_TRY_OUT(read_meta(&p, e));
    DP_TRY_OUT(dp_model_config_check(&p.c, e));
    DP_TRY_OUT(read_tokens(&p, e));
    DP_TRY_OUT(read_positions(&p, e));
    DP_TRY_OUT(read_init(&p, e));
    DP_TRY_OUT(set_tolerances(&p, e));
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
    free(p.places);
    free(p.noise);
    return rc;
}

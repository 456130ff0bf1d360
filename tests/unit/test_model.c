/* The model against three judges: PyTorch's vectors; a forward pass in double written here from the
 * papers' formulas, whose finite differences are the gradient; and itself with other thread counts,
 * levels and batch splits, bit for bit. */
#include "base/cpu.h"
#include "base/fs.h"
#include "base/hash.h"
#include "tests/test.h"
#include "tests/unit/model_config.h"
#include "trainer/train.h"

/* --- the model again, in double, one token at a time --- */

struct ref {
    struct dp_model_config c;
    const struct dp_layout *l;
    double *p;
    const int32_t *positions; /* of the sequence; NULL: one document */
    bool restart;
    struct dp_regime regime;
    uint64_t sequence;
};

/* x: n columns of token t at a dropout's place in the model */
static void ref_drop(const struct ref *r, double p, uint64_t site, int64_t t, double *x, int64_t n)
{
    struct dp_dropout d = {p, r->regime.seed};
    float ones[128] = {0}, keep[128];
    if (p == 0) return;
    for (int64_t i = 0; i < n; i++) ones[i] = 1;
    dp_dropout_row(&d, site, r->sequence * (uint64_t)r->c.seq_len + (uint64_t)t, n, NULL, ones, keep);
    for (int64_t i = 0; i < n; i++) x[i] = keep[i] > 0 ? x[i] / (1 - p) : 0;
}

static int64_t ref_place(const struct ref *r, int64_t t)
{
    return r->positions && r->restart ? r->positions[t] : t;
}


/* "%d" in a name stands for the layer. */
static const struct dp_param *ref_param(const struct ref *r, const char *name, int layer)
{
    char full[DP_MODEL_NAME_MAX];
    const char *d = strstr(name, "%d");
    if (d) snprintf(full, sizeof full, "%.*s%d%s", (int)(d - name), name, layer, d + 2);
    else snprintf(full, sizeof full, "%s", name);
    const struct dp_param *p = dp_layout_find(r->l, full);
    if (!p) abort();
    return p;
}

static double ref_at(const struct ref *r, const char *name, int layer, int64_t i)
{
    return r->p[ref_param(r, name, layer)->offset + (uint64_t)i];
}

static void ref_linear(const struct ref *r, const char *w, const char *b, int layer,
                       const double *x, int64_t in, double *y, int64_t out)
{
    const double *weights = r->p + ref_param(r, w, layer)->offset;
    for (int64_t o = 0; o < out; o++) {
        y[o] = b ? ref_at(r, b, layer, o) : 0;
        const double *row = weights + o * in;
        for (int64_t i = 0; i < in; i++) y[o] += row[i] * x[i];
    }
}

static void ref_norm_of(const struct ref *r, const char *w, const char *b, int layer,
                        const double *x, double *y, int64_t d)
{
    double mean = 0, var = 0;
    const double *scale = r->p + ref_param(r, w, layer)->offset,
                 *shift = b ? r->p + ref_param(r, b, layer)->offset : NULL;
    double eps = r->c.norm_eps > 0 ? r->c.norm_eps : 1e-5;
    if (b)
        for (int64_t i = 0; i < d; i++) mean += x[i] / (double)d;
    for (int64_t i = 0; i < d; i++) var += (x[i] - mean) * (x[i] - mean) / (double)d;
    for (int64_t i = 0; i < d; i++)
        y[i] = (x[i] - mean) / sqrt(var + eps) * scale[i] + (shift ? shift[i] : 0);
}

static void ref_norm(const struct ref *r, const char *w, const char *b, int layer, const double *x,
                     double *y)
{
    ref_norm_of(r, w, b, layer, x, y, r->c.dim);
}

static void ref_rotate(const struct ref *r, double *v, int64_t half, int64_t t)
{
    double theta = r->c.rope_theta > 0 ? r->c.rope_theta : 10000;
    for (int64_t i = 0; i < half; i++) {
        double a = (double)t * pow(theta, -(double)i / (double)half), x = v[i], y = v[half + i];
        v[i] = x * cos(a) - y * sin(a);
        v[half + i] = x * sin(a) + y * cos(a);
    }
}

enum { T_MAX = 16, W_MAX = 128 };

/* RMS norm of each head */
static void ref_qk_norm(const struct ref *r, const char *w, int layer, double *v, int64_t heads,
                        int64_t hd)
{
    double y[W_MAX];
    for (int64_t h = 0; r->c.qk_norm && h < heads; h++) {
        ref_norm_of(r, w, NULL, layer, v + h * hd, y, hd);
        memcpy(v + h * hd, y, (size_t)hd * sizeof *y);
    }
}

static void ref_qkv(const struct ref *r, int layer, const double *x, int64_t t, double *q,
                    double *k, double *v)
{
    const struct dp_model_config *c = &r->c;
    int64_t d = c->dim, hd = c->head_dim ? c->head_dim : d / c->heads;
    int64_t w = c->heads * hd, kv = c->kv_heads * hd;
    double h[W_MAX], all[3 * W_MAX];
    if (c->arch == DP_ARCH_LLAMA) {
        ref_norm(r, "model.layers.%d.input_layernorm.weight", NULL, layer, x, h);
        ref_linear(r, "model.layers.%d.self_attn.q_proj.weight", NULL, layer, h, d, q, w);
        ref_linear(r, "model.layers.%d.self_attn.k_proj.weight", NULL, layer, h, d, k, kv);
        ref_linear(r, "model.layers.%d.self_attn.v_proj.weight", NULL, layer, h, d, v, kv);
        ref_qk_norm(r, "model.layers.%d.self_attn.q_norm.weight", layer, q, c->heads, hd);
        ref_qk_norm(r, "model.layers.%d.self_attn.k_norm.weight", layer, k, c->kv_heads, hd);
        for (int64_t i = 0; i < c->heads; i++) ref_rotate(r, q + i * hd, hd / 2, t);
        for (int64_t i = 0; i < c->kv_heads; i++) ref_rotate(r, k + i * hd, hd / 2, t);
    } else {
        ref_norm(r, "transformer.h.%d.ln_1.weight", "transformer.h.%d.ln_1.bias", layer, x, h);
        ref_linear(r, "transformer.h.%d.attn.c_attn.weight", "transformer.h.%d.attn.c_attn.bias",
                   layer, h, d, all, 3 * w);
        memcpy(q, all, (size_t)w * 8), memcpy(k, all + w, (size_t)w * 8),
            memcpy(v, all + 2 * w, (size_t)w * 8);
        ref_qk_norm(r, "transformer.h.%d.attn.q_norm.weight", layer, q, c->heads, hd);
        ref_qk_norm(r, "transformer.h.%d.attn.k_norm.weight", layer, k, c->kv_heads, hd);
    }
}

/* x[T][dim] += attention(norm(x)) */
static void ref_attention(const struct ref *r, int layer, double x[T_MAX][W_MAX])
{
    const struct dp_model_config *c = &r->c;
    int64_t d = c->dim, hd = c->head_dim ? c->head_dim : d / c->heads, w = c->heads * hd;
    double scale = c->mup_base_head_dim ? sqrt((double)c->mup_base_head_dim) / (double)hd
                                        : 1 / sqrt((double)hd);
    static double q[T_MAX][W_MAX], k[T_MAX][W_MAX], v[T_MAX][W_MAX];
    double out[W_MAX], y[W_MAX], s[T_MAX];
    for (int64_t t = 0; t < c->seq_len; t++) ref_qkv(r, layer, x[t], ref_place(r, t), q[t], k[t], v[t]);
    for (int64_t t = 0; t < c->seq_len; t++) {
        memset(out, 0, sizeof out);
        for (int64_t n = 0; n < c->heads; n++) {
            int64_t g = n * c->kv_heads / c->heads;
            double sum = 0;
            int64_t first = r->positions ? t - r->positions[t] : 0;
            for (int64_t u = first; u <= t; u++) {
                s[u] = 0;
                for (int64_t i = 0; i < hd; i++)
                    s[u] += q[t][n * hd + i] * k[u][g * hd + i] * scale;
                s[u] = exp(s[u]);
                sum += s[u];
            }
            for (int64_t u = first; u <= t; u++)
                for (int64_t i = 0; i < hd; i++) out[n * hd + i] += s[u] / sum * v[u][g * hd + i];
        }
        if (c->arch == DP_ARCH_LLAMA)
            ref_linear(r, "model.layers.%d.self_attn.o_proj.weight", NULL, layer, out, w, y, d);
        else
            ref_linear(r, "transformer.h.%d.attn.c_proj.weight",
                       "transformer.h.%d.attn.c_proj.bias", layer, out, w, y, d);
        ref_drop(r, r->regime.dropout_residual, 1 + 2 * (uint64_t)layer, t, y, d);
        for (int64_t i = 0; i < d; i++) x[t][i] += y[i];
    }
}

static void ref_mlp(const struct ref *r, int layer, int64_t t, double *x)
{
    int64_t d = r->c.dim, f = r->c.ffn;
    double h[W_MAX], a[W_MAX], b[W_MAX];
    if (r->c.arch == DP_ARCH_LLAMA) {
        ref_norm(r, "model.layers.%d.post_attention_layernorm.weight", NULL, layer, x, h);
        ref_linear(r, "model.layers.%d.mlp.gate_proj.weight", NULL, layer, h, d, a, f);
        ref_linear(r, "model.layers.%d.mlp.up_proj.weight", NULL, layer, h, d, b, f);
        for (int64_t i = 0; i < f; i++) a[i] = a[i] / (1 + exp(-a[i])) * b[i];
        ref_linear(r, "model.layers.%d.mlp.down_proj.weight", NULL, layer, a, f, h, d);
    } else {
        ref_norm(r, "transformer.h.%d.ln_2.weight", "transformer.h.%d.ln_2.bias", layer, x, h);
        ref_linear(r, "transformer.h.%d.mlp.c_fc.weight", "transformer.h.%d.mlp.c_fc.bias", layer,
                   h, d, a, f);
        for (int64_t i = 0; i < f; i++)
            a[i] = 0.5 * a[i] * (1 + tanh(sqrt(2 / M_PI) * (a[i] + 0.044715 * a[i] * a[i] * a[i])));
        ref_linear(r, "transformer.h.%d.mlp.c_proj.weight", "transformer.h.%d.mlp.c_proj.bias",
                   layer, a, f, h, d);
    }
    ref_drop(r, r->regime.dropout_residual, 2 + 2 * (uint64_t)layer, t, h, d);
    for (int64_t i = 0; i < d; i++) x[i] += h[i];
}

/* Sum of losses of one sequence. */
static double ref_loss(const struct ref *r, const int32_t *tokens, const int32_t *targets)
{
    const struct dp_model_config *c = &r->c;
    bool llama = c->arch == DP_ARCH_LLAMA;
    static double x[T_MAX][W_MAX];
    double h[W_MAX], logits[W_MAX], loss = 0;
    for (int64_t t = 0; t < c->seq_len; t++)
        for (int64_t i = 0; i < c->dim; i++)
            x[t][i] = llama ? ref_at(r, "model.embed_tokens.weight", 0, tokens[t] * c->dim + i)
                            : ref_at(r, "transformer.wte.weight", 0, tokens[t] * c->dim + i) +
                                  ref_at(r, "transformer.wpe.weight", 0, ref_place(r, t) * c->dim + i);
    for (int64_t t = 0; t < c->seq_len; t++)
        ref_drop(r, r->regime.dropout_embed, 0, t, x[t], c->dim);
    for (int layer = 0; layer < c->layers; layer++) {
        ref_attention(r, layer, x);
        for (int64_t t = 0; t < c->seq_len; t++) ref_mlp(r, layer, t, x[t]);
    }
    for (int64_t t = 0; t < c->seq_len; t++) {
        if (targets[t] < 0) continue;
        double sum = 0;
        if (llama) ref_norm(r, "model.norm.weight", NULL, 0, x[t], h);
        else ref_norm(r, "transformer.ln_f.weight", "transformer.ln_f.bias", 0, x[t], h);
        ref_linear(r,
                   !c->tied ? "lm_head.weight"
                   : llama  ? "model.embed_tokens.weight"
                            : "transformer.wte.weight",
                   NULL, 0, h, c->dim, logits, c->vocab);
        for (int64_t i = 0; c->mup_base_dim && i < c->vocab; i++)
            logits[i] *= (double)c->mup_base_dim / (double)c->dim;
        for (int64_t i = 0; i < c->vocab; i++) sum += exp(logits[i]);
        loss += log(sum) - logits[targets[t]] + r->regime.z_loss * log(sum) * log(sum);
    }
    return loss;
}

static const struct dp_model_config shapes[] = {
    CONFIG(DP_ARCH_GPT2, 2, 12, 3, 3, 20, 7, 29, true),   CONFIG(DP_ARCH_LLAMA, 2, 12, 2, 1, 19, 9, 31, false),
    CONFIG(DP_ARCH_LLAMA, 1, 24, 4, 2, 33, 5, 17, true),  CONFIG(DP_ARCH_GPT2, 1, 5, 1, 1, 3, 1, 2, true),
    CONFIG(DP_ARCH_GPT2, 3, 33, 3, 3, 17, 16, 65, false),
    CONFIG(DP_ARCH_LLAMA, 2, 15, 4, 2, 23, 11, 37, false, .qk_norm = true, .head_dim = 6,
           .norm_eps = 1e-3, .rope_theta = 500),
    CONFIG(DP_ARCH_GPT2, 2, 10, 3, 3, 13, 6, 19, true, .qk_norm = true, .head_dim = 5),
    CONFIG(DP_ARCH_LLAMA, 1, 24, 4, 2, 20, 6, 19, true, .mup_base_dim = 9, .mup_base_head_dim = 3),
};

/* Weights with nothing at 0 or 1, tokens and targets with some ignored. */
static void fill(struct dp_model *m, int32_t *tokens, int32_t *targets, int64_t n)
{
    uint64_t s = 99;
    for (uint64_t i = 0; i < m->layout.floats; i++)
        m->p[i] = ((float)(dp_splitmix64(&s) >> 40) * 0x1p-24f - 0.5f) * 0.5f;
    for (size_t k = 0; k < m->layout.count; k++) {
        const struct dp_param *p = &m->layout.params[k];
        for (uint64_t i = 0; !p->cols && i < dp_param_count(p); i++)
            m->p[p->offset + i] += strstr(p->name, "bias") ? 0.0f : 1.0f;
    }
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)(dp_splitmix64(&s) % (uint64_t)m->c.vocab);
        targets[i] = i % 5 == 3 ? -1 : (int32_t)(dp_splitmix64(&s) % (uint64_t)m->c.vocab);
    }
}

static double ref_losses(struct ref *r, const int32_t *tokens, const int32_t *targets,
                         const int32_t *positions)
{
    int64_t t = r->c.seq_len;
    double sum = 0;
    for (int64_t s = 0; s < 2; s++) {
        r->positions = positions ? positions + s * t : NULL;
        r->sequence = 70 + (uint64_t)s;
        sum += ref_loss(r, tokens + s * t, targets + s * t);
    }
    return sum;
}

/* Documents of 1, 2, 3... tokens. */
static void documents(int32_t *positions, int64_t sequences, int64_t seq_len)
{
    for (int64_t s = 0; s < sequences; s++)
        for (int64_t t = 0, start = 0, n = 1 + s; t < seq_len; t++) {
            if (t - start == n) start = t, n++;
            positions[s * seq_len + t] = (int32_t)(t - start);
        }
}

/* mode 1: documents; 2: whose positions start anew, with dropout and z-loss. `samples` elements of each parameter. */
static void check_slopes(size_t k, int mode, int samples)
{
    struct dp_err err = {0};
    struct dp_model *m;
    REQUIRE_OK(dp_model_open(&m, &shapes[k], 2, true, NULL, &err));
    int64_t t = m->c.seq_len, count;
    int32_t tokens[2 * T_MAX], targets[2 * T_MAX];
    double loss;
    int32_t buffer[2 * T_MAX], *positions = mode ? buffer : NULL;
    fill(m, tokens, targets, 2 * t);
    documents(buffer, 2, t);
    dp_model_documents(m, positions, mode == 2);
    struct dp_regime regime = {0.15, 0.25, 0.02, 5};
    if (mode == 2) REQUIRE_OK(dp_model_regime(m, &regime, &err));
    m->sequence = 70;
    dp_model_run(m, tokens, targets, 2, 1.0f, &loss, &count);
    struct ref r = {m->c, &m->layout, malloc((size_t)m->layout.floats * 8), positions, mode == 2, m->regime, 0};
    for (uint64_t i = 0; i < m->layout.floats; i++) r.p[i] = (double)m->p[i];
    double want = ref_losses(&r, tokens, targets, positions);
    CHECK_NEAR(loss + m->z_sum, want, 2e-5 * (double)count);
    for (size_t i = 0; i < m->layout.count; i++) {
        const struct dp_param *p = &m->layout.params[i];
        for (int sample = 0; sample < samples; sample++) {
            uint64_t at = p->offset + (uint64_t)(sample + mode) * 7919 % dp_param_count(p);
            double keep = r.p[at], step = 1e-5;
            r.p[at] = keep + step;
            double up = ref_losses(&r, tokens, targets, positions);
            r.p[at] = keep - step;
            double down = ref_losses(&r, tokens, targets, positions);
            r.p[at] = keep;
            double slope = (up - down) / (2 * step);
            if (!(fabs((double)m->g[at] - slope) <= 2e-5 + 2e-5 * fabs(slope)))
                DP_TEST_FAIL("shape %zu, documents %d, %s[%d]: gradient %.8g, slope %.8g", k, mode,
                             p->name, (int)(at - p->offset), (double)m->g[at], slope);
        }
    }
    free(r.p);
    dp_model_close(m);
}

TEST(gradient_is_the_slope_of_an_independent_model)
{
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        for (int mode = 0; mode < 3; mode++) check_slopes(k, mode, mode ? 1 : 3);
}

TEST(fresh_gradients_forget_the_old_ones)
{
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        struct dp_err err = {0};
        struct dp_model *m;
        REQUIRE_OK(dp_model_open(&m, &shapes[k], 2, true, NULL, &err));
        int64_t count;
        int32_t tokens[2 * T_MAX], targets[2 * T_MAX];
        double loss;
        fill(m, tokens, targets, 2 * m->c.seq_len);
        dp_model_run(m, tokens, targets, 2, 1.0f, &loss, &count);
        dp_model_run(m, tokens, targets, 1, 0.5f, &loss, &count);
        float *want = malloc((size_t)m->layout.floats * 4);
        memcpy(want, m->g, (size_t)m->layout.floats * 4);
        for (uint64_t i = 0; i < m->layout.floats; i++) m->g[i] = 77;
        dp_model_fresh_gradients(m);
        dp_model_run(m, tokens, targets, 2, 1.0f, &loss, &count);
        dp_model_run(m, tokens, targets, 1, 0.5f, &loss, &count);
        for (size_t i = 0; i < m->layout.count; i++) {
            const struct dp_param *p = &m->layout.params[i];
            for (uint64_t at = p->offset; at < p->offset + dp_param_count(p); at++)
                if (!(m->g[at] == want[at])) DP_TEST_FAIL("shape %zu, %s", k, p->name);
        }
        free(want);
        dp_model_close(m);
    }
}

TEST(reference_vectors)
{
    static const char *const files[] = {"gpt2.safetensors", "llama.safetensors"};
    const char *dirs[] = {"tests/data/trainer", getenv("DPIPE_TRAINER_VECTORS")};
    for (int d = 0; d < 2; d++) {
        for (int i = 0; dirs[d] && i < 2; i++) {
            struct dp_err err = {0};
            struct dp_verify_result r;
            char *path = dp_fs_join(dirs[d], files[i]);
            REQUIRE_OK(dp_trainer_verify(path, NULL, &r, &err));
            if (!r.ok) DP_TEST_FAIL("%s: furthest off is %s", path, r.worst);
            CHECK_INT(r.steps, 3);
            CHECK(r.tensors > 30);
            CHECK(r.logits > 0 && r.logits < 2e-5 && r.grad > 0 && r.grad < 1.1e-6);
            CHECK(r.key_bias_grad < 1e-7);
            free(path);
        }
    }
}

TEST(verify_refuses_what_is_no_vector_file)
{
    struct dp_err err = {0};
    struct dp_verify_result r;
    char *dir = dp_test_tmpdir(), *path = dp_fs_join(dir, "x.safetensors");
    const struct dp_safetensors_kv meta[] = {{"arch", "gpt2"}, {"B", "1"}, {"T", "0"}};
    CHECK(dp_trainer_verify(path, NULL, &r, &err) < 0);
    REQUIRE_OK(dp_safetensors_write(path, NULL, 0, meta, 3, &err));
    CHECK_INT(dp_trainer_verify(path, NULL, &r, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "\"T\"") != NULL);
    free(path);
}

static uint64_t run_hash(const struct dp_model_config *c, int threads, int level, int64_t batch)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "avx512bf16"};
    struct dp_err err = {0};
    struct dp_pool *pool;
    struct dp_model *m;
    int64_t n = 6 * c->seq_len, count;
    int32_t *tokens = malloc((size_t)n * 8), *targets = tokens + n;
    double loss, sum = 0;
    if (dp_cpu_force(names[level], &err) < 0 || dp_pool_open(&pool, threads, &err) < 0 ||
        dp_model_open(&m, c, batch, true, pool, &err) < 0)
        abort();
    fill(m, tokens, targets, n);
    for (int64_t s = 0; s < 6; s += batch) {
        dp_model_run(m, tokens + s * c->seq_len, targets + s * c->seq_len, batch, 0.01f, &loss,
                     &count);
        sum += loss;
    }
    uint64_t h = dp_hash64(m->g, (size_t)m->layout.floats * 4, 0);
    if (batch == 6) h ^= dp_hash64(&sum, sizeof sum, 1);
    dp_model_close(m);
    dp_pool_close(pool);
    free(tokens);
    return h;
}

TEST(same_bits_for_threads_and_levels)
{
    struct dp_err err = {0};
    static const struct dp_model_config big[] = {CONFIG(DP_ARCH_GPT2, 2, 36, 3, 3, 50, 70, 131, true),
                                                 CONFIG(DP_ARCH_LLAMA, 1, 24, 6, 2, 35, 131, 99, false),
        CONFIG(DP_ARCH_LLAMA, 1, 10, 3, 1, 21, 66, 40, true, .qk_norm = true, .head_dim = 34)};
    for (size_t k = 0; k < sizeof big / sizeof *big; k++) {
        uint64_t want = run_hash(&big[k], 1, 0, 6);
        for (int level = 0; level <= 2 && level <= (int)dp_cpu_detected(); level++)
            for (int threads = level ? 1 : 3; threads <= 3; threads++)
                CHECK(run_hash(&big[k], threads, level, 6) == want);
        struct dp_model_config bf16 = big[k];
        bf16.dtype = DP_BF16;
        uint64_t rounded = run_hash(&bf16, 1, 0, 6);
        CHECK(rounded != want);
        for (int level = 1; level <= 3 && level <= (int)dp_cpu_detected(); level++)
            for (int threads = 1; threads <= 3; threads += 2) CHECK(run_hash(&bf16, threads, level, 6) == rounded);
    }
    CHECK_OK(dp_cpu_force(dp_cpu_name(dp_cpu_detected()), &err));
}

/* Rounded operands keep 8 bits: a gradient differs by some of their steps from fp32's, no more. */
TEST(bf16_is_fp32_but_for_rounding)
{
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        struct dp_err err = {0};
        struct dp_model *m[2];
        int32_t tokens[2 * T_MAX], targets[2 * T_MAX];
        double loss[2];
        int64_t count;
        for (int i = 0; i < 2; i++) {
            struct dp_model_config c = shapes[k];
            c.dtype = i ? DP_BF16 : DP_FP32;
            REQUIRE_OK(dp_model_open(&m[i], &c, 2, true, NULL, &err));
            fill(m[i], tokens, targets, 2 * c.seq_len);
            dp_model_run(m[i], tokens, targets, 2, 1.0f, &loss[i], &count);
        }
        CHECK_NEAR(loss[1], loss[0], 0.02 * loss[0]);
        for (size_t i = 0; i < m[0]->layout.count; i++) {
            const struct dp_param *p = &m[0]->layout.params[i];
            double norm = 0, apart = 0;
            for (uint64_t at = p->offset; at < p->offset + dp_param_count(p); at++) {
                double x = (double)m[0]->g[at], y = (double)m[1]->g[at];
                norm += x * x;
                apart += (x - y) * (x - y);
            }
            if (!(apart > 0 && apart < 0.05 * 0.05 * norm + 1e-4))
                DP_TEST_FAIL("shape %zu, %s: gradient of norm %g is %g from fp32's", k, p->name, sqrt(norm),
                             sqrt(apart));
        }
        dp_model_close(m[0]);
        dp_model_close(m[1]);
    }
}

TEST(editing_the_future_leaves_the_past)
{
    struct dp_err err = {0};
    struct dp_model *m;
    REQUIRE_OK(
        dp_model_open(&m, &(struct dp_model_config)CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, 150, 50, false),
                      1, false, NULL, &err));
    int32_t tokens[150], targets[150];
    float *a = malloc(150 * 50 * 4), *b = malloc(150 * 50 * 4);
    fill(m, tokens, targets, 150);
    dp_model_logits(m, tokens, 1, a);
    tokens[100] = (tokens[100] + 1) % 50;
    dp_model_logits(m, tokens, 1, b);
    CHECK(memcmp(a, b, 100 * 50 * 4) == 0);
    CHECK(memcmp(a + 5000, b + 5000, 50 * 4) != 0);
    free(a), free(b);
    dp_model_close(m);
}

TEST(bad_configurations)
{
    static const struct {
        struct dp_model_config c;
        const char *says;
    } cases[] = {
        {CONFIG(DP_ARCH_GPT2, 0, 12, 3, 3, 20, 7, 29, true), "layers"},
        {CONFIG(DP_ARCH_GPT2, 2, 13, 3, 3, 20, 7, 29, true), "multiple of heads"},
        {CONFIG(DP_ARCH_GPT2, 2, 12, 3, 1, 20, 7, 29, true), "kv_heads"},
        {CONFIG(DP_ARCH_LLAMA, 2, 12, 4, 3, 20, 7, 29, true), "kv_heads"},
        {CONFIG(DP_ARCH_LLAMA, 2, 12, 4, 2, 20, 7, 29, true), "even"},
        {CONFIG(DP_ARCH_GPT2, 2, 12, 3, 3, 20, 7, 0, true), "vocab"},
        {CONFIG(DP_ARCH_GPT2, 2, 12, 3, 3, 20, 1 << 30, 9, true), "seq_len"},
        {CONFIG(7, 2, 12, 3, 3, 20, 7, 9, true), "architecture"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_err err = {0};
        struct dp_model *m;
        CHECK_INT(dp_model_open(&m, &cases[i].c, 1, true, NULL, &err), DP_CONFIG);
        CHECK(strstr(err.msg, cases[i].says) != NULL);
    }
    struct dp_err err = {0};
    struct dp_model *m; /* 2^44 floats and more: refused, not overflowed */
    CHECK_INT(dp_model_open(&m,
                            &(struct dp_model_config)CONFIG(DP_ARCH_GPT2, 1024, 1 << 17, 1, 1, 1 << 19,
                                                      1 << 18, 1 << 22, true),
                            65536, true, NULL, &err),
              DP_NOMEM);
}

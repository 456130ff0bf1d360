/* Initial weights, and muP's coordinate check (Yang et al. 2022, section 4): as the width grows,
 * activations keep their size through training; without muP they grow. */
#include "base/hash.h"
#include "tests/test.h"
#include "tests/unit/model_config.h"

struct moments {
    double mean, std, kurtosis, largest;
};

static struct moments moments_of(const float *x, uint64_t n)
{
    struct moments m = {0};
    double fourth = 0;
    for (uint64_t i = 0; i < n; i++) m.mean += (double)x[i] / (double)n;
    for (uint64_t i = 0; i < n; i++) {
        double d = (double)x[i] - m.mean;
        m.std += d * d / (double)n;
        fourth += d * d * d * d / (double)n;
        if (fabs(d) > m.largest) m.largest = fabs(d);
    }
    m.kurtosis = fourth / (m.std * m.std);
    m.std = sqrt(m.std);
    return m;
}

/* Compare the moments of each matrix with what `how` promises. */
static void check_init(const struct dp_model_config *c, const struct dp_init *how)
{
    struct dp_err err = {0};
    struct dp_layout l;
    REQUIRE_OK(dp_layout_init(&l, c, &err));
    float *p = dp_floats_alloc(l.floats), *again = dp_floats_alloc(l.floats);
    dp_layout_init_as(&l, c, how, 5, p);
    dp_layout_init_as(&l, c, how, 5, again);
    CHECK(memcmp(p, again, (size_t)l.floats * 4) == 0);
    dp_layout_init_as(&l, c, how, 6, again);
    double std = how->std > 0 ? how->std : 0.02, m = c->mup_base_dim ? (double)c->dim / (double)c->mup_base_dim : 1;
    for (size_t i = 0; i < l.count; i++) {
        const struct dp_param *t = &l.params[i];
        const float *x = p + t->offset;
        uint64_t n = dp_param_count(t);
        if (!t->cols) {
            for (uint64_t k = 0; k < n; k++) CHECK(x[k] == (strstr(t->name, "bias") ? 0.0f : 1.0f));
            continue;
        }
        CHECK(memcmp(x, again + t->offset, (size_t)n * 4) != 0);
        double want = std;
        if (t->residual && !how->residual_like) want /= sqrt(2.0 * (double)c->layers);
        if (t->hidden) want /= sqrt(m);
        struct moments got = moments_of(x, n);
        CHECK_NEAR(got.mean / want, 0, 5 / sqrt((double)n));
        CHECK_NEAR(got.std / want, 1, 5 / sqrt((double)n));
        bool is_normal = how->kind == DP_INIT_NORMAL;
        CHECK_NEAR(got.kurtosis, is_normal ? 3 : 1.8, 25 / sqrt((double)n));
        CHECK(is_normal ? got.largest > 3 * want : got.largest < 1.8 * want);
    }
    free(p), free(again);
    dp_layout_release(&l);
}

TEST(initial_weights)
{
    struct dp_model_config llama = CONFIG(DP_ARCH_LLAMA, 2, 96, 4, 2, 128, 32, 200, false),
                           gpt2 = CONFIG(DP_ARCH_GPT2, 3, 64, 4, 4, 256, 64, 100, true, .mup_base_dim = 16);
    for (int kind = 0; kind < 2; kind++) {
        check_init(&llama, &(struct dp_init){.kind = kind});
        check_init(&llama, &(struct dp_init){.kind = kind, .std = 0.1, .residual_like = true});
        check_init(&gpt2, &(struct dp_init){.kind = kind, .std = 0.05});
    }
}

/* Frozen: the bits of normal weights must not depend on the machine or change between versions. */
TEST(normal_weights_are_the_same_everywhere)
{
    struct dp_err err = {0};
    struct dp_model_config c = CONFIG(DP_ARCH_LLAMA, 1, 64, 2, 2, 64, 16, 500, true);
    struct dp_layout l;
    REQUIRE_OK(dp_layout_init(&l, &c, &err));
    float *p = dp_floats_alloc(l.floats);
    dp_layout_init_as(&l, &c, &(struct dp_init){.kind = DP_INIT_NORMAL}, 1, p);
    CHECK(dp_hash64(p, (size_t)l.floats * 4, 0) == UINT64_C(4885286483630642906));
    free(p);
    dp_layout_release(&l);
}

enum { T = 16, V = 40, STEPS = 4 };

/* Adam with each tensor's factor of the rate. */
static void update(struct dp_model *m, float *mom, float *var, int step, double lr)
{
    for (size_t k = 0; k < m->layout.count; k++) {
        const struct dp_param *p = &m->layout.params[k];
        for (uint64_t i = p->offset; i < p->offset + dp_param_count(p); i++) {
            mom[i] += 0.1f * (m->g[i] - mom[i]);
            var[i] += 0.05f * (m->g[i] * m->g[i] - var[i]);
            double a = (double)mom[i] / (1 - pow(0.9, step)), b = sqrt((double)var[i] / (1 - pow(0.95, step)));
            m->p[i] -= (float)(lr * p->rate * a / (b + 1e-12));
        }
    }
}

struct sizes {
    double stream, logits; /* root mean square after STEPS, of what training added */
};

static double distance(const float *a, const float *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(s / (double)n);
}

static struct sizes train(int arch, int64_t dim, bool mup, bool wide_heads)
{
    struct dp_err err = {0};
    struct dp_model *m;
    int64_t heads = wide_heads ? 2 : dim / 8;
    struct dp_model_config c = CONFIG(arch, 2, dim, heads, heads, 4 * dim, T, V, arch == DP_ARCH_GPT2);
    if (mup) c.mup_base_dim = 32, c.mup_base_head_dim = wide_heads ? 16 : 8;
    if (dp_model_open(&m, &c, 2, true, NULL, &err) < 0) abort();
    dp_layout_init_as(&m->layout, &c, &(struct dp_init){.kind = DP_INIT_NORMAL, .std = 0.1}, 1, m->p);
    int32_t tokens[2 * T], targets[2 * T];
    uint64_t s = 4;
    for (int i = 0; i < 2 * T; i++) {
        tokens[i] = (int32_t)(dp_splitmix64(&s) % V);
        targets[i] = (int32_t)(dp_splitmix64(&s) % V);
    }
    float *mom = dp_floats_alloc(m->layout.floats), *var = dp_floats_alloc(m->layout.floats);
    float *before = malloc(2 * T * V * 4), *after = malloc(2 * T * V * 4);
    float *stream = malloc((size_t)(2 * T * dim) * 4);
    dp_model_logits(m, tokens, 2, before);
    memcpy(stream, m->xf, (size_t)(2 * T * dim) * 4);
    for (int step = 1; step <= STEPS; step++) {
        double loss;
        int64_t count;
        memset(m->g, 0, (size_t)m->layout.floats * 4);
        dp_model_run(m, tokens, targets, 2, 1.0f / (2 * T), &loss, &count);
        update(m, mom, var, step, 0.01);
    }
    dp_model_logits(m, tokens, 2, after);
    struct sizes z = {distance(m->xf, stream, 2 * T * dim), distance(after, before, 2 * T * V)};
    free(mom), free(var), free(before), free(after), free(stream);
    dp_model_close(m);
    return z;
}

TEST(coordinate_check)
{
    for (int arch = 0; arch < 2; arch++) { /* gpt2 with more heads, llama with wider ones */
        struct sizes base = train(arch, 32, true, arch), plain = train(arch, 192, false, arch);
        for (int64_t dim = 64; dim <= 192; dim += 128) {
            struct sizes z = train(arch, dim, true, arch);
            CHECK(z.stream > 0.6 * base.stream && z.stream < 1.3 * base.stream);
            CHECK(z.logits > 0.6 * base.logits && z.logits < 1.3 * base.logits);
        }
        CHECK(plain.stream > 6 * base.stream && plain.logits > 2 * base.logits);
    }
}

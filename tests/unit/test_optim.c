/* AdamW against the textbook formula in double, clipping, and the learning-rate schedule of the
 * reference curve. */
#include "tests/test.h"
#include "tests/unit/model_config.h"
#include "trainer/optim.h"
#include "trainer/safetensors.h"
#include "trainer/lr_schedule.h"
#include "trainer/spike.h"

static struct dp_layout layout;
static struct dp_optim optim;
static float *p, *g;

static bool set_up(void)
{
    struct dp_err err = {0};
    struct dp_model_config c = CONFIG(DP_ARCH_GPT2, 1, 20, 2, 2, 30, 8, 40, true);
    if (dp_layout_init(&layout, &c, &err) < 0 || dp_optim_open(&optim, &layout, &err) < 0)
        return false;
    p = dp_floats_alloc(layout.floats);
    g = dp_floats_alloc(layout.floats);
    dp_layout_init_weights(&layout, &c, 5, p);
    return true;
}

static void tear_down(void)
{
    free(p), free(g);
    dp_optim_close(&optim);
    dp_layout_release(&layout);
}

TEST(adamw_is_the_formula)
{
    REQUIRE(set_up());
    struct dp_optim_rates r = {
        .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 0.5};
    const struct dp_param *w = dp_layout_find(&layout, "transformer.wte.weight"),
                          *b = dp_layout_find(&layout, "transformer.ln_f.bias");
    REQUIRE(w && b);
    uint64_t at[2] = {w->offset + 3, b->offset + 19};
    double x[2], m[2] = {0}, v[2] = {0};
    for (int k = 0; k < 2; k++) x[k] = (double)p[at[k]];
    for (int step = 1; step <= 5; step++) {
        double sum = 0;
        for (size_t i = 0; i < layout.count; i++)
            for (uint64_t j = 0; j < dp_param_count(&layout.params[i]); j++) {
                float f = sinf((float)(layout.params[i].offset + j) * (float)step);
                g[layout.params[i].offset + j] = f;
                sum += (double)f * (double)f;
            }
        double norm = dp_optim_norm(&optim, NULL, g);
        CHECK_NEAR(norm, sqrt(sum), 1e-9 * norm);
        dp_optim_step(&optim, NULL, &r, step, norm, g, p);
        for (int k = 0; k < 2; k++) {
            double gr = (double)g[at[k]] * 0.5 / (norm + 1e-6);
            x[k] *= k ? 1 : 1 - 1e-2 * 0.1;
            m[k] = 0.9 * m[k] + 0.1 * gr;
            v[k] = 0.95 * v[k] + 0.05 * gr * gr;
            x[k] -= 1e-2 * (m[k] / (1 - pow(0.9, step))) /
                    (sqrt(v[k] / (1 - pow(0.95, step))) + 1e-8);
            CHECK_NEAR((double)p[at[k]], x[k], 1e-6);
            CHECK_NEAR((double)optim.m[at[k]], m[k], 1e-8);
            CHECK_NEAR((double)optim.v[at[k]], v[k], 1e-8);
        }
    }
    tear_down();
}

TEST(no_clipping_below_the_limit)
{
    float moment[2];
    for (int k = 0; k < 2; k++) {
        REQUIRE(set_up());
        struct dp_optim_rates r = {
            .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = k ? 0 : 100};
        g[layout.wte] = 3;
        dp_optim_step(&optim, NULL, &r, 1, dp_optim_norm(&optim, NULL, g), g, p);
        moment[k] = optim.m[layout.wte];
        tear_down();
    }
    CHECK(moment[0] == moment[1]);
    CHECK_NEAR((double)moment[0], 0.3, 1e-7);
}

TEST(schedule_of_the_reference_curve)
{
    struct dp_schedule c = {DP_SCHEDULE_COSINE, 1e-3, 1e-4, 10, 200, 0}, one = {DP_SCHEDULE_COSINE, 1e-3, 1e-4, 0, 1, 0};
    CHECK_NEAR(dp_schedule_rate(&c, 0), 1e-4, 1e-18);
    CHECK_NEAR(dp_schedule_rate(&c, 9), 1e-3, 1e-18);
    CHECK_NEAR(dp_schedule_rate(&c, 10), 1e-3, 1e-18);
    CHECK_NEAR(dp_schedule_rate(&c, 11), 0.000999938487246611, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&c, 199), 0.00010006151275338896, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&c, 5000), 1e-4, 1e-18);
    CHECK_NEAR(dp_schedule_rate(&one, 0), 1e-3, 1e-18);
}

TEST(moments_and_initial_weights)
{
    REQUIRE(set_up());
    double sum = 0, squares = 0;
    const struct dp_param *w = dp_layout_find(&layout, "transformer.h.0.mlp.c_fc.weight"),
                          *r = dp_layout_find(&layout, "transformer.h.0.mlp.c_proj.weight");
    for (uint64_t i = 0; i < dp_param_count(w); i++)
        sum += (double)p[w->offset + i], squares += pow((double)p[w->offset + i], 2);
    CHECK_NEAR(sum / (double)dp_param_count(w), 0, 0.003);
    CHECK_NEAR(sqrt(squares / (double)dp_param_count(w)), 0.02, 0.001);
    squares = 0;
    for (uint64_t i = 0; i < dp_param_count(r); i++) squares += pow((double)p[r->offset + i], 2);
    CHECK_NEAR(sqrt(squares / (double)dp_param_count(r)), 0.02 / sqrt(2.0), 0.001);
    CHECK(p[dp_layout_find(&layout, "transformer.ln_f.weight")->offset] == 1);
    CHECK(p[dp_layout_find(&layout, "transformer.ln_f.bias")->offset] == 0);
    tear_down();
}

TEST(schedules)
{
    struct dp_schedule s = {DP_SCHEDULE_LINEAR, 1.0, 0.2, 4, 14, 0};
    CHECK_NEAR(dp_schedule_rate(&s, 0), 0.25, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 4), 1, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 9), 0.6, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 14), 0.2, 1e-15);
    s.kind = DP_SCHEDULE_CONSTANT;
    CHECK_NEAR(dp_schedule_rate(&s, 3), 1, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 1000), 1, 1e-15);
    s.kind = DP_SCHEDULE_WSD;
    s.decay = 5;
    CHECK_NEAR(dp_schedule_rate(&s, 2), 0.75, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 9), 1, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 10), 0.84, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 13), 0.36, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 14), 0.2, 1e-15);
    s.decay = 0; /* a fifth of 14, rounded up: 3 */
    CHECK_NEAR(dp_schedule_rate(&s, 11), 1, 1e-15);
    CHECK(dp_schedule_rate(&s, 12) < 1);
    s.decay = 14; /* never into the warm-up */
    CHECK_NEAR(dp_schedule_rate(&s, 3), 1, 1e-15);
    CHECK_NEAR(dp_schedule_rate(&s, 4), 1, 1e-15);
}

static const float *tensor(const struct dp_safetensors *f, const char *what, const char *name,
                           int64_t *rows, int64_t *cols)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", what, name);
    const struct dp_safetensor *t = dp_safetensors_find(f, full);
    if (!t) return NULL;
    *rows = t->shape[t->dims - 2];
    *cols = t->shape[t->dims - 1];
    return (const float *)(const void *)t->data; /* the file's data are aligned */
}

/* The parameter that takes the case's matrix: a one-layer model whose mlp is [rows, cols]. */
static double muon_case(const struct dp_safetensors *f, const char *name, struct dp_pool *pool,
                        double *bf16, double *momentum)
{
    int64_t rows = 0, cols = 0;
    const float *init = tensor(f, "init", name, &rows, &cols);
    char key[64];
    struct dp_err err = {0};
    struct dp_model_config c = {.arch = DP_ARCH_GPT2, .layers = 1, .dim = cols, .heads = 1, .kv_heads = 1, .ffn = rows, .seq_len = 4, .vocab = 5, .tied = true};
    struct dp_layout l;
    struct dp_optim o;
    snprintf(key, sizeof key, "scale.%s", name);
    bool rms = dp_span_is(dp_safetensors_meta(f, key), "rms");
    snprintf(key, sizeof key, "nesterov.%s", name);
    struct dp_optim_options how = {.kind = DP_MUON, .muon_momentum = 0.95, .muon_rms = rms,
                                   .nesterov = dp_span_is(dp_safetensors_meta(f, key), "true")};
    if (dp_layout_init(&l, &c, &err) < 0 || dp_optim_open_with(&o, &l, &how, &err) < 0) abort();
    const struct dp_param *w = dp_layout_find(&l, "transformer.h.0.mlp.c_fc.weight");
    float *p2 = dp_floats_alloc(l.floats), *g2 = dp_floats_alloc(l.floats);
    size_t n = (size_t)(rows * cols);
    if (!init || !w || !p2 || !g2) abort();
    memcpy(p2 + w->offset, init, n * sizeof *init);
    struct dp_optim_rates r = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8,
                               .weight_decay = 0.1, .muon_lr = 0.02};
    for (int step = 1; step <= 3; step++) {
        memcpy(g2 + w->offset, tensor(f, "grad", name, &rows, &cols) + (size_t)(step - 1) * n,
               n * sizeof *g2);
        dp_optim_step(&o, pool, &r, step, 0, g2, p2);
    }
    const float *want = tensor(f, "after", name, &rows, &cols),
                *torch = tensor(f, "after_bf16", name, &rows, &cols),
                *m = tensor(f, "momentum", name, &rows, &cols);
    double worst = 0;
    *bf16 = *momentum = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)(p2[w->offset + i] - want[i])));
        *bf16 = fmax(*bf16, fabs((double)(p2[w->offset + i] - torch[i])));
        *momentum = fmax(*momentum, fabs((double)(o.m[w->offset + i] - m[i])));
    }
    CHECK(o.v[w->offset] == 0); /* not AdamW's */
    dp_optim_close(&o);
    dp_layout_release(&l);
    free(p2), free(g2);
    return worst;
}

TEST(muon_is_torchs)
{
    static const char *const cases[] = {"wide", "tall", "square", "plain"};
    struct dp_err err = {0};
    struct dp_safetensors *f;
    struct dp_pool *pool;
    REQUIRE_OK(dp_safetensors_open(&f, "tests/data/trainer/muon.safetensors", &err));
    REQUIRE_OK(dp_pool_open(&pool, 2, &err));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double bf16[2], momentum[2], alone = muon_case(f, cases[i], NULL, &bf16[0], &momentum[0]);
        CHECK_NEAR(alone, 0, 1e-7);       /* weights are about 0.05; three updates move them by as much */
        CHECK_NEAR(momentum[0], 0, 1e-6);
        CHECK_NEAR(bf16[0], 0, 3e-3);     /* torch rounds to bf16 */
        CHECK(muon_case(f, cases[i], pool, &bf16[1], &momentum[1]) == alone && bf16[0] == bf16[1]);
    }
    dp_pool_close(pool);
    dp_safetensors_close(f);
}

/* What is whose, and the factors: one update with every gradient 1 from weights of 1. */
TEST(groups_and_factors)
{
    struct dp_err err = {0};
    struct dp_model_config c = {.arch = DP_ARCH_LLAMA, .layers = 1, .dim = 8, .heads = 2, .kv_heads = 1, .ffn = 12, .seq_len = 4, .vocab = 20};
    struct dp_layout l;
    struct dp_optim o;
    REQUIRE_OK(dp_layout_init(&l, &c, &err));
    float *w = dp_floats_alloc(l.floats), *gr = dp_floats_alloc(l.floats);
    const struct dp_optim_options ways[] = {{DP_ADAMW, DP_DECAY_MATRICES, NULL, true, false, 0.95},
                                            {DP_MUON, DP_DECAY_HIDDEN, "lm_head=0.5,proj=0", true, false, 0.95},
                                            {DP_ADAMW, DP_DECAY_ALL, "norm=2,norm=2", true, false, 0.95}};
    for (int k = 0; k < 3; k++) {
        REQUIRE_OK(dp_optim_open_with(&o, &l, &ways[k], &err));
        for (uint64_t i = 0; i < l.floats; i++) w[i] = gr[i] = 1;
        struct dp_optim_rates r = {.lr = 0.1, .weight_decay = 0.5, .eps = 1e-8, .muon_lr = 0.1};
        dp_optim_step(&o, NULL, &r, 1, 0, gr, w);
        float embed = w[l.wte], head = w[l.head], norm = w[l.normf_w],
              proj = w[dp_layout_find(&l, "model.layers.0.self_attn.o_proj.weight")->offset];
        CHECK_NEAR((double)embed, k == 1 ? 0.9 : 0.85, 1e-6);
        CHECK_NEAR((double)head, k == 1 ? 0.95 : 0.85, 1e-6);
        CHECK_NEAR((double)norm, k == 2 ? 0.4 : 0.9, 1e-6); /* 1 * (1 - 4 * 0.05) - 0.4 */
        CHECK_NEAR((double)proj, k == 1 ? 1 : 0.85, 1e-6);
        CHECK_INT(o.matrix_count, k == 1 ? 7 : 0);
        dp_optim_close(&o);
    }
    static const char *const wrong[] = {"x=1", "lm_head", "lm_head=a", "=1", "lm_head=-1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_INT(dp_optim_open_with(&o, &l, &(struct dp_optim_options){.lr_scale = wrong[i]}, &err), DP_CONFIG);
    free(w), free(gr);
    dp_layout_release(&l);
}

TEST(spikes)
{
    struct dp_err err = {0};
    struct dp_spike s = {.window = 32, .limit = 6}, again = {.window = 32, .limit = 6}, small = {.window = 20, .limit = 6};
    struct dp_buf b;
    for (int i = 0; i < 100; i++) {
        double loss = 3 + 0.02 * sin(i * 1.7) - 0.002 * i;
        CHECK(!dp_spike_judge(&s, loss).spike);
        dp_spike_add(&s, loss);
    }
    struct dp_spike_judgement j = dp_spike_judge(&s, 3.5);
    CHECK(j.spike && j.median > 2.8 && j.median < 2.9 && j.deviation < 0.05);
    CHECK(!dp_spike_judge(&s, 2.9).spike && !dp_spike_judge(&s, 1).spike);
    dp_buf_init(&b, 1 << 16);
    dp_spike_print(&s, &b);
    REQUIRE_OK(dp_spike_parse(&again, dp_buf_span(&b), &err));
    CHECK(dp_spike_judge(&again, 3.5).median == j.median && dp_spike_judge(&again, 3.5).deviation == j.deviation);
    REQUIRE_OK(dp_spike_parse(&small, dp_buf_span(&b), &err));
    for (int i = 0; i < 40; i++) dp_spike_add(&again, 5); /* the new level */
    CHECK(!dp_spike_judge(&again, 5.05).spike);
    CHECK_INT(dp_spike_parse(&s, dp_span_str("0x1p+1 two"), &err), DP_CORRUPT);
    CHECK_INT(dp_spike_parse(&s, dp_span_str("1  2"), &err), DP_CORRUPT);
    CHECK_INT(dp_spike_parse(&s, dp_span_str("nan"), &err), DP_CORRUPT);
    CHECK(dp_spike_judge(&s, 3.5).spike);
    s.limit = 0;
    CHECK(!dp_spike_judge(&s, 1e9).spike);
    dp_buf_release(&b);
}

/* AdamW against the textbook formula in double, clipping, and the learning-rate schedule of the
 * reference curve. */
#include "tests/test.h"
#include "tests/unit/model_config.h"
#include "trainer/optim.h"

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
    CHECK_NEAR(dp_schedule(1e-3, 1e-4, 10, 200, 0), 1e-4, 1e-18);
    CHECK_NEAR(dp_schedule(1e-3, 1e-4, 10, 200, 9), 1e-3, 1e-18);
    CHECK_NEAR(dp_schedule(1e-3, 1e-4, 10, 200, 10), 1e-3, 1e-18);
    CHECK_NEAR(dp_schedule(1e-3, 1e-4, 10, 200, 11), 0.000999938487246611, 1e-15);
    CHECK_NEAR(dp_schedule(1e-3, 1e-4, 10, 200, 199), 0.00010006151275338896, 1e-15);
    CHECK_NEAR(dp_schedule(1e-3, 1e-4, 10, 200, 5000), 1e-4, 1e-18);
    CHECK_NEAR(dp_schedule(1e-3, 1e-4, 0, 1, 0), 1e-3, 1e-18);
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

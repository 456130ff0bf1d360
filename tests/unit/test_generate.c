/* Generation: the cache gives the logits of the full forward pass, sampling keeps to its cuts and
 * its probabilities, a checkpoint generates what the model in memory does; and the evaluation
 * figures. */
#include "base/fs.h"
#include "base/hash.h"
#include "tests/test.h"
#include "tests/unit/model_config.h"
#include "trainer/eval.h"
#include "trainer/generate.h"
#include "trainer/train.h"

static const struct dp_model_config configs[] = {
    CONFIG(DP_ARCH_GPT2, 2, 24, 3, 3, 40, 12, 50, true),
    CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, 12, 50, false),
    CONFIG(DP_ARCH_LLAMA, 2, 18, 4, 2, 40, 12, 50, false, .qk_norm = true, .head_dim = 6,
           .norm_eps = 1e-3, .rope_theta = 300),
    CONFIG(DP_ARCH_GPT2, 2, 18, 3, 3, 40, 12, 50, false, .qk_norm = true, .head_dim = 7),
    CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, 12, 50, true, .mup_base_dim = 8, .mup_base_head_dim = 2),
};

static void fill(struct dp_model *m, int32_t *tokens)
{
    uint64_t s = 3;
    dp_layout_init_weights(&m->layout, &m->c, 9, m->p);
    for (size_t k = 0; k < m->layout.count; k++)
        for (uint64_t i = 0; m->layout.params[k].cols && i < dp_param_count(&m->layout.params[k]); i++)
            m->p[m->layout.params[k].offset + i] *= 8;
    for (int64_t i = 0; i < m->c.seq_len; i++)
        tokens[i] = (int32_t)(dp_splitmix64(&s) % (uint64_t)m->c.vocab);
}

TEST(cache_gives_the_logits_of_the_forward_pass)
{
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        struct dp_err err = {0};
        struct dp_model *m;
        struct dp_generator *g;
        int32_t tokens[12];
        float want[12 * 50];
        const float *got;
        REQUIRE_OK(dp_model_open(&m, &configs[k], 1, false, NULL, &err));
        fill(m, tokens);
        dp_model_logits(m, tokens, 1, want);
        REQUIRE_OK(dp_generator_open_model(&g, &m->c, m->p, NULL, &err));
        for (int round = 0; round < 2; round++) {
            for (int t = 0; t < 12; t++) {
                REQUIRE_OK(dp_generator_feed(g, tokens[t], &got, &err));
                for (int i = 0; i < 50; i++)
                    CHECK_NEAR((double)got[i], (double)want[t * 50 + i],
                               1e-4 * (1 + fabs((double)want[t * 50 + i])));
            }
            CHECK_INT(dp_generator_feed(g, 0, &got, &err), DP_LIMIT);
            dp_generator_reset(g);
        }
        CHECK_INT(dp_generator_feed(g, 50, &got, &err), DP_CORRUPT);
        CHECK_INT(dp_generator_feed(g, -1, &got, &err), DP_CORRUPT);
        dp_generator_close(g);
        dp_model_close(m);
    }
}

TEST(a_prompt_at_once_is_the_same_bits)
{
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        struct dp_err err = {0};
        struct dp_model *m;
        struct dp_generator *g;
        struct dp_pool *pool;
        int32_t tokens[12], bad[3] = {1, 50, 2};
        float want[12][50];
        const float *got;
        REQUIRE_OK(dp_model_open(&m, &configs[k], 1, false, NULL, &err));
        fill(m, tokens);
        REQUIRE_OK(dp_generator_open_model(&g, &m->c, m->p, NULL, &err));
        for (int t = 0; t < 12; t++) {
            REQUIRE_OK(dp_generator_feed(g, tokens[t], &got, &err));
            memcpy(want[t], got, sizeof want[t]);
        }
        dp_generator_close(g);
        REQUIRE_OK(dp_pool_open(&pool, 3, &err));
        REQUIRE_OK(dp_generator_open_model(&g, &m->c, m->p, pool, &err));
        for (int n = 1; n <= 12; n++) {
            dp_generator_reset(g);
            REQUIRE_OK(dp_generator_feed_all(g, tokens, n, &got, &err));
            CHECK(memcmp(got, want[n - 1], sizeof want[0]) == 0);
            CHECK_INT(dp_generator_feed_all(g, bad, 3, &got, &err), DP_CORRUPT);
            CHECK_INT(dp_generator_feed_all(g, tokens, 13 - n, &got, &err), DP_LIMIT);
            if (n == 12) break;
            REQUIRE_OK(dp_generator_feed_all(g, tokens + n, 12 - n, &got, &err)); /* a failure left the context as it was */
            CHECK(memcmp(got, want[11], sizeof want[0]) == 0);
        }
        dp_generator_close(g);
        dp_pool_close(pool);
        dp_model_close(m);
    }
}

struct sink {
    int32_t ids[64];
    int n, stop_after;
};

static int collect(void *ctx, int32_t token)
{
    struct sink *s = ctx;
    s->ids[s->n++] = token;
    return s->n == s->stop_after;
}

TEST(a_checkpoint_generates_the_same)
{
    struct dp_err err = {0};
    struct dp_train_options o = {0};
    struct dp_trainer *t;
    struct dp_generator *a, *b, *m;
    struct dp_pool *pool;
    char *dir = dp_test_tmpdir(), *path = dp_fs_join(dir, "ckpt");
    int64_t n;
    REQUIRE_OK(dp_opt_defaults(dp_train_opts, &o, &err));
    o.layers = 1, o.dim = 16, o.heads = 2, o.seq_len = 20, o.batch = 1;
    REQUIRE_OK(dp_trainer_open(&t, &o, 40, NULL, &err));
    REQUIRE_OK(dp_trainer_save(t, path, NULL, 0, &err));
    REQUIRE_OK(dp_pool_open(&pool, 2, &err));
    REQUIRE_OK(dp_generator_open(&a, path, pool, &err));
    REQUIRE_OK(
        dp_generator_open_model(&m, dp_generator_config(a), dp_trainer_model(t)->p, NULL, &err));
    struct dp_generate_options g = {.temperature = 1, .top_p = 1, .seed = 4, .stop = -1};
    struct sink x = {0}, y = {0}, z = {0};
    REQUIRE_OK(dp_generate(a, (int32_t[]){1, 2, 3}, 3, &g, collect, &x, &n, NULL, &err));
    CHECK_INT(n, 18); /* until the context is full: the last token needs no place in it */
    REQUIRE_OK(dp_generate(m, (int32_t[]){1, 2, 3}, 3, &g, collect, &y, &n, NULL, &err));
    CHECK(x.n == y.n && memcmp(x.ids, y.ids, sizeof x.ids) == 0);
    g.seed = 5;
    REQUIRE_OK(dp_generate(a, (int32_t[]){1, 2, 3}, 3, &g, collect, &z, &n, NULL, &err));
    CHECK(memcmp(x.ids, z.ids, sizeof x.ids) != 0);
    enum dp_generate_end end;
    struct sink few = {.stop_after = 2}, limit = {0}, stop = {0};
    REQUIRE_OK(dp_generate(a, (int32_t[]){1}, 1, &g, collect, &few, &n, &end, &err));
    CHECK_INT(n, 2);
    CHECK_INT(end, DP_END_CALLER);
    g.tokens_max = 5;
    REQUIRE_OK(dp_generate(a, (int32_t[]){1}, 1, &g, collect, &limit, &n, &end, &err));
    CHECK_INT(n, 5);
    CHECK_INT(end, DP_END_TOKENS);
    g.stop = limit.ids[1];
    REQUIRE_OK(dp_generate(a, (int32_t[]){1}, 1, &g, collect, &stop, &n, &end, &err));
    CHECK_INT(end, DP_END_STOP);
    CHECK_INT(stop.ids[n - 1], g.stop);
    CHECK(n <= 2);
    CHECK_INT(dp_generate(a, NULL, 0, &g, collect, &stop, &n, NULL, &err), DP_USAGE);
    CHECK(dp_generator_open(&b, "/nonexistent", NULL, &err) < 0);
    dp_generator_close(a);
    dp_generator_close(m);
    dp_trainer_close(t);
    dp_pool_close(pool);
    free(path);
}

TEST(sampling)
{
    struct dp_err err = {0};
    struct dp_generator *g;
    struct dp_model_config c = CONFIG(DP_ARCH_GPT2, 1, 4, 1, 1, 4, 4, 5, true);
    float *weights = dp_floats_alloc(4096);
    REQUIRE_OK(dp_generator_open_model(&g, &c, weights, NULL, &err));
    const float logits[5] = {0, 2, 1, 2, -1e30f};
    static const struct {
        double temperature, top_p;
        int64_t top_k;
        double share[5]; /* expected */
        double min_p;
    } cases[] = {
        {0, 1, 0, {0, 1, 0, 0, 0}, 0},
        {1, 1, 1, {0, 1, 0, 0, 0}, 0},
        {1, 1, 2, {0, 0.5, 0, 0.5, 0}, 0},
        {1, 1, 0, {0.053987, 0.398898, 0.146747, 0.398898, 0}, 0}, /* e^x / (1 + 2e^2 + e) within 0.01 */
        {1, 0.5, 0, {0, 0.5, 0, 0.5, 0}, 0},
        {1, 0.3, 0, {0, 1, 0, 0, 0}, 0},
        {0.01, 1, 0, {0, 0.5, 0, 0.5, 0}, 0},
        {1, 1, 0, {0.053987, 0.398898, 0.146747, 0.398898, 0}, 0.13}, /* e^-2 = 0.135 stays */
        {1, 1, 0, {0, 0.422319, 0.155362, 0.422319, 0}, 0.14},
        {1, 1, 0, {0, 0.5, 0, 0.5, 0}, 0.37},
        {1, 1, 0, {0, 0.5, 0, 0.5, 0}, 1},
        {1, 1, 1, {0, 1, 0, 0, 0}, 0.14},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_generate_options o = {
            .temperature = cases[i].temperature, .top_p = cases[i].top_p, .top_k = cases[i].top_k, .min_p = cases[i].min_p};
        uint64_t state = 1;
        int count[5] = {0};
        for (int n = 0; n < 20000; n++) count[dp_generator_pick(g, logits, &o, &state)]++;
        for (int k = 0; k < 5; k++) {
            CHECK_NEAR(count[k] / 20000.0, cases[i].share[k], 0.02);
            if (cases[i].share[k] == 0) CHECK_INT(count[k], 0);
        }
    }
    dp_generator_close(g);
    free(weights);
}

/* Tokens of the context: 2 becomes 2 / 1.5, -1 becomes -1.5; others stay, and the next call is free of it. */
TEST(repetition_penalty)
{
    struct dp_err err = {0};
    struct dp_generator *g;
    struct dp_model_config c = CONFIG(DP_ARCH_GPT2, 1, 4, 1, 1, 4, 4, 5, true);
    float *weights = dp_floats_alloc(4096);
    const float *any;
    REQUIRE_OK(dp_generator_open_model(&g, &c, weights, NULL, &err));
    REQUIRE_OK(dp_generator_feed_all(g, (int32_t[]){1, 3, 1}, 3, &any, &err));
    struct dp_generate_options o = {.top_p = 1, .repetition = 1.5};
    uint64_t state = 1;
    CHECK_INT(dp_generator_pick(g, (float[]){1.3f, 2, 1, -1, -2}, &o, &state), 1);
    CHECK_INT(dp_generator_pick(g, (float[]){1.4f, 2, 1, -1, -2}, &o, &state), 0);
    CHECK_INT(dp_generator_pick(g, (float[]){-2, -1.6f, -2, -1, -2}, &o, &state), 3);
    CHECK_INT(dp_generator_pick(g, (float[]){-1.4f, -3, -2, -1, -2}, &o, &state), 0);
    dp_generator_reset(g);
    CHECK_INT(dp_generator_pick(g, (float[]){1.4f, 2, 1, -1, -2}, &o, &state), 1);
    CHECK_INT(dp_generate_check(&o, &err), DP_OK);
    o.repetition = -1;
    CHECK_INT(dp_generate_check(&o, &err), DP_USAGE);
    dp_generator_close(g);
    free(weights);
}

TEST(figures)
{
    struct dp_eval v = {0};
    CHECK(isnan(dp_eval_figures(&v).loss) && isnan(dp_eval_figures(&v).bits_per_byte));
    dp_eval_add(&v, 2 * log(2), 1, 4);
    dp_eval_add(&v, 4 * log(2), 1, 8);
    CHECK_NEAR(dp_eval_figures(&v).loss, 3 * log(2), 1e-15);
    CHECK_NEAR(dp_eval_figures(&v).perplexity, 8, 1e-13);
    CHECK_NEAR(dp_eval_figures(&v).bits_per_byte, 0.5, 1e-15);
}

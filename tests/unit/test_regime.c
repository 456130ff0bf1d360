/* Dropout, z-loss and label masks: random numbers that depend on nothing but their place, and losses
 * that are what their formulas say. (Their gradients: test_model.) */
#include "base/cpu.h"
#include "base/hash.h"
#include "tests/test.h"
#include "tests/unit/model_config.h"

enum { T = 20, V = 30, S = 6 };

static const struct dp_model_config configs[] = {
    CONFIG(DP_ARCH_GPT2, 2, 24, 3, 3, 40, T, V, true),
    CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, T, V, false),
};
static const struct dp_regime dropping = {.dropout_embed = 0.1, .dropout_residual = 0.3, .z_loss = 1e-3, .seed = 8};

TEST(dropout_keeps_its_share)
{
    enum { N = 4001, ROWS = 50 };
    static float ones[N], out[N], other[N];
    static const double shares[] = {0, 1e-3, 0.1, 0.5, 0.9};
    for (int i = 0; i < N; i++) ones[i] = 1;
    for (size_t k = 0; k < sizeof shares / sizeof *shares; k++) {
        struct dp_dropout d = {shares[k], 3};
        double zeros = 0, pairs = 0, n = (double)N * ROWS, p = shares[k];
        for (uint64_t row = 0; row < ROWS; row++) {
            dp_dropout_row(&d, 2, row, N, NULL, ones, out);
            dp_dropout_row(&d, 2, row + 1, N, NULL, ones, other);
            for (int i = 0; i < N; i++) {
                CHECK(out[i] == 0 || out[i] == (float)(1 / (1 - p)));
                zeros += out[i] == 0;
                pairs += out[i] == 0 && other[i] == 0;
            }
        }
        CHECK_NEAR(zeros / n, p, 5 * sqrt(p * (1 - p) / n));
        CHECK_NEAR(pairs / n, p * p, 5 * sqrt(p * p / n)); /* neighbours are independent */
    }
}

TEST(dropout_depends_on_its_place_alone)
{
    float x[64], a[64], b[64];
    struct dp_dropout d = {0.5, 3}, seed = {0.5, 4};
    for (int i = 0; i < 64; i++) x[i] = (float)(i + 1);
    dp_dropout_row(&d, 5, 1000, 64, NULL, x, a);
    CHECK_INT(dp_hash64(a, sizeof a, 0) >> 1, 8675649970836524877); /* frozen: a checkpoint of an older version goes on as it began */
    dp_dropout_row(&d, 5, 1000, 33, NULL, x, b); /* a shorter row begins the same */
    CHECK(memcmp(a, b, 33 * 4) == 0);
    dp_dropout_row(&seed, 5, 1000, 64, NULL, x, b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    dp_dropout_row(&d, 6, 1000, 64, NULL, x, b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    dp_dropout_row(&d, 5, 1001, 64, NULL, x, b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    dp_dropout_row(&d, 5, 1000, 64, x, x, b); /* onto a base, and in place */
    for (int i = 0; i < 64; i++) CHECK(b[i] == x[i] + a[i]);
    dp_dropout_row(&d, 5, 1000, 64, NULL, x, x);
    CHECK(memcmp(a, x, sizeof a) == 0);
}

static void open_model(struct dp_model **m, const struct dp_model_config *c, int64_t batch, struct dp_pool *pool)
{
    struct dp_err err = {0};
    if (dp_model_open(m, c, batch, true, pool, &err) < 0) abort();
    dp_layout_init_as(&(*m)->layout, c, &(struct dp_init){.std = 0.2}, 3, (*m)->p);
}

static void fill(int32_t *tokens, int32_t *targets)
{
    uint64_t s = 11;
    for (int i = 0; i < S * T; i++) {
        tokens[i] = (int32_t)(dp_splitmix64(&s) % V);
        targets[i] = i % 7 == 2 ? -1 : (int32_t)(dp_splitmix64(&s) % V);
    }
}

/* Losses of S sequences, `batch` at a time, and a hash of the gradient. */
static uint64_t run(const struct dp_model_config *c, int threads, const char *level, int64_t batch, float *losses)
{
    struct dp_err err = {0};
    struct dp_pool *pool;
    struct dp_model *m;
    int32_t tokens[S * T], targets[S * T];
    double loss;
    int64_t count;
    if (dp_cpu_force(level, &err) < 0 || dp_pool_open(&pool, threads, &err) < 0) abort();
    open_model(&m, c, batch, pool);
    if (dp_model_regime(m, &dropping, &err) < 0) abort();
    fill(tokens, targets);
    for (int64_t s = 0; s < S; s += batch) {
        m->sequence = 40 + (uint64_t)s;
        dp_model_run(m, tokens + s * T, targets + s * T, batch, 0.01f, &loss, &count);
        memcpy(losses + s * T, m->losses, (size_t)(batch * T) * 4);
    }
    uint64_t h = dp_hash64(m->g, (size_t)m->layout.floats * 4, 0);
    dp_model_close(m);
    dp_pool_close(pool);
    return h;
}

TEST(dropout_is_the_same_for_threads_levels_and_cuts)
{
    struct dp_err err = {0};
    for (int k = 0; k < 2; k++) {
        float want[S * T], got[S * T];
        uint64_t h = run(&configs[k], 1, "scalar", S, want);
        for (int level = DP_CPU_SCALAR; level <= (int)dp_cpu_detected(); level++) {
            CHECK(run(&configs[k], 3, dp_cpu_name(level), S, got) == h);
            CHECK(memcmp(want, got, sizeof want) == 0);
        }
        for (int64_t batch = 1; batch <= 3; batch++) {
            run(&configs[k], 2, dp_cpu_name(dp_cpu_detected()), batch, got);
            CHECK(memcmp(want, got, sizeof want) == 0);
        }
    }
    CHECK_OK(dp_cpu_force(dp_cpu_name(dp_cpu_detected()), &err));
}

TEST(evaluation_drops_nothing)
{
    struct dp_err err = {0};
    for (int k = 0; k < 2; k++) {
        struct dp_model *m;
        int32_t tokens[S * T], targets[S * T];
        double plain, dropped, again;
        int64_t count;
        open_model(&m, &configs[k], S, NULL);
        fill(tokens, targets);
        float *a = malloc(S * T * V * 4), *b = malloc(S * T * V * 4);
        dp_model_run(m, tokens, targets, S, 0, &plain, &count);
        dp_model_logits(m, tokens, S, a);
        REQUIRE_OK(dp_model_regime(m, &dropping, &err));
        dp_model_run(m, tokens, targets, S, 0.1f, &dropped, &count);
        CHECK(fabs(dropped - plain) > 1e-3 * fabs(plain) && m->z_sum > 0);
        dp_model_run(m, tokens, targets, S, 0, &again, &count);
        CHECK(again == plain && m->z_sum == 0);
        dp_model_run(m, tokens, targets, S, 0.1f, &dropped, &count);
        dp_model_logits(m, tokens, S, b);
        CHECK(memcmp(a, b, S * T * V * 4) == 0);
        free(a), free(b);
        dp_model_close(m);
    }
}

TEST(z_loss_is_the_square_of_the_log_of_the_sum)
{
    struct dp_err err = {0};
    struct dp_model *m;
    int32_t tokens[S * T], targets[S * T];
    double loss, plain, want = 0;
    int64_t count;
    open_model(&m, &configs[1], S, NULL);
    fill(tokens, targets);
    float *logits = malloc(S * T * V * 4);
    dp_model_logits(m, tokens, S, logits);
    for (int i = 0; i < S * T; i++) {
        double sum = 0;
        for (int v = 0; v < V; v++) sum += exp((double)logits[i * V + v]);
        if (targets[i] >= 0) want += 0.01 * log(sum) * log(sum);
    }
    dp_model_run(m, tokens, targets, S, 1e-3f, &plain, &count);
    REQUIRE_OK(dp_model_regime(m, &(struct dp_regime){.z_loss = 0.01}, &err));
    dp_model_run(m, tokens, targets, S, 1e-3f, &loss, &count);
    CHECK_NEAR(m->z_sum, want, 1e-5 * want);
    CHECK(loss == plain); /* reported apart, so that losses stay comparable */
    free(logits);
    dp_model_close(m);
}

TEST(ignored_targets_teach_nothing)
{
    struct dp_err err = {0};
    for (int k = 0; k < 2; k++) {
        struct dp_model *m;
        int32_t tokens[S * T], targets[S * T];
        double loss, sum = 0;
        int64_t count, want = 0;
        open_model(&m, &configs[k], S, NULL);
        REQUIRE_OK(dp_model_regime(m, &(struct dp_regime){.z_loss = 0.01}, &err));
        fill(tokens, targets);
        dp_model_run(m, tokens, targets, S, 0.01f, &loss, &count);
        for (int i = 0; i < S * T; i++) {
            want += targets[i] >= 0;
            sum += (double)m->losses[i];
            CHECK((m->losses[i] == 0) == (targets[i] < 0));
        }
        CHECK(count == want && want < S * T && sum == loss);
        for (int i = 0; i < S * T; i++) targets[i] = -1;
        memset(m->g, 0, (size_t)m->layout.floats * 4);
        dp_model_run(m, tokens, targets, S, 0.01f, &loss, &count);
        CHECK(count == 0 && loss == 0 && m->z_sum == 0);
        for (uint64_t i = 0; i < m->layout.floats; i++) CHECK(m->g[i] == 0);
        dp_model_close(m);
    }
}

TEST(regimes_out_of_range)
{
    struct dp_err err = {0};
    struct dp_model *m;
    open_model(&m, &configs[0], 1, NULL);
    static const struct dp_regime bad[] = {
        {.dropout_embed = 1}, {.dropout_residual = -0.1}, {.dropout_residual = (double)NAN}, {.z_loss = 2}, {.z_loss = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_INT(dp_model_regime(m, &bad[i], &err), DP_CONFIG);
        CHECK(m->regime.dropout_residual == 0 && m->regime.z_loss == 0);
    }
    dp_model_close(m);
}

/* Document masks: a document's logits and gradients are, bit for bit, those of the document alone,
 * whatever it is packed with; at every level and thread count. */
#include "base/cpu.h"
#include "base/hash.h"
#include "tests/test.h"
#include "tests/unit/model_config.h"

enum { T = 150, V = 50, A = 70, B = 71 }; /* documents [0, A), [A, B) of one token, [B, T) */

static const struct dp_model_config configs[] = {
    CONFIG(DP_ARCH_GPT2, 2, 24, 3, 3, 40, T, V, true),
    CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, T, V, false),
    CONFIG(DP_ARCH_LLAMA, 1, 18, 3, 1, 40, T, V, false, .qk_norm = true, .head_dim = 8),
};
enum { CONFIGS = sizeof configs / sizeof *configs };

static void open_model(struct dp_model **m, const struct dp_model_config *c, struct dp_pool *pool)
{
    struct dp_err err = {0};
    uint64_t s = 5;
    if (dp_model_open(m, c, 2, true, pool, &err) < 0) abort();
    dp_layout_init_weights(&(*m)->layout, c, 3, (*m)->p);
    for (uint64_t i = 0; i < (*m)->layout.floats; i++)
        (*m)->p[i] += ((float)(dp_splitmix64(&s) >> 40) * 0x1p-24f - 0.5f) * 0.2f;
}

/* Two rows with the same borders. */
static void fill(int32_t *tokens, int32_t *targets, int32_t *positions)
{
    uint64_t s = 11;
    for (int i = 0; i < 2 * T; i++) {
        int t = i % T;
        tokens[i] = (int32_t)(dp_splitmix64(&s) % V);
        targets[i] = (int32_t)(dp_splitmix64(&s) % V);
        positions[i] = t < A ? t : t < B ? t - A : t - B;
    }
}

TEST(editing_one_document_leaves_the_others)
{
    for (int k = 0; k < CONFIGS; k++) {
        struct dp_model *m;
        int32_t tokens[2 * T], targets[2 * T], positions[2 * T];
        float *a = malloc(2 * T * V * 4), *b = malloc(2 * T * V * 4);
        open_model(&m, &configs[k], NULL);
        for (int restart = 0; restart < 2; restart++) {
            fill(tokens, targets, positions);
            dp_model_documents(m, positions, restart);
            dp_model_logits(m, tokens, 2, a);
            for (int t = 0; t < A; t++) tokens[t] = (tokens[t] + 1 + t) % V;
            dp_model_logits(m, tokens, 2, b);
            CHECK(memcmp(a, b, A * V * 4) != 0);
            CHECK(memcmp(a + A * V, b + A * V, (2 * T - A) * V * 4) == 0);
            tokens[A] = (tokens[A] + 1) % V;
            dp_model_logits(m, tokens, 2, a);
            CHECK(memcmp(a, b, A * V * 4) == 0);
            CHECK(memcmp(a + A * V, b + A * V, V * 4) != 0);
            CHECK(memcmp(a + B * V, b + B * V, (2 * T - B) * V * 4) == 0);
            dp_model_documents(m, NULL, restart); /* without the mask they do see each other */
            dp_model_logits(m, tokens, 2, a);
            tokens[3] = (tokens[3] + 1) % V;
            dp_model_logits(m, tokens, 2, b);
            CHECK(memcmp(a + B * V, b + B * V, (T - B) * V * 4) != 0);
        }
        free(a), free(b);
        dp_model_close(m);
    }
}

TEST(gradients_of_a_document_are_its_own)
{
    for (int k = 0; k < CONFIGS; k++) {
        struct dp_model *m;
        int32_t tokens[2 * T], targets[2 * T], positions[2 * T];
        double loss, again;
        int64_t count;
        open_model(&m, &configs[k], NULL);
        size_t bytes = (size_t)m->layout.floats * 4;
        float *keep = malloc(bytes);
        fill(tokens, targets, positions);
        for (int i = 0; i < 2 * T; i++)
            if (i < B || i >= T) targets[i] = -1; /* the third document's loss alone */
        dp_model_documents(m, positions, true);
        dp_model_run(m, tokens, targets, 2, 0.01f, &loss, &count);
        CHECK_INT(count, T - B);
        memcpy(keep, m->g, bytes);
        memset(m->g, 0, bytes);
        for (int t = 0; t < B; t++) tokens[t] = (tokens[t] + 1 + t) % V;
        dp_model_run(m, tokens, targets, 2, 0.01f, &again, &count);
        CHECK(loss == again);
        CHECK(memcmp(keep, m->g, bytes) == 0);
        float any = 0;
        for (uint64_t i = 0; i < m->layout.floats; i++) any += fabsf(m->g[i]);
        CHECK(any > 0.1f);
        free(keep);
        dp_model_close(m);
    }
}

TEST(a_packed_document_is_the_document_alone)
{
    for (int k = 0; k < CONFIGS; k++) {
        struct dp_model *m;
        int32_t tokens[2 * T], targets[2 * T], positions[2 * T], alone[T];
        float *packed = malloc(2 * T * V * 4), *one = malloc(T * V * 4);
        open_model(&m, &configs[k], NULL);
        fill(tokens, targets, positions);
        dp_model_documents(m, positions, true);
        dp_model_logits(m, tokens, 2, packed);
        dp_model_documents(m, NULL, false);
        for (int t = 0; t < T; t++) alone[t] = t < T - B ? tokens[B + t] : 7; /* causal: what follows doesn't count */
        dp_model_logits(m, alone, 1, one);
        CHECK(memcmp(one, packed + B * V, (T - B) * V * 4) == 0);
        alone[0] = tokens[A];
        dp_model_logits(m, alone, 1, one); /* of one token: no exponential, so equal but for rounding */
        for (int i = 0; i < V; i++) CHECK_NEAR((double)one[i], (double)packed[A * V + i], 1e-5);
        free(packed), free(one);
        dp_model_close(m);
    }
}

static uint64_t run_hash(const struct dp_model_config *c, int threads, const char *level)
{
    struct dp_err err = {0};
    struct dp_pool *pool;
    struct dp_model *m;
    int32_t tokens[2 * T], targets[2 * T], positions[2 * T];
    double loss;
    int64_t count;
    if (dp_cpu_force(level, &err) < 0 || dp_pool_open(&pool, threads, &err) < 0) abort();
    open_model(&m, c, pool);
    fill(tokens, targets, positions);
    dp_model_documents(m, positions, true);
    dp_model_run(m, tokens, targets, 2, 0.01f, &loss, &count);
    uint64_t h = dp_hash64(m->g, (size_t)m->layout.floats * 4, 0) ^ dp_hash64(&loss, sizeof loss, 1);
    dp_model_close(m);
    dp_pool_close(pool);
    return h;
}

TEST(same_bits_for_threads_and_levels)
{
    struct dp_err err = {0};
    for (int k = 0; k < CONFIGS; k++) {
        uint64_t want = run_hash(&configs[k], 1, "scalar");
        for (int level = DP_CPU_SCALAR; level <= (int)dp_cpu_detected(); level++)
            CHECK(run_hash(&configs[k], 3, dp_cpu_name(level)) == want);
    }
    CHECK_OK(dp_cpu_force(dp_cpu_name(dp_cpu_detected()), &err));
}

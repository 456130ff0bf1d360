/* dpipe train --verify: PyTorch's vectors of odd shapes (tests/parity/trainer_vectors.py) at every CPU
 * level, with the same figures at each; and files that are none, or whose numbers are others. */
#include "base/cpu.h"
#include "base/fs.h"
#include "tests/test.h"
#include "trainer/train.h"

static const char dir[] = "tests/data/trainer/odd";
static const struct {
    const char *name;
    double after3; /* no gradient is noise in these, so weights are as near as their own rounding */
} files[] = {
    {"gpt2_odd", 1e-6},
    {"gpt2_one_token", 1e-6},
    {"gpt2_untied_qk_norm_documents", 1e-6},
    {"llama_odd", 1e-6},
    {"llama_one_token", 1e-6},
    {"qwen", 1e-6},
    {"llama_documents", 1e-6},
    {"llama_z_loss_mup", 1e-6},
};

static char *path_of(size_t i)
{
    char name[64];
    snprintf(name, sizeof name, "%s.safetensors", files[i].name);
    return dp_fs_join(dir, name);
}

TEST(odd_shapes_at_every_level)
{
    struct dp_err err = {0};
    struct dp_pool *pool;
    REQUIRE_OK(dp_pool_open(&pool, 2, &err));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct dp_verify_result first = {0};
        char *path = path_of(i);
        for (int level = DP_CPU_SCALAR; level <= (int)dp_cpu_detected(); level++) {
            struct dp_verify_result r;
            REQUIRE_OK(dp_cpu_force(dp_cpu_name((enum dp_cpu_level)level), &err));
            REQUIRE_OK(dp_trainer_verify(path, pool, &r, &err));
            if (!r.ok) DP_TEST_FAIL("%s at %s: furthest off is %s", path, dp_cpu_name((enum dp_cpu_level)level), r.worst);
            CHECK(r.after3 < files[i].after3 && r.logits < 2e-6 && r.grad < 2e-6 && r.losses < 2e-6);
            CHECK(r.steps == 3 && r.tensors > 30);
            if (level == DP_CPU_SCALAR) first = r;
            CHECK(memcmp(&first, &r, sizeof r) == 0);
        }
        free(path);
    }
    dp_pool_close(pool);
    CHECK_OK(dp_cpu_force(dp_cpu_name(dp_cpu_detected()), &err));
}

/* The file with `from` replaced by `to`, of the same length, in its header. */
static int replay_with(size_t i, const char *from, const char *to, struct dp_verify_result *r, struct dp_err *e)
{
    struct dp_buf b;
    char *path = path_of(i), *other = dp_fs_join(dp_test_tmpdir(), "x.safetensors");
    dp_buf_init(&b, 1 << 20);
    if (strlen(from) != strlen(to) || dp_fs_read(path, &b, e) < 0) abort();
    char *at = memmem(b.ptr, b.len, from, strlen(from));
    if (!at) abort();
    memcpy(at, to, strlen(to));
    if (dp_fs_write_atomic(other, dp_buf_span(&b), e) < 0) abort();
    dp_buf_release(&b);
    int rc = dp_trainer_verify(other, NULL, r, e);
    free(path), free(other);
    return rc;
}

TEST(what_the_metadata_says_matters)
{
    static const struct {
        size_t file;
        const char *from, *to;
    } cases[] = {
        {5, "\"rope_theta\":\"1000000.0\"", "\"rope_theta\":\"1000000.1\""}, /* nothing yet: the control */
        {5, "\"rope_theta\":\"1000000.0\"", "\"rope_theta\":\"1100000.0\""},
        {5, "\"norm_eps\":\"1e-06\"", "\"norm_eps\":\"3e-06\""},
        {2, "\"restart\":\"0\"", "\"restart\":\"1\""},
        {7, "\"z_loss\":\"0.01\"", "\"z_loss\":\"0.02\""},
        {7, "\"mup_base_dim\":\"8\"", "\"mup_base_dim\":\"9\""},
        {7, "\"mup_base_head_dim\":\"3\"", "\"mup_base_head_dim\":\"4\""},
        {0, "\"weight_decay\":\"0.1\"", "\"weight_decay\":\"0.2\""},
        {0, "\"clip\":\"1.0\"", "\"clip\":\"0.9\""},
        {0, "\"beta2\":\"0.95\"", "\"beta2\":\"0.96\""},
        {2, "\"positions\":", "\"Positions\":"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_err err = {0};
        struct dp_verify_result r;
        REQUIRE_OK(replay_with(cases[i].file, cases[i].from, cases[i].to, &r, &err));
        if (r.ok != (i == 0)) DP_TEST_FAIL("%s: %s: ok is %d", files[cases[i].file].name, cases[i].to, r.ok);
    }
}

TEST(bad_metadata_is_named)
{
    static const struct {
        size_t file;
        const char *from, *to, *says;
    } cases[] = {
        {5, "\"head_dim\":\"6\"", "\"head_dim\":\"x\"", "head_dim"},
        {5, "\"head_dim\":\"6\"", "\"head_dim\":\"4\"", "q_proj"},
        {5, "\"norm_eps\":\"1e-06\"", "\"norm_eps\":\"-1000\"", "norm_eps"},
        {5, "\"head_dim\":\"6\"", "\"head_dim\":\"5\"", "even"},
        {7, "\"z_loss\":\"0.01\"", "\"z_loss\":\"9.01\"", "z_loss"},
        {0, "\"T\":\"11\"", "\"T\":\"12\"", "tokens"},
        {0, "\"vocab\":\"37\"", "\"vocab\":\"36\"", "vocabulary"},
        {1, "\"T\":\"1\"", "\"T\":\"0\"", "\"T\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_err err = {0};
        struct dp_verify_result r;
        CHECK(replay_with(cases[i].file, cases[i].from, cases[i].to, &r, &err) < 0);
        if (!strstr(err.msg, cases[i].says)) DP_TEST_FAIL("%s: \"%s\"", cases[i].to, err.msg);
    }
}

TEST(documents_that_are_none)
{
    struct dp_err err = {0};
    struct dp_verify_result r;
    struct dp_safetensors *f;
    struct dp_buf b;
    char *path = path_of(6), *other = dp_fs_join(dp_test_tmpdir(), "x.safetensors");
    REQUIRE_OK(dp_safetensors_open(&f, path, &err));
    size_t at = (size_t)(dp_safetensors_find(f, "positions")->data - dp_safetensors_data(f).ptr);
    size_t data = dp_safetensors_data(f).len;
    dp_safetensors_close(f);
    static const int32_t bad[] = {1, -1, 1 << 20};
    for (int i = 0; i < 3; i++) {
        dp_buf_init(&b, 1 << 20);
        REQUIRE_OK(dp_fs_read(path, &b, &err));
        memcpy(b.ptr + b.len - data + at, &bad[i], sizeof bad[i]);
        REQUIRE_OK(dp_fs_write_atomic(other, dp_buf_span(&b), &err));
        dp_buf_release(&b);
        CHECK_INT(dp_trainer_verify(other, NULL, &r, &err), DP_CORRUPT);
        CHECK(strstr(err.msg, "positions[0]") != NULL);
    }
    free(path), free(other);
}

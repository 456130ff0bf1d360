/* What is written for others: a folder gives the same weights back, GGUF has names, shapes, types and bytes as llama.cpp wants them (which
 * tests/parity/models.py asks it), and what can't be written is said. */
#include "trainer/export_model.h"

#include "base/fs.h"
#include "tests/test.h"
#include "tests/unit/model_config.h"
#include "trainer/half.h"
#include "trainer/safetensors.h"

static const struct dp_model_config configs[] = {
    CONFIG(DP_ARCH_GPT2, 2, 24, 3, 3, 40, 12, 1325, true),
    CONFIG(DP_ARCH_GPT2, 1, 24, 3, 3, 40, 12, 1330, false),
    CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, 12, 1325, false, .rope_theta = 5e5),
    CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, 12, 1325, true, .qk_norm = true, .head_dim = 10),
};

static bool make(struct dp_weights *w, const struct dp_model_config *c)
{
    *w = (struct dp_weights){.c = *c};
    if (dp_layout_init(&w->layout, c, NULL) < 0 || !(w->p = dp_floats_alloc(w->layout.floats))) return false;
    for (size_t i = 0; i < w->layout.count; i++)
        for (uint64_t k = 0; k < dp_param_count(&w->layout.params[i]); k++)
            w->p[w->layout.params[i].offset + k] = (float)((double)(k * 37 % 1001) / 1001 - (double)i / 7);
    return true;
}

TEST(a_folder_gives_the_weights_back)
{
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        for (int type = DP_WEIGHTS_F32; type <= DP_WEIGHTS_BF16; type++) {
            struct dp_err err = {0};
            struct dp_weights a, b;
            char *dir = dp_test_tmpdir();
            REQUIRE(make(&a, &configs[k]));
            REQUIRE_OK(dp_export_hf(&a, (enum dp_weights_type)type, 0, dir, &err));
            REQUIRE_OK(dp_weights_open(&b, dir, &err));
            CHECK_INT(b.layout.floats, a.layout.floats);
            for (uint64_t i = 0; i < a.layout.floats; i++) {
                float want = type == DP_WEIGHTS_F16 ? dp_from_f16(dp_to_f16(a.p[i])) : type == DP_WEIGHTS_BF16 ? dp_from_bf16(dp_to_bf16(a.p[i])) : a.p[i];
                if (b.p[i] != want) {
                    DP_TEST_FAIL("model %zu, type %d: weight %d is %g, not %g", k, type, (int)i, (double)b.p[i], (double)want);
                    break;
                }
            }
            CHECK(dp_export_hf(&a, (enum dp_weights_type)type, 0, dir, &err) < 0); /* not over another */
            dp_weights_close(&a);
            dp_weights_close(&b);
        }
    }
}

TEST(mup_goes_into_the_weights)
{
    const struct dp_model_config all[] = {
        CONFIG(DP_ARCH_GPT2, 2, 24, 3, 3, 40, 12, 50, true, .mup_base_dim = 8, .mup_base_head_dim = 4),
        CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, 12, 50, false, .mup_base_dim = 12, .mup_base_head_dim = 2),
        CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, 12, 50, true, .qk_norm = true, .mup_base_dim = 12, .mup_base_head_dim = 2),
    };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        struct dp_err err = {0};
        struct dp_weights w;
        struct dp_model *m;
        int32_t tokens[12];
        float want[12 * 50], got[12 * 50], plain[12 * 50], worst = 0, changed = 0;
        REQUIRE(make(&w, &all[k]));
        for (uint64_t i = 0; i < w.layout.floats; i++) w.p[i] = sinf((float)(i * 7)) * 0.4f;
        for (int i = 0; i < 12; i++) tokens[i] = i * 17 % 50;
        for (int round = 0; round < 3; round++) {
            struct dp_model_config c = w.c;
            if (round == 1) c.mup_base_dim = c.mup_base_head_dim = 0; /* not folded: to see that it matters */
            REQUIRE_OK(dp_model_open(&m, &c, 1, false, NULL, &err));
            memcpy(m->p, w.p, w.layout.floats * sizeof *w.p);
            dp_model_logits(m, tokens, 1, round == 0 ? want : round == 1 ? plain : got);
            dp_model_close(m);
            if (round == 1) dp_weights_fold_mup(&w);
        }
        CHECK_INT(w.c.mup_base_dim + w.c.mup_base_head_dim, 0);
        for (int i = 0; i < 12 * 50; i++) {
            worst = fmaxf(worst, fabsf(got[i] - want[i]));
            changed = fmaxf(changed, fabsf(plain[i] - want[i]));
        }
        if (!(worst < 1e-5f && changed > 0.01f)) DP_TEST_FAIL("model %zu: %g, unfolded %g", k, (double)worst, (double)changed);
        dp_weights_close(&w);
    }
}

static uint64_t number(const char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)(unsigned char)p[i] << 8 * i;
    return v;
}

/* Whether a tensor of this name, dimensions (ne1 0: one) and type is there, at a multiple of 32. */
static bool has(struct dp_span file, const char *name, int64_t ne0, int64_t ne1, uint32_t type)
{
    size_t n = strlen(name);
    const char *info = NULL;
    for (size_t at = 0; at + n + 40 < file.len && !info; at++)
        if (memcmp(file.ptr + at + 8, name, n) == 0 && number(file.ptr + at, 8) == n) info = file.ptr + at + 8 + n;
    if (!info) return false;
    const char *p = info + (ne1 ? 20 : 12);
    return number(info, 4) == (ne1 ? 2 : 1) && (int64_t)number(info + 4, 8) == ne0 && (!ne1 || (int64_t)number(info + 12, 8) == ne1) && number(p, 4) == type &&
           number(p + 4, 8) % 32 == 0;
}

TEST(gguf)
{
    struct dp_err err = {0};
    struct dp_tokenizer *t, *again;
    REQUIRE_OK(dp_tokenizer_load_file(&t, "tests/data/tokenizer/hf.json", NULL, &err));
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        struct dp_weights w;
        struct dp_map m;
        char *path = dp_fs_join(dp_test_tmpdir(), "m.gguf");
        const struct dp_model_config *c = &configs[k];
        REQUIRE(make(&w, c));
        REQUIRE_OK(dp_export_gguf(&w, DP_WEIGHTS_F16, t, "name", path, &err));
        REQUIRE_OK(dp_map_open(&m, path, &err));
        struct dp_span f = dp_span(m.ptr, m.len);
        CHECK(memcmp(f.ptr, "GGUF\3\0\0\0", 8) == 0 && number(f.ptr + 8, 8) == w.layout.count && f.len % 32 == 0);
        CHECK(has(f, "token_embd.weight", 24, c->vocab, 1));
        CHECK(has(f, "output_norm.weight", 24, 0, 0));
        CHECK((has(f, "output.weight", 24, c->vocab, 1)) == !c->tied);
        CHECK((has(f, "position_embd.weight", 24, 12, 0)) == (c->arch == DP_ARCH_GPT2));
        CHECK((has(f, "blk.0.attn_qkv.weight", 24, 72, 1)) == (c->arch == DP_ARCH_GPT2));
        CHECK((has(f, "blk.0.attn_q_norm.weight", 10, 0, 0)) == c->qk_norm);
        CHECK((has(f, "blk.1.ffn_gate.weight", 24, 40, 1)) == (c->arch == DP_ARCH_LLAMA));
        CHECK(has(f, "blk.0.ffn_down.weight", 40, 24, 1));
        /* The tokenizer comes back, fillers aside. */
        REQUIRE_OK(dp_tokenizer_load_file(&again, path, NULL, &err));
        struct dp_hash128 a = dp_tokenizer_digest(t), b = dp_tokenizer_digest(again);
        CHECK((a.lo == b.lo && a.hi == b.hi) == (c->vocab == 1325));
        CHECK_INT(dp_tokenizer_tokens(again), dp_tokenizer_tokens(t));
        CHECK_INT(dp_tokenizer_size(again), c->vocab);
        dp_tokenizer_free(again);
        dp_map_close(&m);
        dp_weights_close(&w);
        free(path);
    }
    dp_tokenizer_free(t);
}

static int collect(void *ctx, const void *bytes, size_t n, struct dp_err *e)
{
    (void)e;
    dp_buf_add(ctx, bytes, n);
    return DP_OK;
}

TEST(orders_and_types)
{
    struct dp_err err = {0};
    struct dp_buf b;
    float p[40 * 3], got[40 * 3];
    for (int i = 0; i < 120; i++) p[i] = (float)i;
    dp_buf_init(&b, 1 << 16);
    struct dp_weights_part part = {.name = "x", .p = p, .rows = 40, .cols = 3, .order = DP_WEIGHTS_TRANSPOSED};
    REQUIRE_OK(dp_weights_emit(&part, collect, &b, &err));
    REQUIRE(b.len == sizeof got);
    memcpy(got, b.ptr, sizeof got);
    for (int r = 0; r < 40; r++)
        for (int c = 0; c < 3; c++) CHECK(got[r * 3 + c] == p[c * 40 + r]);
    /* Two heads of 20 rows: 0, 10, 1, 11, ... */
    dp_buf_clear(&b);
    part.order = DP_WEIGHTS_PAIRS;
    part.head_dim = 20;
    REQUIRE_OK(dp_weights_emit(&part, collect, &b, &err));
    memcpy(got, b.ptr, sizeof got);
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 10; i++) {
            CHECK(got[(h * 20 + 2 * i) * 3] == p[(h * 20 + i) * 3]);
            CHECK(got[(h * 20 + 2 * i + 1) * 3 + 2] == p[(h * 20 + 10 + i) * 3 + 2]);
        }
    p[7] = 70000;
    part.type = DP_WEIGHTS_F16;
    part.name = "large";
    CHECK_INT(dp_weights_emit(&part, collect, &b, &err), DP_LIMIT);
    CHECK(strstr(err.msg, "large") && strstr(err.msg, "bf16"));
    part.type = DP_WEIGHTS_BF16;
    CHECK_OK(dp_weights_emit(&part, collect, &b, &err));
    dp_buf_release(&b);
}

TEST(what_cannot_be_written)
{
    struct dp_err err = {0};
    struct dp_weights w;
    struct dp_tokenizer *t;
    struct dp_model_config c = configs[0];
    char *dir = dp_test_tmpdir(), *path = dp_fs_join(dir, "m.gguf");
    REQUIRE_OK(dp_tokenizer_load_file(&t, "tests/data/tokenizer/hf.json", NULL, &err));
    c.vocab = 1324;
    REQUIRE(make(&w, &c));
    CHECK_INT(dp_export_gguf(&w, DP_WEIGHTS_F32, t, "n", path, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "1325"));
    dp_weights_close(&w);
    c.vocab = 1325, c.qk_norm = true;
    REQUIRE(make(&w, &c));
    CHECK_INT(dp_export_gguf(&w, DP_WEIGHTS_F32, t, "n", path, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "q_norm"));
    CHECK_INT(dp_export_hf(&w, DP_WEIGHTS_F32, 0, dir, &err), DP_CONFIG);
    dp_weights_close(&w);
    CHECK(!dp_fs_exists(path));
    dp_tokenizer_free(t);
    free(path);
}

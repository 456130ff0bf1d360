/* Hugging Face folders: the frozen ones give transformers' logits; each way in which a folder can be wrong
 * is said with its key, tensor or file; 16-bit numbers round as IEEE says. */
#include "trainer/import_hf.h"

#include "base/fs.h"
#include "tests/test.h"
#include "tests/unit/model_config.h"
#include "trainer/half.h"
#include "trainer/hf_config.h"
#include "trainer/safetensors.h"
#include "trainer/weights.h"

#define FOLDER "tests/data/trainer/hf/"

static void same_logits(const char *dir)
{
    struct dp_err err = {0};
    struct dp_weights w;
    struct dp_safetensors *x;
    struct dp_model *m;
    char path[200];
    snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    REQUIRE_OK(dp_safetensors_open(&x, path, &err));
    REQUIRE_OK(dp_weights_open(&w, dir, &err));
    REQUIRE_OK(dp_model_open(&m, &w.c, 1, false, NULL, &err));
    const struct dp_safetensor *tokens = dp_safetensors_find(x, "tokens"), *logits = dp_safetensors_find(x, "logits");
    REQUIRE(tokens && logits && tokens->shape[0] == w.c.seq_len && logits->shape[1] == w.c.vocab);
    int32_t ids[24];
    float got[24 * 40], want[24 * 40], worst = 0;
    memcpy(m->p, w.p, w.layout.floats * sizeof *w.p);
    memcpy(ids, tokens->data, sizeof ids);
    memcpy(want, logits->data, sizeof want);
    dp_model_logits(m, ids, 1, got);
    for (int i = 0; i < 24 * 40; i++) worst = fmaxf(worst, fabsf(got[i] - want[i]));
    if (!(worst < 1e-5)) DP_TEST_FAIL("%s: %g", dir, (double)worst);
    dp_model_close(m);
    dp_weights_close(&w);
    dp_safetensors_close(x);
}

TEST(logits_of_transformers)
{
    same_logits(FOLDER "gpt2");
    same_logits(FOLDER "gpt2-untied-f16");
    same_logits(FOLDER "llama-sharded-bf16");
    same_logits(FOLDER "llama-tied");
    same_logits(FOLDER "qwen3");
}

TEST(a_shorter_context)
{
    struct dp_err err = {0};
    struct dp_hf *h;
    struct dp_layout l;
    REQUIRE_OK(dp_hf_open(&h, FOLDER "gpt2", &err));
    struct dp_model_config c = *dp_hf_config(h);
    CHECK_INT(c.seq_len, 24);
    c.seq_len = 7;
    REQUIRE_OK(dp_layout_init(&l, &c, &err));
    float *p = dp_floats_alloc(l.floats);
    REQUIRE_OK(dp_hf_load(h, &c, &l, p, &err));
    const struct dp_safetensor *wpe;
    struct dp_safetensors *f;
    REQUIRE_OK(dp_safetensors_open(&f, FOLDER "gpt2/model.safetensors", &err));
    REQUIRE((wpe = dp_safetensors_find(f, "transformer.wpe.weight")));
    CHECK(memcmp(p + l.wpe, wpe->data, 7 * 16 * sizeof *p) == 0);
    c.seq_len = 25;
    CHECK_INT(dp_hf_load(h, &c, &l, p, &err), DP_CONFIG);
    c.seq_len = 7, c.layers = 1;
    CHECK_INT(dp_hf_load(h, &c, &l, p, &err), DP_CONFIG);
    char a[65], b[65];
    CHECK_OK(dp_hf_digest(h, a, &err));
    CHECK_OK(dp_hf_digest(h, b, &err));
    CHECK_STR(a, b);
    dp_hf_close(h);
    REQUIRE_OK(dp_hf_open(&h, FOLDER "llama-sharded-bf16", &err));
    CHECK_OK(dp_hf_digest(h, b, &err));
    CHECK(strcmp(a, b) != 0);
    dp_hf_close(h);
    dp_safetensors_close(f);
    dp_layout_release(&l);
    free(p);
}

#define GPT2 "\"model_type\":\"gpt2\",\"n_layer\":1,\"n_embd\":4,\"n_head\":2,\"vocab_size\":5"
#define LLAMA                                                                                                          \
    "\"model_type\":\"llama\",\"num_hidden_layers\":1,\"hidden_size\":4,\"num_attention_heads\":2,"                    \
    "\"intermediate_size\":6,\"vocab_size\":5,\"rms_norm_eps\":1e-5"

TEST(configs)
{
    static const struct {
        const char *text, *says; /* NULL: is read */
    } cases[] = {
        {"{" GPT2 "}", NULL},
        {"{" GPT2 ",\"n_inner\":null,\"activation_function\":\"gelu_pytorch_tanh\"}", NULL},
        {"{" GPT2 ",\"activation_function\":\"relu\"}", "activation_function"},
        {"{" GPT2 ",\"layer_norm_epsilon\":1e-6}", NULL},
        {"{" GPT2 ",\"layer_norm_epsilon\":-1e-6}", "layer_norm_epsilon"},
        {"{" GPT2 ",\"scale_attn_weights\":false}", "scale_attn_weights"},
        {"{" GPT2 ",\"scale_attn_by_inverse_layer_idx\":true}", "inverse_layer"},
        {"{" GPT2 ",\"add_cross_attention\":true}", "add_cross_attention"},
        {"{" GPT2 ",\"add_cross_attention\":3}", "add_cross_attention"},
        {"{" GPT2 ",\"quantization_config\":{}}", "quantized"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":1}", "n_embd"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":\"1\"}", "n_layer"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_embd\":-4,\"n_head\":2,\"vocab_size\":5}", "dim"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_embd\":9223372036854775807,\"n_head\":2,\"vocab_size\":5}", "dim"},
        {"{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_embd\":5,\"n_head\":2,\"vocab_size\":5}", "heads"},
        {"{\"model_type\":\"bert\"}", "bert"},
        {"{}", "model_type"},
        {"[]", "object"},
        {"{\"model_type\":\"gpt2\"", "config"},
        {"{" LLAMA "}", NULL},
        {"{" LLAMA ",\"head_dim\":2,\"rope_scaling\":null,\"rope_theta\":10000}", NULL},
        {"{" LLAMA ",\"rope_parameters\":{\"rope_theta\":10000.0,\"rope_type\":\"default\"}}", NULL},
        {"{" LLAMA ",\"head_dim\":4}", NULL},
        {"{" LLAMA ",\"head_dim\":3}", "head_dim"},
        {"{" LLAMA ",\"hidden_act\":\"gelu\"}", "hidden_act"},
        {"{" LLAMA ",\"rope_theta\":0}", "rope_theta"},
        {"{" LLAMA ",\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"default\"}}", NULL},
        {"{" LLAMA ",\"layer_types\":[\"sliding_attention\"]}", "layer_types"},
        {"{" LLAMA ",\"layer_types\":[\"full_attention\"]}", NULL},
        {"{" LLAMA ",\"rope_parameters\":{\"rope_theta\":10000.0,\"rope_type\":\"llama3\"}}", "llama3"},
        {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", "linear"},
        {"{" LLAMA ",\"partial_rotary_factor\":0.5}", "partial_rotary_factor"},
        {"{" LLAMA ",\"attention_bias\":true}", "attention_bias"},
        {"{" LLAMA ",\"mlp_bias\":true}", "mlp_bias"},
        {"{" LLAMA ",\"sliding_window\":100}", "sliding_window"},
        {"{" LLAMA ",\"sliding_window\":4096}", NULL},
        {"{" LLAMA ",\"num_key_value_heads\":3}", "kv_heads"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_err err = {0};
        struct dp_model_config c = {.layers = -7};
        int rc = dp_hf_config_parse(dp_span_str(cases[i].text), "config.json", &c, &err);
        if (cases[i].says) {
            if (rc >= 0 || !strstr(err.msg, cases[i].says) || c.layers != -7) DP_TEST_FAIL("%s: %d %s", cases[i].text, rc, err.msg);
        } else if (rc < 0 || c.layers != 1 || c.vocab != 5) DP_TEST_FAIL("%s: %d %s", cases[i].text, rc, err.msg);
    }
}

TEST(a_written_config_is_read_back)
{
    static const struct dp_model_config all[] = {
        CONFIG(DP_ARCH_GPT2, 3, 24, 3, 3, 40, 12, 50, true, .norm_eps = 1e-6),
        CONFIG(DP_ARCH_GPT2, 3, 24, 3, 3, 96, 12, 50, false),
        CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 2, 40, 12, 50, false, .rope_theta = 500000),
        CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 4, 40, 12, 50, true),
        CONFIG(DP_ARCH_LLAMA, 2, 24, 4, 4, 40, 12, 50, true, .qk_norm = true, .head_dim = 10, .norm_eps = 1e-6, .rope_theta = 1e6),
    };
    struct dp_err err = {0};
    struct dp_buf b;
    struct dp_model_config c;
    dp_buf_init(&b, 1 << 16);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        dp_buf_clear(&b);
        CHECK_OK(dp_hf_config_write(&all[i], "float32", i & 1 ? 3 : -1, &b, &err));
        CHECK_OK(dp_hf_config_parse(dp_buf_span(&b), "config.json", &c, &err));
        CHECK(c.arch == all[i].arch && c.layers == all[i].layers && c.dim == 24 && c.heads == all[i].heads && c.kv_heads == all[i].kv_heads &&
              c.ffn == all[i].ffn && c.seq_len == 12 && c.vocab == 50 && c.tied == all[i].tied && c.qk_norm == all[i].qk_norm &&
              c.head_dim == all[i].head_dim && c.norm_eps == all[i].norm_eps && c.rope_theta == all[i].rope_theta);
    }
    c = all[0];
    c.qk_norm = true;
    CHECK_INT(dp_hf_config_write(&c, "float32", 3, &b, &err), DP_CONFIG);
    c.qk_norm = false;
    c.head_dim = 10;
    CHECK_INT(dp_hf_config_write(&c, "float32", 3, &b, &err), DP_CONFIG);
    dp_buf_release(&b);
}

/* One layer of gpt2, dim 2, one head, ffn 2, vocab 3, 2 positions, all weights 0 but what `change` does. */
enum { TENSORS = 16 };
struct folder {
    struct dp_safetensors_item item[TENSORS + 1];
    size_t count;
    float data[64];
    char dir[512];
};

static void tiny(struct folder *f)
{
    static const struct {
        const char *name;
        int64_t rows, cols;
    } rows[TENSORS] = {{"wte.weight", 3, 2}, {"wpe.weight", 2, 2}, {"h.0.ln_1.weight", 2, 0}, {"h.0.ln_1.bias", 2, 0}, {"h.0.ln_2.weight", 2, 0},
                       {"h.0.ln_2.bias", 2, 0}, {"h.0.attn.c_attn.weight", 2, 6}, {"h.0.attn.c_attn.bias", 6, 0}, {"h.0.attn.c_proj.weight", 2, 2},
                       {"h.0.attn.c_proj.bias", 2, 0}, {"h.0.mlp.c_fc.weight", 2, 2}, {"h.0.mlp.c_fc.bias", 2, 0}, {"h.0.mlp.c_proj.weight", 2, 2},
                       {"h.0.mlp.c_proj.bias", 2, 0}, {"ln_f.weight", 2, 0}, {"ln_f.bias", 2, 0}};
    *f = (struct folder){.count = TENSORS};
    for (int i = 0; i < TENSORS; i++) f->item[i] = (struct dp_safetensors_item){rows[i].name, "F32", rows[i].cols ? 2 : 1, {rows[i].rows, rows[i].cols}, f->data};
    snprintf(f->dir, sizeof f->dir, "%s", dp_test_tmpdir());
    dp_test_write(f->dir, "config.json", "{\"model_type\":\"gpt2\",\"n_layer\":1,\"n_embd\":2,\"n_head\":1,\"n_inner\":2,\"n_positions\":2,\"vocab_size\":3}");
}

static int put(struct folder *f, const char *name, size_t from, size_t to, struct dp_err *e)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return dp_safetensors_write(path, f->item + from, to - from, NULL, 0, e);
}

static void opens(struct folder *f, int code, const char *says)
{
    struct dp_err err = {0};
    struct dp_weights w;
    int rc = dp_weights_open(&w, f->dir, &err);
    if (rc != code || (code < 0 && !strstr(err.msg, says))) DP_TEST_FAIL("%d, not %d with \"%s\": %s", rc, code, says, err.msg);
    if (rc >= 0) dp_weights_close(&w);
}

TEST(folders_that_are_wrong)
{
    struct folder f;
    struct dp_err err = {0};
    tiny(&f);
    opens(&f, DP_NOTFOUND, "model.safetensors");
    REQUIRE_OK(put(&f, "model.safetensors", 0, TENSORS, &err));
    opens(&f, DP_OK, ""); /* without "transformer.", as GPT2Model writes it */
    dp_test_write(f.dir, "config.json", "{}");
    opens(&f, DP_CONFIG, "model_type");
    tiny(&f);
    REQUIRE_OK(put(&f, "model.safetensors", 0, TENSORS - 1, &err));
    opens(&f, DP_CORRUPT, "ln_f.bias");
    tiny(&f);
    f.item[6].shape[0] = 6, f.item[6].shape[1] = 2; /* as a Linear has it */
    REQUIRE_OK(put(&f, "model.safetensors", 0, TENSORS, &err));
    opens(&f, DP_CORRUPT, "c_attn.weight");
    tiny(&f);
    f.item[2].dims = 0;
    REQUIRE_OK(put(&f, "model.safetensors", 0, TENSORS, &err));
    opens(&f, DP_CORRUPT, "ln_1.weight");
    tiny(&f);
    f.item[3].dtype = "I32";
    REQUIRE_OK(put(&f, "model.safetensors", 0, TENSORS, &err));
    opens(&f, DP_CONFIG, "I32");
    tiny(&f);
    f.item[f.count++] = (struct dp_safetensors_item){"h.0.attn.q.bias", "F32", 1, {2}, f.data};
    REQUIRE_OK(put(&f, "model.safetensors", 0, f.count, &err));
    opens(&f, DP_CONFIG, "attn.q.bias");
    tiny(&f);
    f.item[f.count++] = (struct dp_safetensors_item){"h.0.attn.bias", "F32", 2, {2, 2}, f.data}; /* the old mask */
    REQUIRE_OK(put(&f, "model.safetensors", 0, f.count, &err));
    opens(&f, DP_OK, "");
    tiny(&f);
    f.data[3] = NAN;
    REQUIRE_OK(put(&f, "model.safetensors", 0, TENSORS, &err));
    opens(&f, DP_CORRUPT, "finite");
}

TEST(indexes)
{
    struct folder f;
    struct dp_err err = {0};
    tiny(&f);
    REQUIRE_OK(put(&f, "a.safetensors", 0, 9, &err));
    REQUIRE_OK(put(&f, "b.safetensors", 9, TENSORS, &err));
    REQUIRE_OK(put(&f, "c.safetensors", 8, TENSORS, &err));
    static const struct {
        const char *text;
        int code;
        const char *says;
    } cases[] = {
        {"{\"weight_map\":{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\",\"z\":\"b.safetensors\"}}", DP_OK, ""},
        {"{\"weight_map\":{\"x\":\"a.safetensors\"}}", DP_CORRUPT, "missing"},
        {"{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"c.safetensors\"}}", DP_CORRUPT, "another file"},
        {"{\"weight_map\":{\"x\":\"no.safetensors\"}}", DP_NOTFOUND, "no.safetensors"},
        {"{\"weight_map\":{\"x\":\"../a.safetensors\"}}", DP_CORRUPT, "no name"},
        {"{\"weight_map\":{\"x\":\"/etc/passwd\"}}", DP_CORRUPT, "no name"},
        {"{\"weight_map\":{\"x\":\"a.safetensors\\u0000\"}}", DP_CORRUPT, ""},
        {"{\"weight_map\":{\"x\":7}}", DP_CORRUPT, "no name"},
        {"{\"weight_map\":{}}", DP_CORRUPT, "weight_map"},
        {"{\"weight_map\":[]}", DP_CORRUPT, "weight_map"},
        {"[1]", DP_CORRUPT, "weight_map"},
        {"{", DP_CORRUPT, "index"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dp_test_write(f.dir, "model.safetensors.index.json", cases[i].text);
        opens(&f, cases[i].code, cases[i].says);
    }
}

TEST(half_numbers)
{
    for (uint32_t h = 0; h < 65536; h++) {
        bool nan = (h & 0x7fff) > 0x7c00;
        float x = dp_from_f16((uint16_t)h);
        if (nan) CHECK(isnan(x) && isnan(dp_from_f16(dp_to_f16(x))));
        else if (dp_to_f16(x) != h) DP_TEST_FAIL("f16 %04x is %g, and back %04x", h, (double)x, dp_to_f16(x));
        /* halfway to the next goes to the even one, beside it to the nearer */
        if ((h & 0x7fff) < 0x7bff) {
            float next = dp_from_f16((uint16_t)(h + 1)), mid = (x + next) / 2;
            CHECK_INT(dp_to_f16(mid), h + (h & 1));
            CHECK_INT(dp_to_f16(nextafterf(mid, x)), h);
            CHECK_INT(dp_to_f16(nextafterf(mid, next)), h + 1);
        }
        nan = (h & 0x7fff) > 0x7f80;
        x = dp_from_bf16((uint16_t)h);
        if (nan) CHECK(isnan(x) && isnan(dp_from_bf16(dp_to_bf16(x))));
        else CHECK_INT(dp_to_bf16(x), h);
    }
    CHECK_INT(dp_to_f16(65519.0f), 0x7bff);
    CHECK_INT(dp_to_f16(65520.0f), 0x7c00);
    CHECK_INT(dp_to_f16(-1e30f), 0xfc00);
    CHECK_INT(dp_to_bf16(1.00390625f), 0x3f80); /* a tie, to even */
    CHECK_INT(dp_to_bf16(1.01171875f), 0x3f82);
    CHECK_INT(dp_to_bf16(3.4e38f), 0x7f80);
}

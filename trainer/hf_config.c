/* A key that may be absent, null, or spelled in two ways has its own default in each model class of
 * transformers; the defaults here are those. */
#include "trainer/hf_config.h"

#include <stdio.h>

struct reader {
    const struct dp_json *root;
    const char *name;
};

static const struct dp_json *get(const struct reader *r, const char *key)
{
    const struct dp_json *v = dp_json_get(r->root, key);
    return v && dp_json_kind(v) == DP_JSON_NULL ? NULL : v;
}

/* otherwise -1: the key must be there. */
static int read_count(const struct reader *r, const char *key, int64_t otherwise, int64_t *out, struct dp_err *e)
{
    const struct dp_json *v = get(r, key);
    if (!v && otherwise < 0) DP_FAIL(e, CONFIG, "%s: \"%s\" is missing: no config of this model type", r->name, key);
    if (v && dp_json_kind(v) != DP_JSON_INT) DP_FAIL(e, CONFIG, "%s: \"%s\" is no whole number", r->name, key);
    *out = dp_json_int(v, otherwise);
    return DP_OK;
}

static int want_bool(const struct reader *r, const char *key, bool otherwise, bool want, struct dp_err *e)
{
    const struct dp_json *v = get(r, key);
    if (v && dp_json_kind(v) != DP_JSON_BOOL) DP_FAIL(e, CONFIG, "%s: \"%s\" is neither true nor false", r->name, key);
    if (dp_json_bool(v, otherwise) != want)
        DP_FAIL(e, CONFIG, "%s: \"%s\" is %s: only models with %s can be imported", r->name, key, want ? "false" : "true", want ? "true" : "false");
    return DP_OK;
}

/* A number above 0, or 0 where it is `preset`, as struct dp_model_config has it. */
static int read_real(const struct reader *r, const struct dp_json *in, const char *key, double otherwise, double preset, double *out, struct dp_err *e)
{
    double x = dp_json_real(dp_json_get(in, key), otherwise);
    if (!(x > 0)) DP_FAIL(e, CONFIG, "%s: \"%s\" is %g: must be above 0", r->name, key, x);
    *out = x == preset ? 0 : x;
    return DP_OK;
}

static int want_word(const struct reader *r, const char *key, const char *otherwise, const char *a, const char *b, struct dp_err *e)
{
    struct dp_span s = get(r, key) ? dp_json_str(get(r, key)) : dp_span_str(otherwise);
    if (!dp_span_is(s, a) && !dp_span_is(s, b))
        DP_FAIL(e, CONFIG, "%s: \"%s\" is \"%.*s\": only models with \"%s\" can be imported", r->name, key, DP_SPAN_FMT(s), a);
    return DP_OK;
}

static int parse_gpt2(const struct reader *r, struct dp_model_config *c, struct dp_err *e)
{
    c->arch = DP_ARCH_GPT2;
    DP_TRY(read_count(r, "n_layer", -1, &c->layers, e));
    DP_TRY(read_count(r, "n_embd", -1, &c->dim, e));
    DP_TRY(read_count(r, "n_head", -1, &c->heads, e));
    DP_TRY(read_count(r, "n_positions", 1024, &c->seq_len, e));
    DP_TRY(read_count(r, "vocab_size", -1, &c->vocab, e));
    DP_TRY(read_count(r, "n_inner", c->dim > 0 && c->dim < INT32_MAX ? 4 * c->dim : 0, &c->ffn, e));
    c->kv_heads = c->heads;
    c->tied = dp_json_bool(get(r, "tie_word_embeddings"), true);
    DP_TRY(want_word(r, "activation_function", "gelu_new", "gelu_new", "gelu_pytorch_tanh", e));
    DP_TRY(read_real(r, r->root, "layer_norm_epsilon", 1e-5, 1e-5, &c->norm_eps, e));
    DP_TRY(want_bool(r, "scale_attn_weights", true, true, e));
    DP_TRY(want_bool(r, "scale_attn_by_inverse_layer_idx", false, false, e));
    return want_bool(r, "add_cross_attention", false, false, e);
}

static int read_rope(const struct reader *r, struct dp_model_config *c, struct dp_err *e)
{
    const struct dp_json *p = get(r, "rope_parameters"), *s = get(r, "rope_scaling");
    const struct dp_json *const kinds[] = {dp_json_get(p, "rope_type"), dp_json_get(p, "type"), dp_json_get(s, "rope_type"), dp_json_get(s, "type")};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct dp_span kind = dp_json_str(kinds[i]);
        if (kind.ptr && !dp_span_is(kind, "default"))
            DP_FAIL(e, CONFIG, "%s: RoPE of type \"%.*s\": only models with \"default\" can be imported", r->name, DP_SPAN_FMT(kind));
    }
    double part = dp_json_real(get(r, "partial_rotary_factor"), dp_json_real(dp_json_get(p, "partial_rotary_factor"), 1));
    if (part != 1) DP_FAIL(e, CONFIG, "%s: \"partial_rotary_factor\" is %g: only models with 1 can be imported", r->name, part);
    return read_real(r, dp_json_get(p, "rope_theta") ? p : r->root, "rope_theta", 10000, 10000, &c->rope_theta, e);
}

/* All layers must see all of the context. */
static int check_windows(const struct reader *r, int64_t otherwise, const struct dp_model_config *c, struct dp_err *e)
{
    const struct dp_json *kinds = get(r, "layer_types");
    int64_t window = 0;
    for (size_t i = 0; i < dp_json_count(kinds); i++)
        if (!dp_span_is(dp_json_str(dp_json_at(kinds, i)), "full_attention"))
            DP_FAIL(e, CONFIG, "%s: \"layer_types\" has a layer other than \"full_attention\": such models can't be imported", r->name);
    if (dp_json_get(r->root, "sliding_window")) otherwise = 0; /* null: none */
    DP_TRY(read_count(r, "sliding_window", otherwise, &window, e));
    if (window && window < c->seq_len && dp_json_bool(get(r, "use_sliding_window"), !c->qk_norm))
        DP_FAIL(e, CONFIG, "%s: \"sliding_window\" is %lld: only models without a window can be imported", r->name, (long long)window);
    return DP_OK;
}

/* The classes differ in what they take for a key that is missing. */
static const struct llama_kind {
    const char *type;
    int64_t kv_heads, head_dim, seq_len, window; /* 0: heads, dim / heads, none */
    bool qk_norm;
} llama_kinds[] = {{"llama", 0, 0, 2048, 0, false}, {"mistral", 8, 0, 131072, 4096, false}, {"qwen3", 32, 128, 32768, 0, true}};

static int parse_llama(const struct reader *r, const struct llama_kind *k, struct dp_model_config *c, struct dp_err *e)
{
    c->arch = DP_ARCH_LLAMA;
    c->qk_norm = k->qk_norm;
    DP_TRY(read_count(r, "num_hidden_layers", -1, &c->layers, e));
    DP_TRY(read_count(r, "hidden_size", -1, &c->dim, e));
    DP_TRY(read_count(r, "num_attention_heads", -1, &c->heads, e));
    DP_TRY(read_count(r, "num_key_value_heads", k->kv_heads ? k->kv_heads : c->heads, &c->kv_heads, e));
    DP_TRY(read_count(r, "intermediate_size", -1, &c->ffn, e));
    DP_TRY(read_count(r, "max_position_embeddings", k->seq_len, &c->seq_len, e));
    DP_TRY(read_count(r, "vocab_size", -1, &c->vocab, e));
    DP_TRY(read_count(r, "head_dim", k->head_dim, &c->head_dim, e));
    if (c->heads > 0 && c->dim % c->heads == 0 && c->head_dim == c->dim / c->heads) c->head_dim = 0;
    c->tied = dp_json_bool(get(r, "tie_word_embeddings"), false);
    DP_TRY(want_word(r, "hidden_act", "silu", "silu", "swish", e));
    DP_TRY(read_real(r, r->root, "rms_norm_eps", 1e-6, 1e-5, &c->norm_eps, e));
    DP_TRY(read_rope(r, c, e));
    DP_TRY(check_windows(r, k->window, c, e));
    DP_TRY(want_bool(r, "attention_bias", false, false, e));
    return want_bool(r, "mlp_bias", false, false, e);
}

static int parse_root(const struct reader *r, struct dp_model_config *c, struct dp_err *e)
{
    if (dp_json_kind(r->root) != DP_JSON_OBJECT) DP_FAIL(e, CORRUPT, "%s: no JSON object", r->name);
    struct dp_span type = dp_json_str(get(r, "model_type"));
    if (get(r, "quantization_config")) DP_FAIL(e, CONFIG, "%s: a quantized model: only F32, F16 and BF16 weights can be imported", r->name);
    const struct llama_kind *k = NULL;
    for (size_t i = 0; i < sizeof llama_kinds / sizeof *llama_kinds; i++)
        if (dp_span_is(type, llama_kinds[i].type)) k = &llama_kinds[i];
    if (k) DP_TRY(parse_llama(r, k, c, e));
    else if (dp_span_is(type, "gpt2")) DP_TRY(parse_gpt2(r, c, e));
    else DP_FAIL(e, CONFIG, "%s: \"model_type\" is \"%.*s\": gpt2, llama, mistral and qwen3 can be imported", r->name, DP_SPAN_FMT(type));
    int rc = dp_model_config_check(c, e);
    return rc < 0 ? dp_err_prefix(e, "%s", r->name) : DP_OK;
}

int dp_hf_config_parse(struct dp_span text, const char *name, struct dp_model_config *c, struct dp_err *e)
{
    struct dp_json *root;
    struct dp_model_config found = {0};
    DP_TRY(dp_json_parse(&root, text, name, e));
    int rc = parse_root(&(struct reader){root, name}, &found, e);
    dp_json_free(root);
    if (rc >= 0) *c = found;
    return rc;
}

/* Not dp_model_norm_eps(), a float. */
static double eps_of(const struct dp_model_config *c)
{
    return c->norm_eps > 0 ? c->norm_eps : 1e-5;
}

static void write_gpt2(struct dp_jsonw *w, const struct dp_model_config *c)
{
    dp_jsonw_member_int(w, "vocab_size", c->vocab);
    dp_jsonw_member_int(w, "n_positions", c->seq_len);
    dp_jsonw_member_int(w, "n_ctx", c->seq_len);
    dp_jsonw_member_int(w, "n_embd", c->dim);
    dp_jsonw_member_int(w, "n_layer", c->layers);
    dp_jsonw_member_int(w, "n_head", c->heads);
    dp_jsonw_member_int(w, "n_inner", c->ffn);
    dp_jsonw_member(w, "activation_function", "gelu_new");
    dp_jsonw_member_real(w, "layer_norm_epsilon", eps_of(c));
    dp_jsonw_member_real(w, "embd_pdrop", 0);
    dp_jsonw_member_real(w, "attn_pdrop", 0);
    dp_jsonw_member_real(w, "resid_pdrop", 0);
    dp_jsonw_member_bool(w, "scale_attn_weights", true);
}

static void write_llama(struct dp_jsonw *w, const struct dp_model_config *c)
{
    dp_jsonw_member_int(w, "vocab_size", c->vocab);
    dp_jsonw_member_int(w, "max_position_embeddings", c->seq_len);
    dp_jsonw_member_int(w, "hidden_size", c->dim);
    dp_jsonw_member_int(w, "intermediate_size", c->ffn);
    dp_jsonw_member_int(w, "num_hidden_layers", c->layers);
    dp_jsonw_member_int(w, "num_attention_heads", c->heads);
    dp_jsonw_member_int(w, "num_key_value_heads", c->kv_heads);
    dp_jsonw_member_int(w, "head_dim", dp_model_head_dim(c));
    dp_jsonw_member(w, "hidden_act", "silu");
    dp_jsonw_member_real(w, "rms_norm_eps", eps_of(c));
    dp_jsonw_member_real(w, "rope_theta", dp_model_rope_theta(c)); /* transformers 4; 5 reads it too, and writes rope_parameters */
    dp_jsonw_member_bool(w, "attention_bias", false);
    dp_jsonw_member_bool(w, "mlp_bias", false);
}

int dp_hf_config_write(const struct dp_model_config *c, const char *dtype, int64_t eot, struct dp_buf *out, struct dp_err *e)
{
    struct dp_jsonw w;
    bool gpt2 = c->arch == DP_ARCH_GPT2;
    if (gpt2 && (c->qk_norm || dp_model_q_width(c) != c->dim))
        DP_FAIL(e, CONFIG, "transformers has no gpt2 with %s: the model can't be exported", c->qk_norm ? "QK-norm" : "heads * head_dim other than dim");
    dp_jsonw_init(&w, out, 2);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "architectures");
    dp_jsonw_begin(&w, '[');
    dp_jsonw_cstr(&w, gpt2 ? "GPT2LMHeadModel" : c->qk_norm ? "Qwen3ForCausalLM" : "LlamaForCausalLM");
    dp_jsonw_end(&w, ']');
    dp_jsonw_member(&w, "model_type", gpt2 ? "gpt2" : c->qk_norm ? "qwen3" : "llama");
    if (gpt2) write_gpt2(&w, c);
    else write_llama(&w, c);
    dp_jsonw_member_bool(&w, "tie_word_embeddings", c->tied);
    dp_jsonw_key(&w, "bos_token_id"); /* null keeps the class's default, an id of another vocabulary, away */
    if (eot < 0) dp_jsonw_null(&w);
    else dp_jsonw_int(&w, eot);
    dp_jsonw_key(&w, "eos_token_id");
    if (eot < 0) dp_jsonw_null(&w);
    else dp_jsonw_int(&w, eot);
    dp_jsonw_member_bool(&w, "use_cache", true);
    dp_jsonw_member(&w, "torch_dtype", dtype); /* 5 says "dtype" and reads both */
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(out, '\n');
    return dp_buf_check(out, "config.json", e);
}

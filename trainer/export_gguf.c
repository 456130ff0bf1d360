/* GGUF version 3 (ggml's docs/gguf.md), little-endian: "GGUF", u32 version, u64 tensors, u64 pairs; the pairs, of
 * which the tokenizer's are tokenizer_gguf.c's; for each tensor its name, u32 dimensions, u64 each (the fastest
 * first), u32 type, u64 offset; then the data at multiples of 32 bytes. Names and keys are those of llama.cpp's
 * gguf-py/gguf/constants.py. Its llama rotates neighbours where ours and Hugging Face's rotate halves, so the rows
 * of q and k are put in that order, as its converter does; its qwen3 rotates halves. */
#include "trainer/export_model.h"

#include "base/fs.h"
#include "trainer/half.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { T_U32 = 4, T_F32 = 6, T_STRING = 8, ALIGNMENT = 32 };
enum { NAME_MAX_BYTES = 64 };

static const struct {
    const char *ours, *theirs; /* what stands behind the layer's number; the ending (.weight, .bias) stays */
} block_names[] = {
    {"ln_1", "attn_norm"}, {"ln_2", "ffn_norm"}, {"attn.c_attn", "attn_qkv"}, {"attn.c_proj", "attn_output"}, {"mlp.c_fc", "ffn_up"},
    {"mlp.c_proj", "ffn_down"}, {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"}, {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"}, {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
}, outer_names[] = {
    {"transformer.wte", "token_embd"}, {"transformer.wpe", "position_embd"}, {"transformer.ln_f", "output_norm"}, {"lm_head", "output"},
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"},
};

/* The number behind `prefix`, and what follows it. */
static const char *layer_of(const char *name, const char *prefix, long *layer)
{
    size_t n = strlen(prefix);
    char *end;
    if (strncmp(name, prefix, n) != 0) return NULL;
    *layer = strtol(name + n, &end, 10);
    return *end == '.' ? end + 1 : NULL;
}

static int tensor_name(const char *name, char out[NAME_MAX_BYTES], struct dp_err *e)
{
    long layer = 0;
    const char *rest = layer_of(name, "transformer.h.", &layer), *ending = strrchr(name, '.');
    if (!rest) rest = layer_of(name, "model.layers.", &layer);
    for (size_t i = 0; rest && i < sizeof block_names / sizeof *block_names; i++) {
        if (!dp_span_eq(dp_span(rest, (size_t)(ending - rest)), dp_span_str(block_names[i].ours))) continue;
        snprintf(out, NAME_MAX_BYTES, "blk.%ld.%s%s", layer, block_names[i].theirs, ending);
        return DP_OK;
    }
    for (size_t i = 0; !rest && i < sizeof outer_names / sizeof *outer_names; i++) {
        if (!dp_span_eq(dp_span(name, (size_t)(ending - name)), dp_span_str(outer_names[i].ours))) continue;
        snprintf(out, NAME_MAX_BYTES, "%s%s", outer_names[i].theirs, ending);
        return DP_OK;
    }
    DP_FAIL(e, CONFIG, "llama.cpp has no name for the tensor \"%s\": the model can't be written as GGUF; use --format hf", name);
}

static void put_number(struct dp_buf *b, uint64_t v, size_t n)
{
    char bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(v >> 8 * i);
    dp_buf_add(b, bytes, n);
}

static void put_string(struct dp_buf *b, const char *s)
{
    put_number(b, strlen(s), 8);
    dp_buf_add_str(b, s);
}

/* Metadata. Keys that begin with a dot are the architecture's. */
struct pairs {
    struct dp_buf *b;
    const char *arch;
    uint64_t n;
};

static void put_key(struct pairs *k, const char *key, uint32_t type)
{
    const char *prefix = key[0] == '.' ? k->arch : "";
    put_number(k->b, strlen(prefix) + strlen(key), 8);
    dp_buf_add_str(k->b, prefix);
    dp_buf_add_str(k->b, key);
    put_number(k->b, type, 4);
    k->n++;
}

static void put_text(struct pairs *k, const char *key, const char *v)
{
    put_key(k, key, T_STRING);
    put_string(k->b, v);
}

static void put_count(struct pairs *k, const char *key, int64_t v)
{
    put_key(k, key, T_U32);
    put_number(k->b, (uint64_t)v, 4);
}

static void put_real(struct pairs *k, const char *key, double v)
{
    put_key(k, key, T_F32);
    put_number(k->b, dp_float_bits((float)v), 4);
}

static void put_model(struct pairs *k, const struct dp_model_config *c, enum dp_weights_type type, const char *name)
{
    static const uint32_t file_types[] = {0, 1, 32};
    put_text(k, "general.architecture", k->arch);
    put_text(k, "general.type", "model");
    put_text(k, "general.name", name);
    put_count(k, "general.file_type", file_types[type]);
    put_count(k, "general.alignment", ALIGNMENT);
    put_count(k, ".context_length", c->seq_len);
    put_count(k, ".embedding_length", c->dim);
    put_count(k, ".block_count", c->layers);
    put_count(k, ".feed_forward_length", c->ffn);
    put_count(k, ".attention.head_count", c->heads);
    if (c->arch == DP_ARCH_GPT2) {
        put_real(k, ".attention.layer_norm_epsilon", (double)dp_model_norm_eps(c));
        return;
    }
    put_count(k, ".attention.head_count_kv", c->kv_heads);
    put_count(k, ".attention.key_length", dp_model_head_dim(c));
    put_count(k, ".attention.value_length", dp_model_head_dim(c));
    put_real(k, ".attention.layer_norm_rms_epsilon", (double)dp_model_norm_eps(c));
    put_count(k, ".rope.dimension_count", dp_model_head_dim(c));
    put_real(k, ".rope.freq_base", dp_model_rope_theta(c));
    put_count(k, ".vocab_size", c->vocab);
}

/* Vectors, which ggml only adds and multiplies in F32, and the positions. */
static int type_of(const struct dp_weights *w, const struct dp_param *p, enum dp_weights_type type)
{
    return !p->cols || p->offset == w->layout.wpe ? DP_WEIGHTS_F32 : (int)type;
}

static uint64_t padded(uint64_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int put_infos(const struct dp_weights *w, enum dp_weights_type type, struct dp_buf *b, struct dp_err *e)
{
    static const uint32_t ggml_types[] = {0, 1, 30};
    uint64_t at = 0;
    for (size_t i = 0; i < w->layout.count; i++) {
        const struct dp_param *p = &w->layout.params[i];
        int t = type_of(w, p, type);
        char name[NAME_MAX_BYTES];
        DP_TRY(tensor_name(p->name, name, e));
        put_string(b, name);
        put_number(b, p->cols ? 2 : 1, 4);
        if (p->cols) put_number(b, (uint64_t)p->cols, 8);
        put_number(b, (uint64_t)p->rows, 8);
        put_number(b, ggml_types[t], 4);
        put_number(b, at, 8);
        at += padded(dp_param_count(p) * dp_weights_bytes(t));
    }
    return DP_OK;
}

static int build_header(const struct dp_weights *w, enum dp_weights_type type, const struct dp_tokenizer *t, const char *name, struct dp_buf *b,
                        struct dp_err *e)
{
    struct pairs k = {b, w->c.arch == DP_ARCH_GPT2 ? "gpt2" : w->c.qk_norm ? "qwen3" : "llama", 0};
    if (w->c.arch == DP_ARCH_GPT2 && dp_model_q_width(&w->c) != w->c.dim)
        DP_FAIL(e, CONFIG, "llama.cpp has no gpt2 with heads * head_dim other than dim: the model can't be exported");
    dp_buf_add(b, "GGUF", 4);
    put_number(b, 3, 4);
    put_number(b, w->layout.count, 8);
    put_number(b, 0, 8);
    put_model(&k, &w->c, type, name);
    DP_TRY(dp_tokenizer_gguf_fields(t, (uint32_t)w->c.vocab, b, &k.n, e));
    DP_TRY(put_infos(w, type, b, e));
    while (b->len % ALIGNMENT && !b->full) dp_buf_add_char(b, 0);
    DP_TRY(dp_buf_check(b, "a GGUF file's header", e));
    for (size_t i = 0; i < 8; i++) b->ptr[16 + i] = (char)(k.n >> 8 * i);
    return DP_OK;
}

static int add_bytes(void *ctx, const void *p, size_t n, struct dp_err *e)
{
    return dp_out_add(ctx, p, n, e);
}

static bool rotated(const struct dp_weights *w, const struct dp_param *p)
{
    return w->c.arch == DP_ARCH_LLAMA && !w->c.qk_norm && (strstr(p->name, ".q_proj.") || strstr(p->name, ".k_proj."));
}

static int write_data(const struct dp_weights *w, enum dp_weights_type type, struct dp_out *out, struct dp_err *e)
{
    static const char zeros[ALIGNMENT];
    for (size_t i = 0; i < w->layout.count; i++) {
        const struct dp_param *p = &w->layout.params[i];
        struct dp_weights_part part = {.name = p->name, .p = w->p + p->offset, .rows = p->rows, .cols = p->cols ? p->cols : 1,
                                       .head_dim = dp_model_head_dim(&w->c), .order = rotated(w, p) ? DP_WEIGHTS_PAIRS : DP_WEIGHTS_PLAIN,
                                       .type = type_of(w, p, type)};
        uint64_t n = dp_param_count(p) * dp_weights_bytes(part.type);
        DP_TRY(dp_weights_emit(&part, add_bytes, out, e));
        DP_TRY(dp_out_add(out, zeros, (size_t)(padded(n) - n), e));
    }
    return dp_out_finish(out, NULL, e);
}

int dp_export_gguf(struct dp_weights *w, enum dp_weights_type type, const struct dp_tokenizer *t, const char *name, const char *path,
                   struct dp_err *e)
{
    struct dp_buf header;
    struct dp_out *out = NULL;
    dp_buf_init(&header, (size_t)1 << 30);
    dp_weights_fold_mup(w);
    int rc = build_header(w, type, t, name, &header, e);
    if (rc >= 0) rc = dp_out_open(&out, path, false, e);
    if (rc >= 0) {
        rc = dp_out_add(out, header.ptr, header.len, e);
        if (rc >= 0) rc = write_data(w, type, out, e);
        dp_out_close(out);
        if (rc < 0) (void)unlink(path);
    }
    dp_buf_release(&header);
    return rc;
}

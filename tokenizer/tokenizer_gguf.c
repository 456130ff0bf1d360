/* tokenizer/tokenizer_gguf.c - the tokenizer in a GGUF file's metadata, read and written.
 *
 * GGUF version 3, little-endian: "GGUF", u32 version, u64 tensors, u64 pairs, then pairs of a string (u64 length, bytes) and a value (u32 type,
 * value; an array is u32 type of its items, u64 count, items). Tensors follow; what is written has none. Read are versions 2 and 3, and of
 * a file only what is before its tensors' data.
 *   tokenizer.ggml.model              "gpt2": byte-level BPE; "llama": a sentencepiece model
 *   tokenizer.ggml.pre                the pre-tokenizer, by llama.cpp's name
 *   tokenizer.ggml.tokens, token_type, merges, scores, *_token_id, add_space_prefix, remove_extra_whitespaces, precompiled_charsmap
 * An id without a token is written as [PAD<id>] of type unused, as llama.cpp's converters do, and such are no tokens when read.
 * GGUF has no place for a normalizer and for lstrip, rstrip and single_word: llama.cpp doesn't know them for BPE. */
#include "tokenizer/sp.h"

#include <stdio.h>
#include <stdlib.h>

enum type { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STRING, T_ARRAY, T_U64, T_I64, T_F64, T_COUNT };
static const uint8_t type_bytes[T_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* llama.cpp's names of pre-tokenizers, the one that is written first. */
static const struct {
    const char *pre, *split;
    bool ignore_merges;
} known[] = {
    {"gpt-2", "gpt2", false},      {"llama-bpe", "cl100k", true},  {"llama3", "cl100k", true},   {"llama-v3", "cl100k", true}, {"dbrx", "cl100k", false},
    {"smaug-bpe", "cl100k", false}, {"gpt-4o", "o200k", false},     {"llama4", "o200k", false},   {"qwen2", "qwen2", false},
    {"qwen35", "qwen3.5", false},  {"tekken", "tekken", true},      {"deepseek-v3", "deepseek-v3", false},
};
enum { KNOWN = sizeof known / sizeof *known };

/* ---- reading ---- */

struct value {
    uint32_t type, item; /* item: of an array */
    uint64_t count;      /* of an array; 1 */
    struct dp_span at;   /* numbers, or the text of a string, or the items of an array */
};

struct reader {
    struct dp_span s;
    size_t at;
    const char *name;
    struct value model, pre, tokens, types, merges, scores, bos, eos, unk, pad, space_prefix, remove_spaces, charsmap;
};

static int cut_short(const struct reader *r, struct dp_err *e)
{
    DP_FAIL(e, CORRUPT, "%s: offset %zu: the GGUF metadata is cut short or damaged", r->name, r->at);
}

static uint64_t number_at(const char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)(uint8_t)p[i] << 8 * i;
    return v;
}

static int get_number(struct reader *r, size_t n, uint64_t *v, struct dp_err *e)
{
    if (r->s.len - r->at < n) return cut_short(r, e);
    *v = number_at(r->s.ptr + r->at, n);
    r->at += n;
    return DP_OK;
}

static int get_string(struct reader *r, struct dp_span *out, struct dp_err *e)
{
    uint64_t n = 0;
    DP_TRY(get_number(r, 8, &n, e));
    if (n > r->s.len - r->at) return cut_short(r, e);
    *out = dp_span(r->s.ptr + r->at, (size_t)n);
    r->at += (size_t)n;
    return DP_OK;
}

static int get_items(struct reader *r, uint32_t type, uint64_t n, struct dp_err *e)
{
    struct dp_span text;
    if (type >= T_COUNT || type == T_ARRAY) return cut_short(r, e); /* arrays of arrays have no use here, and aren't written by anybody */
    if (type != T_STRING) {
        if (n > (r->s.len - r->at) / type_bytes[type]) return cut_short(r, e);
        r->at += (size_t)n * type_bytes[type];
        return DP_OK;
    }
    if (n > (r->s.len - r->at) / 8) return cut_short(r, e);
    for (uint64_t i = 0; i < n; i++) DP_TRY(get_string(r, &text, e));
    return DP_OK;
}

static int get_value(struct reader *r, struct value *v, struct dp_err *e)
{
    uint64_t type = 0, item = 0;
    *v = (struct value){.count = 1};
    DP_TRY(get_number(r, 4, &type, e));
    if (type == T_ARRAY) {
        DP_TRY(get_number(r, 4, &item, e));
        DP_TRY(get_number(r, 8, &v->count, e));
    }
    v->type = (uint32_t)type;
    v->item = (uint32_t)item;
    size_t from = r->at;
    DP_TRY(get_items(r, type == T_ARRAY ? v->item : v->type, v->count, e));
    v->at = dp_span(r->s.ptr + from, r->at - from);
    if (type == T_STRING) v->at = dp_span(v->at.ptr + 8, v->at.len - 8);
    return DP_OK;
}

static int read_pairs(struct reader *r, struct dp_err *e)
{
    struct {
        const char *key;
        struct value *to;
    } wanted[] = {{"model", &r->model}, {"pre", &r->pre}, {"tokens", &r->tokens}, {"token_type", &r->types}, {"merges", &r->merges},
                  {"scores", &r->scores}, {"bos_token_id", &r->bos}, {"eos_token_id", &r->eos}, {"unknown_token_id", &r->unk},
                  {"padding_token_id", &r->pad}, {"add_space_prefix", &r->space_prefix}, {"remove_extra_whitespaces", &r->remove_spaces},
                  {"precompiled_charsmap", &r->charsmap}};
    static const char prefix[] = "tokenizer.ggml.";
    uint64_t version = 0, tensors = 0, pairs = 0;
    r->at = 4;
    DP_TRY(get_number(r, 4, &version, e));
    if (version != 2 && version != 3)
        DP_FAIL(e, CONFIG, "%s: GGUF version %llu%s; versions 2 and 3 are read", r->name, (unsigned long long)version,
                version > 0xffff ? " (big-endian)" : "");
    DP_TRY(get_number(r, 8, &tensors, e));
    DP_TRY(get_number(r, 8, &pairs, e));
    for (uint64_t i = 0; i < pairs; i++) {
        struct dp_span key;
        struct value v;
        DP_TRY(get_string(r, &key, e));
        DP_TRY(get_value(r, &v, e));
        if (key.len <= sizeof prefix - 1 || memcmp(key.ptr, prefix, sizeof prefix - 1) != 0) continue;
        key = dp_span(key.ptr + sizeof prefix - 1, key.len - (sizeof prefix - 1));
        for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
            if (dp_span_is(key, wanted[k].key)) *wanted[k].to = v;
    }
    return DP_OK;
}

static int64_t whole(const struct value *v, int64_t otherwise)
{
    if (!v->at.ptr || v->type == T_STRING || v->type == T_ARRAY || v->type == T_F32 || v->type == T_F64) return otherwise;
    uint64_t x = number_at(v->at.ptr, v->at.len);
    return x > INT32_MAX ? otherwise : (int64_t)x;
}

static bool is_array(const struct value *v, uint32_t item)
{
    return v->at.ptr && v->type == T_ARRAY && v->item == item;
}

/* The strings of an array, which get_items has walked over already. */
static struct dp_span *take_strings(const struct value *v)
{
    struct dp_span *out = calloc((size_t)v->count + 1, sizeof *out);
    const char *p = v->at.ptr;
    for (uint64_t i = 0; out && i < v->count; i++) {
        size_t n = (size_t)number_at(p, 8);
        out[i] = dp_span(p + 8, n);
        p += 8 + n;
    }
    return out;
}

static int find_split(const struct reader *r, const char *split, struct dp_vocab_files *f, struct dp_err *e)
{
    if (split) return dp_splitter_parse(&f->splitter, &f->split, dp_span_str(split), e);
    struct dp_span pre = r->pre.type == T_STRING ? r->pre.at : dp_span_str("");
    for (int i = 0; i < KNOWN; i++) {
        if (!dp_span_is(pre, known[i].pre)) continue;
        f->ignore_merges = known[i].ignore_merges;
        return dp_splitter_parse(&f->splitter, &f->split, dp_span_str(known[i].split), e);
    }
    DP_FAIL(e, CONFIG, "%s: the pre-tokenizer '%.*s' (tokenizer.ggml.pre) isn't known; name a split if it is one we have", r->name, DP_SPAN_FMT(pre));
}

static bool is_filler(struct dp_span text, uint32_t id)
{
    char name[24];
    int n = snprintf(name, sizeof name, "[PAD%u]", id);
    return dp_span_eq(text, dp_span(name, (size_t)n));
}

static int load_bpe(const struct reader *r, struct dp_span *tokens, struct dp_span *merges, const char *split, struct dp_tokenizer **out, struct dp_err *e)
{
    struct dp_vocab_files f = {.tokens = tokens, .token_count = (uint32_t)r->tokens.count, .merge = merges, .merge_count = (size_t)r->merges.count,
                               .vocab_name = r->name};
    struct dp_special *specials = calloc((size_t)r->tokens.count + 1, sizeof *specials);
    if (!specials) DP_FAIL(e, NOMEM, "%s: tokens", r->name);
    f.specials = specials;
    int rc = find_split(r, split, &f, e);
    for (uint32_t i = 0; rc >= 0 && i < f.token_count; i++) {
        uint64_t type = r->types.at.ptr ? number_at(r->types.at.ptr + 4 * (size_t)i, 4) : DP_SP_NORMAL;
        if (!tokens[i].len) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: the token %u has no text", r->name, i);
        if (type == DP_SP_UNUSED && is_filler(tokens[i], i)) tokens[i].ptr = NULL;
        else if (type == DP_SP_CONTROL || type == DP_SP_UNKNOWN || type == DP_SP_USER_DEFINED)
            specials[f.special_count++] = (struct dp_special){tokens[i], i, type == DP_SP_USER_DEFINED ? 0 : DP_ADDED_SPECIAL};
    }
    if (rc >= 0) rc = dp_tokenizer_load_vocab(out, &f, e);
    dp_splitter_close(f.splitter);
    free(specials);
    return rc;
}

static int load_sp(const struct reader *r, const struct dp_span *tokens, const char *split, struct dp_tokenizer **out, struct dp_err *e)
{
    struct dp_sp_fields f = {.count = (uint32_t)r->tokens.count, .unk_surface = {" \xE2\x81\x87 ", 5}};
    if (split) DP_FAIL(e, CONFIG, "%s: a sentencepiece model splits by its own rules: leave out the split '%s'", r->name, split);
    if (!is_array(&r->scores, T_F32) || r->scores.count != r->tokens.count || !r->types.at.ptr)
        DP_FAIL(e, CORRUPT, "%s: a model 'llama' without a score and a type for each token", r->name);
    f.piece = calloc(f.count + 1, sizeof *f.piece);
    if (!f.piece) DP_FAIL(e, NOMEM, "%s: tokens", r->name);
    for (uint32_t i = 0; i < f.count; i++) {
        uint32_t bits = (uint32_t)number_at(r->scores.at.ptr + 4 * (size_t)i, 4), type = (uint32_t)number_at(r->types.at.ptr + 4 * (size_t)i, 4);
        f.piece[i] = (struct dp_sp_piece){.text = tokens[i], .type = type < 256 ? (uint8_t)type : 0};
        memcpy(&f.piece[i].score, &bits, 4);
        f.byte_fallback = f.byte_fallback || type == DP_SP_BYTE;
    }
    f.rules = (struct dp_sp_rules){.add_dummy_prefix = whole(&r->space_prefix, 1) != 0,
                                   .remove_extra_whitespaces = whole(&r->remove_spaces, 0) != 0,
                                   .escape_whitespaces = true,
                                   .charsmap = is_array(&r->charsmap, T_U8) || is_array(&r->charsmap, T_I8) ? r->charsmap.at : (struct dp_span){NULL, 0}};
    f.bos = whole(&r->bos, 1);
    f.eos = whole(&r->eos, 2);
    f.pad = whole(&r->pad, -1);
    int rc = dp_sp_tokenizer(out, &f, r->name, e);
    free(f.piece);
    return rc;
}

int dp_tokenizer_load_gguf(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e)
{
    struct reader r = {.s = content, .name = name};
    *out = NULL;
    if (content.len < 4 || memcmp(content.ptr, "GGUF", 4) != 0) DP_FAIL(e, CORRUPT, "%s: no GGUF file", name);
    DP_TRY(read_pairs(&r, e));
    bool bpe = r.model.type == T_STRING && dp_span_is(r.model.at, "gpt2"), sp = r.model.type == T_STRING && dp_span_is(r.model.at, "llama");
    if (!r.model.at.ptr || !is_array(&r.tokens, T_STRING)) DP_FAIL(e, CONFIG, "%s: the GGUF file has no tokenizer (tokenizer.ggml.model and tokens)", name);
    if (!bpe && !sp)
        DP_FAIL(e, CONFIG, "%s: a GGUF tokenizer of model '%.*s'; gpt2 (byte-level BPE) and llama (sentencepiece BPE) are supported", name,
                DP_SPAN_FMT(r.model.type == T_STRING ? r.model.at : dp_span_str("")));
    if (r.tokens.count > DP_TOKENIZER_IDS_MAX) DP_FAIL(e, LIMIT, "%s: %llu tokens; at most 2097152", name, (unsigned long long)r.tokens.count);
    if (r.types.at.ptr && ((!is_array(&r.types, T_I32) && !is_array(&r.types, T_U32)) || r.types.count != r.tokens.count))
        DP_FAIL(e, CORRUPT, "%s: %llu tokens, and %llu types of tokens", name, (unsigned long long)r.tokens.count, (unsigned long long)r.types.count);
    if (bpe && !is_array(&r.merges, T_STRING)) DP_FAIL(e, CORRUPT, "%s: a model 'gpt2' without tokenizer.ggml.merges", name);
    struct dp_span *tokens = take_strings(&r.tokens), *merges = bpe ? take_strings(&r.merges) : NULL;
    int rc = !tokens || (bpe && !merges) ? dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s: tokens", name) : DP_OK;
    if (rc >= 0) rc = bpe ? load_bpe(&r, tokens, merges, split, out, e) : load_sp(&r, tokens, split, out, e);
    free(tokens);
    free(merges);
    return rc;
}

/* ---- writing ---- */

struct writer {
    const struct dp_tokenizer *t;
    struct dp_buf *out;
    uint32_t rows; /* of the list of tokens; at least as many as there are */
    uint64_t pairs, merges;
    struct dp_buf merge; /* texts, each with its length before it */
};

static void put_number(struct dp_buf *b, uint64_t v, size_t n)
{
    char bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(v >> 8 * i);
    dp_buf_add(b, bytes, n);
}

static void put_string(struct dp_buf *b, struct dp_span s)
{
    put_number(b, s.len, 8);
    dp_buf_add_span(b, s);
}

static void put_key(struct writer *w, const char *key, uint32_t type)
{
    put_string(w->out, dp_span_str(key));
    put_number(w->out, type, 4);
    w->pairs++;
}

static void put_array(struct writer *w, const char *key, uint32_t item, uint64_t n)
{
    put_key(w, key, T_ARRAY);
    put_number(w->out, item, 4);
    put_number(w->out, n, 8);
}

static void put_text(struct writer *w, const char *key, const char *text)
{
    put_key(w, key, T_STRING);
    put_string(w->out, dp_span_str(text));
}

static void put_id(struct writer *w, const char *key, int64_t id)
{
    if (id < 0) return;
    put_key(w, key, T_U32);
    put_number(w->out, (uint64_t)id, 4);
}

static void put_flag(struct writer *w, const char *key, bool v)
{
    put_key(w, key, T_BOOL);
    dp_buf_add_char(w->out, v);
}

static void put_merge(void *ctx, uint32_t left, uint32_t right)
{
    struct writer *w = ctx;
    struct dp_buf *b = &w->merge;
    size_t at = b->len;
    put_number(b, 0, 8);
    dp_byte_level_write(b, w->t->bytes[left]);
    dp_buf_add_char(b, ' ');
    dp_byte_level_write(b, w->t->bytes[right]);
    for (size_t i = 0; i < 8 && !b->full; i++) b->ptr[at + i] = (char)((b->len - at - 8) >> 8 * i);
    w->merges++;
}

static int find_pre(const struct dp_tokenizer *t, const char **pre, struct dp_err *e)
{
    bool whole_words = false;
    DP_TRY(dp_tokenizer_whole_words(t, &whole_words, e));
    const char *split = t->splitter ? "of its own" : dp_split_name(t->split);
    for (int pass = 0; pass < 2; pass++) /* what the file says of ignore_merges first; else what gives the same ids */
        for (int i = 0; i < KNOWN; i++)
            if (!t->splitter && strcmp(known[i].split, split) == 0 && (known[i].ignore_merges == t->ignore_merges || (pass && !whole_words))) {
                *pre = known[i].pre;
                return DP_OK;
            }
    DP_FAIL(e, CONFIG, "llama.cpp has no pre-tokenizer for the split '%s'%s: GGUF can't hold this vocabulary", split,
            whole_words ? " with tokens that are only found as whole words" : "");
}

static uint32_t token_type(const struct dp_tokenizer *t, const uint8_t *added, uint32_t id)
{
    if (id >= t->size || !t->bytes[id].ptr) return DP_SP_UNUSED;
    return added[id] ? added[id] : DP_SP_NORMAL;
}

static int put_bpe_tokens(struct writer *w, struct dp_err *e)
{
    const struct dp_tokenizer *t = w->t;
    uint8_t *added = calloc(t->size + 1, 1);
    struct dp_buf text;
    if (!added) DP_FAIL(e, NOMEM, "writing GGUF");
    for (size_t i = 0; i < t->special_count; i++)
        added[t->specials[i].id] = t->specials[i].flags & DP_ADDED_SPECIAL ? DP_SP_CONTROL : DP_SP_USER_DEFINED;
    dp_buf_init(&text, DP_TOKENIZER_FILE_BYTES_MAX);
    put_array(w, "tokenizer.ggml.tokens", T_STRING, w->rows);
    for (uint32_t i = 0; i < w->rows && !text.full; i++) {
        dp_buf_clear(&text);
        if (i >= t->size || !t->bytes[i].ptr) dp_buf_printf(&text, "[PAD%u]", i);
        else if (t->is_special[i]) dp_buf_add_span(&text, t->bytes[i]);
        else dp_byte_level_write(&text, t->bytes[i]);
        put_string(w->out, dp_buf_span(&text));
    }
    int rc = dp_buf_check(&text, "a token", e);
    put_array(w, "tokenizer.ggml.token_type", T_I32, w->rows);
    for (uint32_t i = 0; i < w->rows; i++) put_number(w->out, token_type(t, added, i), 4);
    dp_buf_release(&text);
    free(added);
    return rc;
}

static int put_bpe(struct writer *w, struct dp_err *e)
{
    const char *pre = NULL;
    for (size_t i = 0; i < w->t->special_count; i++)
        if (w->t->specials[i].flags & (DP_ADDED_LSTRIP | DP_ADDED_RSTRIP | DP_ADDED_SINGLE_WORD))
            DP_FAIL(e, CONFIG, "the added token '%.*s' asks for lstrip, rstrip or single_word, which GGUF can't say", DP_SPAN_FMT(w->t->specials[i].text));
    DP_TRY(find_pre(w->t, &pre, e));
    put_text(w, "tokenizer.ggml.model", "gpt2");
    put_text(w, "tokenizer.ggml.pre", pre);
    DP_TRY(put_bpe_tokens(w, e));
    int rc = dp_tokenizer_each_merge(w->t, put_merge, w, e);
    if (rc >= 0) rc = dp_buf_check(&w->merge, "merges", e);
    if (rc < 0) return rc;
    put_array(w, "tokenizer.ggml.merges", T_STRING, w->merges);
    dp_buf_add_span(w->out, dp_buf_span(&w->merge));
    int64_t eot = dp_tokenizer_eot(w->t);
    put_id(w, "tokenizer.ggml.bos_token_id", eot);
    put_id(w, "tokenizer.ggml.eos_token_id", eot);
    return DP_OK;
}

static int put_sp(struct writer *w, struct dp_err *e)
{
    const struct dp_sp *s = w->t->sp;
    const struct dp_sp_fields *f = &s->f;
    if (f->merges) DP_FAIL(e, CONFIG, "this tokenizer.json has a list of merges, which scores needn't give: convert the .model that it was made from");
    if (!f->rules.escape_whitespaces || f->rules.whitespace_as_suffix)
        DP_FAIL(e, CONFIG, "the sentencepiece model doesn't write spaces as U+2581 before words, which GGUF can't say");
    put_text(w, "tokenizer.ggml.model", "llama");
    put_text(w, "tokenizer.ggml.pre", "default");
    put_array(w, "tokenizer.ggml.tokens", T_STRING, w->rows);
    for (uint32_t i = 0; i < w->rows; i++) {
        char filler[24];
        if (i >= f->count) snprintf(filler, sizeof filler, "[PAD%u]", i);
        put_string(w->out, i < f->count ? f->piece[i].text : dp_span_str(filler));
    }
    put_array(w, "tokenizer.ggml.scores", T_F32, w->rows);
    for (uint32_t i = 0; i < w->rows; i++) {
        float score = i < f->count ? f->piece[i].score : -10000.0f;
        uint32_t bits;
        memcpy(&bits, &score, 4);
        put_number(w->out, bits, 4);
    }
    put_array(w, "tokenizer.ggml.token_type", T_I32, w->rows);
    for (uint32_t i = 0; i < w->rows; i++) put_number(w->out, i < f->count ? f->piece[i].type : DP_SP_UNUSED, 4);
    put_id(w, "tokenizer.ggml.bos_token_id", f->bos);
    put_id(w, "tokenizer.ggml.eos_token_id", f->eos);
    put_id(w, "tokenizer.ggml.unknown_token_id", s->unk);
    put_id(w, "tokenizer.ggml.padding_token_id", f->pad);
    put_flag(w, "tokenizer.ggml.add_space_prefix", f->rules.add_dummy_prefix);
    put_flag(w, "tokenizer.ggml.remove_extra_whitespaces", f->rules.remove_extra_whitespaces);
    if (f->rules.charsmap.len) {
        put_array(w, "tokenizer.ggml.precompiled_charsmap", T_U8, f->rules.charsmap.len);
        dp_buf_add_span(w->out, f->rules.charsmap);
    }
    return DP_OK;
}

int dp_tokenizer_gguf_fields(const struct dp_tokenizer *t, uint32_t rows, struct dp_buf *out, uint64_t *pairs, struct dp_err *e)
{
    struct writer w = {.t = t, .out = out, .rows = rows};
    uint32_t size = t->sp ? t->sp->f.count : t->size;
    if (rows < size) DP_FAIL(e, CONFIG, "a tokenizer of %u tokens for %u rows of an embedding: it isn't the model's", size, rows);
    dp_buf_init(&w.merge, DP_TOKENIZER_FILE_BYTES_MAX);
    int rc = t->sp ? put_sp(&w, e) : put_bpe(&w, e);
    if (rc >= 0) rc = dp_buf_check(out, "a GGUF file", e);
    *pairs += w.pairs;
    dp_buf_release(&w.merge);
    return rc;
}

int dp_tokenizer_save_gguf(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e)
{
    enum { ALIGNMENT = 32 };
    struct writer w = {.t = t, .out = out};
    size_t begin = out->len;
    dp_buf_add(out, "GGUF", 4);
    put_number(out, 3, 4);
    put_number(out, 0, 8);
    put_number(out, 0, 8);
    put_text(&w, "general.architecture", t->sp ? "llama" : "gpt2");
    int rc = dp_tokenizer_gguf_fields(t, dp_tokenizer_size(t), out, &w.pairs, e);
    while ((out->len - begin) % ALIGNMENT && !out->full) dp_buf_add_char(out, 0);
    if (rc >= 0) rc = dp_buf_check(out, "a GGUF file", e);
    for (size_t i = 0; rc >= 0 && i < 8; i++) out->ptr[begin + 16 + i] = (char)(w.pairs >> 8 * i);
    return rc;
}

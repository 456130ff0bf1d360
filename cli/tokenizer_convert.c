/* tokenizer convert: a tokenizer written in another format. What the format can't say is refused by the writers, never dropped. */
#include "base/fs.h"
#include "base/json.h"
#include "cli/tokenizer_verbs.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

enum format { FORMAT_AUTO, FORMAT_HF, FORMAT_TIKTOKEN, FORMAT_VOCAB, FORMAT_GGUF, FORMAT_SP };

typedef int (*save_fn)(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e);

static bool ends_with(const char *s, const char *end)
{
    size_t a = strlen(s), b = strlen(end);
    return a >= b && strcmp(s + a - b, end) == 0;
}

static int find_format(const struct dp_tokenizer_args *o, enum format *to, struct dp_err *e)
{
    static const struct {
        const char *end;
        enum format format;
    } ends[] = {{".json", FORMAT_HF}, {".tiktoken", FORMAT_TIKTOKEN}, {".gguf", FORMAT_GGUF}, {".model", FORMAT_SP}};
    *to = (enum format)o->to;
    for (size_t i = 0; *to == FORMAT_AUTO && i < sizeof ends / sizeof *ends; i++)
        if (ends_with(o->output, ends[i].end)) *to = ends[i].format;
    if (*to == FORMAT_AUTO) DP_FAIL(e, USAGE, "tokenizer convert: the name '%s' doesn't say a format: add --to hf|tiktoken|vocab|gguf|sp", o->output);
    return DP_OK;
}

static int write_buf(const char *dir, const char *name, struct dp_buf *b, struct dp_err *e)
{
    char *path = dp_fs_join(dir, name);
    if (!path) DP_FAIL(e, NOMEM, "%s", name);
    int rc = dp_buf_check(b, name, e);
    if (rc >= 0) rc = dp_fs_write_atomic(path, dp_buf_span(b), e);
    free(path);
    return rc;
}

static int write_saved(const struct dp_tokenizer *t, save_fn save, const char *dir, const char *name, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, (size_t)1 << 30);
    int rc = save(t, &b, e);
    if (rc >= 0) rc = write_buf(dir, name, &b, e);
    dp_buf_release(&b);
    return rc;
}

/* bos_token, eos_token and unk_token: the end of text, as GPT-2 has it, but for a sentencepiece model's own; null keeps transformers from adding one. */
static void put_named(struct dp_jsonw *w, const struct dp_tokenizer *t, bool nulls)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token"};
    const bool sp = dp_tokenizer_is_sp(t);
    int64_t eot = dp_tokenizer_eot(t), bos = sp ? dp_tokenizer_special(t, dp_span_str("<s>")) : eot, unk = sp ? dp_tokenizer_special(t, dp_span_str("<unk>")) : eot;
    if (sp && bos < 0) bos = dp_tokenizer_special(t, dp_span_str("<bos>"));
    const int64_t ids[] = {bos, eot, unk};
    for (int i = 0; i < 3; i++) {
        if (ids[i] < 0 && !nulls) continue;
        dp_jsonw_key(w, names[i]);
        if (ids[i] < 0) dp_jsonw_null(w);
        else dp_jsonw_str(w, dp_tokenizer_bytes(t, (uint32_t)ids[i]));
    }
}

static void put_config(struct dp_jsonw *w, const struct dp_tokenizer *t, const char *class)
{
    size_t n;
    const struct dp_special *s = dp_tokenizer_specials(t, &n);
    char id[16];
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "tokenizer_class");
    dp_jsonw_cstr(w, class);
    dp_jsonw_member_bool(w, "add_prefix_space", false);
    dp_jsonw_member_bool(w, "clean_up_tokenization_spaces", false);
    put_named(w, t, true);
    dp_jsonw_key(w, "added_tokens_decoder");
    dp_jsonw_begin(w, '{');
    for (size_t i = 0; i < n; i++) {
        snprintf(id, sizeof id, "%u", s[i].id);
        dp_jsonw_key(w, id);
        dp_jsonw_begin(w, '{');
        dp_jsonw_key(w, "content");
        dp_jsonw_str(w, s[i].text);
        dp_jsonw_member_bool(w, "lstrip", s[i].flags & DP_ADDED_LSTRIP);
        dp_jsonw_member_bool(w, "normalized", s[i].flags & DP_ADDED_NORMALIZED);
        dp_jsonw_member_bool(w, "rstrip", s[i].flags & DP_ADDED_RSTRIP);
        dp_jsonw_member_bool(w, "single_word", s[i].flags & DP_ADDED_SINGLE_WORD);
        dp_jsonw_member_bool(w, "special", s[i].flags & DP_ADDED_SPECIAL);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, '}');
    dp_jsonw_end(w, '}');
}

/* What transformers reads beside: tokenizer_config.json, special_tokens_map.json, and added_tokens.json for what vocab.json hasn't got. */
static int write_beside(const struct dp_tokenizer *t, const char *class, bool added, const char *dir, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    size_t n, outside = 0;
    const struct dp_special *s = dp_tokenizer_specials(t, &n);
    dp_buf_init(&b, (size_t)1 << 30);
    dp_jsonw_init(&w, &b, 2);
    put_config(&w, t, class);
    int rc = write_buf(dir, "tokenizer_config.json", &b, e);
    dp_buf_clear(&b);
    dp_jsonw_init(&w, &b, 2);
    dp_jsonw_begin(&w, '{');
    put_named(&w, t, false);
    dp_jsonw_end(&w, '}');
    if (rc >= 0) rc = write_buf(dir, "special_tokens_map.json", &b, e);
    dp_buf_clear(&b);
    dp_jsonw_init(&w, &b, 2);
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < n; i++) {
        if (!(s[i].flags & DP_ADDED_OUTSIDE)) continue;
        dp_jsonw_key_span(&w, s[i].text);
        dp_jsonw_uint(&w, s[i].id);
        outside++;
    }
    dp_jsonw_end(&w, '}');
    if (rc >= 0 && added && outside) rc = write_buf(dir, "added_tokens.json", &b, e);
    dp_buf_release(&b);
    return rc;
}

/* The class of transformers that has this split and normalizer. */
static int find_class(const struct dp_tokenizer *t, const char **class, struct dp_err *e)
{
    bool whole = false;
    if (dp_tokenizer_is_sp(t)) DP_FAIL(e, CONFIG, "a sentencepiece model can't be written as vocab.json and merges.txt");
    DP_TRY(dp_tokenizer_whole_words(t, &whole, e));
    whole = whole && dp_tokenizer_ignore_merges(t);
    *class = NULL;
    if (dp_tokenizer_split(t) == DP_SPLIT_GPT2 && dp_tokenizer_normal(t) == DP_NORMAL_NONE) *class = "GPT2Tokenizer";
    if (dp_tokenizer_split(t) == DP_SPLIT_QWEN2 && dp_tokenizer_normal(t) == DP_NORMAL_NFC) *class = "Qwen2Tokenizer";
    if (!*class || whole)
        DP_FAIL(e, CONFIG,
                "vocab.json and merges.txt hold the gpt2 split without a normalizer, or qwen2 with NFC, and merges that reach every token; this "
                "tokenizer (split %s%s%s) needs tokenizer.json: --to hf",
                dp_split_name(dp_tokenizer_split(t)), dp_tokenizer_normal(t) == DP_NORMAL_NFC ? ", NFC" : "", whole ? ", ignore_merges" : "");
    return DP_OK;
}

static int write_vocab(const struct dp_tokenizer *t, const char *dir, struct dp_err *e)
{
    const char *class = NULL;
    DP_TRY(find_class(t, &class, e));
    DP_TRY(dp_fs_mkdirs(dir, e));
    DP_TRY(write_saved(t, dp_tokenizer_save_vocab, dir, "vocab.json", e));
    DP_TRY(write_saved(t, dp_tokenizer_save_merges, dir, "merges.txt", e));
    return write_beside(t, class, true, dir, e);
}

int dp_tokenizer_write_folder(const struct dp_tokenizer *t, const char *dir, struct dp_err *e)
{
    DP_TRY(dp_fs_mkdirs(dir, e));
    DP_TRY(write_saved(t, dp_tokenizer_save_hf, dir, "tokenizer.json", e));
    return write_beside(t, "PreTrainedTokenizerFast", false, dir, e);
}

static int write_hf(const struct dp_tokenizer *t, const char *path, struct dp_err *e)
{
    if (!ends_with(path, "/") && !dp_fs_is_folder(path)) return write_saved(t, dp_tokenizer_save_hf, "", path, e);
    return dp_tokenizer_write_folder(t, path, e);
}

int dp_tokenizer_convert(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e)
{
    static const save_fn saves[] = {[FORMAT_TIKTOKEN] = dp_tokenizer_save_tiktoken, [FORMAT_GGUF] = dp_tokenizer_save_gguf, [FORMAT_SP] = dp_tokenizer_save_sp};
    struct dp_tokenizer *t;
    enum format to = FORMAT_AUTO;
    (void)c, (void)n;
    if (!o->output || !*o->output) DP_FAIL(e, USAGE, "tokenizer convert: where to? add -o FILE or FOLDER");
    DP_TRY(find_format(o, &to, e));
    DP_TRY(dp_tokenizer_load_file(&t, args[0], o->split, e));
    int rc = to == FORMAT_HF ? write_hf(t, o->output, e) : to == FORMAT_VOCAB ? write_vocab(t, o->output, e) : write_saved(t, saves[to], "", o->output, e);
    dp_tokenizer_free(t);
    return rc < 0 ? dp_err_prefix(e, "%s", o->output) : rc;
}

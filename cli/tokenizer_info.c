#include "base/json.h"
#include "cli/tokenizer_verbs.h"
#include "tokenizer/tokenizer.h"

/* The known split's pattern, or each step of a pre-tokenizer of its own. */
static void put_split(struct dp_jsonw *w, const struct dp_tokenizer *t)
{
    struct dp_splitter *s = dp_tokenizer_splitter(t);
    dp_jsonw_member(w, "kind", dp_tokenizer_is_sp(t) ? "sentencepiece" : "byte-level");
    if (dp_tokenizer_is_sp(t)) return;
    if (dp_tokenizer_normal(t) == DP_NORMAL_NFC) dp_jsonw_member(w, "normalizer", "NFC");
    dp_jsonw_member(w, "split", dp_split_name(dp_tokenizer_split(t)));
    if (!s) {
        dp_jsonw_member(w, "pattern", dp_split_pattern(dp_tokenizer_split(t)));
        return;
    }
    dp_jsonw_key(w, "steps");
    dp_jsonw_begin(w, '[');
    size_t n;
    dp_splitter_steps(s, &n);
    for (size_t i = 0; i < n; i++) dp_jsonw_str(w, dp_splitter_step_text(s, i));
    dp_jsonw_end(w, ']');
}

int dp_tokenizer_info(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e)
{
    struct dp_tokenizer *t;
    struct dp_buf b;
    struct dp_jsonw w;
    char hex[33];
    (void)c, (void)n;
    DP_TRY(dp_tokenizer_load_file(&t, args[0], o->split, e));
    dp_hash128_hex(dp_tokenizer_digest(t), hex);
    dp_buf_init(&b, (size_t)1 << 30);
    dp_jsonw_init(&w, &b, 2);
    dp_jsonw_begin(&w, '{');
    put_split(&w, t);
    dp_jsonw_member_uint(&w, "ids", dp_tokenizer_size(t));
    dp_jsonw_member_uint(&w, "tokens", dp_tokenizer_tokens(t));
    dp_jsonw_member_uint(&w, "merges", dp_tokenizer_merges(t));
    dp_jsonw_key(&w, "ignore_merges");
    dp_jsonw_bool(&w, dp_tokenizer_ignore_merges(t));
    dp_jsonw_member(&w, "digest", hex);
    size_t count;
    const struct dp_special *s = dp_tokenizer_specials(t, &count);
    dp_jsonw_key(&w, "special_tokens");
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < count; i++) {
        dp_jsonw_key_span(&w, s[i].text);
        dp_jsonw_uint(&w, s[i].id);
    }
    dp_jsonw_end(&w, '}');
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    dp_tokenizer_free(t);
    return rc;
}

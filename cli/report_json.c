#include "cli/token_report.h"

#include <math.h>

/* Six digits are enough, and the same on every machine. */
static void put_real(struct dp_jsonw *w, const char *key, double v)
{
    dp_jsonw_key(w, key);
    dp_jsonw_real(w, round(v * 1e6) / 1e6);
}

void dp_report_json_group(struct dp_jsonw *w, const struct dp_survey *s, const struct dp_survey_group *g)
{
    if (g->name.ptr) {
        dp_jsonw_key(w, "name");
        dp_jsonw_str(w, g->name);
    }
    dp_jsonw_member_uint(w, "texts", g->texts);
    dp_jsonw_member_uint(w, "bytes", g->bytes);
    dp_jsonw_member_uint(w, "chars", g->chars);
    dp_jsonw_member_uint(w, "words", g->count[0].words);
    dp_jsonw_key(w, "tokenizers");
    dp_jsonw_begin(w, '[');
    for (size_t t = 0; t < s->tokenizers; t++) {
        struct dp_token_rates r = dp_token_rates(g, t);
        dp_jsonw_begin(w, '{');
        dp_jsonw_member(w, "name", s->tokenizer[t].name);
        dp_jsonw_member_uint(w, "tokens", g->count[t].tokens);
        put_real(w, "bytes_per_token", r.bytes_per_token);
        put_real(w, "chars_per_token", r.chars_per_token);
        put_real(w, "fertility", r.fertility);
        put_real(w, "one_token_words", r.whole_words);
        put_real(w, "single_byte_tokens", r.byte_tokens);
        put_real(w, "partial_character_tokens", r.part_tokens);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
}

void dp_report_json_groups(struct dp_jsonw *w, const struct dp_survey *s)
{
    static const char *const names[DP_SURVEY_KINDS] = {"languages", "domains"};
    for (int k = 0; k < DP_SURVEY_KINDS; k++) {
        dp_jsonw_key(w, names[k]);
        dp_jsonw_begin(w, '[');
        for (size_t g = 0; g < s->by[k].n; g++) {
            dp_jsonw_begin(w, '{');
            dp_report_json_group(w, s, &s->by[k].group[g]);
            dp_jsonw_end(w, '}');
        }
        dp_jsonw_end(w, ']');
    }
}

static void lengths(struct dp_jsonw *w, const struct dp_survey_tokenizer *t)
{
    struct dp_report_lengths l;
    dp_report_by_length(t, &l);
    dp_jsonw_key(w, "by_length");
    dp_jsonw_begin(w, '[');
    for (int i = 0; i < DP_REPORT_LENGTHS; i++) {
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_uint(w, i + 1 < DP_REPORT_LENGTHS ? "bytes" : "bytes_min", (uint64_t)i + 1);
        dp_jsonw_member_uint(w, "tokens", l.tokens[i]);
        dp_jsonw_member_uint(w, "used", l.used[i]);
        dp_jsonw_member_uint(w, "count", l.count[i]);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
}

static void one_token(struct dp_jsonw *w, const struct dp_survey_tokenizer *t, uint32_t id)
{
    struct dp_span b = dp_tokenizer_bytes(t->t, id);
    dp_jsonw_begin(w, '{');
    dp_jsonw_member_uint(w, "id", id);
    dp_jsonw_member_uint(w, "bytes", b.len);
    dp_token_put_shown(w, "token", b, DP_SHOWN_TOKEN);
    dp_jsonw_member_uint(w, "count", t->used[id]);
    dp_jsonw_end(w, '}');
}

static void tokenizer(struct dp_jsonw *w, const struct dp_survey_tokenizer *t, bool list_unused)
{
    struct dp_vocabulary_use u;
    uint32_t longest[10];
    char hex[33];
    dp_vocabulary_use(t->t, t->used, &u);
    dp_hash128_hex(dp_tokenizer_digest(t->t), hex);
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "name", t->name);
    dp_jsonw_member(w, "file", t->path);
    dp_jsonw_member(w, "split", dp_report_split(t->t));
    dp_jsonw_member_uint(w, "ids", dp_tokenizer_size(t->t));
    dp_jsonw_member(w, "digest", hex);
    dp_jsonw_member_uint(w, "tokens", u.tokens);
    dp_jsonw_member_uint(w, "unused", u.unused);
    put_real(w, "unused_share", u.tokens ? (double)u.unused / u.tokens : 0);
    put_real(w, "entropy_bits", u.entropy);
    put_real(w, "entropy_efficiency", u.efficiency);
    put_real(w, "renyi_efficiency", u.renyi_efficiency);
    dp_jsonw_key(w, "longest");
    dp_jsonw_begin(w, '[');
    size_t n = dp_report_longest(t, longest, 10);
    for (size_t i = 0; i < n; i++) one_token(w, t, longest[i]);
    dp_jsonw_end(w, ']');
    lengths(w, t);
    if (list_unused) {
        dp_jsonw_key(w, "unused_tokens");
        dp_jsonw_begin(w, '[');
        for (uint32_t i = 0; i < dp_tokenizer_size(t->t); i++)
            if (dp_token_is_ordinary(t->t, i) && !t->used[i]) one_token(w, t, i);
        dp_jsonw_end(w, ']');
    }
    dp_jsonw_end(w, '}');
}

void dp_report_json(const struct dp_survey *s, bool list_unused, struct dp_buf *out)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, out, 2);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "definitions");
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member(&w, "word", "a run of letters, marks and numbers; in scripts written without spaces, each letter");
    dp_jsonw_member(&w, "fertility", "tokens that have a byte of a word, mean over words");
    dp_jsonw_member(&w, "one_token_words", "share of words with one such token");
    dp_jsonw_member(&w, "single_byte_tokens", "share of tokens of one byte");
    dp_jsonw_member(&w, "partial_character_tokens", "share of tokens that aren't whole characters");
    dp_jsonw_member(&w, "entropy_bits", "of the distribution of ordinary tokens; efficiencies are divided by log2 of their number, Renyi's of order 2.5");
    dp_jsonw_end(&w, '}');
    dp_jsonw_key(&w, "tokenizers");
    dp_jsonw_begin(&w, '[');
    for (size_t t = 0; t < s->tokenizers; t++) tokenizer(&w, &s->tokenizer[t], list_unused && t == 0);
    dp_jsonw_end(&w, ']');
    dp_jsonw_key(&w, "all");
    dp_jsonw_begin(&w, '{');
    dp_report_json_group(&w, s, &s->all);
    dp_jsonw_end(&w, '}');
    dp_report_json_groups(&w, s);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(out, '\n');
}

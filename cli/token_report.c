#include "cli/token_report.h"

#include "base/utf8.h"

#include <math.h>

static double ratio(uint64_t a, uint64_t b)
{
    return b ? (double)a / (double)b : (double)NAN;
}

struct dp_token_rates dp_token_rates(const struct dp_survey_group *g, size_t tokenizer)
{
    const struct dp_token_count *c = &g->count[tokenizer];
    return (struct dp_token_rates){ratio(g->bytes, c->tokens),        ratio(g->chars, c->tokens),       ratio(c->word_tokens, c->words),
                                   ratio(c->whole_words, c->words),   ratio(c->byte_tokens, c->tokens), ratio(c->part_tokens, c->tokens)};
}

/* Controls, and what changes the direction of text or can't be seen. */
static bool is_hidden(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || cp == 0xAD || cp == 0x61C || (cp >= 0x200B && cp <= 0x200F) || (cp >= 0x2028 && cp <= 0x202E) ||
           (cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF || (cp >= 0xE000 && cp <= 0xF8FF) || (cp >= 0xFFF0 && cp <= 0xFFFB) || cp >= 0xE0000;
}

void dp_token_show(struct dp_span b, size_t most, struct dp_buf *out)
{
    const char *p = b.ptr, *end = b.ptr + (b.len > most ? most : b.len), *all = b.ptr + b.len;
    dp_buf_add_char(out, '"');
    while (p < end) {
        size_t room = (size_t)(all - p), size = dp_utf8_size((unsigned char)*p);
        if (size > room || dp_utf8_valid_len(p, size) != size) {
            dp_buf_printf(out, "\\x%02x", (unsigned char)*p++);
            continue;
        }
        const char *q = p;
        uint32_t cp = dp_utf8_next(&q);
        if (cp == '\n') dp_buf_add_str(out, "\\n");
        else if (cp == '\t') dp_buf_add_str(out, "\\t");
        else if (cp == '\r') dp_buf_add_str(out, "\\r");
        else if (cp == '"' || cp == '\\') dp_buf_printf(out, "\\%c", (int)cp);
        else if (is_hidden(cp)) dp_buf_printf(out, "\\u{%x}", cp);
        else dp_buf_add(out, p, size);
        p = q;
    }
    dp_buf_add_str(out, p < all ? "...\"" : "\"");
}

void dp_token_put_shown(struct dp_jsonw *w, const char *key, struct dp_span bytes, size_t most)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    dp_token_show(bytes, most, &b);
    dp_jsonw_key(w, key);
    dp_jsonw_str(w, dp_span(b.ptr + 1, b.len - 2)); /* without its quotes */
    dp_buf_release(&b);
}

const char *dp_report_split(const struct dp_tokenizer *t)
{
    return dp_tokenizer_is_sp(t) ? "sentencepiece" : dp_split_name(dp_tokenizer_split(t));
}

size_t dp_report_longest(const struct dp_survey_tokenizer *t, uint32_t *ids, size_t n)
{
    size_t have = 0;
    for (uint32_t i = 0; i < dp_tokenizer_size(t->t); i++) {
        if (!dp_token_is_ordinary(t->t, i)) continue;
        size_t len = dp_tokenizer_bytes(t->t, i).len, at = have;
        while (at > 0 && dp_tokenizer_bytes(t->t, ids[at - 1]).len < len) at--;
        if (at == n) continue;
        size_t behind = have < n ? have - at : n - 1 - at;
        memmove(ids + at + 1, ids + at, behind * sizeof *ids);
        ids[at] = i;
        have += have < n;
    }
    return have;
}

void dp_report_by_length(const struct dp_survey_tokenizer *t, struct dp_report_lengths *out)
{
    *out = (struct dp_report_lengths){{0}, {0}, {0}};
    for (uint32_t i = 0; i < dp_tokenizer_size(t->t); i++) {
        if (!dp_token_is_ordinary(t->t, i)) continue;
        size_t len = dp_tokenizer_bytes(t->t, i).len, at = (len < DP_REPORT_LENGTHS ? len : DP_REPORT_LENGTHS) - 1;
        out->tokens[at]++;
        out->used[at] += t->used[i] > 0;
        out->count[at] += t->used[i];
    }
}

#include "cli/token_report.h"

#include "base/utf8.h"

#include <math.h>
#include <stdio.h>

enum { NAME_CHARS = 24, GROUPS_SHOWN = 20 };

/* A name in a column: what can't be shown is a dot, what is too long is cut. */
static void column(struct dp_buf *out, struct dp_span name, size_t width)
{
    struct dp_buf b;
    size_t chars = 0;
    dp_buf_init(&b, 1 << 20);
    dp_token_show(name, 1 << 16, &b);
    const char *p = b.ptr + 1, *end = b.ptr + b.len - 1;
    while (p < end && chars < width) {
        const char *q = p;
        dp_utf8_next(&q);
        dp_buf_add(out, p, (size_t)(q - p));
        p = q;
        chars++;
    }
    while (chars++ < width) dp_buf_add_char(out, ' ');
    dp_buf_release(&b);
}

static void number(struct dp_buf *out, double v, double scale, int digits, const char *end)
{
    if (isnan(v)) dp_buf_printf(out, " %9s%*s", "-", (int)strlen(end), "");
    else dp_buf_printf(out, " %9.*f%s", digits, v * scale, end);
}

static void rows_of(const struct dp_survey *s, const struct dp_survey_group *g, const char *what, struct dp_buf *out)
{
    for (size_t t = 0; t < s->tokenizers; t++) {
        struct dp_token_rates r = dp_token_rates(g, t);
        char head[64];
        snprintf(head, sizeof head, "%-9s", t ? "" : what);
        dp_buf_add_str(out, head);
        column(out, t ? dp_span("", 0) : g->name.ptr ? g->name : dp_span("", 0), NAME_CHARS);
        dp_buf_add_char(out, ' ');
        column(out, dp_span_str(s->tokenizer[t].name), 14);
        if (t) dp_buf_printf(out, " %8s %13s", "", "");
        else dp_buf_printf(out, " %8llu %13llu", (unsigned long long)g->texts, (unsigned long long)g->bytes);
        dp_buf_printf(out, " %12llu", (unsigned long long)g->count[t].tokens);
        number(out, r.bytes_per_token, 1, 3, "");
        number(out, r.chars_per_token, 1, 3, "");
        number(out, r.fertility, 1, 3, "");
        number(out, r.whole_words, 100, 2, "%");
        number(out, r.byte_tokens, 100, 2, "%");
        number(out, r.part_tokens, 100, 2, "%");
        double first = (double)g->count[0].tokens;
        if (t && first > 0) dp_buf_printf(out, " %+8.1f%%", 100 * ((double)g->count[t].tokens / first - 1));
        dp_buf_add_char(out, '\n');
    }
}

void dp_report_text_groups(const struct dp_survey *s, struct dp_buf *out)
{
    static const char *const names[DP_SURVEY_KINDS] = {"language", "domain"};
    dp_buf_printf(out, "%-9s%-*s %-14s %8s %13s %12s %9s %9s %9s %10s %10s %10s%s\n", "", NAME_CHARS, "", "tokenizer", "texts", "bytes", "tokens", "bytes/tok", "chars/tok",
                  "tok/word", "1-tok word", "1-byte tok", "part char", s->tokenizers > 1 ? "    tokens" : "");
    rows_of(s, &s->all, "all", out);
    for (int k = 0; k < DP_SURVEY_KINDS; k++) {
        for (size_t g = 0; g < s->by[k].n && g < GROUPS_SHOWN; g++) rows_of(s, &s->by[k].group[g], names[k], out);
        if (s->by[k].n > GROUPS_SHOWN) dp_buf_printf(out, "%-9s(%zu more: --json has them)\n", names[k], s->by[k].n - GROUPS_SHOWN);
    }
}

static void tokenizers(const struct dp_survey *s, struct dp_buf *out)
{
    dp_buf_printf(out, "%-14s %-13s %9s %9s %8s %9s %10s %10s  %s\n", "tokenizer", "split", "tokens", "unused", "", "entropy", "efficiency", "Renyi 2.5", "file");
    for (size_t t = 0; t < s->tokenizers; t++) {
        struct dp_vocabulary_use u;
        dp_vocabulary_use(s->tokenizer[t].t, s->tokenizer[t].used, &u);
        column(out, dp_span_str(s->tokenizer[t].name), 14);
        dp_buf_printf(out, " %-13s %9u %9u %7.2f%% %9.4f %10.4f %10.4f  ", dp_report_split(s->tokenizer[t].t), u.tokens, u.unused,
                      100.0 * u.unused / u.tokens, u.entropy, u.efficiency, u.renyi_efficiency);
        dp_buf_printf(out, "%s\n", s->tokenizer[t].path);
    }
}

static void lengths(const struct dp_survey_tokenizer *t, struct dp_buf *out)
{
    struct dp_report_lengths l;
    uint64_t all = 0;
    dp_report_by_length(t, &l);
    for (int i = 0; i < DP_REPORT_LENGTHS; i++) all += l.count[i];
    dp_buf_printf(out, "\n%s: tokens by length in bytes\n%-16s", t->name, "");
    for (int i = 1; i < DP_REPORT_LENGTHS; i++) dp_buf_printf(out, " %6d", i);
    dp_buf_printf(out, " %5d+\n%-16s", DP_REPORT_LENGTHS, "in the vocabulary");
    for (int i = 0; i < DP_REPORT_LENGTHS; i++) dp_buf_printf(out, i ? " %6llu" : "%6llu", (unsigned long long)l.tokens[i]);
    dp_buf_printf(out, "\n%-16s", "unused");
    for (int i = 0; i < DP_REPORT_LENGTHS; i++) dp_buf_printf(out, " %6llu", (unsigned long long)(l.tokens[i] - l.used[i]));
    dp_buf_printf(out, "\n%-16s", "% of the texts'");
    for (int i = 0; i < DP_REPORT_LENGTHS; i++) dp_buf_printf(out, " %6.2f", all ? 100 * (double)l.count[i] / (double)all : 0.0);
    dp_buf_add_char(out, '\n');
}

static void one_token(const struct dp_survey_tokenizer *t, uint32_t id, struct dp_buf *out)
{
    dp_buf_printf(out, "%9u %4zu bytes %10llu times  ", id, dp_tokenizer_bytes(t->t, id).len, (unsigned long long)t->used[id]);
    dp_token_show(dp_tokenizer_bytes(t->t, id), 80, out);
    dp_buf_add_char(out, '\n');
}

void dp_report_text(const struct dp_survey *s, bool list_unused, struct dp_buf *out)
{
    const struct dp_survey_tokenizer *t = &s->tokenizer[0];
    uint32_t longest[10];
    tokenizers(s, out);
    dp_buf_add_char(out, '\n');
    dp_report_text_groups(s, out);
    dp_buf_add_str(out, "\ntok/word: tokens that have a byte of a word, mean over words. A word is a run of letters, marks and numbers; in scripts written without\n"
                        "spaces (Han, Kana, Thai, Lao, Khmer, Myanmar, Tibetan...) each letter is a word. 1-tok word: words that are one token. part char: tokens that\n"
                        "aren't whole characters. Efficiency: entropy / log2(tokens). Special tokens are left out.\n");
    lengths(t, out);
    dp_buf_printf(out, "\n%s: longest tokens\n", t->name);
    size_t n = dp_report_longest(t, longest, 10);
    for (size_t i = 0; i < n; i++) one_token(t, longest[i], out);
    if (!list_unused) return;
    dp_buf_printf(out, "\n%s: unused tokens\n", t->name);
    for (uint32_t i = 0; i < dp_tokenizer_size(t->t); i++)
        if (dp_token_is_ordinary(t->t, i) && !t->used[i]) one_token(t, i, out);
}

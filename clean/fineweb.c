/* clean/fineweb.c - FineWeb's own rules (Penedo et al. 2024, section 3.5) with datatrove 0.10.1's semantics.
 *
 * Order, comparisons and thresholds are FineWebQualityFilter's. Lines are what stands between newlines, blank ones left out, not trimmed.
 * FineWeb runs them behind Gopher's rules and C4 without its rule of end punctuation: a recipe for that sets `end_punctuation: false`
 * there and `enabled: true` here. Off by default: recipes from before this stage go on deciding as they did. Newlines a word say
 * something only about languages that put spaces between words, as in gopher_quality.c: `languages`. */
#include "base/hash.h"
#include "base/unicode.h"
#include "base/utf8.h"
#include "clean/lines.h"
#include "clean/stages.h"
#include "clean/words.h"

struct ctx {
    bool enabled;
    double punct_min, short_max, dup_chars_max, newlines_max;
    int64_t short_length;
    char *languages;
};
struct worker {
    struct dp_row_words *words;
    struct dp_counts counts;
};

#define ROW(field, kind, value, hi, text) {.name = #field, .type = kind, .offset = offsetof(struct ctx, field), .preset = value, .min = 0, .max = hi, .help = text}
static const struct dp_opt opts[] = {
    ROW(enabled, DP_OPT_BOOL, "false", 0, "Apply FineWeb's own rules."),
    ROW(punct_min, DP_OPT_REAL, "0.12", 1, "Least share of lines that end with a mark that ends sentences; 0 for no limit."),
    ROW(short_max, DP_OPT_REAL, "0.67", 1, "Largest share of short lines; 0 for no limit."),
    ROW(short_length, DP_OPT_INT, "30", 1e9, "Most characters of a short line."),
    ROW(dup_chars_max, DP_OPT_REAL, "0.01", 1, "Largest share of characters in repeated lines; 0 for no limit."),
    ROW(newlines_max, DP_OPT_REAL, "0.3", 1e6, "Most newlines per word; 0 for no limit."),
    ROW(languages, DP_OPT_LIST, "en", 0, "Languages for which newlines per word count; empty for all."),
    DP_OPT_END,
};
#undef ROW

/* The next line of *rest that isn't blank; false when there is none. */
static bool next_line(struct dp_span *rest, struct dp_span *line)
{
    while (rest->len) {
        const char *p = rest->ptr, *nl = memchr(p, '\n', rest->len);
        *line = dp_span(p, nl ? (size_t)(nl - p) : rest->len);
        size_t used = line->len + (nl != NULL);
        *rest = dp_span(p + used, rest->len - used);
        if (dp_trim_left(*line).len) return true;
    }
    return false;
}

static bool ends_sentence(struct dp_span line)
{
    const char *e = line.ptr + line.len;
    return dp_uni(dp_utf8_prev(&e)) & DP_UNI_STOP;
}

static int repeated_chars(struct dp_counts *set, struct dp_span rest, size_t lines, size_t *chars)
{
    *chars = 0;
    int rc = dp_counts_start(set, lines);
    for (struct dp_span line; rc == DP_OK && next_line(&rest, &line);)
        if (dp_counts_add(set, dp_hash64(line.ptr, line.len, 0)) > 1) *chars += dp_utf8_count(line.ptr, line.len);
    return rc;
}

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    const struct ctx *c = ctx;
    struct worker *w = worker;
    struct dp_span text = b->text[i], rest = text, line;
    size_t lines = 0, ends = 0, shorts = 0, dup;
    for (; next_line(&rest, &line); lines++) {
        ends += ends_sentence(line);
        shorts += (int64_t)dp_utf8_count(line.ptr, line.len) <= c->short_length;
    }
    if (!lines) return dp_batch_drop(b, i, DP_DROP_EMPTY, 0, 1), DP_OK;
#define RULE(on, broken, why, value, limit)                                                        \
    if ((on) && (broken)) {                                                                        \
        dp_batch_drop(b, i, DP_DROP_FINEWEB_##why, value, limit);                                  \
        return DP_OK;                                                                              \
    }
    double punct = (double)ends / (double)lines, brief = (double)shorts / (double)lines;
    RULE(c->punct_min > 0, punct < c->punct_min, PUNCT, punct, c->punct_min)
    RULE(c->short_max > 0, brief > c->short_max, SHORT, brief, c->short_max)
    if (repeated_chars(&w->counts, text, lines, &dup) < 0) DP_FAIL(e, NOMEM, "fineweb: %zu lines", lines);
    size_t newlines = dp_byte_count(text, '\n');
    double share = (double)dup / (double)(dp_utf8_count(text.ptr, text.len) - newlines);
    RULE(c->dup_chars_max > 0, share > c->dup_chars_max, DUP, share, c->dup_chars_max)
    if (c->newlines_max <= 0 || !newlines || (b->lang[i][0] && !dp_lang_listed(c->languages, b->lang[i]))) return DP_OK;
    const struct dp_words *words = dp_row_words(w->words, b, i);
    if (!words) DP_FAIL(e, NOMEM, "fineweb: words of a document of %zu bytes", text.len);
    double list = words->count ? (double)newlines / (double)words->count : 0;
    RULE(true, list > c->newlines_max, LIST, list, c->newlines_max)
#undef RULE
    return DP_OK;
}

static void worker_close(const void *ctx, void *worker)
{
    (void)ctx;
    dp_counts_release(&((struct worker *)worker)->counts);
}

const struct dp_stage_type dp_stage_fineweb = {
    .name = "fineweb",
    .summary = "FineWeb's rules: line ends, short and repeated lines, lists",
    .version = 1,
    .needs = DP_COL_TEXT,
    .opts = opts,
    .ctx_size = sizeof(struct ctx),
    .worker_size = sizeof(struct worker),
    .shared = &dp_row_words_shared,
    .shared_at = offsetof(struct worker, words),
    .row_bytes_max = DP_DOC_BYTES_MAX,
    .row = row,
    .worker_close = worker_close,
};

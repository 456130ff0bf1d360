/* clean/gopher_quality.c - the Gopher quality rules (Rae et al. 2021, table A1) with datatrove 0.10.1's semantics.
 *
 * Order, comparisons and thresholds are GopherQualityFilter's: strict, in double, the first broken rule names the drop.
 * Stop words and mean word length say something only about languages that put spaces between words and of which the list is: Japanese
 * has no spaces between words and none of "the be to of and that have with", so that every Japanese document would go. `languages` says for which
 * labels these two rules hold; documents without a label (no language stage before) are held to them, as datatrove does. */
#include "base/utf8.h"
#include "clean/lines.h"
#include "clean/stages.h"
#include "clean/words.h"

struct ctx {
    bool enabled;
    int64_t words_min, words_max, stop_words_min;
    double word_length_min, word_length_max, hash_ratio_max, ellipsis_ratio_max, bullet_ratio_max, end_ellipsis_ratio_max,
        alpha_ratio_min;
    char *languages;
};
struct worker {
    struct dp_row_words *words;
};

#define ROW(field, kind, value, lo, hi, text) {.name = #field, .type = kind, .offset = offsetof(struct ctx, field), .preset = value, .min = lo, .max = hi, .help = text}
static const struct dp_opt opts[] = {
    ROW(enabled, DP_OPT_BOOL, "true", 0, 0, "Apply the Gopher quality rules."),
    ROW(words_min, DP_OPT_INT, "50", 0, 1e9, "Fewest words that aren't symbols; 0 for no limit."),
    ROW(words_max, DP_OPT_INT, "100000", 0, 1e9, "Most words that aren't symbols; 0 for no limit."),
    ROW(word_length_min, DP_OPT_REAL, "3", 0, 1e6, "Least mean word length; 0 for no limit."),
    ROW(word_length_max, DP_OPT_REAL, "10", 0, 1e6, "Largest mean word length; 0 for no limit."),
    ROW(hash_ratio_max, DP_OPT_REAL, "0.1", 0, 1e6, "Most # per word; 0 for no limit."),
    ROW(ellipsis_ratio_max, DP_OPT_REAL, "0.1", 0, 1e6, "Most ellipses per word; 0 for no limit."),
    ROW(bullet_ratio_max, DP_OPT_REAL, "0.9", 0, 1, "Largest share of lines that start with a bullet; 0 for no limit."),
    ROW(end_ellipsis_ratio_max, DP_OPT_REAL, "0.3", 0, 1, "Largest share of lines that end with an ellipsis; 0 for no limit."),
    ROW(alpha_ratio_min, DP_OPT_REAL, "0.8", 0, 1, "Least share of words with a letter; 0 for no limit."),
    ROW(stop_words_min, DP_OPT_INT, "2", 0, 8, "Fewest different English stop words; 0 for no limit."),
    ROW(languages, DP_OPT_LIST, "en", 0, 0, "Languages for which stop words and mean word length count; empty for all."),
    DP_OPT_END,
};
#undef ROW

/* Non-overlapping, from the left; `what` begins with a byte that is rare enough for memchr. */
static size_t count_of(struct dp_span s, const char *what)
{
    size_t n = 0, k = strlen(what);
    const char *p = s.ptr, *e = p + s.len;
    while (p < e && (p = memchr(p, *what, (size_t)(e - p))) != NULL) {
        bool here = (size_t)(e - p) >= k && memcmp(p, what, k) == 0;
        n += here;
        p += here ? k : 1;
    }
    return n;
}

static bool ends_with(struct dp_span s, const char *t)
{
    size_t k = strlen(t);
    return s.len >= k && memcmp(s.ptr + s.len - k, t, k) == 0;
}

static unsigned stop_word(struct dp_span s)
{
    static const char list[8][5] = {"the", "be", "to", "of", "and", "that", "have", "with"};
    for (unsigned i = 0; i < 8; i++)
        if (dp_span_is(s, list[i])) return 1u << i;
    return 0;
}

/* Different stop words; looks no further when there are `enough`. */
static int64_t stop_words(const struct dp_words *w, struct dp_span text, int64_t enough)
{
    unsigned seen = 0;
    for (size_t k = 0; k < w->count && __builtin_popcount(seen) < enough; k++) {
        const struct dp_word *d = &w->word[k];
        if (d->len - 2 <= 2) seen |= stop_word(dp_span(text.ptr + d->at, d->len));
    }
    return __builtin_popcount(seen);
}

struct line_counts {
    size_t lines, bullets, ellipses;
};
static struct line_counts count_lines(struct dp_span text)
{
    struct line_counts n = {0, 0, 0};
    for (struct dp_span line; dp_line_next(&text, &line); n.lines++) {
        struct dp_span l = dp_trim_left(line), r = dp_trim_right(line);
        n.bullets += l.len && (*l.ptr == '-' || (l.len >= 3 && memcmp(l.ptr, "\xE2\x80\xA2", 3) == 0));
        n.ellipses += ends_with(r, "...") || ends_with(r, "\xE2\x80\xA6");
    }
    return n;
}

static void judge(const struct ctx *c, const struct dp_words *w, struct dp_batch *b, uint32_t i)
{
    struct dp_span text = b->text[i];
    size_t real = 0, real_chars = 0, alpha = 0;
    for (size_t k = 0; k < w->count; k++) {
        const struct dp_word *d = &w->word[k];
        size_t is_real = !(d->flags & DP_WORD_SYMBOL);
        real += is_real;
        real_chars += is_real * d->chars;
        alpha += d->flags & DP_WORD_ALPHA;
    }
    double all = (double)w->count, mean = real ? (double)real_chars / (double)real : 0;
    bool spaced = !b->lang[i][0] || dp_lang_listed(c->languages, b->lang[i]);
#define RULE(on, broken, why, value, limit)                                                        \
    if ((on) && (broken)) {                                                                        \
        dp_batch_drop(b, i, DP_DROP_GOPHER_##why, (double)(value), (double)(limit));               \
        return;                                                                                    \
    }
    RULE(c->words_min, (int64_t)real < c->words_min, SHORT, real, c->words_min)
    RULE(c->words_max, (int64_t)real > c->words_max, LONG, real, c->words_max)
    RULE(spaced && c->word_length_min > 0, mean < c->word_length_min, WORD_SHORT, mean, c->word_length_min)
    RULE(spaced && c->word_length_max > 0, mean > c->word_length_max, WORD_LONG, mean, c->word_length_max)
    double hashes = all > 0 ? (double)dp_byte_count(text, '#') / all : 0;
    RULE(c->hash_ratio_max > 0, hashes > c->hash_ratio_max, HASHES, hashes, c->hash_ratio_max)
    double dots = all > 0 ? (double)(count_of(text, "...") + count_of(text, "\xE2\x80\xA6")) / all : 0;
    RULE(c->ellipsis_ratio_max > 0, dots > c->ellipsis_ratio_max, ELLIPSES, dots, c->ellipsis_ratio_max)
    struct line_counts n = count_lines(text);
    double bullets = n.lines ? (double)n.bullets / (double)n.lines : 0, ends = n.lines ? (double)n.ellipses / (double)n.lines : 0;
    RULE(c->bullet_ratio_max > 0, bullets > c->bullet_ratio_max, BULLETS, bullets, c->bullet_ratio_max)
    RULE(c->end_ellipsis_ratio_max > 0, ends > c->end_ellipsis_ratio_max, END_ELLIPSES, ends, c->end_ellipsis_ratio_max)
    double letters = all > 0 ? (double)alpha / all : 0;
    RULE(c->alpha_ratio_min > 0, letters < c->alpha_ratio_min, ALPHA, letters, c->alpha_ratio_min)
    int64_t stops = spaced && c->stop_words_min ? stop_words(w, text, c->stop_words_min) : 0;
    RULE(spaced && c->stop_words_min, stops < c->stop_words_min, STOP, stops, c->stop_words_min)
#undef RULE
}

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    const struct dp_words *w = dp_row_words(((struct worker *)worker)->words, b, i);
    if (!w) DP_FAIL(e, NOMEM, "gopher_quality: words of a document of %zu bytes", b->text[i].len);
    judge(ctx, w, b, i);
    return DP_OK;
}

const struct dp_stage_type dp_stage_gopher_quality = {
    .name = "gopher_quality",
    .summary = "Gopher's quality rules: length, symbols, letters, stop words",
    .version = 2,
    .needs = DP_COL_TEXT,
    .opts = opts,
    .ctx_size = sizeof(struct ctx),
    .worker_size = sizeof(struct worker),
    .shared = &dp_row_words_shared,
    .shared_at = offsetof(struct worker, words),
    .row_bytes_max = DP_DOC_BYTES_MAX,
    .row = row,
};

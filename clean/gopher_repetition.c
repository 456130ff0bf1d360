/* clean/gopher_repetition.c - the Gopher repetition rules (Rae et al. 2021, table A1) with datatrove 0.10.1's semantics.
 *
 * Order and thresholds are GopherRepetitionFilter's; lengths are code points. Pieces are compared by 64-bit hashes. Duplicate
 * n-grams of 5 to 10 words are joined without a separator, so that "ab"+"c" equals "a"+"bc": the hash is a polynomial over bytes modulo
 * 2^61-1, h(xy) = h(x) B^|y| + h(y), and one pass per n extends every n-gram by one word. Time O(10 words). */
#include "base/hash.h"
#include "clean/lines.h"
#include "clean/stages.h"
#include "clean/utf8.h"
#include "clean/words.h"

#include <stdlib.h>

enum { TOP = 3, DUP = 6 };
struct ctx {
    bool enabled;
    double dup_line_max, dup_para_max, dup_line_chars_max, dup_para_chars_max;
    double top_max[TOP], dup_max[DUP];
};
struct worker {
    struct dp_row_words *row;
    const struct dp_words *words; /* of the row */
    struct dp_counts counts;
    uint64_t *hash; /* 3 a word: of the word, B^bytes, of the n-gram that starts there */
    size_t hash_cap;
};

#define ROW(opt, field, value, text) {.name = opt, .type = DP_OPT_REAL, .offset = offsetof(struct ctx, field), .preset = value, .min = 0, .max = 1, .help = text}
static const struct dp_opt opts[] = {
    {.name = "enabled", .type = DP_OPT_BOOL, .offset = offsetof(struct ctx, enabled), .preset = "true", .help = "Apply the Gopher repetition rules."},
    ROW("dup_para_max", dup_para_max, "0.3", "Largest share of repeated paragraphs; 0 for no limit."),
    ROW("dup_para_chars_max", dup_para_chars_max, "0.2", "Largest share of characters in repeated paragraphs; 0 for no limit."),
    ROW("dup_line_max", dup_line_max, "0.3", "Largest share of repeated lines; 0 for no limit."),
    ROW("dup_line_chars_max", dup_line_chars_max, "0.2", "Largest share of characters in repeated lines; 0 for no limit."),
    ROW("top_2_gram_max", top_max[0], "0.2", "Largest share of characters in the most frequent 2-gram; 0 for no limit."),
    ROW("top_3_gram_max", top_max[1], "0.18", "The same for 3-grams."),
    ROW("top_4_gram_max", top_max[2], "0.16", "The same for 4-grams."),
    ROW("dup_5_gram_max", dup_max[0], "0.15", "Largest share of characters in repeated 5-grams; 0 for no limit."),
    ROW("dup_6_gram_max", dup_max[1], "0.14", "The same for 6-grams."),
    ROW("dup_7_gram_max", dup_max[2], "0.13", "The same for 7-grams."),
    ROW("dup_8_gram_max", dup_max[3], "0.12", "The same for 8-grams."),
    ROW("dup_9_gram_max", dup_max[4], "0.11", "The same for 9-grams."),
    ROW("dup_10_gram_max", dup_max[5], "0.1", "The same for 10-grams."),
    DP_OPT_END,
};
#undef ROW

#define PRIME ((UINT64_C(1) << 61) - 1)
static uint64_t mul61(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    uint64_t r = (uint64_t)(m & PRIME) + (uint64_t)(m >> 61);
    return r >= PRIME ? r - PRIME : r;
}
static uint64_t add61(uint64_t a, uint64_t b)
{
    uint64_t r = a + b;
    return r >= PRIME ? r - PRIME : r;
}
static const uint64_t base61 = UINT64_C(0x0b5d1f9c7a3e2467);

struct repeats {
    size_t count, dup, dup_chars;
};
static void count_piece(struct dp_counts *set, struct repeats *r, const char *p, const char *e)
{
    r->count++;
    if (dp_counts_add(set, dp_hash64(p, (size_t)(e - p), 0)) > 1) {
        r->dup++;
        r->dup_chars += dp_utf8_count(p, (size_t)(e - p));
    }
}

/* Pieces of s between runs of at least `run` newlines, as re.split("\n{run,}") gives them. */
static int count_repeats(struct dp_counts *set, struct dp_span s, size_t run, struct repeats *r)
{
    *r = (struct repeats){0, 0, 0};
    size_t newlines = 0;
    for (const char *p = s.ptr, *e = p + s.len; (p = memchr(p, '\n', (size_t)(e - p))) != NULL; p++) newlines++;
    int rc = dp_counts_start(set, newlines + 1);
    if (rc < 0) return rc;
    const char *from = s.ptr, *e = s.ptr + s.len;
    for (const char *p = from; (p = memchr(p, '\n', (size_t)(e - p))) != NULL;) {
        const char *q = p;
        while (q < e && *q == '\n') q++;
        if ((size_t)(q - p) >= run) {
            count_piece(set, r, from, p);
            from = q;
        }
        p = q;
    }
    count_piece(set, r, from, e);
    return DP_OK;
}

static int hash_words(struct worker *w, struct dp_span text)
{
    size_t n = w->words->count;
    if (n > w->hash_cap) {
        size_t cap = n + n / 2;
        uint64_t *h = realloc(w->hash, cap * 3 * sizeof *h);
        if (!h) return DP_NOMEM;
        w->hash = h;
        w->hash_cap = cap;
    }
    for (size_t i = 0; i < n; i++) {
        const struct dp_word *d = &w->words->word[i];
        uint64_t h = 0, b = 1;
        for (uint32_t k = 0; k < d->len; k++) {
            h = add61(mul61(h, base61), (unsigned char)text.ptr[d->at + k] + 1u);
            b = mul61(b, base61);
        }
        w->hash[3 * i] = h;
        w->hash[3 * i + 1] = b;
        w->hash[3 * i + 2] = h;
    }
    return DP_OK;
}

/* Characters of the most frequent n-gram (joined with a space) times its count; among equals the one seen first. */
static int top_gram(struct worker *w, size_t n, size_t *out)
{
    size_t words = w->words->count, chars = 0;
    *out = 0;
    if (words < n) return DP_OK;
    int rc = dp_counts_start(&w->counts, words);
    if (rc < 0) return rc;
    uint32_t most = 0;
    for (int pass = 0; pass < 2; pass++) {
        /* First the counts, then the first n-gram that reaches the largest. */
        for (size_t i = 0; i + n <= words; i++) {
            uint64_t h = n;
            for (size_t k = 0; k < n; k++) h = dp_mix64(h * 31 + w->hash[3 * (i + k)]);
            uint32_t c = dp_counts_add(&w->counts, h);
            if (pass == 0) {
                if (c > most) most = c;
                continue;
            }
            if (c != most + 1) continue;
            for (size_t k = 0; k < n; k++) chars += w->words->word[i + k].chars;
            *out = (chars + n - 1) * most;
            return DP_OK;
        }
    }
    return DP_OK;
}

/* Extends the hash of every n-1-gram to n words. */
static void extend(struct worker *w, size_t n)
{
    for (size_t i = 0; i + n <= w->words->count; i++) {
        uint64_t *h = &w->hash[3 * i], *last = &w->hash[3 * (i + n - 1)];
        h[2] = add61(mul61(h[2], last[1]), last[0]);
    }
}

static int dup_grams(struct worker *w, size_t n, size_t *out)
{
    size_t words = w->words->count;
    *out = 0;
    int rc = dp_counts_start(&w->counts, words);
    if (rc < 0) return rc;
    for (size_t i = 0; i + n <= words;) {
        if (dp_counts_add(&w->counts, w->hash[3 * i + 2]) == 1) {
            i++;
            continue;
        }
        for (size_t k = 0; k < n; k++) *out += w->words->word[i + k].chars;
        i += n;
    }
    return DP_OK;
}

#define RULE(why, value, max)                                                                      \
    do {                                                                                           \
        double v_ = (value), m_ = (max);                                                           \
        if (m_ > 0 && v_ > m_) {                                                                   \
            dp_batch_drop(b, i, (why), v_, m_);                                                    \
            return DP_OK;                                                                          \
        }                                                                                          \
    } while (0)

static int judge(const struct ctx *c, struct worker *w, struct dp_batch *b, uint32_t i)
{
    struct dp_span text = b->text[i];
    double chars = (double)dp_utf8_count(text.ptr, text.len);
    if (text.len == 0) {
        dp_batch_drop(b, i, DP_DROP_EMPTY, 0, 1);
        return DP_OK;
    }
    struct repeats r;
    DP_TRY(count_repeats(&w->counts, dp_trim(text), 2, &r));
    RULE(DP_DROP_GOPHER_DUP_PARA, (double)r.dup / (double)r.count, c->dup_para_max);
    RULE(DP_DROP_GOPHER_DUP_PARA_CHARS, (double)r.dup_chars / chars, c->dup_para_chars_max);
    DP_TRY(count_repeats(&w->counts, text, 1, &r));
    RULE(DP_DROP_GOPHER_DUP_LINE, (double)r.dup / (double)r.count, c->dup_line_max);
    RULE(DP_DROP_GOPHER_DUP_LINE_CHARS, (double)r.dup_chars / chars, c->dup_line_chars_max);
    if (!(w->words = dp_row_words(w->row, b, i))) return DP_NOMEM;
    DP_TRY(hash_words(w, text));
    size_t n;
    for (unsigned k = 0; k < TOP; k++) {
        if (c->top_max[k] <= 0) continue;
        DP_TRY(top_gram(w, k + 2, &n));
        RULE((enum dp_drop)(DP_DROP_GOPHER_TOP_2 + k), (double)n / chars, c->top_max[k]);
    }
    for (size_t k = 2; k < 5; k++) extend(w, k);
    for (unsigned k = 0; k < DUP; k++) {
        extend(w, k + 5);
        if (c->dup_max[k] <= 0) continue;
        DP_TRY(dup_grams(w, k + 5, &n));
        RULE((enum dp_drop)(DP_DROP_GOPHER_DUP_5 + k), (double)n / chars, c->dup_max[k]);
    }
    return DP_OK;
}
#undef RULE

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    if (judge(ctx, worker, b, i) < 0) DP_FAIL(e, NOMEM, "gopher_repetition: n-grams of a document of %zu bytes", b->text[i].len);
    return DP_OK;
}

static void worker_close(const void *ctx, void *worker)
{
    struct worker *w = worker;
    (void)ctx;
    dp_counts_release(&w->counts);
    free(w->hash);
}

const struct dp_stage_type dp_stage_gopher_repetition = {
    .name = "gopher_repetition",
    .summary = "Gopher's repetition rules: lines, paragraphs, n-grams",
    .version = 1,
    .needs = DP_COL_TEXT,
    .opts = opts,
    .ctx_size = sizeof(struct ctx),
    .worker_size = sizeof(struct worker),
    .shared = &dp_row_words_shared,
    .shared_at = offsetof(struct worker, row),
    .row_bytes_max = DP_DOC_BYTES_MAX,
    .row = row,
    .worker_close = worker_close,
};

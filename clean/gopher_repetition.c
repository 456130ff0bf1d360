/* clean/gopher_repetition.c - the Gopher repetition rules (Rae et al. 2021, table A1) with datatrove 0.10.1's semantics.
 *
 * Order and thresholds are GopherRepetitionFilter's; lengths are code points. Pieces are compared by 64-bit hashes. Duplicate
 * n-grams of 5 to 10 words are joined without a separator, so that "ab"+"c" equals "a"+"bc": the hash is a polynomial over bytes modulo
 * 2^61-1, h(xy) = h(x) B^|y| + h(y), and one pass per n extends every n-gram by one word. Time O(10 words).
 *
 * Not datatrove's: documents of more than `words_max` words go as too long without a look at their n-grams. The quality rules' limit is a tenth of
 * that, so with them only the reason differs.
 *
 * Few texts come near a limit. So every n-gram rule is first bounded from above, with a cheaper polynomial (B = 251 modulo 2^64, eight
 * bytes at once) and without a hash table: an n-gram is a difference of sums over the text, one multiplication, and sets three bits of
 * one word. Equal n-grams always meet; unequal ones that do only raise the bound. Where the bound keeps to the limit so does the
 * value; else it is counted exactly. What a rule says is thus never the bound's doing. */
#include "base/hash.h"
#include "base/utf8.h"
#include "clean/lines.h"
#include "clean/stages.h"
#include "clean/words.h"

#include <pthread.h>
#include <stdlib.h>

enum { TOP = 3, DUP = 6, MANY_WORDS = 1 << 18 };
struct ctx {
    bool enabled;
    int64_t words_max;
    double dup_line_max, dup_para_max, dup_line_chars_max, dup_para_chars_max;
    double top_max[TOP], dup_max[DUP];
};
struct worker {
    struct dp_row_words *row;
    const struct dp_words *words; /* of the row */
    struct dp_counts counts;
    uint64_t *hash; /* 3 a word: of the word, B^bytes, of the n-gram that starts there */
    size_t hash_cap;
    size_t gram;    /* words of the n-grams in `hash`; 0 before the row's words are hashed */
    struct sums {
        uint64_t before; /* of all words before this one */
        uint64_t back;   /* B^-bytes before, times MIX: takes a difference of sums to where the text starts */
        uint64_t value;  /* of the word alone */
        size_t chars;    /* before */
    } *sums;             /* words + 1 */
    size_t sums_cap;
    uint64_t *seen; /* bits, or counters of 32 bits */
    size_t seen_cap;
};

#define ROW(opt, field, value, text) {.name = opt, .type = DP_OPT_REAL, .offset = offsetof(struct ctx, field), .preset = value, .min = 0, .max = 1, .help = text}
static const struct dp_opt opts[] = {
    {.name = "enabled", .type = DP_OPT_BOOL, .offset = offsetof(struct ctx, enabled), .preset = "true", .help = "Apply the Gopher repetition rules."},
    {.name = "words_max", .type = DP_OPT_INT, .offset = offsetof(struct ctx, words_max), .preset = "1000000", .min = 0, .max = 1e9, .help = "Drop documents with more words uncounted, as too long: n-grams take 100 bytes a word; 0 for no limit."},
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

/* Capacity for n: documents that grow little by little don't allocate each time, giant ones take what they need. */
static size_t room(size_t n)
{
    return n < MANY_WORDS ? n + n / 2 + 64 : n + 64;
}

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

/* --- bounds --- */

enum { B = 251, POWERS = 64 };
#define MIX UINT64_C(0x9e3779b97f4a7c15)
static uint64_t power[POWERS], inverse[POWERS]; /* B^k and B^-k modulo 2^64 */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void powers_init(void)
{
    uint64_t inv = B; /* Newton: three bits are right, then twice as many each time */
    for (int k = 0; k < 5; k++) inv *= 2 - B * inv;
    power[0] = inverse[0] = 1;
    for (int k = 1; k < POWERS; k++) {
        power[k] = power[k - 1] * B;
        inverse[k] = inverse[k - 1] * inv;
    }
}

/* Sum of byte k times B^k over eight bytes: neighbours are joined, then pairs, then fours; 251 keeps every join within its lane. */
static uint64_t eight(uint64_t v)
{
    v = (v & UINT64_C(0x00FF00FF00FF00FF)) + (v >> 8 & UINT64_C(0x00FF00FF00FF00FF)) * B;
    v = (v & UINT64_C(0x0000FFFF0000FFFF)) + (v >> 16 & UINT64_C(0x0000FFFF0000FFFF)) * (B * B);
    return (v & UINT64_C(0xFFFFFFFF)) + (v >> 32) * (UINT64_C(1) * B * B * B * B);
}

/* The sum for a word, and in *up and *down the powers of its length. */
static uint64_t word_value(const char *p, size_t n, const char *end, uint64_t *up, uint64_t *down)
{
    uint64_t sum = 0, at = 1;
    *up = *down = 1;
    for (; n > 8; n -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        sum += eight(v) * at;
        at *= power[8];
        *down *= inverse[8];
    }
    uint64_t v = 0;
    if (end - p >= 8) {
        memcpy(&v, p, 8);
        v &= ~UINT64_C(0) >> (64 - 8 * n);
    } else memcpy(&v, p, n);
    *up = at * power[n];
    *down *= inverse[n];
    return sum + eight(v) * at;
}

static int sum_words(struct worker *w, struct dp_span text)
{
    size_t n = w->words->count;
    if (n >= w->sums_cap) {
        size_t cap = room(n);
        free(w->sums);
        w->sums = malloc(cap * sizeof *w->sums);
        w->sums_cap = w->sums ? cap : 0;
        if (!w->sums) return DP_NOMEM;
    }
    struct sums s = {0, MIX, 0, 0};
    uint64_t factor = 1, up, down;
    for (size_t i = 0; i < n; i++) {
        const struct dp_word *d = &w->words->word[i];
        s.value = word_value(text.ptr + d->at, d->len, text.ptr + text.len, &up, &down);
        w->sums[i] = s;
        s.before += s.value * factor;
        s.back *= down;
        s.chars += d->chars;
        factor *= up;
    }
    s.value = 0;
    w->sums[n] = s;
    return DP_OK;
}

/* Zeroed room for at least `each` bits a word; *shift takes a product's high bits to one of them. */
static int seen_start(struct worker *w, size_t each, int *shift)
{
    size_t bits = 1 << 14;
    for (*shift = 64 - 14; bits < w->words->count * each; bits *= 2) --*shift;
    if (bits / 64 > w->seen_cap) {
        free(w->seen);
        w->seen = malloc(bits / 8);
        w->seen_cap = w->seen ? bits / 64 : 0;
        if (!w->seen) return DP_NOMEM;
    }
    memset(w->seen, 0, bits / 8);
    return DP_OK;
}

/* At least what top_gram says: a counter is at least the count of each n-gram that has it, when that is seen for the last time. */
static int top_bound(struct worker *w, size_t n, size_t *out)
{
    size_t words = w->words->count, most = 0;
    const struct sums *s = w->sums;
    uint64_t h = 0;
    int shift;
    DP_TRY(seen_start(w, words < MANY_WORDS ? 128 : 64, &shift)); /* four counters a word, or two */
    uint32_t *count = (uint32_t *)(void *)w->seen;
    /* h = sum of value(i + k) MIX^(n - k), rolled: what leaves has been multiplied n times. */
    uint64_t out_factor = 1;
    for (size_t k = 0; k < n; k++) out_factor *= MIX;
    for (size_t i = 0; i < words; i++) {
        h = (h + s[i].value) * MIX;
        if (i + 1 < n) continue;
        size_t from = i + 1 - n, c = ++count[h >> (shift + 5)];
        size_t v = c * (s[i + 1].chars - s[from].chars + n - 1);
        if (v > most) most = v;
        h -= s[from].value * out_factor;
    }
    *out = most;
    return DP_OK;
}

/* At least what dup_grams says: characters under all n-grams whose bit was set before. */
static int dup_bound(struct worker *w, size_t n, size_t *out)
{
    size_t words = w->words->count, total = 0, covered = 0;
    const struct sums *s = w->sums;
    int shift;
    DP_TRY(seen_start(w, 64, &shift));
    uint64_t *seen = w->seen;
    for (size_t i = 0; i + n <= words; i++) {
        uint64_t h = (s[i + n].before - s[i].before) * s[i].back, *to = &seen[h >> (shift + 6)];
        uint64_t bits = UINT64_C(1) << (h & 63) | UINT64_C(1) << (h >> 6 & 63) | UINT64_C(1) << (h >> 12 & 63);
        if ((*to & bits) == bits) {
            size_t from = i > covered ? i : covered;
            covered = i + n;
            total += s[covered].chars - s[from].chars;
        }
        *to |= bits;
    }
    *out = total;
    return DP_OK;
}

/* --- exact counts --- */

static int hash_words(struct worker *w, struct dp_span text)
{
    size_t n = w->words->count;
    if (n > w->hash_cap) {
        free(w->hash);
        w->hash_cap = room(n);
        w->hash = malloc(w->hash_cap * 3 * sizeof *w->hash);
        if (!w->hash) return w->hash_cap = 0, DP_NOMEM;
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
    w->gram = 1;
    return DP_OK;
}

/* Characters of the most frequent n-gram (joined with a space) times its count; among equals the one seen first. */
static int top_gram(struct worker *w, size_t n, size_t *out)
{
    size_t words = w->words->count;
    *out = 0;
    if (words < n) return DP_OK;
    int rc = dp_counts_start(&w->counts, words);
    if (rc < 0) return rc;
    uint32_t most = 0;
    for (int pass = 0; pass < 2; pass++) {
        /* First the counts, then the first n-gram that has the largest. */
        for (size_t i = 0; i + n <= words; i++) {
            uint64_t h = n;
            for (size_t k = 0; k < n; k++) h = dp_mix64(h * 31 + w->hash[3 * (i + k)]);
            if (pass == 0) {
                uint32_t c = dp_counts_add(&w->counts, h);
                if (c > most) most = c;
            } else if (dp_counts_get(&w->counts, h) == most) {
                *out = (w->sums[i + n].chars - w->sums[i].chars + n - 1) * most;
                return DP_OK;
            }
        }
    }
    return DP_OK;
}

/* Extends the hash of every n-gram to n words. */
static void extend(struct worker *w, size_t n)
{
    for (; w->gram < n; w->gram++) {
        for (size_t i = 0; i + w->gram < w->words->count; i++) {
            uint64_t *h = &w->hash[3 * i], *last = &w->hash[3 * (i + w->gram)];
            h[2] = add61(mul61(h[2], last[1]), last[0]);
        }
    }
}

static int dup_grams(struct worker *w, size_t n, size_t *out)
{
    size_t words = w->words->count;
    *out = 0;
    extend(w, n);
    int rc = dp_counts_start(&w->counts, words);
    if (rc < 0) return rc;
    for (size_t i = 0; i + n <= words;) {
        if (dp_counts_add(&w->counts, w->hash[3 * i + 2]) == 1) {
            i++;
            continue;
        }
        *out += w->sums[i + n].chars - w->sums[i].chars;
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
    pthread_once(&once, powers_init);
    struct repeats r;
    DP_TRY(count_repeats(&w->counts, dp_trim(text), 2, &r));
    RULE(DP_DROP_GOPHER_DUP_PARA, (double)r.dup / (double)r.count, c->dup_para_max);
    RULE(DP_DROP_GOPHER_DUP_PARA_CHARS, (double)r.dup_chars / chars, c->dup_para_chars_max);
    DP_TRY(count_repeats(&w->counts, text, 1, &r));
    RULE(DP_DROP_GOPHER_DUP_LINE, (double)r.dup / (double)r.count, c->dup_line_max);
    RULE(DP_DROP_GOPHER_DUP_LINE_CHARS, (double)r.dup_chars / chars, c->dup_line_chars_max);
    if (!(w->words = dp_row_words(w->row, b, i))) return DP_NOMEM;
    if (c->words_max && w->words->count > (uint64_t)c->words_max) {
        dp_batch_drop(b, i, DP_DROP_GOPHER_LONG, (double)w->words->count, (double)c->words_max);
        return DP_OK;
    }
    DP_TRY(sum_words(w, text));
    w->gram = 0;
    size_t n;
    for (unsigned k = 0; k < TOP; k++) {
        if (c->top_max[k] <= 0) continue;
        DP_TRY(top_bound(w, k + 2, &n));
        if ((double)n / chars <= c->top_max[k]) continue;
        if (!w->gram) DP_TRY(hash_words(w, text));
        DP_TRY(top_gram(w, k + 2, &n));
        RULE((enum dp_drop)(DP_DROP_GOPHER_TOP_2 + k), (double)n / chars, c->top_max[k]);
    }
    for (unsigned k = 0; k < DUP; k++) {
        if (c->dup_max[k] <= 0) continue;
        DP_TRY(dup_bound(w, k + 5, &n));
        if ((double)n / chars <= c->dup_max[k]) continue;
        if (!w->gram) DP_TRY(hash_words(w, text));
        DP_TRY(dup_grams(w, k + 5, &n));
        RULE((enum dp_drop)(DP_DROP_GOPHER_DUP_5 + k), (double)n / chars, c->dup_max[k]);
    }
    return DP_OK;
}
#undef RULE

static void release(struct worker *w)
{
    dp_counts_release(&w->counts);
    free(w->hash);
    free(w->sums);
    free(w->seen);
    w->hash = w->seen = NULL;
    w->sums = NULL;
    w->hash_cap = w->sums_cap = w->seen_cap = 0;
}

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    struct worker *w = worker;
    if (judge(ctx, w, b, i) < 0) DP_FAIL(e, NOMEM, "gopher_repetition: n-grams of a document of %zu bytes", b->text[i].len);
    if (w->sums_cap > MANY_WORDS * 2) release(w); /* one giant document isn't a reason to hold on to its memory */
    return DP_OK;
}

static void worker_close(const void *ctx, void *worker)
{
    (void)ctx;
    release(worker);
}

const struct dp_stage_type dp_stage_gopher_repetition = {
    .name = "gopher_repetition",
    .summary = "Gopher's repetition rules: lines, paragraphs, n-grams",
    .version = 3,
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

/* tokenizer/bpe_count.c - count unique pretokens, and choose those to learn from.
 *
 * An open-addressing table of 24-byte slots (half of the hash as a tag, length, place, count) with linear probing, at most
 * three quarters full, over a byte arena of chunks that never move. Sorting the text's pieces instead would need all of
 * them; a table of the unique ones holds most corpora.
 *
 * When the budget is used up, the table is sorted by bytes, written as a run (word_runs.h) and emptied; the runs' merge has the same
 * counts as one large table. Evicting rare words instead would make the merges depend on the order of documents and on the number of threads.
 *
 * What is learnt from is a prefix of all words by (count descending, bytes): a histogram of counts finds the least count that is
 * still taken whole, and words of the count below are taken in order of their bytes while they fit. So it is a pure function of the counts. */
#include "tokenizer/bpe_train.h"

#include "base/progress.h"
#include "tokenizer/word_hash.h"
#include "tokenizer/word_runs.h"

#include <stdlib.h>

struct slot {
    uint64_t count; /* 0: empty */
    const char *word;
    uint32_t len, tag;
};

enum { CHUNK = 1 << 20, ENDS = 512, LOOK_EVERY = 1 << 16, PARTS = 1 << 16 };
struct chunk {
    struct chunk *next;
    char bytes[];
};

struct key {
    uint64_t head;
    const struct slot *slot;
};

struct dp_bpe_counter {
    enum dp_split split;
    struct dp_splitter *splitter; /* NULL: split alone */
    struct dp_cutter *cutter;
    struct slot *slots;
    size_t mask, used;
    struct chunk *chunks;
    char *free;
    size_t free_len;
    uint64_t bytes, bytes_max, total;
    const char *dir; /* for runs; NULL: the budget is a limit */
    struct dp_word_runs *runs;
    /* Finished: */
    bool finished;
    struct key *order; /* slots by bytes, when words are left out and none is on disk */
    size_t at;         /* in slots or order: the next to give */
    size_t given;
    uint64_t unique, learnable, taken, text_bytes; /* learnable: of two bytes and more */
    uint64_t tie, tie_bytes; /* words with a count of `tie` are taken while tie_bytes lasts, those above always */
    uint64_t tie_left;
};

int dp_bpe_counter_open(struct dp_bpe_counter **out, enum dp_split split, struct dp_err *e)
{
    struct dp_bpe_counter *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c) {
        c->split = split;
        c->mask = (1 << 12) - 1;
        c->bytes_max = UINT64_C(16) << 30;
        c->slots = calloc(c->mask + 1, sizeof *c->slots);
        c->bytes = (c->mask + 1) * sizeof *c->slots;
    }
    if (!c || !c->slots) {
        free(c);
        DP_FAIL(e, NOMEM, "a counter of pretokens");
    }
    *out = c;
    return DP_OK;
}

int dp_bpe_counter_splitter(struct dp_bpe_counter *c, struct dp_splitter *s, struct dp_err *e)
{
    if (!s) return DP_OK;
    DP_TRY(dp_cutter_open(&c->cutter, s, e));
    c->split = DP_SPLIT_CUSTOM;
    c->splitter = dp_splitter_ref(s);
    return DP_OK;
}

void dp_bpe_counter_budget(struct dp_bpe_counter *c, uint64_t bytes_max, const char *dir)
{
    c->bytes_max = bytes_max;
    c->dir = dir;
}

static void free_chunks(struct dp_bpe_counter *c)
{
    for (struct chunk *k = c->chunks, *next; k; k = next) {
        next = k->next;
        free(k);
    }
    c->chunks = NULL;
    c->free_len = 0;
}

void dp_bpe_counter_drop_words(struct dp_bpe_counter *c)
{
    free_chunks(c);
    free(c->slots);
    free(c->order);
    dp_word_runs_close(c->runs);
    c->slots = NULL;
    c->order = NULL;
    c->runs = NULL;
    c->bytes = c->used = 0;
    c->finished = true;
}

void dp_bpe_counter_close(struct dp_bpe_counter *c)
{
    if (!c) return;
    dp_bpe_counter_drop_words(c);
    dp_cutter_close(c->cutter);
    dp_splitter_close(c->splitter);
    free(c);
}

uint64_t dp_bpe_counter_unique(const struct dp_bpe_counter *c)
{
    return c->finished ? c->unique : c->used;
}
uint64_t dp_bpe_counter_taken(const struct dp_bpe_counter *c)
{
    return c->taken;
}
uint64_t dp_bpe_counter_left_out(const struct dp_bpe_counter *c)
{
    return c->learnable - c->taken;
}
uint64_t dp_bpe_counter_text_bytes(const struct dp_bpe_counter *c)
{
    return c->text_bytes;
}
uint64_t dp_bpe_counter_total(const struct dp_bpe_counter *c)
{
    return c->total;
}
uint64_t dp_bpe_counter_bytes(const struct dp_bpe_counter *c)
{
    return c->bytes;
}
enum dp_split dp_bpe_counter_split(const struct dp_bpe_counter *c)
{
    return c->split;
}
struct dp_splitter *dp_bpe_counter_get_splitter(const struct dp_bpe_counter *c)
{
    return c->splitter;
}

/* n more bytes are past the budget, and there is something to write out. */
static bool must_spill(const struct dp_bpe_counter *c, size_t n)
{
    return c->dir && c->used && (n > c->bytes_max || c->bytes > c->bytes_max - n);
}

/* Take n more bytes of memory from the budget. With a folder for runs a single word may go past it: the table is empty then. */
static int charge(struct dp_bpe_counter *c, size_t n, struct dp_err *e)
{
    if (!c->dir && (n > c->bytes_max || c->bytes > c->bytes_max - n))
        DP_FAIL(e, LIMIT,
                "counting pretokens needs more than its budget of %llu bytes (%zu unique ones so far): give it more "
                "memory, or a folder for temporary files",
                (unsigned long long)c->bytes_max, c->used);
    c->bytes += n;
    return DP_OK;
}

static int by_bytes(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    return dp_word_order(dp_span(x->slot->word, x->slot->len), dp_span(y->slot->word, y->slot->len));
}

/* The words in order: parted by their first two bytes, so that a sort between two looks whether to stop is a short one. */
static int sort_slots(const struct dp_bpe_counter *c, struct key **out, struct dp_err *e)
{
    struct key *k = malloc((c->used + 1) * sizeof *k);
    size_t *end = calloc(PARTS + 1, sizeof *end);
    int rc = DP_OK;
    *out = k;
    if (!k || !end) {
        free(end);
        DP_FAIL(e, NOMEM, "sorting %zu pretokens", c->used);
    }
    for (size_t i = 0; i <= c->mask; i++)
        if (c->slots[i].count) end[(dp_word_head(dp_span(c->slots[i].word, c->slots[i].len)) >> 48) + 1]++;
    for (size_t i = 0; i < PARTS; i++) end[i + 1] += end[i];
    for (size_t i = 0; i <= c->mask; i++) {
        uint64_t head = c->slots[i].count ? dp_word_head(dp_span(c->slots[i].word, c->slots[i].len)) : 0;
        if (c->slots[i].count) k[end[head >> 48]++] = (struct key){head, &c->slots[i]}; /* end[p] moves from the begin of part p to its end */
    }
    for (size_t p = 0, from = 0, looked = 0; rc >= 0 && p < PARTS; from = end[p++]) {
        if (end[p] - from > 1) qsort(k + from, end[p] - from, sizeof *k, by_bytes);
        if (end[p] - looked < LOOK_EVERY) continue;
        looked = end[p];
        rc = dp_progress_go_on(e);
    }
    free(end);
    return rc;
}

/* Write the table as a run and empty it. */
static int spill(struct dp_bpe_counter *c, struct dp_err *e)
{
    struct key *k = NULL;
    int rc = DP_OK;
    if (!c->used) return DP_OK;
    if (!c->runs) DP_TRY(dp_word_runs_open(&c->runs, c->dir, e));
    DP_TRY_OUT(sort_slots(c, &k, e));
    for (size_t i = 0; i < c->used; i++)
        DP_TRY_OUT(dp_word_runs_add(c->runs, dp_span(k[i].slot->word, k[i].slot->len), k[i].slot->count, e));
    DP_TRY_OUT(dp_word_runs_end(c->runs, e));
    free_chunks(c);
    memset(c->slots, 0, (c->mask + 1) * sizeof *c->slots);
    c->used = 0;
    c->bytes = (c->mask + 1) * sizeof *c->slots;
out:
    free(k);
    return rc;
}

/* Make the table larger, or empty. */
static int grow(struct dp_bpe_counter *c, struct dp_err *e)
{
    size_t mask = c->mask * 2 + 1;
    if (must_spill(c, (mask + 1) * sizeof *c->slots)) return spill(c, e);
    DP_TRY(charge(c, (mask + 1) * sizeof *c->slots, e));
    struct slot *slots = calloc(mask + 1, sizeof *slots);
    if (!slots) {
        c->bytes -= (mask + 1) * sizeof *slots;
        DP_FAIL(e, NOMEM, "%zu slots for pretokens", mask + 1);
    }
    for (size_t i = 0; i <= c->mask; i++) {
        const struct slot *s = &c->slots[i];
        if (!s->count) continue;
        size_t at = dp_word_hash(s->word, s->len) & mask;
        while (slots[at].count) at = (at + 1) & mask;
        slots[at] = *s;
    }
    free(c->slots);
    c->bytes -= (c->mask + 1) * sizeof *slots;
    c->slots = slots;
    c->mask = mask;
    return DP_OK;
}

/* A copy of the word that lives as long as the counter. */
static int keep(struct dp_bpe_counter *c, struct dp_span word, const char **out, struct dp_err *e)
{
    if (word.len > c->free_len) {
        size_t n = word.len > CHUNK / 4 ? word.len : CHUNK;
        DP_TRY(charge(c, sizeof(struct chunk) + n, e));
        struct chunk *k = malloc(sizeof *k + n);
        if (!k) {
            c->bytes -= sizeof *k + n;
            DP_FAIL(e, NOMEM, "%zu bytes for pretokens", n);
        }
        k->next = c->chunks;
        c->chunks = k;
        if (n != CHUNK) { /* a word of its own; go on filling the chunk before */
            memcpy(k->bytes, word.ptr, word.len);
            *out = k->bytes;
            return DP_OK;
        }
        c->free = k->bytes;
        c->free_len = n;
    }
    memcpy(c->free, word.ptr, word.len);
    *out = c->free;
    c->free += word.len;
    c->free_len -= word.len;
    return DP_OK;
}

static inline int count(struct dp_bpe_counter *c, struct dp_span word, uint64_t n, struct dp_err *e)
{
    uint64_t h = dp_word_hash(word.ptr, word.len);
    uint32_t tag = (uint32_t)(h >> 32);
    size_t at = h & c->mask;
    for (; c->slots[at].count; at = (at + 1) & c->mask) {
        struct slot *s = &c->slots[at];
        if (s->tag != tag || s->len != word.len || memcmp(s->word, word.ptr, word.len) != 0) continue;
        s->count += n;
        c->total += n;
        return DP_OK;
    }
    if (word.len > UINT32_MAX / 2) DP_FAIL(e, LIMIT, "a pretoken of %zu bytes is longer than 2 GiB", word.len);
    if (word.len > c->free_len && must_spill(c, sizeof(struct chunk) + (word.len > CHUNK / 4 ? word.len : CHUNK))) {
        DP_TRY(spill(c, e));
        at = h & c->mask;
    }
    const char *copy = NULL;
    DP_TRY(keep(c, word, &copy, e));
    c->slots[at] = (struct slot){n, copy, (uint32_t)word.len, tag};
    c->total += n;
    if (++c->used > c->mask / 4 * 3) return grow(c, e);
    return DP_OK;
}

int dp_bpe_counter_add(struct dp_bpe_counter *c, struct dp_span text, struct dp_err *e)
{
    size_t ends[ENDS], pos = 0, from = 0;
    int n;
    while ((n = c->cutter ? dp_cutter_run(c->cutter, text, &pos, ends, ENDS, e) : (int)dp_split_run(c->split, text, &pos, ends, ENDS)) > 0) {
        for (int i = 0; i < n; i++) {
            DP_TRY(count(c, dp_span(text.ptr + from, ends[i] - from), 1, e));
            from = ends[i];
        }
    }
    return n;
}

int dp_bpe_counter_add_word(struct dp_bpe_counter *c, struct dp_span word, uint64_t n, struct dp_err *e)
{
    if (!n || !word.len) return DP_OK;
    if (n > UINT64_MAX / 4 || c->total > UINT64_MAX / 4) DP_FAIL(e, LIMIT, "counts of pretokens past 2^62");
    return count(c, word, n, e);
}

int dp_bpe_counter_merge(struct dp_bpe_counter *into, struct dp_bpe_counter *from, struct dp_err *e)
{
    struct dp_span a = dp_splitter_text(into->splitter, into->split), b = dp_splitter_text(from->splitter, from->split);
    if (!dp_span_eq(a, b)) DP_FAIL(e, CONFIG, "counters of the splits %.*s and %.*s can't be merged", DP_SPAN_FMT(a), DP_SPAN_FMT(b));
    DP_ASSERT(!into->finished && !from->finished);
    if (from->runs) {
        DP_TRY(spill(from, e));
        if (!into->runs) DP_TRY(dp_word_runs_open(&into->runs, into->dir ? into->dir : from->dir, e));
        DP_TRY(dp_word_runs_take(into->runs, from->runs, e));
        into->total += from->total;
    } else
        for (size_t i = 0; i <= from->mask; i++) {
            const struct slot *s = &from->slots[i];
            if (i % LOOK_EVERY == 0) DP_TRY(dp_progress_go_on(e));
            if (s->count) DP_TRY(dp_bpe_counter_add_word(into, dp_span(s->word, s->len), s->count, e));
        }
    dp_bpe_counter_drop_words(from);
    from->total = 0;
    return DP_OK;
}

/* --- choosing --- */

/* Walk all words: by bytes when they are on disk or sorted. */
static int next_word(struct dp_bpe_counter *c, struct dp_span *word, uint64_t *n, struct dp_err *e)
{
    if (c->runs) return dp_word_runs_next(c->runs, word, n, e);
    const struct slot *s = NULL;
    if (c->order) s = c->at < c->used ? c->order[c->at].slot : NULL;
    else if (c->slots) {
        while (c->at <= c->mask && !c->slots[c->at].count) c->at++;
        s = c->at <= c->mask ? &c->slots[c->at] : NULL;
    }
    if (!s) return DP_EOF;
    c->at++;
    if (c->given++ % LOOK_EVERY == 0) DP_TRY(dp_progress_go_on(e));
    *word = dp_span(s->word, s->len);
    *n = s->count;
    return DP_OK;
}

static void rewind_words(struct dp_bpe_counter *c)
{
    c->at = 0;
    c->tie_left = c->tie_bytes;
    if (c->runs) dp_word_runs_rewind(c->runs);
}

enum { DIGITS = 4, DIGIT = 1 << 16 };
/* Bytes of words by count. First [3] by counts of one digit (16 bits), [2] by the upper digit of those of two, and so on. */
struct histogram {
    uint64_t bytes[DIGITS][DIGIT];
};

/* From the top: the bucket that doesn't fit whole any more. false when all fit; *left is what is left for it. */
static bool find_bucket(const uint64_t bytes[DIGIT], uint64_t *left, unsigned *bucket)
{
    for (unsigned v = DIGIT; v-- > 0;) {
        *bucket = v;
        if (bytes[v] > *left) return true;
        *left -= bytes[v];
    }
    return false;
}

/* Set tie and tie_bytes so that the words taken have text_max bytes at most, counting one more for each. */
static int choose(struct dp_bpe_counter *c, struct histogram *h, uint64_t text_max, struct dp_err *e)
{
    struct dp_span w;
    uint64_t n, left = text_max;
    unsigned v = 0, d = 0;
    int rc;
    while (d < DIGITS && !find_bucket(h->bytes[d], &left, &v)) d++;
    if (d == DIGITS) return DP_OK;
    c->tie = v;
    for (unsigned below = DIGITS - 1 - d; below; below--) { /* digits of the count that the bucket doesn't tell yet */
        memset(h->bytes[0], 0, sizeof h->bytes[0]);
        rewind_words(c);
        while ((rc = next_word(c, &w, &n, e)) == DP_OK)
            if (w.len > 1 && n >> (16 * below) == c->tie) h->bytes[0][n >> (16 * (below - 1)) & (DIGIT - 1)] += w.len + 1;
        DP_TRY(rc);
        find_bucket(h->bytes[0], &left, &v);
        c->tie = c->tie << 16 | v;
    }
    c->tie_bytes = left;
    if (!c->runs) DP_TRY(sort_slots(c, &c->order, e));
    return DP_OK;
}

int dp_bpe_counter_finish(struct dp_bpe_counter *c, uint64_t text_max, struct dp_err *e)
{
    struct dp_span w;
    uint64_t n;
    int rc = DP_OK;
    if (c->finished) {
        rewind_words(c);
        return DP_OK;
    }
    if (c->runs) {
        DP_TRY(spill(c, e));
        DP_TRY(dp_word_runs_finish(c->runs, e));
        free(c->slots);
        c->slots = NULL;
    }
    struct histogram *h = calloc(1, sizeof *h);
    if (!h) DP_FAIL(e, NOMEM, "choosing pretokens");
    while ((rc = next_word(c, &w, &n, e)) == DP_OK) {
        unsigned d = n >> 48 ? 0 : n >> 32 ? 1 : n >> 16 ? 2 : 3;
        c->unique++;
        if (w.len < 2) continue;
        c->learnable++;
        h->bytes[d][n >> (16 * (DIGITS - 1 - d))] += w.len + 1;
    }
    if (rc >= 0 && text_max) rc = choose(c, h, text_max, e);
    free(h);
    DP_TRY(rc);
    c->finished = true;
    rewind_words(c);
    while ((rc = dp_bpe_counter_next(c, &w, &n, e)) == DP_OK) {
        c->taken++;
        c->text_bytes += w.len + 1;
    }
    rewind_words(c);
    return rc < 0 ? rc : DP_OK;
}

int dp_bpe_counter_next(struct dp_bpe_counter *c, struct dp_span *word, uint64_t *n, struct dp_err *e)
{
    DP_ASSERT(c->finished);
    int rc;
    while ((rc = next_word(c, word, n, e)) == DP_OK) {
        if (word->len < 2 || *n < c->tie) continue;
        if (*n > c->tie) return DP_OK;
        if (word->len + 1 <= c->tie_left) {
            c->tie_left -= word->len + 1;
            return DP_OK;
        }
        c->tie_left = 0; /* a prefix: what comes later doesn't fill the gap */
    }
    return rc;
}

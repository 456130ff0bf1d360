/* tokenizer/bpe_count.c - count unique pretokens, and choose those to learn from.
 *
 * An open-addressing table of 24-byte slots with linear probing, at most three quarters full. A word of at most 15 bytes (98 % of a text's
 * pieces) is its own key and stands in its slot; longer ones lie in a byte arena of chunks that never move. Sorting the text's pieces instead
 * would need all of them; a table of the unique ones holds most corpora. Pieces wait in a queue of keys, whatever texts they are from,
 * each with its slot being fetched: so a miss of the processor's cache is waited for once, not for each word (13 -> 7 ns a piece).
 *
 * When the budget is used up, the table is sorted by bytes, written as a run (word_runs.h) and emptied; the runs' merge has the same
 * counts as one large table. Evicting rare words instead would make the merges depend on the order of documents and on the number of threads.
 *
 * What is learnt from is a prefix of all words by (count descending, bytes): a histogram of counts finds the least count that is
 * still taken whole, and words of the count below are taken in order of their bytes while they fit. So it is a pure function of the counts. */
#include "tokenizer/bpe_train.h"

#include "base/large.h"
#include "base/progress.h"
#include "tokenizer/bpe_veto.h"
#include "tokenizer/split_int.h"
#include "tokenizer/text_cut.h"
#include "tokenizer/text_sample.h"
#include "tokenizer/word_hash.h"
#include "tokenizer/word_runs.h"

#include <stdlib.h>

enum {
    CHUNK = 1 << 20,
    ENDS = 256,
    QUEUE = 512,
    LOOK_EVERY = 1 << 16,
    PARTS = 1 << 16,
};
#define LONG_WORD (UINT64_C(0xff) << 56)
#define LONG_LEN UINT64_C(0xffffffff)
#define WORD_BYTES_MAX ((size_t)1 << 20)

/* Short words: dp_word_key. Others: hi has LONG_WORD, 24 bits of the hash, and the length; lo is the
 * place of the bytes. */
struct slot {
    uint64_t lo, hi;
    uint64_t count; /* 0: empty */
};

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
    struct waiting {
        uint64_t lo, hi, hash, times;
    } queue[QUEUE]; /* short words */
    size_t waiting;
    uint64_t weight;
    size_t word_max; /* longer pretokens are cut */
    uint64_t words_cut;
    struct chunk *chunks;
    char *free;
    size_t free_len;
    uint64_t bytes, bytes_max, total;
    const char *dir; /* for runs; NULL: the budget is a limit */
    struct dp_word_runs *runs;
    struct dp_special_find *specials; /* their texts are cut out; NULL: none */
    struct dp_text_sample *sample;    /* of texts; NULL: none is taken */
    bool sample_only;                 /* words aren't needed; total counts texts */
    /* Finished: */
    bool finished;
    struct key *order; /* slots by bytes, when words are left out and none is on disk */
    size_t at;         /* in slots or order: the next to give */
    size_t given;
    uint64_t unique, learnable, taken, text_bytes; /* learnable: of two bytes and more */
    uint64_t learnable_times, taken_times;         /* how often these occur */
    uint64_t tie, tie_bytes; /* words with a count of `tie` are taken while tie_bytes lasts, those above always */
    uint64_t tie_left;
};

static inline struct dp_span word_of(const struct slot *s)
{
    if (s->hi < LONG_WORD) return dp_span((const char *)s, s->hi >> 56);
    return dp_span((const char *)(uintptr_t)s->lo, s->hi & LONG_LEN);
}

int dp_bpe_counter_open(struct dp_bpe_counter **out, enum dp_split split, struct dp_err *e)
{
    struct dp_bpe_counter *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c) {
        c->split = split;
        c->mask = (1 << 12) - 1;
        c->bytes_max = UINT64_C(16) << 30;
        c->word_max = WORD_BYTES_MAX;
        c->weight = 1;
        c->slots = dp_large_alloc((c->mask + 1) * sizeof *c->slots);
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

int dp_bpe_counter_open_for(struct dp_bpe_counter **out, const struct dp_bpe_train_options *o, struct dp_err *e)
{
    struct dp_splitter *s = NULL;
    enum dp_split split;
    unsigned rules;
    *out = NULL;
    DP_TRY(dp_bpe_veto_rules(o->super_veto, &rules, e));
    DP_TRY(dp_bpe_split_of(o, false, &s, &split, e));
    int rc = dp_bpe_counter_open(out, split, e);
    if (rc >= 0) rc = dp_bpe_counter_splitter(*out, s, e);
    if (rc >= 0) rc = dp_bpe_specials_of(&(*out)->specials, o, e);
    if (rc >= 0 && o->super_from) rc = dp_text_sample_open(&(*out)->sample, o->super_bytes_max, (uint64_t)o->super_seed, e);
    dp_splitter_close(s);
    if (rc < 0) {
        dp_bpe_counter_close(*out);
        *out = NULL;
        return rc;
    }
    (*out)->sample_only = o->base && o->super_from == (int64_t)dp_tokenizer_size(o->base);
    return DP_OK;
}

void dp_bpe_counter_budget(struct dp_bpe_counter *c, uint64_t bytes_max, const char *dir)
{
    c->bytes_max = bytes_max;
    c->dir = dir;
}

void dp_bpe_counter_word_max(struct dp_bpe_counter *c, size_t n)
{
    DP_ASSERT(n > DP_WORD_KEY_MAX);
    c->word_max = n;
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
    dp_special_find_close(c->specials);
    dp_text_sample_close(c->sample);
    free(c);
}

uint64_t dp_bpe_counter_unique(const struct dp_bpe_counter *c)
{
    return c->unique;
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
double dp_bpe_counter_coverage(const struct dp_bpe_counter *c)
{
    return c->learnable_times ? (double)c->taken_times / (double)c->learnable_times : 1;
}
uint64_t dp_bpe_counter_words_cut(const struct dp_bpe_counter *c)
{
    return c->words_cut;
}
uint64_t dp_bpe_counter_bytes(const struct dp_bpe_counter *c)
{
    return c->bytes;
}
struct dp_span dp_bpe_counter_split_text(const struct dp_bpe_counter *c)
{
    return dp_splitter_text(c->splitter, c->split);
}
enum dp_split dp_bpe_counter_split(const struct dp_bpe_counter *c)
{
    return c->split;
}
struct dp_splitter *dp_bpe_counter_get_splitter(const struct dp_bpe_counter *c)
{
    return c->splitter;
}
const struct dp_special_find *dp_bpe_counter_specials(const struct dp_bpe_counter *c)
{
    return c->specials;
}
struct dp_text_sample *dp_bpe_counter_sample(const struct dp_bpe_counter *c)
{
    return c->sample;
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
    return dp_word_order(word_of(x->slot), word_of(y->slot));
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
        if (c->slots[i].count) end[(dp_word_head(word_of(&c->slots[i])) >> 48) + 1]++;
    for (size_t i = 0; i < PARTS; i++) end[i + 1] += end[i];
    for (size_t i = 0; i <= c->mask; i++) {
        uint64_t head = c->slots[i].count ? dp_word_head(word_of(&c->slots[i])) : 0;
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
        DP_TRY_OUT(dp_word_runs_add(c->runs, word_of(k[i].slot), k[i].slot->count, e));
    DP_TRY_OUT(dp_word_runs_end(c->runs, e));
    free_chunks(c);
    memset(c->slots, 0, (c->mask + 1) * sizeof *c->slots);
    c->used = 0;
    c->bytes = (c->mask + 1) * sizeof *c->slots;
out:
    free(k);
    return rc;
}

static uint64_t hash_of(const struct slot *s)
{
    if (s->hi < LONG_WORD) return dp_word_mix(s->lo, s->hi);
    struct dp_span w = word_of(s);
    return dp_hash64(w.ptr, w.len, 0);
}

/* Make the table larger, or empty. */
static int grow(struct dp_bpe_counter *c, struct dp_err *e)
{
    size_t mask = c->mask * 2 + 1;
    if (must_spill(c, (mask + 1) * sizeof *c->slots)) return spill(c, e);
    DP_TRY(charge(c, (mask + 1) * sizeof *c->slots, e));
    struct slot *slots = dp_large_alloc((mask + 1) * sizeof *slots);
    if (!slots) {
        c->bytes -= (mask + 1) * sizeof *slots;
        DP_FAIL(e, NOMEM, "%zu slots for pretokens", mask + 1);
    }
    for (size_t i = 0; i <= c->mask; i++) {
        const struct slot *s = &c->slots[i];
        if (!s->count) continue;
        size_t at = hash_of(s) & mask;
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

/* A word that isn't in the table yet; its place from `at` on is free. */
static int insert(struct dp_bpe_counter *c, size_t at, struct slot new, struct dp_err *e)
{
    c->slots[at] = new;
    if (++c->used > c->mask / 4 * 3) return grow(c, e);
    return DP_OK;
}

static inline int count_short(struct dp_bpe_counter *c, const struct waiting *w, struct dp_err *e)
{
    for (size_t at = w->hash & c->mask;; at = (at + 1) & c->mask) {
        struct slot *s = &c->slots[at];
        if (s->lo == w->lo && s->hi == w->hi) {
            s->count += w->times;
            return DP_OK;
        }
        if (!s->count) return insert(c, at, (struct slot){w->lo, w->hi, w->times}, e);
    }
}

static int count_long(struct dp_bpe_counter *c, struct dp_span word, uint64_t n, struct dp_err *e)
{
    if (word.len > UINT32_MAX / 2) DP_FAIL(e, LIMIT, "a pretoken of %zu bytes is longer than 2 GiB", word.len);
    uint64_t h = dp_hash64(word.ptr, word.len, 0), hi = LONG_WORD | h >> 40 << 32 | word.len;
    size_t at = h & c->mask;
    for (; c->slots[at].count; at = (at + 1) & c->mask) {
        struct slot *s = &c->slots[at];
        if (s->hi != hi || memcmp((const char *)(uintptr_t)s->lo, word.ptr, word.len) != 0) continue;
        s->count += n;
        return DP_OK;
    }
    if (word.len > c->free_len && must_spill(c, sizeof(struct chunk) + (word.len > CHUNK / 4 ? word.len : CHUNK))) {
        DP_TRY(spill(c, e));
        at = h & c->mask;
    }
    const char *copy = NULL;
    DP_TRY(keep(c, word, &copy, e));
    return insert(c, at, (struct slot){(uintptr_t)copy, hi, n}, e);
}

/* Count what waits. */
static int settle(struct dp_bpe_counter *c, struct dp_err *e)
{
    for (size_t i = 0, n = c->waiting; i < n; i++) {
        c->waiting = n - i - 1; /* should it fail, those behind are lost, and so is the counter */
        DP_TRY(count_short(c, &c->queue[i], e));
    }
    return DP_OK;
}

/* A short word, whose key is lo and hi, joins the queue. */
static inline int queue_word(struct dp_bpe_counter *c, uint64_t lo, uint64_t hi, struct dp_err *e)
{
    uint64_t hash = dp_word_mix(lo, hi);
    c->queue[c->waiting] = (struct waiting){lo, hi, hash, c->weight};
    __builtin_prefetch(&c->slots[hash & c->mask], 1);
    return ++c->waiting == QUEUE ? settle(c, e) : DP_OK;
}

static int count_short_or_long(struct dp_bpe_counter *c, struct dp_span word, struct dp_err *e)
{
    uint64_t lo, hi;
    if (word.len > DP_WORD_KEY_MAX) return count_long(c, word, c->weight, e);
    dp_word_key_exact(word.ptr, word.len, &lo, &hi);
    return queue_word(c, lo, hi, e);
}

/* A piece that isn't short, or has too few bytes behind it. One longer than word_max is cut between characters. */
static __attribute__((noinline)) int count_odd(struct dp_bpe_counter *c, struct dp_span word, struct dp_err *e)
{
    c->words_cut += word.len > c->word_max;
    while (word.len > c->word_max) {
        size_t n = c->word_max;
        for (int back = 0; back < 3 && ((uint8_t)word.ptr[n] & 0xc0) == 0x80; back++) n--;
        DP_TRY(count_short_or_long(c, dp_span(word.ptr, n), e));
        c->total += c->weight;
        word = dp_span(word.ptr + n, word.len - n);
    }
    return count_short_or_long(c, word, e);
}

/* Count a piece; `end` is where bytes that can be read end. Whoever calls adds to total. */
static inline int count(struct dp_bpe_counter *c, const char *from, const char *to, const char *end, struct dp_err *e)
{
    size_t n = (size_t)(to - from);
    uint64_t lo, hi;
    if (__builtin_expect(n > DP_WORD_KEY_MAX || end - from < DP_WORD_KEY_READ, 0)) return count_odd(c, dp_span(from, n), e);
    dp_word_key(from, n, &lo, &hi);
    return queue_word(c, lo, hi, e);
}

static int weigh(struct dp_bpe_counter *c, uint64_t n, struct dp_err *e)
{
    if (n > UINT64_MAX / 4 || c->total > UINT64_MAX / 4) DP_FAIL(e, LIMIT, "counts of pretokens past 2^62");
    c->weight = n;
    return DP_OK;
}

static int add_pieces(struct dp_bpe_counter *c, struct dp_span text, struct dp_err *e)
{
    size_t ends[ENDS], pos = 0, from = 0;
    int n;
    while ((n = c->cutter ? dp_cutter_run(c->cutter, text, &pos, ends, ENDS, e) : (int)dp_split_run(c->split, text, &pos, ends, ENDS)) > 0)
        for (int i = 0; i < n; from = ends[i++], c->total += c->weight) DP_TRY(count(c, text.ptr + from, text.ptr + ends[i], text.ptr + text.len, e));
    return n;
}

/* Of a text, what stands between special tokens. */
static int add_part(struct dp_bpe_counter *c, struct dp_span text, struct dp_err *e)
{
    if (c->sample) DP_TRY(dp_text_sample_add(c->sample, text, c->weight, e));
    if (c->sample_only) return c->total += c->weight, DP_OK;
    return add_pieces(c, text, e);
}

int dp_bpe_counter_add_times(struct dp_bpe_counter *c, struct dp_span text, uint64_t times, struct dp_err *e)
{
    size_t from = 0, at = 0, len = 0;
    if (!times) return DP_OK;
    DP_TRY(weigh(c, times, e));
    for (; dp_special_find_next(c->specials, text, &at, &len); from = at += len)
        DP_TRY(add_part(c, dp_span(text.ptr + from, at - from), e));
    return add_part(c, dp_span(text.ptr + from, text.len - from), e);
}

int dp_bpe_counter_add(struct dp_bpe_counter *c, struct dp_span text, struct dp_err *e)
{
    return dp_bpe_counter_add_times(c, text, 1, e);
}

static int add_line_by_line(struct dp_bpe_counter *c, struct dp_span text, uint64_t *lines, struct dp_err *e)
{
    for (size_t from = 0, to; from < text.len; from = to, (*lines)++) {
        const char *nl = memchr(text.ptr + from, '\n', text.len - from);
        to = nl ? (size_t)(nl - text.ptr) + 1 : text.len;
        DP_TRY(dp_bpe_counter_add(c, dp_span(text.ptr + from, to - from), e));
    }
    return DP_OK;
}

/* The text is split as one, many pieces at a time. That gives the lines' own pieces but at the ends of lines: what patterns match depends on
 * nothing before it, and on what is behind a newline only where a match comes to that newline. So the piece that comes to a line's end,
 * and those up to where a piece of the whole and one of the line begin together again, are split one by one. */
int dp_bpe_counter_add_lines(struct dp_bpe_counter *c, struct dp_span text, uint64_t *lines, struct dp_err *e)
{
    size_t ends[ENDS], pos = 0, n;
    const char *p = text.ptr, *begin = p, *line = p, *end = p + text.len; /* p: what isn't counted yet; begin: of a piece of the whole */
    size_t special = 0, len;
    uint64_t pieces = 0;
    if (c->cutter || c->sample || !dp_text_can_cut(c->split) || dp_special_find_next(c->specials, text, &special, &len)) return add_line_by_line(c, text, lines, e);
    DP_TRY(weigh(c, 1, e));
    while ((n = dp_split_run(c->split, text, &pos, ends, ENDS)) > 0)
        for (size_t i = 0; i < n; i++) {
            const char *to = text.ptr + ends[i];
            while (p < to) {
                if (p == line) {
                    const char *nl = memchr(p, '\n', (size_t)(end - p));
                    line = nl ? nl + 1 : end;
                    (*lines)++;
                }
                const char *from = p;
                bool same = from == begin && to < line - 1;
                p = same ? to : (const char *)dp_split_next(c->split, (const uint8_t *)p, (const uint8_t *)line);
                DP_TRY(count(c, from, p, end, e));
                pieces++;
            }
            begin = to;
        }
    c->total += pieces;
    return DP_OK;
}

int dp_bpe_counter_add_word(struct dp_bpe_counter *c, struct dp_span word, uint64_t n, struct dp_err *e)
{
    if (!n || !word.len) return DP_OK;
    DP_TRY(weigh(c, n, e));
    c->total += n;
    return count_short_or_long(c, word, e);
}

int dp_bpe_counter_merge(struct dp_bpe_counter *into, struct dp_bpe_counter *from, struct dp_err *e)
{
    struct dp_span a = dp_splitter_text(into->splitter, into->split), b = dp_splitter_text(from->splitter, from->split);
    if (!dp_span_eq(a, b)) DP_FAIL(e, CONFIG, "counters of the splits %.*s and %.*s can't be merged", DP_SPAN_FMT(a), DP_SPAN_FMT(b));
    DP_ASSERT(!into->finished && !from->finished);
    DP_TRY(settle(from, e));
    if (from->runs) {
        DP_TRY(spill(from, e));
        if (!into->runs) DP_TRY(dp_word_runs_open(&into->runs, into->dir ? into->dir : from->dir, e));
        DP_TRY(dp_word_runs_take(into->runs, from->runs, e));
        into->total += from->total;
    } else
        for (size_t i = 0; i <= from->mask; i++) {
            const struct slot *s = &from->slots[i];
            if (i % LOOK_EVERY == 0) DP_TRY(dp_progress_go_on(e));
            if (s->count) DP_TRY(dp_bpe_counter_add_word(into, word_of(s), s->count, e));
        }
    into->words_cut += from->words_cut;
    if (into->sample && from->sample) DP_TRY(dp_text_sample_merge(into->sample, from->sample, e));
    dp_bpe_counter_drop_words(from);
    from->total = 0;
    return DP_OK;
}

int dp_bpe_counter_each(struct dp_bpe_counter *c, int (*fn)(void *ctx, struct dp_span word, uint64_t count, struct dp_err *e), void *ctx, struct dp_err *e)
{
    struct dp_span w;
    uint64_t n;
    struct key *k = NULL;
    int rc = DP_OK;
    DP_ASSERT(!c->finished);
    DP_TRY(settle(c, e));
    if (c->runs) {
        DP_TRY(spill(c, e));
        DP_TRY(dp_word_runs_finish(c->runs, e));
        while ((rc = dp_word_runs_next(c->runs, &w, &n, e)) == DP_OK) DP_TRY(fn(ctx, w, n, e));
        return rc < 0 ? rc : DP_OK;
    }
    DP_TRY_OUT(sort_slots(c, &k, e));
    for (size_t i = 0; i < c->used; i++) DP_TRY_OUT(fn(ctx, word_of(k[i].slot), k[i].slot->count, e));
out:
    free(k);
    return rc;
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
    *word = word_of(s);
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
    DP_TRY(settle(c, e));
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
        c->learnable_times += n;
        h->bytes[d][n >> (16 * (DIGITS - 1 - d))] += w.len + 1;
    }
    if (rc >= 0 && text_max) rc = choose(c, h, text_max, e);
    free(h);
    DP_TRY(rc);
    c->finished = true;
    rewind_words(c);
    while ((rc = dp_bpe_counter_next(c, &w, &n, e)) == DP_OK) {
        c->taken++;
        c->taken_times += n;
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

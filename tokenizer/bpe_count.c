/* tokenizer/bpe_count.c - count unique pretokens.
 *
 * An open-addressing table of 24-byte slots (half of the hash as a tag, length, place, count) with linear probing, at most
 * three quarters full, over a byte arena of chunks that never move. Sorting the text's pieces instead would need all of
 * them in memory; a table of the unique ones is what a corpus of terabytes still fits.
 *
 * The budget is a hard limit rather than an eviction, because evicted counts would make the merges depend on the order of
 * documents and on the number of threads. NEEDSWORK: spill sorted runs to disk when the budget is reached. */
#include "tokenizer/bpe_train.h"

#include "tokenizer/word_hash.h"

#include <stdlib.h>

struct slot {
    uint64_t count; /* 0: empty */
    const char *word;
    uint32_t len, tag;
};

enum { CHUNK = 1 << 20, ENDS = 512 };
struct chunk {
    struct chunk *next;
    char bytes[];
};

struct dp_bpe_counter {
    enum dp_split split;
    struct slot *slots;
    size_t mask, used;
    struct chunk *chunks;
    char *free;
    size_t free_len;
    uint64_t bytes, bytes_max, total;
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

void dp_bpe_counter_budget(struct dp_bpe_counter *c, uint64_t bytes_max)
{
    c->bytes_max = bytes_max;
}

void dp_bpe_counter_close(struct dp_bpe_counter *c)
{
    if (!c) return;
    for (struct chunk *k = c->chunks, *next; k; k = next) {
        next = k->next;
        free(k);
    }
    free(c->slots);
    free(c);
}

uint64_t dp_bpe_counter_unique(const struct dp_bpe_counter *c) { return c->used; }
uint64_t dp_bpe_counter_total(const struct dp_bpe_counter *c) { return c->total; }
uint64_t dp_bpe_counter_bytes(const struct dp_bpe_counter *c) { return c->bytes; }
enum dp_split dp_bpe_counter_split(const struct dp_bpe_counter *c) { return c->split; }

/* Take n more bytes of memory from the budget. */
static int charge(struct dp_bpe_counter *c, size_t n, struct dp_err *e)
{
    if (n > c->bytes_max || c->bytes > c->bytes_max - n)
        DP_FAIL(e, LIMIT, "counting pretokens needs more than its budget of %llu bytes (%zu unique ones so far): give it more "
                "memory or train on a sample; spilling to disk isn't there yet", (unsigned long long)c->bytes_max, c->used);
    c->bytes += n;
    return DP_OK;
}

static int grow(struct dp_bpe_counter *c, struct dp_err *e)
{
    size_t mask = c->mask * 2 + 1;
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
    const char *copy = NULL;
    DP_TRY(keep(c, word, &copy, e));
    c->slots[at] = (struct slot){n, copy, (uint32_t)word.len, tag};
    c->total += n;
    if (++c->used > c->mask / 4 * 3) return grow(c, e);
    return DP_OK;
}

int dp_bpe_counter_add(struct dp_bpe_counter *c, struct dp_span text, struct dp_err *e)
{
    size_t ends[ENDS], pos = 0, from = 0, n;
    while ((n = dp_split_run(c->split, text, &pos, ends, ENDS)) > 0) {
        for (size_t i = 0; i < n; i++) {
            DP_TRY(count(c, dp_span(text.ptr + from, ends[i] - from), 1, e));
            from = ends[i];
        }
    }
    return DP_OK;
}

int dp_bpe_counter_add_word(struct dp_bpe_counter *c, struct dp_span word, uint64_t n, struct dp_err *e)
{
    if (!n || !word.len) return DP_OK;
    if (n > UINT64_MAX / 4 || c->total > UINT64_MAX / 4) DP_FAIL(e, LIMIT, "counts of pretokens past 2^62");
    return count(c, word, n, e);
}

int dp_bpe_counter_merge(struct dp_bpe_counter *into, const struct dp_bpe_counter *from, struct dp_err *e)
{
    if (into->split != from->split)
        DP_FAIL(e, CONFIG, "counters of the splits %s and %s can't be merged", dp_split_name(into->split),
                dp_split_name(from->split));
    struct dp_span word;
    uint64_t n;
    for (size_t it = 0; dp_bpe_counter_next(from, &it, &word, &n);) DP_TRY(dp_bpe_counter_add_word(into, word, n, e));
    return DP_OK;
}

bool dp_bpe_counter_next(const struct dp_bpe_counter *c, size_t *it, struct dp_span *word, uint64_t *n)
{
    while (*it <= c->mask && !c->slots[*it].count) ++*it;
    if (*it > c->mask) return false;
    const struct slot *s = &c->slots[(*it)++];
    *word = dp_span(s->word, s->len);
    *n = s->count;
    return true;
}

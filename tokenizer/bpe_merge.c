/* tokenizer/bpe_merge.c - merging pretokens, two ways.
 *
 * Short: the ids and ranks with their right neighbours stand at the places of the word's bytes; look for the least of all ranks, merge, look two
 * ranks up again. Quadratic, but the least of 16 takes a few instructions, and nothing moves. Several words at once take turns. Which pairs merge
 * can't be guessed, and a wrong guess costs as much as ten look-ups' instructions: so there is no branch on it.
 * Long (base64, one letter 100 KB long): a heap of (rank, place), stale entries dropped when they come up, over a doubly
 * linked list in arrays. n bytes push at most 3n entries: n log n.
 * Both must give the same ids; tests/unit/test_bpe_encode.c compares them with the definition in the header. */
#include "tokenizer/bpe_merge.h"

#include <stdlib.h>

enum { SHORT_MAX = 96, PLACE_BITS = 7, BLOCK = 16, LANES = 8 };

void dp_merge_scratch_release(struct dp_merge_scratch *s)
{
    free(s->mem);
    *s = (struct dp_merge_scratch){0};
}

/* A short word on its way. Places are those of the word's bytes, so that nothing moves when tokens merge. */
struct lane {
    uint32_t key[SHORT_MAX + 1]; /* of the token that begins at a place: rank with the next << PLACE_BITS | place; NO_KEY: they don't merge, or no token begins there */
    uint32_t ids[SHORT_MAX + 1]; /* those behind the last and before the first are never asked for */
    uint8_t next[SHORT_MAX + 1], prev[SHORT_MAX + 1]; /* places; n behind the last, NO_PLACE before the first */
    unsigned n, at, word;
    uint64_t left, right; /* of the token at `at`, made last: the keys of its pairs whose ranks are to be looked up, or NO_PAIR */
};
#define NO_PAIR UINT64_MAX
#define NO_KEY ((uint32_t)INT32_MAX)
#define NO_PLACE SHORT_MAX

static inline uint32_t key_of(uint32_t rank, unsigned place)
{
    return rank == DP_NO_ID ? NO_KEY : rank << PLACE_BITS | place;
}

static void begin(const struct dp_tokenizer *t, struct lane *l, struct dp_span word)
{
    const uint8_t *p = (const uint8_t *)word.ptr;
    unsigned n = (unsigned)word.len, all = (n + BLOCK - 1) / BLOCK * BLOCK;
    l->n = n;
    l->left = l->right = NO_PAIR;
    for (unsigned i = 0; i < n; i++) l->ids[i] = t->byte_id[p[i]];
    for (unsigned i = 0; i < all; i++) l->next[i] = (uint8_t)(i + 1);
    for (unsigned i = 0; i < all; i++) l->prev[i + 1] = (uint8_t)i;
    l->prev[0] = NO_PLACE;
    for (unsigned i = 0; i + 1 < n; i++) l->key[i] = key_of(t->byte_pairs[p[i] << 8 | p[i + 1]], i);
    for (unsigned i = n - 1; i < all; i++) l->key[i] = NO_KEY;
    l->ids[NO_PLACE] = l->ids[n] = 0;
    l->at = l->prev[NO_PLACE] = NO_PLACE; /* nothing is to be looked up */
}

/* Four numbers of 32 bits: what every x86-64 compares at once. Keys are below 2^31, so signed will do. */
typedef int32_t four __attribute__((vector_size(16)));
static inline four least_of(four a, four b)
{
    four less = a < b;
    return (a & less) | (b & ~less);
}

static inline uint32_t least_key(const struct lane *l)
{
    four best = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX};
    for (unsigned i = 0; i < l->n; i += BLOCK) {
        four v[4];
        memcpy(v, l->key + i, sizeof v);
        best = least_of(best, least_of(least_of(v[0], v[1]), least_of(v[2], v[3])));
    }
    int32_t a = best[0] < best[1] ? best[0] : best[1], b = best[2] < best[3] ? best[2] : best[3];
    return (uint32_t)(a < b ? a : b);
}

/* dp_pair_ask without a branch: which pairs merge can't be guessed. */
static inline uint64_t ask(const struct dp_tokenizer *t, uint32_t left, uint32_t right, bool there)
{
    uint64_t key = (uint64_t)left << 21 | right, h = dp_pair_hash(key), mask = 0 - (uint64_t)(dp_pair_may_merge(t, h) & there);
    __builtin_prefetch(&t->pairs[h & t->pair_mask & mask]);
    return key | ~mask;
}

/* Merge the pair of the least rank and ask for the ranks of the two new pairs. false: none is left. */
static inline bool merge_one(const struct dp_tokenizer *t, struct lane *l)
{
    uint32_t least = least_key(l);
    if (least == NO_KEY) return false;
    unsigned at = least & ((1u << PLACE_BITS) - 1), gone = l->next[at], after = l->next[gone], before = l->prev[at];
    l->ids[at] = dp_rank_id(t, least >> PLACE_BITS);
    l->key[gone] = l->key[at] = NO_KEY;
    l->next[at] = (uint8_t)after;
    l->prev[after] = (uint8_t)at;
    l->at = at;
    l->key[before] = NO_KEY;
    l->right = ask(t, l->ids[at], l->ids[after], after < l->n);
    l->left = ask(t, l->ids[before], l->ids[at], before != NO_PLACE);
    return true;
}

/* The key of a place by what was asked; only where another pair stands in the way of this one is there more than one look. */
static inline uint32_t answer(const struct dp_tokenizer *t, uint64_t key, unsigned place)
{
    uint64_t none = 0 - (uint64_t)(key == NO_PAIR), s = t->pairs[dp_pair_hash(key) & t->pair_mask & ~none];
    bool is = s >> 21 == key;
    if (__builtin_expect(!is & !none & (s != DP_PAIR_EMPTY), 0)) return key_of(dp_pair_rank_of(t, key), place);
    uint32_t mask = 0 - (uint32_t)is;
    uint32_t found = ((uint32_t)s & (DP_TOKENIZER_IDS_MAX - 1)) << PLACE_BITS | place;
    return (found & mask) | (NO_KEY & ~mask);
}

static inline void look_up(const struct dp_tokenizer *t, struct lane *l)
{
    unsigned at = l->at, before = l->prev[at];
    l->key[at] = answer(t, l->right, at);
    l->key[before] = answer(t, l->left, before);
}

static size_t take_ids(const struct lane *l, uint32_t *ids)
{
    size_t k = 0;
    for (unsigned i = 0; i < l->n; i = l->next[i]) ids[k++] = l->ids[i];
    return k;
}

static size_t merge_short(const struct dp_tokenizer *t, struct dp_span word, uint32_t *ids)
{
    struct lane l;
    begin(t, &l, word);
    while (merge_one(t, &l)) look_up(t, &l);
    return take_ids(&l, ids);
}

/* rank << 32 | place: the order of merging is the order of the numbers. */
static void heap_down(uint64_t *h, size_t len, size_t i)
{
    uint64_t x = h[i];
    for (size_t k; (k = 2 * i + 1) < len; i = k) {
        if (k + 1 < len && h[k + 1] < h[k]) k++;
        if (h[k] >= x) break;
        h[i] = h[k];
    }
    h[i] = x;
}

static void heap_push(uint64_t *h, size_t *len, uint64_t x)
{
    size_t i = (*len)++;
    for (; i && x < h[(i - 1) / 2]; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

#define NONE DP_NO_ID

/* A list of tokens under way. */
struct list {
    uint64_t *heap; /* room for three entries a token: one at the begin, two for a merge */
    uint32_t *next, *prev;
    uint32_t *rank; /* of ids[i] with its neighbour now: what an entry must equal to be valid */
};

/* In the scratch, for len tokens; `of` says in messages what they are. */
static int open_list(struct list *l, struct dp_merge_scratch *s, size_t len, const char *of, struct dp_err *e)
{
    size_t need = len * (3 * sizeof(uint64_t) + 3 * sizeof(uint32_t));
    if (len > INT32_MAX) DP_FAIL(e, LIMIT, "a pretoken of %zu %s; at most 2^31", len, of);
    if (need > s->bytes) {
        void *p = realloc(s->mem, need);
        if (!p) DP_FAIL(e, NOMEM, "merging a pretoken of %zu %s", len, of);
        s->mem = p;
        s->bytes = need;
    }
    l->heap = s->mem;
    l->next = (uint32_t *)(l->heap + 3 * len);
    l->prev = l->next + len;
    l->rank = l->prev + len;
    return DP_OK;
}

/* Merge ids[0..len), of which the ranks are in the list; returns how many are left. */
static size_t merge_list(const struct dp_tokenizer *t, struct list *l, uint32_t *ids, size_t len)
{
    uint64_t *heap = l->heap;
    uint32_t *next = l->next, *prev = l->prev, *rank = l->rank;
    size_t pushed = 0, left = 0;
    for (size_t i = 0; i < len; i++) {
        if (rank[i] != NONE) heap[pushed++] = (uint64_t)rank[i] << 32 | i;
        prev[i] = i ? (uint32_t)i - 1 : NONE;
        next[i] = i + 1 < len ? (uint32_t)i + 1 : NONE;
    }
    if (!pushed) return len;
    for (size_t i = pushed / 2; i-- > 0;) heap_down(heap, pushed, i);
    while (pushed) {
        uint64_t top = heap[0];
        heap[0] = heap[--pushed];
        if (pushed) heap_down(heap, pushed, 0);
        uint32_t at = (uint32_t)top;
        if (rank[at] != top >> 32) continue;
        uint32_t gone = next[at], after = next[gone], before = prev[at];
        ids[at] = dp_rank_id(t, rank[at]);
        rank[gone] = NONE;
        next[at] = after;
        rank[at] = NONE;
        if (after != NONE) {
            prev[after] = at;
            rank[at] = dp_pair_rank(t, ids[at], ids[after]);
            if (rank[at] != NONE) heap_push(heap, &pushed, (uint64_t)rank[at] << 32 | at);
        }
        if (before != NONE) {
            rank[before] = dp_pair_rank(t, ids[before], ids[at]);
            if (rank[before] != NONE) heap_push(heap, &pushed, (uint64_t)rank[before] << 32 | before);
        }
    }
    for (uint32_t i = 0; i != NONE; i = next[i]) ids[left++] = ids[i];
    return left;
}

static int merge_long(const struct dp_tokenizer *t, struct dp_merge_scratch *s, struct dp_span word, uint32_t *ids, size_t *n,
                      struct dp_err *e)
{
    const uint8_t *p = (const uint8_t *)word.ptr;
    struct list l;
    DP_TRY(open_list(&l, s, word.len, "bytes", e));
    for (size_t i = 0; i < word.len; i++) {
        ids[i] = t->byte_id[p[i]];
        l.rank[i] = i + 1 < word.len ? t->byte_pairs[p[i] << 8 | p[i + 1]] : NONE;
    }
    *n = merge_list(t, &l, ids, word.len);
    return DP_OK;
}

int dp_bpe_merge_tokens(const struct dp_tokenizer *t, struct dp_merge_scratch *s, uint32_t *ids, size_t *n, struct dp_err *e)
{
    struct list l;
    DP_TRY(open_list(&l, s, *n, "tokens", e));
    for (size_t i = 0; i < *n; i++) l.rank[i] = i + 1 < *n ? dp_pair_rank(t, ids[i], ids[i + 1]) : NONE;
    *n = merge_list(t, &l, ids, *n);
    return DP_OK;
}

int dp_bpe_merge(const struct dp_tokenizer *t, struct dp_merge_scratch *s, struct dp_span word, uint32_t *ids, size_t *n, struct dp_err *e)
{
    if (word.len > SHORT_MAX) return merge_long(t, s, word, ids, n, e);
    *n = merge_short(t, word, ids);
    return DP_OK;
}

bool dp_bpe_last_two(const struct dp_tokenizer *t, uint32_t id, uint32_t below, uint32_t *ids)
{
    struct dp_span b = t->bytes[id];
    size_t n = b.len;
    for (size_t i = 0; i < n; i++) ids[i] = t->byte_id[(uint8_t)b.ptr[i]];
    while (n > 2) {
        uint32_t best = below;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = dp_pair_rank(t, ids[i], ids[i + 1]);
            if (rank < best) best = rank, at = i;
        }
        if (best == below) return false;
        ids[at] = dp_rank_id(t, best);
        n--;
        memmove(ids + at + 1, ids + at + 2, (n - at - 1) * sizeof *ids);
    }
    return n == 2;
}

int dp_bpe_merge_many(const struct dp_tokenizer *t, struct dp_merge_scratch *s, const struct dp_span *words, size_t words_n, uint32_t *ids, uint32_t *n,
                      struct dp_err *e)
{
    struct lane lane[LANES], *lanes[LANES];
    uint32_t *room[LANES];
    size_t busy = 0, next = 0, got;
    for (size_t i = 0; i < LANES; i++) lanes[i] = &lane[i];
    while (next < words_n || busy) {
        for (; next < words_n && busy < LANES; ids += words[next++].len) {
            if (words[next].len > SHORT_MAX) {
                DP_TRY(merge_long(t, s, words[next], ids, &got, e));
                n[next] = (uint32_t)got;
                continue;
            }
            lanes[busy]->word = (unsigned)next;
            room[lanes[busy] - lane] = ids;
            begin(t, lanes[busy++], words[next]);
        }
        for (size_t i = 0; i < busy; i++) look_up(t, lanes[i]); /* of all first: what was just written is slow to be read back four at a time */
        for (size_t i = 0; i < busy; i++) {
            struct lane *l = lanes[i];
            if (merge_one(t, l)) continue;
            n[l->word] = (uint32_t)take_ids(l, room[l - lane]);
            lanes[i--] = lanes[--busy];
            lanes[busy] = l;
        }
    }
    return DP_OK;
}

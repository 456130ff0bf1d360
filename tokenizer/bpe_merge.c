/* tokenizer/bpe_merge.c - merging pretokens, two ways.
 *
 * Short: an array of ids and one of the ranks with their right neighbours; scan for the least rank, close the gap, look two
 * ranks up again. Quadratic, but for 48 bytes it stays in a few cache lines and beats every clever structure.
 * Long (base64, one letter 100 KB long): a heap of (rank, place), stale entries dropped when they come up, over a doubly
 * linked list in arrays. n bytes push at most 3n entries: n log n.
 * Both must give the same ids; tests/unit/test_bpe_encode.c compares them with the definition in the header. */
#include "tokenizer/bpe_merge.h"

#include <stdlib.h>

enum { SHORT_MAX = 48, LANES = 8 };

void dp_merge_scratch_release(struct dp_merge_scratch *s)
{
    free(s->mem);
    *s = (struct dp_merge_scratch){0};
}

/* A short word on its way. */
struct lane {
    uint32_t *ids;
    uint32_t rank[SHORT_MAX + 1]; /* of ids[i] with ids[i + 1] */
    size_t n, at, word;
    uint64_t left, right; /* of the token at `at`, made last: the keys of its pairs whose ranks are to be looked up, or NO_PAIR */
};
#define NO_PAIR UINT64_MAX

static void begin(const struct dp_tokenizer *t, struct lane *l, struct dp_span word, uint32_t *ids)
{
    const uint8_t *p = (const uint8_t *)word.ptr;
    l->ids = ids;
    l->n = word.len;
    l->left = l->right = NO_PAIR;
    l->at = 0;
    for (size_t i = 0; i < l->n; i++) ids[i] = t->byte_id[p[i]];
    for (size_t i = 0; i + 1 < l->n; i++) l->rank[i] = t->byte_pairs[p[i] << 8 | p[i + 1]];
}

/* Merge the pair of the least rank and ask for the ranks of the two new pairs. false: none is left. */
static inline bool merge_one(const struct dp_tokenizer *t, struct lane *l)
{
    uint64_t best = (uint64_t)DP_NO_ID << 32;
    for (size_t i = 0; i + 1 < l->n; i++) { /* rank and place in one number: no branch to be guessed */
        uint64_t k = (uint64_t)l->rank[i] << 32 | i;
        best = k < best ? k : best;
    }
    if (best >> 32 == DP_NO_ID) return false;
    size_t at = (uint32_t)best;
    uint32_t *ids = l->ids;
    ids[at] = dp_rank_id(t, (uint32_t)(best >> 32));
    l->n--;
    for (size_t i = at + 1; i < l->n; i++) ids[i] = ids[i + 1];
    for (size_t i = at + 1; i + 1 < l->n; i++) l->rank[i] = l->rank[i + 1];
    l->at = at;
    l->right = at + 1 < l->n ? dp_pair_ask(t, ids[at], ids[at + 1]) : NO_PAIR;
    l->left = at ? dp_pair_ask(t, ids[at - 1], ids[at]) : NO_PAIR;
    if (at + 1 < l->n) l->rank[at] = DP_NO_ID;
    if (at) l->rank[at - 1] = DP_NO_ID;
    return true;
}

static inline void look_up(const struct dp_tokenizer *t, struct lane *l)
{
    if (l->right != NO_PAIR) l->rank[l->at] = dp_pair_rank_of(t, l->right);
    if (l->left != NO_PAIR) l->rank[l->at - 1] = dp_pair_rank_of(t, l->left);
}

static size_t merge_short(const struct dp_tokenizer *t, struct dp_span word, uint32_t *ids)
{
    struct lane l;
    begin(t, &l, word, ids);
    while (merge_one(t, &l)) look_up(t, &l);
    return l.n;
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

#define NONE UINT32_MAX

static int merge_long(const struct dp_tokenizer *t, struct dp_merge_scratch *s, struct dp_span word, uint32_t *ids, size_t *n,
                      struct dp_err *e)
{
    size_t len = word.len, need = len * (3 * sizeof(uint64_t) + 3 * sizeof(uint32_t));
    if (len > INT32_MAX) DP_FAIL(e, LIMIT, "a pretoken of %zu bytes; at most 2^31", len);
    if (need > s->bytes) {
        void *p = realloc(s->mem, need);
        if (!p) DP_FAIL(e, NOMEM, "merging a pretoken of %zu bytes", len);
        s->mem = p;
        s->bytes = need;
    }
    uint64_t *heap = s->mem;
    uint32_t *next = (uint32_t *)(heap + 3 * len), *prev = next + len, *rank = prev + len;
    size_t pushed = 0;
    for (size_t i = 0; i < len; i++) {
        ids[i] = t->byte_id[(uint8_t)word.ptr[i]];
        prev[i] = i ? (uint32_t)i - 1 : NONE;
        next[i] = i + 1 < len ? (uint32_t)i + 1 : NONE;
    }
    for (size_t i = 0; i < len; i++) { /* rank[i] is that of i with its neighbour now: what an entry must equal to be valid */
        rank[i] = i + 1 < len ? t->byte_pairs[(uint8_t)word.ptr[i] << 8 | (uint8_t)word.ptr[i + 1]] : NONE;
        if (rank[i] != NONE) heap[pushed++] = (uint64_t)rank[i] << 32 | i;
    }
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
    *n = 0;
    for (uint32_t i = 0; i != NONE; i = next[i]) ids[(*n)++] = ids[i];
    return DP_OK;
}

int dp_bpe_merge(const struct dp_tokenizer *t, struct dp_merge_scratch *s, struct dp_span word, uint32_t *ids, size_t *n, struct dp_err *e)
{
    if (word.len > SHORT_MAX) return merge_long(t, s, word, ids, n, e);
    *n = merge_short(t, word, ids);
    return DP_OK;
}

int dp_bpe_merge_many(const struct dp_tokenizer *t, struct dp_merge_scratch *s, const struct dp_span *words, size_t words_n, uint32_t *ids, uint32_t *n,
                      struct dp_err *e)
{
    struct lane lanes[LANES];
    size_t busy = 0, next = 0, got;
    while (next < words_n || busy) {
        for (; next < words_n && busy < LANES; ids += words[next++].len) {
            if (words[next].len > SHORT_MAX) {
                DP_TRY(merge_long(t, s, words[next], ids, &got, e));
                n[next] = (uint32_t)got;
                continue;
            }
            lanes[busy].word = next;
            begin(t, &lanes[busy++], words[next], ids);
        }
        for (size_t i = 0; i < busy; i++) {
            struct lane *l = &lanes[i];
            look_up(t, l);
            if (merge_one(t, l)) continue;
            n[l->word] = (uint32_t)l->n;
            *l = lanes[--busy];
            i--;
        }
    }
    return DP_OK;
}

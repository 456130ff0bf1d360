#include "tokenizer/vocab_change.h"

#include "tokenizer/bpe_merge.h"
#include "tokenizer/tokenizer_int.h"

#include <stdlib.h>

struct cut {
    uint32_t left, right; /* DP_NO_ID: merges don't make it */
};

static bool ordinary(const struct dp_tokenizer *t, uint32_t id)
{
    return t->bytes[id].ptr && !t->is_special[id];
}

/* The two parts that merge last; `ids` has room for the token's bytes. */
static struct cut last_merge(const struct dp_tokenizer *t, uint32_t id, uint32_t *ids)
{
    const struct cut none = {DP_NO_ID, DP_NO_ID};
    if (!dp_bpe_last_two(t, id, DP_NO_ID, ids)) return none;
    uint32_t rank = dp_pair_rank(t, ids[0], ids[1]);
    return rank != DP_NO_ID && dp_rank_id(t, rank) == id ? (struct cut){ids[0], ids[1]} : none;
}

static int find_cuts(const struct dp_tokenizer *t, struct cut **out, struct dp_err *e)
{
    size_t longest = 1;
    for (uint32_t i = 0; i < t->size; i++)
        if (ordinary(t, i) && t->bytes[i].len > longest) longest = t->bytes[i].len;
    uint32_t *ids = malloc(longest * sizeof *ids);
    struct cut *cuts = *out = malloc(((size_t)t->size + 1) * sizeof *cuts);
    if (ids && cuts)
        for (uint32_t i = 0; i < t->size; i++) cuts[i] = ordinary(t, i) ? last_merge(t, i, ids) : (struct cut){DP_NO_ID, DP_NO_ID};
    free(ids);
    if (!ids || !cuts) DP_FAIL(e, NOMEM, "parts of %u tokens", t->size);
    return DP_OK;
}

/* The vocabulary of the tokens whose map isn't -1, under their new ids, with `merges` merges at most looked at. */
static int rebuild(struct dp_tokenizer **out, const struct dp_tokenizer *t, const int32_t *map, uint32_t merges, struct dp_err *e)
{
    uint32_t size = 0;
    struct dp_tokenizer_parts parts = dp_tokenizer_parts_of(t);
    if (t->sp) DP_FAIL(e, CONFIG, "a sentencepiece model has no merges that could be left out");
    for (uint32_t i = 0; i < t->size; i++)
        if (map[i] >= (int32_t)size) size = (uint32_t)map[i] + 1;
    struct dp_span *bytes = calloc((size_t)size + 1, sizeof *bytes);
    struct dp_merge *m = malloc(((size_t)t->merge_count + 1) * sizeof *m);
    struct dp_special *specials = malloc((t->special_count + 1) * sizeof *specials);
    int rc = DP_OK;
    if (!bytes || !m || !specials) DP_GOTO(e, NOMEM, "a vocabulary of %u tokens", size);
    for (uint32_t i = 0; i < t->size; i++)
        if (map[i] >= 0) bytes[map[i]] = t->bytes[i];
    size_t n = 0;
    for (uint32_t i = 0; !t->ranks && i < merges; i++) {
        struct dp_merge x = t->merges[i];
        if (map[x.left] < 0 || map[x.right] < 0 || map[x.id] < 0) continue;
        m[n++] = (struct dp_merge){(uint32_t)map[x.left], (uint32_t)map[x.right], (uint32_t)map[x.id]};
    }
    for (size_t i = 0; i < t->special_count; i++) {
        specials[i] = t->specials[i];
        specials[i].id = (uint32_t)map[specials[i].id];
        specials[i].flags &= ~(unsigned)DP_ADDED_OUTSIDE; /* outside, readers would number it anew */
    }
    parts.size = size;
    parts.bytes = bytes;
    parts.merges = m;
    parts.merge_count = n;
    parts.specials = specials;
    rc = dp_tokenizer_build(out, &parts, "the smaller vocabulary", e);
out:
    free(bytes);
    free(m);
    free(specials);
    return rc;
}

/* --- nested --- */

/* Mark what the first merges (or ids) make, until vocab_size tokens are marked. Returns the number of merges. */
static uint32_t mark_first(const struct dp_tokenizer *t, uint8_t *keep, uint32_t kept, uint32_t vocab_size)
{
    if (t->ranks) {
        for (uint32_t i = 0; i < t->size && kept < vocab_size; i++)
            if (ordinary(t, i) && !keep[i]) keep[i] = 1, kept++;
        return 0;
    }
    for (uint32_t i = 0; i < t->merge_count; i++) {
        uint32_t id = t->merges[i].id;
        if (kept == vocab_size) return i;
        kept += !keep[id];
        keep[id] = 1;
    }
    return t->merge_count;
}

int dp_tokenizer_nest(struct dp_tokenizer **out, const struct dp_tokenizer *t, uint32_t vocab_size, struct dp_err *e)
{
    uint8_t *keep = calloc((size_t)t->size + 1, 1);
    int32_t *map = malloc(((size_t)t->size + 1) * sizeof *map);
    uint32_t base = 256 + (uint32_t)t->special_count, last = 0, top = 0;
    int rc = DP_OK;
    *out = NULL;
    if (!keep || !map) DP_GOTO(e, NOMEM, "a vocabulary of %u tokens", vocab_size);
    if (vocab_size < base) DP_GOTO(e, CONFIG, "a vocabulary of %u tokens can't hold 256 bytes and %zu special tokens", vocab_size, t->special_count);
    for (size_t i = 0; i < t->special_count; i++) keep[t->specials[i].id] = 1;
    for (unsigned b = 0; b < 256; b++) keep[t->byte_id[b]] = 1;
    uint32_t merges = mark_first(t, keep, base, vocab_size);
    for (uint32_t i = 0; i < t->size; i++) {
        map[i] = keep[i] ? (int32_t)i : -1;
        if (ordinary(t, i)) last = i;
        if (ordinary(t, i) && keep[i]) top = i;
    }
    for (uint32_t i = last + 1; i < t->size; i++) /* only special tokens are behind all others */
        if (keep[i] && top < last) map[i] = (int32_t)++top;
    rc = rebuild(out, t, map, merges, e);
out:
    free(keep);
    free(map);
    return rc;
}

/* --- pruned --- */

static int keep_only(struct dp_tokenizer **out, const struct dp_tokenizer *t, const uint8_t *keep, int32_t *map, struct dp_err *e)
{
    int32_t n = 0;
    for (uint32_t i = 0; i < t->size; i++) map[i] = keep[i] ? n++ : -1;
    return rebuild(out, t, map, t->merge_count, e);
}

/* What can't go. */
static void mark_fixed(const struct dp_tokenizer *t, uint8_t *keep)
{
    for (size_t i = 0; i < t->special_count; i++) keep[t->specials[i].id] = 1; /* added ones may be ordinary too */
    for (uint32_t i = 0; i < t->size; i++) keep[i] = t->bytes[i].ptr && (t->is_special[i] || t->bytes[i].len == 1 || keep[i]);
}

int dp_tokenizer_keep(struct dp_tokenizer **out, const struct dp_tokenizer *t, const uint8_t *wanted, int32_t *map, struct dp_err *e)
{
    struct cut *cuts = NULL;
    uint8_t *keep = malloc((size_t)t->size + 1);
    uint32_t *todo = malloc(((size_t)t->size + 1) * sizeof *todo), n = 0;
    int rc = DP_OK;
    *out = NULL;
    if (!keep || !todo) DP_GOTO(e, NOMEM, "%u tokens to keep", t->size);
    DP_TRY_OUT(find_cuts(t, &cuts, e));
    memcpy(keep, wanted, t->size);
    mark_fixed(t, keep);
    for (uint32_t i = 0; i < t->size; i++)
        if (keep[i]) todo[n++] = i;
    while (n) {
        struct cut c = cuts[todo[--n]];
        if (c.left == DP_NO_ID) continue;
        if (!keep[c.left]) keep[c.left] = 1, todo[n++] = c.left;
        if (!keep[c.right]) keep[c.right] = 1, todo[n++] = c.right;
    }
    rc = keep_only(out, t, keep, map, e);
out:
    free(cuts);
    free(keep);
    free(todo);
    return rc;
}

struct pruning {
    const struct dp_tokenizer *t;
    struct cut *cuts;
    uint64_t *counts;
    uint32_t *needed; /* by how many tokens */
    uint32_t *heap, heap_len; /* tokens that nothing needs, the next to go on top */
};

static bool sooner(const struct pruning *p, uint32_t a, uint32_t b)
{
    return p->counts[a] != p->counts[b] ? p->counts[a] < p->counts[b] : a > b;
}

static void push(struct pruning *p, uint32_t id)
{
    uint32_t i = p->heap_len++;
    for (; i && sooner(p, id, p->heap[(i - 1) / 2]); i = (i - 1) / 2) p->heap[i] = p->heap[(i - 1) / 2];
    p->heap[i] = id;
}

static uint32_t pop(struct pruning *p)
{
    uint32_t top = p->heap[0], x = p->heap[--p->heap_len], i = 0;
    for (uint32_t k; (k = 2 * i + 1) < p->heap_len; i = k) {
        if (k + 1 < p->heap_len && sooner(p, p->heap[k + 1], p->heap[k])) k++;
        if (!sooner(p, p->heap[k], x)) break;
        p->heap[i] = p->heap[k];
    }
    p->heap[i] = x;
    return top;
}

/* A token isn't needed any more by one that went; it has that one's count. Its count is final when nothing needs it, so the heap stays one. */
static void release(struct pruning *p, uint32_t id, uint64_t count)
{
    p->counts[id] += count;
    if (--p->needed[id] == 0 && p->t->bytes[id].len > 1) push(p, id);
}

int dp_tokenizer_prune(struct dp_tokenizer **out, const struct dp_tokenizer *t, const uint64_t *counts, uint32_t vocab_size, uint64_t min_count,
                       int32_t *map, struct dp_err *e)
{
    struct pruning p = {.t = t};
    size_t n = (size_t)t->size + 1;
    uint8_t *keep = calloc(n, 1);
    uint32_t left = t->tokens;
    int rc = DP_OK;
    *out = NULL;
    p.counts = malloc(n * sizeof *p.counts);
    p.needed = calloc(n, sizeof *p.needed);
    p.heap = malloc(n * sizeof *p.heap);
    if (!keep || !p.counts || !p.needed || !p.heap) DP_GOTO(e, NOMEM, "usage of %u tokens", t->size);
    DP_TRY_OUT(find_cuts(t, &p.cuts, e));
    memcpy(p.counts, counts, t->size * sizeof *counts);
    for (uint32_t i = 0; i < t->size; i++) {
        keep[i] = t->bytes[i].ptr != NULL;
        if (p.cuts[i].left == DP_NO_ID) continue;
        p.needed[p.cuts[i].left]++;
        p.needed[p.cuts[i].right]++;
    }
    for (uint32_t i = 0; i < t->size; i++)
        if (ordinary(t, i) && t->bytes[i].len > 1 && !p.needed[i]) push(&p, i);
    while (p.heap_len && left > vocab_size && p.counts[p.heap[0]] < min_count) {
        uint32_t id = pop(&p);
        keep[id] = 0;
        left--;
        if (p.cuts[id].left == DP_NO_ID) continue;
        release(&p, p.cuts[id].left, p.counts[id]);
        release(&p, p.cuts[id].right, p.counts[id]);
    }
    if (left > vocab_size && min_count == UINT64_MAX)
        DP_GOTO(e, CONFIG, "a vocabulary of %u tokens can't hold 256 bytes and %zu special tokens", vocab_size, t->special_count);
    rc = keep_only(out, t, keep, map, e);
out:
    free(p.cuts);
    free(p.counts);
    free(p.needed);
    free(p.heap);
    free(keep);
    return rc;
}

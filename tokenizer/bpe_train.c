/* tokenizer/bpe_train.c - the merge loop.
 *
 * The unique pretokens lie end to end in one array of cells, one cell a byte, a wall before and after each. A token
 * of n bytes writes its id into its first and its last cell; so its neighbours are found without links: the next token
 * begins n cells on, and the cell before its first holds the id (hence the length) of the token before.
 *
 * Each pair has a count and a list of the cells where it began. Lists only grow and are checked when used: an entry counts if
 * its cell still begins the left token with the right one behind it. A cell that once began a token and now lies inside a longer
 * one never shows the old id there: it is emptied, or shows the id of the longer token (ids and texts are one to one). A pair's
 * occurrences all arise in the one merge that made its younger token, so its list is one stretch of a pool. A stretch begins with its pair and
 * its length; so when the pool is full, one walk over it closes up what is still needed: not the stretches of merged pairs, and of the others
 * only the entries that still count. That keeps the pool near the number of pairs that stand in the cells.
 *
 * A heap holds (count, pair), pushed when a pair arises. Counts only fall afterwards, so an entry found too high when it comes up is
 * pushed back with the true count; what comes up true is the maximum. Most pairs are rare and never come up, so only those from a floor on
 * are in the heap; when it is empty, the floor falls to an eighth of the highest count below, and a walk over all pairs finds those.
 *
 * What a merge changes is summed up by neighbour first: tokens have few, of the frequent ones, and every pair is then looked up once a
 * merge, many together, so that their cache misses overlap (100 MB of web text, 32,000 tokens: 2.7 M occurrences in 12 M lookups before). Peers keep hash sets of words per pair and rewrite
 * whole words, which costs the square of the length for long pretokens.
 *
 * Must agree with Hugging Face BpeTrainer and rustbpe, merge for merge (tests/unit/test_bpe_train.c, tests/parity). */
#include "tokenizer/bpe_trainer.h"

#include "base/progress.h"
#include "tokenizer/bpe_merge.h"
#include "tokenizer/encode.h"

#include <stdlib.h>

const struct dp_opt dp_bpe_train_opts[] = {
    {.name = "vocab_size",
     .type = DP_OPT_INT,
     .offset = offsetof(struct dp_bpe_train_options, vocab_size),
     .preset = "32000",
     .min = 256,
     .max = DP_TOKENIZER_IDS_MAX,
     .arg = "N",
     .help = "Tokens in all: special tokens, 256 bytes and merges."},
    {.name = "split",
     .type = DP_OPT_CHOICE,
     .offset = offsetof(struct dp_bpe_train_options, split),
     .preset = "gpt2",
     .choices = DP_SPLIT_CHOICES,
     .help = "The pre-tokenizer, whose pieces tokens never cross."},
    {.name = "split_pattern",
     .type = DP_OPT_STRING,
     .offset = offsetof(struct dp_bpe_train_options, split_pattern),
     .arg = "REGEX",
     .help = "A regular expression instead: its matches are pieces, and what is between them."},
    {.name = "split_digits",
     .type = DP_OPT_INT,
     .offset = offsetof(struct dp_bpe_train_options, split_digits),
     .preset = "0",
     .min = 0,
     .max = DP_SPLIT_DIGITS_MAX,
     .arg = "N",
     .help = "First of all cut numbers out, in groups of N digits at most from the left; 0: as the split does."},
    {.name = "split_scripts",
     .type = DP_OPT_BOOL,
     .offset = offsetof(struct dp_bpe_train_options, split_scripts),
     .preset = "false",
     .help = "Letters of different scripts (Latin, Cyrillic, Han ...) are never in one piece."},
    {.name = "tie",
     .type = DP_OPT_CHOICE,
     .offset = offsetof(struct dp_bpe_train_options, tie),
     .preset = "hf",
     .choices = "hf|bytes",
     .help = "Order of ids and of equally frequent pairs: as Hugging Face's trainer, or by byte as rustbpe."},
    {.name = "special_tokens",
     .type = DP_OPT_LIST,
     .offset = offsetof(struct dp_bpe_train_options, special_tokens),
     .preset = "<|endoftext|>",
     .arg = "LIST",
     .help = "Special tokens, comma-separated; never learnt from text."},
    {.name = "min_count",
     .type = DP_OPT_INT,
     .offset = offsetof(struct dp_bpe_train_options, min_count),
     .preset = "1",
     .min = 0,
     .max = 9007199254740992.0,
     .arg = "N",
     .help = "Stop when the most frequent pair occurs less often."},
    {.name = "words_bytes_max",
     .type = DP_OPT_SIZE,
     .offset = offsetof(struct dp_bpe_train_options, words_bytes_max),
     .preset = "16M",
     .min = 0,
     .max = 3.5 * 1024 * 1024 * 1024,
     .arg = "SIZE",
     .help = "Text of the distinct words to learn from, the most frequent first; training takes 20 times as much memory. 0: all words."},
    {.name = "token_bytes_max",
     .type = DP_OPT_INT,
     .offset = offsetof(struct dp_bpe_train_options, token_bytes_max),
     .preset = "0",
     .min = 0,
     .max = 1e9,
     .arg = "N",
     .help = "Longest token to learn, in bytes; 0 for no limit."},
    {.name = "token_chars_max",
     .type = DP_OPT_INT,
     .offset = offsetof(struct dp_bpe_train_options, token_chars_max),
     .preset = "0",
     .min = 0,
     .max = 1e9,
     .arg = "N",
     .help = "Longest token to learn, in characters; 0 for no limit."},
    {.name = "learn_special_text",
     .type = DP_OPT_BOOL,
     .offset = offsetof(struct dp_bpe_train_options, learn_special_text),
     .preset = "false",
     .help = "Learn from the texts of special tokens as from any other, as Hugging Face's trainer does; else they are cut out."},
    {.name = "super_from",
     .type = DP_OPT_INT,
     .offset = offsetof(struct dp_bpe_train_options, super_from),
     .preset = "0",
     .min = 0,
     .max = DP_TOKENIZER_IDS_MAX,
     .arg = "N",
     .help = "SuperBPE: from N tokens on, learn across words; 0: never."},
    {.name = "super_bytes_max",
     .type = DP_OPT_SIZE,
     .offset = offsetof(struct dp_bpe_train_options, super_bytes_max),
     .preset = "32M",
     .min = 65536,
     .max = 3.0 * 1024 * 1024 * 1024,
     .arg = "SIZE",
     .help = "SuperBPE: text to sample for it, held in memory by each thread; training takes 6 times as much."},
    {.name = "super_seed",
     .type = DP_OPT_INT,
     .offset = offsetof(struct dp_bpe_train_options, super_seed),
     .preset = "0",
     .min = 0,
     .max = 9007199254740992.0,
     .arg = "N",
     .help = "SuperBPE: another number is another sample."},
    {.name = "super_words_max",
     .type = DP_OPT_INT,
     .offset = offsetof(struct dp_bpe_train_options, super_words_max),
     .preset = "4",
     .min = 0,
     .max = 1000,
     .arg = "N",
     .help = "SuperBPE: words of a token at most; 0 for no limit."},
    {.name = "super_veto",
     .type = DP_OPT_LIST,
     .offset = offsetof(struct dp_bpe_train_options, super_veto),
     .preset = "colon,newline,sentence",
     .arg = "LIST",
     .help = "SuperBPE: what tokens don't go across."},
    DP_OPT_END,
};

#define CELLS_MAX (3750u << 20)
enum {
    AHEAD = 12, /* occurrences to prefetch: they are all over the cells */
    BLOCK_CELLS = 512,
    STRETCH_HEAD = 2, /* of a list in the pool: pair, length */
    LOOK_EVERY = 1 << 16, /* steps of a loop between looks whether to stop: some milliseconds */
    NEXT = 8, /* neighbours whose pairs are fetched ahead */
    FLOOR_STEP = 8,
};
#define WALL DP_CELL_WALL
#define INSIDE DP_CELL_INSIDE

/* Make room for one more element of *array. */
static int more(void *array, size_t *cap, size_t len, size_t size, struct dp_err *e)
{
    void **a = array;
    if (len < *cap) return DP_OK;
    size_t n = *cap ? *cap + *cap / 2 : 1024;
    void *p = realloc(*a, n * size);
    if (!p) DP_FAIL(e, NOMEM, "training BPE: %zu bytes", n * size);
    *a = p;
    *cap = n;
    return DP_OK;
}

static bool before(const struct dp_bpe_heap_entry *a, const struct dp_bpe_heap_entry *b)
{
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void sift_down(struct dp_bpe_trainer *t, size_t i)
{
    struct dp_bpe_heap_entry x = t->heap[i];
    for (size_t k; (k = 2 * i + 1) < t->heap_len; i = k) {
        if (k + 1 < t->heap_len && before(&t->heap[k + 1], &t->heap[k])) k++;
        if (!before(&t->heap[k], &x)) break;
        t->heap[i] = t->heap[k];
    }
    t->heap[i] = x;
}

static int push(struct dp_bpe_trainer *t, uint32_t pair, struct dp_err *e)
{
    const struct dp_bpe_pair *p = &t->pairs[pair];
    uint32_t left = (uint32_t)(p->key >> 32), right = (uint32_t)p->key;
    if (!t->heap_floor || p->count < t->heap_floor) return DP_OK;
    if (t->token_bytes_max && (int64_t)t->len[left] + t->len[right] > t->token_bytes_max) return DP_OK;
    DP_TRY(more(&t->heap, &t->heap_cap, t->heap_len, sizeof *t->heap, e));
    struct dp_bpe_heap_entry x = {p->count, p->key, pair};
    size_t i = t->heap_len++;
    for (; i && before(&x, &t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = x;
    return DP_OK;
}

/* Room for `need` elements. */
static int reserve(void *array, size_t *cap, size_t need, size_t size, struct dp_err *e)
{
    void **a = array;
    if (need <= *cap) return DP_OK;
    size_t n = need + need / 2 + 1024;
    void *p = realloc(*a, n * size);
    if (!p) DP_FAIL(e, NOMEM, "training BPE: %zu bytes", n * size);
    *a = p;
    *cap = n;
    return DP_OK;
}

/* Where the search for a pair begins. */
static inline uint32_t *slot_of(const struct dp_bpe_trainer *t, uint64_t key)
{
    return &t->slots[dp_word_mix(key, 0) & t->slot_mask];
}

static int find_pair(struct dp_bpe_trainer *t, uint64_t key, uint32_t *out, struct dp_err *e)
{
    size_t at = (size_t)(slot_of(t, key) - t->slots);
    for (; t->slots[at]; at = (at + 1) & t->slot_mask)
        if (t->pairs[t->slots[at] - 1].key == key) return *out = t->slots[at] - 1, DP_OK;
    if (t->pair_count >= UINT32_MAX - 2) DP_FAIL(e, LIMIT, "training BPE: 2^32 distinct pairs; train on a sample");
    DP_TRY(more(&t->pairs, &t->pair_cap, t->pair_count, sizeof *t->pairs, e));
    t->pairs[t->pair_count] = (struct dp_bpe_pair){.key = key};
    *out = (uint32_t)t->pair_count++;
    t->slots[at] = *out + 1;
    if (t->pair_count <= t->slot_mask / 2) return DP_OK;
    size_t mask = t->slot_mask * 2 + 1;
    uint32_t *slots = calloc(mask + 1, sizeof *slots);
    if (!slots) DP_FAIL(e, NOMEM, "training BPE: %zu slots for pairs", mask + 1);
    for (size_t i = 0; i < t->pair_count; i++) {
        at = dp_word_mix(t->pairs[i].key, 0) & mask;
        while (slots[at]) at = (at + 1) & mask;
        slots[at] = (uint32_t)i + 1;
    }
    free(t->slots);
    t->slots = slots;
    t->slot_mask = mask;
    return DP_OK;
}

int dp_bpe_trainer_pair(struct dp_bpe_trainer *t, uint32_t left, uint32_t right, uint32_t *out, struct dp_err *e)
{
    return find_pair(t, (uint64_t)left << 32 | right, out, e);
}

int dp_bpe_trainer_occurs(struct dp_bpe_trainer *t, uint32_t left, uint32_t right, uint32_t cell, uint64_t n, struct dp_err *e)
{
    uint32_t p = 0;
    DP_TRY(dp_bpe_trainer_pair(t, left, right, &p, e));
    DP_TRY(more(&t->found, &t->found_cap, t->found_len, sizeof *t->found, e));
    DP_TRY(more(&t->touched, &t->touched_cap, t->touched_len, sizeof *t->touched, e));
    t->pairs[p].count += (int64_t)n;
    if (t->pairs[p].made++ == 0) t->touched[t->touched_len++] = p;
    t->found[t->found_len++] = (struct dp_bpe_found){p, cell};
    return DP_OK;
}

/* A neighbour's pair with what the merge took, or with what it made. */
static inline uint64_t key_of(uint32_t id, int side, uint32_t token)
{
    return side ? (uint64_t)token << 32 | id : (uint64_t)id << 32 | token;
}

/* What the merge m changed, from near[] to the pairs; found[] names pairs then. */
static int settle_near(struct dp_bpe_trainer *t, struct dp_merge m, struct dp_err *e)
{
    for (int side = 0; side < 2; side++) {
        struct dp_bpe_near *near = &t->near[side];
        const uint32_t was = side ? m.right : m.left;
        const size_t n = near->len;
        DP_TRY(reserve(&t->touched, &t->touched_cap, t->touched_len + n, sizeof *t->touched, e));
        for (size_t i = 0; i < n + 2 * NEXT; i++) { /* a slot is fetched, then the pair it names, then both are there */
            if (i < n) {
                __builtin_prefetch(slot_of(t, key_of(near->v[i].id, side, was)));
                __builtin_prefetch(slot_of(t, key_of(near->v[i].id, side, m.id)), 1);
            }
            if (i >= NEXT && i - NEXT < n) {
                uint32_t p = *slot_of(t, key_of(near->v[i - NEXT].id, side, was));
                if (p) __builtin_prefetch(&t->pairs[p - 1], 1);
            }
            if (i < 2 * NEXT) continue;
            struct dp_bpe_neighbour *k = &near->v[i - 2 * NEXT];
            uint32_t p = 0;
            DP_TRY(find_pair(t, key_of(k->id, side, was), &p, e));
            t->pairs[p].count -= (int64_t)k->n;
            DP_TRY(find_pair(t, key_of(k->id, side, m.id), &k->pair, e));
            t->pairs[k->pair].count += (int64_t)k->n;
            if (t->pairs[k->pair].made == 0) t->touched[t->touched_len++] = k->pair;
            t->pairs[k->pair].made += k->made;
        }
    }
    for (size_t i = 0; i < t->found_len; i++) t->found[i].pair = t->near[t->found[i].pair & 1].v[t->found[i].pair >> 1].pair;
    t->near[0].len = t->near[1].len = 0;
    return DP_OK;
}

/* Close up the pool. With `check` only those entries stay that still count (the others never will again: tokens only grow); that looks all
 * over the cells, so it is for when the lists of merged pairs don't give enough. */
static void compact(struct dp_bpe_trainer *t, bool check)
{
    size_t to = 0, looked = 0;
    for (size_t from = 0; from < t->pool_len;) {
        uint32_t pair = t->pool[from], n = t->pool[from + 1], kept = 0;
        struct dp_bpe_pair *p = &t->pairs[pair];
        const uint32_t *list = t->pool + from + STRETCH_HEAD;
        if (from - looked >= LOOK_EVERY) dp_progress_tick(), looked = from;
        bool owned = p->list == from + STRETCH_HEAD && p->list_len;
        from += STRETCH_HEAD + n;
        if (!owned) continue;
        uint32_t left = (uint32_t)(p->key >> 32), right = (uint32_t)p->key, *out = t->pool + to + STRETCH_HEAD;
        if (!check) {
            memmove(out, list, n * sizeof *out);
            kept = n;
        }
        for (uint32_t i = 0; i < n && check; i++) {
            uint32_t cell = list[i];
            if (i + 2 * AHEAD < n) __builtin_prefetch(&t->cells[list[i + 2 * AHEAD]]);
            if (t->cells[cell] == left && t->cells[cell + t->len[left]] == right) out[kept++] = cell;
        }
        t->pool[to] = pair;
        t->pool[to + 1] = kept;
        p->list = to + STRETCH_HEAD;
        p->list_len = kept;
        if (kept) to += STRETCH_HEAD + kept;
    }
    t->pool_len = to;
}

/* Room for n more in the pool: closed up first, larger only when that gained too little to be worth the next walk. */
static int pool_room(struct dp_bpe_trainer *t, size_t n, struct dp_err *e)
{
    if (t->pool_cap - t->pool_len >= n) return DP_OK;
    size_t enough = t->pool_cap - t->pool_cap / 16;
    compact(t, false);
    if (t->pool_len + n > enough) compact(t, true);
    if (t->pool_len + n <= enough) return DP_OK;
    size_t cap = t->pool_len + n + (t->pool_len + n) / 4;
    uint32_t *p = realloc(t->pool, cap * sizeof *p);
    if (!p) DP_FAIL(e, NOMEM, "training BPE: %zu bytes", cap * sizeof *p);
    t->pool = p;
    t->pool_cap = cap;
    return DP_OK;
}

/* Move what was found into the pool, a stretch a pair, and push the pairs. A pair that had a list (its token's text
 * arose before by another merge) gets a new stretch with both. */
int dp_bpe_trainer_settle(struct dp_bpe_trainer *t, struct dp_err *e)
{
    size_t need = t->found_len + t->touched_len * STRETCH_HEAD;
    for (size_t i = 0; i < t->touched_len; i++) need += t->pairs[t->touched[i]].list_len;
    DP_TRY(pool_room(t, need, e));
    for (size_t i = 0; i < t->touched_len; i++) {
        struct dp_bpe_pair *p = &t->pairs[t->touched[i]];
        uint32_t *to = t->pool + t->pool_len;
        to[0] = t->touched[i];
        to[1] = p->list_len + p->made;
        if (p->list_len) memcpy(to + STRETCH_HEAD, t->pool + p->list, p->list_len * sizeof *to);
        p->list = t->pool_len + STRETCH_HEAD;
        t->pool_len += STRETCH_HEAD + p->list_len + p->made;
        p->made = 0;
    }
    for (size_t i = 0; i < t->found_len; i++) {
        struct dp_bpe_pair *p = &t->pairs[t->found[i].pair];
        t->pool[p->list + p->list_len++] = t->found[i].cell;
    }
    t->found_len = 0;
    for (size_t i = 0; i < t->touched_len; i++) DP_TRY(push(t, t->touched[i], e));
    t->touched_len = 0;
    return DP_OK;
}

static int compare_cells(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static inline const uint64_t *freq_of(const struct dp_bpe_trainer *t, uint32_t cell)
{
    return &t->freq[t->block_word[cell / BLOCK_CELLS] + t->word_off[cell]];
}

/* Beside the merge at hand stands the token `id`, n times; their pair begins at `cell`. There is room. */
static inline void neighbour(struct dp_bpe_trainer *t, uint32_t side, uint32_t id, uint64_t n, uint32_t cell)
{
    struct dp_bpe_near *near = &t->near[side];
    uint32_t k = near->of[id];
    if (k >= near->len || near->v[k].id != id) {
        k = near->of[id] = (uint32_t)near->len++;
        near->v[k] = (struct dp_bpe_neighbour){.id = id};
    }
    near->v[k].n += n;
    near->v[k].made++;
    t->found[t->found_len++] = (struct dp_bpe_found){k << 1 | side, cell};
}

/* Merge one occurrence at `cell`, which is known to be one. */
static inline void merge_at(struct dp_bpe_trainer *t, uint32_t cell, struct dp_merge m, uint32_t left_len, uint32_t right_len)
{
    uint32_t *c = t->cells, second = cell + left_len, next = second + right_len;
    uint64_t n = *freq_of(t, cell);
    uint32_t a = c[cell - 1], b = c[next];
    if (!n) t->seed_left--;
    if (a != WALL) neighbour(t, 0, a, n, cell - t->len[a]);
    if (b != WALL) neighbour(t, 1, b, n, cell);
    c[second - 1] = INSIDE;
    c[second] = INSIDE;
    c[cell] = m.id;
    c[next - 1] = m.id;
}

static inline void fetch_cell(const struct dp_bpe_trainer *t, uint32_t cell)
{
    __builtin_prefetch(&t->cells[cell], 1);
    __builtin_prefetch(&t->word_off[cell]);
}

static int merge_pair(struct dp_bpe_trainer *t, uint32_t pair, struct dp_merge m, struct dp_err *e)
{
    uint32_t *list = t->pool + t->pairs[pair].list, n = t->pairs[pair].list_len, left_len = t->len[m.left], right_len = t->len[m.right];
    bool sorted = true;
    for (uint32_t i = 1; i < n && sorted; i++) sorted = list[i - 1] < list[i];
    /* Lists of a pair of equal tokens must be in text order, "from left to right"; others gain from it. */
    if (!sorted) qsort(list, n, sizeof *list, compare_cells);
    DP_TRY(reserve(&t->found, &t->found_cap, 2 * (size_t)n, sizeof *t->found, e));
    for (int side = 0; side < 2; side++) DP_TRY(reserve(&t->near[side].v, &t->near[side].cap, n < t->size ? n : t->size, sizeof *t->near[side].v, e));
    for (uint32_t i = 0; i < n && i < 2 * AHEAD; i++) fetch_cell(t, list[i]);
    for (uint32_t i = 0; i < n && i < AHEAD; i++) __builtin_prefetch(freq_of(t, list[i]));
    for (uint32_t i = 0; i < n; i++) {
        uint32_t cell = list[i];
        if (i + 2 * AHEAD < n) fetch_cell(t, list[i + 2 * AHEAD]);
        if (i + AHEAD < n) __builtin_prefetch(freq_of(t, list[i + AHEAD]));
        if (i % LOOK_EVERY == 0) DP_TRY(dp_progress_go_on(e));
        if (t->cells[cell] != m.left || t->cells[cell + left_len] != m.right) continue;
        merge_at(t, cell, m, left_len, right_len);
    }
    t->pairs[pair].list_len = 0;
    DP_TRY(settle_near(t, m, e));
    t->pairs[pair].count = 0;
    return dp_bpe_trainer_settle(t, e);
}

int dp_bpe_trainer_token(struct dp_bpe_trainer *t, struct dp_span bytes, uint32_t *id, struct dp_err *e)
{
    size_t at = dp_word_hash(bytes.ptr, bytes.len) & t->text_mask;
    for (; t->texts[at]; at = (at + 1) & t->text_mask)
        if (dp_span_eq(t->bytes[t->texts[at] - 1], bytes)) return *id = t->texts[at] - 1, DP_OK;
    DP_ASSERT(t->size < t->cap);
    struct dp_span copy = dp_arena_dup(&t->mem, bytes);
    if (!copy.ptr) DP_FAIL(e, NOMEM, "training BPE: a token of %zu bytes", bytes.len);
    *id = t->size++;
    t->bytes[*id] = copy;
    t->len[*id] = (uint32_t)bytes.len;
    t->texts[at] = *id + 1;
    return DP_OK;
}

static int open_cells(struct dp_bpe_trainer *t, struct dp_err *e)
{
    if (t->cell_count > CELLS_MAX)
        DP_FAIL(e, LIMIT, "training BPE: %zu bytes of unique pretokens, at most %u; lower words_bytes_max or super_bytes_max", t->cell_count,
                CELLS_MAX);
    t->cells = malloc(t->cell_count * sizeof *t->cells);
    t->block_word = malloc((t->cell_count / BLOCK_CELLS + 1) * sizeof *t->block_word);
    t->word_off = malloc(t->cell_count);
    t->freq = malloc((t->word_count + 1) * sizeof *t->freq);
    if (!t->cells || !t->block_word || !t->word_off || !t->freq)
        DP_FAIL(e, NOMEM, "training BPE: %zu bytes of unique pretokens", t->cell_count);
    t->cells[0] = WALL;
    t->word_off[0] = 0;
    t->block_word[0] = 0;
    return DP_OK;
}

/* Lay a word and the wall behind it, which counts as its last cell, into the cells from `at` on. */
static void lay_word(struct dp_bpe_trainer *t, size_t at, uint32_t word, struct dp_span w, uint64_t n)
{
    t->freq[word] = n;
    for (size_t i = 0; i <= w.len; i++, at++) {
        if (at % BLOCK_CELLS == 0) t->block_word[at / BLOCK_CELLS] = word;
        t->word_off[at] = (uint8_t)(word - t->block_word[at / BLOCK_CELLS]);
        t->cells[at] = i < w.len ? t->byte_id[(uint8_t)w.ptr[i]] : WALL;
    }
}

/* The word at `at` in tokens instead of bytes; returns their number. */
static size_t lay_tokens(struct dp_bpe_trainer *t, size_t at, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; at += t->len[ids[i++]]) {
        uint32_t len = t->len[ids[i]];
        for (uint32_t k = 1; k + 1 < len; k++) t->cells[at + k] = INSIDE;
        t->cells[at] = t->cells[at + len - 1] = ids[i];
    }
    return n;
}

int dp_bpe_trainer_lay_out(struct dp_bpe_trainer *t, struct dp_bpe_counter *c, const struct dp_tokenizer *first, struct dp_err *e)
{
    struct dp_merge_scratch scratch = {0};
    struct dp_ids ids = {0};
    struct dp_span w;
    uint64_t n;
    size_t at = 1, seed = 0;
    uint32_t word = 0;
    int rc = DP_OK;
    t->cell_count = 1 + dp_bpe_counter_text_bytes(c);
    t->word_count = dp_bpe_counter_taken(c) + t->seed_count;
    for (size_t i = 0; i < t->seed_count; i++) t->cell_count += t->seeds[i].len + 1;
    DP_TRY(open_cells(t, e));
    for (;; word++, at += w.len + 1) {
        if (word % LOOK_EVERY == 0) DP_TRY_OUT(dp_progress_go_on(e));
        if (!seed) DP_TRY_OUT(dp_bpe_counter_next(c, &w, &n, e));
        if (seed || rc == DP_EOF) {
            if (seed == t->seed_count) break;
            w = t->seeds[seed++];
            n = 0;
        }
        lay_word(t, at, word, w, n);
        size_t tokens = w.len;
        if (first) {
            ids.len = 0;
            DP_TRY_OUT(dp_ids_reserve(&ids, w.len, e));
            DP_TRY_OUT(dp_bpe_merge(first, &scratch, w, ids.ptr, &tokens, e));
            lay_tokens(t, at, ids.ptr, tokens);
        }
        if (!n) t->seed_left += tokens - 1;
    }
    DP_ASSERT(at == t->cell_count && word == t->word_count);
out:
    dp_merge_scratch_release(&scratch);
    dp_ids_release(&ids);
    return rc < 0 ? rc : DP_OK;
}

/* List the byte pairs: their number first, so that every list gets its place at once. */
static int list_pairs(struct dp_bpe_trainer *t, struct dp_err *e)
{
    uint32_t(*index)[256] = calloc(256, sizeof *index); /* pair + 1 of two bytes; 0 none */
    int rc = DP_OK;
    if (!index) DP_FAIL(e, NOMEM, "training BPE: pairs");
    uint32_t first = t->first_byte, word = 0;
    t->pool_cap = t->cell_count + t->cell_count / 2; /* more means fewer walks over it */
    for (uint32_t i = 1; i + 1 < t->cell_count; i++) {
        uint32_t a = t->cells[i], b = t->cells[i + 1];
        if (i % LOOK_EVERY == 0) DP_TRY_OUT(dp_progress_go_on(e));
        word += a == WALL;
        if (a == WALL || b == WALL) continue;
        uint32_t *at = &index[a - first][b - first], p = *at - 1;
        if (!*at) {
            DP_TRY_OUT(dp_bpe_trainer_pair(t, a, b, &p, e));
            *at = p + 1;
        }
        t->pairs[p].count += (int64_t)t->freq[word];
        t->pairs[p].made++;
    }
    t->pool_cap += t->pair_count * STRETCH_HEAD;
    t->pool = malloc(t->pool_cap * sizeof *t->pool);
    if (!t->pool) DP_GOTO(e, NOMEM, "training BPE: %zu bytes", t->pool_cap * sizeof *t->pool);
    for (uint32_t p = 0; p < t->pair_count; p++) {
        t->pool[t->pool_len] = p;
        t->pool[t->pool_len + 1] = t->pairs[p].made;
        t->pairs[p].list = t->pool_len + STRETCH_HEAD;
        t->pool_len += STRETCH_HEAD + t->pairs[p].made;
        t->pairs[p].made = 0;
        DP_TRY_OUT(push(t, p, e));
    }
    for (uint32_t i = 1; i + 1 < t->cell_count; i++) {
        uint32_t a = t->cells[i], b = t->cells[i + 1];
        if (i % LOOK_EVERY == 0) DP_TRY_OUT(dp_progress_go_on(e));
        if (a == WALL || b == WALL) continue;
        struct dp_bpe_pair *p = &t->pairs[index[a - first][b - first] - 1];
        t->pool[p->list + p->list_len++] = i;
    }
out:
    free(index);
    return rc;
}

static bool has_token(const struct dp_bpe_trainer *t, struct dp_span bytes)
{
    size_t at = dp_word_hash(bytes.ptr, bytes.len) & t->text_mask;
    for (; t->texts[at]; at = (at + 1) & t->text_mask)
        if (dp_span_eq(t->bytes[t->texts[at] - 1], bytes)) return true;
    return false;
}

/* The special tokens of the list: ids from t->size on. */
static int add_specials(struct dp_bpe_trainer *t, const char *list, struct dp_err *e)
{
    for (const char *p = list; p && *p;) {
        const char *end = strchr(p, ',');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        uint32_t id = t->size, got = 0;
        if (n && t->size < t->cap) {
            DP_TRY(dp_bpe_trainer_token(t, dp_span(p, n), &got, e));
            if (got != id) DP_FAIL(e, CONFIG, "the special token '%.*s' is a token already", (int)n, p);
            t->special[id] = 1;
        }
        p += n + (end != NULL);
    }
    return DP_OK;
}

static uint32_t count_specials(const char *list)
{
    uint32_t n = 0;
    for (const char *p = list; p && *p;) {
        size_t len = strcspn(p, ",");
        n += len > 0;
        p += len + (p[len] == ',');
    }
    return n;
}

static int open_trainer(struct dp_bpe_trainer *t, const struct dp_bpe_train_options *o, struct dp_err *e)
{
    t->cap = (uint32_t)o->vocab_size;
    t->token_bytes_max = o->token_bytes_max;
    dp_arena_init(&t->mem, SIZE_MAX / 2);
    size_t texts = 1024;
    while (texts < 2 * (size_t)t->cap) texts *= 2;
    t->text_mask = texts - 1;
    t->slot_mask = (1 << 16) - 1;
    t->bytes = calloc(t->cap, sizeof *t->bytes);
    t->len = calloc(t->cap, sizeof *t->len);
    t->special = calloc(t->cap, 1);
    t->merge_cap = (size_t)t->cap + (o->base ? dp_tokenizer_merges(o->base) : 0);
    t->merges = calloc(t->merge_cap, sizeof *t->merges);
    t->texts = calloc(texts, sizeof *t->texts);
    for (int side = 0; side < 2; side++)
        if (!(t->near[side].of = calloc(t->cap, sizeof *t->near[side].of))) DP_FAIL(e, NOMEM, "training BPE: a vocabulary of %u", t->cap);
    t->slots = calloc(t->slot_mask + 1, sizeof *t->slots);
    if (!t->bytes || !t->len || !t->special || !t->merges || !t->texts || !t->slots)
        DP_FAIL(e, NOMEM, "training BPE: a vocabulary of %u", t->cap);
    return DP_OK;
}

void dp_bpe_trainer_forget(struct dp_bpe_trainer *t)
{
    free(t->cells);
    free(t->word_off);
    free(t->block_word);
    free(t->freq);
    free(t->pairs);
    free(t->heap);
    free(t->pool);
    free(t->found);
    free(t->touched);
    t->cells = t->block_word = t->pool = t->touched = NULL;
    t->word_off = NULL;
    t->freq = NULL;
    t->pairs = NULL;
    t->heap = NULL;
    t->found = NULL;
    t->cell_count = t->word_count = t->pair_count = t->pair_cap = t->heap_len = t->heap_cap = t->pool_len = t->pool_cap = 0;
    t->found_len = t->found_cap = t->touched_len = t->touched_cap = 0;
    t->seed_left = 0;
    t->heap_floor = 0;
    if (t->slots) memset(t->slots, 0, (t->slot_mask + 1) * sizeof *t->slots);
}

static void close_trainer(struct dp_bpe_trainer *t)
{
    dp_bpe_trainer_forget(t);
    for (int side = 0; side < 2; side++) {
        free(t->near[side].v);
        free(t->near[side].of);
    }
    free(t->slots);
    free(t->bytes);
    free(t->len);
    free(t->special);
    free(t->texts);
    free(t->merges);
    dp_arena_release(&t->mem);
    dp_splitter_close(t->splitter);
}

/* The text of a pair, in `text`. */
static int pair_text(const struct dp_bpe_trainer *t, uint32_t pair, struct dp_buf *text, struct dp_err *e)
{
    dp_buf_clear(text);
    dp_buf_add_span(text, t->bytes[t->pairs[pair].key >> 32]);
    dp_buf_add_span(text, t->bytes[(uint32_t)t->pairs[pair].key]);
    return dp_buf_check(text, "a token", e);
}

static int take(struct dp_bpe_trainer *t, uint32_t pair, struct dp_span text, struct dp_err *e)
{
    struct dp_merge m = {(uint32_t)(t->pairs[pair].key >> 32), (uint32_t)t->pairs[pair].key, 0};
    DP_TRY(dp_bpe_trainer_token(t, text, &m.id, e));
    t->merges[t->merge_count++] = m;
    return merge_pair(t, pair, m, e);
}

int dp_bpe_trainer_take(struct dp_bpe_trainer *t, uint32_t pair, uint32_t target, struct dp_err *e)
{
    struct dp_buf text;
    dp_buf_init(&text, UINT32_MAX);
    int rc = pair_text(t, pair, &text, e);
    if (rc >= 0 && (t->merge_count == t->merge_cap || (t->size >= target && !has_token(t, dp_buf_span(&text)))))
        rc = dp_err_set(e, DP_LIMIT, 0, __FILE__, __LINE__, "there are %u tokens already", t->size);
    if (rc >= 0) rc = take(t, pair, dp_buf_span(&text), e);
    dp_buf_release(&text);
    return rc;
}

static void report(const struct dp_bpe_trainer *t)
{
    if (t->progress) t->progress(t->progress_ctx, t->size - t->progress_from, t->progress_to - t->progress_from);
}

/* The heap is empty: take in the pairs from an eighth of the highest count below the floor on. It stays empty when none counts. */
static int refill(struct dp_bpe_trainer *t, struct dp_err *e)
{
    int64_t least = t->min_count > 1 ? t->min_count : 1, top = 0;
    while (!t->heap_len && t->heap_floor != least) {
        int64_t below = t->heap_floor ? t->heap_floor : INT64_MAX;
        for (size_t i = 0; i < t->pair_count; i++)
            if (t->pairs[i].count > top && t->pairs[i].count < below) top = t->pairs[i].count;
        t->heap_floor = top / FLOOR_STEP > least ? top / FLOOR_STEP : least;
        for (size_t i = 0; i < t->pair_count; i++)
            if (t->pairs[i].count >= t->heap_floor && t->pairs[i].count < below) DP_TRY(push(t, (uint32_t)i, e));
        top = 0;
        DP_TRY(dp_progress_go_on(e));
    }
    return DP_OK;
}

/* The loop. */
int dp_bpe_trainer_learn(struct dp_bpe_trainer *t, uint32_t target, struct dp_err *e)
{
    struct dp_buf text;
    dp_buf_init(&text, UINT32_MAX);
    int rc = DP_OK;
    for (size_t steps = 0; t->size + t->seed_left < target; steps++) {
        if (steps % LOOK_EVERY == 0) DP_TRY_OUT(dp_progress_go_on(e));
        if (!t->heap_len) DP_TRY_OUT(refill(t, e));
        if (!t->heap_len) break;
        struct dp_bpe_heap_entry top = t->heap[0];
        int64_t now = t->pairs[top.pair].count;
        if (top.count != now) { /* it fell since */
            if (now >= t->heap_floor) t->heap[0].count = now;
            else t->heap[0] = t->heap[--t->heap_len];
            sift_down(t, 0);
            continue;
        }
        if (top.count < (t->min_count > 1 ? t->min_count : 1)) break;
        t->heap[0] = t->heap[--t->heap_len];
        if (t->heap_len) sift_down(t, 0);
        DP_TRY_OUT(pair_text(t, top.pair, &text, e));
        if (dp_bpe_vetoed(&t->veto, dp_buf_span(&text))) continue;
        if (t->merge_count == t->merge_cap) break; /* only merges that reuse ids could get here */
        DP_TRY_OUT(take(t, top.pair, dp_buf_span(&text), e));
        if ((t->merge_count & 255) == 0) report(t);
    }
    report(t);
out:
    dp_buf_release(&text);
    return rc;
}

int dp_bpe_trainer_tokenizer(struct dp_tokenizer **out, const struct dp_bpe_trainer *t, struct dp_err *e)
{
    struct dp_special *specials = calloc(t->size, sizeof *specials);
    if (!specials) DP_FAIL(e, NOMEM, "training BPE: special tokens");
    size_t n = 0;
    for (uint32_t i = 0; i < t->size; i++)
        if (t->special[i]) specials[n++] = (struct dp_special){t->bytes[i], i, DP_ADDED_SPECIAL};
    struct dp_tokenizer_parts parts = {.specials = specials, .special_count = n};
    if (t->base) parts = dp_tokenizer_parts_of(t->base);
    parts.split = t->split;
    parts.splitter = t->splitter;
    parts.size = t->size;
    parts.bytes = t->bytes;
    parts.merges = t->merges;
    parts.merge_count = t->merge_count;
    int rc = dp_tokenizer_build(out, &parts, "the trained tokenizer", e);
    free(specials);
    return rc;
}

int dp_bpe_split_of(const struct dp_bpe_train_options *o, bool second, struct dp_splitter **s, enum dp_split *split, struct dp_err *e)
{
    if (o->base && !second) {
        *split = dp_tokenizer_split(o->base);
        *s = dp_splitter_ref(dp_tokenizer_splitter(o->base));
        return DP_OK;
    }
    *split = second ? DP_SPLIT_SUPERBPE : (enum dp_split)o->split;
    return dp_splitter_choose(s, split, second ? NULL : o->split_pattern, (int)o->split_digits, o->split_scripts, e);
}

/* The counter's words were cut as the options say. */
static int check_split(const struct dp_bpe_train_options *o, const struct dp_bpe_counter *c, struct dp_err *e)
{
    struct dp_splitter *s;
    enum dp_split split;
    DP_TRY(dp_bpe_split_of(o, false, &s, &split, e));
    struct dp_span have = dp_splitter_text(dp_bpe_counter_get_splitter(c), dp_bpe_counter_split(c));
    bool same = dp_span_eq(dp_splitter_text(s, split), have);
    dp_splitter_close(s);
    if (!same) DP_FAIL(e, CONFIG, "the words were counted with split %.*s", DP_SPAN_FMT(have));
    return DP_OK;
}

int dp_bpe_train_check(const struct dp_bpe_train_options *o, struct dp_err *e)
{
    unsigned rules;
    DP_TRY(dp_bpe_veto_rules(o->super_veto, &rules, e));
    uint32_t specials = o->base ? 0 : count_specials(o->special_tokens);
    if (o->base && o->vocab_size < (int64_t)dp_tokenizer_size(o->base))
        DP_FAIL(e, CONFIG, "vocab_size %lld: the vocabulary to extend has %u ids already", (long long)o->vocab_size, dp_tokenizer_size(o->base));
    if (o->vocab_size < 256 + (int64_t)specials || o->vocab_size > DP_TOKENIZER_IDS_MAX)
        DP_FAIL(e, CONFIG, "vocab_size %lld: it must hold 256 bytes and %u special tokens, and be at most %d", (long long)o->vocab_size,
                specials, DP_TOKENIZER_IDS_MAX);
    if (o->super_from && (o->super_from < 256 + (int64_t)specials || o->super_from > o->vocab_size))
        DP_FAIL(e, CONFIG, "super_from %lld: it must hold 256 bytes and %u special tokens, and be at most vocab_size, %lld",
                (long long)o->super_from, specials, (long long)o->vocab_size);
    if (o->base && o->super_from && o->super_from < (int64_t)dp_tokenizer_size(o->base))
        DP_FAIL(e, CONFIG, "super_from %lld: the vocabulary to extend has %u ids already", (long long)o->super_from, dp_tokenizer_size(o->base));
    return DP_OK;
}

static int check_options(const struct dp_bpe_train_options *o, const struct dp_bpe_counter *c, struct dp_err *e)
{
    DP_TRY(dp_bpe_train_check(o, e));
    DP_TRY(check_split(o, c, e));
    if (o->super_from && !dp_bpe_counter_sample(c))
        DP_FAIL(e, CONFIG, "super_from needs the texts themselves; from counts of words nothing across words can be learnt");
    return DP_OK;
}

/* Special tokens that come first, and the 256 bytes. */
static int begin_vocabulary(struct dp_bpe_trainer *t, const struct dp_bpe_train_options *o, struct dp_err *e)
{
    bool hf = o->tie == DP_BPE_TIE_HF;
    if (o->base) return dp_bpe_trainer_adopt(t, o->base, e);
    if (hf) DP_TRY(add_specials(t, o->special_tokens, e));
    t->first_byte = t->size;
    for (unsigned i = 0; i < 256; i++) {
        unsigned b = hf ? dp_byte_level_order(i) : i;
        char ch = (char)b;
        uint32_t id = t->size;
        DP_TRY(dp_bpe_trainer_token(t, dp_span(&ch, 1), &t->byte_id[b], e));
        if (t->byte_id[b] != id) DP_FAIL(e, CONFIG, "a special token is the single byte 0x%02x; make it longer", b);
    }
    return DP_OK;
}

int dp_bpe_train(struct dp_tokenizer **out, const struct dp_bpe_train_options *o, struct dp_bpe_counter *c,
                 void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, struct dp_err *e)
{
    struct dp_bpe_trainer t = {.progress = progress, .progress_ctx = ctx, .min_count = o->min_count, .veto.chars_max = o->token_chars_max};
    struct dp_special_find *specials = NULL;
    int rc;
    bool specials_last = o->tie == DP_BPE_TIE_BYTES && !o->base;
    *out = NULL;
    DP_TRY(check_options(o, c, e));
    uint32_t last = !specials_last ? 0 : count_specials(o->special_tokens), target = (uint32_t)o->vocab_size - last;
    uint32_t stage = o->super_from ? (uint32_t)o->super_from - last : target;
    DP_TRY_OUT(dp_bpe_split_of(o, o->super_from != 0, &t.splitter, &t.split, e));
    DP_TRY_OUT(open_trainer(&t, o, e));
    DP_TRY_OUT(dp_bpe_specials_of(&specials, o, e));
    t.veto.specials = specials;
    DP_TRY_OUT(begin_vocabulary(&t, o, e));
    t.progress_from = t.size;
    t.progress_to = target;
    DP_TRY_OUT(dp_bpe_trainer_choose(&t, o, c, false, e));
    DP_TRY_OUT(dp_bpe_counter_finish(c, o->words_bytes_max, e));
    DP_TRY_OUT(dp_bpe_trainer_lay_out(&t, c, o->base, e));
    dp_bpe_counter_drop_words(c);
    DP_TRY_OUT(o->base ? dp_bpe_trainer_list(&t, e) : list_pairs(&t, e));
    DP_TRY_OUT(dp_bpe_trainer_learn(&t, stage, e));
    DP_TRY_OUT(dp_bpe_trainer_plant(&t, stage, e));
    DP_TRY_OUT(dp_bpe_trainer_learn(&t, stage, e));
    if (o->super_from) DP_TRY_OUT(dp_bpe_trainer_super(&t, o, c, target, e));
    if (specials_last) DP_TRY_OUT(add_specials(&t, o->special_tokens, e));
    DP_TRY_OUT(dp_bpe_trainer_tokenizer(out, &t, e));
out:
    close_trainer(&t);
    dp_special_find_close(specials);
    return rc;
}

/* tokenizer/encode.c - the encoder: split, look up, merge what is new.
 *
 * Nearly all pretokens were seen before, so the work is to look them up. They come in groups of 512, and go three ways:
 * - Most are in a small head of the most recent short ones (tokenizer/pretoken_head.h). The places of the others go to a list.
 * - What is on the list is looked up in the cache that all threads share (tokenizer/pretoken_cache.h), its lines fetched ahead for the group.
 * - What isn't there either is merged (tokenizer/bpe_merge.h), and remembered.
 * Caches only remember what merging gave. A vocabulary's whole-token lookup is no shortcut for merges: not every token can be
 * reached by them; it is used where the tokenizer says so (ignore_merges). */
#include "tokenizer/encode.h"

#include "base/large.h"
#include "tokenizer/added.h"
#include "tokenizer/bpe_merge.h"
#include "tokenizer/encode_units.h"
#include "tokenizer/pretoken_cache.h"
#include "tokenizer/pretoken_head.h"
#include "tokenizer/sp.h"
#include "tokenizer/tokenizer_int.h"

#include <stdlib.h>

enum { GROUP = 512, HEAD_BITS_MIN = 6, RUN = 16, MANY = 64 };

#define NO_KEY 2 /* hi of a pretoken too long for the cache: that of no entry */

struct dp_encoder {
    const struct dp_tokenizer *t;
    struct dp_cutter *cutter; /* NULL: t->split alone */
    enum dp_special_policy special;
    struct dp_head_entry *head; /* and one behind the last, where goes what is not for it */
    size_t head_mask;
    dp_head_find_fn *find;
    struct dp_cache_view cache;
    struct dp_merge_scratch scratch;
    struct dp_unit_merger *units; /* NULL: pieces are words */
    struct dp_ids tmp;
    struct dp_added_scratch added;
    struct dp_buf sp_text; /* normalised by a sentencepiece model */
};

int dp_ids_reserve(struct dp_ids *ids, size_t n, struct dp_err *e)
{
    if (n <= ids->cap - ids->len) return DP_OK;
    if (n > SIZE_MAX / 16 || ids->len > SIZE_MAX / 16) DP_FAIL(e, NOMEM, "%zu ids", n);
    size_t cap = ids->cap + ids->cap / 2 + 256;
    if (cap < ids->len + n) cap = ids->len + n;
    uint32_t *p = realloc(ids->ptr, cap * sizeof *p);
    if (!p) DP_FAIL(e, NOMEM, "%zu ids", cap);
    ids->ptr = p;
    ids->cap = cap;
    return DP_OK;
}

void dp_ids_release(struct dp_ids *ids)
{
    free(ids->ptr);
    *ids = (struct dp_ids){0};
}

void dp_encoder_close(struct dp_encoder *c)
{
    if (!c) return;
    dp_cutter_close(c->cutter);
    dp_cache_release(&c->cache);
    free(c->head);
    dp_merge_scratch_release(&c->scratch);
    dp_unit_merger_close(c->units);
    dp_added_scratch_release(&c->added);
    dp_buf_release(&c->sp_text);
    dp_ids_release(&c->tmp);
    free(c);
}

/* All but the cache. */
static int open_encoder(struct dp_encoder **out, const struct dp_tokenizer *t, size_t head_bytes, enum dp_special_policy special, struct dp_err *e)
{
    *out = NULL;
    struct dp_encoder *c = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "an encoder");
    c->t = t;
    c->special = special;
    c->head_mask = head_bytes - sizeof *c->head;
    c->find = dp_head_find();
    c->head = dp_large_alloc(head_bytes + sizeof *c->head);
    if (!c->head) {
        free(c);
        DP_FAIL(e, NOMEM, "an encoder");
    }
    dp_added_scratch_init(&c->added);
    dp_buf_init(&c->sp_text, SIZE_MAX / 2);
    int rc = t->splitter ? dp_cutter_open(&c->cutter, t->splitter, e) : DP_OK;
    if (rc >= 0) rc = dp_unit_merger_open(&c->units, t, e);
    if (rc < 0) dp_encoder_close(c);
    else *out = c;
    return rc;
}

int dp_encoder_open(struct dp_encoder **out, const struct dp_tokenizer *t, size_t cache_bytes, enum dp_special_policy special,
                    struct dp_err *e)
{
    unsigned head_bits = DP_HEAD_BITS;
    if (!cache_bytes) cache_bytes = 96u << 20;
    while (head_bits > HEAD_BITS_MIN && sizeof(struct dp_head_entry) << head_bits > cache_bytes / 16) head_bits--;
    DP_TRY(open_encoder(out, t, sizeof(struct dp_head_entry) << head_bits, special, e));
    int rc = dp_cache_open(&(*out)->cache, cache_bytes, t->size <= 1 << 16, e);
    if (rc >= 0) return rc;
    dp_encoder_close(*out);
    *out = NULL;
    return rc;
}

int dp_encoder_open_beside(struct dp_encoder **out, const struct dp_encoder *other, enum dp_special_policy special, struct dp_err *e)
{
    DP_TRY(open_encoder(out, other->t, other->head_mask + sizeof *other->head, special, e));
    dp_cache_hold(&(*out)->cache, &other->cache);
    return DP_OK;
}

/* The ids of a pretoken from scratch, in c->tmp. */
static int merge_word(struct dp_encoder *c, struct dp_span word, struct dp_err *e)
{
    c->tmp.len = 0;
    DP_TRY(dp_ids_reserve(&c->tmp, word.len, e));
    if (c->t->sp) return dp_sp_merge(c->t->sp, &c->scratch, word, c->tmp.ptr, &c->tmp.len, e);
    if (c->t->ignore_merges) {
        int64_t id = dp_tokenizer_id(c->t, word);
        if (id >= 0) {
            c->tmp.ptr[0] = (uint32_t)id;
            c->tmp.len = 1;
            return DP_OK;
        }
    }
    if (c->units) return dp_unit_merge(c->units, word, &c->tmp, e);
    return dp_bpe_merge(c->t, &c->scratch, word, c->tmp.ptr, &c->tmp.len, e);
}

/* By the upper bits of the hash: all bytes of the word reach them. */
static inline struct dp_cache_key in_bucket(uint64_t lo, uint64_t hi, unsigned bucket_shift)
{
    uint64_t h = lo * UINT64_C(0x9e3779b97f4a7c15) + hi * UINT64_C(0xe7037ed1a0b428db);
    return (struct dp_cache_key){lo, hi, (size_t)(h >> bucket_shift)};
}

/* Of a pretoken of at most DP_CACHE_SHORT bytes; DP_WORD_KEY_READ bytes may be read from p. */
static inline struct dp_cache_key short_key(const char *p, size_t n, unsigned bucket_shift)
{
    uint64_t lo, hi;
    dp_word_key(p, n, &lo, &hi);
    return in_bucket(lo, hi, bucket_shift);
}

/* Of a pretoken that is long or ends near the end of the text. */
__attribute__((noinline)) static struct dp_cache_key rare_key(const struct dp_encoder *c, struct dp_span word)
{
    uint64_t lo, hi;
    if (word.len > DP_CACHE_LONG) return (struct dp_cache_key){.hi = NO_KEY};
    if (word.len > DP_CACHE_SHORT) return dp_cache_long_key(&c->cache, word);
    dp_word_key_exact(word.ptr, word.len, &lo, &hi);
    return in_bucket(lo, hi, c->cache.young->bucket_shift);
}

/* What isn't in the first line of the cache, but in the pool, elsewhere, or in the old table. `to` has room. */
static bool take_known(struct dp_encoder *c, const struct dp_cache_key *k, struct dp_span word, uint32_t *to, size_t *got)
{
    uint32_t few[DP_CACHE_INLINE_IDS], n = 0;
    bool old;
    const uint32_t *ids = k->hi == NO_KEY ? NULL : dp_cache_find(&c->cache, k, word, &n, few, &old);
    if (!ids) return false;
    memcpy(to, ids, n * sizeof *ids);
    if (old) dp_cache_put(&c->cache, k, word, to, n);
    *got = n;
    return true;
}

/* What is too long for the cache, or found no room in it. */
static int encode_new(struct dp_encoder *c, const struct dp_cache_key *k, struct dp_span word, uint32_t *to, size_t *got, struct dp_err *e)
{
    DP_TRY(merge_word(c, word, e));
    *got = c->tmp.len;
    memcpy(to, c->tmp.ptr, *got * sizeof *to);
    if (k->hi != NO_KEY) dp_cache_put(&c->cache, k, word, to, (uint32_t)*got);
    return DP_OK;
}

/* A group of pretokens: text[begins[i], begins[i + 1]). */
struct group {
    struct dp_span text;
    const size_t *begins;
    uint32_t known[GROUP * DP_HEAD_IDS + RUN]; /* ids from the head */
    struct dp_head_miss misses[GROUP + 1];
    size_t missing;
    struct dp_cache_key keys[GROUP]; /* of the misses */
    uint32_t *to;                    /* where ids go */
    size_t done;                     /* of known */
};

static struct dp_span word_of(const struct group *g, size_t miss)
{
    const size_t *at = g->begins + g->misses[miss].piece;
    return dp_span(g->text.ptr + at[0], at[1] - at[0]);
}

/* Keys of the misses, whose lines are fetched. */
__attribute__((noinline)) static void make_keys(const struct dp_encoder *c, struct group *g)
{
    const unsigned shift = c->cache.young->bucket_shift;
    const struct dp_cache_bucket *buckets = c->cache.young->buckets;
    const char *last = g->text.ptr + g->text.len - DP_WORD_KEY_READ;
    size_t rare = 0;
    uint16_t rares[GROUP];
    for (size_t i = 0; i < g->missing; i++) {
        struct dp_span word = word_of(g, i);
        bool is_rare = word.len > DP_CACHE_SHORT || g->text.len < DP_WORD_KEY_READ || word.ptr > last;
        if (__builtin_expect(is_rare, 0)) g->keys[i] = rare_key(c, word);
        else g->keys[i] = short_key(word.ptr, word.len, shift);
        rares[rare] = (uint16_t)i;
        rare += is_rare;
        __builtin_prefetch(&buckets[g->keys[i].bucket], 0);
    }
    for (size_t i = 0; i < rare; i++) dp_cache_prefetch(&c->cache, &g->keys[rares[i]]);
}

/* Merge what is new in a group from the miss `from` on, many at a time, and remember it. *upto: the misses before are seen. */
static int learn(struct dp_encoder *c, const struct group *g, size_t from, size_t *upto, struct dp_err *e)
{
    struct dp_span words[MANY];
    uint16_t miss[MANY];
    uint32_t counts[MANY], some[DP_CACHE_INLINE_IDS], count;
    size_t many = 0, left = 0, bytes = 0, i = from;
    *upto = g->missing;
    if (c->t->sp) return DP_OK; /* its words are merged one by one */
    for (bool old; i < g->missing && many < MANY; i++) {
        const struct dp_cache_key *k = &g->keys[i];
        const struct dp_cache_entry *b = c->cache.young->buckets[k->bucket].e;
        if (dp_cache_entry_is(b, k->lo, k->hi) || dp_cache_entry_is(b + 1, k->lo, k->hi) || k->hi == NO_KEY) continue;
        struct dp_span word = word_of(g, i);
        if (c->units && word.len > DP_CACHE_SHORT) continue; /* merge_word has a better way */
        if (dp_cache_find(&c->cache, k, word, &count, some, &old)) continue;
        if (c->t->ignore_merges) dp_tokenizer_prefetch(c->t, word);
        miss[many] = (uint16_t)i;
        words[many++] = word;
    }
    *upto = i;
    for (size_t w = 0; w < many; w++) {
        int64_t id = c->t->ignore_merges ? dp_tokenizer_id(c->t, words[w]) : -1;
        uint32_t one = (uint32_t)id;
        if (id >= 0) {
            dp_cache_put(&c->cache, &g->keys[miss[w]], words[w], &one, 1);
            continue;
        }
        bytes += words[w].len;
        miss[left] = miss[w];
        words[left++] = words[w];
    }
    c->tmp.len = 0;
    DP_TRY(dp_ids_reserve(&c->tmp, bytes, e));
    DP_TRY(dp_bpe_merge_many(c->t, &c->scratch, words, left, c->tmp.ptr, counts, e));
    const uint32_t *ids = c->tmp.ptr;
    for (size_t w = 0; w < left; ids += words[w++].len) dp_cache_put(&c->cache, &g->keys[miss[w]], words[w], ids, counts[w]);
    return DP_OK;
}

/* The upper bytes that the head left in ids are cleared here, four ids at once. */
static inline void take_run(struct group *g, size_t miss)
{
    typedef uint32_t four __attribute__((vector_size(16)));
    const four id = {DP_HEAD_ID, DP_HEAD_ID, DP_HEAD_ID, DP_HEAD_ID};
    const size_t run = g->misses[miss].before / sizeof *g->to - g->done;
    const uint32_t *from = g->known + g->done;
    for (size_t i = 0; i == 0 || i < run; i += RUN) {
        four v[RUN / 4];
        memcpy(v, from + i, sizeof v);
        for (int k = 0; k < RUN / 4; k++) v[k] &= id;
        memcpy(g->to + i, v, sizeof v);
    }
    g->to += run;
    g->done += run;
}

/* Ids of the misses from `from` on, and of what is known before each, up to the first that isn't in its line of the cache: its place. */
__attribute__((noinline)) static size_t take_hits(const struct dp_encoder *c, struct group *all, size_t from)
{
    struct group *g = all;
    const struct dp_cache_bucket *buckets = c->cache.young->buckets;
    char *head = (char *)c->head;
    const size_t head_mask = c->head_mask;
    const bool narrow = c->cache.young->narrow;
    const size_t none = head_mask + sizeof *c->head; /* behind the last */
    size_t i = from;
    for (const size_t missing = g->missing; i < missing; i++) {
        take_run(g, i);
        const struct dp_cache_key *k = &g->keys[i];
        const uint64_t lo = k->lo, hi = k->hi;
        const struct dp_cache_entry *b = buckets[k->bucket].e;
        b += !dp_cache_entry_is(b, lo, hi);
        if (__builtin_expect(!dp_cache_entry_is(b, lo, hi), 0)) break;
        uint64_t count = dp_cache_inline_ids(b, narrow, g->to);
        if (__builtin_expect(count == DP_CACHE_IN_POOL, 0)) {
            uint32_t n;
            const uint32_t *record = dp_cache_record(c->cache.young, b->ids[0], word_of(g, i), &n);
            if (!record) break;
            for (uint32_t at = 0; at < n; at += RUN) memcpy(g->to + at, record + at, RUN * sizeof *record);
            g->to += n;
            continue;
        }
        uint64_t two, len = hi >> 56;
        memcpy(&two, g->to, sizeof two);
        g->to += count;
        uint64_t heads = (uint64_t)0 - (uint64_t)((len <= DP_HEAD_BYTES) & (count <= DP_HEAD_IDS));
        struct dp_head_entry new = {lo, two | count << 58 | len << 24};
        memcpy(head + ((dp_head_place(lo, head_mask) & heads) | (none & ~heads)), &new, sizeof new);
    }
    return i;
}

static int encode_group(struct dp_encoder *c, struct group *g, size_t n, struct dp_ids *out, struct dp_err *e)
{
    const size_t *begins = g->begins;
    size_t readable = n, learnt = 0, got;
    DP_TRY(dp_ids_reserve(out, begins[n] - begins[0] + RUN, e)); /* an id has a byte at least; take_run */
    while (readable && begins[readable - 1] + DP_WORD_KEY_READ > g->text.len) readable--;
    g->missing = c->find(c->head, c->head_mask, g->text.ptr, begins, readable, g->known, g->misses);
    for (const uint32_t before = g->misses[g->missing].before; readable < n; readable++)
        g->misses[++g->missing] = (struct dp_head_miss){(uint32_t)readable + 1, before};
    make_keys(c, g);
    g->to = out->ptr + out->len;
    g->done = 0;
    for (size_t i = 0; (i = take_hits(c, g, i)) < g->missing; i++) {
        struct dp_span word = word_of(g, i);
        if (!take_known(c, &g->keys[i], word, g->to, &got)) {
            if (i >= learnt && !c->cache.full) DP_TRY(learn(c, g, i, &learnt, e)); /* else it would be merged twice */
            if (!take_known(c, &g->keys[i], word, g->to, &got)) DP_TRY(encode_new(c, &g->keys[i], word, g->to, &got, e));
        }
        g->to += got;
    }
    take_run(g, g->missing);
    out->len = (size_t)(g->to - out->ptr);
    return DP_OK;
}

/* With `count`, ids are counted and forgotten instead of kept in out. */
static int encode_ordinary(struct dp_encoder *c, struct dp_span text, struct dp_ids *out, uint64_t *count, struct dp_err *e)
{
    size_t begins[GROUP + 1], pos = 0;
    struct group g;
    int n;
    g.text = text;
    g.begins = begins;
    dp_cache_renew(&c->cache);
    begins[0] = 0;
    while ((n = c->cutter ? dp_cutter_run(c->cutter, text, &pos, begins + 1, GROUP, e) : (int)dp_split_run(c->t->split, text, &pos, begins + 1, GROUP)) > 0) {
        DP_TRY(encode_group(c, &g, (size_t)n, out, e));
        begins[0] = pos;
        if (count) {
            *count += out->len;
            out->len = 0;
        }
    }
    return n;
}

/* Runs of the unknown id in out[from, ...) become one; `last` says whether one stands before. */
static void join_unknown(const struct dp_sp *sp, struct dp_ids *out, size_t from, bool *last)
{
    size_t n = from;
    for (size_t i = from; i < out->len; i++) {
        bool unknown = out->ptr[i] == sp->unk;
        if (!unknown || !*last) out->ptr[n++] = out->ptr[i];
        *last = unknown;
    }
    out->len = n;
}

/* encode_ordinary() for a sentencepiece model. */
static int encode_sp(struct dp_encoder *c, struct dp_span text, struct dp_ids *out, uint64_t *count, struct dp_err *e)
{
    const struct dp_sp *sp = c->t->sp;
    size_t begins[GROUP + 1], pos = 0, n;
    struct group g;
    bool unknown = false;
    dp_cache_renew(&c->cache);
    begins[0] = 0;
    dp_buf_clear(&c->sp_text);
    DP_TRY(dp_sp_normalise(sp, text, &c->sp_text, e));
    g.text = text = dp_buf_span(&c->sp_text);
    g.begins = begins;
    while ((n = dp_sp_run(sp, text, &pos, begins + 1, GROUP)) > 0) {
        size_t had = out->len;
        DP_TRY(encode_group(c, &g, n, out, e));
        begins[0] = pos;
        join_unknown(sp, out, had, &unknown);
        if (count) {
            *count += out->len;
            out->len = 0;
        }
    }
    return DP_OK;
}

struct sink {
    struct dp_encoder *c;
    struct dp_ids *out;
    uint64_t *count;
};

static int put_text(void *ctx, struct dp_span text, struct dp_err *e)
{
    struct sink *s = ctx;
    return (s->c->t->sp ? encode_sp : encode_ordinary)(s->c, text, s->out, s->count, e);
}

static int put_id(void *ctx, uint32_t id, struct dp_err *e)
{
    struct sink *s = ctx;
    if (s->count) {
        ++*s->count;
        return DP_OK;
    }
    DP_TRY(dp_ids_reserve(s->out, 1, e));
    s->out->ptr[s->out->len++] = id;
    return DP_OK;
}

static int encode_all(struct dp_encoder *c, struct dp_span text, struct dp_ids *out, uint64_t *count, struct dp_err *e)
{
    struct sink s = {c, out, count};
    return dp_added_each(c->t, c->special, &c->added, text, &(struct dp_added_sink){put_text, put_id, &s}, e);
}

int dp_encode(struct dp_encoder *c, struct dp_span text, struct dp_ids *out, struct dp_err *e)
{
    size_t len = out->len;
    if (!text.len) return DP_OK;
    int rc = encode_all(c, text, out, NULL, e);
    if (rc < 0) out->len = len;
    return rc;
}

int dp_encode_count(struct dp_encoder *c, struct dp_span text, uint64_t *count, struct dp_err *e)
{
    struct dp_ids ids = {0};
    *count = 0;
    if (!text.len) return DP_OK;
    int rc = encode_all(c, text, &ids, count, e);
    dp_ids_release(&ids);
    return rc;
}

const struct dp_tokenizer *dp_encoder_tokenizer(const struct dp_encoder *c)
{
    return c->t;
}

enum dp_special_policy dp_encoder_special(const struct dp_encoder *c)
{
    return c->special;
}

/* tokenizer/encode.c - the encoder: split, look up, merge what is new.
 *
 * Nearly all pretokens were seen before, so the hot loop is a cache lookup. Pieces come in groups of 256; a first loop
 * makes keys and prefetches, a last one probes, so that a miss of the processor's cache is waited for once, not 256 times.
 *
 * The cache is a table of buckets of one cache line with two entries, the newer first. A short pretoken (at most 15 bytes) is its own key, and
 * where it has at most 4 ids they are in the entry. Else the entry has a place in a pool, where the ids are; a long pretoken's key is a hash,
 * and its text is in the pool too, to be compared. A full pool starts over: entries of an earlier round are no longer found.
 * It only remembers what merging gave. A vocabulary's whole-token lookup is no shortcut for merges: not every token can be
 * reached by them; it is used where the tokenizer says so (ignore_merges). */
#include "tokenizer/encode.h"

#include "tokenizer/bpe_merge.h"
#include "tokenizer/tokenizer_int.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { GROUP = 256, KEY_MAX = 15, INLINE_IDS = 4, LONG_MAX = 1024 };

#define IN_POOL UINT32_C(0xff000000) /* ids[0] of an entry whose ids are in the pool: ids[1] says where, ids[2] in which round */
#define LONG_KEY (UINT64_C(0xff) << 56)
#define OVERFLOWED UINT32_C(0x80000000) /* in ids[3] of a bucket's second entry: others of its pretokens are in the bucket beside */

struct entry {
    uint64_t lo, hi;          /* bytes, then the length in the top byte of hi (LONG_KEY: a hash); all 0: empty */
    uint32_t ids[INLINE_IDS]; /* ids[0] has the number of ids above bit 24 */
};
struct bucket {
    _Alignas(64) struct entry e[2];
};

struct dp_encoder {
    const struct dp_tokenizer *t;
    enum dp_special_policy special;
    struct bucket *buckets;
    size_t bucket_mask;
    uint32_t *pool; /* of an entry: length of the text, number of ids, ids, text of a long pretoken */
    size_t pool_len, pool_cap;
    uint32_t pool_round;
    struct dp_merge_scratch scratch;
    struct dp_ids tmp;
    uint8_t first[256]; /* bytes that begin a special token */
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
    free(c->buckets);
    free(c->pool);
    dp_merge_scratch_release(&c->scratch);
    dp_ids_release(&c->tmp);
    free(c);
}

/* Zeroed. On large pages where the system gives them: a random look-up then waits for one cache line and not for a page table too. */
static void *open_table(size_t bytes)
{
    enum { LARGE_PAGE = 2 << 20 };
    bool large = bytes % LARGE_PAGE == 0;
    void *p = aligned_alloc(large ? LARGE_PAGE : 64, bytes);
    if (!p) return NULL;
    if (large) madvise(p, bytes, MADV_HUGEPAGE);
    return memset(p, 0, bytes);
}

/* Half of the budget for the table, half for the pool. */
int dp_encoder_open(struct dp_encoder **out, const struct dp_tokenizer *t, size_t cache_bytes, enum dp_special_policy special,
                    struct dp_err *e)
{
    *out = NULL;
    if (special == DP_SPECIAL_ALL && !t->specials_plain)
        DP_FAIL(e, CONFIG,
                "a special token of this tokenizer asks for lstrip, rstrip or single_word, which isn't supported: "
                "encode with special tokens as ordinary text");
    if (!cache_bytes) cache_bytes = 32u << 20;
    if (cache_bytes > (size_t)4 << 30) cache_bytes = (size_t)4 << 30; /* places in the pool are 32 bits */
    struct dp_encoder *c = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "an encoder");
    size_t n = 64;
    while (n * 2 * sizeof *c->buckets <= cache_bytes / 2) n *= 2;
    c->t = t;
    c->special = special;
    c->bucket_mask = n - 1;
    c->pool_cap = cache_bytes / 2 / sizeof *c->pool;
    if (c->pool_cap < 2 * LONG_MAX) c->pool_cap = 2 * LONG_MAX;
    c->buckets = open_table(n * sizeof *c->buckets);
    c->pool = malloc(c->pool_cap * sizeof *c->pool);
    if (!c->buckets || !c->pool) {
        dp_encoder_close(c);
        DP_FAIL(e, NOMEM, "an encoder's cache of %zu bytes", cache_bytes);
    }
    if (special == DP_SPECIAL_ALL)
        for (size_t i = 0; i < t->special_count; i++) c->first[(uint8_t)t->specials[i].text.ptr[0]] = 1;
    *out = c;
    return DP_OK;
}

/* The ids of a pretoken from scratch, in c->tmp. */
static int merge_word(struct dp_encoder *c, struct dp_span word, struct dp_err *e)
{
    c->tmp.len = 0;
    DP_TRY(dp_ids_reserve(&c->tmp, word.len, e));
    if (c->t->ignore_merges) {
        int64_t id = dp_tokenizer_id(c->t, word);
        if (id >= 0) {
            c->tmp.ptr[0] = (uint32_t)id;
            c->tmp.len = 1;
            return DP_OK;
        }
    }
    return dp_bpe_merge(c->t, &c->scratch, word, c->tmp.ptr, &c->tmp.len, e);
}

/* What a pretoken is looked up by, and where; hi 0: not in the cache (very long). */
struct key {
    uint64_t lo, hi;
    size_t bucket;
};

static inline uint64_t low_bytes(size_t n)
{
    static const uint64_t masks[9] = {
        0, 0xff, 0xffff, 0xffffff, 0xffffffff, UINT64_C(0xffffffffff), UINT64_C(0xffffffffffff), UINT64_C(0xffffffffffffff), UINT64_MAX};
    return masks[n];
}

/* Of a pretoken of at most 15 bytes; 16 may be read from p. */
static inline struct key short_key(const char *p, size_t n, size_t bucket_mask)
{
    struct key k;
    memcpy(&k.lo, p, 8);
    memcpy(&k.hi, p + 8, 8);
    k.lo &= low_bytes(n < 8 ? n : 8);
    k.hi &= low_bytes(n < 8 ? 0 : n - 8);
    k.hi |= (uint64_t)n << 56;
    k.bucket = (size_t)dp_word_mix(k.lo, k.hi) & bucket_mask;
    return k;
}

static struct key long_key(const char *p, size_t n, size_t bucket_mask)
{
    struct dp_hash128 h = dp_hash128(p, n);
    return (struct key){h.lo, h.hi | LONG_KEY, (size_t)h.lo & bucket_mask};
}

/* Of a pretoken so near the end of the text that 16 bytes can't be read. */
static struct key last_key(const char *p, size_t n, size_t bucket_mask)
{
    char copy[16] = {0};
    memcpy(copy, p, n);
    return short_key(copy, n, bucket_mask);
}

static inline void swap_entries(struct entry *a, struct entry *b)
{
    struct entry x = *a;
    *a = *b;
    *b = x;
}

/* In its bucket, or in the one beside it, where what the bucket has no room for is; then it changes places with the second of its bucket, so that
 * frequent pretokens end up where the fast loop finds them. */
static struct entry *find(const struct dp_encoder *c, const struct key *k)
{
    struct entry *b = c->buckets[k->bucket].e, *beside = c->buckets[k->bucket ^ 1].e;
    for (int i = 0; i < 2; i++)
        if (b[i].lo == k->lo && b[i].hi == k->hi) return &b[i];
    if (!(b[1].ids[3] & OVERFLOWED)) return NULL;
    for (int i = 0; i < 2; i++)
        if (beside[i].lo == k->lo && beside[i].hi == k->hi) {
            uint32_t theirs = beside[1].ids[3] & OVERFLOWED;
            swap_entries(&b[1], &beside[i]);
            b[1].ids[3] |= OVERFLOWED;
            beside[i].ids[3] &= ~OVERFLOWED;
            beside[1].ids[3] |= theirs;
            return &b[1];
        }
    return NULL;
}

/* A new pretoken: first come, first served, and the second of a full bucket goes to the one beside. */
static struct entry *make_room(struct dp_encoder *c, size_t bucket)
{
    struct entry *b = c->buckets[bucket].e, *beside = c->buckets[bucket ^ 1].e;
    if (!b[0].hi) return &b[0];
    if (b[1].hi) {
        int i = beside[0].hi != 0;
        uint32_t theirs = beside[1].ids[3] & OVERFLOWED;
        beside[i] = b[1];
        beside[i].ids[3] &= ~OVERFLOWED;
        beside[1].ids[3] |= theirs;
        b[1].ids[3] |= OVERFLOWED;
    }
    return &b[1];
}

/* The pool's record of an entry; NULL when it is of an earlier round, or of another text with the same hash. */
static const uint32_t *in_pool(const struct dp_encoder *c, const struct entry *b, struct dp_span word)
{
    const uint32_t *p = c->pool + b->ids[1];
    if (b->ids[2] != c->pool_round) return NULL;
    if (word.len <= KEY_MAX) return p;
    return p[0] == word.len && memcmp(p + 2 + p[1], word.ptr, word.len) == 0 ? p : NULL;
}

/* c->tmp are the ids of `word`. Where an entry for it exists, b is that one. */
static void remember(struct dp_encoder *c, const struct key *k, struct entry *b, struct dp_span word)
{
    struct entry x = {k->lo, k->hi, {0}};
    size_t n = c->tmp.len;
    if (word.len <= KEY_MAX && n <= INLINE_IDS) {
        memcpy(x.ids, c->tmp.ptr, n * sizeof *x.ids);
        x.ids[0] |= (uint32_t)n << 24;
    } else {
        size_t text = word.len > KEY_MAX ? word.len : 0, need = 2 + n + (text + 3) / 4;
        if (need > c->pool_cap - c->pool_len) {
            c->pool_len = 0;
            c->pool_round++;
        }
        if (need > c->pool_cap) return;
        uint32_t *p = c->pool + c->pool_len;
        p[0] = (uint32_t)word.len;
        p[1] = (uint32_t)n;
        memcpy(p + 2, c->tmp.ptr, n * sizeof *p);
        if (text) memcpy(p + 2 + n, word.ptr, text);
        x.ids[0] = IN_POOL;
        x.ids[1] = (uint32_t)c->pool_len;
        x.ids[2] = c->pool_round;
        c->pool_len += need;
    }
    if (!b) b = make_room(c, k->bucket);
    x.ids[3] |= b->ids[3] & OVERFLOWED;
    *b = x;
}

/* The ids of an entry that has them inline; to has room for INLINE_IDS. */
static inline size_t take_ids(const struct entry *b, uint32_t *to)
{
    uint64_t a, z;
    memcpy(&a, b->ids, 8);
    memcpy(&z, b->ids + 2, 8);
    size_t count = a >> 24 & 0xff;
    a &= ~UINT64_C(0xff000000);
    z &= ~((uint64_t)OVERFLOWED << 32);
    memcpy(to, &a, 8);
    memcpy(to + 2, &z, 8);
    return count;
}

/* What isn't in the table's fast part: new, or in the pool. out has room. */
static int encode_slow(struct dp_encoder *c, const struct key *k, struct dp_span word, struct dp_ids *out, struct dp_err *e)
{
    struct entry *b = k->hi ? find(c, k) : NULL;
    if (b && b->ids[0] < IN_POOL) {
        out->len += take_ids(b, out->ptr + out->len);
        return DP_OK;
    }
    const uint32_t *p = b ? in_pool(c, b, word) : NULL;
    if (p) {
        memcpy(out->ptr + out->len, p + 2, p[1] * sizeof *p);
        out->len += p[1];
        return DP_OK;
    }
    DP_TRY(merge_word(c, word, e));
    memcpy(out->ptr + out->len, c->tmp.ptr, c->tmp.len * sizeof *c->tmp.ptr);
    out->len += c->tmp.len;
    if (k->hi) remember(c, k, b, word);
    return DP_OK;
}

static void make_keys(const struct dp_encoder *c, struct dp_span text, size_t at, const size_t *ends, size_t n, struct key *keys)
{
    const size_t mask = c->bucket_mask;
    for (size_t i = 0; i < n; at = ends[i++]) {
        size_t len = ends[i] - at;
        if (__builtin_expect(len <= KEY_MAX && text.len - at >= 16, 1)) keys[i] = short_key(text.ptr + at, len, mask);
        else if (len <= KEY_MAX) keys[i] = last_key(text.ptr + at, len, mask);
        else keys[i] = len <= LONG_MAX ? long_key(text.ptr + at, len, mask) : (struct key){0, 0, 0};
        __builtin_prefetch(&c->buckets[keys[i].bucket], 0);
    }
}

/* text[from, ...) in pieces ending at ends[0..n). */
static int encode_group(struct dp_encoder *c, struct dp_span text, size_t from, const size_t *ends, size_t n, struct dp_ids *out,
                        struct dp_err *e)
{
    struct key keys[GROUP];
    make_keys(c, text, from, ends, n, keys);
    DP_TRY(dp_ids_reserve(out, ends[n - 1] - from + INLINE_IDS, e)); /* an id has a byte at least */
    const struct bucket *buckets = c->buckets;
    uint32_t *to = out->ptr + out->len;
    for (size_t i = 0; i < n; i++) {
        const struct entry *b = buckets[keys[i].bucket].e;
        uint64_t lo = keys[i].lo, hi = keys[i].hi, other = (b[0].lo ^ lo) | (b[0].hi ^ hi);
        b += other != 0;
        if (__builtin_expect(((b->lo ^ lo) | (b->hi ^ hi)) == 0 && (b->ids[0] >> 24) - 1 < INLINE_IDS, 1)) {
            to += take_ids(b, to);
            continue;
        }
        size_t at = i ? ends[i - 1] : from;
        out->len = (size_t)(to - out->ptr);
        DP_TRY(encode_slow(c, &keys[i], dp_span(text.ptr + at, ends[i] - at), out, e));
        to = out->ptr + out->len;
    }
    out->len = (size_t)(to - out->ptr);
    return DP_OK;
}

/* With `count`, ids are counted and forgotten instead of kept in out. */
static int encode_ordinary(struct dp_encoder *c, struct dp_span text, struct dp_ids *out, uint64_t *count, struct dp_err *e)
{
    size_t ends[GROUP], pos = 0, from = 0, n;
    while ((n = dp_split_run(c->t->split, text, &pos, ends, GROUP)) > 0) {
        DP_TRY(encode_group(c, text, from, ends, n, out, e));
        from = pos;
        if (count) {
            *count += out->len;
            out->len = 0;
        }
    }
    return DP_OK;
}

/* The longest special token that begins at p: its id, and length in *len; -1: none. The sorted texts that share what was
 * read so far are a range, narrowed character by character. */
static int64_t special_at(const struct dp_tokenizer *t, const char *p, size_t room, size_t *len)
{
    size_t lo = 0, hi = t->special_count;
    int64_t found = -1;
    for (size_t d = 0; lo < hi; d++) {
        if (t->specials[lo].text.len == d) { /* the shortest of the range sorts first */
            found = t->specials[lo].id;
            *len = d;
            if (++lo == hi) break;
        }
        if (d == room) break;
        unsigned char ch = (unsigned char)p[d];
        size_t a = lo, b = hi;
        while (a < b) {
            size_t m = a + (b - a) / 2;
            if ((unsigned char)t->specials[m].text.ptr[d] < ch) a = m + 1;
            else b = m;
        }
        lo = a;
        b = hi;
        while (a < b) {
            size_t m = a + (b - a) / 2;
            if ((unsigned char)t->specials[m].text.ptr[d] <= ch) a = m + 1;
            else b = m;
        }
        hi = a;
    }
    return found;
}

static int encode_all(struct dp_encoder *c, struct dp_span text, struct dp_ids *out, uint64_t *count, struct dp_err *e)
{
    if (c->special == DP_SPECIAL_NONE || c->t->special_count == 0) return encode_ordinary(c, text, out, count, e);
    size_t from = 0;
    for (size_t i = 0; i < text.len;) {
        size_t len = 0;
        int64_t id = -1;
        if (c->first[(uint8_t)text.ptr[i]]) id = special_at(c->t, text.ptr + i, text.len - i, &len);
        if (id < 0) {
            i++;
            continue;
        }
        DP_TRY(encode_ordinary(c, dp_span(text.ptr + from, i - from), out, count, e));
        i += len;
        from = i;
        if (count) {
            ++*count;
            continue;
        }
        DP_TRY(dp_ids_reserve(out, 1, e));
        out->ptr[out->len++] = (uint32_t)id;
    }
    return encode_ordinary(c, dp_span(text.ptr + from, text.len - from), out, count, e);
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

int dp_decode(const struct dp_tokenizer *t, const uint32_t *ids, size_t n, struct dp_buf *out, struct dp_err *e)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= t->size || !t->bytes[ids[i]].ptr)
            DP_FAIL(e, CORRUPT, "id %u at position %zu is no token of this tokenizer (%u ids): was the text encoded with another?", ids[i],
                    i, t->size);
        total += t->bytes[ids[i]].len;
    }
    if (total > out->bytes_max || out->len > out->bytes_max - total)
        DP_FAIL(e, LIMIT, "%zu ids are %zu bytes of text, past the limit of %zu", n, total, out->bytes_max);
    char *to = dp_buf_reserve(out, total);
    if (!to) DP_FAIL(e, NOMEM, "%zu bytes of decoded text", total);
    const char *end = to + total;
    for (size_t i = 0; i < n; i++) {
        struct dp_span b = t->bytes[ids[i]];
        /* Two fixed loads and stores beat a call; the tokens' text is padded (dp_tokenizer_build), the output is checked. */
        if (b.len <= 16 && end - to >= 16) memcpy(to, b.ptr, 16);
        else memcpy(to, b.ptr, b.len);
        to += b.len;
    }
    out->len += total;
    out->ptr[out->len] = 0;
    return DP_OK;
}

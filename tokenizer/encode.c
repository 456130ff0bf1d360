/* tokenizer/encode.c - the encoder: split, look up, merge what is new.
 *
 * Nearly all pretokens were seen before, so the hot loop is a cache lookup. Pieces come in groups of 256; a first loop
 * makes keys and prefetches, a second one probes, so that a miss of the processor's cache is waited for once, not 256 times.
 *
 * Cache of short pretokens (at most 15 bytes, at most 4 ids): buckets of one cache line with two entries, the newer first.
 * Cache of long ones: a direct-mapped index into a pool of texts and ids that starts over when full.
 * Both only remember what merging gave. A vocabulary's whole-token lookup is no shortcut for merges: not every token can be
 * reached by them; it is used where the tokenizer says so (ignore_merges). */
#include "tokenizer/encode.h"

#include "tokenizer/bpe_merge.h"
#include "tokenizer/tokenizer_int.h"

#include <stdlib.h>

enum { GROUP = 256, KEY_MAX = 15, INLINE_IDS = 4, LONG_MAX = 1024 };

struct entry {
    uint64_t lo, hi; /* bytes, then the length in the top byte of hi; 0 length: empty */
    uint32_t ids[INLINE_IDS]; /* ids[0] has the number of ids above bit 24 */
};
struct bucket {
    _Alignas(64) struct entry e[2];
};

struct long_entry {
    uint64_t hash;
    uint32_t at; /* in pool, u32s: length, number of ids, ids, text; 0: empty */
};

struct dp_encoder {
    const struct dp_tokenizer *t;
    enum dp_special_policy special;
    struct bucket *buckets;
    size_t bucket_mask;
    struct long_entry *longs;
    size_t long_mask;
    uint32_t *pool;
    size_t pool_len, pool_cap;
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
    free(c->longs);
    free(c->pool);
    dp_merge_scratch_release(&c->scratch);
    dp_ids_release(&c->tmp);
    free(c);
}

/* Two thirds of the budget for short pretokens, the rest for long ones. */
int dp_encoder_open(struct dp_encoder **out, const struct dp_tokenizer *t, size_t cache_bytes, enum dp_special_policy special,
                    struct dp_err *e)
{
    *out = NULL;
    if (special == DP_SPECIAL_ALL && !t->specials_plain)
        DP_FAIL(e, CONFIG, "a special token of this tokenizer asks for lstrip, rstrip or single_word, which isn't supported: "
                "encode with special tokens as ordinary text");
    if (!cache_bytes) cache_bytes = 24u << 20;
    if (cache_bytes > (size_t)4 << 30) cache_bytes = (size_t)4 << 30; /* places in the pool are 32 bits */
    struct dp_encoder *c = calloc(1, sizeof *c);
    if (!c) DP_FAIL(e, NOMEM, "an encoder");
    size_t n = 64, m = 64;
    while (n * 2 * sizeof *c->buckets <= cache_bytes / 3 * 2) n *= 2;
    while (m * 2 * (sizeof *c->longs + 64) <= cache_bytes / 3) m *= 2;
    c->t = t;
    c->special = special;
    c->bucket_mask = n - 1;
    c->long_mask = m - 1;
    c->pool_cap = m * 16 > 2 * LONG_MAX ? m * 16 : 2 * LONG_MAX;
    c->pool_len = 1;
    c->buckets = aligned_alloc(64, n * sizeof *c->buckets);
    c->longs = calloc(m, sizeof *c->longs);
    c->pool = malloc(c->pool_cap * sizeof *c->pool);
    if (!c->buckets || !c->longs || !c->pool) {
        dp_encoder_close(c);
        DP_FAIL(e, NOMEM, "an encoder's cache of %zu bytes", cache_bytes);
    }
    memset(c->buckets, 0, n * sizeof *c->buckets);
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

static int encode_long(struct dp_encoder *c, struct dp_span word, struct dp_ids *out, struct dp_err *e)
{
    uint64_t h = dp_word_hash(word.ptr, word.len);
    struct long_entry *l = &c->longs[h & c->long_mask];
    if (l->at && l->hash == h) {
        const uint32_t *p = c->pool + l->at;
        if (p[0] == word.len && memcmp(p + 2 + p[1], word.ptr, word.len) == 0) {
            DP_TRY(dp_ids_reserve(out, p[1], e));
            memcpy(out->ptr + out->len, p + 2, p[1] * sizeof *p);
            out->len += p[1];
            return DP_OK;
        }
    }
    DP_TRY(merge_word(c, word, e));
    DP_TRY(dp_ids_reserve(out, c->tmp.len, e));
    memcpy(out->ptr + out->len, c->tmp.ptr, c->tmp.len * sizeof *c->tmp.ptr);
    out->len += c->tmp.len;
    size_t need = 2 + c->tmp.len + (word.len + 3) / 4;
    if (word.len > LONG_MAX) return DP_OK; /* rarely seen twice */
    if (need > c->pool_cap - c->pool_len) {
        memset(c->longs, 0, (c->long_mask + 1) * sizeof *c->longs);
        c->pool_len = 1;
        if (need > c->pool_cap - 1) return DP_OK;
    }
    uint32_t *p = c->pool + c->pool_len;
    p[0] = (uint32_t)word.len;
    p[1] = (uint32_t)c->tmp.len;
    memcpy(p + 2, c->tmp.ptr, c->tmp.len * sizeof *p);
    memcpy(p + 2 + c->tmp.len, word.ptr, word.len);
    *l = (struct long_entry){h, (uint32_t)c->pool_len};
    c->pool_len += need;
    return DP_OK;
}

struct key {
    uint64_t lo, hi;
    struct bucket *bucket;
};

/* The key of a pretoken of at most 15 bytes; `room` bytes may be read from p. */
static inline struct key key_of(const struct dp_encoder *c, const char *p, size_t n, size_t room)
{
    static const uint64_t masks[9] = {0, 0xff, 0xffff, 0xffffff, 0xffffffff, UINT64_C(0xffffffffff), UINT64_C(0xffffffffffff),
                                      UINT64_C(0xffffffffffffff), UINT64_MAX};
    struct key k = {0, 0, NULL};
    if (room >= 16) {
        memcpy(&k.lo, p, 8);
        memcpy(&k.hi, p + 8, 8);
        k.lo &= masks[n < 8 ? n : 8];
        k.hi &= masks[n < 8 ? 0 : n - 8];
    } else {
        memcpy(&k.lo, p, n < 8 ? n : 8);
        if (n > 8) memcpy(&k.hi, p + 8, n - 8);
    }
    k.hi |= (uint64_t)n << 56;
    k.bucket = &c->buckets[dp_word_mix(k.lo, k.hi) & c->bucket_mask];
    return k;
}

/* A short pretoken that the first entry of its bucket isn't. out has room for 15 ids. */
static int encode_short(struct dp_encoder *c, const struct key *k, struct dp_span word, struct dp_ids *out, struct dp_err *e)
{
    struct entry *b = k->bucket->e;
    if (b[1].lo == k->lo && b[1].hi == k->hi) {
        struct entry x = b[1];
        b[1] = b[0];
        b[0] = x;
    } else {
        DP_TRY(merge_word(c, word, e));
        if (c->tmp.len > INLINE_IDS) {
            memcpy(out->ptr + out->len, c->tmp.ptr, c->tmp.len * sizeof *c->tmp.ptr);
            out->len += c->tmp.len;
            return DP_OK;
        }
        b[1] = b[0];
        b[0] = (struct entry){k->lo, k->hi, {0}};
        memcpy(b[0].ids, c->tmp.ptr, c->tmp.len * sizeof *c->tmp.ptr);
        b[0].ids[0] |= (uint32_t)c->tmp.len << 24;
    }
    memcpy(out->ptr + out->len, b[0].ids, sizeof b[0].ids);
    out->ptr[out->len] &= 0xffffff;
    out->len += b[0].ids[0] >> 24;
    return DP_OK;
}

/* text[from, ...) in pieces ending at ends[0..n). */
static int encode_group(struct dp_encoder *c, struct dp_span text, size_t from, const size_t *ends, size_t n, struct dp_ids *out,
                        struct dp_err *e)
{
    struct key keys[GROUP];
    size_t at = from;
    for (size_t i = 0; i < n; at = ends[i++]) {
        size_t len = ends[i] - at;
        if (len > KEY_MAX) continue;
        keys[i] = key_of(c, text.ptr + at, len, text.len - at);
        __builtin_prefetch(keys[i].bucket, 1);
    }
    at = from;
    for (size_t i = 0; i < n; at = ends[i++]) {
        struct dp_span word = dp_span(text.ptr + at, ends[i] - at);
        if (word.len > KEY_MAX) {
            DP_TRY(encode_long(c, word, out, e));
            continue;
        }
        if (out->cap - out->len < 16) DP_TRY(dp_ids_reserve(out, 16 + (n - i), e));
        const struct entry *b = keys[i].bucket->e;
        if (__builtin_expect(b->lo == keys[i].lo && b->hi == keys[i].hi, 1)) {
            uint32_t *to = out->ptr + out->len;
            memcpy(to, b->ids, sizeof b->ids);
            to[0] &= 0xffffff;
            out->len += b->ids[0] >> 24;
        } else DP_TRY(encode_short(c, &keys[i], word, out, e));
    }
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
            DP_FAIL(e, CORRUPT, "id %u at position %zu is no token of this tokenizer (%u ids): was the text encoded with another?",
                    ids[i], i, t->size);
        total += t->bytes[ids[i]].len;
    }
    char *to = dp_buf_reserve(out, total);
    if (!to) return dp_buf_check(out, "decoded text", e);
    for (size_t i = 0; i < n; i++) {
        struct dp_span b = t->bytes[ids[i]];
        memcpy(to, b.ptr, b.len);
        to += b.len;
    }
    out->len += total;
    return DP_OK;
}

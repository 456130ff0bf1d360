#include "tokenizer/pretoken_cache.h"

#include "base/hash.h"
#include "base/large.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { PROBES = 32, BUCKETS_MIN = 64, POOL_MIN = 4 * DP_CACHE_LONG, POOL_SLACK = DP_CACHE_LONG, WIDE_IDS = 4, NARROW_IDS = 7 };
#define LONG_KEY (UINT64_C(0xff) << 56)
#define BUSY 1

struct dp_cache {
    pthread_mutex_t lock;
    struct dp_cache_table *young, *old;
    uint64_t version; /* changes with young; read without the lock */
    size_t table_bytes;
    unsigned views;
};

static void table_close(struct dp_cache_table *t)
{
    if (!t) return;
    if (t->buckets) dp_pages_unmap(t->buckets, (t->bucket_mask + 1) * sizeof *t->buckets);
    if (t->pool) dp_pages_unmap(t->pool, (t->pool_cap + POOL_SLACK) * sizeof *t->pool);
    free(t);
}

/* Four fifths of the bytes for the buckets, or less: their number is a power of two. */
static struct dp_cache_table *table_open(size_t bytes, bool narrow)
{
    struct dp_cache_table *t = calloc(1, sizeof *t);
    size_t n = BUCKETS_MIN;
    if (!t) return NULL;
    while (n * 2 * sizeof *t->buckets <= bytes / 5 * 4) n *= 2;
    size_t rest = bytes > n * sizeof *t->buckets ? bytes - n * sizeof *t->buckets : 0;
    t->bucket_mask = n - 1;
    t->bucket_shift = 64 - (unsigned)__builtin_ctzll(n);
    t->narrow = narrow;
    t->entries_max = n + n / 4; /* of 2n */
    t->pool_cap = rest / sizeof *t->pool;
    if (t->pool_cap < POOL_MIN) t->pool_cap = POOL_MIN;
    if (t->pool_cap > UINT32_MAX) t->pool_cap = UINT32_MAX;
    t->buckets = dp_pages_map(n * sizeof *t->buckets);
    t->pool = dp_pages_map((t->pool_cap + POOL_SLACK) * sizeof *t->pool);
    if (t->buckets && t->pool) return t;
    table_close(t);
    return NULL;
}

int dp_cache_open(struct dp_cache_view *v, size_t bytes, bool narrow, struct dp_err *e)
{
    struct dp_cache *c = calloc(1, sizeof *c);
    *v = (struct dp_cache_view){.cache = c};
    if (!c) DP_FAIL(e, NOMEM, "an encoder's cache");
    c->table_bytes = bytes / 2;
    c->young = table_open(c->table_bytes, narrow);
    if (!c->young) {
        free(c);
        v->cache = NULL;
        DP_FAIL(e, NOMEM, "an encoder's cache of %zu bytes", bytes);
    }
    pthread_mutex_init(&c->lock, NULL);
    c->views = c->young->refs = 1;
    v->young = c->young;
    return DP_OK;
}

void dp_cache_hold(struct dp_cache_view *v, const struct dp_cache_view *other)
{
    struct dp_cache *c = other->cache;
    pthread_mutex_lock(&c->lock);
    c->views++;
    *v = (struct dp_cache_view){c, c->young, c->old, c->version, false};
    v->young->refs++;
    if (v->old) v->old->refs++;
    pthread_mutex_unlock(&c->lock);
}

/* Under the lock. */
static void let_go(struct dp_cache *c, struct dp_cache_table *t)
{
    if (t && --t->refs == 0 && t != c->young && t != c->old) table_close(t);
}

void dp_cache_release(struct dp_cache_view *v)
{
    struct dp_cache *c = v->cache;
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    let_go(c, v->young);
    let_go(c, v->old);
    bool last = --c->views == 0;
    pthread_mutex_unlock(&c->lock);
    *v = (struct dp_cache_view){0};
    if (!last) return;
    table_close(c->young);
    table_close(c->old);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Under the lock. */
static void change_over(struct dp_cache_view *v)
{
    struct dp_cache *c = v->cache;
    struct dp_cache_table *young = v->young, *old = v->old;
    v->young = c->young;
    v->old = c->old;
    v->version = c->version;
    v->young->refs++;
    if (v->old) v->old->refs++;
    let_go(c, young);
    let_go(c, old);
}

void dp_cache_renew(struct dp_cache_view *v)
{
    struct dp_cache *c = v->cache;
    v->full = false;
    if (__atomic_load_n(&c->version, __ATOMIC_RELAXED) == v->version) return;
    pthread_mutex_lock(&c->lock);
    change_over(v);
    pthread_mutex_unlock(&c->lock);
}

/* The view's young table is full. false when another encoder still looks into the old one: there is to be no third. */
static bool grow_old(struct dp_cache_view *v)
{
    struct dp_cache *c = v->cache;
    pthread_mutex_lock(&c->lock);
    bool done = true;
    if (c->young == v->young) {
        struct dp_cache_table *t = c->old;
        if (!t) t = table_open(c->table_bytes, c->young->narrow);
        else if (t->refs > (unsigned)(t == v->old)) t = NULL;
        else {
            memset(t->buckets, 0, (t->bucket_mask + 1) * sizeof *t->buckets);
            t->entries = t->pool_len = 0;
        }
        done = t != NULL;
        if (done) {
            c->old = c->young;
            c->young = t;
            __atomic_store_n(&c->version, c->version + 1, __ATOMIC_RELAXED);
        }
    }
    if (done) change_over(v);
    pthread_mutex_unlock(&c->lock);
    return done;
}

struct dp_cache_key dp_cache_long_key(const struct dp_cache_view *v, struct dp_span word)
{
    struct dp_hash128 h = dp_hash128(word.ptr, word.len);
    return (struct dp_cache_key){h.lo, h.hi | LONG_KEY, (size_t)(h.lo >> v->young->bucket_shift)};
}

static const struct dp_cache_entry *find_in(const struct dp_cache_table *t, const struct dp_cache_key *k)
{
    for (size_t p = 0; p < PROBES; p++) {
        const struct dp_cache_entry *b = t->buckets[(k->bucket + p) & t->bucket_mask].e;
        for (int i = 0; i < 2; i++) {
            if (dp_cache_entry_is(&b[i], k->lo, k->hi)) return &b[i];
            if (__atomic_load_n(&b[i].hi, __ATOMIC_RELAXED) == 0) return NULL;
        }
    }
    return NULL;
}

static const uint32_t *ids_in(const struct dp_cache_table *t, const struct dp_cache_key *k, struct dp_span word, uint32_t *n,
                              uint32_t inline_ids[DP_CACHE_INLINE_IDS])
{
    const struct dp_cache_entry *b = t ? find_in(t, k) : NULL;
    if (!b) return NULL;
    *n = (uint32_t)dp_cache_inline_ids(b, t->narrow, inline_ids);
    if (*n < DP_CACHE_IN_POOL) return inline_ids;
    return dp_cache_record(t, b->ids[0], word, n);
}

const uint32_t *dp_cache_find(const struct dp_cache_view *v, const struct dp_cache_key *k, struct dp_span word, uint32_t *n,
                              uint32_t inline_ids[DP_CACHE_INLINE_IDS], bool *old)
{
    const uint32_t *ids = ids_in(v->young, k, word, n, inline_ids);
    *old = !ids;
    return ids ? ids : ids_in(v->old, k, word, n, inline_ids);
}

void dp_cache_prefetch(const struct dp_cache_view *v, const struct dp_cache_key *k)
{
    const struct dp_cache_entry *b = v->young->buckets[k->bucket].e;
    b += !dp_cache_entry_is(b, k->lo, k->hi);
    if (!dp_cache_entry_is(b, k->lo, k->hi)) return;
    const uint32_t *p = v->young->pool + (b->ids[0] >> 32);
    __builtin_prefetch(p);
    __builtin_prefetch(p + 16);
}

/* A record in the pool: its place, or UINT64_MAX when the pool is full. */
static uint64_t put_record(struct dp_cache_table *t, struct dp_span word, const uint32_t *ids, uint32_t n)
{
    size_t text = word.len > DP_CACHE_SHORT ? word.len : 0, need = 2 + n + (text + 3) / 4;
    if (__atomic_load_n(&t->pool_len, __ATOMIC_RELAXED) > t->pool_cap - need) return UINT64_MAX;
    size_t at = __atomic_fetch_add(&t->pool_len, need, __ATOMIC_RELAXED);
    if (at > t->pool_cap - need) return UINT64_MAX;
    uint32_t *p = t->pool + at;
    p[0] = (uint32_t)word.len;
    p[1] = n;
    memcpy(p + 2, ids, n * sizeof *p);
    if (text) memcpy(p + 2 + n, word.ptr, text);
    return at;
}

/* false: full. */
static bool put_in(struct dp_cache_table *t, const struct dp_cache_key *k, struct dp_span word, const uint32_t *ids, uint32_t n)
{
    uint64_t v[2] = {0, 0};
    if (__atomic_load_n(&t->entries, __ATOMIC_RELAXED) >= t->entries_max) return false;
    if (word.len > DP_CACHE_SHORT || n > (t->narrow ? NARROW_IDS : WIDE_IDS)) {
        uint64_t at = put_record(t, word, ids, n);
        if (at == UINT64_MAX) return false;
        v[0] = at << 32 | (t->narrow ? 0 : DP_CACHE_IN_POOL << 24);
        v[1] = t->narrow ? DP_CACHE_IN_POOL << 48 : 0;
    } else if (t->narrow) {
        uint16_t h[NARROW_IDS + 1] = {0};
        for (uint32_t i = 0; i < n; i++) h[i] = (uint16_t)ids[i];
        h[NARROW_IDS] = (uint16_t)n;
        memcpy(v, h, sizeof v);
    } else {
        memcpy(v, ids, n * sizeof *ids);
        v[0] |= (uint64_t)n << 24;
    }
    for (size_t p = 0; p < PROBES; p++) {
        struct dp_cache_entry *b = t->buckets[(k->bucket + p) & t->bucket_mask].e;
        for (int i = 0; i < 2; i++) {
            uint64_t empty = 0;
            if (dp_cache_entry_is(&b[i], k->lo, k->hi)) return true; /* another thread was faster; or another word has this hash */
            if (!__atomic_compare_exchange_n(&b[i].hi, &empty, BUSY, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
            __atomic_store_n(&b[i].lo, k->lo, __ATOMIC_RELAXED);
            b[i].ids[0] = v[0];
            b[i].ids[1] = v[1];
            __atomic_store_n(&b[i].hi, k->hi, __ATOMIC_RELEASE);
            __atomic_fetch_add(&t->entries, 1, __ATOMIC_RELAXED);
            return true;
        }
    }
    return false;
}

void dp_cache_put(struct dp_cache_view *v, const struct dp_cache_key *k, struct dp_span word, const uint32_t *ids, uint32_t n)
{
    if (v->full || put_in(v->young, k, word, ids, n)) return;
    v->full = !grow_old(v);
    if (!v->full) put_in(v->young, k, word, ids, n);
}

/* tokenizer/pretoken_cache.h - what pretokens became, for tokenizer/ only; shared by the encoders of any number of threads.
 *
 * Two tables, the young and the old one. A table only takes entries, which never change once they can be seen; so readers need no lock, and
 * each thread finds what another has merged. A full young table becomes the old one, an empty one the young; what is found in the
 * old one is taken over. So what no text has asked for in a while is forgotten, and frequent pretokens stay. A table is freed when
 * no encoder holds it: encoders change over between texts (dp_cache_renew).
 *
 * An entry is half a line of the processor's cache. A short pretoken (at most 15 bytes) is its own key, and where it has at most 4 ids (7 if ids
 * have 16 bits) they are in the entry. Else the entry names a record in the table's pool: length of the text, number of ids, ids, and the text of a long
 * pretoken, whose key is only a hash. */
#ifndef DP_TOKENIZER_PRETOKEN_CACHE_H
#define DP_TOKENIZER_PRETOKEN_CACHE_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/word_hash.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { DP_CACHE_SHORT = DP_WORD_KEY_MAX, DP_CACHE_INLINE_IDS = 8, DP_CACHE_LONG = 1024 }; /* INLINE_IDS: what reading an entry writes */
#define DP_CACHE_IN_POOL UINT64_C(0xff) /* in place of the number of ids */

/* lo, hi: dp_word_key, or a hash (dp_cache_long_key). hi is never below 2^56. */
struct dp_cache_key {
    uint64_t lo, hi;
    size_t bucket;
};
struct dp_cache_entry {
    uint64_t hi, lo, ids[2]; /* hi 0: empty, 1: being written. ids: four of 32 bits, the first with their number above bit 24; or eight of 16 bits,
                                the last their number. In the pool: the place is the upper half of the first */
};
struct dp_cache_bucket {
    _Alignas(64) struct dp_cache_entry e[2];
};
struct dp_cache_table {
    struct dp_cache_bucket *buckets;
    size_t bucket_mask, entries_max, entries; /* entries: grows atomically */
    unsigned bucket_shift;                    /* of a hash: its upper bits say which bucket */
    uint32_t *pool;
    size_t pool_cap, pool_len;
    bool narrow; /* ids of 16 bits */
    unsigned refs; /* under the cache's lock */
};

struct dp_cache;
/* The tables an encoder looks into; of one thread. */
struct dp_cache_view {
    struct dp_cache *cache;
    struct dp_cache_table *young, *old; /* old may be NULL */
    uint64_t version;
    bool full; /* nothing more can be kept, until dp_cache_renew */
};

/* A cache of at most `bytes` (40 KiB at least), held by one view. narrow: all ids are below 2^16. */
int dp_cache_open(struct dp_cache_view *v, size_t bytes, bool narrow, struct dp_err *e);
/* Another view of the same cache. Thread-safe. */
void dp_cache_hold(struct dp_cache_view *v, const struct dp_cache_view *other);
void dp_cache_release(struct dp_cache_view *v);
/* Change over to the tables of now; what was found before may be gone after. */
void dp_cache_renew(struct dp_cache_view *v);

/* Of a pretoken that isn't short and at most DP_CACHE_LONG bytes. */
struct dp_cache_key dp_cache_long_key(const struct dp_cache_view *v, struct dp_span word);
/* Where the ids of `word` are, and their number, or NULL. *old: not in the young table, and worth a dp_cache_put. The place lives until
 * dp_cache_renew and dp_cache_put. */
const uint32_t *dp_cache_find(const struct dp_cache_view *v, const struct dp_cache_key *k, struct dp_span word, uint32_t *n,
                              uint32_t inline_ids[DP_CACHE_INLINE_IDS], bool *old);
/* Fetch what dp_cache_find will read of a pretoken that isn't short; its bucket is there. */
void dp_cache_prefetch(const struct dp_cache_view *v, const struct dp_cache_key *k);
/* Remember. There may be no room, while another encoder holds the old table: see `full`. `ids` are not the cache's own. */
void dp_cache_put(struct dp_cache_view *v, const struct dp_cache_key *k, struct dp_span word, const uint32_t *ids, uint32_t n);

/* The ids of an entry to `to`, with room for DP_CACHE_INLINE_IDS, and their number; DP_CACHE_IN_POOL: see dp_cache_record. */
static inline uint64_t dp_cache_inline_ids(const struct dp_cache_entry *b, bool narrow, uint32_t *to)
{
    if (!narrow) {
        uint64_t v[2] = {b->ids[0] & ~UINT64_C(0xff000000), b->ids[1]};
        memcpy(to, v, sizeof v);
        return b->ids[0] >> 24 & 0xff;
    }
    typedef uint16_t half __attribute__((vector_size(16)));
    typedef uint32_t whole __attribute__((vector_size(32)));
    half h;
    memcpy(&h, b->ids, sizeof h);
    whole w = __builtin_convertvector(h, whole);
    memcpy(to, &w, sizeof w);
    return b->ids[1] >> 48;
}

/* Of an entry whose ids are in the pool: where, and how many; NULL when it is another word of the same hash. DP_CACHE_LONG ids can be read there. */
static inline const uint32_t *dp_cache_record(const struct dp_cache_table *t, uint64_t ids, struct dp_span word, uint32_t *n)
{
    const uint32_t *p = t->pool + (ids >> 32);
    if (word.len > DP_CACHE_SHORT && (p[0] != word.len || memcmp(p + 2 + p[1], word.ptr, word.len) != 0)) return NULL;
    *n = p[1];
    return p + 2;
}

static inline bool dp_cache_entry_is(const struct dp_cache_entry *b, uint64_t lo, uint64_t hi)
{
    uint64_t h = __atomic_load_n(&b->hi, __ATOMIC_ACQUIRE), l = __atomic_load_n(&b->lo, __ATOMIC_RELAXED);
    return ((h ^ hi) | (l ^ lo)) == 0;
}

#endif

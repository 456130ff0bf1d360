/* Why runs, and not a bit or a prefix sum a document: with 1 % of the documents in val a train run
 * holds about a hundred, so the table is a hundred times smaller and a row of 2,048 ids is nearly
 * always one memory copy. Block prefix sums over 4,096 documents would have to read 96 KiB of side
 * file for every row, more than the row itself.
 *
 * A lookup takes one bucket (positions are nearly uniform over runs), a short binary search between
 * two bucket bounds, and for stride > 1 a walk. All of it is O(log runs + documents of `stride`
 * runs) whatever the data. */
#include "trainer_feed/feed_index.h"

#include <inttypes.h>
#include <stdlib.h>

/* Add an entry for run number `number` if the stride wants it. */
static int add_run(struct dp_feed_index *ix, uint64_t number, struct dp_feed_run r,
                   struct dp_err *e)
{
    if (number % ix->stride) return DP_OK;
    if (ix->runs == ix->runs_max) {
        for (size_t i = 0; 2 * i < ix->runs; i++) ix->run[i] = ix->run[2 * i];
        ix->runs = (ix->runs + 1) / 2;
        ix->stride *= 2;
        if (number % ix->stride) return DP_OK;
    }
    if (ix->runs == ix->runs_cap) {
        size_t cap = ix->runs_cap ? ix->runs_cap * 2 : 256;
        if (cap > ix->runs_max) cap = ix->runs_max;
        struct dp_feed_run *p = realloc(ix->run, cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "feed: index of %zu runs", cap);
        ix->run = p;
        ix->runs_cap = cap;
    }
    ix->run[ix->runs++] = r;
    return DP_OK;
}

static int scan(struct dp_feed_index *ix, struct dp_err *e)
{
    const struct dp_feed_docs *docs = ix->docs;
    struct dp_feed_asker asker = {0};
    uint64_t number = 0;
    bool in_run = false;
    for (size_t s = 0; s < docs->shards; s++) {
        const uint64_t n_docs = dp_feed_docs_count(docs, s), *ends = n_docs ? dp_shard_ends(docs->shard[s]) : NULL;
        uint64_t from = 0;
        for (uint64_t d = 0; d < n_docs; d++) {
            uint64_t n = ends[d] - from;
            bool ours = dp_feed_docs_takes(docs, &asker, s, d);
            ix->documents += ours;
            if (n && ours && !in_run)
                DP_TRY(add_run(ix, number++, (struct dp_feed_run){ix->tokens, docs->token_start[s] + from, docs->doc_start[s] + d}, e));
            if (n) in_run = ours; /* documents without ids cut nothing */
            if (ours) ix->tokens += n;
            from = ends[d];
        }
    }
    return DP_OK;
}

static int make_buckets(struct dp_feed_index *ix, struct dp_err *e)
{
    size_t want = 2 * ix->runs < 64 ? 64 : 2 * ix->runs;
    while (ix->tokens >> ix->bucket_shift >= want) ix->bucket_shift++;
    ix->buckets = (size_t)(ix->tokens >> ix->bucket_shift) + 1;
    ix->bucket = malloc(ix->buckets * sizeof *ix->bucket);
    if (!ix->bucket) DP_FAIL(e, NOMEM, "feed: %zu buckets", ix->buckets);
    size_t at = 0;
    for (size_t b = 0; b < ix->buckets; b++) {
        while (at + 1 < ix->runs && ix->run[at + 1].pos <= (uint64_t)b << ix->bucket_shift) at++;
        ix->bucket[b] = (uint32_t)at;
    }
    return DP_OK;
}

int dp_feed_index_open(struct dp_feed_index *ix, const struct dp_feed_docs *docs, size_t runs_max, struct dp_err *e)
{
    *ix = (struct dp_feed_index){.docs = docs, .stride = 1, .runs_max = runs_max};
    DP_ASSERT(runs_max >= 2);
    int rc = DP_OK;
    if (docs->all) {
        ix->tokens = docs->token_start[docs->shards];
        ix->documents = docs->doc_start[docs->shards];
        if (ix->tokens) DP_TRY_OUT(add_run(ix, 0, (struct dp_feed_run){0, 0, 0}, e));
    } else if (!docs->none) {
        DP_TRY_OUT(scan(ix, e));
    }
    if (ix->runs) DP_TRY_OUT(make_buckets(ix, e));
out:
    if (rc < 0) dp_feed_index_release(ix);
    return rc;
}

void dp_feed_index_release(struct dp_feed_index *ix)
{
    free(ix->run);
    free(ix->bucket);
    *ix = (struct dp_feed_index){0};
}

/* From the entry `r` document by document to the one that holds pos; then on while the run
 * lasts. */
static uint64_t walk(const struct dp_feed_index *ix, const struct dp_feed_run *r, uint64_t pos,
                     uint64_t want, uint64_t *token)
{
    const struct dp_feed_docs *docs = ix->docs;
    struct dp_feed_asker asker = {0};
    uint64_t at = r->pos, found = 0, doc = r->doc;
    for (size_t s = dp_feed_docs_shard_of(docs, doc); s < docs->shards; s++) {
        const uint64_t n_docs = dp_feed_docs_count(docs, s), *ends = n_docs ? dp_shard_ends(docs->shard[s]) : NULL;
        uint64_t d = doc > docs->doc_start[s] ? doc - docs->doc_start[s] : 0;
        for (uint64_t from = d ? ends[d - 1] : 0; d < n_docs; from = ends[d++]) {
            uint64_t n = ends[d] - from;
            if (!n) continue;
            if (!dp_feed_docs_takes(docs, &asker, s, d)) {
                if (found) return found;
                continue;
            }
            if (found) {
                found += n;
            } else if (pos - at < n) {
                *token = docs->token_start[s] + from + (pos - at);
                found = n - (pos - at);
            }
            if (found >= want) return want;
            at += n;
        }
    }
    DP_ASSERT(found > 0); /* pos < tokens, and the files are immutable */
    return found;
}

uint64_t dp_feed_index_find(const struct dp_feed_index *ix, uint64_t pos, uint64_t want,
                            uint64_t *token)
{
    DP_ASSERT(pos < ix->tokens && want > 0);
    size_t b = (size_t)(pos >> ix->bucket_shift), low = ix->bucket[b];
    size_t high = b + 1 < ix->buckets ? (size_t)ix->bucket[b + 1] + 1
                                      : ix->runs; /* the entry is in [low, high) */
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (ix->run[mid].pos <= pos) low = mid;
        else high = mid;
    }
    const struct dp_feed_run *r = &ix->run[low];
    if (ix->stride > 1) return walk(ix, r, pos, want, token);
    uint64_t end = low + 1 < ix->runs ? r[1].pos : ix->tokens;
    *token = r->token + (pos - r->pos);
    return end - pos < want ? end - pos : want;
}

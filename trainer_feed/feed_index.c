/* Why runs, and not a bit or a prefix sum a document: with 1 % of the documents in val a train run
 * holds about a hundred, so the table is a hundred times smaller and a row of 2,048 ids is nearly
 * always one memory copy. Block prefix sums over 4,096 documents would have to read 96 KiB of side
 * file for every row, more than the row itself.
 *
 * A lookup takes one bucket (positions are nearly uniform over runs), a short binary search between
 * two bucket bounds, and for stride > 1 a walk. All of it is O(log runs + documents of `stride`
 * runs) whatever the data. */
#include "trainer_feed/feed_index.h"

#include "trainer_feed/feed.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static uint64_t threshold_of(double val_fraction)
{
    return val_fraction >= 1 ? UINT64_MAX : (uint64_t)ldexp(val_fraction, 64);
}

static int side(struct dp_hash128 content, uint64_t threshold)
{
    return dp_mix64(content.lo ^ UINT64_C(0x9e3779b97f4a7c15)) < threshold ? DP_FEED_VAL
                                                                           : DP_FEED_TRAIN;
}

int dp_feed_split_of(struct dp_hash128 content, double val_fraction)
{
    if (val_fraction >= 1) return DP_FEED_VAL;
    return side(content, threshold_of(val_fraction));
}

static int open_shards(struct dp_feed_index *ix, const struct dp_manifest *m, const char *path,
                       struct dp_err *e)
{
    ix->shard = calloc(m->count + 1, sizeof *ix->shard);
    ix->token_start = calloc(m->count + 1, sizeof *ix->token_start);
    ix->doc_start = calloc(m->count + 1, sizeof *ix->doc_start);
    if (!ix->shard || !ix->token_start || !ix->doc_start)
        DP_FAIL(e, NOMEM, "%s: %zu shards", path, m->count);
    for (size_t i = 0; i < m->count; i++) {
        DP_TRY(dp_manifest_open_shard(m, path, i, &ix->shard[i], e));
        ix->shards++;
        ix->token_start[i + 1] = ix->token_start[i] + dp_shard_tokens(ix->shard[i]);
        ix->doc_start[i + 1] = ix->doc_start[i] + dp_shard_documents(ix->shard[i]);
    }
    return DP_OK;
}

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
    uint64_t threshold = threshold_of(ix->val_fraction), number = 0;
    bool in_run = false;
    for (size_t s = 0; s < ix->shards; s++) {
        const uint64_t *ends = dp_shard_ends(ix->shard[s]), docs = dp_shard_documents(ix->shard[s]);
        const struct dp_hash128 *contents = dp_shard_contents(ix->shard[s]);
        uint64_t from = 0;
        for (uint64_t d = 0; d < docs; d++) {
            uint64_t n = ends[d] - from;
            bool ours = side(contents[d], threshold) == ix->split;
            ix->documents += ours;
            if (n && ours && !in_run)
                DP_TRY(add_run(ix, number++,
                               (struct dp_feed_run){ix->tokens, ix->token_start[s] + from,
                                                    ix->doc_start[s] + d},
                               e));
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

int dp_feed_index_open(struct dp_feed_index *ix, const struct dp_manifest *m,
                       const char *manifest_path, int split, double val_fraction, size_t runs_max,
                       struct dp_err *e)
{
    *ix = (struct dp_feed_index){
        .split = split, .val_fraction = val_fraction, .stride = 1, .runs_max = runs_max};
    DP_ASSERT(runs_max >= 2);
    int rc = DP_OK;
    DP_TRY_OUT(open_shards(ix, m, manifest_path, e));
    if (val_fraction <= 0 ||
        val_fraction >= 1) { /* all or nothing: no document needs to be looked at */
        bool all = (split == DP_FEED_VAL) == (val_fraction >= 1);
        if (all && m->tokens) DP_TRY_OUT(add_run(ix, 0, (struct dp_feed_run){0, 0, 0}, e));
        ix->tokens = all ? m->tokens : 0;
        ix->documents = all ? m->documents : 0;
    } else {
        DP_TRY_OUT(scan(ix, e));
    }
    if (ix->runs) DP_TRY_OUT(make_buckets(ix, e));
out:
    if (rc < 0) dp_feed_index_release(ix);
    return rc;
}

void dp_feed_index_release(struct dp_feed_index *ix)
{
    for (size_t i = 0; i < ix->shards; i++) dp_shard_close(ix->shard[i]);
    free(ix->shard);
    free(ix->token_start);
    free(ix->doc_start);
    free(ix->run);
    free(ix->bucket);
    *ix = (struct dp_feed_index){0};
}

/* The i with start[i] <= x < start[i + 1]; x < start[n]. Empty intervals are passed over. */
static size_t interval(const uint64_t *start, size_t n, uint64_t x)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (start[mid] <= x) low = mid;
        else high = mid;
    }
    return low;
}

size_t dp_feed_index_shard(const struct dp_feed_index *ix, uint64_t token)
{
    return interval(ix->token_start, ix->shards, token);
}

/* From the entry `r` document by document to the one that holds pos; then on while the run
 * lasts. */
static uint64_t walk(const struct dp_feed_index *ix, const struct dp_feed_run *r, uint64_t pos,
                     uint64_t want, uint64_t *token)
{
    uint64_t threshold = threshold_of(ix->val_fraction), at = r->pos, found = 0, doc = r->doc;
    for (size_t s = interval(ix->doc_start, ix->shards, doc); s < ix->shards; s++) {
        const uint64_t *ends = dp_shard_ends(ix->shard[s]), docs = dp_shard_documents(ix->shard[s]);
        const struct dp_hash128 *contents = dp_shard_contents(ix->shard[s]);
        uint64_t d = doc > ix->doc_start[s] ? doc - ix->doc_start[s] : 0;
        for (uint64_t from = d ? ends[d - 1] : 0; d < docs; from = ends[d++]) {
            uint64_t n = ends[d] - from;
            if (!n) continue;
            if (side(contents[d], threshold) != ix->split) {
                if (found) return found;
                continue;
            }
            if (found) {
                found += n;
            } else if (pos - at < n) {
                *token = ix->token_start[s] + from + (pos - at);
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

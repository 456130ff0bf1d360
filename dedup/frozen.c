/* Documents that were decided before. Their decisions come from their keep files; of their signatures only those matter that
 * a new document could meet: a filter over the new documents' keys, which are read first, says which. Its errors are of one
 * kind, a key too many, and then a bucket without a new document, which gives nothing: so its size changes no result. */
#include "base/progress.h"
#include "dedup/dedup_impl.h"
#include "dedup/keepfile.h"

#include <stdlib.h>

/* ---- decisions ---- */

static int load(struct dp_dedup_state *s, size_t input, const char *path, struct dp_err *e)
{
    struct dp_keepfile *k;
    int rc = DP_OK;
    DP_TRY(dp_keepfile_open(&k, path, e));
    const uint64_t first = s->first[input], count = s->first[input + 1] - first;
    if (dp_keepfile_count(k) != count || (count && dp_keepfile_first(k) != first))
        DP_GOTO(e, CORRUPT, "%s: decides %llu documents from number %llu on, its signatures are %llu from %llu: run dedup again", path,
                (unsigned long long)dp_keepfile_count(k), (unsigned long long)dp_keepfile_first(k), (unsigned long long)count,
                (unsigned long long)first);
    for (uint64_t i = 0; i < count; i++) {
        struct dp_keep_record r;
        DP_TRY_OUT(dp_keepfile_get(k, i, &r, e));
        uint64_t d = first + i;
        bool kept = r.decision == DP_KEEP_KEPT;
        if (r.representative >= s->frozen || kept != (r.representative == d))
            DP_GOTO(e, CORRUPT, "%s: record %llu names document %llu: run dedup again", path, (unsigned long long)i,
                    (unsigned long long)r.representative);
        s->state[d] = kept ? DP_ST_KEPT : r.decision == DP_KEEP_EXACT ? DP_ST_EXACT : DP_ST_NEAR;
        s->rep[d] = (uint32_t)r.representative;
        s->sim[d] = r.similarity;
        s->prio[d] = DP_SKETCH_NONE;
    }
out:
    dp_keepfile_close(k);
    return rc;
}

int dp_frozen_load(struct dp_dedup_state *s, const char *const *keep_paths, struct dp_err *e)
{
    for (size_t i = 0; i < s->frozen_inputs; i++) {
        DP_TRY(dp_progress_go_on(e));
        DP_TRY(load(s, i, keep_paths[i], e));
    }
    for (uint32_t d = 0; d < s->frozen; d++) {
        if (d % DP_LOOK_DOCS == 0) DP_TRY(dp_progress_go_on(e));
        if (s->state[s->rep[d]] != DP_ST_KEPT)
            DP_FAIL(e, CORRUPT, "dedup: document %u was dropped for %u, which isn't kept: run dedup of all documents again", d, s->rep[d]);
    }
    return DP_OK;
}

/* ---- the filter: two bits a key, a part for each lane ---- */

int dp_filter_open(struct dp_dedup_state *s, struct dp_err *e)
{
    enum { LEAST = 1 << 10, A_KEY = 8 };
    if (!s->frozen) return DP_OK;
    uint64_t keys = ((uint64_t)(s->docs - s->frozen) * (s->params.bands + 1)) / DP_LANES + 1;
    uint64_t most = s->o->memory_bytes / 16 / DP_LANES * 8, bits = LEAST;
    while (bits < keys * A_KEY && bits * 2 <= most && bits < UINT64_C(1) << 29) bits *= 2;
    s->filter_mask = bits - 1;
    s->filter = calloc(bits / 64 * DP_LANES, sizeof *s->filter);
    if (!s->filter) DP_FAIL(e, NOMEM, "dedup: %llu bytes for a filter of keys", (unsigned long long)(bits / 8 * DP_LANES));
    return DP_OK;
}

static void places(const struct dp_dedup_state *s, uint64_t key, uint64_t at[2])
{
    uint64_t h = dp_mix64(key), part = (key >> DP_LANE_SHIFT) * (s->filter_mask + 1);
    at[0] = part + (h & s->filter_mask);
    at[1] = part + (h >> 32 & s->filter_mask);
}

void dp_filter_add(struct dp_dedup_state *s, uint64_t key)
{
    uint64_t at[2];
    if (!s->filter) return;
    places(s, key, at);
    for (int i = 0; i < 2; i++) s->filter[at[i] / 64] |= UINT64_C(1) << at[i] % 64;
}

bool dp_filter_has(const struct dp_dedup_state *s, uint64_t key)
{
    uint64_t at[2];
    places(s, key, at);
    return s->filter[at[0] / 64] >> at[0] % 64 & s->filter[at[1] / 64] >> at[1] % 64 & 1;
}

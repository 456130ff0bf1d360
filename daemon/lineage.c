#include "daemon/lineage.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void dp_lineage_ends(struct dp_road *r, const char *fmt, ...)
{
    va_list ap;
    if (r->ended[0]) return;
    va_start(ap, fmt);
    vsnprintf(r->ended, sizeof r->ended, fmt, ap);
    va_end(ap);
}

static struct dp_generation *one_more(struct dp_road *r)
{
    struct dp_generation *v = realloc(r->gen, (r->gens + 1) * sizeof *v); /* few: each is a manifest */
    if (!v) return NULL;
    r->gen = v;
    v[r->gens] = (struct dp_generation){.first = r->gens ? v[r->gens - 1].first + v[r->gens - 1].units : 0};
    return &v[r->gens++];
}

static int load_generation(void *ctx, const struct dp_lineage_generation *g)
{
    struct dp_road *r = ctx;
    struct dp_generation *k = one_more(r);
    if (!k) return DP_NOMEM;
    k->units = (size_t)g->units;
    snprintf(k->was_dedup.hex, sizeof k->was_dedup.hex, "%s", g->dedup);
    snprintf(k->was_bpe.hex, sizeof k->was_bpe.hex, "%s", g->bpe);
    snprintf(k->was_shard.hex, sizeof k->was_shard.hex, "%s", g->shard);
    return DP_OK;
}

int dp_lineage_load(struct dp_road *r, int64_t *units, struct dp_err *e)
{
    *units = 0;
    int rc = dp_catalog_lineage(r->ws.catalog, load_generation, r, e);
    if (rc == DP_NOMEM) DP_FAIL(e, NOMEM, "list of generations");
    for (size_t i = 0; i < r->gens; i++) *units += (int64_t)r->gen[i].units;
    r->lineage = r->gens;
    return rc;
}

int dp_lineage_check_keys(struct dp_road *r, struct dp_err *e)
{
    DP_TRY(dp_road_dedup_key(r, e));
    for (size_t i = 0; i < r->gens; i++)
        if (strcmp(r->gen[i].dedup.hex, r->gen[i].was_dedup.hex) != 0) dp_lineage_ends(r, "options of dedup changed");
    if (r->ended[0]) return DP_OK;
    DP_TRY(dp_road_train_bpe_key(r, e));
    if (strcmp(r->bpe.hex, r->gen[0].was_bpe.hex) != 0) dp_lineage_ends(r, "the tokenizer, or options of its training changed");
    return DP_OK;
}

int dp_lineage_add(struct dp_road *r, size_t first, struct dp_err *e)
{
    struct dp_generation *g = one_more(r);
    if (!g) DP_FAIL(e, NOMEM, "list of generations");
    DP_ASSERT(g->first == first);
    g->units = r->units - first;
    return DP_OK;
}

size_t dp_lineage_generation_of(const struct dp_road *r, size_t unit)
{
    size_t lo = 0, hi = r->gens;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->gen[mid].first <= unit) lo = mid;
        else hi = mid;
    }
    return lo;
}

int dp_lineage_check_shards(struct dp_road *r, struct dp_err *e)
{
    for (size_t i = 0; i < r->lineage; i++) {
        struct dp_key key;
        DP_TRY(dp_road_manifest_key(r, r->gen[i].groups_end, &key, e));
        if (strcmp(key.hex, r->gen[i].was_shard.hex) == 0) continue;
        dp_lineage_ends(r, "options of the shards changed");
        DP_FAIL(e, BUSY, "the shards can't be appended to: %s", r->ended);
    }
    return DP_OK;
}

int dp_lineage_shrink(struct dp_road *r, struct dp_err *e)
{
    if (!r->gens) return DP_OK;
    size_t frozen = r->lineage ? r->gen[r->lineage - 1].first + r->gen[r->lineage - 1].units : 0, n = 0;
    while (n < r->units && r->unit[n].lineage) n++;
    if (n < frozen) {
        dp_lineage_ends(r, "artifacts of one of its units were lost and can't be made again");
        DP_FAIL(e, BUSY, "the shards can't be appended to: %s", r->ended);
    }
    r->gens = r->lineage + (r->units > frozen);
    if (r->units > frozen) r->gen[r->gens - 1].units = r->units - frozen;
    return DP_OK;
}

static struct dp_lineage_unit unit_at(void *ctx, int64_t i)
{
    const struct dp_road *r = ctx;
    const struct dp_unit *u = &r->unit[r->gen[r->lineage].first + (size_t)i];
    return (struct dp_lineage_unit){u->sig.hex, u->first, (int64_t)u->members};
}

bool dp_lineage_change(struct dp_road *r, struct dp_lineage_change *k)
{
    if (!r->append || r->gens == r->lineage) return false;
    const struct dp_generation *g = &r->gen[r->lineage];
    *k = (struct dp_lineage_change){!r->lineage, {(int64_t)g->units, g->dedup.hex, r->bpe.hex, r->shard.hex}, unit_at, r};
    return true;
}

void dp_lineage_changed(struct dp_road *r)
{
    struct dp_generation *g = &r->gen[r->lineage];
    g->was_dedup = g->dedup;
    g->was_bpe = r->bpe;
    g->was_shard = r->shard;
    for (size_t i = g->first; i < r->units; i++) r->unit[i].lineage = (int64_t)i + 1;
    r->lineage = r->gens;
}

int dp_lineage_commit(struct dp_road *r, struct dp_err *e)
{
    struct dp_lineage_change k;
    int64_t had = 0;
    if (r->append) {
        if (!dp_lineage_change(r, &k)) return DP_OK;
        DP_TRY(dp_catalog_lineage_append(r->ws.catalog, &k, e));
        dp_lineage_changed(r);
        return DP_OK;
    }
    DP_TRY(dp_catalog_lineage_end(r->ws.catalog, &had, e));
    if (had) dp_log(INFO, "shard", "everything was made anew; the %lld generations of `dpipe serve` are no longer the present state", (long long)had);
    return DP_OK;
}

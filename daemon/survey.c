/* Keys of every step whose inputs exist, without making anything: for commands that only look. */
#include "daemon/lineage.h"

static bool all_done(struct dp_road *r, const char *stage, size_t key_offset)
{
    for (size_t i = 0; i < r->units; i++)
        if (!dp_catalog_is_done(r->ws.catalog, stage, (const char *)&r->unit[i] + key_offset)) return false;
    return r->units > 0;
}

static int survey_plan(struct dp_road *r, struct dp_err *e)
{
    if (!all_done(r, "ingest", offsetof(struct dp_unit, ingest))) return 0;
    if (!all_done(r, "clean", offsetof(struct dp_unit, docs))) return DP_STEP_CLEAN;
    DP_TRY(dp_road_dedup_key(r, e));
    for (size_t g = 0; g < r->gens; g++)
        if (!dp_road_dedup_done(r, g)) return DP_STEP_DEDUP;
    DP_TRY(dp_road_train_bpe_key(r, e));
    if (!dp_catalog_is_done(r->ws.catalog, "train-bpe", r->bpe.hex)) return DP_STEP_TRAIN_BPE;
    DP_TRY(dp_road_groups(r, e));
    for (size_t i = 0; i < r->groups; i++)
        if (!dp_catalog_is_done(r->ws.catalog, "tokenize", r->group[i].key.hex)) return DP_STEP_TOKENIZE;
    DP_TRY(dp_road_shard_key(r, e));
    if (!dp_catalog_is_done(r->ws.catalog, "shard", r->shard.hex)) return DP_STEP_SHARD;
    DP_TRY(dp_road_train_key(r, e));
    return dp_catalog_is_done(r->ws.catalog, "train", r->train.hex) ? DP_STEPS : DP_STEP_TRAIN;
}

int dp_road_survey(struct dp_road *r, struct dp_err *e)
{
    DP_TRY(dp_road_plan_lineage(r, e));
    if (r->lineage) {
        int done = survey_plan(r, e);
        if (done < 0) return done;
        if (done > DP_STEP_SHARD && dp_lineage_check_shards(r, NULL) >= 0) return done;
    }
    r->append = false;
    DP_TRY(dp_road_plan(r, false, e));
    return survey_plan(r, e);
}

#include "daemon/isolate.h"
#include "daemon/lineage.h"

#include "base/log.h"
#include "daemon/quarantine.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

enum { READ, WRITE, UNSWEPT };

static const char *const step_names[DP_STEPS] = {"ingest", "clean", "dedup", "train-bpe", "tokenize", "shard", "train"};

const char *dp_step_name(enum dp_step s)
{
    return s < DP_STEPS ? step_names[s] : "?";
}

enum dp_step dp_step_parse(const char *name)
{
    int s = 0;
    while (s < DP_STEPS && strcmp(name, step_names[s]) != 0) s++;
    return (enum dp_step)s;
}

bool dp_path_matches(const char *pattern, const char *path)
{
    for (const char *p = path;; p++) {
        if (fnmatch(pattern, p, 0) == 0) return true;
        p = strchr(p, '/');
        if (!p) return false;
    }
}

bool dp_road_stopped(const struct dp_road *r)
{
    return r->stop && atomic_load_explicit(r->stop, memory_order_relaxed);
}

bool dp_road_held(const struct dp_road *r)
{
    return dp_road_stopped(r) || (r->policy.hold && atomic_load_explicit(r->policy.hold, memory_order_relaxed));
}

bool dp_road_tolerates(const struct dp_road *r, int code)
{
    return r->policy.go_on && code < 0 && code != DP_STOPPED && code != DP_NOSPACE && code != DP_NOMEM;
}

static int open_road(struct dp_road *r, const char *dir, struct dp_options *o, int threads, uint64_t memory, int mode, dp_apply_fn apply, void *ctx,
                     struct dp_err *e)
{
    memset(r, 0, sizeof *r);
    r->ws.lock_fd = -1;
    r->options = o;
    r->threads = threads;
    r->memory = memory;
    int rc = mode == UNSWEPT ? dp_workspace_open_unswept(&r->ws, dir, e) : dp_workspace_open(&r->ws, dir, mode == WRITE, e);
    if (rc >= 0) rc = dp_recipe_load(r->ws.recipe, o->section, o->sections, &o->sources, e);
    if (rc >= 0 && apply) rc = apply(ctx, o, e);
    if (rc >= 0) rc = dp_options_open(o, e);
    if (rc >= 0) rc = dp_pool_open(&r->pool, threads, e);
    if (rc >= 0 && mode == WRITE) rc = dp_quarantine_migrate(&r->ws, e);
    if (rc < 0) dp_road_close(r);
    return rc;
}

int dp_road_open(struct dp_road *r, const char *dir, struct dp_options *o, int threads, uint64_t memory, bool write, dp_apply_fn apply,
                 void *ctx, struct dp_err *e)
{
    return open_road(r, dir, o, threads, memory, write ? WRITE : READ, apply, ctx, e);
}

int dp_road_open_unswept(struct dp_road *r, const char *dir, struct dp_options *o, int threads, uint64_t memory, dp_apply_fn apply, void *ctx,
                         struct dp_err *e)
{
    return open_road(r, dir, o, threads, memory, UNSWEPT, apply, ctx, e);
}

int dp_road_manifest(struct dp_road *r, char **path, struct dp_err *e)
{
    *path = NULL;
    int done = dp_road_survey(r, e);
    if (done < 0) return done;
    if (done <= DP_STEP_SHARD) return DP_EMPTY;
    *path = dp_road_path(r, "shard", r->shard.hex, "manifest", 0, e);
    return *path ? DP_OK : DP_NOTFOUND;
}

int dp_road_run(struct dp_road *r, enum dp_step until, struct dp_err *e)
{
    static int (*const steps[DP_STEPS])(struct dp_road *, struct dp_err *) = {
        [DP_STEP_DEDUP] = dp_road_dedup, [DP_STEP_TRAIN_BPE] = dp_road_train_bpe, [DP_STEP_TOKENIZE] = dp_road_tokenize,
        [DP_STEP_SHARD] = dp_road_shard, [DP_STEP_TRAIN] = dp_road_train,
    };
    if (!r->units) DP_FAIL(e, CONFIG, "%s: no sources yet: list them in recipe.yaml or give them to `dpipe ingest`", r->ws.dir);
    r->left = (struct dp_left){0};
    DP_TRY(dp_road_documents(r, until, e));
    if (!r->units) return DP_EMPTY; /* every one of them failed */
    if (r->policy.documents_only) return DP_OK;
    for (int s = DP_STEP_DEDUP; s <= (int)until; s++) {
        if (dp_road_held(r)) DP_FAIL(e, STOPPED, "stopped; what is published stays, run again to go on");
        DP_TRY(steps[s](r, e));
        if (s == DP_STEP_SHARD) DP_TRY(dp_lineage_commit(r, e));
        if (r->policy.step_done) r->policy.step_done(r->policy.step_ctx, r);
    }
    return DP_OK;
}

void dp_road_close(struct dp_road *r)
{
    dp_road_plan_release(r);
    free(r->group);
    free(r->rounds);
    dp_isolate_close(r->isolate);
    dp_pool_close(r->pool);
    dp_workspace_close(&r->ws);
    memset(r, 0, sizeof *r);
    r->ws.lock_fd = -1;
}

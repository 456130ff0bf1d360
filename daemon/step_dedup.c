/* dedup: one unit a generation, over its signatures and those before. Units' order, and so "first", is the plan's: by name, not by
 * registration. */
#include "daemon/lineage.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/progress.h"
#include "dedup/dedup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEDUP_VERSION = 1 };

int dp_road_dedup_key(struct dp_road *r, struct dp_err *e)
{
    for (size_t i = 0; i < r->gens; i++) {
        struct dp_generation *g = &r->gen[i];
        struct dp_keyer k;
        dp_keyer_init(&k, "dedup", DEDUP_VERSION);
        dp_keyer_options(&k, "dedup", dp_dedup_opts, &r->options->dedup);
        if (i) dp_keyer_add(&k, "behind", r->gen[i - 1].dedup.hex);
        for (size_t u = g->first; u < g->first + g->units; u++) dp_keyer_add(&k, "sig", r->unit[u].sig.hex);
        DP_TRY(dp_keyer_finish(&k, &g->dedup, e));
    }
    return DP_OK;
}

void dp_keep_name(const struct dp_road *r, size_t unit, char out[80])
{
    snprintf(out, 80, "keep-%s-%06zu.bin", r->gen[dp_lineage_generation_of(r, unit)].dedup.hex, unit);
}

void dp_keep_key(const struct dp_road *r, size_t unit, struct dp_key *key)
{
    char name[80];
    dp_keep_name(r, unit, name);
    dp_hash128_hex(dp_hash128(name, strlen(name)), key->hex);
}

int dp_road_keep(struct dp_road *r, size_t unit, struct dp_found *f, struct dp_err *e)
{
    struct dp_key key;
    dp_keep_key(r, unit, &key);
    return dp_road_find(r, "keep", key.hex, "keep", 0, f, e);
}

/* Keep files are one a unit and units have no limit, so they are published under one catalog unit each, before the report
 * that completes the step. Their names follow from the key, so doing it again after a kill gives the same files. */
static int publish_keep(struct dp_road *r, size_t i, struct dp_err *e)
{
    char name[80], *path;
    struct dp_publish *p = calloc(1, sizeof *p);
    struct dp_key key;
    size_t at;
    if (!p) DP_FAIL(e, NOMEM, "dedup");
    dp_keep_name(r, i, name);
    dp_keep_key(r, i, &key);
    int rc = dp_publish_claim(p, r, "keep", &key, r->unit[i].what, e);
    if (rc == DP_OK) {
        p->n = 1;
        at = 0;
        snprintf(p->name[at], sizeof p->name[at], "%s", name);
        p->a[at] = (struct dp_artifact){.kind = "keep", .name = p->name[at], .digest = p->digest[at]};
        path = dp_workspace_tmp_path(&r->ws, name);
        rc = path ? dp_fs_sha256(path, p->digest[at], e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "dedup");
        const char *parent = r->unit[i].sig.hex;
        if (rc >= 0) rc = dp_publish_commit(p, &parent, 1, NULL, 0, e);
        if (rc < 0) dp_publish_abort(p, e);
        free(path);
    }
    free(p);
    return rc < 0 ? rc : DP_OK;
}

static void counts_of(const struct dp_dedup_totals *t, struct dp_stage_counts *c)
{
    *c = (struct dp_stage_counts){.docs_in = t->docs, .docs_out = t->docs - t->exact_dups - t->near_dups};
    c->drop[DP_DROP_DUP_EXACT] = t->exact_dups;
    c->drop[DP_DROP_DUP_NEAR] = t->near_dups;
}

/* sig and keep: of every unit up to the generation's end. Those of the earlier ones are in store/, and are read. */
static int paths_of(struct dp_road *r, const struct dp_generation *g, char **sig, char **keep, struct dp_err *e)
{
    for (size_t i = 0; i < g->first + g->units; i++) {
        char name[80];
        DP_TRY(dp_progress_go_on(e));
        dp_keep_name(r, i, name);
        sig[i] = dp_road_path(r, "signature", r->unit[i].sig.hex, "sig", 0, e);
        keep[i] = (i < g->first ? dp_workspace_store_path : dp_workspace_tmp_path)(&r->ws, name);
        if (!sig[i]) return DP_NOTFOUND;
        if (!keep[i]) DP_FAIL(e, NOMEM, "dedup");
        if (i >= g->first) unlink(keep[i]);
    }
    return DP_OK;
}

static int decide(struct dp_road *r, const struct dp_generation *g, struct dp_publish *p, char **sig, char **keep, struct dp_err *e)
{
    char name[96], *report = NULL, *spill = dp_workspace_tmp_path(&r->ws, "dedup");
    struct dp_dedup_totals totals = {0};
    size_t at;
    int rc = spill ? dp_fs_mkdirs(spill, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "dedup");
    if (rc >= 0) rc = paths_of(r, g, sig, keep, e);
    snprintf(name, sizeof name, "clusters-%s.jsonl", g->dedup.hex);
    if (rc >= 0) rc = dp_publish_add(p, "clusters", name, &report, &at, e);
    if (rc >= 0) {
        struct dp_dedup_options o = r->options->dedup;
        if (o.memory_bytes > r->memory) o.memory_bytes = r->memory;
        rc = dp_dedup_append(&o, g->first, g->first + g->units, (const char *const *)sig, (const char *const *)keep, report, spill, r->pool, &totals, e);
    }
    for (size_t i = g->first; rc >= 0 && i < g->first + g->units; i++) {
        rc = dp_progress_go_on(e);
        if (rc >= 0) rc = publish_keep(r, i, e);
    }
    if (rc >= 0) rc = dp_fs_sha256(report, p->digest[at], e);
    if (rc >= 0) {
        struct dp_stage_counts c;
        struct dp_unit_count count = {"dedup", &c};
        const char *behind = g->first ? g[-1].dedup.hex : NULL;
        counts_of(&totals, &c);
        p->a[at].docs = (int64_t)totals.clusters;
        rc = dp_publish_commit(p, &behind, g->first ? 1 : 0, &count, 1, e);
    }
    if (rc >= 0)
        dp_log(INFO, "dedup", "%llu %sdocuments: %llu exact and %llu near duplicates, %llu clusters", (unsigned long long)totals.docs, g->first ? "new " : "",
               (unsigned long long)totals.exact_dups, (unsigned long long)totals.near_dups, (unsigned long long)totals.clusters);
    if (spill) rmdir(spill);
    free(spill);
    free(report);
    return rc;
}

bool dp_road_dedup_done(struct dp_road *r, size_t generation)
{
    const struct dp_generation *g = &r->gen[generation];
    bool done = dp_catalog_is_done(r->ws.catalog, "dedup", g->dedup.hex);
    struct dp_key key;
    for (size_t i = g->first; done && i < g->first + g->units; i++) {
        dp_keep_key(r, i, &key);
        dp_progress_tick();
        done = dp_catalog_is_done(r->ws.catalog, "keep", key.hex);
    }
    return done;
}

static int dedup_generation(struct dp_road *r, size_t generation, struct dp_err *e)
{
    const struct dp_generation *g = &r->gen[generation];
    size_t n = g->first + g->units;
    if (!dp_road_dedup_done(r, generation)) /* the report may be there while a keep file was lost: one decision makes both */
        DP_TRY(dp_catalog_forget(r->ws.catalog, "dedup", g->dedup.hex, dp_workspace_unlink, &r->ws, e));
    struct dp_publish *p = calloc(1, sizeof *p);
    char **sig = calloc(n + 1, sizeof *sig), **keep = calloc(n + 1, sizeof *keep);
    int rc = p && sig && keep ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "dedup of %zu units", n);
    if (rc >= 0) rc = dp_publish_claim(p, r, "dedup", &g->dedup, generation ? "new documents" : "all documents", e);
    if (rc == DP_EMPTY) r->found++;
    else if (rc == DP_OK) {
        rc = decide(r, g, p, sig, keep, e);
        if (rc < 0) dp_publish_abort(p, e);
        else r->made++;
    }
    for (size_t i = 0; i < n; i++) {
        if (sig) free(sig[i]);
        if (keep) free(keep[i]);
    }
    free(sig);
    free(keep);
    free(p);
    return rc < 0 ? rc : DP_OK;
}

int dp_road_dedup(struct dp_road *r, struct dp_err *e)
{
    DP_TRY(dp_road_dedup_key(r, e));
    for (size_t g = 0; g < r->gens; g++) DP_TRY(dedup_generation(r, g, e));
    return DP_OK;
}

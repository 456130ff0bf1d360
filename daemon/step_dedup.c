/* dedup: one unit over all signatures. Units' order, and so "first", is the plan's: by name, not by registration. */
#include "daemon/road.h"

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
    struct dp_keyer k;
    dp_keyer_init(&k, "dedup", DEDUP_VERSION);
    dp_keyer_options(&k, "dedup", dp_dedup_opts, &r->options->dedup);
    for (size_t i = 0; i < r->units; i++) dp_keyer_add(&k, "sig", r->unit[i].sig.hex);
    return dp_keyer_finish(&k, &r->dedup, e);
}

void dp_keep_name(const struct dp_key *dedup, size_t unit, char out[80])
{
    snprintf(out, 80, "keep-%s-%06zu.bin", dedup->hex, unit);
}

void dp_keep_key(const struct dp_key *dedup, size_t unit, struct dp_key *key)
{
    char name[80];
    dp_keep_name(dedup, unit, name);
    dp_hash128_hex(dp_hash128(name, strlen(name)), key->hex);
}

int dp_road_keep(struct dp_road *r, size_t unit, struct dp_found *f, struct dp_err *e)
{
    struct dp_key key;
    dp_keep_key(&r->dedup, unit, &key);
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
    dp_keep_name(&r->dedup, i, name);
    dp_keep_key(&r->dedup, i, &key);
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

static int run_dedup(struct dp_road *r, struct dp_publish *p, char **sig, char **keep, struct dp_err *e)
{
    char name[96], *report = NULL, *spill = dp_workspace_tmp_path(&r->ws, "dedup");
    struct dp_dedup_totals totals = {0};
    size_t at;
    int rc = spill ? dp_fs_mkdirs(spill, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "dedup");
    for (size_t i = 0; rc >= 0 && i < r->units; i++) {
        rc = dp_progress_go_on(e);
        if (rc < 0) break;
        dp_keep_name(&r->dedup, i, name);
        sig[i] = dp_road_path(r, "signature", r->unit[i].sig.hex, "sig", 0, e);
        keep[i] = dp_workspace_tmp_path(&r->ws, name);
        if (!sig[i] || !keep[i]) rc = DP_NOTFOUND;
        else unlink(keep[i]);
    }
    snprintf(name, sizeof name, "clusters-%s.jsonl", r->dedup.hex);
    if (rc >= 0) rc = dp_publish_add(p, "clusters", name, &report, &at, e);
    if (rc >= 0) {
        struct dp_dedup_options o = r->options->dedup;
        if (o.memory_bytes > r->memory) o.memory_bytes = r->memory;
        rc = dp_dedup_run(&o, r->units, (const char *const *)sig, (const char *const *)keep, report, spill, r->pool, &totals, e);
    }
    for (size_t i = 0; rc >= 0 && i < r->units; i++) {
        rc = dp_progress_go_on(e);
        if (rc >= 0) rc = publish_keep(r, i, e);
    }
    if (rc >= 0) rc = dp_fs_sha256(report, p->digest[at], e);
    if (rc >= 0) {
        struct dp_stage_counts c;
        struct dp_unit_count count = {"dedup", &c};
        counts_of(&totals, &c);
        p->a[at].docs = (int64_t)totals.clusters;
        rc = dp_publish_commit(p, NULL, 0, &count, 1, e);
    }
    if (rc >= 0)
        dp_log(INFO, "dedup", "%llu documents: %llu exact and %llu near duplicates, %llu clusters", (unsigned long long)totals.docs,
               (unsigned long long)totals.exact_dups, (unsigned long long)totals.near_dups, (unsigned long long)totals.clusters);
    if (spill) rmdir(spill);
    free(spill);
    free(report);
    return rc;
}

bool dp_road_dedup_done(struct dp_road *r)
{
    bool done = dp_catalog_is_done(r->ws.catalog, "dedup", r->dedup.hex);
    struct dp_key key;
    for (size_t i = 0; done && i < r->units; i++) {
        dp_keep_key(&r->dedup, i, &key);
        dp_progress_tick();
        done = dp_catalog_is_done(r->ws.catalog, "keep", key.hex);
    }
    return done;
}

int dp_road_dedup(struct dp_road *r, struct dp_err *e)
{
    DP_TRY(dp_road_dedup_key(r, e));
    if (!dp_road_dedup_done(r)) /* the report may be there while a keep file was lost: one decision makes both */
        DP_TRY(dp_catalog_forget(r->ws.catalog, "dedup", r->dedup.hex, dp_workspace_unlink, &r->ws, e));
    struct dp_publish *p = calloc(1, sizeof *p);
    char **sig = calloc(r->units + 1, sizeof *sig), **keep = calloc(r->units + 1, sizeof *keep);
    int rc = p && sig && keep ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "dedup of %zu units", r->units);
    if (rc >= 0) rc = dp_publish_claim(p, r, "dedup", &r->dedup, "all documents", e);
    if (rc == DP_EMPTY) r->found++;
    else if (rc == DP_OK) {
        rc = run_dedup(r, p, sig, keep, e);
        if (rc < 0) dp_publish_abort(p, e);
        else r->made++;
    }
    for (size_t i = 0; i < r->units; i++) {
        if (sig) free(sig[i]);
        if (keep) free(keep[i]);
    }
    free(sig);
    free(keep);
    free(p);
    return rc < 0 ? rc : DP_OK;
}

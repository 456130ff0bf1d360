/* base/catalog.h - what the workspace knows: sources, units of work, artifacts, counts. One sqlite3 file, catalog.db.
 *
 * Rules that recovery relies on:
 *  1. One thread writes. Callers queue a change and wait; changes that arrive together are committed together (group commit),
 *     each in its own savepoint. WAL, synchronous=FULL: what a call reported as done survives a power cut.
 *  2. A unit becomes `done` in the same transaction that records its artifacts and counts. Its files are complete, fsynced and in
 *     store/ before that transaction. So an artifact in the catalog exists; a file in store/ that the catalog doesn't name is
 *     the rest of a broken run and is removed at start-up (dp_workspace_open).
 *  3. Removing goes the other way: first the catalog forgets (committed), then the file is unlinked.
 *  4. A claim raises the unit's epoch; finishing with an older epoch is refused (fencing), so a worker that was thought dead can't publish twice.
 *  5. in = out + sum(dropped) is checked for every count row before commit; a mismatch fails the unit (DP_BROKEN).
 *
 * Only base/catalog*.c see sqlite3 (and daemon/view.c, for looking). Thread-safety: all calls may come from any thread. */
#ifndef DP_BASE_CATALOG_H
#define DP_BASE_CATALOG_H

#include "base/batch.h"
#include "base/err.h"
#include "base/pipeline.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_catalog;

/* Opens or creates; migrates an older user_version in one transaction. A newer one is DP_CONFIG: an older dpipe must not write it. */
int dp_catalog_open(struct dp_catalog **out, const char *path, struct dp_err *e);
/* For looking only: creates nothing (a missing catalog is an empty one), and works where nothing may be written. */
int dp_catalog_open_read(struct dp_catalog **out, const char *path, struct dp_err *e);
void dp_catalog_close(struct dp_catalog *c);

/* --- sources: files that were registered --- */
struct dp_source {
    int64_t id;
    const char *path;     /* where to open it now, absolute */
    const char *name;     /* base name, or path relative to the registered folder */
    const char *prefix;   /* "" or name: what record positions begin with (files of folders) */
    const char *digest;   /* SHA-256 hex */
    int64_t bytes, mtime_ns, inode;
};
/* Insert or update n by (path), in one transaction; two paths with one (digest, prefix) are one content: the later is kept as its alias and
 * isn't read twice. *fresh says how many of them are new. */
int dp_catalog_sources_put(struct dp_catalog *c, const struct dp_source *s, size_t n, size_t *fresh, struct dp_err *e);
/* A registered source whose file hasn't changed since (size, mtime, inode); *found. Fills digest (65 bytes). */
int dp_catalog_source_known(struct dp_catalog *c, const char *path, int64_t bytes, int64_t mtime_ns, int64_t inode, const char *prefix,
                            bool *found, struct dp_err *e);
/* Distinct contents, ordered by (prefix, name, digest): registration order and place don't matter. From the source with the id `from` on (0: the
 * first), n at most (-1: all). Strings live for the call only, which must not call the catalog. */
int dp_catalog_sources(struct dp_catalog *c, int64_t from, int64_t n, int (*fn)(void *ctx, const struct dp_source *s),
                       void *ctx, struct dp_err *e);

/* The file of this path, or those below this folder, are no longer known by size and time: the next look reads them. *n: how many. With `look` they are
 * only counted. */
int dp_catalog_sources_doubt(struct dp_catalog *c, const char *path, bool look, size_t *n, struct dp_err *e);
/* Forget every source that `keep` says false to, in one transaction. *gone: how many. */
int dp_catalog_sources_prune(struct dp_catalog *c, bool (*keep)(void *ctx, const char *path), void *ctx, uint64_t *gone, struct dp_err *e);

/* --- the lineage: what `dpipe serve` made, generation behind generation (daemon/lineage.h) --- */
struct dp_lineage_generation {
    int64_t units;                   /* of this generation; they follow those of the earlier ones */
    const char *dedup, *bpe, *shard; /* keys of its dedup, of the lineage's tokenizer and of its manifest */
};
struct dp_lineage_member {
    int64_t unit; /* number in the lineage, from 0 */
    const char *sig; /* the unit's signature key */
    struct dp_source source; /* id 0 and path "" when no source has this content any more */
};
/* In order. Strings live for the call only, which must not call the catalog. */
int dp_catalog_lineage(struct dp_catalog *c, int (*fn)(void *ctx, const struct dp_lineage_generation *g), void *ctx, struct dp_err *e);
/* Files of the lineage's units from number `from` on (n units at most, -1: all), in their order; as above. */
int dp_catalog_lineage_members(struct dp_catalog *c, int64_t from, int64_t n, int (*fn)(void *ctx, const struct dp_lineage_member *m), void *ctx, struct dp_err *e);
/* dp_catalog_sources without the contents that a unit of the lineage has. */
int dp_catalog_sources_fresh(struct dp_catalog *c, int64_t from, int64_t n, int (*fn)(void *ctx, const struct dp_source *s), void *ctx, struct dp_err *e);
/* A unit of a new generation: its signature key, and its files as the `members` sources from the one with the id `first` on, in the order of
 * dp_catalog_sources_fresh. */
struct dp_lineage_unit {
    const char *sig;
    int64_t first, members;
};
/* One generation more; with `anew` it is the first of a new lineage, and the old one is forgotten. */
struct dp_lineage_change {
    bool anew;
    struct dp_lineage_generation generation;
    struct dp_lineage_unit (*unit)(void *ctx, int64_t i);
    void *ctx;
};
/* In one transaction: all of it or nothing. */
int dp_catalog_lineage_append(struct dp_catalog *c, const struct dp_lineage_change *k, struct dp_err *e);
/* Forget the lineage; *generations it had. */
int dp_catalog_lineage_end(struct dp_catalog *c, int64_t *generations, struct dp_err *e);

/* --- units and artifacts --- */
struct dp_artifact {
    const char *kind;   /* "docs", "drops", "records", "sig", "keep", "tokenizer", ... */
    const char *name;   /* file name in store/ */
    const char *digest; /* SHA-256 hex */
    int64_t bytes;
    int64_t docs;       /* documents in it, or 0 */
    int64_t payload;    /* bytes of text, tokens, ... by kind; 0 */
};
/* counts of one stage of a unit */
struct dp_unit_count {
    const char *stage;
    const struct dp_stage_counts *c;
};
/* Take the unit (stage, key) for `owner` until now + lease_s. DP_OK and *epoch; DP_EMPTY when it is done already; DP_BUSY when another owner's lease is alive. */
int dp_catalog_claim(struct dp_catalog *c, const char *stage, const char *key, const char *what, const char *owner, int64_t lease_s,
                     int64_t *unit, int64_t *epoch, struct dp_err *e);
/* Publish: artifacts, their parents (digests or keys, one text each), counts; marks the unit done. */
int dp_catalog_done(struct dp_catalog *c, int64_t unit, int64_t epoch, const char *recipe_hash, const struct dp_artifact *a, size_t n,
                    const char *const *parents, size_t nparents, const struct dp_unit_count *counts, size_t ncounts, struct dp_err *e);
/* The same, with a change of the lineage in the same transaction. */
int dp_catalog_done_lineage(struct dp_catalog *c, int64_t unit, int64_t epoch, const char *recipe_hash, const struct dp_artifact *a, size_t n,
                            const char *const *parents, size_t nparents, const struct dp_unit_count *counts, size_t ncounts,
                            const struct dp_lineage_change *lineage, struct dp_err *e);
/* How long a failed unit waits: base, doubled for every failure before, at most max, of which a part between 1/2 and 1 (jitter 0 to 1). */
struct dp_catalog_retry {
    double base_s, max_s, jitter;
};
int64_t dp_catalog_delay_s(const struct dp_catalog_retry *r, int64_t failures);
/* Give the unit back, with the reason; attempts and failures are counted. */
int dp_catalog_failed(struct dp_catalog *c, int64_t unit, int64_t epoch, const char *reason, struct dp_err *e);
/* The same, to be left alone for a while. */
int dp_catalog_failed_for(struct dp_catalog *c, int64_t unit, int64_t epoch, const char *reason, const struct dp_catalog_retry *retry, struct dp_err *e);
/* Give the unit back as if it had never been claimed: stopped, or the disk was full. */
int dp_catalog_give_back(struct dp_catalog *c, int64_t unit, int64_t epoch, struct dp_err *e);
/* Failures in a row of a unit, and the time (Unix seconds) before which it is left alone; 0 when it hasn't failed. */
int dp_catalog_failures(struct dp_catalog *c, const char *stage, const char *key, int64_t *failures, int64_t *retry_at, struct dp_err *e);
/* Forget the failures of one failed unit (0: of all); *changed says how many there were. */
int dp_catalog_retry(struct dp_catalog *c, int64_t unit, int *changed, struct dp_err *e);
/* The leases of all running units end now. For an owner that holds the workspace's lock: whoever had them is dead. */
int dp_catalog_reclaim(struct dp_catalog *c, struct dp_err *e);
bool dp_catalog_is_done(struct dp_catalog *c, const char *stage, const char *key);
/* Artifacts of a done unit, in the order they were published. Strings live for the call only. */
int dp_catalog_artifacts(struct dp_catalog *c, const char *stage, const char *key, int (*fn)(void *ctx, const struct dp_artifact *a), void *ctx,
                         struct dp_err *e);
/* Every artifact, in the order of their names. Strings live for the call only. */
int dp_catalog_all(struct dp_catalog *c, int (*fn)(void *ctx, const struct dp_artifact *a), void *ctx, struct dp_err *e);
/* Forget the unit that made the artifact of this name: the step that wants it makes it again. */
int dp_catalog_lost(struct dp_catalog *c, const char *name, struct dp_err *e);
/* Whether some artifact has this file name: 1 or 0. */
int dp_catalog_has_artifact(struct dp_catalog *c, const char *name, struct dp_err *e);
/* Forget a unit and its artifacts; `fn` gets each file name after the commit, to unlink it. */
int dp_catalog_forget(struct dp_catalog *c, const char *stage, const char *key, void (*fn)(void *ctx, const char *name), void *ctx, struct dp_err *e);

/* Counts of a done unit: one call a stage, in pipeline order. */
int dp_catalog_counts(struct dp_catalog *c, const char *stage, const char *key, int (*fn)(void *ctx, const char *stage, const struct dp_stage_counts *n),
                      void *ctx, struct dp_err *e);
struct dp_unit_row {
    const char *stage, *key, *what, *state, *error;
    int64_t attempts, epoch;
};
int dp_catalog_units(struct dp_catalog *c, int (*fn)(void *ctx, const struct dp_unit_row *u), void *ctx, struct dp_err *e);

/* The state that the service made last, as names of units, and units that were in an earlier one: since when they aren't, in Unix seconds. */
struct dp_unit_name {
    char stage[16], key[36];
};
/* These left the present state now, and these came into it (and are superseded no more). */
int dp_catalog_supersede(struct dp_catalog *c, const struct dp_unit_name *gone, size_t ngone, const struct dp_unit_name *came, size_t ncame, int64_t now,
                         struct dp_err *e);
/* What an owner called serve:... made and the present state doesn't have, of states that never were complete, is superseded too. Reads
 * every unit. */
int dp_catalog_supersede_rest(struct dp_catalog *c, int64_t now, struct dp_err *e);
int dp_catalog_present(struct dp_catalog *c, int (*fn)(void *ctx, const struct dp_unit_name *u), void *ctx, struct dp_err *e);
/* At most `limit` of those that were superseded at `since` or before. `fn` must not call the catalog. */
int dp_catalog_superseded(struct dp_catalog *c, int64_t since, int64_t limit, int (*fn)(void *ctx, const struct dp_unit_name *u), void *ctx, struct dp_err *e);

/* Done units of step shard: of the present state first, then the latest made; at most `limit`. `fn` must not call the catalog. */
int dp_catalog_newest_shards(struct dp_catalog *c, int64_t limit, int (*fn)(void *ctx, const struct dp_unit_name *u), void *ctx, struct dp_err *e);
/* These artifacts are in use: what made them, if it is superseded, counts as superseded now. The rest isn't looked at when names[0]'s isn't superseded. */
int dp_catalog_refresh(struct dp_catalog *c, const char *const *names, size_t n, int64_t now, struct dp_err *e);

/* Small named values: the keys of the latest complete road, by stage. */
int dp_catalog_set(struct dp_catalog *c, const char *name, const char *value, struct dp_err *e);
/* malloc'ed, NULL when absent or on error. */
char *dp_catalog_get(struct dp_catalog *c, const char *name);

#endif

/* daemon/lineage.h - growth that only appends: generations of units, one behind the other.
 *
 * A lineage is a list of generations; the first is what `dpipe run` makes of its corpus, key by key. A later one holds the sources that no
 * unit of the lineage has, cut into units among themselves. What an earlier generation decided stays:
 *
 *   units       keep their files, so a new file in a folder changes no unit that is there;
 *   dedup       its documents are decided against kept earlier ones and among themselves; its key comes from the key of the
 *               generation before and its own signatures, so decisions are a function of the generations in order;
 *   tokenizer   the first generation's;
 *   shards      new groups behind the old ones, so the manifest begins with the one before (trainer_feed/feed.h, Growth).
 *
 * The catalog has the lineage (base/catalog.h) and is told of a generation in the transaction that publishes its manifest: a kill
 * leaves the old lineage or the new one, and a half-made generation is planned again, perhaps with more in it. A lineage that can't be made again
 * from its sources ends, with a reason: the next complete plan takes its place as a first generation. */
#ifndef DP_DAEMON_LINEAGE_H
#define DP_DAEMON_LINEAGE_H

#include "daemon/road.h"

/* --- for plan.c --- */
/* Generations of the catalog's lineage into the plan, without units; *units they have together. */
int dp_lineage_load(struct dp_road *r, int64_t *units, struct dp_err *e);
/* With all units: are the keys of dedup and tokenizer what they were? */
int dp_lineage_check_keys(struct dp_road *r, struct dp_err *e);
/* The units from `first` on are one more generation. */
int dp_lineage_add(struct dp_road *r, size_t first, struct dp_err *e);
/* Note why it ends; the first reason stands. */
void dp_lineage_ends(struct dp_road *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- for the steps --- */
/* Which generation a unit of the plan is in. */
size_t dp_lineage_generation_of(const struct dp_road *r, size_t unit);
/* Behind dp_road_groups: are the shards of the lineage what they were? DP_BUSY when not (r->ended says why): plan again. */
int dp_lineage_check_shards(struct dp_road *r, struct dp_err *e);
/* Units were left out of the plan. DP_BUSY when one of the lineage is among them (r->ended): plan again. */
int dp_lineage_shrink(struct dp_road *r, struct dp_err *e);
/* What publishing the plan's manifest changes in the catalog's lineage: false: nothing. *k holds as long as the plan. */
bool dp_lineage_change(struct dp_road *r, struct dp_lineage_change *k);
/* That was committed. */
void dp_lineage_changed(struct dp_road *r);
/* The manifest is published: the catalog's lineage is the plan, if it wasn't changed with it (the manifest was there already). With r->append unset
 * there is none any more. */
int dp_lineage_commit(struct dp_road *r, struct dp_err *e);

#endif

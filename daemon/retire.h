/* daemon/retire.h - removing what an earlier state of the service left behind, a while after it was superseded.
 *
 * Every document that comes in makes new keep files, and perhaps a new tokenizer and new shards; without this a disk fills by and by.
 * Only units that the service made or that were part of a state it completed are ever removed: what `dpipe run` made with other
 * options stays. A unit that is wanted again before its time is spared. Order: the catalog forgets, then the file goes (rule 3 of
 * base/catalog.h). Memory: a name (52 bytes) a unit of the present state. The work thread's. */
#ifndef DP_DAEMON_RETIRE_H
#define DP_DAEMON_RETIRE_H

#include "daemon/road.h"

struct dp_retire {
    struct dp_unit_name *present; /* sorted */
    size_t n;
    bool loaded;
    bool swept; /* no pass was broken off since the rest of such was noted */
};
void dp_retire_release(struct dp_retire *t);
/* Behind a complete pass up to `until`: note what the state consists of now, and what no longer belongs to it. */
/* A pass was broken off: what it made may never be part of a complete state. */
static inline void dp_retire_broken(struct dp_retire *t)
{
    t->swept = false;
}
int dp_retire_note(struct dp_retire *t, const struct dp_road *r, enum dp_step until, struct dp_err *e);
/* Remove what was superseded keep_s ago, at most `max` units; *removed. */
int dp_retire_remove(struct dp_road *r, double keep_s, size_t max, size_t *removed, struct dp_err *e);

#endif

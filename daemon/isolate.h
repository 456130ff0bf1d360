/* daemon/isolate.h - units in worker processes, and what to do when one dies.
 *
 * Attempts at a unit, until one succeeds:
 *   1. as on threads. The worker dies: the batches at hand are suspects.
 *   2. on one lane, the suspects record by record. It dies again: now one record is named. It goes to quarantine (daemon/quarantine.h) and the
 *      skip list, with the stage that it died in.
 *   3. past it. The document counts as dropped, `quarantined`, at that stage, so in = out + sum(dropped) holds as ever.
 * At most quarantine_max documents of a unit, then the unit fails. A worker that was killed from outside (SIGKILL: an operator, the
 * kernel short of memory) accuses nobody: the same attempt is made again, 20 times a unit at most.
 *
 * The result depends on the document, not on when or how often workers died, as far as the reason does: a crash does, a time limit
 * near the border may not. Thread-safety: `worker` is the caller's own number, 0 to threads - 1; different numbers run side by side. */
#ifndef DP_DAEMON_ISOLATE_H
#define DP_DAEMON_ISOLATE_H

#include "daemon/road.h"
#include "daemon/unit_worker.h"

int dp_isolate_open(struct dp_isolate **out, struct dp_road *r, struct dp_err *e);
void dp_isolate_close(struct dp_isolate *iso);
/* dp_unit_run in worker process number `worker`: the same contract, outputs closed in the end. */
int dp_isolate_run(struct dp_isolate *iso, int worker, const struct dp_unit *u, const struct dp_members *m, const struct dp_unit_job *job,
                   struct dp_unit_result *res, struct dp_err *e);

#endif

/* daemon/history.h - events and runs over restarts: W/history.jsonl, and W/history.1.jsonl before it.
 *
 * One JSON object a line, {"event":{...}} or {"run":{...}} as the API has them; a run stands there again once its documents were counted. A file that grows over DP_HISTORY_BYTES takes the older one's place. A thread
 * of its own writes, half a second behind the first thing worth it; debug events are not, and go along with the next that is. So no one who
 * reports waits for a disk, and an idle service doesn't touch it. Nothing is synced: a power cut may take the last seconds, a kill the
 * last half. A line that can't be written (a full disk) is left out, one that can't be read is skipped: history is for people. */
#ifndef DP_DAEMON_HISTORY_H
#define DP_DAEMON_HISTORY_H

#include "base/err.h"

enum { DP_HISTORY_BYTES = 2 << 20 };

struct dp_history;
/* Puts what is there back into daemon/events.h. Call it before the first event. */
int dp_history_open(struct dp_history **out, const char *dir, struct dp_err *e);
/* Writes the rest. */
void dp_history_close(struct dp_history *h);

#endif

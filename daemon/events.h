/* daemon/events.h - what happened lately, in memory: for the API and the dashboard. Every event is logged too.
 *
 * A ring of the latest DP_EVENTS; numbers go up by one from 1 at start. Thread-safe. */
#ifndef DP_DAEMON_EVENTS_H
#define DP_DAEMON_EVENTS_H

#include "base/json.h"
#include "base/log.h"

enum { DP_EVENTS = 1024, DP_RUNS = 256 };

/* kind: a word ("state", "unit-failed", "reload", "run"). */
void dp_event(enum dp_log_level level, const char *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Append a JSON array of events with number > after, at most `limit`, oldest first; returns the number of the last one written, or `after`. */
uint64_t dp_events_print(struct dp_jsonw *w, uint64_t after, size_t limit);
uint64_t dp_events_last(void);

/* One pass over the road that did something. */
struct dp_run {
    int64_t number, begun, ended; /* Unix seconds; ended 0: at work */
    uint64_t made, found, failed, sources;
    char result[24]; /* "done", "stopped", or the code's name */
    char error[240];
};
void dp_runs_add(struct dp_run *r); /* sets r->number */
void dp_runs_print(struct dp_jsonw *w, size_t limit); /* newest first */

/* "key":value */
void dp_jsonw_member(struct dp_jsonw *w, const char *key, const char *text);
void dp_jsonw_member_int(struct dp_jsonw *w, const char *key, int64_t v);

#endif

/* daemon/events.h - what happened lately, in memory: for the API and the dashboard. Every event is logged too; daemon/history.h keeps them over restarts.
 *
 * A ring of the latest DP_EVENTS, earlier processes' among them. Numbers go up by one from 1; each further process begins at the next multiple of
 * DP_EVENTS_EACH, so that a number is never given twice although the last events before a kill may not have been kept. Thread-safe. */
#ifndef DP_DAEMON_EVENTS_H
#define DP_DAEMON_EVENTS_H

#include "base/json.h"
#include "base/log.h"

enum { DP_EVENTS = 1024, DP_RUNS = 256, DP_EVENTS_EACH = 1000000 };

/* kind: a word ("state", "unit-failed", "reload", "run"). */
void dp_event(enum dp_log_level level, const char *kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
struct dp_event_row {
    uint64_t number;
    int64_t ms; /* Unix time */
    int level;
    char kind[20], text[400];
};
/* A copy of the first event with number > after; false when there is none. */
bool dp_events_next(uint64_t after, struct dp_event_row *out);
/* As a JSON object. */
void dp_event_print(struct dp_jsonw *w, const struct dp_event_row *v);
/* Append a JSON array of events with number > after and of this kind ("": all), at most `limit`, oldest first; returns the number of the last
 * one looked at, or `after`. */
uint64_t dp_events_print(struct dp_jsonw *w, uint64_t after, const char *kind, size_t limit);
uint64_t dp_events_last(void);
/* Since this process began. */
uint64_t dp_events_count(void);

/* One pass over the road that did something. */
struct dp_run {
    int64_t number, begun, ended; /* Unix seconds; ended 0: at work */
    uint64_t made, found, failed, sources;
    char result[24]; /* "done", "stopped", or the code's name */
    char error[240];
    bool counted;    /* what follows is known: of all that is there, taken behind the pass */
    uint64_t read, kept, dropped, tokens; /* documents; tokens in shards */
};
void dp_runs_add(struct dp_run *r); /* sets r->number */
int64_t dp_runs_last(void);
/* Fill in what was counted behind the run of this number. */
void dp_runs_count(int64_t number, uint64_t read, uint64_t kept, uint64_t dropped, uint64_t tokens);
void dp_runs_print(struct dp_jsonw *w, size_t limit); /* newest first */
/* A copy of the first run with number > after; false when there is none. */
bool dp_runs_next(int64_t after, struct dp_run *out);
/* Runs that were counted since the last call, oldest first; for daemon/history.c alone. */
bool dp_runs_next_counted(struct dp_run *out);
void dp_run_print(struct dp_jsonw *w, const struct dp_run *r);

/* --- for daemon/history.c --- */
/* Put back what an earlier process kept, in order, before anything new; then dp_events_restored. */
void dp_events_restore(const struct dp_event_row *v);
void dp_runs_restore(const struct dp_run *r);
void dp_events_restored(void);
enum dp_log_level dp_event_level(struct dp_span name);
/* `fn` is told of every event but debug ones and of every run, on the thread that reports it; NULL: nobody. */
void dp_events_tell(void (*fn)(void *ctx), void *ctx);

#endif

/* daemon/work.h - the thread that keeps the road up to date, again and again.
 *
 * It sweeps the workspace, then waits for a reason (start, rescan, a complete new file, a retry that is due, a reload), looks at the
 * sources, plans and runs the road up to options->serve.until. One failing unit doesn't stop the others (struct dp_policy);
 * a failing step is tried again with the same back-off. A full disk is no failure: the thread says so and waits for the loop's word.
 *
 * Stopping has two degrees: held, no further unit is begun; halted, running units are abandoned at their next batch and nothing
 * of them is published. Either ends the pass; work goes on when neither is set.
 *
 * Threads: every call may come from any thread; `changed` is called on the work thread. */
#ifndef DP_DAEMON_WORK_H
#define DP_DAEMON_WORK_H

#include "daemon/road.h"
#include "daemon/inbox.h"

struct dp_work;

struct dp_work_status {
    bool started;        /* the sweep is over */
    bool ended;          /* dp_work_quit was heeded */
    bool busy;           /* a pass is running, or about to */
    bool disk_full;      /* the last pass ended for want of space; the thread is halted until dp_work_halt(w, false) */
    uint64_t passes, units, made, found;
    struct dp_left left;
    uint64_t generation, units_gathering; /* of the lineage, 0: there is none; new units that wait to become the next one */
    int64_t pass_begun, pass_ended; /* Unix seconds, 0: never */
    int64_t behind_since;           /* since when something is out of date; 0: nothing is */
    double behind_at;               /* the same on the clock that doesn't jump */
    int64_t retry_at;               /* next try of a unit or step that failed; 0: none */
    int64_t next_rescan, next_steps; /* by the recipe's times; 0: there are none */
    uint64_t step_failures;         /* failures of a step in a row */
    char error[480];                /* why the last pass failed; "" */
};

struct dp_work_config {
    struct dp_road *road;      /* open, unswept; the thread's alone until dp_work_close */
    struct dp_inbox *watch;
    void (*changed)(void *ctx);
    void *ctx;
    /* Called after every plan with the keys that make the present state, and behind every step from dedup on, which sets its own. From the work thread. */
    void (*planned)(void *ctx, const struct dp_road *r);
    void (*step_done)(void *ctx, const struct dp_road *r);
    /* Before superseded artifacts are removed: what somebody reads may be refreshed. false: not now. From the work thread; may be NULL. */
    bool (*retiring)(void *ctx, const struct dp_road *r);
};
int dp_work_open(struct dp_work **out, const struct dp_work_config *config, struct dp_err *e);
/* Waits for the thread; call dp_work_quit first. */
void dp_work_close(struct dp_work *w);
void dp_work_hold(struct dp_work *w, bool on);
void dp_work_halt(struct dp_work *w, bool on);
/* Look again into every source as soon as may be. */
void dp_work_rescan(struct dp_work *w);
/* Think again about how long to wait: inotify told something; or, with `again`, look at what is planned: failures were forgotten. */
void dp_work_wake(struct dp_work *w, bool again);
/* Outside of the hours of work: as held, beside it. */
void dp_work_off(struct dp_work *w, bool off);
/* Make the steps over all documents now, whatever serve.steps_at says. */
void dp_work_steps(struct dp_work *w);
/* Sources that match go before all others, before those of earlier calls too, until the process ends. A running pass ends softly, to be planned anew. */
int dp_work_first(struct dp_work *w, const char *pattern, struct dp_err *e);
/* Behind the pass at hand: read this source, or those below this folder, again, whatever size and time say. */
int dp_work_reread(struct dp_work *w, const char *path, struct dp_err *e);
/* Behind the pass at hand: forget the unit with its artifacts, so that they are made again. */
int dp_work_redo(struct dp_work *w, const char *stage, const char *key, struct dp_err *e);
/* From the next pass on these options, validated and opened, hold; the old ones are released. Ends a running pass softly. */
void dp_work_reload(struct dp_work *w, struct dp_options *o);
/* End the thread as soon as it is at rest. */
void dp_work_quit(struct dp_work *w);
void dp_work_status(struct dp_work *w, struct dp_work_status *s);

#endif

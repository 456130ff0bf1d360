/* base/progress.h - how far a long step is: one line that redraws on a terminal, a plain line now and then elsewhere.
 *
 * On stderr only. DP_PROGRESS_QUIET draws nothing; JSON writes {"progress":...} lines. Without a total there is no ETA.
 * One step at a time in a process. Thread-safe: dp_progress_add may come from any worker. NO_COLOR is honoured. */
#ifndef DP_BASE_PROGRESS_H
#define DP_BASE_PROGRESS_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum dp_progress_mode { DP_PROGRESS_AUTO, DP_PROGRESS_QUIET, DP_PROGRESS_JSON };
void dp_progress_init(enum dp_progress_mode mode);
/* Whether stderr takes colour: a terminal, no NO_COLOR, TERM not dumb. */
bool dp_progress_color(void);

/* unit: "B" prints as MB; other words as counts. total 0: unknown. */
void dp_progress_begin(const char *label, const char *unit, uint64_t total);
void dp_progress_add(uint64_t done, uint64_t docs);
/* For steps that know where they are: sets instead of adding. `note` (may be NULL) stands at the end of the line. */
void dp_progress_set(uint64_t done, const char *note);
void dp_progress_end(void);

/* Long work is stopped by this flag from now on; NULL: by none. The flag outlives the work. */
void dp_progress_stop_by(const atomic_bool *stop);
/* What every loop asks that may run for long, some times a second whatever the data: a sign of life, and DP_STOPPED once the flag is set. */
int dp_progress_go_on(struct dp_err *e);
/* The same for loops that can't fail; whoever called them asks the other. */
bool dp_progress_stopped(void);
/* A sign of life from long work that has no step to report: moves dp_progress_ticks and nothing else. */
void dp_progress_tick(void);
/* Raised by every call above: as long as it moves, work does. Whoever watches compares it with what it was. */
uint64_t dp_progress_ticks(void);
struct dp_progress_view {
    bool active; /* between begin and end, in QUIET mode too */
    char label[48], unit[8];
    uint64_t done, docs, total;
    double seconds; /* since begin */
};
void dp_progress_read(struct dp_progress_view *v);

#endif

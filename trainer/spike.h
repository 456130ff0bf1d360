/* trainer/spike.h - is this loss out of line with the ones before it?
 *
 * A loss is a spike when it is more than `limit` deviations above the median of the last `window`
 * losses; the deviation is 1.4826 times the median distance from the median (equal to the standard
 * deviation for a normal distribution), at least half a percent of the median. Spikes enter the
 * window too, so that a new level is accepted after half a window. Below DP_SPIKE_FIRST losses
 * nothing is one. Pure; 4 KiB. */
#ifndef DP_TRAINER_SPIKE_H
#define DP_TRAINER_SPIKE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_SPIKE_WINDOW_MAX = 512, DP_SPIKE_FIRST = 16 };
struct dp_spike {
    int64_t window; /* 1 to DP_SPIKE_WINDOW_MAX */
    double limit;   /* 0: nothing is a spike */
    int64_t count;  /* losses seen */
    double loss[DP_SPIKE_WINDOW_MAX];
};
struct dp_spike_judgement {
    bool spike;
    double median, deviation; /* NaN before there are enough losses */
};
struct dp_spike_judgement dp_spike_judge(const struct dp_spike *s, double loss);
void dp_spike_add(struct dp_spike *s, double loss);
/* The window as text, exactly; reading it back changes nothing on failure (DP_CORRUPT). Of a window
 * of another length the newest losses are taken. */
void dp_spike_print(const struct dp_spike *s, struct dp_buf *out);
int dp_spike_parse(struct dp_spike *s, struct dp_span text, struct dp_err *e);

#endif

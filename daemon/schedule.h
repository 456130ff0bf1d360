/* daemon/schedule.h - times of a service: when to look, when to make the large steps, in which hours to work at all.
 *
 *   times   "03:00"  "sun 04:30"  "mon 08:00, thu 20:15"    local time; a day's name for one day of the week
 *   hours   "22:00-06:00"                                  one span a day, over midnight or not; "" is always
 *
 * Pure but for the clock's zone; a clock that jumps is asked anew each time. Thread-safe. */
#ifndef DP_DAEMON_SCHEDULE_H
#define DP_DAEMON_SCHEDULE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { DP_TIMES_MAX = 32 };

struct dp_times {
    struct dp_time_of {
        int day; /* 0 Sunday to 6; -1: every day */
        int minute; /* of the day */
    } v[DP_TIMES_MAX];
    int n; /* 0: never */
};
/* text NULL or empty: none. DP_CONFIG says what is wrong, without the option's name. */
int dp_times_parse(struct dp_times *t, const char *text, struct dp_err *e);
/* The first such time behind `now`; 0: none. */
time_t dp_times_next(const struct dp_times *t, time_t now);

struct dp_hours {
    int from, to; /* minutes of the day; equal: always */
};
int dp_hours_parse(struct dp_hours *h, const char *text, struct dp_err *e);
bool dp_hours_now(const struct dp_hours *h, time_t now);

#endif

/* base/clock.h - seconds of a clock. Thread-safe. */
#ifndef DP_BASE_CLOCK_H
#define DP_BASE_CLOCK_H

#include <time.h>

static inline double dp_clock_seconds(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of the clock that only goes on: for how long something takes. */
static inline double dp_now(void)
{
    return dp_clock_seconds(CLOCK_MONOTONIC);
}

#endif

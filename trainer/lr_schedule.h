/* trainer/lr_schedule.h - the learning rate of a step. Pure. */
#ifndef DP_TRAINER_LR_SCHEDULE_H
#define DP_TRAINER_LR_SCHEDULE_H

#include <stdint.h>

enum dp_schedule_kind { DP_SCHEDULE_COSINE, DP_SCHEDULE_LINEAR, DP_SCHEDULE_WSD, DP_SCHEDULE_CONSTANT };

struct dp_schedule {
    int kind; /* enum dp_schedule_kind */
    double lr, min_lr;
    int64_t warmup, steps;
    int64_t decay; /* WSD: updates in which it falls, the last ones; 0: a fifth of steps */
};
/* `step` counts from 0. Everywhere first a linear warm-up, lr * (step + 1) / warmup. Then COSINE and
 * LINEAR fall to min_lr at `steps`, WSD (warm-up, stable, decay) stays at lr and falls linearly over
 * the last `decay` updates, CONSTANT stays. Behind `steps` it is what the end was. */
double dp_schedule_rate(const struct dp_schedule *s, int64_t step);

#endif

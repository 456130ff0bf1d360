#include "trainer/lr_schedule.h"

#include <math.h>

static double falling(const struct dp_schedule *s, int64_t from, int64_t step)
{
    if (step >= s->steps || s->steps <= from) return s->min_lr;
    double x = (double)(step - from) / (double)(s->steps - from);
    if (s->kind == DP_SCHEDULE_COSINE)
        return s->min_lr + 0.5 * (s->lr - s->min_lr) * (1 + cos(x * 3.14159265358979323846));
    return s->min_lr + (s->lr - s->min_lr) * (1 - x);
}

double dp_schedule_rate(const struct dp_schedule *s, int64_t step)
{
    if (step < s->warmup) return s->lr * (double)(step + 1) / (double)s->warmup;
    if (s->kind == DP_SCHEDULE_CONSTANT) return s->lr;
    if (s->kind != DP_SCHEDULE_WSD) return falling(s, s->warmup, step);
    int64_t decay = s->decay ? s->decay : (s->steps + 4) / 5, from = s->steps - decay;
    if (from < s->warmup) from = s->warmup;
    return step < from ? s->lr : falling(s, from, step);
}

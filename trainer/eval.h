/* trainer/eval.h - validation figures from a sum of losses. Pure. */
#ifndef DP_TRAINER_EVAL_H
#define DP_TRAINER_EVAL_H

#include <stdint.h>

struct dp_eval {
    double loss_sum; /* nats */
    int64_t targets, bytes; /* bytes of the text that the targets decode to; 0: unknown */
};
struct dp_eval_figures {
    double loss, perplexity, bits_per_byte; /* NaN where there is nothing to divide by */
};
/* Add a part, as dp_trainer_eval gives it; in a fixed order, since the sum is in double. */
void dp_eval_add(struct dp_eval *v, double loss_sum, int64_t targets, int64_t bytes);
struct dp_eval_figures dp_eval_figures(const struct dp_eval *v);

#endif

/* Bits per byte makes models with different tokenizers comparable: nats / ln 2 over the bytes of the text, not its tokens. */
#include "trainer/eval.h"

#include <math.h>

void dp_eval_add(struct dp_eval *v, double loss_sum, int64_t targets, int64_t bytes)
{
    v->loss_sum += loss_sum;
    v->targets += targets;
    v->bytes += bytes;
}

struct dp_eval_figures dp_eval_figures(const struct dp_eval *v)
{
    struct dp_eval_figures f = {(double)NAN, (double)NAN, (double)NAN};
    if (v->targets > 0) {
        f.loss = v->loss_sum / (double)v->targets;
        f.perplexity = exp(f.loss);
    }
    if (v->bytes > 0) f.bits_per_byte = v->loss_sum / 0.69314718055994531 / (double)v->bytes;
    return f;
}

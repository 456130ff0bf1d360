/* trainer/dropout.h - which elements dropout keeps, as a function of their place alone.
 *
 * The random number of an element is a hash of (seed, site, token, column): no state, so neither
 * threads, nor how a batch is cut into forward passes, nor a restart can change it, and the backward
 * pass asks again instead of storing masks. Pure; any thread. */
#ifndef DP_TRAINER_DROPOUT_H
#define DP_TRAINER_DROPOUT_H

#include <stdint.h>

struct dp_dropout {
    double p; /* probability of becoming 0, in [0, 1); what is kept is multiplied by 1/(1-p) */
    uint64_t seed;
};
/* out[i] = base[i] + x[i] kept or dropped, for the n columns of a token; base NULL: 0. `token` counts
 * from the beginning of training, `site` is the place in the model. out may be x or base. */
void dp_dropout_row(const struct dp_dropout *d, uint64_t site, uint64_t token, int64_t n,
                    const float *base, const float *x, float *out);

#endif

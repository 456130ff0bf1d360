/* A token's row has a stream of splitmix64, begun where a hash of seed, site and token says; each of
 * its numbers decides about two columns by 32 bits, so p is exact to 2^-32. Streams may overlap, with
 * the chance of two random starts of 2^64 lying within a row's length. */
#include "trainer/dropout.h"

#include "base/hash.h"

static uint64_t row_state(const struct dp_dropout *d, uint64_t site, uint64_t token)
{
    uint64_t state = d->seed;
    state = dp_splitmix64(&state) ^ site;
    state = dp_splitmix64(&state) ^ token;
    return dp_splitmix64(&state);
}

void dp_dropout_row(const struct dp_dropout *d, uint64_t site, uint64_t token, int64_t n,
                    const float *base, const float *x, float *out)
{
    uint64_t state = row_state(d, site, token), bits = 0;
    uint64_t dropped = (uint64_t)(d->p * 0x1p32); /* numbers below it */
    float kept = (float)(1 / (1 - d->p));
    for (int64_t i = 0; i < n; i++) {
        bits = i % 2 ? bits >> 32 : dp_splitmix64(&state);
        float y = (uint32_t)bits < dropped ? 0.0f : x[i] * kept;
        out[i] = base ? base[i] + y : y;
    }
}

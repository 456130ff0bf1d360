/* There is no AVX-512 version: the copy is bound by the loads of a permuted row, not by the
 * widening. */
#include "trainer_feed/feed_widen.h"

#include "base/cpu.h"

uint32_t dp_feed_widen16_scalar(int32_t *to, const uint16_t *from, size_t n)
{
    uint32_t high = 0;
    for (size_t i = 0; i < n; i++) {
        to[i] = from[i];
        high = from[i] > high ? from[i] : high;
    }
    return high;
}

uint32_t dp_feed_widen32_scalar(int32_t *to, const uint32_t *from, size_t n)
{
    uint32_t high = 0;
    for (size_t i = 0; i < n; i++) {
        to[i] = (int32_t)from[i];
        high = from[i] > high ? from[i] : high;
    }
    return high;
}

uint32_t dp_feed_copy16_scalar(uint16_t *to, const uint16_t *from, size_t n)
{
    uint32_t high = 0;
    for (size_t i = 0; i < n; i++) {
        to[i] = from[i];
        high = from[i] > high ? from[i] : high;
    }
    return high;
}

void dp_feed_widen_init(struct dp_feed_widen *w)
{
    *w = (struct dp_feed_widen){dp_feed_widen16_scalar, dp_feed_widen32_scalar, dp_feed_copy16_scalar};
#if defined(__x86_64__)
    if (dp_cpu() >= DP_CPU_AVX2)
        *w = (struct dp_feed_widen){dp_feed_widen16_avx2, dp_feed_widen32_avx2, dp_feed_copy16_avx2};
#endif
}

#include "trainer_feed/feed_pair.h"

#include "base/cpu.h"

void dp_feed_pair_scalar(int64_t *restrict inputs, int64_t *restrict targets, const int32_t *restrict row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        inputs[i] = (int64_t)(uint32_t)row[i];
        targets[i] = (int64_t)(uint32_t)row[i + 1];
    }
}

dp_feed_pair_fn dp_feed_pair(void)
{
#if defined(__x86_64__)
    if (dp_cpu() >= DP_CPU_AVX512) return dp_feed_pair_avx512;
    if (dp_cpu() >= DP_CPU_AVX2) return dp_feed_pair_avx2;
#endif
    return dp_feed_pair_scalar;
}

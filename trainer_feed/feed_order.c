/* Key schedule of the permutation: four outputs of splitmix64 seeded with a hash of (seed, epoch),
 * so that neighbouring seeds and epochs share nothing. */
#include "trainer_feed/feed_order.h"

void dp_feed_order_init(struct dp_feed_order *o, uint64_t n, uint64_t seed, uint64_t epoch)
{
    DP_ASSERT(n >= 1 && n <= UINT64_C(1) << 62);
    int bits = 0;
    while (UINT64_C(1) << bits < n) bits++;
    o->n = n;
    o->low_bits = (bits + 1) / 2;
    o->low_mask = (UINT64_C(1) << o->low_bits) - 1;
    o->high_mask = (UINT64_C(1) << (bits - o->low_bits)) - 1;
    uint64_t state = dp_mix64(seed ^ UINT64_C(0x6470697065666565)) +
                     dp_mix64(epoch + UINT64_C(0x9e3779b97f4a7c15));
    for (int i = 0; i < 4; i++) o->key[i] = dp_splitmix64(&state);
}

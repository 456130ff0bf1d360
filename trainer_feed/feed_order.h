/* trainer_feed/feed_order.h - a keyed permutation of [0, n): shuffling without a list.
 *
 * A Feistel network of 4 rounds over the smallest power of two >= n, cycle-walked into range (Black
 * and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). The domain is less than 2n, so a
 * call takes less than two walks on average. Halves may differ by one bit: rounds alternate in
 * which half they change, which stays a bijection for any widths. Part of the feed's contract:
 * changing a constant here changes every run's order. Thread-safety: pure. */
#ifndef DP_TRAINER_FEED_FEED_ORDER_H
#define DP_TRAINER_FEED_FEED_ORDER_H

#include "base/hash.h"

#include <stdint.h>

struct dp_feed_order {
    uint64_t n, key[4], low_mask, high_mask;
    int low_bits;
};

/* n from 1 to 2^62. */
void dp_feed_order_init(struct dp_feed_order *o, uint64_t n, uint64_t seed, uint64_t epoch);

static inline uint64_t dp_feed_order_at(const struct dp_feed_order *o, uint64_t i)
{
    do {
        uint64_t low = i & o->low_mask, high = i >> o->low_bits;
        high ^= dp_mix64(low + o->key[0]) & o->high_mask;
        low ^= dp_mix64(high + o->key[1]) & o->low_mask;
        high ^= dp_mix64(low + o->key[2]) & o->high_mask;
        low ^= dp_mix64(high + o->key[3]) & o->low_mask;
        i = high << o->low_bits | low;
    } while (i >= o->n);
    return i;
}

#endif

/* trainer_feed/feed_widen.h - copy ids of a shard into int32 rows, finding the largest on the way.
 *
 * The largest id is what tells a corrupt shard before it indexes an embedding table. Scalar code is
 * the specification; other levels give the same ids and the same maximum
 * (tests/check/check_feed.c). Sources need only the alignment of their type. */
#ifndef DP_TRAINER_FEED_FEED_WIDEN_H
#define DP_TRAINER_FEED_FEED_WIDEN_H

#include <stddef.h>
#include <stdint.h>

/* to[i] = from[i]; returns the maximum, 0 for n = 0. Ids of 2^31 or more arrive as negative
 * numbers. */
typedef uint32_t (*dp_feed_widen16_fn)(int32_t *to, const uint16_t *from, size_t n);
typedef uint32_t (*dp_feed_widen32_fn)(int32_t *to, const uint32_t *from, size_t n);
/* The same without widening. */
typedef uint32_t (*dp_feed_copy16_fn)(uint16_t *to, const uint16_t *from, size_t n);
struct dp_feed_widen {
    dp_feed_widen16_fn u16;
    dp_feed_widen32_fn u32;
    dp_feed_copy16_fn copy16;
};
/* The kernels of the level in force. */
void dp_feed_widen_init(struct dp_feed_widen *w);

uint32_t dp_feed_widen16_scalar(int32_t *to, const uint16_t *from, size_t n);
uint32_t dp_feed_widen32_scalar(int32_t *to, const uint32_t *from, size_t n);
uint32_t dp_feed_copy16_scalar(uint16_t *to, const uint16_t *from, size_t n);
#if defined(__x86_64__)
uint32_t dp_feed_widen16_avx2(int32_t *to, const uint16_t *from, size_t n);
uint32_t dp_feed_widen32_avx2(int32_t *to, const uint32_t *from, size_t n);
uint32_t dp_feed_copy16_avx2(uint16_t *to, const uint16_t *from, size_t n);
#endif

#endif

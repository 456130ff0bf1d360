/* trainer_feed/feed_pair.h - an int32 row into the int64 inputs and targets that frameworks take.
 *
 * Eight times the bytes of 16-bit ids: the stores decide, so the widest ones win. Scalar code is the specification; other levels give the
 * same bytes (tests/check/check_feed.c). Pointers need only the alignment of their type. Pure. */
#ifndef DP_TRAINER_FEED_FEED_PAIR_H
#define DP_TRAINER_FEED_FEED_PAIR_H

#include <stddef.h>
#include <stdint.h>

/* inputs[i] = row[i], targets[i] = row[i + 1] for i < n, as unsigned numbers; row has n + 1 ids. */
typedef void (*dp_feed_pair_fn)(int64_t *restrict inputs, int64_t *restrict targets, const int32_t *restrict row, size_t n);
/* The kernel of the level in force. */
dp_feed_pair_fn dp_feed_pair(void);

void dp_feed_pair_scalar(int64_t *restrict inputs, int64_t *restrict targets, const int32_t *restrict row, size_t n);
#if defined(__x86_64__)
void dp_feed_pair_avx2(int64_t *restrict inputs, int64_t *restrict targets, const int32_t *restrict row, size_t n);
void dp_feed_pair_avx512(int64_t *restrict inputs, int64_t *restrict targets, const int32_t *restrict row, size_t n);
#endif

#endif

/* trainer_feed/feed_spill.h - an array that grows at its end and, once large, lies in a file instead of the heap.
 *
 * Up to DP_FEED_SPILL_BYTES it is malloc'ed; then it moves into an unlinked temporary file ($TMPDIR, else /var/tmp), mapped
 * shared, so that the kernel may write its pages out: memory stays bounded, and nothing is left behind by a kill. Blocks are
 * reserved before they are written, so a full disk is DP_NOSPACE and not SIGBUS. One owner; read-only once filled. */
#ifndef DP_TRAINER_FEED_FEED_SPILL_H
#define DP_TRAINER_FEED_FEED_SPILL_H

#include "base/err.h"

#include <stddef.h>

#define DP_FEED_SPILL_BYTES ((size_t)4 << 20)

struct dp_feed_spill {
    void *ptr;
    size_t len, cap; /* bytes */
    int fd;          /* plus 1; 0: malloc'ed */
    size_t limit;    /* bytes that stay in the heap; 0: DP_FEED_SPILL_BYTES */
};

int dp_feed_spill_add(struct dp_feed_spill *s, const void *p, size_t n, struct dp_err *e);
/* Give back what was reserved beyond len. */
void dp_feed_spill_trim(struct dp_feed_spill *s);
void dp_feed_spill_release(struct dp_feed_spill *s);

#endif

/* base/search.h - which part of a sequence something falls into. Pure. */
#ifndef DP_BASE_SEARCH_H
#define DP_BASE_SEARCH_H

#include <stddef.h>
#include <stdint.h>

/* The last of n elements that starts at or before x; 0 when none does. `start` is the first one's, the others' follow every `stride` bytes, none
 * less than the one before it. */
static inline size_t dp_last_start(const uint64_t *start, size_t n, size_t stride, uint64_t x)
{
    size_t lo = 0, hi = n;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (*(const uint64_t *)(const void *)((const char *)start + mid * stride) <= x) lo = mid;
        else hi = mid;
    }
    return lo;
}

#endif

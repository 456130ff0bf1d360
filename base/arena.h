/* base/arena.h - allocations that live and die together.
 *
 * Blocks are kept over dp_arena_reset(), so that a recycled arena allocates nothing after warm-up.
 * The total is capped by `bytes_max` of init; past it dp_arena_alloc returns NULL.
 * Thread-safety: one owner at a time. Under AddressSanitizer freed space is poisoned. */
#ifndef DP_BASE_ARENA_H
#define DP_BASE_ARENA_H

#include "base/span.h"

#include <stddef.h>

struct dp_arena_block;
struct dp_arena {
    struct dp_arena_block *first, *cur;
    size_t used_in_cur;
    size_t bytes_held; /* malloc'ed now */
    size_t bytes_max;
};

void dp_arena_init(struct dp_arena *a, size_t bytes_max);
void dp_arena_release(struct dp_arena *a);
void dp_arena_reset(struct dp_arena *a);
/* 16-byte aligned, not zeroed; NULL when the maximum or memory is exhausted. n = 0 gives a valid pointer. */
void *dp_arena_alloc(struct dp_arena *a, size_t n);
/* A copy of s in the arena, followed by a NUL that the span's length doesn't count; ptr NULL when out of memory. */
struct dp_span dp_arena_dup(struct dp_arena *a, struct dp_span s);
/* Bytes handed out since the last reset, padding included. */
size_t dp_arena_used(const struct dp_arena *a);

#endif

/* base/large.h - memory for tables that are read all over: on large pages where the system gives them, so that a random look-up waits for
 * one cache line and not for page tables too.
 *
 * Zeroed, aligned to 64 bytes at least, released with free(); NULL without memory. From 2 MiB on the size is rounded up to a multiple of that. Thread-safe. */
#ifndef DP_BASE_LARGE_H
#define DP_BASE_LARGE_H

#include <stddef.h>

void *dp_large_alloc(size_t bytes);

/* The same straight from the system, page by page when it is first touched: for tables that may stay empty. Released with the size it was asked for. */
void *dp_pages_map(size_t bytes);
void dp_pages_unmap(void *p, size_t bytes);

#endif

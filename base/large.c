#include "base/large.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE_PAGE = 2 << 20, LINE = 64 };

void *dp_large_alloc(size_t bytes)
{
    size_t align = bytes >= LARGE_PAGE ? LARGE_PAGE : LINE;
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = bytes ? (bytes + align - 1) / align * align : align;
    void *p = aligned_alloc(align, bytes);
    if (!p) return NULL;
    if (align == LARGE_PAGE) (void)madvise(p, bytes, MADV_HUGEPAGE); /* before the first touch; advice only: a refusal costs speed */
    return memset(p, 0, bytes);
}

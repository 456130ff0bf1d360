#include "base/large.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE_PAGE = 2 << 20, SMALL_PAGE = 4096, LINE = 64 };

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

static size_t whole_pages(size_t bytes)
{
    size_t page = bytes >= LARGE_PAGE ? LARGE_PAGE : SMALL_PAGE;
    return (bytes + page - 1) / page * page;
}

void *dp_pages_map(size_t bytes)
{
    if (!bytes || bytes > SIZE_MAX / 2) return NULL;
    size_t n = whole_pages(bytes), spare = bytes >= LARGE_PAGE ? LARGE_PAGE : 0;
    char *p = mmap(NULL, n + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (!spare) return p;
    size_t head = (size_t)-(uintptr_t)p & (LARGE_PAGE - 1); /* to the first whole large page */
    if (head) munmap(p, head);
    if (spare - head) munmap(p + head + n, spare - head);
    (void)madvise(p + head, n, MADV_HUGEPAGE);
    return p + head;
}

void dp_pages_unmap(void *p, size_t bytes)
{
    if (p) munmap(p, whole_pages(bytes));
}

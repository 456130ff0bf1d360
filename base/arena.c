#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { BLOCK_MIN = 64 * 1024 };

struct dp_arena_block {
    struct dp_arena_block *next;
    size_t cap;
    _Alignas(16) char data[];
};

void dp_arena_init(struct dp_arena *a, size_t bytes_max)
{
    memset(a, 0, sizeof *a);
    a->bytes_max = bytes_max;
}

void dp_arena_release(struct dp_arena *a)
{
    for (struct dp_arena_block *b = a->first, *next; b; b = next) {
        next = b->next;
        ASAN_UNPOISON_MEMORY_REGION(b->data, b->cap);
        free(b);
    }
    a->first = a->cur = NULL;
    a->used_in_cur = a->bytes_held = 0;
}

void dp_arena_reset(struct dp_arena *a)
{
    for (struct dp_arena_block *b = a->first; b; b = b->next) ASAN_POISON_MEMORY_REGION(b->data, b->cap);
    a->cur = a->first;
    a->used_in_cur = 0;
}

void *dp_arena_alloc(struct dp_arena *a, size_t n)
{
    if (n > SIZE_MAX - 64) return NULL;
    n = (n + 15) & ~(size_t)15;
    if (n == 0) n = 16;
    while (a->cur && a->used_in_cur + n > a->cur->cap) {
        /* What is left of a block is given up: large requests are rare and blocks double. */
        if (!a->cur->next) break;
        a->cur = a->cur->next;
        a->used_in_cur = 0;
    }
    if (!a->cur || a->used_in_cur + n > a->cur->cap) {
        size_t cap = a->bytes_held > BLOCK_MIN ? a->bytes_held : BLOCK_MIN;
        if (a->bytes_max < a->bytes_held || cap > a->bytes_max - a->bytes_held)
            cap = a->bytes_max > a->bytes_held ? a->bytes_max - a->bytes_held : 0;
        if (cap < n) {
            if (a->bytes_held + n > a->bytes_max) return NULL;
            cap = n;
        }
        cap &= ~(size_t)15;
        if (cap < n) return NULL;
        struct dp_arena_block *b = malloc(sizeof *b + cap);
        if (!b) return NULL;
        b->next = NULL;
        b->cap = cap;
        ASAN_POISON_MEMORY_REGION(b->data, cap);
        if (a->cur) a->cur->next = b;
        else a->first = b;
        a->cur = b;
        a->used_in_cur = 0;
        a->bytes_held += cap;
    }
    char *p = a->cur->data + a->used_in_cur;
    a->used_in_cur += n;
    ASAN_UNPOISON_MEMORY_REGION(p, n);
    return p;
}

struct dp_span dp_arena_dup(struct dp_arena *a, struct dp_span s)
{
    char *p = dp_arena_alloc(a, s.len + 1);
    if (!p) return (struct dp_span){NULL, 0};
    if (s.len) memcpy(p, s.ptr, s.len);
    p[s.len] = 0;
    return (struct dp_span){p, s.len};
}

size_t dp_arena_used(const struct dp_arena *a)
{
    size_t n = 0;
    for (const struct dp_arena_block *b = a->first; b; b = b->next) {
        if (b == a->cur) return n + a->used_in_cur;
        n += b->cap;
    }
    return n;
}

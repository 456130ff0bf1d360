/* base/span.h - a piece of bytes that somebody else owns. Never NUL-terminated by contract. */
#ifndef DP_BASE_SPAN_H
#define DP_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct dp_span {
    const char *ptr;
    size_t len;
};

static inline struct dp_span dp_span(const void *ptr, size_t len)
{
    return (struct dp_span){ptr, len};
}
static inline struct dp_span dp_span_str(const char *s)
{
    return (struct dp_span){s, s ? strlen(s) : 0};
}
static inline bool dp_span_eq(struct dp_span a, struct dp_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool dp_span_is(struct dp_span a, const char *s)
{
    return dp_span_eq(a, dp_span_str(s));
}
/* printf("%.*s", DP_SPAN_FMT(s)) */
#define DP_SPAN_FMT(s) (int)((s).len > 4096 ? 4096 : (s).len), ((s).ptr ? (s).ptr : "")

#endif

/* base/buf.h - a growing byte buffer with a stated maximum.
 *
 * Every append either succeeds or sets the sticky flag `full` and changes nothing, so that a
 * series of appends is checked once at its end with dp_buf_check(). Owns its bytes.
 * The bytes are always followed by a NUL that `len` doesn't count. */
#ifndef DP_BASE_BUF_H
#define DP_BASE_BUF_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_buf {
    char *ptr;
    size_t len, cap, bytes_max;
    bool full, no_memory; /* an append was refused: for its maximum, or for want of memory */
};

void dp_buf_init(struct dp_buf *b, size_t bytes_max);
void dp_buf_release(struct dp_buf *b);
/* Empty; its memory is given back when it is more than `keep` bytes. */
void dp_buf_shrink(struct dp_buf *b, size_t keep);
/* Empty, and forget a refused append: check before clearing. */
static inline void dp_buf_clear(struct dp_buf *b)
{
    b->len = 0;
    b->full = b->no_memory = false;
}
/* Room for n more bytes; the place to write them, or NULL (and `full`). Then add to len what was written. */
char *dp_buf_reserve(struct dp_buf *b, size_t n);
void dp_buf_add(struct dp_buf *b, const void *p, size_t n);
void dp_buf_add_str(struct dp_buf *b, const char *s);
void dp_buf_add_span(struct dp_buf *b, struct dp_span s);
void dp_buf_add_char(struct dp_buf *b, char c);
void dp_buf_add_uint(struct dp_buf *b, uint64_t v); /* in decimal; much faster than printf */
void dp_buf_add_varint(struct dp_buf *b, uint64_t v); /* LEB128: seven bits a byte, the lowest first */
void dp_buf_printf(struct dp_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* DP_LIMIT when an append was refused for the maximum, DP_NOMEM when memory ran out; `what` names the content. */
int dp_buf_check(const struct dp_buf *b, const char *what, struct dp_err *e);
static inline struct dp_span dp_buf_span(const struct dp_buf *b)
{
    return (struct dp_span){b->ptr ? b->ptr : "", b->len};
}

#endif

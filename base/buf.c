#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

void dp_buf_init(struct dp_buf *b, size_t bytes_max)
{
    memset(b, 0, sizeof *b);
    b->bytes_max = bytes_max;
}

void dp_buf_release(struct dp_buf *b)
{
    free(b->ptr);
    dp_buf_init(b, b->bytes_max);
}

char *dp_buf_reserve(struct dp_buf *b, size_t n)
{
    if (b->full) return NULL;
    if (b->ptr && n <= b->cap - b->len) return b->ptr + b->len;
    if (n > b->bytes_max || b->len > b->bytes_max - n) {
        b->full = true;
        return NULL;
    }
    size_t cap = b->cap ? b->cap * 2 : 256;
    if (cap < b->len + n) cap = b->len + n;
    if (cap > b->bytes_max) cap = b->bytes_max;
    char *p = realloc(b->ptr, cap + 1);
    if (!p) {
        b->full = b->no_memory = true;
        return NULL;
    }
    b->ptr = p;
    b->cap = cap;
    b->ptr[b->len] = 0;
    return b->ptr + b->len;
}

void dp_buf_add(struct dp_buf *b, const void *p, size_t n)
{
    char *to = dp_buf_reserve(b, n);
    if (!to) return;
    if (n) memcpy(to, p, n);
    b->len += n;
    b->ptr[b->len] = 0;
}

void dp_buf_add_str(struct dp_buf *b, const char *s)
{
    dp_buf_add(b, s, strlen(s));
}

void dp_buf_add_span(struct dp_buf *b, struct dp_span s)
{
    dp_buf_add(b, s.ptr, s.len);
}

void dp_buf_shrink(struct dp_buf *b, size_t keep)
{
    if (b->cap > keep) dp_buf_release(b);
    dp_buf_clear(b);
}

void dp_buf_add_char(struct dp_buf *b, char c)
{
    if (!b->full && b->len < b->cap) { /* writers of escaped text come here for every byte */
        b->ptr[b->len++] = c;
        b->ptr[b->len] = 0;
    } else dp_buf_add(b, &c, 1);
}

void dp_buf_add_uint(struct dp_buf *b, uint64_t v)
{
    char c[20];
    size_t at = sizeof c;
    do c[--at] = (char)('0' + v % 10);
    while (v /= 10);
    dp_buf_add(b, c + at, sizeof c - at);
}

void dp_buf_add_varint(struct dp_buf *b, uint64_t v)
{
    unsigned char c[10];
    size_t n = 0;
    for (; v >= 128; v >>= 7) c[n++] = (unsigned char)(v | 128);
    c[n++] = (unsigned char)v;
    dp_buf_add(b, c, n);
}

void dp_buf_printf(struct dp_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !dp_buf_reserve(b, (size_t)n)) {
        b->full = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(b->ptr + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

int dp_buf_check(const struct dp_buf *b, const char *what, struct dp_err *e)
{
    if (!b->full) return DP_OK;
    if (b->no_memory) DP_FAIL(e, NOMEM, "%s: no memory for more than %zu bytes", what, b->len);
    DP_FAIL(e, LIMIT, "%s is larger than its limit of %zu bytes", what, b->bytes_max);
}

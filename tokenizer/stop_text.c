#include "tokenizer/stop_text.h"

void dp_stop_text_init(struct dp_stop_text *s, const struct dp_span *stops, size_t count)
{
    size_t longest = 0;
    for (size_t i = 0; i < count; i++)
        if (stops[i].len > longest) longest = stops[i].len;
    *s = (struct dp_stop_text){.stops = stops, .count = count};
    dp_buf_init(&s->held, 2 * longest + 16);
}

void dp_stop_text_release(struct dp_stop_text *s)
{
    dp_buf_release(&s->held);
}

/* The longest string that the held text ends with; 0: none. */
static size_t found(const struct dp_stop_text *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t len = s->stops[i].len;
        if (len > n && len <= s->held.len && memcmp(s->held.ptr + s->held.len - len, s->stops[i].ptr, len) == 0) n = len;
    }
    return n;
}

/* How much of the held text's end is the beginning of a string. */
static size_t may_become(const struct dp_stop_text *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t len = s->stops[i].len - 1;
        if (len > s->held.len) len = s->held.len;
        while (len > n && memcmp(s->held.ptr + s->held.len - len, s->stops[i].ptr, len) != 0) len--;
        if (len > n) n = len;
    }
    return n;
}

static void let_go(struct dp_stop_text *s, size_t n, struct dp_buf *out)
{
    if (!n) return;
    dp_buf_add(out, s->held.ptr, n);
    memmove(s->held.ptr, s->held.ptr + n, s->held.len - n);
    s->held.len -= n;
}

bool dp_stop_text_push(struct dp_stop_text *s, struct dp_span piece, struct dp_buf *out)
{
    if (!s->count) dp_buf_add_span(out, piece);
    for (size_t i = 0; s->count && i < piece.len; i++) {
        dp_buf_add_char(&s->held, piece.ptr[i]);
        size_t n = found(s);
        if (n) {
            let_go(s, s->held.len - n, out);
            dp_buf_clear(&s->held);
            return true;
        }
        let_go(s, s->held.len - may_become(s), out);
    }
    return false;
}

void dp_stop_text_finish(struct dp_stop_text *s, struct dp_buf *out)
{
    let_go(s, s->held.len, out);
}

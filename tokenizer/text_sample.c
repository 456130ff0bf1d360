/* tokenizer/text_sample.c - a heap with the largest number on top.
 *
 * A slice that once didn't fit never will again, nor any with a larger number, since what is before it in order only grows: so its number becomes
 * a bound, and whatever isn't below it is turned away at the door. */
#include "tokenizer/text_sample.h"

#include "tokenizer/word_hash.h"

#include <stdlib.h>

enum { SLICE = 64 << 10, OVERHEAD = 48, COPIES_MAX = 64 };

struct slice {
    uint64_t number;
    char *text;
    size_t len;
};

struct dp_text_sample {
    uint64_t bytes_max, seed, bytes, text_bytes;
    uint64_t bound; /* numbers from here on are out */
    struct slice *heap;
    size_t len, cap;
};

int dp_text_sample_open(struct dp_text_sample **out, uint64_t bytes_max, uint64_t seed, struct dp_err *e)
{
    struct dp_text_sample *s = *out = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "a sample of texts");
    s->bytes_max = bytes_max;
    s->seed = seed;
    s->bound = UINT64_MAX;
    return DP_OK;
}

void dp_text_sample_clear(struct dp_text_sample *s)
{
    for (size_t i = 0; i < s->len; i++) free(s->heap[i].text);
    s->len = 0;
    s->bytes = s->text_bytes = 0;
}

void dp_text_sample_close(struct dp_text_sample *s)
{
    if (!s) return;
    dp_text_sample_clear(s);
    free(s->heap);
    free(s);
}

uint64_t dp_text_sample_bytes(const struct dp_text_sample *s)
{
    return s->text_bytes;
}

static struct slice pop(struct dp_text_sample *s)
{
    struct slice top = s->heap[0], x = s->heap[--s->len];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < s->len; i = k) {
        if (k + 1 < s->len && s->heap[k + 1].number > s->heap[k].number) k++;
        if (s->heap[k].number <= x.number) break;
        s->heap[i] = s->heap[k];
    }
    s->heap[i] = x;
    s->bytes -= top.len + OVERHEAD;
    s->text_bytes -= top.len;
    return top;
}

static void trim(struct dp_text_sample *s)
{
    while (s->len && (s->bytes > s->bytes_max || s->heap[0].number >= s->bound)) {
        struct slice out = pop(s);
        if (out.number < s->bound) s->bound = out.number;
        free(out.text);
    }
}

/* Takes x.text. */
static int put(struct dp_text_sample *s, struct slice x, struct dp_err *e)
{
    if (s->len == s->cap) {
        size_t cap = s->cap + s->cap / 2 + 64;
        struct slice *heap = realloc(s->heap, cap * sizeof *heap);
        if (!heap) {
            free(x.text);
            DP_FAIL(e, NOMEM, "a sample of %zu texts", cap);
        }
        s->heap = heap;
        s->cap = cap;
    }
    size_t i = s->len++;
    for (; i && x.number > s->heap[(i - 1) / 2].number; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = x;
    s->bytes += x.len + OVERHEAD;
    s->text_bytes += x.len;
    trim(s);
    return DP_OK;
}

static int add_slice(struct dp_text_sample *s, struct dp_span text, uint64_t copy, struct dp_err *e)
{
    uint64_t hash = dp_hash64(text.ptr, text.len, s->seed);
    struct slice x = {.number = copy ? dp_word_mix(hash, copy) : hash, .len = text.len};
    if (x.number >= s->bound) return DP_OK;
    x.text = malloc(text.len);
    if (!x.text) DP_FAIL(e, NOMEM, "a text of %zu bytes for the sample", text.len);
    memcpy(x.text, text.ptr, text.len);
    return put(s, x, e);
}

int dp_text_sample_add(struct dp_text_sample *s, struct dp_span text, uint64_t times, struct dp_err *e)
{
    while (text.len) {
        size_t n = text.len;
        if (n > SLICE) {
            for (n = SLICE; n && text.ptr[n - 1] != '\n';) n--;
            if (!n) /* no line ends: before a character */
                for (n = SLICE; n > SLICE - 4 && ((uint8_t)text.ptr[n] & 0xC0) == 0x80;) n--;
        }
        for (uint64_t i = 0; i < times && i < COPIES_MAX; i++) DP_TRY(add_slice(s, dp_span(text.ptr, n), i, e));
        text = dp_span(text.ptr + n, text.len - n);
    }
    return DP_OK;
}

int dp_text_sample_merge(struct dp_text_sample *into, struct dp_text_sample *from, struct dp_err *e)
{
    if (from->bound < into->bound) into->bound = from->bound;
    trim(into);
    while (from->len) DP_TRY(put(into, pop(from), e));
    return DP_OK;
}

int dp_text_sample_each(const struct dp_text_sample *s, int (*fn)(void *ctx, struct dp_span text, struct dp_err *e), void *ctx, struct dp_err *e)
{
    for (size_t i = 0; i < s->len; i++) DP_TRY(fn(ctx, dp_span(s->heap[i].text, s->heap[i].len), e));
    return DP_OK;
}

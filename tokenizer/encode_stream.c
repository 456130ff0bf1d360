/* tokenizer/encode_stream.c - text is cut where tokenizer/split_restart.c says that both parts encoded by themselves give the ids of the whole.
 *
 * With special tokens: the texts between them are texts of their own. A cut is one when no special token's text stands across it, so that
 * those found on its left end there, and the search begins anew; a special token's text that may still become one holds the cut back. */
#include "tokenizer/encode_stream.h"

#include "tokenizer/split_int.h"
#include "tokenizer/tokenizer_int.h"

#include <stdlib.h>

struct dp_encode_stream {
    struct dp_encoder *c;
    const struct dp_tokenizer *t;
    bool specials, whole; /* special tokens are looked for; no cut can be proven */
    uint8_t first[256];   /* bytes that begin a special token */
    struct dp_buf text;   /* since the latest cut */
    size_t searched;      /* no cut is at or before this place of it */
};

/* Added tokens that are found by their text alone, and all of them. */
static bool plain(const struct dp_encoder *c)
{
    size_t n;
    const struct dp_special *s = dp_tokenizer_specials(dp_encoder_tokenizer(c), &n);
    const unsigned asks = DP_ADDED_LSTRIP | DP_ADDED_RSTRIP | DP_ADDED_SINGLE_WORD | DP_ADDED_NORMALIZED;
    for (size_t i = 0; i < n; i++)
        if (s[i].flags & asks) return false;
    return dp_encoder_special(c) == DP_SPECIAL_ALL;
}

int dp_encode_stream_open(struct dp_encode_stream **out, struct dp_encoder *c, size_t bytes_max, struct dp_err *e)
{
    struct dp_encode_stream *s = *out = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "a stream of text");
    s->c = c;
    s->t = dp_encoder_tokenizer(c);
    s->specials = dp_encoder_special(c) != DP_SPECIAL_NONE && s->t->special_count > 0;
    s->whole = !dp_split_has_restarts(dp_tokenizer_split(s->t)) || dp_tokenizer_rewrites(s->t) || (s->specials && !plain(c));
    for (size_t i = 0; i < s->t->special_count; i++) s->first[(uint8_t)s->t->specials[i].text.ptr[0]] = 1;
    dp_buf_init(&s->text, bytes_max ? bytes_max : (size_t)1 << 30);
    return DP_OK;
}

void dp_encode_stream_close(struct dp_encode_stream *s)
{
    if (!s) return;
    dp_buf_release(&s->text);
    free(s);
}

void dp_encode_stream_reset(struct dp_encode_stream *s)
{
    dp_buf_clear(&s->text);
    s->searched = 0;
}

size_t dp_encode_stream_held(const struct dp_encode_stream *s)
{
    return s->text.len;
}

/* Whether a special token's text stands across the place. */
static bool special_across(const struct dp_encode_stream *s, size_t at)
{
    const char *p = s->text.ptr;
    size_t back = s->t->special_bytes_max - 1;
    for (size_t i = at > back ? at - back : 0; i < at; i++) {
        if (!s->first[(uint8_t)p[i]]) continue;
        for (size_t k = 0; k < s->t->special_count; k++) {
            struct dp_span x = s->t->specials[k].text;
            if (x.len > at - i && x.len <= s->text.len - i && memcmp(x.ptr, p + i, x.len) == 0) return true;
        }
    }
    return false;
}

/* The last cut of the text that is held, 0: none. What is at the end isn't looked at before it is whole: a character, a special token. */
static size_t last_cut(struct dp_encode_stream *s)
{
    const uint8_t *p = (const uint8_t *)s->text.ptr, *end = p + s->text.len;
    size_t keep = s->specials && s->t->special_bytes_max > 4 ? s->t->special_bytes_max : 4;
    if (s->whole || s->text.len <= keep) return 0;
    size_t top = s->text.len - keep;
    for (size_t at = top; at > s->searched; at--)
        if (dp_split_restarts_at(p, p + at, end) && !(s->specials && special_across(s, at))) return at;
    s->searched = top;
    return 0;
}

int dp_encode_stream_push(struct dp_encode_stream *s, struct dp_span text, struct dp_ids *out, struct dp_err *e)
{
    dp_buf_add_span(&s->text, text);
    DP_TRY(dp_buf_check(&s->text, "a text without a place to cut it", e));
    size_t at = last_cut(s);
    if (!at) return DP_OK;
    DP_TRY(dp_encode(s->c, dp_span(s->text.ptr, at), out, e));
    memmove(s->text.ptr, s->text.ptr + at, s->text.len - at);
    s->text.len -= at;
    s->searched = 0;
    return DP_OK;
}

int dp_encode_stream_finish(struct dp_encode_stream *s, struct dp_ids *out, struct dp_err *e)
{
    int rc = dp_encode(s->c, dp_buf_span(&s->text), out, e);
    dp_encode_stream_reset(s);
    return rc;
}

/* tokenizer/encode_stream.c - where a text may be cut so that both parts encoded by themselves give the ids of the whole.
 *
 * A place between two characters is such a cut when every pattern begins a piece there, and when the piece before it is the same whether
 * the text ends there or goes on. The patterns remember nothing from before a piece's begin, so the rest follows. By classes of the
 * characters before and behind (tokenizer/split_int.h), for all patterns:
 *   letter, then white space or a symbol other than ': a piece that has taken a letter takes letters, marks and contractions only, and a
 *     contraction begins with ' (o200k takes it as a suffix);
 *   number, then white space or a symbol: numbers are pieces of numbers;
 *   symbol or mark, then a blank: symbols are followed in a piece by symbols, line ends and / at most (a mark may be a letter to a pattern; see above).
 * Behind white space nothing is certain: a run of it is looked at as a whole, and with one character more (\s+(?!\S)). What follows the cut
 * is seen by the piece before only as "no more of mine", which the end of the text says too.
 *
 * With special tokens: the texts between them are texts of their own. A cut is one when no special token's text stands across it, so that
 * those found on its left end there, and the search begins anew; a special token's text that may still become one holds the cut back. */
#include "tokenizer/encode_stream.h"

#include "tokenizer/split_int.h"
#include "tokenizer/tokenizer_int.h"

#include <assert.h>
#include <stdlib.h>

struct dp_encode_stream {
    struct dp_encoder *c;
    const struct dp_tokenizer *t;
    bool specials, whole; /* special tokens are looked for; no cut can be proven */
    uint8_t first[256];   /* bytes that begin a special token */
    struct dp_buf text;   /* since the latest cut */
    size_t searched;      /* no cut is at or before this place of it */
};

/* Whether what is said above was gone through for a pre-tokenizer. All known ones; of deepseek-v3 a run of characters that nothing matches ends
 * before white space too, and that kana and Han are cut out only adds ends. */
static bool proven(enum dp_split split)
{
    static_assert(DP_SPLIT_COUNT == 7, "read the new pattern first");
    return split < DP_SPLIT_COUNT;
}

int dp_encode_stream_open(struct dp_encode_stream **out, struct dp_encoder *c, size_t bytes_max, struct dp_err *e)
{
    struct dp_encode_stream *s = *out = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "a stream of text");
    s->c = c;
    s->t = dp_encoder_tokenizer(c);
    s->specials = dp_encoder_special(c) == DP_SPECIAL_ALL && s->t->special_count > 0;
    s->whole = !proven(dp_tokenizer_split(s->t)) || (s->specials && !s->t->specials_plain);
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

/* Class of the character that ends at p + at; of a part of one, that of a bad byte. */
static unsigned class_before(const uint8_t *p, size_t at, const uint8_t *end)
{
    if (dp_split_ascii[p[at - 1]]) return dp_split_ascii[p[at - 1]];
    size_t i = at - 1;
    while (i > 0 && at - i < 4 && (p[i] & 0xC0) == 0x80) i--;
    int len;
    unsigned c = dp_split_class_at(p + i, end, &len);
    return (size_t)len == at - i ? c : C_OTHER;
}

static bool is_cut(const uint8_t *p, size_t at, const uint8_t *end)
{
    int len;
    unsigned b = dp_split_class_at(p + at, end, &len);
    if (!(b & (C_SPACE | C_OTHER))) return false;
    unsigned a = class_before(p, at, end);
    if (a & C_LETTER) return p[at] != '\'';
    if (a & C_NUMBER) return true;
    return (a & (C_OTHER | C_MARK)) && (b & C_BLANK);
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
        if (is_cut(p, at, end) && !(s->specials && special_across(s, at))) return at;
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

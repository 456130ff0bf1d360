/* tokenizer/decode_stream.c - held[] is always a proper prefix of a well-formed character (table 3-7), so that the next byte either goes on
 * with it or shows that it was a maximal invalid subpart. */
#include "tokenizer/decode_stream.h"

#include "tokenizer/sp.h"
#include "tokenizer/tokenizer_int.h"

void dp_decode_stream_init(struct dp_decode_stream *s, const struct dp_tokenizer *t, enum dp_bad_bytes bad, bool skip_specials)
{
    *s = (struct dp_decode_stream){.t = t, .bad = bad, .skip_specials = skip_specials};
}

static unsigned char_bytes(uint8_t lead) /* 0: no character begins so */
{
    return lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

static bool goes_on(const struct dp_decode_stream *s, uint8_t c)
{
    uint8_t lead = (uint8_t)s->held[0], lo = 0x80, hi = 0xBF;
    if (s->held_len == 1) {
        if (lead == 0xE0) lo = 0xA0;
        if (lead == 0xED) hi = 0x9F;
        if (lead == 0xF0) lo = 0x90;
        if (lead == 0xF4) hi = 0x8F;
    }
    return c >= lo && c <= hi;
}

static void bad(const struct dp_decode_stream *s, const char *p, size_t n, struct dp_buf *out)
{
    if (s->bad == DP_BAD_KEEP) dp_buf_add(out, p, n);
    else dp_buf_add(out, "\xEF\xBF\xBD", 3);
}

static void give_up(struct dp_decode_stream *s, struct dp_buf *out)
{
    if (s->held_len && s->t->sp) /* sentencepiece has U+FFFD for each byte, not for the longest that may have become a character */
        for (unsigned i = 0; i < s->held_len; i++) bad(s, s->held + i, 1, out);
    else if (s->held_len) bad(s, s->held, s->held_len, out);
    s->held_len = 0;
}

static void feed(struct dp_decode_stream *s, struct dp_span b, struct dp_buf *out)
{
    for (size_t i = 0; i < b.len;) {
        uint8_t c = (uint8_t)b.ptr[i];
        if (s->held_len && !goes_on(s, c)) give_up(s, out);
        if (s->held_len) {
            unsigned want = char_bytes((uint8_t)s->held[0]);
            if (s->held_len + 1u == want) {
                dp_buf_add(out, s->held, s->held_len);
                dp_buf_add_char(out, b.ptr[i]);
                s->held_len = 0;
            } else s->held[s->held_len++] = b.ptr[i];
            i++;
            continue;
        }
        size_t from = i;
        while (i < b.len && (uint8_t)b.ptr[i] < 0x80) i++;
        if (i > from) {
            dp_buf_add(out, b.ptr + from, i - from);
            continue;
        }
        if (char_bytes(c)) s->held[s->held_len++] = b.ptr[i];
        else bad(s, b.ptr + i, 1, out);
        i++;
    }
}

/* Of a sentencepiece model. The stream has given text before, or has since out's length `from`. */
static void piece(struct dp_decode_stream *s, uint32_t id, struct dp_buf *out, size_t from)
{
    struct dp_sp_start start = {s->start_over, s->took_space};
    give_up(s, out);
    dp_sp_put_piece(s->t->sp, id, &start, !s->begun && out->len == from, out);
    s->start_over = start.over;
    s->took_space = start.took_space;
}

int dp_decode_stream_push(struct dp_decode_stream *s, const uint32_t *ids, size_t n, struct dp_buf *out, struct dp_err *e)
{
    struct dp_decode_stream was = *s;
    size_t len = out->len;
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= s->t->size || !s->t->bytes[ids[i]].ptr)
            DP_FAIL(e, CORRUPT, "id %u at position %llu is no token of this tokenizer (%u ids): was the text encoded with another?", ids[i],
                    (unsigned long long)(s->ids + i), s->t->size);
    for (size_t i = 0; i < n; i++) {
        if (s->skip_specials && s->t->is_special[ids[i]]) continue;
        if (s->t->sp && s->t->sp->f.piece[ids[i]].type != DP_SP_BYTE) piece(s, ids[i], out, len);
        else feed(s, s->t->bytes[ids[i]], out);
    }
    s->begun = s->begun || out->len > len;
    s->ids += n;
    int rc = dp_buf_check(out, "decoded text", e);
    if (rc < 0) {
        *s = was;
        out->len = len;
    }
    return rc;
}

int dp_decode_stream_finish(struct dp_decode_stream *s, struct dp_buf *out, struct dp_err *e)
{
    struct dp_decode_stream was = *s;
    size_t len = out->len;
    give_up(s, out);
    s->ids = 0;
    s->begun = s->start_over = s->took_space = false;
    int rc = dp_buf_check(out, "decoded text", e);
    if (rc < 0) {
        *s = was;
        out->len = len;
    }
    return rc;
}

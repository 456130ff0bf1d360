#include "tokenizer/offsets.h"

#include "tokenizer/split_int.h"

static int in_bytes(const struct dp_tokenizer *t, struct dp_span text, const uint32_t *ids, size_t n, struct dp_offset *out, struct dp_err *e)
{
    size_t at = 0;
    if (dp_tokenizer_rewrites(t)) DP_FAIL(e, CONFIG, "the tokenizer has a normalizer: its ids are of another text, and have no offsets in this one");
    for (size_t i = 0; i < n; i++) {
        struct dp_span b = dp_tokenizer_bytes(t, ids[i]);
        if (!b.ptr) DP_FAIL(e, CORRUPT, "id %u at position %zu is no token of this tokenizer", ids[i], i);
        if (b.len > text.len - at || memcmp(b.ptr, text.ptr + at, b.len) != 0)
            DP_FAIL(e, CORRUPT, "id %u at position %zu isn't what stands at byte %zu of the text: ids of another text?", ids[i], i, at);
        out[i] = (struct dp_offset){at, at + b.len};
        at += b.len;
    }
    if (at != text.len) DP_FAIL(e, CORRUPT, "the ids end at byte %zu of the text's %zu: ids of another text?", at, text.len);
    return DP_OK;
}

int dp_offsets(const struct dp_tokenizer *t, struct dp_span text, const uint32_t *ids, size_t n, enum dp_offset_unit unit,
               struct dp_offset *out, struct dp_err *e)
{
    DP_TRY(in_bytes(t, text, ids, n, out, e));
    if (unit == DP_OFFSET_BYTES) return DP_OK;
    const uint8_t *base = (const uint8_t *)text.ptr, *end = base + text.len;
    size_t from = 0, to = 0, chars = 0; /* the latest character looked at, [from, to) of the text, is number chars - 1 */
    for (size_t i = 0; i < n; i++) {
        int32_t cp;
        size_t first = out[i].begin, last = out[i].end - 1; /* no token is empty */
        for (; to <= first; chars++) from = to, to += (size_t)dp_split_decode(base + from, end, &cp);
        out[i].begin = chars - 1;
        for (; to <= last; chars++) from = to, to += (size_t)dp_split_decode(base + from, end, &cp);
        out[i].end = chars;
    }
    return DP_OK;
}

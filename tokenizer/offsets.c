#include "tokenizer/offsets.h"

#include "tokenizer/split_int.h"

static size_t over_space(struct dp_span text, size_t at)
{
    const uint8_t *base = (const uint8_t *)text.ptr, *end = base + text.len;
    int len;
    while (dp_split_class_at(base + at, end, &len) & C_SPACE) at += (size_t)len;
    return at;
}

/* enum dp_added_flag of an id; 0 for a token of the model alone. */
static unsigned flags_of(const struct dp_tokenizer *t, uint32_t id)
{
    size_t n;
    const struct dp_special *s = dp_tokenizer_specials(t, &n);
    for (size_t i = 0; i < n; i++)
        if (s[i].id == id) return s[i].flags;
    return 0;
}

/* Where a token stands from `at` on: there, or with `strip` behind white space; SIZE_MAX: nowhere. */
static size_t place_of(struct dp_span text, size_t at, struct dp_span b, bool strip)
{
    const uint8_t *base = (const uint8_t *)text.ptr, *end = base + text.len;
    if (!b.ptr) return SIZE_MAX;
    for (int len;; at += (size_t)len) {
        if (b.len <= text.len - at && memcmp(b.ptr, text.ptr + at, b.len) == 0) return at;
        if (!strip || !(dp_split_class_at(base + at, end, &len) & C_SPACE)) return SIZE_MAX;
    }
}

static int foreign(const struct dp_tokenizer *t, uint32_t id, size_t i, size_t at, struct dp_err *e)
{
    if (dp_tokenizer_rewrites(t)) DP_FAIL(e, CONFIG, "the tokenizer has a normalizer, which changes the text: its ids have no offsets in it");
    DP_FAIL(e, CORRUPT, "id %u at position %zu isn't what stands at byte %zu of the text: ids of another text?", id, i, at);
}

/* Tokens stand one behind the other, but for white space that added tokens took before and behind them. */
static int in_bytes(const struct dp_tokenizer *t, struct dp_span text, const uint32_t *ids, size_t n, struct dp_offset *out, struct dp_err *e)
{
    size_t at = 0, added;
    const struct dp_special *s = dp_tokenizer_specials(t, &added);
    bool strips = false;
    for (size_t i = 0; i < added; i++) strips = strips || (s[i].flags & (DP_ADDED_LSTRIP | DP_ADDED_RSTRIP));
    for (size_t i = 0; i < n; i++) {
        struct dp_span b = dp_tokenizer_bytes(t, ids[i]);
        if (!b.ptr) DP_FAIL(e, CORRUPT, "id %u at position %zu is no token of this tokenizer", ids[i], i);
        unsigned flags = strips ? flags_of(t, ids[i]) : 0;
        size_t p = place_of(text, at, b, flags & DP_ADDED_LSTRIP);
        if (p == SIZE_MAX) return foreign(t, ids[i], i, at, e);
        out[i].begin = at;
        at = p + b.len;
        /* What merging gives too may be no added token here, and take nothing: then the next one begins with white space. */
        if (flags & DP_ADDED_RSTRIP && !(flags & DP_ADDED_ORDINARY && i + 1 < n && place_of(text, at, dp_tokenizer_bytes(t, ids[i + 1]), false) == at))
            at = over_space(text, at);
        out[i].end = at;
    }
    if (at != text.len && dp_tokenizer_rewrites(t)) return foreign(t, 0, n, at, e);
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

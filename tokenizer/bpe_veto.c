#include "tokenizer/bpe_veto.h"

#include "tokenizer/split_int.h"

#include <string.h>

int dp_bpe_veto_rules(const char *list, unsigned *rules, struct dp_err *e)
{
    static const char *const names[] = {"colon", "newline", "sentence"};
    *rules = 0;
    for (const char *p = list; p && *p;) {
        struct dp_span word = dp_span(p, strcspn(p, ","));
        size_t i = 0;
        while (i < 3 && !dp_span_is(word, names[i])) i++;
        if (i == 3 && word.len) DP_FAIL(e, CONFIG, "super_veto: there is no '%.*s'; there are colon, newline and sentence", DP_SPAN_FMT(word));
        if (i < 3) *rules |= 1u << i;
        p += word.len + (p[word.len] == ',');
    }
    return DP_OK;
}

static bool inside(char c)
{
    return ((uint8_t)c & 0xC0) == 0x80;
}

int64_t dp_bpe_chars(struct dp_span text)
{
    int64_t n = text.len && inside(text.ptr[0]);
    for (size_t i = 0; i < text.len; i++) n += !inside(text.ptr[i]);
    return n;
}

/* U+3002, U+FF01, U+FF1F */
static bool full_width_stop(const uint8_t *p, int len)
{
    return len == 3 && (memcmp(p, "\xE3\x80\x82", 3) == 0 || memcmp(p, "\xEF\xBC\x81", 3) == 0 || memcmp(p, "\xEF\xBC\x9F", 3) == 0);
}

static bool super_vetoed(const struct dp_bpe_veto *v, struct dp_span text)
{
    const uint8_t *p = (const uint8_t *)text.ptr, *end = p + text.len, *begin = p;
    int64_t words = 0;
    bool colon = false, space_later = false, newline = false, stop = false, ended = false, wide = false;
    unsigned before = C_SPACE;
    for (int len; p < end; p += len) {
        unsigned c = dp_split_class_at(p, end, &len);
        if (c & C_SPACE) {
            space_later = space_later || p > begin;
            newline = newline || (c & C_NEWLINE);
            ended = ended || stop;
            stop = false;
        } else {
            if (before & C_SPACE) words++;
            if ((v->rules & DP_VETO_NEWLINE) && newline) return true;
            if ((v->rules & DP_VETO_SENTENCE) && (ended || wide)) return true;
            colon = colon || *p == ':';
            stop = *p == '.' || *p == '!' || *p == '?';
            wide = full_width_stop(p, len);
        }
        before = c;
    }
    if (v->words_max && words > v->words_max) return true;
    return (v->rules & DP_VETO_COLON) && colon && space_later;
}

bool dp_bpe_vetoed(const struct dp_bpe_veto *v, struct dp_span text)
{
    size_t at = 0, len;
    if (v->chars_max && dp_bpe_chars(text) > v->chars_max) return true;
    if (dp_special_find_next(v->specials, text, &at, &len)) return true;
    return v->super && super_vetoed(v, text);
}

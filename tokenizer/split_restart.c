/* tokenizer/split_restart.c - where a text can be cut so that its parts split as the whole does.
 *
 * Scanners go from left to right and never look back, so a place p will do when (1) in the whole text a piece always ends there, and (2) what
 * is before p gives the same pieces when the text ends at p: `\s+(?!\S)` and `\s+` are all that can tell the end from what follows. Read off
 * the patterns in split_patterns.c, for all of them alike (deepseek-v3's cut out kana and Han first, which only adds ends):
 *   a letter or number | white space       runs of letters and of numbers end there, and nothing behind them takes white space; what is before
 *                                          doesn't end in white space, so (2) holds
 *   a number | a symbol                    numbers are pieces of numbers
 *   a symbol or mark | white space but newlines   symbols are followed in a piece by symbols, newlines and '/' at most, marks by those of a word too
 *   one newline behind no white space | no white space, and no '/', which o200k takes with newlines: a newline is in front of nothing, and alone
 *                                          it is one piece whether the text ends or goes on
 *   a letter | no letter, mark, number, white space or "'"     for texts without white space; o200k's words have marks and end in contractions
 * Patterns of users get no place, nor does superbpe, whose pieces go on over words. */
#include "tokenizer/encode.h"
#include "tokenizer/split_int.h"

#include <assert.h>

/* Class of the character that ends at p; 0 at the start. Well-formed characters are found from behind: no lead byte is inside of another. */
static unsigned class_before(const uint8_t *start, const uint8_t *p)
{
    if (p == start) return 0;
    if (p[-1] < 0x80) return dp_split_ascii[p[-1]];
    for (int n = 2; n <= 4 && p - start >= n; n++) {
        if ((p[-n] & 0xc0) == 0x80) continue;
        int len;
        unsigned c = dp_split_class_at(p - n, p, &len);
        return len == n ? c : C_OTHER;
    }
    return C_OTHER;
}

bool dp_split_restarts_at(const uint8_t *start, const uint8_t *p, const uint8_t *end)
{
    int len;
    unsigned before = class_before(start, p), c = dp_split_class_at(p, end, &len);
    if (before & C_LETTER) return (c & C_SPACE) || ((c & C_OTHER) && *p != '\'');
    if (before & C_NUMBER) return c & (C_SPACE | C_OTHER);
    if ((before & (C_OTHER | C_MARK)) && (c & C_BLANK)) return true;
    if (p[-1] != '\n' || (c & C_SPACE) || *p == '/') return false;
    return p - start >= 2 && !(class_before(start, p - 1) & C_SPACE);
}

bool dp_split_has_restarts(enum dp_split split)
{
    static_assert(DP_SPLIT_COUNT == 8, "read the new pattern first");
    return split < DP_SPLIT_COUNT && split != DP_SPLIT_SUPERBPE;
}

size_t dp_split_restart(enum dp_split split, struct dp_span text, size_t from)
{
    const uint8_t *start = (const uint8_t *)text.ptr, *end = start + text.len;
    if (!dp_split_has_restarts(split)) return text.len;
    if (from >= text.len) return text.len;
    for (const uint8_t *p = start + (from ? from : 1); p < end; p++)
        if (dp_split_restarts_at(start, p, end)) return (size_t)(p - start);
    return text.len;
}

size_t dp_encode_restart(const struct dp_tokenizer *t, enum dp_special_policy special, struct dp_span text, size_t from)
{
    size_t specials;
    dp_tokenizer_specials(t, &specials);
    if (dp_tokenizer_rewrites(t) || (special != DP_SPECIAL_NONE && specials)) return text.len;
    return dp_split_restart(dp_tokenizer_split(t), text, from);
}

/* What the patterns match at a place depends on nothing before it. So a place is a cut when it begins a pretoken whatever stands behind the
 * text. Most texts have one near their end that two characters show (dp_split_restart; not with a character that may be cut short). Else the text is split:
 * a pretoken that ends before the text does was matched by looking at the text's end only if it and its neighbour are of one run of characters
 * that comes to the end, and then the neighbour ends there. So the begin of the last pretoken that ends well before the end is a cut, but for one: behind
 * white space that leaves its last character to itself because no white space follows ("\t 1"), and takes it when the text ends there. */
#include "tokenizer/text_cut.h"

#include "tokenizer/split_int.h"

#include <assert.h>

enum { AHEAD = 16, KEPT = 64 };

bool dp_text_can_cut(enum dp_split split)
{
    static_assert(DP_SPLIT_COUNT == 8, "read the new pattern first");
    return split < DP_SPLIT_COUNT && split != DP_SPLIT_SUPERBPE; /* whose pieces go on over words */
}

/* Whether white space stands before p, and none at p. */
static bool behind_space(const uint8_t *text, const uint8_t *p, const uint8_t *end)
{
    int len;
    const uint8_t *q = p;
    while (q > text && p - q < 3 && (*--q & 0xC0) == 0x80) continue; /* white space has 3 bytes at most */
    return (dp_split_class_at(q, p, &len) & C_SPACE) && !(dp_split_class_at(p, end, &len) & C_SPACE);
}

size_t dp_text_cut(enum dp_split split, struct dp_span text)
{
    size_t ends[KEPT], pos = 0, n, at = 0;
    const uint8_t *begin = (const uint8_t *)text.ptr;
    if (!dp_text_can_cut(split)) return 0;
    for (size_t back = 256; back < text.len && back <= 65536; back *= 16) {
        size_t cut = dp_split_restart(split, text, text.len - back);
        if (cut + AHEAD <= text.len) return cut;
    }
    for (size_t from = 0; (n = dp_split_run(split, text, &pos, ends, KEPT)) > 0;)
        for (size_t i = 0; i < n; from = ends[i++])
            if (ends[i] + AHEAD <= text.len && !behind_space(begin, begin + from, begin + text.len)) at = from;
    return at;
}

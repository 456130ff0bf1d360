/* What the patterns match at a place depends on nothing before it. So a place is a cut when it begins a pretoken whatever stands behind the
 * text. Most texts have one near their end that two characters show (dp_split_restart; not with a character that may be cut short). Else the text is split:
 * a pretoken that ends before the text does was matched by looking at the text's end only if it and its neighbour are of one run of characters
 * that comes to the end, and then the neighbour ends there. So the begin of the last pretoken that ends well before the end is a cut. */
#include "tokenizer/text_cut.h"

enum { AHEAD = 16, KEPT = 64 };

bool dp_text_can_cut(enum dp_split split)
{
    return split == DP_SPLIT_GPT2 || split == DP_SPLIT_CL100K || split == DP_SPLIT_QWEN2 || split == DP_SPLIT_O200K;
}

size_t dp_text_cut(enum dp_split split, struct dp_span text)
{
    size_t ends[KEPT], pos = 0, n, at = 0;
    if (!dp_text_can_cut(split)) return 0;
    for (size_t back = 256; back < text.len && back <= 65536; back *= 16) {
        size_t cut = dp_split_restart(split, text, text.len - back);
        if (cut + AHEAD <= text.len) return cut;
    }
    for (size_t from = 0; (n = dp_split_run(split, text, &pos, ends, KEPT)) > 0;)
        for (size_t i = 0; i < n; from = ends[i++])
            if (ends[i] + AHEAD <= text.len) at = from;
    return at;
}

/* tokenizer/split_super.c - the second stage of SuperBPE: pieces that hold many words.
 *
 * `\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)`, the pattern of the published SuperBPE tokenizers (Liu et al. 2025), used as Split(Isolated):
 * what it matches are pieces, and so is the text between two matches. What stays from a pre-tokenizer of words is what bounds tokens:
 * digits in threes, runs of punctuation (marks count as such), runs of spaces but for the last one.
 *
 * A place in a gap is looked at once: where none of the alternatives matches, it is decided by at most two characters and a run of spaces, which
 * then is a match or one space. So time is linear, and each matched run is read twice at most. */
#include "tokenizer/split_int.h"

enum { SYMBOL = C_OTHER | C_MARK };

static const uint8_t *numbers(const uint8_t *p, const uint8_t *end)
{
    int len;
    for (int i = 0; i < 3 && (dp_split_class_at(p, end, &len) & C_NUMBER); i++) p += len;
    return p;
}

/* [^\s\p{L}\p{N}]{2,}[\r\n/]* at p, or NULL. */
static const uint8_t *symbols(const uint8_t *p, const uint8_t *end)
{
    int len, count = 0;
    for (; dp_split_class_at(p, end, &len) & SYMBOL; count++) p += len;
    if (count < 2) return NULL;
    while (p < end && (*p == '\r' || *p == '\n' || *p == '/')) p++;
    return p;
}

/* The match that begins at p, or NULL; *len is the length of its first character. */
static const uint8_t *match(const uint8_t *p, const uint8_t *end, int *len)
{
    unsigned c = dp_split_class_at(p, end, len);
    if (c & C_LETTER) return NULL;
    if (c & C_NUMBER) return numbers(p, end);
    if (c & SYMBOL) return symbols(p, end);
    if (*p != ' ') return NULL;
    int next;
    unsigned d = dp_split_class_at(p + 1, end, &next);
    if (d & SYMBOL) return symbols(p + 1, end);
    const uint8_t *q = p + 1;
    while (q < end && *q == ' ') q++;
    if (q == end || (dp_split_class_at(q, end, &next) & C_SPACE)) return q;
    return q - p > 1 ? q - 1 : NULL;
}

const uint8_t *dp_split_next_super(const uint8_t *p, const uint8_t *end)
{
    int len;
    const uint8_t *m = match(p, end, &len);
    if (m) return m;
    do {
        p += len;
        while (p < end && (dp_split_ascii[*p] & C_LETTER)) p++;
    } while (p < end && !match(p, end, &len));
    return p;
}

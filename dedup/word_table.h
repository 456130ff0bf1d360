/* dedup/word_table.h - class and case folding of a code point, as the shingler sees it.
 *
 * Two-stage table of Unicode 16 (word_table.c, made by gen_word_table.py) for planes 0 and 1; rules for the others.
 * Read-only data, thread-safe. */
#ifndef DP_DEDUP_WORD_TABLE_H
#define DP_DEDUP_WORD_TABLE_H

#include <stdint.h>

enum dp_word_class {
    DP_WORD_SEP = 0,    /* white space, punctuation, symbols, controls: ends a word */
    DP_WORD_PART = 1,   /* letters, marks, numbers */
    DP_WORD_SOLO = 2,   /* a word by itself: scripts that don't put spaces between words */
    DP_WORD_IGNORE = 3, /* format characters: as if they weren't there */
    DP_WORD_DIGIT = 4,  /* flag: a decimal digit */
};
struct dp_word_prop {
    int32_t delta; /* folded = code point + delta */
    uint8_t klass; /* enum dp_word_class, with the flag */
};

extern const struct dp_word_prop dp_word_props[];
extern const uint8_t dp_word_stage1[1024];
extern const uint8_t dp_word_stage2[][128];

static inline struct dp_word_prop dp_word_lookup(uint32_t cp)
{
    if (cp < 0x20000) return dp_word_props[dp_word_stage2[dp_word_stage1[cp >> 7]][cp & 127]];
    if (cp < 0x40000) return (struct dp_word_prop){0, DP_WORD_SOLO}; /* ideographs of planes 2 and 3 */
    if (cp >= 0xE0000 && cp < 0xE1000) return (struct dp_word_prop){0, DP_WORD_IGNORE}; /* tags, variation selectors */
    return (struct dp_word_prop){0, DP_WORD_PART};
}

#endif

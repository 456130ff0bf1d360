/* base/unicode.h - properties of characters: two-stage tables from Unicode 14.0.0.
 *
 * Generated with base/unicode_tables.c by tools/gen_unicode_clean.py; do not edit. Read-only; any thread.
 * Flags named W_ are the character classes of spaCy's English tokenizer; PREFIX and SUFFIX the single characters
 * that it splits off a chunk; GOPHER is datatrove's PUNCTUATION and STOP its TERMINAL_PUNCTUATION, TERMINAL spaCy's sentence ends;
 * ALPHA, SPACE, PUNCT are Python's isalpha, isspace and category P; NFC_SLOW marks what an NFC quick check can't pass:
 * a combining class, or Quick_Check No or Maybe. */
#ifndef DP_BASE_UNICODE_H
#define DP_BASE_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

enum dp_uni_flag {
    DP_UNI_ALPHA = 1 << 0,
    DP_UNI_SPACE = 1 << 1,
    DP_UNI_W_ALPHA = 1 << 2,
    DP_UNI_W_LOWER = 1 << 3,
    DP_UNI_W_UPPER = 1 << 4,
    DP_UNI_ICON = 1 << 5,
    DP_UNI_GOPHER = 1 << 6,
    DP_UNI_NFC_SLOW = 1 << 7,
    DP_UNI_PREFIX = 1 << 8,
    DP_UNI_SUFFIX = 1 << 9,
    DP_UNI_TERMINAL = 1 << 10,
    DP_UNI_PUNCT = 1 << 11,
    DP_UNI_INVISIBLE = 1 << 12,
    DP_UNI_W_BEFORE_DOT = 1 << 13,
    DP_UNI_W_CAP = 1 << 14,
    DP_UNI_STOP = 1 << 15,
};

struct dp_uni_decomp {
    uint32_t cp;
    uint16_t at, len; /* full canonical decomposition in dp_uni_pool */
};
struct dp_uni_comp {
    uint32_t first, second, composed; /* sorted by first, second */
};
enum { DP_UNI_DECOMPS = 2061, DP_UNI_COMPS = 941, DP_UNI_ZEROS = 66 };
extern const uint8_t dp_uni_flags_page[4352];
extern const uint16_t dp_uni_flags_data[38400];
extern const uint8_t dp_uni_ccc_page[4352];
extern const uint8_t dp_uni_ccc_data[16384];
extern const struct dp_uni_decomp dp_uni_decomp[2061];
extern const uint32_t dp_uni_pool[3406];
extern const struct dp_uni_comp dp_uni_comp[941];
extern const uint32_t dp_uni_zero[66]; /* the first of every ten decimal digits, ascending */

/* cp must be at most 0x10FFFF. */
static inline unsigned dp_uni(uint32_t cp)
{
    return dp_uni_flags_data[dp_uni_flags_page[cp >> 8] * 256u + (cp & 255)];
}
/* A decimal digit of any script (category Nd, Python's \d)? */
static inline bool dp_uni_digit(uint32_t cp)
{
    unsigned i = 0;
    while (i + 1 < DP_UNI_ZEROS && dp_uni_zero[i + 1] <= cp) i++;
    return cp - dp_uni_zero[i] < 10;
}
static inline unsigned dp_uni_class(uint32_t cp)
{
    return dp_uni_ccc_data[dp_uni_ccc_page[cp >> 8] * 256u + (cp & 255)];
}

#endif

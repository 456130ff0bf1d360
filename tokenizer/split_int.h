/* tokenizer/split_int.h - classes of code points, shared by the pre-tokenizers and their table.
 *
 * One class a code point; as a bit so that a set of classes is a mask. Pure data, thread-safe. */
#ifndef DP_TOKENIZER_SPLIT_INT_H
#define DP_TOKENIZER_SPLIT_INT_H

#include "tokenizer/split.h"

#include <stdbool.h>
#include <stdint.h>

enum class_index { CI_REST, CI_UPPER, CI_LOWER, CI_CASELESS, CI_MARK, CI_NUMBER, CI_BLANK, CI_NEWLINE, CI_SYMBOL, CI_COUNT };
enum {
    C_REST = 1 << CI_REST,         /* none of the below: controls, unassigned, bad bytes */
    C_UPPER = 1 << CI_UPPER,       /* Lu Lt */
    C_LOWER = 1 << CI_LOWER,       /* Ll */
    C_CASELESS = 1 << CI_CASELESS, /* Lm Lo */
    C_MARK = 1 << CI_MARK,         /* Mn Mc Me */
    C_NUMBER = 1 << CI_NUMBER,     /* Nd Nl No */
    C_BLANK = 1 << CI_BLANK,       /* White_Space without CR and LF */
    C_NEWLINE = 1 << CI_NEWLINE,   /* CR LF */
    C_SYMBOL = 1 << CI_SYMBOL,     /* P S: punctuation and symbols */
    C_OTHER = C_REST | C_SYMBOL,
    C_LETTER = C_UPPER | C_LOWER | C_CASELESS,
    C_SPACE = C_BLANK | C_NEWLINE,
};

/* The class index of cp is the nibble (cp & 255) of block dp_split_block_of[cp >> 8]; low nibble first. */
extern const uint8_t dp_split_block_of[4352];
extern const uint8_t dp_split_blocks[];

/* Letters' scripts as ranges: first code point << 8 | script, ascending, the first at 0; script 0 are all that are no letter of a script of its own.
 * Names are Unicode's long ones, with _ for blanks. */
extern const size_t dp_split_script_ranges_count;
extern const uint32_t dp_split_script_ranges[];
extern const size_t dp_split_script_count;
extern const char *const dp_split_script_names[];

/* What an engine with Unicode 14 doesn't know: ranges by category ("Lo") and script ("Han"), ascending. */
struct dp_split_added {
    uint32_t first, last;
    const char category[3];
    const char *script;
};
extern const size_t dp_split_added_count;
extern const struct dp_split_added dp_split_added[];

/* Class bits of ASCII; 0 for bytes that begin something longer. */
extern const uint16_t dp_split_ascii[256];

/* Length of the well-formed UTF-8 character at p (Unicode 16, table 3-7), its code point; 1 and -1 when malformed. */
static inline int dp_split_decode(const uint8_t *p, const uint8_t *end, int32_t *cp)
{
    unsigned a = p[0];
    *cp = -1;
    if (a < 0xC2 || a > 0xF4 || end - p < 2) return 1;
    unsigned b = p[1] ^ 0x80u;
    if (b > 63) return 1;
    if (a < 0xE0) return *cp = (int32_t)((a & 31) << 6 | b), 2;
    if (end - p < 3) return 1;
    unsigned c = p[2] ^ 0x80u;
    if (c > 63) return 1;
    if (a < 0xF0) {
        unsigned v = (a & 15) << 12 | b << 6 | c;
        if (v < 0x800 || (v >= 0xD800 && v < 0xE000)) return 1;
        return *cp = (int32_t)v, 3;
    }
    if (end - p < 4) return 1;
    unsigned d = p[3] ^ 0x80u, v = (a & 7) << 18 | b << 12 | c << 6 | d;
    if (d > 63 || v < 0x10000 || v > 0x10FFFF) return 1;
    return *cp = (int32_t)v, 4;
}

static inline unsigned dp_split_wide_class(const uint8_t *p, const uint8_t *end, int *len)
{
    int32_t cp;
    *len = dp_split_decode(p, end, &cp);
    if (cp < 0) return C_REST;
    unsigned pair = dp_split_blocks[dp_split_block_of[cp >> 8] * 128u + ((unsigned)cp & 255) / 2];
    return 1u << (pair >> (cp & 1) * 4 & 15);
}

/* Whether the character of `len` bytes at p is one of U+4E00-9FA5, U+3040-30FF, which DeepSeek cuts out by themselves. */
static inline bool dp_split_is_cjk(const uint8_t *p, int len)
{
    if (len != 3) return false;
    uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    return v - 0xE38180u <= 0xE383BFu - 0xE38180u || v - 0xE4B880u <= 0xE9BEA5u - 0xE4B880u;
}

/* Class of the character at p, its length in *len; class 0 at the end. */
static inline unsigned dp_split_class_at(const uint8_t *p, const uint8_t *end, int *len)
{
    if (p >= end) return *len = 0, 0;
    unsigned c = dp_split_ascii[*p];
    if (c) return *len = 1, c;
    return dp_split_wide_class(p, end, len);
}

/* 's 't 'm 'd 'll 've 're at p: the end, or NULL. With `fold` in any case, and U+017F is an s too (Unicode simple folding). */
static inline const uint8_t *dp_split_contraction(const uint8_t *p, const uint8_t *end, bool fold)
{
    if (end - p < 2 || *p != '\'') return NULL;
    unsigned mask = fold ? 0x20 : 0, a = p[1] | mask;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
    if (end - p < 3) return NULL;
    unsigned b = p[2] | mask;
    if ((a == 'l' && b == 'l') || ((a == 'v' || a == 'r') && b == 'e')) return p + 3;
    if (fold && p[1] == 0xC5 && p[2] == 0xBF) return p + 3;
    return NULL;
}

/* Ends of pieces from base + *pos on, as dp_split_run gives them, until fewer than DP_SPLIT_WINDOW bytes of text or places in `ends` are left
 * (split_scan.h). Returns their number. */
enum { DP_SPLIT_WINDOW = 64 };
typedef size_t (*dp_split_scan_fn)(enum dp_split split, const uint8_t *base, const uint8_t *end, size_t *pos, size_t *ends, size_t max);
size_t dp_split_scan_avx2(enum dp_split split, const uint8_t *base, const uint8_t *end, size_t *pos, size_t *ends, size_t max);
size_t dp_split_scan_avx512(enum dp_split split, const uint8_t *base, const uint8_t *end, size_t *pos, size_t *ends, size_t max);
/* What dp_split_restart goes by: whether a text from `start` can be cut at p, start < p < end, which the two characters before p and the one at p say; and
 * for which splits that is so. */
bool dp_split_restarts_at(const uint8_t *start, const uint8_t *p, const uint8_t *end);
bool dp_split_has_restarts(enum dp_split split);
/* The piece at p: the specification. */
const uint8_t *dp_split_next_super(const uint8_t *p, const uint8_t *end);
const uint8_t *dp_split_next(enum dp_split split, const uint8_t *p, const uint8_t *end);

#endif

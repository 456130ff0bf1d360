/* tokenizer/split_int.h - classes of code points, shared by the pre-tokenizers and their table.
 *
 * One class a code point; as a bit so that a set of classes is a mask. Pure data, thread-safe. */
#ifndef DP_TOKENIZER_SPLIT_INT_H
#define DP_TOKENIZER_SPLIT_INT_H

#include <stdint.h>

enum class_index { CI_OTHER, CI_UPPER, CI_LOWER, CI_CASELESS, CI_MARK, CI_NUMBER, CI_BLANK, CI_NEWLINE };
enum {
    C_OTHER = 1 << CI_OTHER,       /* none of the below: punctuation, symbols, controls, unassigned, bad bytes */
    C_UPPER = 1 << CI_UPPER,       /* Lu Lt */
    C_LOWER = 1 << CI_LOWER,       /* Ll */
    C_CASELESS = 1 << CI_CASELESS, /* Lm Lo */
    C_MARK = 1 << CI_MARK,         /* Mn Mc Me */
    C_NUMBER = 1 << CI_NUMBER,     /* Nd Nl No */
    C_BLANK = 1 << CI_BLANK,       /* White_Space without CR and LF */
    C_NEWLINE = 1 << CI_NEWLINE,   /* CR LF */
    C_LETTER = C_UPPER | C_LOWER | C_CASELESS,
    C_SPACE = C_BLANK | C_NEWLINE,
};

/* The class index of cp is the nibble (cp & 255) of block dp_split_block_of[cp >> 8]; low nibble first. */
extern const uint8_t dp_split_block_of[4352];
extern const uint8_t dp_split_blocks[];

#endif

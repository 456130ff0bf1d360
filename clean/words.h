/* clean/words.h - words and sentences as spaCy's blank English pipeline cuts them.
 *
 * The rules of Gopher and C4 count words; datatrove counts spaCy's tokens, stripped, empty ones left out. This is that tokenizer:
 * white-space chunks; special cases; prefixes and suffixes stripped in turn; infixes. See clean/words.c for what differs.
 * Text must be valid UTF-8. Linear in time. Scratch is one's own per worker and is reused: 16 bytes a word and 3 bits a byte of the
 * largest text, and 256 KiB for chunks seen before. Limits: text <= DP_DOC_BYTES_MAX. */
#ifndef DP_CLEAN_WORDS_H
#define DP_CLEAN_WORDS_H

#include "base/span.h"
#include "base/stage.h"

#include <stdint.h>

/* One word. */
struct dp_word {
    uint32_t at, len; /* bytes in the text */
    uint32_t chars;   /* code points */
    uint32_t flags;   /* enum dp_word_flag */
};
enum dp_word_flag {
    DP_WORD_ALPHA = 1,    /* a character is alphabetic */
    DP_WORD_SYMBOL = 2,   /* every character is in datatrove's PUNCTUATION */
    DP_WORD_PUNCT = 4,    /* every character is of category P */
    DP_WORD_TERMINAL = 8, /* the word is one character that ends sentences */
    DP_WORD_FIRST = 16,   /* the first of a white-space chunk */
    DP_WORD_GAP = 32,     /* and what stands between it and the word before is not one blank: spaCy has a word of white space there */
};
struct dp_words {
    struct dp_word *word;
    size_t count, cap;
    uint64_t *mask; /* of the text being split: white space, ASCII letters, first bytes of what may be white space */
    size_t mask_cap;
    struct dp_word_chunk *seen;
};
/* Append the words of `text`. DP_OK or DP_NOMEM (-1). */
int dp_words_split(struct dp_words *w, struct dp_span text);
void dp_words_release(struct dp_words *w);
/* Sentences among words [from, to) as spaCy's sentencizer starts them; 0 without words. */
size_t dp_words_sentences(const struct dp_words *w, size_t from, size_t to);

/* The words of the row that a worker is at: split by the first stage that asks, and again only when the row has another text. */
struct dp_row_words {
    struct dp_words words;
    struct dp_span of; /* ptr NULL: of nothing */
};
extern const struct dp_stage_shared dp_row_words_shared;
/* The words of row i's text, until the next call or row; NULL when memory ran out. */
const struct dp_words *dp_row_words(struct dp_row_words *r, const struct dp_batch *b, uint32_t i);

/* For whole blocks of 64 bytes, a bit a byte: ASCII white space; ASCII letters; bytes that white space outside ASCII begins with. */
void dp_word_masks(const char *p, size_t blocks, uint64_t *space, uint64_t *letter, uint64_t *lead);
void dp_word_masks_scalar(const char *p, size_t blocks, uint64_t *space, uint64_t *letter, uint64_t *lead);
void dp_word_masks_avx2(const char *p, size_t blocks, uint64_t *space, uint64_t *letter, uint64_t *lead);

/* Tables of clean/word_tables.c. */
struct dp_word_special {
    const char *text;
    uint8_t len, part[4]; /* bytes of each token */
};
enum { DP_WORD_SPECIALS = 1343, DP_WORD_AFTER_DIGIT = 143 };
extern const struct dp_word_special dp_word_special[DP_WORD_SPECIALS];   /* sorted by text */
extern const char *const dp_word_after_digit[DP_WORD_AFTER_DIGIT]; /* longest first: units and currency after a digit */

#endif

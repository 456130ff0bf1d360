/* clean/words.h - words and sentences as spaCy's blank English pipeline cuts them.
 *
 * The rules of Gopher and C4 count words; datatrove counts spaCy's tokens, stripped, empty ones left out. This is that tokenizer:
 * white-space chunks; special cases; prefixes and suffixes stripped in turn; infixes. See clean/words.c for what differs.
 * Text must be valid UTF-8. Linear in time. Scratch is one's own per worker and is reused. Limits: text <= DP_DOC_BYTES_MAX. */
#ifndef DP_CLEAN_WORDS_H
#define DP_CLEAN_WORDS_H

#include "base/span.h"

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
};
struct dp_words {
    struct dp_word *word;
    size_t count, cap;
};
/* Append the words of `text` (offsets get `base` added). DP_OK or DP_NOMEM (-1). */
int dp_words_split(struct dp_words *w, struct dp_span text, uint32_t base);
void dp_words_release(struct dp_words *w);
/* Sentences among words [from, count) as spaCy's sentencizer starts them; 0 without words. */
size_t dp_words_sentences(const struct dp_words *w, size_t from);

/* Tables of clean/word_tables.c. */
struct dp_word_special {
    const char *text;
    uint8_t len, part[4]; /* bytes of each token */
};
enum { DP_WORD_SPECIALS = 1343, DP_WORD_AFTER_DIGIT = 143 };
extern const struct dp_word_special dp_word_special[DP_WORD_SPECIALS];   /* sorted by text */
extern const char *const dp_word_after_digit[DP_WORD_AFTER_DIGIT]; /* longest first: units and currency after a digit */

#endif

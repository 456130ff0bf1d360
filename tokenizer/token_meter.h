/* tokenizer/token_meter.h - how well a tokenizer fits texts, in numbers that add up.
 *
 * A word is a maximal run of letters, marks and numbers (Unicode 16's categories L, M, N). In scripts that are written without spaces
 * between words - Han, Hiragana, Katakana, Bopomofo, Yi, Thai, Lao, Tibetan, Myanmar, Khmer - every letter, with the marks on it, is a word. So words depend on
 * the text alone, not on any tokenizer. Punctuation and white space are no words. Bytes that are no UTF-8 count as one character each.
 *
 * Counts are whole numbers: those of texts add up to those of all, in any order. Thread-safety: a meter is read-only; counts belong to their caller. */
#ifndef DP_TOKENIZER_TOKEN_METER_H
#define DP_TOKENIZER_TOKEN_METER_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/offsets.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

/* Words of a text as byte ranges, in order. All zero is empty; free(word) at the end. */
struct dp_text_words {
    struct dp_offset *word;
    size_t n, cap;
    size_t chars, bytes; /* of the text */
};
/* The words of `text` instead of what was there. */
int dp_text_words(struct dp_text_words *w, struct dp_span text, struct dp_err *e);

struct dp_token_count {
    uint64_t tokens;
    uint64_t words;       /* of the texts */
    uint64_t word_tokens; /* for each word, the tokens that have a byte of it */
    uint64_t whole_words; /* words with one such token */
    uint64_t byte_tokens; /* of one byte */
    uint64_t part_tokens; /* that aren't whole characters */
};
void dp_token_count_add(struct dp_token_count *to, const struct dp_token_count *more);

struct dp_token_meter;
int dp_token_meter_open(struct dp_token_meter **out, const struct dp_tokenizer *t, struct dp_err *e);
void dp_token_meter_close(struct dp_token_meter *m);
/* Adds what ids[0..n) of the text with these words are; used[id] is raised for each (NULL: isn't wanted). Where the ids don't add up to the text
 * (a tokenizer that normalises; the blank that a sentencepiece model puts first is allowed for), word_tokens and whole_words are those of as much of it as they
 * cover: compare fertility with care. */
void dp_token_meter_add(const struct dp_token_meter *m, const struct dp_text_words *w, const uint32_t *ids, size_t n, struct dp_token_count *to,
                        uint64_t *used);

/* 1 where a sentencepiece model put a blank before a text of so many bytes, and changed nothing else of its length; else 0. */
size_t dp_token_blank(const struct dp_tokenizer *t, size_t text_bytes, const uint32_t *ids, size_t n);

/* How a vocabulary was used, from used[0..dp_tokenizer_size()). Special tokens are left out. */
struct dp_vocabulary_use {
    uint32_t tokens, unused;
    double entropy;            /* bits a token of the tokens' distribution */
    double efficiency;         /* entropy / log2(tokens): 1 where all are used alike */
    double renyi_efficiency;   /* the same of Renyi's entropy of order 2.5 (Zouhar et al. 2023, "Tokenization and the Noiseless Channel") */
};
void dp_vocabulary_use(const struct dp_tokenizer *t, const uint64_t *used, struct dp_vocabulary_use *out);
/* Whether the id is an ordinary token, which merging can give. */
bool dp_token_is_ordinary(const struct dp_tokenizer *t, uint32_t id);

#endif

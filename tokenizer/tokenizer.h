/* tokenizer/tokenizer.h - a BPE vocabulary and its files.
 *
 * A tokenizer is immutable once made and may be shared by any number of threads; encoders (tokenizer/encode.h) hold the rest.
 * Ids are below 2^21 and may have gaps (an id without token decodes to an error). Every text has ids.
 * Two kinds of byte-level vocabulary, in which every byte is a token, and which merge differently:
 *   merges (tokenizer.json, training): only listed pairs merge, in the order of the list;
 *   ranks (.tiktoken): any two tokens merge whose bytes together are a token, the lowest id first, and a pretoken that is a token
 *   is that token at once (`ignore_merges`, which tokenizer.json can ask for too);
 * and a third, of characters: sentencepiece's (dp_tokenizer_is_sp, tokenizer/sp.h), which has no split, no list of merges and a text rewritten first.
 * Memory: about 60 bytes for each merge, 36 for each token, and its text. */
#ifndef DP_TOKENIZER_TOKENIZER_H
#define DP_TOKENIZER_TOKENIZER_H

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/span.h"
#include "tokenizer/split.h"
#include "tokenizer/splitter.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_TOKENIZER_IDS_MAX = 1 << 21, DP_TOKENIZER_FILE_BYTES_MAX = 512 << 20 };

struct dp_tokenizer;
/* How an added token is found in text (tokenizer/added.h). */
enum dp_added_flag {
    DP_ADDED_SPECIAL = 1,      /* false: a word that was added, which is text to those who leave special tokens out */
    DP_ADDED_LSTRIP = 2,       /* takes the white space before it */
    DP_ADDED_RSTRIP = 4,       /* and behind it */
    DP_ADDED_SINGLE_WORD = 8,  /* only with no word character beside it */
    DP_ADDED_NORMALIZED = 16,  /* looked for in normalised text */
    DP_ADDED_OUTSIDE = 32,     /* not in the model's vocabulary: only what was added */
    DP_ADDED_ORDINARY = 64,    /* an ordinary token too, whose bytes may be others: merging can give it */
};
struct dp_special {
    struct dp_span text;
    uint32_t id;
    unsigned flags; /* of enum dp_added_flag */
};
/* What text becomes before it is split. */
enum dp_normal {
    DP_NORMAL_NONE,
    DP_NORMAL_NFC, /* of Unicode 9, as Hugging Face's tokenizers have it */
};

/* Read a tokenizer from the content of a file, which says what it is: docs/formats/tokenizers.md. `name` stands
 * in messages.
 * `split` overrides the file's pre-tokenizer, by name or as "regex:PATTERN" (dp_splitter_parse); a .tiktoken file has none, and without `split` gets gpt2 for about 50,000 tokens, cl100k for
 * about 100,000, o200k for about 200,000, with the special tokens of those encodings, and DP_CONFIG for any other size. */
int dp_tokenizer_load(struct dp_tokenizer **out, struct dp_span content, const char *name, const char *split, struct dp_err *e);
/* The same of one file that has everything: no folder, no vocab.json, whose content alone says nothing. */
int dp_tokenizer_load_alone(struct dp_tokenizer **out, const char *path, struct dp_err *e);
/* The same of a file, or of a folder that has one; vocab.json and merges.txt are read together, whichever is named. */
int dp_tokenizer_load_file(struct dp_tokenizer **out, const char *path, const char *split, struct dp_err *e);
void dp_tokenizer_free(struct dp_tokenizer *t);

/* Append the file's bytes to out. The same tokenizer always gives the same bytes. */
int dp_tokenizer_save_hf(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e); /* tokenizer.json */
/* Without special tokens. DP_CONFIG when ranks can't say what the merges do (order of ids is another, or a token has no merge). */
int dp_tokenizer_save_tiktoken(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e);
int dp_tokenizer_save_vocab(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e);  /* vocab.json */
int dp_tokenizer_save_merges(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e); /* merges.txt */
/* A sentencepiece .model; DP_CONFIG for a byte-level vocabulary, as the others are for a sentencepiece one. */
int dp_tokenizer_save_sp(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e);
/* A GGUF file of the tokenizer alone. DP_CONFIG when llama.cpp has no name for the split, or GGUF no word for what the vocabulary asks. */
int dp_tokenizer_save_gguf(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e);
/* Its fields alone, to stand among a model's: append key-value pairs to out and add their number to *pairs. The list of tokens gets `rows` entries, as many
 * as the model's embedding (DP_CONFIG when the vocabulary has more); those without a token are fillers. */
int dp_tokenizer_gguf_fields(const struct dp_tokenizer *t, uint32_t rows, struct dp_buf *out, uint64_t *pairs, struct dp_err *e);
/* The one file that keeps everything: .model for a sentencepiece model, else tokenizer.json. */
int dp_tokenizer_save(const struct dp_tokenizer *t, struct dp_buf *out, struct dp_err *e);

uint32_t dp_tokenizer_size(const struct dp_tokenizer *t);   /* highest id + 1: the rows of an embedding */
uint32_t dp_tokenizer_tokens(const struct dp_tokenizer *t); /* ids that have a token */
uint32_t dp_tokenizer_merges(const struct dp_tokenizer *t); /* pairs that merge */
/* The two tokens of the merge `rank`, and what they become; rank < dp_tokenizer_merges(). */
void dp_tokenizer_merge(const struct dp_tokenizer *t, uint32_t rank, uint32_t *left, uint32_t *right, uint32_t *id);
enum dp_split dp_tokenizer_split(const struct dp_tokenizer *t);           /* DP_SPLIT_CUSTOM where it has a splitter */
struct dp_splitter *dp_tokenizer_splitter(const struct dp_tokenizer *t);  /* NULL: the split alone */
bool dp_tokenizer_ignore_merges(const struct dp_tokenizer *t);
bool dp_tokenizer_ranks(const struct dp_tokenizer *t); /* what merges is said by ids, not by a list */
/* Whether ignore_merges makes a difference: merging the bytes of some token doesn't give it. Not of a sentencepiece model. DP_NOMEM. */
int dp_tokenizer_whole_words(const struct dp_tokenizer *t, bool *needs, struct dp_err *e);
/* ptr NULL when no token has this id. Special tokens are their text. */
struct dp_span dp_tokenizer_bytes(const struct dp_tokenizer *t, uint32_t id);
int64_t dp_tokenizer_id(const struct dp_tokenizer *t, struct dp_span bytes); /* of an ordinary token; -1: none */
enum dp_normal dp_tokenizer_normal(const struct dp_tokenizer *t);
/* All added tokens, sorted by text. */
const struct dp_special *dp_tokenizer_specials(const struct dp_tokenizer *t, size_t *n);
int64_t dp_tokenizer_special(const struct dp_tokenizer *t, struct dp_span text); /* id or -1 */
int64_t dp_tokenizer_eot(const struct dp_tokenizer *t);                          /* <|endoftext|>, sentencepiece's eos; -1: none */
bool dp_tokenizer_is_sp(const struct dp_tokenizer *t);                           /* a sentencepiece model: no split, no merges */
/* Ids are those of a changed text (a normalizer, a sentencepiece model): decoding needn't give the bytes back, offsets would be others. */
bool dp_tokenizer_rewrites(const struct dp_tokenizer *t);
/* Of everything that decides ids: split, tokens, merges, special tokens. */
struct dp_hash128 dp_tokenizer_digest(const struct dp_tokenizer *t);

#endif

/* tokenizer/bpe_train.h - learn a byte-level BPE vocabulary.
 *
 * Two steps: counters count unique pretokens (one counter a thread, then merged; the order of adding and merging doesn't
 * matter), and dp_bpe_train() learns merges from one counter, alone and in one thread.
 *
 * What is learnt: pairs of adjacent tokens are counted, overlapping ones too ("aaa" has two), in every unique pretoken, times
 * its count, in 64 bits (peers overflow 32). The most frequent pair is merged everywhere, from left to right; among equals
 * the one with the smallest (left id, right id). It ends at vocab_size, or when no pair has min_count (at least 1).
 *
 * Ids, tie = hf: special tokens in the order given, the 256 bytes in the order of their ByteLevel characters (33-126, 161-172,
 * 174-255, then the others), merges: ids and merges of Hugging Face's BpeTrainer(initial_alphabet = ByteLevel.alphabet()).
 * tie = bytes: bytes 0-255 as ids, merges, special tokens last: ranks of rustbpe.
 * A merge that spells a token that exists already takes its id, as Hugging Face's does.
 *
 * The unit of text is one call of dp_bpe_counter_add: a pretoken never spans two. (Hugging Face's train(files) adds lines, which
 * changes what `\s+(?!\S)` gives at their ends; compare with train_from_iterator over the same units.)
 *
 * Memory: a counter holds 32 to 64 bytes and the text of each unique pretoken. Training holds 8 bytes for each byte of the unique
 * pretokens with two bytes or more, 4 bytes for each occurrence of a pair (at most 12 for each such byte), and 32 to 96 for each
 * distinct pair; less than 3.75 GB of unique pretokens. */
#ifndef DP_TOKENIZER_BPE_TRAIN_H
#define DP_TOKENIZER_BPE_TRAIN_H

#include "base/err.h"
#include "base/opt.h"
#include "base/span.h"
#include "tokenizer/split.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

struct dp_bpe_counter; /* one owner at a time */

/* A byte budget of 16 GiB until dp_bpe_counter_budget() states another. */
int dp_bpe_counter_open(struct dp_bpe_counter **out, enum dp_split split, struct dp_err *e);
/* Past it, add and merge fail with DP_LIMIT and the counter must be closed: nothing is ever left out silently. */
void dp_bpe_counter_budget(struct dp_bpe_counter *c, uint64_t bytes_max);
/* Split `text` and count its pieces. */
int dp_bpe_counter_add(struct dp_bpe_counter *c, struct dp_span text, struct dp_err *e);
/* Count one pretoken `count` times as it is, without splitting. */
int dp_bpe_counter_add_word(struct dp_bpe_counter *c, struct dp_span word, uint64_t count, struct dp_err *e);
/* Add all of `from` to `into`; DP_CONFIG when their splits differ. */
int dp_bpe_counter_merge(struct dp_bpe_counter *into, const struct dp_bpe_counter *from, struct dp_err *e);
void dp_bpe_counter_close(struct dp_bpe_counter *c);
uint64_t dp_bpe_counter_unique(const struct dp_bpe_counter *c); /* distinct pretokens */
uint64_t dp_bpe_counter_total(const struct dp_bpe_counter *c);  /* pretokens counted */
uint64_t dp_bpe_counter_bytes(const struct dp_bpe_counter *c);  /* memory held */
enum dp_split dp_bpe_counter_split(const struct dp_bpe_counter *c);
/* Walk the words in no stated order: *it = 0 to start; false at the end. */
bool dp_bpe_counter_next(const struct dp_bpe_counter *c, size_t *it, struct dp_span *word, uint64_t *count);

enum dp_bpe_tie { DP_BPE_TIE_HF, DP_BPE_TIE_BYTES };

struct dp_bpe_train_options {
    int64_t vocab_size; /* special tokens, 256 bytes and merges together */
    int split;          /* enum dp_split, for whoever opens the counters */
    int tie;            /* enum dp_bpe_tie */
    char *special_tokens;
    int64_t min_count;
    int64_t token_bytes_max; /* no learnt token is longer; 0: no limit */
};
extern const struct dp_opt dp_bpe_train_opts[];

/* Learn. `progress` (may be NULL) is called now and then with merges done of those wanted. Fewer merges than wanted aren't an error: see
 * dp_tokenizer_size. DP_CONFIG: vocab_size doesn't hold the bytes and special tokens, or the counter's split isn't the options'. */
int dp_bpe_train(struct dp_tokenizer **out, const struct dp_bpe_train_options *o, const struct dp_bpe_counter *c,
                 void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, struct dp_err *e);

#endif

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
 * With `base`, its vocabulary is the beginning: all its ids stay, its merges come first, and words are in its tokens before anything is learnt. Its
 * special tokens are those of the result, its split must be the options' unless super_from is its size: then only the second stage learns.
 * vocab_size and super_from count ids then. A new merge has no influence on a text in which its two tokens don't meet.
 *
 * What isn't learnt: tokens longer than token_bytes_max or token_chars_max; and, unless learn_special_text, special tokens: their texts are cut
 * out of the text before it is split (so that they end pieces, as when encoding with special tokens), and no merge's text may hold one
 * (bpe_veto.h). Text that holds no special token's text is counted as ever. Hugging Face's trainer counts such text as any other.
 *
 * Seed tokens are in the vocabulary whatever the text. They stand in it as words of no frequency, so that ordinary merges put them together
 * as far as they go; learning ends early enough for the merges they still lack, which come last, for one seed after the other, each time the pair of
 * neighbours that is the most frequent in the words (then the smallest). So a seed that frequency reaches costs nothing, and no merge
 * before the first added one differs from those without seeds. Text equal to a seed is encoded as that one token. Seeds must be
 * one piece of the split, not longer than the limits, and hold no special token.
 *
 * SuperBPE (Liu et al. 2025): with super_from, merges are learnt as above until that many tokens; the second stage goes on with the pieces of
 * the split `superbpe` (tokenizer/split.h), which hold many words, of a sample of the texts, with the merges learnt so far applied to them; then
 * it is the tokenizer's split. What else bounds its tokens: super_words_max and super_veto (bpe_veto.h). Seeds that the first split cuts are put
 * together in the second stage. The sample (text_sample.h) has super_bytes_max bytes of text and doesn't depend on order or threads, so that the domains
 * of a corpus are mixed in it as in the whole.
 *
 * The unit of text is one call of dp_bpe_counter_add: a pretoken never spans two. (Hugging Face's train(files) adds lines, which
 * changes what `\s+(?!\S)` gives at their ends; compare with train_from_iterator over the same units.)
 *
 * Which words: all, as long as their text fits words_bytes_max (one byte more counted for each; words of one byte don't count). Beyond, the
 * most frequent ones, among equals the first by bytes, up to the first that doesn't fit. So the result doesn't depend on memory, threads or order.
 *
 * Memory: a counter holds 32 to 64 bytes of each unique pretoken, and the text of those longer than 15 bytes, up to its budget (half as much more while it writes a
 * run). Training holds about 20 bytes for each byte of the words' text: 4 in cells, 5 in lists of occurrences, the rest in pairs; less than
 * 3.75 GB of text. Disk: see word_runs.h. */
#ifndef DP_TOKENIZER_BPE_TRAIN_H
#define DP_TOKENIZER_BPE_TRAIN_H

#include "base/err.h"
#include "base/opt.h"
#include "base/span.h"
#include "tokenizer/split.h"
#include "tokenizer/splitter.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

struct dp_bpe_counter; /* one owner at a time */
struct dp_bpe_train_options;

/* Before the first text: cut by `s` instead (NULL: as it is). The counter becomes an owner more. */
int dp_bpe_counter_splitter(struct dp_bpe_counter *c, struct dp_splitter *s, struct dp_err *e);
struct dp_special_find;
/* How the options (or their base) cut words; `second`: how the second stage does, which is the split superbpe with their digits and scripts. */
int dp_bpe_split_of(const struct dp_bpe_train_options *o, bool second, struct dp_splitter **s, enum dp_split *split, struct dp_err *e);
/* What is cut out and never learnt: the special tokens of the options, or of their base; NULL: nothing. Close it. */
int dp_bpe_specials_of(struct dp_special_find **out, const struct dp_bpe_train_options *o, struct dp_err *e);
/* What whoever trains opens counters with: all that the options (or their base) say about the split; cuts special tokens out, and samples texts for a
 * second stage. */
int dp_bpe_counter_open_for(struct dp_bpe_counter **out, const struct dp_bpe_train_options *o, struct dp_err *e);
/* A byte budget of 16 GiB until dp_bpe_counter_budget() states another. */
int dp_bpe_counter_open(struct dp_bpe_counter **out, enum dp_split split, struct dp_err *e);
/* Past it, words go to temporary files in `dir`, a string that lives as long as the counter. With dir NULL, add and merge then fail with
 * DP_LIMIT and the counter must be closed. Nothing is ever left out silently. */
void dp_bpe_counter_budget(struct dp_bpe_counter *c, uint64_t bytes_max, const char *dir);
/* Pretokens of more than n bytes (16 at least; 1 MiB unless stated) are cut, between characters, into words of at most n: bounds what text without spaces
 * costs. Counters that are merged should agree on it. */
void dp_bpe_counter_word_max(struct dp_bpe_counter *c, size_t n);
/* Split `text` and count its pieces. */
int dp_bpe_counter_add(struct dp_bpe_counter *c, struct dp_span text, struct dp_err *e);
int dp_bpe_counter_add_times(struct dp_bpe_counter *c, struct dp_span text, uint64_t times, struct dp_err *e);
/* The same as adding each line of `text` by itself, its newline with it, but faster. Adds their number to *lines. */
int dp_bpe_counter_add_lines(struct dp_bpe_counter *c, struct dp_span text, uint64_t *lines, struct dp_err *e);
/* Count one pretoken `count` times as it is, without splitting. */
int dp_bpe_counter_add_word(struct dp_bpe_counter *c, struct dp_span word, uint64_t count, struct dp_err *e);
/* Move all of `from` to `into`: from can only be closed then. DP_CONFIG when their splits differ. */
int dp_bpe_counter_merge(struct dp_bpe_counter *into, struct dp_bpe_counter *from, struct dp_err *e);
/* All words with their counts, in the order of their bytes. The counter can only be closed then. */
int dp_bpe_counter_each(struct dp_bpe_counter *c, int (*fn)(void *ctx, struct dp_span word, uint64_t count, struct dp_err *e), void *ctx, struct dp_err *e);
void dp_bpe_counter_close(struct dp_bpe_counter *c);
/* End of counting: choose the words to learn from, whose text has text_max bytes at most (0: all). Again: back to the first word. */
int dp_bpe_counter_finish(struct dp_bpe_counter *c, uint64_t text_max, struct dp_err *e);
/* The chosen words of two bytes and more, in no stated order; valid until the next call. DP_EOF at the end. */
int dp_bpe_counter_next(struct dp_bpe_counter *c, struct dp_span *word, uint64_t *count, struct dp_err *e);
/* Give back what the words take; the numbers below stay. */
void dp_bpe_counter_drop_words(struct dp_bpe_counter *c);
uint64_t dp_bpe_counter_unique(const struct dp_bpe_counter *c);     /* distinct pretokens; once finished */
uint64_t dp_bpe_counter_taken(const struct dp_bpe_counter *c);      /* of two bytes and more, chosen by finish */
uint64_t dp_bpe_counter_left_out(const struct dp_bpe_counter *c);   /* of two bytes and more, not chosen */
uint64_t dp_bpe_counter_text_bytes(const struct dp_bpe_counter *c); /* of those, one more for each */
uint64_t dp_bpe_counter_total(const struct dp_bpe_counter *c);  /* pretokens counted */
double dp_bpe_counter_coverage(const struct dp_bpe_counter *c);      /* part of the occurrences of words of two bytes and more that are of chosen ones */
uint64_t dp_bpe_counter_words_cut(const struct dp_bpe_counter *c); /* pretokens longer than word_max */
uint64_t dp_bpe_counter_bytes(const struct dp_bpe_counter *c);  /* memory held */
/* What words of two counters must have in common to be added: dp_splitter_text. */
struct dp_span dp_bpe_counter_split_text(const struct dp_bpe_counter *c);
enum dp_split dp_bpe_counter_split(const struct dp_bpe_counter *c);
struct dp_splitter *dp_bpe_counter_get_splitter(const struct dp_bpe_counter *c); /* NULL: the split alone */
const struct dp_special_find *dp_bpe_counter_specials(const struct dp_bpe_counter *c); /* NULL: none are cut out */
struct dp_text_sample *dp_bpe_counter_sample(const struct dp_bpe_counter *c); /* NULL: it takes none */

enum dp_bpe_tie { DP_BPE_TIE_HF, DP_BPE_TIE_BYTES };

struct dp_bpe_train_options {
    int64_t vocab_size; /* special tokens, 256 bytes and merges together */
    int split;          /* enum dp_split, for whoever opens the counters: dp_bpe_counter_open_for */
    int tie;            /* enum dp_bpe_tie */
    char *special_tokens;
    int64_t min_count;
    int64_t token_bytes_max;  /* no learnt token is longer; 0: no limit */
    uint64_t words_bytes_max; /* text of the words to learn from; 0: all */
    char *split_pattern;      /* instead of split, a regular expression (tokenizer/splitter.h) */
    int64_t split_digits;     /* digits together at most; 0: as the split has it */
    bool split_scripts;
    int64_t token_chars_max;
    bool learn_special_text;
    int64_t super_from; /* tokens before the second stage; 0: there is none */
    uint64_t super_bytes_max;
    int64_t super_words_max, super_seed;
    char *super_veto;
    /* No options of a recipe: */
    const struct dp_tokenizer *base; /* learn on top of it; NULL: of bytes. Outlives counter and trainer. */
    const struct dp_span *seeds;
    size_t seed_count;
};
extern const struct dp_opt dp_bpe_train_opts[];

/* DP_CONFIG: vocab_size doesn't hold the bytes and special tokens. What dp_bpe_train asks first; counting may be long. */
int dp_bpe_train_check(const struct dp_bpe_train_options *o, struct dp_err *e);
/* Learn. Finishes the counter and drops its words. `progress` (may be NULL) is called now and then with merges done of those wanted. Fewer merges than wanted aren't an error: see
 * dp_tokenizer_size. DP_CONFIG: vocab_size doesn't hold the bytes, special tokens and seeds, or the counter's split isn't the options',
 * or it took no sample for a second stage. */
int dp_bpe_train(struct dp_tokenizer **out, const struct dp_bpe_train_options *o, struct dp_bpe_counter *c,
                 void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx, struct dp_err *e);

#endif

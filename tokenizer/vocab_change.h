/* tokenizer/vocab_change.h - smaller vocabularies out of a larger one.
 *
 * Both rest on this: the merges that make a token of a text are those that make it of its own bytes alone, whatever stands around it, for a merge
 * across its ends would have made another token. So a token has one last merge, and its two parts, their parts and so on are all it needs. A
 * vocabulary that holds with each token its parts, and of the merges those between tokens it holds, in their order, gives the same tokens for every
 * text whose tokens it holds: no merge that is gone was ever taken for that text, so at each step the same one is the first.
 *
 * Special tokens and the 256 bytes always stay, so that every text has ids. Memory: 40 bytes a token. Thread-safety: pure. */
#ifndef DP_TOKENIZER_VOCAB_CHANGE_H
#define DP_TOKENIZER_VOCAB_CHANGE_H

#include "base/err.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

/* The first merges (of a vocabulary of ranks: the lowest ids), so that there are vocab_size tokens with bytes and special tokens: what
 * training for that size gives. Ids stay; but special tokens behind all others stand directly behind the others that are left, in their order
 * (as tie = bytes has them; tie = hf has them first). Tokens that no merge makes are left out. DP_CONFIG when bytes and special tokens don't fit;
 * a vocab_size above what there is gives a copy. */
int dp_tokenizer_nest(struct dp_tokenizer **out, const struct dp_tokenizer *t, uint32_t vocab_size, struct dp_err *e);

/* map[old id] is the new id or -1, for dp_tokenizer_size(t) ids: new ids are 0, 1, 2 ... in the order of the old ones. */

/* Keep the tokens that keep[id] names, and what they need. */
int dp_tokenizer_keep(struct dp_tokenizer **out, const struct dp_tokenizer *t, const uint8_t *keep, int32_t *map, struct dp_err *e);
/* Drop tokens by usage: of those that no other token needs the one with the least count, among equals the highest id, until there are vocab_size tokens
 * or the least count is min_count or more. What is dropped is used as its two parts from then on: they get its count. DP_CONFIG when the vocabulary
 * can't be as small. */
int dp_tokenizer_prune(struct dp_tokenizer **out, const struct dp_tokenizer *t, const uint64_t *counts, uint32_t vocab_size, uint64_t min_count,
                       int32_t *map, struct dp_err *e);

#endif

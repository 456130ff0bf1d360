/* tokenizer/bpe_merge.h - merge the bytes of one pretoken, for tokenizer/ only.
 *
 * The definition: as long as two neighbours merge, merge the two of lowest rank, the leftmost among equals. */
#ifndef DP_TOKENIZER_BPE_MERGE_H
#define DP_TOKENIZER_BPE_MERGE_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/tokenizer_int.h"

/* Scratch that grows to the longest pretoken; all zero is empty. */
struct dp_merge_scratch {
    void *mem;
    size_t bytes;
};
void dp_merge_scratch_release(struct dp_merge_scratch *s);

/* Write the ids of `word` to ids, which has room for word.len; their number in *n. DP_NOMEM, or DP_LIMIT past 2^31 bytes. */
int dp_bpe_merge(const struct dp_tokenizer *t, struct dp_merge_scratch *s, struct dp_span word, uint32_t *ids, size_t *n, struct dp_err *e);

/* Merge ids[0 .. *n), tokens already, in place; *n is then how many are left. */
int dp_bpe_merge_tokens(const struct dp_tokenizer *t, struct dp_merge_scratch *s, uint32_t *ids, size_t *n, struct dp_err *e);

/* The two parts, in ids[0] and ids[1], that merging by ranks below `below` leaves of a token's bytes; false when it doesn't come down to two. ids has room for
 * its bytes. */
bool dp_bpe_last_two(const struct dp_tokenizer *t, uint32_t id, uint32_t below, uint32_t *ids);

/* dp_bpe_merge of several words, whose ids are at once in ids: the room for word i begins at the sum of the lengths before. Faster than one by one:
 * while the tables' lines for one word come, the others go on. */
int dp_bpe_merge_many(const struct dp_tokenizer *t, struct dp_merge_scratch *s, const struct dp_span *words, size_t words_n, uint32_t *ids, uint32_t *n,
                      struct dp_err *e);

#endif

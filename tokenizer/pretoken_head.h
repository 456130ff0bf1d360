/* tokenizer/pretoken_head.h - the most recent short pretokens and their ids, small enough for the processor's second-level cache; of one encoder.
 *
 * Four of five pretokens are found here, so the loop over them has no branch to be guessed and as few instructions as can be: the level AVX2 differs only by
 * BMI2's, which cut a word's bytes out of eight in one. */
#ifndef DP_TOKENIZER_PRETOKEN_HEAD_H
#define DP_TOKENIZER_PRETOKEN_HEAD_H

#include <stddef.h>
#include <stdint.h>

enum { DP_HEAD_BYTES = 8, DP_HEAD_IDS = 2 }; /* at most */

/* A word of n bytes with `count` ids. All zero: empty. */
struct dp_head_entry {
    uint64_t key; /* its bytes, zeros behind them */
    uint64_t ids; /* two of 24 bits in 32; above the first n, above the second 4 * count: the bytes that ids take */
};
#define DP_HEAD_ID UINT32_C(0xffffff)

/* A pretoken that isn't here: its place in the group, and how many bytes of ids the others before it have. */
struct dp_head_miss {
    uint32_t piece, before;
};

/* Where in a head a key stands, in bytes. mask: (entries - 1) * 16, entries a power of two up to 2^13. */
enum { DP_HEAD_BITS = 13 };
static inline size_t dp_head_place(uint64_t key, size_t mask)
{
    return (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> (64 - DP_HEAD_BITS - 4)) & mask;
}

/* Look up the pieces [begins[i], begins[i + 1]) of text, none empty, of which 8 bytes can be read from each begin on, in the head of that mask.
 * Ids go to `ids`, with room for DP_HEAD_IDS a piece and one more; what is in their upper bytes means nothing. Returns the number of misses; one more than
 * that says the end. */
typedef size_t dp_head_find_fn(const struct dp_head_entry *head, size_t mask, const char *text, const size_t *begins, size_t n, uint32_t *ids,
                               struct dp_head_miss *misses);
dp_head_find_fn dp_head_find_scalar, dp_head_find_avx2;
/* Of the processor's level. */
dp_head_find_fn *dp_head_find(void);

#endif

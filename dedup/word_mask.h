/* dedup/word_mask.h - which bytes of ASCII text belong to words.
 *
 * Goes through in[0, n) in blocks of 64 and stops before the first block that has a byte >= 0x80 or is not whole. For each block:
 * out[64] = in | 0x20 (the folded bytes, where they are letters or digits), and one mask with a bit for each letter or digit, the
 * first byte lowest. Returns the bytes gone through. Levels give identical bytes. Pure. */
#ifndef DP_DEDUP_WORD_MASK_H
#define DP_DEDUP_WORD_MASK_H

#include <stddef.h>
#include <stdint.h>

typedef size_t (*dp_word_mask_fn)(const uint8_t *in, size_t n, uint8_t *out, uint64_t *mask);
size_t dp_word_mask_scalar(const uint8_t *in, size_t n, uint8_t *out, uint64_t *mask);
size_t dp_word_mask_avx2(const uint8_t *in, size_t n, uint8_t *out, uint64_t *mask);
/* The kernel of the CPU level in force. */
dp_word_mask_fn dp_word_mask(void);

#endif

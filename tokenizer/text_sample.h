/* tokenizer/text_sample.h - a sample of texts that depends on nothing but the texts, the seed and the size.
 *
 * Texts are cut into slices of at most 64 KiB, behind a line's end where there is one. A slice's number is a hash of its bytes and the seed; the
 * sample is the slices of the smallest numbers, in their order, up to the first that doesn't fit. So order, threads and the places where texts came
 * from play no part, parts of a sample merge to the sample of all, and every source is in it by its share. Memory: bytes_max, where a slice
 * counts its text and 48 bytes. One owner at a time. */
#ifndef DP_TOKENIZER_TEXT_SAMPLE_H
#define DP_TOKENIZER_TEXT_SAMPLE_H

#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

struct dp_text_sample;
int dp_text_sample_open(struct dp_text_sample **out, uint64_t bytes_max, uint64_t seed, struct dp_err *e);
/* A text that counts `times` times is in it as so many, 64 at most. */
int dp_text_sample_add(struct dp_text_sample *s, struct dp_span text, uint64_t times, struct dp_err *e);
/* Move all of `from` to `into`; both were opened with the same numbers. */
int dp_text_sample_merge(struct dp_text_sample *into, struct dp_text_sample *from, struct dp_err *e);
/* Calls fn for each slice of the sample, in no stated order. */
int dp_text_sample_each(const struct dp_text_sample *s, int (*fn)(void *ctx, struct dp_span text, struct dp_err *e), void *ctx, struct dp_err *e);
void dp_text_sample_clear(struct dp_text_sample *s);
void dp_text_sample_close(struct dp_text_sample *s);
uint64_t dp_text_sample_bytes(const struct dp_text_sample *s); /* of text */

#endif

/* tokenizer/encode_stream.h - text in pieces in, ids out as soon as they are final.
 *
 * What all calls append together is exactly what dp_encode gives for the pieces put together, wherever they are cut, inside characters and
 * special tokens too. Text is handed to the encoder up to a place where its pre-tokenizer begins a new piece whatever comes before and after it
 * (tokenizer/split_restart.c): behind a word or number before white space or a symbol, behind a symbol before a blank.
 *
 * Memory: the encoder's, and the text since the latest such place: of ordinary text a few hundred bytes at most. A text that has none
 * (one letter a million times; Han without any punctuation) is kept until one comes or the text ends, up to bytes_max, past which is
 * DP_LIMIT. Where nothing is proven - patterns of a tokenizer's own, added tokens that ask for lstrip, rstrip, single_word or
 * normalized, a normalizer, a sentencepiece model -
 * all of the text is kept.
 * Thread-safety: one thread a stream; the encoder is used by one stream or call at a time and outlives it. */
#ifndef DP_TOKENIZER_ENCODE_STREAM_H
#define DP_TOKENIZER_ENCODE_STREAM_H

#include "tokenizer/encode.h"

struct dp_encode_stream;
/* bytes_max 0: 1 GiB. */
int dp_encode_stream_open(struct dp_encode_stream **out, struct dp_encoder *c, size_t bytes_max, struct dp_err *e);
void dp_encode_stream_close(struct dp_encode_stream *s);
/* Append to *out the ids that no further text can change. On failure out->len is as before, and the stream is of no use but to be reset. */
int dp_encode_stream_push(struct dp_encode_stream *s, struct dp_span text, struct dp_ids *out, struct dp_err *e);
/* The text ends: append the rest. The stream then takes another text. */
int dp_encode_stream_finish(struct dp_encode_stream *s, struct dp_ids *out, struct dp_err *e);
/* Forget a text that wasn't finished. */
void dp_encode_stream_reset(struct dp_encode_stream *s);
/* Bytes that are kept back now. */
size_t dp_encode_stream_held(const struct dp_encode_stream *s);

#endif

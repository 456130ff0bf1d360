/* tokenizer/decode_stream.h - ids to text as they come, never half a character.
 *
 * A model gives one id at a time, and a token may be a part of a character. The stream keeps back the bytes that may still become one (at
 * most 3) and appends everything else. What all calls append together is the decoding of all ids together:
 *   DP_BAD_KEEP     the bytes of dp_decode;
 *   DP_BAD_REPLACE  valid UTF-8: every maximal invalid subpart is U+FFFD (Unicode 3.9, table 3-8), as Python's errors="replace" and Rust's
 *                   from_utf8_lossy, which tiktoken and Hugging Face use, do with the whole.
 * Of a sentencepiece model it is sentencepiece's text: U+FFFD for each byte that is no UTF-8 (DP_BAD_REPLACE), without the dummy prefix.
 * A stream is a plain struct: copy it to branch. Memory: none. Thread-safety: one thread a stream; the tokenizer is shared and outlives it. */
#ifndef DP_TOKENIZER_DECODE_STREAM_H
#define DP_TOKENIZER_DECODE_STREAM_H

#include "base/buf.h"
#include "base/err.h"
#include "tokenizer/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

enum dp_bad_bytes { DP_BAD_REPLACE, DP_BAD_KEEP };

struct dp_decode_stream {
    const struct dp_tokenizer *t;
    enum dp_bad_bytes bad;
    bool skip_specials; /* special tokens are left out; else they are their text */
    uint8_t held_len;
    char held[3];
    uint64_t ids; /* how many came, for messages */
    bool begun, start_over, took_space; /* of a sentencepiece model: text was given; the beginning, whose space goes, is over; it went */
};
void dp_decode_stream_init(struct dp_decode_stream *s, const struct dp_tokenizer *t, enum dp_bad_bytes bad, bool skip_specials);
/* Append what is certain with these ids. DP_CORRUPT names the first that no token has, by its number in the stream; on failure (DP_LIMIT and
 * DP_NOMEM too) stream and out->len are as before. */
int dp_decode_stream_push(struct dp_decode_stream *s, const uint32_t *ids, size_t n, struct dp_buf *out, struct dp_err *e);
/* The ids end: append what was kept back. The stream is then as after init. */
int dp_decode_stream_finish(struct dp_decode_stream *s, struct dp_buf *out, struct dp_err *e);

#endif

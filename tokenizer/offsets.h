/* tokenizer/offsets.h - where the tokens of a text stand in it.
 *
 * A byte range is the bytes that the token is, so ranges follow each other without gaps and add up to the text. A token may begin or end
 * inside a character; in characters its range is then that of all characters of which it has a byte, and ranges of neighbours overlap:
 * what Hugging Face tokenizers gives for ByteLevel (trim_offsets=false), and tiktoken's decode_with_offsets for the begins. Characters are
 * counted from 0; every byte that isn't part of well-formed UTF-8 counts as one (tokenizer/split.h).
 *
 * Cost: linear, no memory. Thread-safety: pure. */
#ifndef DP_TOKENIZER_OFFSETS_H
#define DP_TOKENIZER_OFFSETS_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

struct dp_offset {
    uint64_t begin, end;
};
enum dp_offset_unit { DP_OFFSET_BYTES, DP_OFFSET_CHARS };

/* Of ids[0..n), which dp_encode gave for `text`, into out[0..n). An added token has the white space that it takes (lstrip, rstrip). DP_CONFIG where a normalizer
 * changed the text, so that ids are of another; DP_CORRUPT names the first id that isn't at its place in the text, or says
 * what of the text has no id: ids of another text, or of another tokenizer. */
int dp_offsets(const struct dp_tokenizer *t, struct dp_span text, const uint32_t *ids, size_t n, enum dp_offset_unit unit,
               struct dp_offset *out, struct dp_err *e);

#endif

/* tokenizer/added.h - added tokens: words found in the text itself, before it is split and merged.
 *
 * As Hugging Face's AddedVocabulary (tokenizers 0.23, added_vocabulary.rs) does it: tokens that aren't `normalized` are looked for in the
 * text as it is, leftmost first, the longest of those that begin there; what is between is normalised, and the `normalized` ones (themselves
 * normalised) are looked for in that. lstrip and rstrip take the white space beside; single_word wants no word character beside;
 * a match that is refused (single_word, or a special token that the policy leaves alone) is passed over as a whole.
 * White space and word characters are those of Unicode 16 (\s and \w of Rust's regex). Bytes that are no UTF-8 are neither, and are
 * left as they are by normalising.
 * Linear time but for the lengths of the tokens. Thread-safety: one scratch a thread. */
#ifndef DP_TOKENIZER_ADDED_H
#define DP_TOKENIZER_ADDED_H

#include "base/buf.h"
#include "base/err.h"
#include "base/nfc.h"
#include "base/span.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

struct dp_added_scratch {
    struct dp_nfc nfc;
    struct dp_buf normal;
};
void dp_added_scratch_init(struct dp_added_scratch *s);
void dp_added_scratch_release(struct dp_added_scratch *s);

/* Where the parts of a text go, in order; a failure ends the walk. The bytes live until the next call. */
struct dp_added_sink {
    int (*text)(void *ctx, struct dp_span text, struct dp_err *e); /* ordinary, normalised */
    int (*id)(void *ctx, uint32_t id, struct dp_err *e);
    void *ctx;
};
int dp_added_each(const struct dp_tokenizer *t, enum dp_special_policy policy, struct dp_added_scratch *s, struct dp_span text,
                  const struct dp_added_sink *to, struct dp_err *e);
struct dp_added_set;
/* The longest pattern that begins at p[0..room): its place in the set, and its length in *len; -1: none. */
int64_t dp_pattern_at(const struct dp_added_set *set, const char *p, size_t room, size_t *len);
/* Append the normalised form of `text` to s->normal. */
int dp_added_normalise(enum dp_normal normal, struct dp_added_scratch *s, struct dp_span text, struct dp_err *e);

#endif

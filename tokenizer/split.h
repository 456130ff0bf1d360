/* tokenizer/split.h - the pre-tokenizers: where BPE may not merge across.
 *
 * Hand-written scanners that give exactly the pieces of the published regular expressions of gpt2, cl100k (also
 * llama3's), o200k (also llama4's), qwen2 (to qwen3), qwen3.5, tekken (Mistral's) and deepseek-v3, with Unicode 16 properties. The patterns are in
 * split_patterns.c.
 *
 * Text is bytes. Every byte that isn't part of well-formed UTF-8 (overlong forms, surrogates and values past
 * U+10FFFF included) counts as one symbol that is no letter, mark, number or space, so that the pieces always
 * add up to the text. Time is linear in the text. Memory: none. Thread-safety: pure. */
#ifndef DP_TOKENIZER_SPLIT_H
#define DP_TOKENIZER_SPLIT_H

#include "base/err.h"
#include "base/span.h"

#include <stddef.h>

/* enum suffix, name, pattern */
#define DP_SPLITS(X)                                                                                                                       \
    X(GPT2, "gpt2")                                                                                                                        \
    X(CL100K, "cl100k")                                                                                                                    \
    X(O200K, "o200k")                                                                                                                      \
    X(QWEN2, "qwen2")                                                                                                                      \
    X(QWEN35, "qwen3.5")                                                                                                                   \
    X(TEKKEN, "tekken")                                                                                                                    \
    X(SUPERBPE, "superbpe")                                                                                                                \
    X(DEEPSEEK3, "deepseek-v3")

enum dp_split {
#define X(name, text) DP_SPLIT_##name,
    DP_SPLITS(X)
#undef X
        DP_SPLIT_COUNT,
    DP_SPLIT_CUSTOM = DP_SPLIT_COUNT /* a tokenizer's that has a splitter of its own (tokenizer/splitter.h); not for the functions below but the first */
};
#define DP_SPLIT_CHOICES "gpt2|cl100k|o200k|qwen2|qwen3.5|tekken|superbpe|deepseek-v3"

/* "gpt2", "cl100k" ...; "custom". */
const char *dp_split_name(enum dp_split split);
/* By name; also "llama3", "cl100k_base", "qwen3" and the like. DP_CONFIG lists the names. */
int dp_split_parse(struct dp_span name, enum dp_split *out, struct dp_err *e);
/* The regular expressions, cut by one after the other, in the form written into tokenizer.json; their number, 1 for all but deepseek-v3. */
size_t dp_split_patterns(enum dp_split split, const char *const **out);
const char *dp_split_pattern(enum dp_split split); /* the first of them */
/* By pattern, any published spelling, as Hugging Face reads it; false when unknown. */
bool dp_split_by_pattern(struct dp_span pattern, enum dp_split *out);
bool dp_split_by_patterns(const struct dp_span *list, size_t n, enum dp_split *out); /* of several, one after the other */
bool dp_split_by_users_pattern(struct dp_span pattern, enum dp_split *out);          /* tiktoken's spelling too */

/* The ends (offsets into text, ascending) of up to `max` pieces from *pos on; moves *pos to the last of them.
 * The piece i is [ends[i - 1], ends[i]), the first starts at the old *pos. Returns their number, 0 at the end. */
size_t dp_split_run(enum dp_split split, struct dp_span text, size_t *pos, size_t *ends, size_t max);

/* The first place p >= from, p > 0, such that text[0, p) and text[p, ...) give the same pieces as the whole, so that large texts can be encoded or counted
 * in parts; text.len when there is none, which is always so of a split this isn't known of. Linear in p - from, which for ordinary text is a few bytes. */
size_t dp_split_restart(enum dp_split split, struct dp_span text, size_t from);

#endif

/* tokenizer/encode.h - text to ids, ids to text.
 *
 * Ids are those of tiktoken's encode_ordinary (vocabularies of ranks) and of Hugging Face's encode without added tokens
 * (tokenizer.json), for every input; the unit is the text of one call. Bytes that are no UTF-8 are encoded too (tokenizer/split.h)
 * and come back from dp_decode as they were.
 *
 * Cost: linear in the text but for pretokens longer than 96 bytes, which cost n log n.
 * Memory: an encoder holds its cache, whose size is stated at open, and scratch of 40 bytes for each byte of the longest pretoken
 * it met. Thread-safety: one encoder a thread; the tokenizer is shared and must outlive them. What a cache holds never changes ids. */
#ifndef DP_TOKENIZER_ENCODE_H
#define DP_TOKENIZER_ENCODE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

/* A growing array of ids. All zero is empty; free with dp_ids_release. */
struct dp_ids {
    uint32_t *ptr;
    size_t len, cap;
};
/* Room for n more; DP_NOMEM changes nothing. */
int dp_ids_reserve(struct dp_ids *ids, size_t n, struct dp_err *e);
void dp_ids_release(struct dp_ids *ids);

enum dp_special_policy {
    DP_SPECIAL_NONE,  /* the text of an added token is ordinary text: the right choice for foreign text */
    DP_SPECIAL_ALL,   /* the texts of added tokens become their ids, as Hugging Face's encode has it: tokenizer/added.h */
    DP_SPECIAL_ADDED, /* of those only that aren't special: its encode with encode_special_tokens */
};

struct dp_encoder;
/* cache_bytes 0: 96 MiB. */
int dp_encoder_open(struct dp_encoder **out, const struct dp_tokenizer *t, size_t cache_bytes, enum dp_special_policy special,
                    struct dp_err *e);
/* Another encoder of the same tokenizer, for another thread, that shares the cache of `other`: what one has merged, both know.
 * Thread-safe beside every use of `other` but its closing; they may be closed in any order. */
int dp_encoder_open_beside(struct dp_encoder **out, const struct dp_encoder *other, enum dp_special_policy special, struct dp_err *e);
void dp_encoder_close(struct dp_encoder *c);
/* What it was opened with. */
const struct dp_tokenizer *dp_encoder_tokenizer(const struct dp_encoder *c);
enum dp_special_policy dp_encoder_special(const struct dp_encoder *c);

/* Append the ids of `text` to *out. On failure (DP_NOMEM; DP_LIMIT where a split pattern of the tokenizer's own takes too long) out->len is as
 * before. */
int dp_encode(struct dp_encoder *c, struct dp_span text, struct dp_ids *out, struct dp_err *e);
/* How many ids dp_encode would give. */
int dp_encode_count(struct dp_encoder *c, struct dp_span text, uint64_t *count, struct dp_err *e);

/* The first place p >= from, p > 0, such that the ids of text[0, p) and of text[p, ...) are together those of the whole: to encode one large text in parts.
 * text.len where there is none: see dp_split_restart; with special tokens, which may stand anywhere; and where the tokenizer rewrites text. */
size_t dp_encode_restart(const struct dp_tokenizer *t, enum dp_special_policy special, struct dp_span text, size_t from);

/* Append the bytes of ids[0..n) to out. DP_CORRUPT names the first id that no token has; out is then as before. */
int dp_decode(const struct dp_tokenizer *t, const uint32_t *ids, size_t n, struct dp_buf *out, struct dp_err *e);

#endif

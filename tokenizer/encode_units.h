/* tokenizer/encode_units.h - merging the long pieces of SuperBPE tokenizers quickly: words first, then what joins them.
 *
 * Merges by rank do all merges of the first stage before any of the second, unless one of these makes a token that a merge of the first takes as a
 * part; dp_units_prepare checks that none does. So a piece can be encoded by the first stage alone and what that gives be merged by the second. In the
 * first stage nothing merges across two bytes that no token of it has side by side (a letter and a space, say): between these a piece falls into
 * units, about words, which are few and are looked up. Ids are those of dp_bpe_merge, always (tests/unit/test_encode_units.c).
 *
 * Memory: a second set of tables in the tokenizer; 2 MiB and 20 bytes for each token of the longest piece in a merger.
 * Thread-safety: one merger a thread. */
#ifndef DP_TOKENIZER_ENCODE_UNITS_H
#define DP_TOKENIZER_ENCODE_UNITS_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer_int.h"

/* Set t->units where its merges have two such stages and its split leaves words together; else nothing is changed. */
int dp_units_prepare(struct dp_tokenizer *t, const char *name, struct dp_err *e);
void dp_units_free(struct dp_units *u);

struct dp_unit_merger;
/* *out is NULL where t->units is. */
int dp_unit_merger_open(struct dp_unit_merger **out, const struct dp_tokenizer *t, struct dp_err *e);
void dp_unit_merger_close(struct dp_unit_merger *m);
/* The ids of a piece, appended to out. */
int dp_unit_merge(struct dp_unit_merger *m, struct dp_span piece, struct dp_ids *out, struct dp_err *e);

#endif

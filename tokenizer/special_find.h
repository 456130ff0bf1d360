/* tokenizer/special_find.h - where the texts of special tokens stand: leftmost first, the longest of those that begin there.
 *
 * Texts of one byte are no special tokens here. Immutable, shared by threads. Text that has none of
 * their first two bytes is passed at some gigabytes a second when they begin with one byte ("<"), else at one byte a step. */
#ifndef DP_TOKENIZER_SPECIAL_FIND_H
#define DP_TOKENIZER_SPECIAL_FIND_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>

struct dp_special_find;
/* *out is NULL when the list (which may be NULL) names none. */
int dp_special_find_open(struct dp_special_find **out, const char *list, struct dp_err *e);
/* Of n texts. */
int dp_special_find_of(struct dp_special_find **out, const struct dp_span *texts, size_t n, struct dp_err *e);
void dp_special_find_close(struct dp_special_find *f);
/* The last place at or before `cut` that cuts no special token of the text, and none that the text may be the begin of; 0: there is none. */
size_t dp_special_find_cut(const struct dp_special_find *f, struct dp_span text, size_t cut);
/* The first one at or behind *at: moves *at to it, sets *len. f NULL: none, here and above. */
bool dp_special_find_next(const struct dp_special_find *f, struct dp_span text, size_t *at, size_t *len);

#endif

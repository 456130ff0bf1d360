/* cli/cut_diff.h - where two tokenizers cut the same text differently, counted.
 *
 * A place is the bytes between two neighbouring cuts that both make and between which one or both make others. Places of the same bytes and cuts are one, with
 * a count; the first 16,384 kinds that come are told apart, and places of more than 64 bytes aren't. All zero is empty.
 * Thread-safety: one thread a table. */
#ifndef DP_CLI_CUT_DIFF_H
#define DP_CLI_CUT_DIFF_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/encode.h"

#include <stdint.h>

enum { DP_CUT_BYTES_MAX = 64 };
struct dp_cut_place {
    char text[DP_CUT_BYTES_MAX];
    uint32_t len;
    uint64_t a, b; /* bit i: a token begins at byte i */
    uint64_t count;
};
struct dp_cut_diff {
    struct dp_cut_place *place; /* in order of their first coming */
    size_t n, cap;
    uint32_t *index; /* open addressing of numbers of places + 1 */
    size_t mask;
    uint64_t places; /* all of them, those that aren't told apart too */
    uint64_t texts, other_ids, other_cuts; /* texts; of them with other ids; with other cuts */
    uint64_t first, first_at; /* the number of the first text with other ids and the byte where its tokens first differ; valid when other_ids */
    char excerpt[128];        /* of it, around that byte */
    uint32_t excerpt_len;
};
/* Adds a text and its ids. */
int dp_cut_diff_text(struct dp_cut_diff *d, struct dp_span text, const struct dp_tokenizer *a, const struct dp_ids *a_ids, const struct dp_tokenizer *b,
                     const struct dp_ids *b_ids, struct dp_err *e);
/* Adds what a later table has. */
int dp_cut_diff_merge(struct dp_cut_diff *d, const struct dp_cut_diff *more, struct dp_err *e);
void dp_cut_diff_clear(struct dp_cut_diff *d); /* empty, its memory stays */
void dp_cut_diff_release(struct dp_cut_diff *d);
/* Most frequent first, then by bytes. */
void dp_cut_diff_sort(struct dp_cut_diff *d);

#endif

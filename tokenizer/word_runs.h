/* tokenizer/word_runs.h - sorted lists of (word, count) on disk, and their merge: what counting more words than memory holds needs.
 *
 * A run is a list in the order of the words' bytes, each word once. Runs stand in temporary files that are unlinked at birth. The merge of
 * all runs is one run whose counts are the sums, whatever runs the words came in.
 * Memory: 64 KiB for each run merged at once (64 at most) and what the longest words need. Disk: a word's bytes and 2 to 20 more, twice
 * while runs are merged. Runs of one size are merged as soon as there are 64 of them, so a word is rewritten log64(runs) times.
 * Thread-safety: one owner; different sets may work in parallel. */
#ifndef DP_TOKENIZER_WORD_RUNS_H
#define DP_TOKENIZER_WORD_RUNS_H

#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

struct dp_word_runs;
/* Temporary files go to `dir`, a string that lives as long as the set. */
int dp_word_runs_open(struct dp_word_runs **out, const char *dir, struct dp_err *e);
void dp_word_runs_close(struct dp_word_runs *r);
/* Write a run: words ascending, each once; then end it. */
int dp_word_runs_add(struct dp_word_runs *r, struct dp_span word, uint64_t count, struct dp_err *e);
int dp_word_runs_end(struct dp_word_runs *r, struct dp_err *e);
/* Move all runs of `from` to `into`; from is empty then. */
int dp_word_runs_take(struct dp_word_runs *into, struct dp_word_runs *from, struct dp_err *e);
/* Merge all runs into one, and stand at its begin. */
int dp_word_runs_finish(struct dp_word_runs *r, struct dp_err *e);
void dp_word_runs_rewind(struct dp_word_runs *r);
/* The next word of it, valid until the next call, or DP_EOF. */
int dp_word_runs_next(struct dp_word_runs *r, struct dp_span *word, uint64_t *count, struct dp_err *e);

/* The first 8 bytes as a number: orders most words without looking at them. */
static inline uint64_t dp_word_head(struct dp_span w)
{
    unsigned char b[8] = {0};
    memcpy(b, w.ptr, w.len < 8 ? w.len : 8);
    uint64_t v;
    memcpy(&v, b, 8);
    return __builtin_bswap64(v);
}
/* By bytes, a beginning before what it begins. */
static inline int dp_word_order(struct dp_span a, struct dp_span b)
{
    int c = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

#endif

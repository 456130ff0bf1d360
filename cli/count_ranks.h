/* cli/count_ranks.h - one corpus counted by many processes: each counts its part, rank 0 gets the sum. */
#ifndef DP_CLI_COUNT_RANKS_H
#define DP_CLI_COUNT_RANKS_H

#include "cli/count_corpus.h"
#include "cli/ranks.h"

/* All ranks call it after dp_count_corpus, with its outcome. Sums go from pairs to pairs (log2(ranks) steps) as counts files through dir; other
 * ranks than 0 have no counter any more. A failure in here ends all ranks. */
int dp_count_reduce(struct dp_count_result *r, const struct dp_count_options *o, const struct dp_ranks *k, int rc, struct dp_err *e);

#endif

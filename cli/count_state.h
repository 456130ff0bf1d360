/* cli/count_state.h - what an interrupted count goes on from: counts files and one JSON file, in DIR/resume. For cli/count_corpus.c.
 *
 * Invariants: state.json is replaced as a whole, after the counts files that it names are on disk, and files that it doesn't name may be removed. Eight
 * counts files of one level become one of the next, so a word is rewritten log8(rounds) times. */
#ifndef DP_CLI_COUNT_STATE_H
#define DP_CLI_COUNT_STATE_H

#include "cli/count_corpus.h"

struct dp_count_state {
    char *dir;
    int lock; /* descriptor of the folder around it; -1: none */
    char *options; /* what must be the same to go on */
    struct counts_file {
        uint64_t number;
        int level;
    } *file;
    size_t n, cap;
    uint64_t next;
    uint64_t words_cut;
    double seconds;
};

/* DP_BUSY when another process works in the same folder. Close it in any case. */
int dp_count_state_open(struct dp_count_state *s, const struct dp_count_options *o, struct dp_span split, struct dp_err *e);
void dp_count_state_close(struct dp_count_state *s);
/* DP_EMPTY when there is none. DP_CONFIG when it is of other options or files. */
int dp_count_state_load(struct dp_count_state *s, struct dp_corpus *c, struct dp_domains *d, struct dp_err *e);
/* What `counter` has becomes one more counts file; then the state says where the corpus stands. The counter can only be closed then. */
int dp_count_state_save(struct dp_count_state *s, const struct dp_corpus *c, const struct dp_domains *d, struct dp_bpe_counter *counter, struct dp_err *e);
/* Add all counts files to a counter. */
int dp_count_state_read(const struct dp_count_state *s, struct dp_bpe_counter *counter, struct dp_err *e);
void dp_count_state_remove(struct dp_count_state *s);

#endif

/* cli/count_corpus.h - count the pretokens of a corpus: threads, samples, and going on after an interruption.
 *
 * Threads take pieces (cli/corpus.h) and count them into a counter each. They work in rounds: when `checkpoint_seconds` are over, all stop
 * between two pieces, what the round counted goes to a counts file, and a file that says which places of which files these counts are from replaces
 * the one before. So a process that is killed loses a round at most. Shorter work writes nothing.
 * Memory: `memory` for counters, a piece and a line for each thread. Results don't depend on threads, rounds or memory. */
#ifndef DP_CLI_COUNT_CORPUS_H
#define DP_CLI_COUNT_CORPUS_H

#include "cli/corpus.h"
#include "cli/domains.h"
#include "tokenizer/bpe_train.h"

#include <stdatomic.h>

struct dp_count_options {
    struct dp_corpus_options corpus; /* its split is the counters' */
    const struct dp_bpe_train_options *bpe;
    const char *field, *domain_field; /* of JSON lines; domain_field NULL: the file is the domain */
    double sample;                    /* part of the texts; 1: all */
    uint64_t sample_bytes;            /* 0: no such limit */
    const char *mixture;              /* NULL: none */
    uint64_t seed, word_bytes_max, memory;
    int threads;
    const char *dir; /* for temporary files and, in dir/resume, the state */
    double checkpoint_seconds;
    bool resume; /* go on from a state that is there; one of other options or files is left out, with a warning */
    const atomic_bool *stop;
};

struct dp_count_result {
    struct dp_bpe_counter *counter; /* the caller's, until it is closed */
    struct dp_domains domains;      /* by name */
    uint64_t texts, bytes;          /* taken */
    uint64_t words_cut;
    double resumed_seconds;         /* spent by the runs that this one goes on from */
    size_t files;
};

/* DP_STOPPED: stopped, the state is saved (the message says how to go on). *r is released by the caller in any case. */
int dp_count_corpus(struct dp_count_result *r, const struct dp_count_options *o, const char *const *paths, size_t n, struct dp_err *e);
void dp_count_result_release(struct dp_count_result *r);
/* Remove what dp_count_corpus keeps in o->dir to go on from. */
void dp_count_forget(const struct dp_count_options *o);

#endif

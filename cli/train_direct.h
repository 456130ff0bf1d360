/* cli/train_direct.h - training from shards or bare ids, without a workspace: `dpipe train --data`. */
#ifndef DP_CLI_TRAIN_DIRECT_H
#define DP_CLI_TRAIN_DIRECT_H

#include "cli/cli.h"
#include "trainer/loop.h"

struct dp_train_args {
    char *verify, *config, *data, *val_data, *out, *log, *plot, *tokenizer, *sweep;
    int draw;
    int64_t vocab, stop_at;
    double peak; /* GFLOP/s; 0: measured */
};

/* What dpipe plan has of it: data (NULL: none), config, vocab. Options (config, environment, flags) and what stays the same for all runs of a sweep. */
struct dp_direct {
    struct dp_cli *c;
    const struct dp_train_args *a;
    struct dp_pool *pool;
    char *data, *tokenizer; /* resolved paths; tokenizer NULL: none */
};
int dp_direct_open(struct dp_direct *d, struct dp_cli *c, const struct dp_train_args *a, struct dp_err *e);
/* What MFU is a share of: as given, or of this machine at the products that c->options ask for. */
double dp_direct_peak(const struct dp_direct *d);
void dp_direct_close(struct dp_direct *d);

struct dp_direct_result {
    uint64_t params;
    int64_t steps;
    struct dp_loop loop; /* its results; pointers are stale */
};
/* One run with c->options. out, log and plot NULL: none. DP_CORRUPT when it diverged. */
int dp_direct_run(struct dp_direct *d, const char *out, const char *log, const char *plot, struct dp_direct_result *r, struct dp_buf *text, struct dp_err *e);

/* `dpipe train --data`, with --sweep or without. */
int dp_train_direct(struct dp_cli *c, const struct dp_train_args *a, struct dp_err *e);
int dp_train_sweep(struct dp_direct *d, struct dp_err *e);

#endif

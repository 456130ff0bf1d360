/* cli/measure.h - `dpipe bench NAME`: one function a bench, in cli/measure_*.c, and what they have in common. */
#ifndef DP_CLI_MEASURE_H
#define DP_CLI_MEASURE_H

#include "base/json.h"
#include "cli/cli.h"

enum { DP_MEASURE_ROUNDS_MAX = 64 };

/* The options of all benches; the help says which takes which. */
struct dp_measure_args {
    int64_t rounds;
    char *manifest; /* feed */
    int64_t million_ids, slots;
    double seconds;
    char *tokenizer, *split, *threads, *field; /* tokenizer */
    int64_t train;
    uint64_t doc_bytes, limit;
    bool jsonl, keep_ids;
    int shape, dtype; /* trainer */
    int64_t context;
};

/* args[0 .. n) are what stands behind the name. */
int dp_measure_feed(struct dp_cli *c, const struct dp_measure_args *o, const char **args, size_t n, struct dp_err *e);
int dp_measure_tokenizer(struct dp_cli *c, const struct dp_measure_args *o, const char **args, size_t n, struct dp_err *e);
int dp_measure_trainer(struct dp_cli *c, const struct dp_measure_args *o, const char **args, size_t n, struct dp_err *e);
/* VmRSS, VmHWM, RssAnon ... of this process. */
double dp_measure_status_mib(const char *name);
/* A member with a rate, rounded to 1/per. */
void dp_measure_member(struct dp_jsonw *w, const char *key, double v, double per);
/* The end of the object, printed; out is released. */
int dp_measure_end(struct dp_jsonw *w, struct dp_buf *out, struct dp_err *e);
/* Members bench, version, cpu, cpus, level, load. */
void dp_measure_machine(struct dp_jsonw *w, const char *bench);

#endif

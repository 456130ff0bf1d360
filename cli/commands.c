/* The table of commands, in the order of the road. */
#include "cli/cli.h"

#define COMMANDS(X)                                                                                \
    X(init) X(check_config) X(ingest) X(clean) X(dedup) X(train_bpe) X(tokenize) X(detokenize) X(tokenizer) X(shard) X(verify)  \
    X(feed) X(plan) X(train) X(eval) X(generate) X(run) X(serve) X(status) X(pause) X(resume) X(drain)    \
    X(reload) X(rescan) X(stop) X(loglevel) X(job) X(inspect) X(quarantine) X(export)             \
    X(export_shards) X(trace) X(bench) X(help)

#define X(name) extern const struct dp_command dp_cmd_##name;
COMMANDS(X)
#undef X

const struct dp_command *const dp_commands[] = {
#define X(name) &dp_cmd_##name,
    COMMANDS(X)
#undef X
    NULL,
};

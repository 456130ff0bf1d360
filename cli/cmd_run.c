/* The commands that make everything up to one step. */
#include "cli/cli.h"

struct own {
    char *until;
};
static const struct dp_opt rows[] = {
    {.name = "until", .type = DP_OPT_STRING, .offset = offsetof(struct own, until), .preset = "train", .arg = "STAGE",
     .help = "the last stage: ingest, clean, dedup, train-bpe, tokenize, shard or train"},
    DP_OPT_END,
};

static int run_run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    enum dp_step s = dp_step_parse(o->until);
    if (s == DP_STEPS) {
        const char *words[DP_STEPS];
        for (int i = 0; i < DP_STEPS; i++) words[i] = dp_step_name((enum dp_step)i);
        const char *near = dp_opt_nearest(dp_span_str(o->until), words, DP_STEPS);
        DP_FAIL(e, USAGE, "--until: there is no stage \"%s\"%s%s; stages are ingest clean dedup train-bpe tokenize shard train", o->until,
                near ? "; did you mean " : "", near ? near : "");
    }
    return dp_cli_run_until(c, s, e);
}
static int run_clean(struct dp_cli *c, struct dp_err *e)
{
    return dp_cli_run_until(c, DP_STEP_CLEAN, e);
}
static int run_dedup(struct dp_cli *c, struct dp_err *e)
{
    return dp_cli_run_until(c, DP_STEP_DEDUP, e);
}
static int run_shard(struct dp_cli *c, struct dp_err *e)
{
    return dp_cli_run_until(c, DP_STEP_SHARD, e);
}

extern const struct dp_command dp_cmd_run, dp_cmd_clean, dp_cmd_dedup, dp_cmd_shard;
const struct dp_command dp_cmd_run = {.name = "run", .summary = "bring everything up to date", .args = "", .rows = rows, .own_size = sizeof(struct own),
    .sections = "ingest clean. dedup dedup. tokenizer train-bpe shards feed train workers", .args_max = 0, .run = run_run,
    .about = "Makes exactly what has no artifact under its key: change one option and only what depends on it runs again. Stopped or killed at any\n"
             "moment, the next run goes on from what is published."};
const struct dp_command dp_cmd_clean = {.name = "clean", .summary = "records to documents: charset, HTML, language, quality rules", .args = "",
    .sections = "ingest clean. workers", .args_max = 0, .run = run_clean};
const struct dp_command dp_cmd_dedup = {.name = "dedup", .summary = "find exact and near duplicates", .args = "", .sections = "ingest clean. dedup dedup. workers",
    .args_max = 0, .run = run_dedup};
const struct dp_command dp_cmd_shard = {.name = "shard", .summary = "tokenize kept documents into shards and write their manifest", .args = "",
    .sections = "ingest clean. dedup dedup. tokenizer train-bpe shards workers", .args_max = 0, .run = run_shard};

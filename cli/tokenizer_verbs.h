/* cli/tokenizer_verbs.h - what `dpipe tokenizer VERB` does: one function a verb, in cli/tokenizer_*.c. */
#ifndef DP_CLI_TOKENIZER_VERBS_H
#define DP_CLI_TOKENIZER_VERBS_H

#include "cli/cli.h"
#include "tokenizer/tokenizer.h"

/* The options of all verbs; each verb's help says which it takes. */
struct dp_tokenizer_args {
    char *split, *output;
    int to; /* convert: the format */
    char *tokenizer, *baseline, *field, *language_field, *domain_field, *svg;
    bool jsonl, whole_file, detect_language, list;
    int special;
    uint64_t encoder_cache;
    char *keep, *counts;
    int64_t vocab_size, min_count;
};

/* args[0 .. n) are what stands behind the verb. */
typedef int (*dp_tokenizer_verb_fn)(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);
int dp_tokenizer_convert(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);
int dp_tokenizer_info(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);
int dp_tokenizer_nest_file(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);
int dp_tokenizer_prune_file(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);
int dp_tokenizer_compare(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);
int dp_tokenizer_report(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);

/* tokenizer.json and what transformers wants beside it, into a folder that is made. DP_CONFIG for a sentencepiece model. */
int dp_tokenizer_write_folder(const struct dp_tokenizer *t, const char *dir, struct dp_err *e);

struct dp_survey_options;
/* What the options say of texts; DP_USAGE where they contradict each other. */
int dp_tokenizer_survey_options(const struct dp_cli *c, const struct dp_tokenizer_args *o, struct dp_survey_options *out, struct dp_err *e);

#endif

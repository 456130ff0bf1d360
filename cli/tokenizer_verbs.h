/* cli/tokenizer_verbs.h - what `dpipe tokenizer VERB` does: one function a verb, in cli/tokenizer_*.c. */
#ifndef DP_CLI_TOKENIZER_VERBS_H
#define DP_CLI_TOKENIZER_VERBS_H

#include "cli/cli.h"

/* The options of all verbs; each verb's help says which it takes. */
struct dp_tokenizer_args {
    char *split;
};

/* args[0 .. n) are what stands behind the verb. */
typedef int (*dp_tokenizer_verb_fn)(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);
int dp_tokenizer_info(struct dp_cli *c, const struct dp_tokenizer_args *o, const char **args, size_t n, struct dp_err *e);

#endif

/* cli/model_input.h - the workspace's model (or a checkpoint file) with its tokenizer, ready to use. */
#ifndef DP_CLI_MODEL_INPUT_H
#define DP_CLI_MODEL_INPUT_H

#include "cli/cli.h"
#include "tokenizer/tokenizer.h"

struct dp_model_input {
    char *model; /* NULL: the workspace's */
};
struct dp_loaded_model {
    struct dp_tokenizer *tokenizer;
    struct dp_trainer *trainer;
};
/* Opens the workspace for reading. DP_NOTFOUND says which stage is missing. */
int dp_model_input_open(struct dp_loaded_model *m, struct dp_cli *c, const struct dp_model_input *in, struct dp_err *e);
void dp_model_input_close(struct dp_loaded_model *m);

#endif

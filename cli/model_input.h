/* cli/model_input.h - the workspace's model (or a checkpoint file) with its tokenizer, ready to use. */
#ifndef DP_CLI_MODEL_INPUT_H
#define DP_CLI_MODEL_INPUT_H

#include "cli/cli.h"
#include "tokenizer/tokenizer.h"
#include "trainer/weights.h"

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

/* The parameters and the vocabulary alone, from files or the workspace. */
struct dp_model_files {
    char *model;     /* a checkpoint, or a Hugging Face folder; NULL: the workspace's model */
    char *tokenizer; /* a file or folder; NULL: the model's folder's, else the workspace's */
};
struct dp_model_parts {
    struct dp_weights weights;
    struct dp_tokenizer *tokenizer;
    char *path; /* of the model */
};
/* The workspace is opened only for what the files don't give. DP_NOTFOUND says what is missing, DP_CONFIG that the vocabulary is larger than the
 * model's. */
int dp_model_parts_open(struct dp_model_parts *m, struct dp_cli *c, const struct dp_model_files *f, struct dp_err *e);
void dp_model_parts_close(struct dp_model_parts *m);
/* Option rows of these files; they stand at the same place in the structs of all commands: T is the struct, F its member. */
#define DP_MODEL_FILES_ROWS(T, F)                                                                                                                          \
    {.name = "model", .type = DP_OPT_STRING, .offset = offsetof(T, F.model), .arg = "PATH", .help = "a checkpoint, or a Hugging Face folder; default: the workspace's model"},  \
    {.name = "checkpoint", .type = DP_OPT_STRING, .offset = offsetof(T, F.model), .arg = "PATH", .help = "the same as --model"},                            \
    {.name = "tokenizer", .letter = 't', .type = DP_OPT_STRING, .offset = offsetof(T, F.tokenizer), .arg = "FILE", .help = "its tokenizer; default: the folder's, or the workspace's"}

#endif

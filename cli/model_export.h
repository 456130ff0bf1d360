/* cli/model_export.h - `dpipe export --format hf|gguf`: a model for other software. */
#ifndef DP_CLI_MODEL_EXPORT_H
#define DP_CLI_MODEL_EXPORT_H

#include "cli/model_input.h"

struct dp_model_export {
    struct dp_model_files in;
    int dtype; /* enum dp_weights_type */
    char *name; /* general.name of GGUF; NULL: the output's */
};
/* A folder that appears whole: for hf as transformers loads it, for gguf with model.gguf; or the file `output` itself where that ends in .gguf. */
int dp_cli_export_model(struct dp_cli *c, const struct dp_model_export *o, bool gguf, const char *output, struct dp_err *e);

#endif

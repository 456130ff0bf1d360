/* cli/baseline.h - tokenizers of others to compare with, by name or path. dpipe ships none. */
#ifndef DP_CLI_BASELINE_H
#define DP_CLI_BASELINE_H

#include "base/err.h"
#include "cli/token_survey.h"

/* Add to s what `list` says: words between commas, each NAME=PATH, a path, or a name that is looked for in $DPIPE_TOKENIZERS, else
 * ~/.cache/dpipe/tokenizers ($XDG_CACHE_HOME for ~/.cache), as NAME.json, NAME.tiktoken or NAME/tokenizer.json, gpt2, cl100k and o200k also under
 * their other names (gpt2.tiktoken, r50k_base.tiktoken, cl100k_base.tiktoken...). DP_NOTFOUND says where it wasn't and where to get it. */
int dp_baselines_add(struct dp_survey *s, const char *list, struct dp_err *e);

#endif

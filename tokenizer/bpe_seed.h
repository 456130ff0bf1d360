/* tokenizer/bpe_seed.h - files of seed tokens (dp_bpe_train_options.seeds), one a line: a JSON string, or `base64:` and the bytes in base64. */
#ifndef DP_TOKENIZER_BPE_SEED_H
#define DP_TOKENIZER_BPE_SEED_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

/* The tokens lie in `mem`. DP_CORRUPT names the line. Empty lines are skipped. */
int dp_bpe_seeds_read(struct dp_span content, const char *name, struct dp_arena *mem, struct dp_span **seeds, size_t *count, struct dp_err *e);

#endif

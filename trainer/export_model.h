/* trainer/export_model.h - a model written for other software.
 *
 * hf: config.json, generation_config.json and model.safetensors, which transformers' AutoModelForCausalLM loads
 * (GPT2LMHeadModel, LlamaForCausalLM, Qwen3ForCausalLM); the tokenizer's files are the caller's. gguf: one file with the tokenizer,
 * which llama.cpp loads. All weights are of the type asked for, except that GGUF keeps vectors and the table of
 * positions in F32, as llama.cpp wants. Equal arguments give equal bytes. muP's factors go into the weights, in *w too
 * (dp_weights_fold_mup).
 *
 * Memory: 16 rows of a matrix at a time. Thread-safety: none shared. */
#ifndef DP_TRAINER_EXPORT_MODEL_H
#define DP_TRAINER_EXPORT_MODEL_H

#include "tokenizer/tokenizer.h"
#include "trainer/weights.h"

/* Into the folder `dir`, which must exist and have none of these files. eot: the end-of-text token; -1: none. */
int dp_export_hf(struct dp_weights *w, enum dp_weights_type type, int64_t eot, const char *dir, struct dp_err *e);
/* A new file, fsynced. DP_CONFIG when GGUF can't say what the tokenizer does, or it isn't the model's. */
int dp_export_gguf(struct dp_weights *w, enum dp_weights_type type, const struct dp_tokenizer *t, const char *name, const char *path,
                   struct dp_err *e);

#endif

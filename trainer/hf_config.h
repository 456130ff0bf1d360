/* trainer/hf_config.h - config.json of a Hugging Face model folder, read and written.
 *
 * Read are model_type gpt2, llama, mistral (a llama by another name when it has no window) and qwen3 (a
 * llama with QK-norm), in the spelling of transformers 4 and 5 (rope_theta and rope_scaling, or
 * rope_parameters). A key that changes the arithmetic and asks for what this program hasn't got is
 * DP_CONFIG, naming key and value; keys that only concern training (dropout, initialisation) or other
 * software are ignored. */
#ifndef DP_TRAINER_HF_CONFIG_H
#define DP_TRAINER_HF_CONFIG_H

#include "base/buf.h"
#include "base/json.h"
#include "trainer/model.h"

/* `name` stands in messages. seq_len becomes the longest context that the config states. */
int dp_hf_config_parse(struct dp_span text, const char *name, struct dp_model_config *c, struct dp_err *e);
/* What transformers needs to build the same model. dtype: "float32", "float16" or "bfloat16"; eot: the
 * end-of-text token, -1: none. DP_CONFIG for a gpt2 that transformers hasn't got (QK-norm, a head_dim). */
int dp_hf_config_write(const struct dp_model_config *c, const char *dtype, int64_t eot, struct dp_buf *out, struct dp_err *e);

#endif

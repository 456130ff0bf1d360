/* trainer/import_hf.h - a Hugging Face model folder, read as a model of ours.
 *
 * Read are config.json and model.safetensors, or the files that model.safetensors.index.json names;
 * F32, F16 and BF16. Architectures: gpt2 (Conv1D weights, [in, out] there, are transposed), llama,
 * also under mistral's name, and qwen3 (a llama with QK-norm). What the config asks for and this program hasn't got (another activation,
 * another RoPE, biases, windows) is DP_CONFIG naming the key; so is a tensor that would be left over.
 * Nothing is guessed and nothing dropped, except buffers that carry no weights (attention masks, RoPE's
 * frequencies) and the head of a tied model, which is its embedding.
 *
 * Memory: the files are mapped; tables of tensors. Thread-safety: reading is pure after open. */
#ifndef DP_TRAINER_IMPORT_HF_H
#define DP_TRAINER_IMPORT_HF_H

#include "trainer/model.h"

struct dp_hf;
/* Opens the folder and checks that every tensor of the model is there, with its shape. DP_NOTFOUND: no
 * config.json or no safetensors in it; DP_CORRUPT names file and tensor; DP_CONFIG: see above. */
int dp_hf_open(struct dp_hf **out, const char *dir, struct dp_err *e);
void dp_hf_close(struct dp_hf *h);
/* seq_len is the longest that the config allows. */
const struct dp_model_config *dp_hf_config(const struct dp_hf *h);
/* Fill p, laid out by `l`, of a model of config `c`: the folder's own, or with a smaller seq_len (gpt2
 * then loses its last positions; RoPE has none). DP_CONFIG when it differs otherwise, DP_CORRUPT for a
 * weight that is no finite number; p may have changed then. */
int dp_hf_load(const struct dp_hf *h, const struct dp_model_config *c, const struct dp_layout *l, float *p,
               struct dp_err *e);
/* SHA-256 over config.json and all weight files, in order of their names: what identifies the weights. */
int dp_hf_digest(const struct dp_hf *h, char hex[65], struct dp_err *e);

#endif

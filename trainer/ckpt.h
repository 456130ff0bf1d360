/* trainer/ckpt.h - checkpoints: one safetensors file with everything that resuming exactly needs.
 *
 * Tensors: the parameters under their own names (so other software loads them), "m.NAME" and "v.NAME" for the moments, F32.
 * Metadata: format, arch and sizes, step, seed, crc32c of the data, and the caller's own keys (the feed's sample number, manifest hash).
 * A checkpoint is written to a path that doesn't exist yet and fsynced; the caller renames it. So a torn one is never published;
 * a damaged one is found by its size and checksum. Thread-safety: none shared. */
#ifndef DP_TRAINER_CKPT_H
#define DP_TRAINER_CKPT_H

#include "trainer/model.h"
#include "trainer/safetensors.h"

struct dp_ckpt_state {
    const struct dp_model_config *config;
    const struct dp_layout *layout;
    float *p, *m, *v; /* layout->floats each; m and v may be NULL when loading */
    int64_t step;     /* updates done */
    uint64_t seed;
};
enum { DP_CKPT_EXTRA_MAX = 32 };
/* At most DP_CKPT_EXTRA_MAX extra keys, none of them a key of the format. */
int dp_ckpt_write(const char *path, const struct dp_ckpt_state *s, const struct dp_safetensors_kv *extra, size_t extra_count,
                  struct dp_err *e);

struct dp_ckpt;
/* Opens, checks format and checksum, reads config, step and seed. */
int dp_ckpt_open(struct dp_ckpt **out, const char *path, struct dp_err *e);
void dp_ckpt_close(struct dp_ckpt *c);
const struct dp_model_config *dp_ckpt_config(const struct dp_ckpt *c);
int64_t dp_ckpt_step(const struct dp_ckpt *c);
uint64_t dp_ckpt_seed(const struct dp_ckpt *c);
struct dp_span dp_ckpt_meta(const struct dp_ckpt *c, const char *key); /* ptr NULL: none */
/* Fill s->p (and m, v, step, seed) of a model of s->config; DP_CONFIG when the checkpoint's differs. Nothing is changed on failure. */
int dp_ckpt_load(const struct dp_ckpt *c, struct dp_ckpt_state *s, struct dp_err *e);

#endif

/* trainer/weights.h - a model's parameters from whatever has them: one of our checkpoints, or a Hugging
 * Face folder (trainer/import_hf.h).
 *
 * Memory: 4 bytes a parameter. Thread-safety: none shared; reading is pure after open. */
#ifndef DP_TRAINER_WEIGHTS_H
#define DP_TRAINER_WEIGHTS_H

#include "trainer/model.h"

struct dp_weights {
    struct dp_model_config c;
    struct dp_layout layout;
    float *p; /* layout.floats */
};
/* `path`: a checkpoint file, or a folder. */
int dp_weights_open(struct dp_weights *w, const char *path, struct dp_err *e);
void dp_weights_close(struct dp_weights *w);

#endif

#include "cli/model_input.h"

#include <stdlib.h>

int dp_model_input_open(struct dp_loaded_model *m, struct dp_cli *c, const struct dp_model_input *in, struct dp_err *e)
{
    *m = (struct dp_loaded_model){NULL, NULL};
    DP_TRY(dp_cli_road(c, false, e));
    int done = dp_road_survey(&c->road, e);
    if (done < 0) return done;
    if (done <= DP_STEP_TRAIN - (in->model != NULL)) DP_FAIL(e, NOTFOUND, "no model yet: make it with `dpipe run`");
    char *tok = dp_road_path(&c->road, "train-bpe", c->road.bpe.hex, "tokenizer", 0, e);
    char *model = in->model ? strdup(in->model) : dp_road_path(&c->road, "train", c->road.train.hex, "model", 0, e);
    int rc = tok && model ? dp_tokenizer_load_file(&m->tokenizer, tok, NULL, e) : DP_NOTFOUND;
    if (rc >= 0) rc = dp_trainer_open(&m->trainer, &c->options.train, dp_tokenizer_size(m->tokenizer), c->road.pool, e);
    if (rc >= 0) rc = dp_trainer_load(m->trainer, model, e);
    free(tok);
    free(model);
    if (rc < 0) dp_model_input_close(m);
    return rc;
}

void dp_model_input_close(struct dp_loaded_model *m)
{
    dp_trainer_close(m->trainer);
    dp_tokenizer_free(m->tokenizer);
    *m = (struct dp_loaded_model){NULL, NULL};
}

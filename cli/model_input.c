#include "cli/model_input.h"

#include "base/fs.h"

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

/* What isn't given, from the workspace. */
static int from_workspace(struct dp_cli *c, char **model, char **tokenizer, struct dp_err *e)
{
    DP_TRY(dp_cli_road(c, false, e));
    int done = dp_road_survey(&c->road, e);
    if (done < 0) return done;
    if (!*model && done <= DP_STEP_TRAIN) DP_FAIL(e, NOTFOUND, "no model yet: make it with `dpipe run`, or name one with --model");
    if (!*tokenizer && done <= DP_STEP_TRAIN_BPE) DP_FAIL(e, NOTFOUND, "no tokenizer yet: name the model's with --tokenizer");
    if (!*model && !(*model = dp_road_path(&c->road, "train", c->road.train.hex, "model", 0, e))) return DP_NOTFOUND;
    if (!*tokenizer && !(*tokenizer = dp_road_path(&c->road, "train-bpe", c->road.bpe.hex, "tokenizer", 0, e))) return DP_NOTFOUND;
    return DP_OK;
}

static int load_parts(struct dp_model_parts *m, const char *tokenizer, struct dp_err *e)
{
    DP_TRY(dp_tokenizer_load_file(&m->tokenizer, tokenizer, NULL, e));
    DP_TRY(dp_weights_open(&m->weights, m->path, e));
    if (dp_tokenizer_size(m->tokenizer) > m->weights.c.vocab)
        DP_FAIL(e, CONFIG, "%s has %u tokens, the model %s only %lld: it isn't the tokenizer that the model was trained with", tokenizer,
                dp_tokenizer_size(m->tokenizer), m->path, (long long)m->weights.c.vocab);
    return DP_OK;
}

int dp_model_parts_open(struct dp_model_parts *m, struct dp_cli *c, const struct dp_model_files *f, struct dp_err *e)
{
    *m = (struct dp_model_parts){0};
    char *tokenizer = f->tokenizer ? strdup(f->tokenizer) : f->model && dp_fs_is_folder(f->model) ? strdup(f->model) : NULL;
    m->path = f->model ? strdup(f->model) : NULL;
    int rc = m->path && tokenizer ? DP_OK : from_workspace(c, &m->path, &tokenizer, e);
    if (rc >= 0) rc = load_parts(m, tokenizer, e);
    free(tokenizer);
    if (rc < 0) dp_model_parts_close(m);
    return rc;
}

void dp_model_parts_close(struct dp_model_parts *m)
{
    dp_weights_close(&m->weights);
    dp_tokenizer_free(m->tokenizer);
    free(m->path);
    *m = (struct dp_model_parts){0};
}

#include "trainer/weights.h"

#include "trainer/ckpt.h"
#include "trainer/import_hf.h"

#include <stdlib.h>
#include <sys/stat.h>

static int reserve(struct dp_weights *w, const struct dp_model_config *c, const char *path, struct dp_err *e)
{
    w->c = *c;
    DP_TRY(dp_layout_init(&w->layout, c, e));
    w->p = dp_floats_alloc(w->layout.floats);
    if (!w->p) DP_FAIL(e, NOMEM, "%s: %llu parameters", path, (unsigned long long)w->layout.total);
    return DP_OK;
}

static int from_folder(struct dp_weights *w, const char *path, struct dp_err *e)
{
    struct dp_hf *h;
    DP_TRY(dp_hf_open(&h, path, e));
    int rc = reserve(w, dp_hf_config(h), path, e);
    if (rc >= 0) rc = dp_hf_load(h, &w->c, &w->layout, w->p, e);
    dp_hf_close(h);
    return rc;
}

static int from_checkpoint(struct dp_weights *w, const char *path, struct dp_err *e)
{
    struct dp_ckpt *k;
    DP_TRY(dp_ckpt_open(&k, path, e));
    int rc = reserve(w, dp_ckpt_config(k), path, e);
    struct dp_ckpt_state s = {.config = &w->c, .layout = &w->layout, .p = w->p};
    if (rc >= 0) rc = dp_ckpt_load(k, &s, e);
    dp_ckpt_close(k);
    return rc;
}

int dp_weights_open(struct dp_weights *w, const char *path, struct dp_err *e)
{
    struct stat st;
    *w = (struct dp_weights){0};
    int rc = stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? from_folder(w, path, e) : from_checkpoint(w, path, e);
    if (rc < 0) dp_weights_close(w);
    return rc;
}

void dp_weights_close(struct dp_weights *w)
{
    dp_layout_release(&w->layout);
    free(w->p);
    *w = (struct dp_weights){0};
}

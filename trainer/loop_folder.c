/* What a checkpoint of a run in a folder says beside the trainer's state, and resuming by it. A kill may come between a checkpoint and its second name,
 * best.safetensors: so the checkpoint says that it is the best, and a resumed run names it again. */
#include "trainer/loop.h"

#include "trainer/ckpt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct extras {
    struct dp_buf data, options;
    char best[40];
    struct dp_safetensors_kv kv[4];
};

static int gather(struct extras *x, const struct dp_loop *l, struct dp_err *e)
{
    dp_buf_init(&x->data, 4096);
    dp_buf_init(&x->options, 1 << 16);
    DP_TRY(dp_source_state(l->train, l->next_row, &x->data, e));
    dp_opt_canonical(dp_train_opts, l->o, &x->options);
    dp_buf_add_char(&x->data, 0);
    dp_buf_add_char(&x->options, 0);
    DP_TRY(dp_buf_check(&x->data, "state of the data", e));
    DP_TRY(dp_buf_check(&x->options, "options", e));
    snprintf(x->best, sizeof x->best, "%a", l->best_val);
    bool is_best = !isnan(l->best_val) && l->val_loss == l->best_val;
    x->kv[0] = (struct dp_safetensors_kv){"data", x->data.ptr};
    x->kv[1] = (struct dp_safetensors_kv){"train", x->options.ptr};
    x->kv[2] = (struct dp_safetensors_kv){"best_val_loss", x->best};
    x->kv[3] = (struct dp_safetensors_kv){"is_best", is_best ? "true" : "false"};
    return DP_OK;
}

static void extras_release(struct extras *x)
{
    dp_buf_release(&x->data);
    dp_buf_release(&x->options);
}

/* name NULL: a checkpoint. */
static int save(struct dp_loop_folder *f, const char *name, struct dp_err *e)
{
    struct extras x = {0};
    struct dp_loop *l = f->loop;
    int rc = gather(&x, l, e);
    if (rc >= 0 && name) rc = dp_run_folder_name(f->folder, l->trainer, name, x.kv, 4, e);
    else if (rc >= 0) rc = dp_run_folder_save(f->folder, l->trainer, x.kv, 4, l->o->ckpt_keep, e);
    extras_release(&x);
    return rc;
}

int dp_loop_folder_save(struct dp_loop_folder *f, bool best, struct dp_err *e)
{
    return save(f, best ? "best" : NULL, e);
}

int dp_loop_folder_finish(struct dp_loop_folder *f, struct dp_err *e)
{
    return save(f, "model", e);
}

static bool has_line(struct dp_span text, struct dp_span line)
{
    for (size_t at = 0; at < text.len;) {
        const char *nl = memchr(text.ptr + at, '\n', text.len - at);
        size_t n = nl ? (size_t)(nl - text.ptr) - at : text.len - at;
        if (n == line.len && memcmp(text.ptr + at, line.ptr, n) == 0) return true;
        at += n + 1;
    }
    return false;
}

/* Lines of `a` that `b` doesn't have. */
static void differences(struct dp_span a, struct dp_span b, const char *what, struct dp_buf *out)
{
    for (size_t at = 0; at < a.len;) {
        const char *nl = memchr(a.ptr + at, '\n', a.len - at);
        struct dp_span line = dp_span(a.ptr + at, nl ? (size_t)(nl - a.ptr) - at : a.len - at);
        if (line.len && !has_line(b, line)) dp_buf_printf(out, "%s%s %.*s", out->len ? ", " : "", what, (int)line.len, line.ptr);
        at += line.len + 1;
    }
}

static int read_extras(struct dp_loop_folder *f, const struct dp_ckpt *c, struct dp_source *train, struct dp_buf *changed, bool *is_best, struct dp_err *e)
{
    struct dp_loop *l = f->loop;
    struct dp_buf now;
    struct dp_span best = dp_ckpt_meta(c, "best_val_loss"), before = dp_ckpt_meta(c, "train"), flag = dp_ckpt_meta(c, "is_best");
    char number[40];
    DP_TRY(dp_source_resume(train, dp_ckpt_meta(c, "data"), &l->next_row, e));
    if (best.ptr && best.len < sizeof number) {
        snprintf(number, sizeof number, "%.*s", (int)best.len, best.ptr);
        l->best_val = strtod(number, NULL);
    }
    *is_best = flag.ptr && dp_span_is(flag, "true");
    dp_buf_init(&now, 1 << 16);
    dp_opt_canonical(dp_train_opts, l->o, &now);
    if (before.ptr) {
        differences(before, dp_buf_span(&now), "before:", changed);
        differences(dp_buf_span(&now), before, "now:", changed);
    }
    dp_buf_release(&now);
    return DP_OK;
}

int dp_loop_folder_resume(struct dp_loop_folder *f, struct dp_source *train, struct dp_buf *changed, struct dp_err *e)
{
    struct dp_loop *l = f->loop;
    struct dp_ckpt *c = NULL;
    bool is_best = false;
    int64_t step;
    const char *path = dp_run_folder_newest(f->folder, &step, e);
    if (!path) return DP_EMPTY;
    int rc = dp_trainer_load(l->trainer, path, e);
    if (rc >= 0) rc = dp_ckpt_open(&c, path, e);
    if (rc >= 0) {
        rc = read_extras(f, c, train, changed, &is_best, e);
        if (rc < 0) dp_err_prefix(e, "%s: cannot go on from it", path);
        if (rc == DP_CONFIG) dp_err_prefix(e, "another --out is needed, or the data of before");
    }
    if (rc < 0) dp_run_folder_advise(f->folder, path, e);
    dp_ckpt_close(c);
    if (rc >= 0 && is_best) { /* of this step there is a checkpoint, so nothing is written */
        l->val_loss = l->best_val;
        rc = dp_loop_folder_save(f, true, e);
    }
    return rc;
}

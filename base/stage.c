#include "base/stage.h"

#include <stdlib.h>

bool dp_stage_enabled(const struct dp_stage_type *t, const void *ctx)
{
    const struct dp_opt *o = t->opts ? dp_opt_find(t->opts, dp_span_str("enabled")) : NULL;
    return !o || o->type != DP_OPT_BOOL || *(const bool *)((const char *)ctx + o->offset);
}

static void **shared_of(const struct dp_stage_type *t, void *worker)
{
    return (void **)((char *)worker + t->shared_at);
}

/* The scratch goes to the first stage of its type, and from there to the others. */
static int share(const struct dp_stage_type *const *t, size_t k, void **worker, struct dp_err *e)
{
    if (!t[k]->shared) return DP_OK;
    size_t first = 0;
    while (t[first]->shared != t[k]->shared) first++;
    void **to = shared_of(t[k], worker[k]);
    *to = first < k ? *shared_of(t[first], worker[first]) : calloc(1, t[k]->shared->size);
    if (!*to) DP_FAIL(e, NOMEM, "stage %s: shared scratch", t[k]->name);
    return DP_OK;
}

int dp_stage_workers_open(const struct dp_stage_type *const *t, void *const *ctx, size_t n, void **worker, struct dp_err *e)
{
    int rc = DP_OK;
    for (size_t k = 0; k < n; k++) worker[k] = NULL;
    for (size_t k = 0; k < n && rc == DP_OK; k++) {
        worker[k] = calloc(1, t[k]->worker_size ? t[k]->worker_size : 1);
        if (!worker[k]) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "stage %s: worker", t[k]->name);
        else if ((rc = share(t, k, worker, e)) == DP_OK && t[k]->worker_open) rc = t[k]->worker_open(ctx[k], worker[k], e);
    }
    if (rc < 0) dp_stage_workers_close(t, ctx, n, worker);
    return rc;
}

void dp_stage_workers_close(const struct dp_stage_type *const *t, void *const *ctx, size_t n, void **worker)
{
    for (size_t k = 0; k < n; k++)
        if (worker[k] && t[k]->worker_close) t[k]->worker_close(ctx[k], worker[k]);
    for (size_t k = 0; k < n; k++) {
        if (!worker[k] || !t[k]->shared) continue;
        size_t first = 0;
        while (t[first]->shared != t[k]->shared) first++;
        void *s = *shared_of(t[k], worker[k]);
        if (first < k || !s) continue;
        if (t[k]->shared->close) t[k]->shared->close(s);
        free(s);
    }
    for (size_t k = 0; k < n; k++) {
        free(worker[k]);
        worker[k] = NULL;
    }
}

void dp_stage_next_row(const struct dp_stage_type *t, void *worker)
{
    if (t->shared && t->shared->row) t->shared->row(*shared_of(t, worker));
}

int dp_stage_run(const struct dp_stage_type *t, const void *ctx, void *worker, struct dp_batch *b, struct dp_err *e)
{
    if (!dp_stage_enabled(t, ctx)) return DP_OK;
    if (t->run) return t->run(ctx, worker, b, e);
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->drop[i] != DP_DROP_KEEP) continue;
        dp_stage_next_row(t, worker);
        DP_TRY(dp_stage_row(t, ctx, worker, b, i, e));
    }
    return DP_OK;
}

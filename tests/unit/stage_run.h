/* One document through one stage with options "name=value". */
#ifndef DP_TESTS_STAGE_RUN_H
#define DP_TESTS_STAGE_RUN_H

#include "clean/stages.h"
#include "tests/test.h"

struct stage_run {
    const struct dp_stage_type *type;
    void *ctx, *worker;
};
__attribute__((unused)) static struct stage_run stage_open(const struct dp_stage_type *t, const char *const *set)
{
    struct dp_err err;
    struct stage_run r = {t, calloc(1, t->ctx_size), NULL};
    if (!r.ctx || dp_opt_defaults(t->opts, r.ctx, &err) < 0) abort();
    for (; set && *set; set += 2) {
        const struct dp_opt *o = dp_opt_find(t->opts, dp_span_str(set[0]));
        if (!o || dp_opt_set(o, r.ctx, dp_span_str(set[1]), set[0], &err) < 0) abort();
    }
    if (dp_stage_workers_open(&t, &r.ctx, 1, &r.worker, &err) < 0) abort();
    return r;
}
__attribute__((unused)) static void stage_close(struct stage_run *r)
{
    dp_stage_workers_close(&r->type, &r->ctx, 1, &r->worker);
    dp_opt_release(r->type->opts, r->ctx);
    free(r->ctx);
}
__attribute__((unused)) static void stage_go(const struct stage_run *r, struct dp_batch *b)
{
    struct dp_err err;
    CHECK_OK(dp_stage_run(r->type, r->ctx, r->worker, b, &err));
}
__attribute__((unused)) static void batch_one(struct dp_batch *b, struct dp_span text)
{
    struct dp_err err;
    if (!b->cap && dp_batch_init(b, 4, (size_t)1 << 28, &err) < 0) abort();
    dp_batch_reset(b);
    dp_batch_add(b);
    b->text[0] = text;
}

#endif

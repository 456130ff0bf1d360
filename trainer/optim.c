/* Tiles of at most 32k floats never cross a tensor, so each has one decay. The bias corrections are computed in double and rounded
 * once; the update itself is in tensor_template.inc. */
#include "trainer/optim.h"

#include <math.h>
#include <stdlib.h>

enum { TILE = 32768 };

struct job {
    struct dp_optim *o;
    struct dp_adamw decay, plain;
    const struct dp_tensor_level *ops;
    const float *g;
    float *p;
};

int dp_optim_open(struct dp_optim *o, const struct dp_layout *l, struct dp_err *e)
{
    *o = (struct dp_optim){0};
    size_t tiles = 0;
    for (size_t i = 0; i < l->count; i++) tiles += (size_t)((dp_param_count(&l->params[i]) + TILE - 1) / TILE);
    o->m = dp_floats_alloc(l->floats);
    o->v = dp_floats_alloc(l->floats);
    o->tiles = calloc(tiles, sizeof *o->tiles);
    o->sums = calloc(tiles, sizeof *o->sums);
    if (!o->m || !o->v || !o->tiles || !o->sums) {
        dp_optim_close(o);
        DP_FAIL(e, NOMEM, "optimiser state of %llu parameters needs %llu MiB", (unsigned long long)l->total,
                (unsigned long long)(l->floats * 2 * sizeof(float) >> 20));
    }
    for (size_t i = 0; i < l->count; i++) {
        const struct dp_param *p = &l->params[i];
        uint64_t n = dp_param_count(p);
        for (uint64_t at = 0; at < n; at += TILE)
            o->tiles[o->count++] = (struct dp_optim_tile){p->offset + at, (int64_t)(n - at < TILE ? n - at : TILE), p->cols != 0};
    }
    return DP_OK;
}

void dp_optim_close(struct dp_optim *o)
{
    free(o->m);
    free(o->v);
    free(o->tiles);
    free(o->sums);
    *o = (struct dp_optim){0};
}

static void norm_task(void *ctx, size_t i, int worker)
{
    (void)worker;
    struct job *j = ctx;
    j->o->sums[i] = dp_tensor_sum_squares(j->o->tiles[i].n, j->g + j->o->tiles[i].offset);
}

double dp_optim_norm(struct dp_optim *o, struct dp_pool *pool, const float *g)
{
    struct job j = {.o = o, .g = g};
    dp_pool_run(pool, o->count, norm_task, &j);
    double sum = 0;
    for (size_t i = 0; i < o->count; i++) sum += o->sums[i];
    return sqrt(sum);
}

static void step_task(void *ctx, size_t i, int worker)
{
    (void)worker;
    struct job *j = ctx;
    const struct dp_optim_tile *t = &j->o->tiles[i];
    j->ops->adamw(t->n, t->decay ? &j->decay : &j->plain, j->g + t->offset, j->p + t->offset, j->o->m + t->offset, j->o->v + t->offset);
}

void dp_optim_step(struct dp_optim *o, struct dp_pool *pool, const struct dp_optim_rates *r, int64_t step, double norm,
                   const float *g, float *p)
{
    DP_ASSERT(step >= 1);
    double scale = r->clip > 0 ? r->clip / (norm + 1e-6) : 1;
    struct dp_adamw w = {
        .keep2 = (float)r->beta2, .mix1 = (float)(1 - r->beta1), .mix2 = (float)(1 - r->beta2), .eps = (float)r->eps, .decay = 1,
        .grad_scale = (float)(scale < 1 ? scale : 1),
        .rate = (float)(r->lr / (1 - pow(r->beta1, (double)step))),
        .root = (float)(1 / sqrt(1 - pow(r->beta2, (double)step))),
    };
    struct job j = {.o = o, .decay = w, .plain = w, .ops = dp_tensor_level(), .g = g, .p = p};
    j.decay.decay = (float)(1 - r->lr * r->weight_decay);
    dp_pool_run(pool, o->count, step_task, &j);
}

double dp_schedule(double lr, double min_lr, int64_t warmup, int64_t steps, int64_t step)
{
    if (step < warmup) return lr * (double)(step + 1) / (double)warmup;
    if (step >= steps || steps <= warmup) return min_lr;
    double x = (double)(step - warmup) / (double)(steps - warmup);
    return min_lr + 0.5 * (lr - min_lr) * (1 + cos(x * 3.14159265358979323846));
}

/* Tiles of at most 32k floats never cross a tensor, so each has one decay and one factor. The bias
 * corrections are computed in double and rounded once; the update itself is in tensor_template.inc.
 * Muon's matrices go one after the other, each spread over the pool. */
#include "trainer/optim.h"

#include "trainer/muon.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 32768 };

struct job {
    struct dp_optim *o;
    const struct dp_optim_rates *r;
    struct dp_adamw w; /* without rate and decay, which a tile's factor enters */
    double fix1;       /* 1 - beta1^t */
    const struct dp_tensor_level *ops;
    const float *g;
    float *p;
};

/* An embedding or the head: a matrix, but no hidden one. */
static bool outside(const struct dp_layout *l, const struct dp_param *p)
{
    return p->offset == l->wte || p->offset == l->wpe || p->offset == l->head;
}

static bool decays(const struct dp_layout *l, const struct dp_param *p, int decay)
{
    if (decay == DP_DECAY_ALL) return true;
    return p->cols && (decay != DP_DECAY_HIDDEN || !outside(l, p));
}

static void add_param(struct dp_optim *o, const struct dp_layout *l, const struct dp_param *p,
                      const struct dp_optim_options *how)
{
    uint64_t n = dp_param_count(p);
    bool decay = decays(l, p, how->decay);
    bool muon = how->kind == DP_MUON && p->cols && !outside(l, p);
    for (uint64_t at = 0; at < n; at += TILE)
        o->tiles[o->count++] = (struct dp_optim_tile){
            p->offset + at, (int64_t)(n - at < TILE ? n - at : TILE), decay, muon, p->rate, false};
    if (muon)
        o->matrices[o->matrix_count++] =
            (struct dp_optim_matrix){p->offset, p->rows, p->cols, decay, 1, false};
}

void dp_optim_scale(struct dp_optim *o, const struct dp_layout *l, size_t param, double x)
{
    const struct dp_param *p = &l->params[param];
    for (size_t i = 0; i < o->count; i++)
        if (o->tiles[i].offset >= p->offset && o->tiles[i].offset < p->offset + dp_param_count(p))
            o->tiles[i].scale *= x;
    for (size_t i = 0; i < o->matrix_count; i++)
        if (o->matrices[i].offset == p->offset) o->matrices[i].scale *= x;
}

/* "PART=X,..." */
static int scale_by_name(struct dp_optim *o, const struct dp_layout *l, const char *text,
                         struct dp_err *e)
{
    for (const char *s = text; s && *s;) {
        size_t n = strcspn(s, ",");
        const char *eq = memchr(s, '=', n);
        char *end = NULL;
        double x = eq ? strtod(eq + 1, &end) : 0;
        if (!eq || eq == s || end != s + n || !(x >= 0) || !isfinite(x))
            DP_FAIL(e, CONFIG, "lr_scale \"%.*s\": say PART=X, part of a tensor's name and a factor",
                    (int)n, s);
        size_t hits = 0;
        for (size_t i = 0; i < l->count; i++) {
            if (!memmem(l->params[i].name, strlen(l->params[i].name), s, (size_t)(eq - s))) continue;
            dp_optim_scale(o, l, i, x);
            hits++;
        }
        if (!hits)
            DP_FAIL(e, CONFIG, "lr_scale: no tensor has \"%.*s\" in its name; the first is %s",
                    (int)(eq - s), s, l->params[0].name);
        s += n + (s[n] == ',');
    }
    return DP_OK;
}

static int open_muon(struct dp_optim *o, const struct dp_optim_options *how, struct dp_err *e)
{
    int64_t most = 0, side = 0;
    for (size_t i = 0; i < o->matrix_count; i++) {
        int64_t r = o->matrices[i].rows, c = o->matrices[i].cols, s = r < c ? r : c;
        if (r * c > most) most = r * c;
        if (s > side) side = s;
    }
    o->nesterov = how->nesterov;
    o->muon_rms = how->muon_rms;
    o->muon_momentum = how->muon_momentum;
    return most ? dp_muon_open(&o->muon, most, side, e) : DP_OK;
}

int dp_optim_open_with(struct dp_optim *o, const struct dp_layout *l,
                       const struct dp_optim_options *how, struct dp_err *e)
{
    *o = (struct dp_optim){0};
    size_t tiles = 0;
    for (size_t i = 0; i < l->count; i++)
        tiles += (size_t)((dp_param_count(&l->params[i]) + TILE - 1) / TILE);
    o->m = dp_floats_alloc(l->floats);
    o->v = dp_floats_alloc(l->floats);
    o->tiles = calloc(tiles, sizeof *o->tiles);
    o->sums = calloc(tiles, sizeof *o->sums);
    o->matrices = calloc(l->count, sizeof *o->matrices);
    if (!o->m || !o->v || !o->tiles || !o->sums || !o->matrices) {
        dp_optim_close(o);
        DP_FAIL(e, NOMEM, "optimiser state of %llu parameters needs %llu MiB",
                (unsigned long long)l->total,
                (unsigned long long)(l->floats * 2 * sizeof(float) >> 20));
    }
    for (size_t i = 0; i < l->count; i++) add_param(o, l, &l->params[i], how);
    int rc = scale_by_name(o, l, how->lr_scale, e);
    if (rc >= 0) rc = open_muon(o, how, e);
    if (rc < 0) dp_optim_close(o);
    return rc;
}

int dp_optim_open(struct dp_optim *o, const struct dp_layout *l, struct dp_err *e)
{
    return dp_optim_open_with(o, l, &(struct dp_optim_options){.kind = DP_ADAMW}, e);
}

void dp_optim_close(struct dp_optim *o)
{
    dp_muon_close(o->muon);
    free(o->m);
    free(o->v);
    free(o->tiles);
    free(o->sums);
    free(o->matrices);
    *o = (struct dp_optim){0};
}

static void norm_task(void *ctx, size_t i, int worker)
{
    (void)worker;
    struct job *j = ctx;
    const struct dp_optim_tile *t = &j->o->tiles[i];
    j->o->sums[i] = t->other ? 0 : dp_tensor_sum_squares(t->n, j->g + t->offset);
}

void dp_optim_squares(struct dp_optim *o, struct dp_pool *pool, const float *g)
{
    struct job j = {.o = o, .g = g};
    dp_pool_run(pool, o->count, norm_task, &j);
}

double dp_optim_squares_norm(const struct dp_optim *o)
{
    double sum = 0;
    for (size_t i = 0; i < o->count; i++) sum += o->sums[i];
    return sqrt(sum);
}

double dp_optim_norm(struct dp_optim *o, struct dp_pool *pool, const float *g)
{
    dp_optim_squares(o, pool, g);
    return dp_optim_squares_norm(o);
}

static void step_task(void *ctx, size_t i, int worker)
{
    (void)worker;
    struct job *j = ctx;
    const struct dp_optim_tile *t = &j->o->tiles[i];
    if (t->muon || t->other) return;
    struct dp_adamw w = j->w;
    double lr = j->r->lr * t->scale;
    w.rate = (float)(lr / j->fix1);
    w.decay = t->decay ? (float)(1 - lr * j->r->weight_decay) : 1;
    j->ops->adamw(t->n, &w, j->g + t->offset, j->p + t->offset, j->o->m + t->offset,
                  j->o->v + t->offset);
}

void dp_optim_step(struct dp_optim *o, struct dp_pool *pool, const struct dp_optim_rates *r,
                   int64_t step, double norm, const float *g, float *p)
{
    DP_ASSERT(step >= 1);
    double scale = r->clip > 0 ? r->clip / (norm + 1e-6) : 1;
    struct job j = {.o = o, .r = r, .ops = dp_tensor_level(), .g = g, .p = p};
    j.fix1 = 1 - pow(r->beta1, (double)step);
    j.w = (struct dp_adamw){
        .keep2 = (float)r->beta2,
        .mix1 = (float)(1 - r->beta1),
        .mix2 = (float)(1 - r->beta2),
        .eps = (float)r->eps,
        .grad_scale = (float)(scale < 1 ? scale : 1),
        .root = (float)(1 / sqrt(1 - pow(r->beta2, (double)step))),
    };
    dp_pool_run(pool, o->count, step_task, &j);
    for (size_t i = 0; i < o->matrix_count; i++) {
        const struct dp_optim_matrix *x = &o->matrices[i];
        if (x->other) continue;
        struct dp_muon_rates mr = {r->muon_lr * x->scale, x->decay ? r->weight_decay : 0,
                                   o->muon_momentum,      j.w.grad_scale,
                                   o->nesterov,           o->muon_rms};
        dp_muon_step(o->muon, pool, &mr, x->rows, x->cols, g + x->offset, p + x->offset,
                     o->m + x->offset);
    }
}

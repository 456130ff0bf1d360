#include "trainer/run_plan.h"

#include "base/clock.h"
#include "base/hash.h"
#include "trainer/optim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double step_seconds_max = 1.5, assumed_mfu = 0.5, tokens_a_param = 20;

uint64_t dp_plan_memory_free(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1) break;
    if (f) fclose(f);
    return kib << 10;
}

/* Seconds of the fastest of a few updates of this model on random tokens. */
static int time_steps(const struct dp_train_options *o, int64_t vocab, struct dp_pool *pool, double *seconds, struct dp_err *e)
{
    struct dp_trainer *t;
    struct dp_step_result r;
    int64_t n = o->batch * o->accum * (o->seq_len + 1);
    uint64_t state = 1;
    DP_TRY(dp_trainer_open(&t, o, vocab, pool, e));
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    int rc = ids ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "random tokens");
    for (int64_t i = 0; ids && i < n; i++) ids[i] = (int32_t)(dp_splitmix64(&state) % (uint64_t)vocab);
    double began = dp_now();
    *seconds = INFINITY;
    for (int i = 0; rc >= 0 && i < 6 && (i < 2 || dp_now() - began < 1.5); i++) { /* the first touches the memory */
        double at = dp_now();
        rc = dp_trainer_step(t, ids, &r, e);
        if (i > 0) *seconds = fmin(*seconds, dp_now() - at);
    }
    free(ids);
    dp_trainer_close(t);
    return rc;
}

/* Of a few layers, one sequence and one pass: the same widths, so about the same rate. */
static struct dp_train_options smaller(const struct dp_train_options *o, const struct dp_plan *p)
{
    struct dp_train_options s = *o;
    double one = p->flops_token * (double)o->seq_len / (assumed_mfu * p->peak);
    s.accum = s.batch = 1;
    s.layers = (int64_t)fmax(1, floor(fmin(1, step_seconds_max / one) * (double)o->layers));
    if (s.layers > o->layers) s.layers = o->layers;
    return s;
}

static int measure_rate(struct dp_plan *p, const struct dp_train_options *o, int64_t vocab, struct dp_pool *pool, struct dp_err *e)
{
    struct dp_train_options once = *o;
    once.accum = 1;
    once.lr = once.min_lr = once.muon_lr = 0; /* random tokens teach nothing and must not diverge */
    once.spike = 0;
    once.warmup = 0;
    double flops = p->flops_step / (double)o->accum, seconds;
    bool fits = !p->memory_free || p->memory < p->memory_free / 10 * 9;
    if (flops / (assumed_mfu * p->peak) > step_seconds_max || !fits) {
        once = smaller(&once, p);
        struct dp_plan part;
        DP_TRY(dp_plan_make(&part, &once, vocab, pool, p->peak, false, e));
        if (part.flops_step / (assumed_mfu * p->peak) > 4 * step_seconds_max || (p->memory_free && part.memory > p->memory_free / 10 * 9)) return DP_OK;
        flops = part.flops_step;
        p->by = DP_PLAN_SMALLER;
    } else p->by = DP_PLAN_MEASURED;
    DP_TRY(time_steps(&once, vocab, pool, &seconds, e));
    p->mfu = flops / seconds / p->peak;
    return DP_OK;
}

static int sizes(struct dp_plan *p, const struct dp_train_options *o, struct dp_pool *pool, struct dp_err *e)
{
    struct dp_layout l;
    DP_TRY(dp_layout_init(&l, &p->config, e));
    p->params = l.total;
    for (size_t i = 0; i < l.count; i++)
        if (l.params[i].offset == l.wte || l.params[i].offset == l.wpe || l.params[i].offset == l.head) p->params_embedding += dp_param_count(&l.params[i]);
    p->weights = p->gradients = l.floats * sizeof(float);
    p->moments = 2 * p->weights;
    p->checkpoint = l.total * 12;
    dp_layout_release(&l);
    p->activations = dp_model_arena_bytes(&p->config, o->batch, true, pool);
    p->buffers = (uint64_t)2 * DP_GEMM_PACK * sizeof(float) + (uint64_t)(o->batch * o->accum * (o->seq_len + 1) + 2 * o->batch * o->seq_len) * sizeof(int32_t);
    p->memory = p->weights + p->gradients + p->moments + p->activations + p->buffers;
    return DP_OK;
}

int dp_plan_make(struct dp_plan *p, const struct dp_train_options *o, int64_t vocab, struct dp_pool *pool, double peak, bool measure, struct dp_err *e)
{
    *p = (struct dp_plan){.config = dp_train_config(o, vocab), .peak = peak, .mfu = assumed_mfu, .by = DP_PLAN_ASSUMED};
    DP_TRY(dp_train_check(o, e));
    DP_TRY(sizes(p, o, pool, e));
    p->memory_free = dp_plan_memory_free();
    p->tokens_step = (double)o->batch * (double)o->accum * (double)o->seq_len;
    p->tokens = p->tokens_step * (double)o->steps;
    p->flops_token = dp_model_flops(&p->config);
    p->flops_step = p->flops_token * p->tokens_step;
    p->flops = p->flops_step * (double)o->steps;
    if (measure) DP_TRY(measure_rate(p, o, vocab, pool, e));
    p->step_seconds = p->flops_step / (p->mfu * p->peak);
    p->tokens_per_s = p->tokens_step / p->step_seconds;
    double evals = o->eval_every ? floor((double)o->steps / (double)o->eval_every) + 1 : 0;
    p->seconds = p->step_seconds * (double)o->steps + evals * (double)(o->eval_batches * o->batch * o->seq_len) / p->tokens_per_s / 3; /* forward only */
    p->chinchilla_tokens = tokens_a_param * (double)p->params;
    p->chinchilla_steps = ceil(p->chinchilla_tokens / p->tokens_step);
    p->chinchilla_params = p->tokens / tokens_a_param;
    p->optimal_params = sqrt(p->flops / (6 * tokens_a_param));
    p->optimal_tokens = tokens_a_param * p->optimal_params;
    return DP_OK;
}

/* bench trainer: a whole training step of GPT-2 - forward, backward, clipping, AdamW - by its parts.
 *
 * The first step warms up and isn't counted. MFU is of dp_trainer_flops, which counts what the model needs once (nothing that is computed twice), over the peak
 * of one thread as measured here, per CPU-second: it says the same of one thread and of many. */
#include "base/ascending.h"
#include "base/clock.h"
#include "base/hash.h"
#include "cli/measure.h"
#include "trainer/train.h"

#include <stdlib.h>

enum { STEP_TOKENS = 1024, THREADS_MAX = 256 };

static const struct shape {
    const char *name;
    int64_t layers, dim, heads, vocab;
} shapes[] = {{"10m", 6, 384, 6, 8192}, {"124m", 12, 768, 12, 50257}};

struct bench {
    const struct dp_measure_args *o;
    const struct shape *shape;
    struct dp_train_options train;
    struct dp_trainer *trainer;
    struct dp_pool *pool;
    int32_t *ids;
    int threads;
    double peak, loss, tokens;
    double wall[DP_MEASURE_ROUNDS_MAX], cpu[DP_MEASURE_ROUNDS_MAX], part[DP_PARTS][DP_MEASURE_ROUNDS_MAX];
};

static int open_trainer(struct bench *b, struct dp_err *e)
{
    char *end;
    long threads = strtol(b->o->threads, &end, 10);
    if (end == b->o->threads || (*end && *end != ',') || threads < 1 || threads > THREADS_MAX)
        DP_FAIL(e, USAGE, "--threads \"%s\": a number from 1 to %d", b->o->threads, THREADS_MAX);
    b->threads = (int)threads;
    struct dp_train_options *t = &b->train;
    DP_TRY(dp_opt_defaults(dp_train_opts, t, e));
    t->layers = b->shape->layers;
    t->dim = b->shape->dim;
    t->heads = b->shape->heads;
    t->dtype = b->o->dtype;
    t->seq_len = b->o->context;
    t->batch = t->seq_len < STEP_TOKENS ? STEP_TOKENS / t->seq_len : 1;
    DP_TRY(dp_pool_open(&b->pool, b->threads, e));
    DP_TRY(dp_trainer_open(&b->trainer, t, b->shape->vocab, b->pool, e));
    size_t n = (size_t)(t->batch * (t->seq_len + 1));
    b->ids = calloc(n, sizeof *b->ids);
    if (!b->ids) DP_FAIL(e, NOMEM, "bench: tokens of a step");
    uint64_t state = 2;
    for (size_t i = 0; i < n; i++) b->ids[i] = (int32_t)(dp_splitmix64(&state) % (uint64_t)b->shape->vocab);
    b->tokens = (double)(t->batch * t->seq_len);
    return DP_OK;
}

static int steps(struct bench *b, struct dp_err *e)
{
    struct dp_model *m = dp_trainer_model(b->trainer);
    for (int64_t k = -1; k < b->o->rounds; k++) {
        struct dp_step_result r;
        memset(m->seconds, 0, sizeof m->seconds);
        double cpu = dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID), wall = dp_now();
        DP_TRY(dp_trainer_step(b->trainer, b->ids, &r, e));
        if (k < 0) continue;
        b->wall[k] = dp_now() - wall;
        b->cpu[k] = dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        for (int p = 0; p < DP_PARTS; p++) b->part[p][k] = m->seconds[p];
        b->loss = r.loss;
    }
    return DP_OK;
}

static double median(const struct bench *b, double *v)
{
    qsort(v, (size_t)b->o->rounds, sizeof *v, dp_ascending_doubles);
    return v[b->o->rounds / 2];
}

static int print(struct bench *b, struct dp_err *e)
{
    struct dp_buf out;
    struct dp_jsonw w;
    double cpu = median(b, b->cpu), wall = median(b, b->wall);
    dp_buf_init(&out, 1 << 16);
    dp_jsonw_init(&w, &out, 2);
    dp_jsonw_begin(&w, '{');
    dp_measure_machine(&w, "trainer");
    dp_jsonw_member(&w, "shape", b->shape->name);
    dp_jsonw_member(&w, "dtype", b->o->dtype == DP_BF16 ? "bf16" : "fp32");
    dp_jsonw_member_int(&w, "parameters", (int64_t)dp_trainer_params(b->trainer));
    dp_jsonw_member_int(&w, "batch", b->train.batch);
    dp_jsonw_member_int(&w, "seq_len", b->train.seq_len);
    dp_jsonw_member_int(&w, "threads", b->threads);
    dp_jsonw_member_int(&w, "rounds", b->o->rounds);
    dp_measure_member(&w, "peak_gflops", b->peak / 1e9, 10);
    dp_measure_member(&w, "tokens_per_s", b->tokens / wall, 10);
    dp_measure_member(&w, "tokens_per_cpu_s", b->tokens / cpu, 10);
    dp_measure_member(&w, "mfu", dp_trainer_flops(b->trainer) / cpu / b->peak, 10000);
    dp_measure_member(&w, "step_ms", wall * 1e3, 100);
    dp_measure_member(&w, "step_cpu_ms", cpu * 1e3, 100);
    dp_jsonw_key(&w, "cpu_ms");
    dp_jsonw_begin(&w, '{');
    for (int p = 0; p < DP_PARTS; p++) dp_measure_member(&w, dp_model_part_name((enum dp_model_part)p), median(b, b->part[p]) * 1e3, 100);
    dp_jsonw_end(&w, '}');
    dp_measure_member(&w, "loss", b->loss, 1000000);
    dp_measure_member(&w, "peak_rss_mib", dp_measure_status_mib("VmHWM"), 10);
    return dp_measure_end(&w, &out, e);
}

int dp_measure_trainer(struct dp_cli *c, const struct dp_measure_args *o, const char **args, size_t n, struct dp_err *e)
{
    if (n) DP_FAIL(e, USAGE, "bench trainer: \"%s\" is one argument too many", args[0]);
    DP_TRY(dp_cli_options(c, e));
    struct bench *b = calloc(1, sizeof *b);
    if (!b) DP_FAIL(e, NOMEM, "bench");
    b->o = o;
    b->shape = &shapes[o->shape];
    b->peak = dp_gemm_peak(dp_gemm_level(), o->dtype == DP_BF16);
    int rc = open_trainer(b, e);
    if (rc >= 0) rc = steps(b, e);
    if (rc >= 0) rc = print(b, e);
    dp_trainer_close(b->trainer);
    dp_pool_close(b->pool);
    free(b->ids);
    free(b);
    return rc;
}

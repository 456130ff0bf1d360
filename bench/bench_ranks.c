/* Training steps by ranks: mpirun -n 2 bench_ranks THREADS BATCH STEPS [SHAPE] beside bench_ranks 2 BATCH STEPS, which is one rank with two
 * threads and the same global batch. SHAPE is 10m (the default) or 124m. Prints the median and the best step as JSON. */
#include "base/ascending.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/thread.h"
#include "trainer/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds of the median and the fastest step, the first one left out. */
static int measure(struct dp_trainer *t, const struct dp_train_options *o, int64_t vocab, int steps, double *median, double *best, struct dp_err *e)
{
    size_t n = (size_t)(o->batch * o->accum * (o->seq_len + 1));
    int32_t *ids = malloc(n * sizeof *ids);
    double *took = calloc((size_t)steps, sizeof *took);
    uint64_t state = 2;
    int rc = ids && took ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "batch");
    for (size_t i = 0; rc >= 0 && i < n; i++) ids[i] = (int32_t)(dp_splitmix64(&state) % (uint64_t)vocab);
    for (int s = -1; rc >= 0 && s < steps; s++) {
        struct dp_step_result r;
        double from = dp_now();
        rc = dp_trainer_step(t, ids, &r, e);
        if (s >= 0) took[s] = dp_now() - from;
    }
    if (rc >= 0) {
        qsort(took, (size_t)steps, sizeof *took, dp_ascending_doubles);
        *median = took[steps / 2];
        *best = took[0];
    }
    free(ids);
    free(took);
    return rc;
}

static int run(int argc, char **argv, struct dp_dist *d, struct dp_pool *pool, struct dp_err *e)
{
    struct dp_train_options o = {0};
    struct dp_trainer *t;
    bool large = argc > 4 && strcmp(argv[4], "124m") == 0;
    int64_t vocab = large ? 50304 : 8192;
    double median = 0, best = 0;
    DP_TRY(dp_opt_defaults(dp_train_opts, &o, e));
    o.batch = argc > 2 ? atoi(argv[2]) : 8;
    if (large) o.layers = 12, o.dim = 768, o.heads = 12;
    DP_TRY(dp_trainer_open_ranks(&t, &o, vocab, pool, d, e));
    int rc = measure(t, &o, vocab, argc > 3 ? atoi(argv[3]) : 5, &median, &best, e);
    if (rc >= 0)
        printf("{\"ranks\":%d,\"threads\":%d,\"parameters\":%llu,\"tokens\":%lld,\"step_s\":%.4f,\"tokens_per_s\":%.1f,\"best_tokens_per_s\":%.1f}\n", d ? d->world : 1, dp_pool_threads(pool),
               (unsigned long long)dp_trainer_params(t), (long long)(o.batch * o.seq_len), median, (double)(o.batch * o.seq_len) / median,
               (double)(o.batch * o.seq_len) / best);
    dp_trainer_close(t);
    return rc;
}

int main(int argc, char **argv)
{
    struct dp_err err = {0};
    struct dp_dist *d = NULL;
    struct dp_pool *pool = NULL;
    int rc = dp_cpu_init(&err);
    if (rc >= 0) rc = dp_dist_open(&d, &err);
    if (rc >= 0) rc = dp_pool_open(&pool, argc > 1 ? atoi(argv[1]) : 1, &err);
    if (rc >= 0 && d && d->rank) rc = dp_trainer_follow(d, pool, &err);
    else if (rc >= 0) {
        rc = run(argc, argv, d, pool, &err);
        dp_trainer_dismiss(d);
    }
    if (rc < 0) fprintf(stderr, "bench_ranks: %s\n", err.msg);
    if (rc < 0 && d && d->rank) dp_dist_abort(d, &err, 1);
    dp_pool_close(pool);
    dp_dist_close(d);
    return rc < 0;
}

/* bench/bench_gemm.c - the share of this core's peak that the trainer's matrix products reach, as
 * JSON.
 *
 *   build/release/bench/bench_gemm [10m|124m|odd] [fp32|bf16] [threads]     default: 10m fp32 1
 *
 * Shapes are the forward product (NT) and both backward ones (NN, TN) of every linear layer of GPT-2
 * with batch 4 and 256 tokens; `odd` are sizes that no tile divides. Rates are per second of CPU time
 * of all threads, medians; operands are floats, and what packing and rounding them costs is in the
 * rate. "packed": weights were packed before (dp_gemm_pack), which is not counted. The peak is
 * measured anew before each product, since clocks move. With more threads "speedup" is the median of
 * wall times against one thread's, run in turn. */
#include "base/ascending.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/json.h"
#include "trainer/gemm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 5, ROWS = 1024 };

struct shape {
    const char *what;
    int64_t m, n, k;
    int ta, tb;
};

struct bench {
    struct dp_gemm one, all; /* of one thread and of all */
    float *a, *b, *c, *bias;
    int bf16, threads;
    double weighted, flops; /* sums over the shapes: seconds at peak rate, seconds */
};

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, dp_ascending_doubles);
    return v[n / 2];
}

/* Seconds of one product. Many in a row: other threads' time is accounted for every few
 * milliseconds only. */
static void timed(struct dp_gemm *g, const struct dp_gemm_args *args, double flops, double *cpu,
                  double *wall)
{
    int n = 1 + (int)(8e9 / flops);
    double c0 = dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID), w0 = dp_now();
    for (int i = 0; i < n; i++) dp_gemm_run(g, args);
    *cpu = (dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - c0) / n;
    *wall = (dp_now() - w0) / n;
}

static void report(struct dp_jsonw *w, const struct shape *s, double rate, double peak)
{
    dp_jsonw_member(w, "shape", s->what);
    dp_jsonw_member(w, "order", s->ta ? "TN" : s->tb ? "NT" : "NN");
    dp_jsonw_member_int(w, "m", s->m);
    dp_jsonw_member_int(w, "n", s->n);
    dp_jsonw_member_int(w, "k", s->k);
    dp_jsonw_member_real(w, "gflops_per_cpu_s", rate / 1e9);
    dp_jsonw_member_real(w, "of_peak", rate / peak);
}

static int bench_shape(struct bench *b, struct dp_jsonw *w, const struct shape *s, struct dp_err *e)
{
    double peak = dp_gemm_peak(b->one.level, b->bf16), cpu[RUNS], wall[RUNS], packed[RUNS],
           single[RUNS], unused, flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
    struct dp_gemm_packed p;
    struct dp_gemm_args args = {.m = s->m,
                                .n = s->n,
                                .k = s->k,
                                .a = b->a,
                                .lda = s->ta ? s->m : s->k,
                                .b = b->b,
                                .ldb = s->tb ? s->k : s->n,
                                .c = b->c,
                                .ldc = s->n,
                                .base = s->ta ? b->c : NULL,
                                .ldbase = s->n,
                                .bias = s->tb ? b->bias : NULL,
                                .ta = s->ta,
                                .tb = s->tb,
                                .bf16 = b->bf16},
                        with = args;
    DP_TRY(dp_gemm_packed_open(&p, &b->all, s->n, s->k, b->bf16, e));
    dp_gemm_pack(&b->all, &args, &p);
    with.packed = &p;
    for (int r = -1; r < RUNS; r++) {
        int at = r < 0 ? 0 : r; /* the first is warm-up */
        timed(&b->all, &args, flops, &cpu[at], &wall[at]);
        timed(&b->all, &with, flops, &packed[at], &unused);
        if (b->threads > 1) timed(&b->one, &args, flops, &unused, &single[at]);
    }
    dp_gemm_packed_close(&p);
    double seconds = median(cpu, RUNS);
    b->weighted += flops / peak;
    b->flops += seconds;
    dp_jsonw_begin(w, '{');
    report(w, s, flops / seconds, peak);
    if (!s->ta) dp_jsonw_member_real(w, "of_peak_packed", flops / median(packed, RUNS) / peak);
    if (b->threads > 1) dp_jsonw_member_real(w, "speedup", median(single, RUNS) / median(wall, RUNS));
    dp_jsonw_end(w, '}');
    return DP_OK;
}

/* Forward and both backward products of a layer from `in` to `out` values. */
static int bench_layer(struct bench *b, struct dp_jsonw *w, const char *what, int64_t in,
                       int64_t out, struct dp_err *e)
{
    DP_TRY(bench_shape(b, w, &(struct shape){what, ROWS, out, in, 0, 1}, e));
    DP_TRY(bench_shape(b, w, &(struct shape){what, ROWS, in, out, 0, 0}, e));
    return bench_shape(b, w, &(struct shape){what, out, in, ROWS, 1, 0}, e);
}

static int bench_model(struct bench *b, struct dp_jsonw *w, int64_t dim, int64_t vocab,
                       struct dp_err *e)
{
    DP_TRY(bench_layer(b, w, "qkv", dim, 3 * dim, e));
    DP_TRY(bench_layer(b, w, "proj", dim, dim, e));
    DP_TRY(bench_layer(b, w, "in", dim, 4 * dim, e));
    DP_TRY(bench_layer(b, w, "out", 4 * dim, dim, e));
    return bench_layer(b, w, "head", dim, vocab, e);
}

static int bench_odd(struct bench *b, struct dp_jsonw *w, struct dp_err *e)
{
    static const int64_t sizes[][3] = {{1001, 379, 383}, {1023, 1151, 769}, {517, 2049, 1023},
                                       {1024, 50257, 768}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int order = 0; order < 3; order++)
            DP_TRY(bench_shape(b, w,
                               &(struct shape){"odd", sizes[i][0], sizes[i][1], sizes[i][2],
                                               order == 2, order == 1},
                               e));
    return DP_OK;
}

static int run(struct bench *b, struct dp_jsonw *w, const char *what, struct dp_err *e)
{
    uint64_t state = 1, floats = !strcmp(what, "10m") ? 8192 * ROWS : 50304 * ROWS;
    b->a = dp_floats_alloc(floats);
    b->b = dp_floats_alloc(floats);
    b->c = dp_floats_alloc(floats);
    b->bias = dp_floats_alloc(50304);
    if (!b->a || !b->b || !b->c || !b->bias) DP_FAIL(e, NOMEM, "benchmark matrices");
    for (uint64_t i = 0; i < floats; i++)
        b->a[i] = b->b[i] = (float)(dp_splitmix64(&state) >> 40) * 0x1p-24f - 0.5f;
    if (!strcmp(what, "odd")) return bench_odd(b, w, e);
    return !strcmp(what, "10m") ? bench_model(b, w, 384, 8192, e) : bench_model(b, w, 768, 50304, e);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "10m", *type = argc > 2 ? argv[2] : "fp32";
    struct bench b = {.threads = argc > 3 ? atoi(argv[3]) : 1, .bf16 = !strcmp(type, "bf16")};
    struct dp_err err = {0};
    struct dp_pool *pool = NULL;
    struct dp_buf out;
    struct dp_jsonw w;
    dp_buf_init(&out, 1 << 20);
    dp_jsonw_init(&w, &out, 2);
    if (dp_cpu_init(&err) < 0 || dp_pool_open(&pool, b.threads, &err) < 0 ||
        dp_gemm_open(&b.one, NULL, &err) < 0 || dp_gemm_open(&b.all, pool, &err) < 0)
        goto fail;
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member(&w, "cpu", dp_cpu_name(dp_cpu()));
    dp_jsonw_member(&w, "dtype", type);
    dp_jsonw_member_int(&w, "threads", b.threads);
    dp_jsonw_member_real(&w, "peak_gflops_one_thread", dp_gemm_peak(b.one.level, b.bf16) / 1e9);
    dp_jsonw_key(&w, "products");
    dp_jsonw_begin(&w, '[');
    if (run(&b, &w, what, &err) < 0) goto fail;
    dp_jsonw_end(&w, ']');
    dp_jsonw_member_real(&w, "of_peak_all", b.weighted / b.flops);
    dp_jsonw_end(&w, '}');
    if (dp_buf_check(&out, "report", &err) < 0) goto fail;
    printf("%s\n", out.ptr);
    dp_buf_release(&out);
    dp_gemm_close(&b.one);
    dp_gemm_close(&b.all);
    dp_pool_close(pool);
    free(b.a), free(b.b), free(b.c), free(b.bias);
    return 0;
fail:
    fprintf(stderr, "bench_gemm: %s\n", err.msg);
    return 1;
}

/* bench/bench_trainer.c - the trainer's rates, as JSON: peak, matrix products at the shapes of the
 * 10M model, training steps.
 *
 *   build/release/bench/bench_trainer [threads...]     default: 1 2
 *
 * Rates are per second of CPU time of all threads and, for the speed-up, of wall time; medians of a
 * few runs. MFU is against the peak measured in the same process. Random weights and tokens: the
 * rate doesn't depend on them. */
#include "base/cpu.h"
#include "base/hash.h"
#include "base/json.h"
#include "trainer/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 5, STEPS = 5, VOCAB = 8192 };

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    return v[n / 2];
}

static int bench_gemm(struct dp_jsonw *w, struct dp_pool *pool, double peak, struct dp_err *e)
{
    static const struct {
        const char *what;
        int64_t m, n, k;
        int ta, tb;
    } shapes[] = {
        {"forward qkv NT", 1024, 1152, 384, 0, 1}, {"forward proj NT", 1024, 384, 384, 0, 1},
        {"forward in NT", 1024, 1536, 384, 0, 1},  {"forward out NT", 1024, 384, 1536, 0, 1},
        {"head NT", 512, 8192, 384, 0, 1},         {"head dx NN", 512, 384, 8192, 0, 0},
        {"head dw TN", 8192, 384, 512, 1, 0},      {"in dx NN", 1024, 384, 1536, 0, 0},
        {"in dw TN", 1536, 384, 1024, 1, 0},       {"odd NN", 1001, 379, 383, 0, 0},
    };
    struct dp_gemm g;
    DP_TRY(dp_gemm_open(&g, pool, e));
    float *a = dp_floats_alloc(8192 * 1536), *b = dp_floats_alloc(8192 * 1536),
          *c = dp_floats_alloc(8192 * 1536);
    int rc = DP_OK;
    if (!a || !b || !c) DP_GOTO(e, NOMEM, "benchmark matrices");
    uint64_t state = 1;
    for (int i = 0; i < 8192 * 1536; i++)
        a[i] = b[i] = (float)(dp_splitmix64(&state) >> 40) * 0x1p-24f - 0.5f;
    dp_jsonw_key(w, "gemm");
    dp_jsonw_begin(w, '[');
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int64_t m = shapes[s].m, n = shapes[s].n, k = shapes[s].k;
        struct dp_gemm_args args = {.m = m,
                                    .n = n,
                                    .k = k,
                                    .a = a,
                                    .lda = shapes[s].ta ? m : k,
                                    .b = b,
                                    .ldb = shapes[s].tb ? k : n,
                                    .c = c,
                                    .ldc = n,
                                    .ta = shapes[s].ta,
                                    .tb = shapes[s].tb};
        double cpu[RUNS], wall[RUNS];
        for (int r = -1; r < RUNS; r++) {
            double c0 = now(CLOCK_PROCESS_CPUTIME_ID), w0 = now(CLOCK_MONOTONIC);
            dp_gemm_run(&g, &args);
            if (r < 0) continue; /* warm-up */
            cpu[r] = now(CLOCK_PROCESS_CPUTIME_ID) - c0;
            wall[r] = now(CLOCK_MONOTONIC) - w0;
        }
        double flops = 2.0 * (double)m * (double)n * (double)k, rate = flops / median(cpu, RUNS);
        dp_jsonw_begin(w, '{');
        dp_jsonw_key(w, "shape");
        dp_jsonw_cstr(w, shapes[s].what);
        dp_jsonw_key(w, "m");
        dp_jsonw_int(w, m);
        dp_jsonw_key(w, "n");
        dp_jsonw_int(w, n);
        dp_jsonw_key(w, "k");
        dp_jsonw_int(w, k);
        dp_jsonw_key(w, "gflops_per_cpu_s");
        dp_jsonw_real(w, rate / 1e9);
        dp_jsonw_key(w, "of_peak");
        dp_jsonw_real(w, rate / peak);
        dp_jsonw_key(w, "gflops_wall");
        dp_jsonw_real(w, flops / median(wall, RUNS) / 1e9);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
out:
    dp_gemm_close(&g);
    free(a);
    free(b);
    free(c);
    return rc;
}

static int bench_step(struct dp_jsonw *w, struct dp_pool *pool, double peak, struct dp_err *e)
{
    struct dp_train_options o;
    struct dp_trainer *t;
    static int32_t ids[4 * 257];
    uint64_t state = 2;
    DP_TRY(dp_opt_defaults(dp_train_opts, &o, e));
    DP_TRY(dp_trainer_open(&t, &o, VOCAB, pool, e));
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        ids[i] = (int32_t)(dp_splitmix64(&state) % VOCAB);
    double cpu[STEPS], wall[STEPS], tokens = (double)(o.batch * o.accum * o.seq_len);
    int rc = DP_OK;
    for (int r = -1; r < STEPS; r++) {
        struct dp_step_result step;
        double c0 = now(CLOCK_PROCESS_CPUTIME_ID), w0 = now(CLOCK_MONOTONIC);
        DP_TRY_OUT(dp_trainer_step(t, ids, &step, e));
        if (r < 0) continue;
        cpu[r] = now(CLOCK_PROCESS_CPUTIME_ID) - c0;
        wall[r] = now(CLOCK_MONOTONIC) - w0;
    }
    double cpu_s = median(cpu, STEPS), wall_s = median(wall, STEPS);
    dp_jsonw_key(w, "step");
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "parameters");
    dp_jsonw_uint(w, dp_trainer_params(t));
    dp_jsonw_key(w, "tokens_per_cpu_s");
    dp_jsonw_real(w, tokens / cpu_s);
    dp_jsonw_key(w, "tokens_per_s");
    dp_jsonw_real(w, tokens / wall_s);
    dp_jsonw_key(w, "mfu");
    dp_jsonw_real(w, dp_trainer_flops(t) / cpu_s / peak);
    dp_jsonw_end(w, '}');
out:
    dp_trainer_close(t);
    return rc;
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"1", "2"};
    struct dp_err err = {0};
    struct dp_buf out;
    struct dp_jsonw w;
    if (dp_cpu_init(&err) < 0) goto fail;
    double peak = dp_gemm_peak(dp_gemm_level(), 0);
    int n = argc > 1 ? argc - 1 : 2;
    dp_buf_init(&out, 1 << 20);
    dp_jsonw_init(&w, &out, 2);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "cpu");
    dp_jsonw_cstr(&w, dp_cpu_name(dp_cpu()));
    dp_jsonw_key(&w, "peak_gflops_one_thread");
    dp_jsonw_real(&w, peak / 1e9);
    dp_jsonw_key(&w, "runs");
    dp_jsonw_begin(&w, '[');
    for (int i = 0; i < n; i++) {
        struct dp_pool *pool;
        int threads = atoi(argc > 1 ? argv[i + 1] : usual[i]);
        if (dp_pool_open(&pool, threads, &err) < 0) goto fail;
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "threads");
        dp_jsonw_int(&w, dp_pool_threads(pool));
        if (bench_gemm(&w, pool, peak, &err) < 0 || bench_step(&w, pool, peak, &err) < 0) goto fail;
        dp_jsonw_end(&w, '}');
        dp_pool_close(pool);
    }
    dp_jsonw_end(&w, ']');
    dp_jsonw_end(&w, '}');
    if (dp_buf_check(&out, "report", &err) < 0) goto fail;
    printf("%s\n", out.ptr);
    dp_buf_release(&out);
    return 0;
fail:
    fprintf(stderr, "bench_trainer: %s\n", err.msg);
    return 1;
}

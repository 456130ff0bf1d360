/* Every level of the matrix product against the formula of trainer/gemm.h, bit for bit: all storage
 * orders, base and bias, sizes around every tile edge, operands that end at a guard page, several
 * thread counts. */
#include "base/cpu.h"
#include "base/hash.h"
#include "tests/test.h"
#include "trainer/gemm.h"

#include <sys/mman.h>
#include <unistd.h>

static uint64_t state = 42;

static float random_float(void)
{
    uint64_t r = dp_splitmix64(&state);
    float f = (float)(int32_t)(r >> 40) * 0x1p-23f - 1.0f;
    switch (r & 63) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return f * 1e-39f; /* denormal */
    case 3: return f * 1e15f;
    default: return f;
    }
}

/* n floats that end at an unreadable page. */
static float *guarded(int64_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE),
           bytes = ((size_t)n * 4 + page - 1) / page * page + page;
    char *p = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + bytes, page, PROT_NONE) != 0) abort();
    float *f = (float *)(void *)(p + bytes) - n;
    for (int64_t i = 0; i < n; i++) f[i] = random_float();
    return f;
}

static void unguard(float *f, int64_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE),
           bytes = ((size_t)n * 4 + page - 1) / page * page + page;
    munmap((char *)(f + n) - bytes, bytes + page);
}

static float formula(const struct dp_gemm_args *g, int64_t i, int64_t j)
{
    float sum = 0;
    bool any = false;
    if (g->base) sum = g->base[i * g->ldbase + j], any = true;
    if (g->bias) sum = any ? sum + g->bias[j] : g->bias[j], any = true;
    for (int64_t k0 = 0; k0 < g->k; k0 += DP_GEMM_KC) {
        float acc = 0;
        for (int64_t k = k0; k < g->k && k < k0 + DP_GEMM_KC; k++)
            acc = fmaf(g->ta ? g->a[k * g->lda + i] : g->a[i * g->lda + k],
                       g->tb ? g->b[j * g->ldb + k] : g->b[k * g->ldb + j], acc);
        sum = any ? sum + acc : acc;
        any = true;
    }
    return sum;
}

static const struct dp_gemm_level *levels[3];
static int level_count;

static void find_levels(void)
{
    if (level_count) return;
    levels[level_count++] = &dp_gemm_scalar;
    if (dp_cpu_detected() >= DP_CPU_AVX2) levels[level_count++] = &dp_gemm_avx2;
    if (dp_cpu_detected() >= DP_CPU_AVX512) levels[level_count++] = &dp_gemm_avx512;
}

static struct dp_gemm shared; /* packing buffers for all products, its pool set by each test */

/* One product by every level, serial and in the pool; the number of elements that differ from the
 * formula. */
static int64_t differences(int64_t m, int64_t n, int64_t k, int mode, struct dp_pool *pool)
{
    struct dp_err err = {0};
    if (!shared.pack_a && dp_gemm_open(&shared, NULL, &err) < 0) abort();
    int ta = mode & 1, tb = mode >> 1 & 1, use_base = mode >> 2 & 1, use_bias = mode >> 3 & 1,
        in_place = mode >> 4 & 1;
    int64_t an = m * k, bn = n * k, cn = m * n, bad = 0;
    float *a = guarded(an), *b = guarded(bn), *base = guarded(cn), *bias = guarded(n),
          *c = guarded(cn), *want = malloc((size_t)cn * 4 + 4);
    float *scratch = dp_floats_alloc(DP_GEMM_SCRATCH);
    struct dp_gemm_args g = {.m = m,
                             .n = n,
                             .k = k,
                             .a = a,
                             .lda = ta ? m : k,
                             .b = b,
                             .ldb = tb ? k : n,
                             .c = c,
                             .ldc = n,
                             .base = use_base ? base : NULL,
                             .ldbase = n,
                             .bias = use_bias ? bias : NULL,
                             .ta = ta,
                             .tb = tb};
    for (int64_t i = 0; i < cn; i++) want[i] = formula(&g, i / n, i % n);
    for (int l = 0; l < level_count * 2; l++) {
        if (use_base && in_place) {
            memcpy(c, base, (size_t)cn * 4);
            g.base = c;
        }
        if (l % 2) {
            shared.pool = pool;
            shared.level = levels[l / 2];
            dp_gemm_run(&shared, &g);
        } else dp_gemm_serial(levels[l / 2], scratch, &g);
        for (int64_t i = 0; i < cn; i++) bad += memcmp(&c[i], &want[i], 4) != 0;
        memset(c, 0xff, (size_t)cn * 4);
    }
    unguard(a, an), unguard(b, bn), unguard(base, cn), unguard(bias, n), unguard(c, cn);
    free(want), free(scratch);
    return bad;
}

TEST(small_sizes_in_every_order)
{
    find_levels();
    for (int64_t m = 1; m <= 14; m++)
        for (int64_t n = 1; n <= 35; n += m % 3 + 1)
            for (int64_t k = 0; k <= 9; k += 3)
                CHECK_INT(differences(m, n, k, (int)(m * 7 + n * 3 + k) & 31, NULL), 0);
    for (int mode = 0; mode < 32; mode++) CHECK_INT(differences(7, 19, 11, mode, NULL), 0);
}

TEST(every_depth_to_257)
{
    find_levels();
    for (int64_t k = 0; k <= 257; k++) CHECK_INT(differences(7, 17, k, (int)k & 31, NULL), 0);
    CHECK_INT(differences(13, 33, 511, 5, NULL), 0);
    CHECK_INT(differences(13, 33, 513, 14, NULL), 0);
}

TEST(blocks_and_threads)
{
    struct dp_err err = {0};
    static const int64_t sizes[][3] = {{97, 257, 300}, {95, 255, 256}, {193, 31, 257}, {1, 600, 64},
                                       {600, 1, 64},   {48, 33, 4100}, {9, 530, 4097}};
    find_levels();
    for (int threads = 1; threads <= 3; threads++) {
        struct dp_pool *pool;
        REQUIRE_OK(dp_pool_open(&pool, threads, &err));
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            CHECK_INT(differences(sizes[i][0], sizes[i][1], sizes[i][2],
                                  (int)(i * 5 + (size_t)threads) & 31, pool),
                      0);
        dp_pool_close(pool);
    }
}

/* Super-blocks: more than DP_GEMM_PACK floats of packed operand. The formula on a sample of
 * elements. */
TEST(larger_than_the_packing_buffers)
{
    struct dp_err err = {0};
    struct dp_gemm g;
    int64_t m = 1031, n = 2053, k = 2047;
    REQUIRE_OK(dp_gemm_open(&g, NULL, &err));
    float *a = guarded(m * k), *b = guarded(n * k), *c = guarded(m * n);
    struct dp_gemm_args args = {.m = m,
                                .n = n,
                                .k = k,
                                .a = a,
                                .lda = m,
                                .ta = 1,
                                .b = b,
                                .ldb = k,
                                .tb = 1,
                                .c = c,
                                .ldc = n};
    if (dp_cpu() == DP_CPU_SCALAR) args.m = 20; /* the slow level needn't show it at this size */
    dp_gemm_run(&g, &args);
    int64_t bad = 0;
    for (int s = 0; s < 2000; s++) {
        int64_t i = (int64_t)(dp_splitmix64(&state) % (uint64_t)args.m),
                j = (int64_t)(dp_splitmix64(&state) % (uint64_t)n);
        float want = formula(&args, i, j);
        bad += memcmp(&c[i * n + j], &want, 4) != 0;
    }
    CHECK_INT(bad, 0);
    dp_gemm_close(&g);
    unguard(a, m * k), unguard(b, n * k), unguard(c, m * n);
}

TEST(not_finite_passes_through)
{
    find_levels();
    for (int l = 0; l < level_count; l++) {
        float a[9] = {1, INFINITY, 0, 0, 1, 0, NAN, 0, 0}, b[9] = {1, 0, 0, 1, 2, 0, 0, 0, 1}, c[9];
        float *scratch = dp_floats_alloc(DP_GEMM_SCRATCH);
        struct dp_gemm_args g = {
            .m = 3, .n = 3, .k = 3, .a = a, .lda = 3, .b = b, .ldb = 3, .c = c, .ldc = 3};
        dp_gemm_serial(levels[l], scratch, &g);
        CHECK(isinf(c[0]) && isinf(c[1]) && isnan(c[2])); /* inf * 0 */
        CHECK(c[3] == 1 && c[4] == 2 && c[5] == 0);
        CHECK(isnan(c[6]) && isnan(c[7]) && isnan(c[8]));
        free(scratch);
    }
}

TEST(buffers_are_released)
{
    dp_gemm_close(&shared);
    CHECK(!shared.pack_a);
}

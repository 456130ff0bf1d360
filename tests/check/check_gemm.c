/* Every level of the matrix product against the formula of trainer/gemm.h, bit for bit: all storage
 * orders, base and bias, sizes around every tile edge, operands that end at a guard page, several
 * thread counts. */
#include "base/cpu.h"
#include "base/hash.h"
#include "tests/test.h"
#include "trainer/gemm.h"

#include <sys/mman.h>
#include <unistd.h>
#include <xmmintrin.h>

static uint64_t state = 42;

enum { USUAL, TINY, WILD };
static int kind;

/* TINY: products and sums on both sides of the smallest normal number. WILD: some that aren't finite
 * too. */
static float random_float(void)
{
    uint64_t r = dp_splitmix64(&state);
    float f = (float)(int32_t)(r >> 40) * 0x1p-23f - 1.0f;
    if (kind == TINY) return ldexpf(f, -63 + (int)(r & 7) - 2 * ((r >> 3 & 15) == 0) * 32);
    if (kind == WILD && (r >> 8 & 127) == 0) return r >> 16 & 1 ? INFINITY : NAN;
    if (kind == WILD && (r >> 8 & 127) < 9) return f * 3e38f;
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

/* Which product: bits of a mode. */
enum {
    TRANSPOSED_A = 1,
    TRANSPOSED_B = 2,
    BASE = 4,
    BIAS = 8,
    IN_PLACE = 16,
    BF16 = 32,
    GIVEN_A16 = 64,
    GIVEN_B16 = 128,
    PACKED = 256,
    MODES = 512,
};

static float value_a(const struct dp_gemm_args *g, int64_t i, int64_t k)
{
    int64_t at = g->ta ? k * g->lda + i : i * g->lda + k;
    return !g->a ? dp_from_bf16(g->a16[at]) : g->bf16 ? dp_from_bf16(dp_bf16(g->a[at])) : g->a[at];
}

static float value_b(const struct dp_gemm_args *g, int64_t k, int64_t j)
{
    int64_t at = g->tb ? j * g->ldb + k : k * g->ldb + j;
    return !g->b ? dp_from_bf16(g->b16[at]) : g->bf16 ? dp_from_bf16(dp_bf16(g->b[at])) : g->b[at];
}

/* The sum of a block. The processor flushes denormals here, where the scalar level has code for it:
 * two ways that must agree. */
static float block_sum(const struct dp_gemm_args *g, int64_t i, int64_t j, int64_t k0, int64_t end)
{
    volatile float acc = 0;
    if (!g->bf16) {
        for (int64_t k = k0; k < end; k++) acc = fmaf(value_a(g, i, k), value_b(g, k, j), acc);
        return acc;
    }
    for (int64_t k = k0; k < end; k += 2) {
        acc = k + 1 < end ? fmaf(value_a(g, i, k + 1), value_b(g, k + 1, j), acc) : acc + 0.0f;
        acc = fmaf(value_a(g, i, k), value_b(g, k, j), acc);
    }
    return acc;
}

static float formula(const struct dp_gemm_args *g, int64_t i, int64_t j)
{
    volatile float sum = 0; /* volatile: nothing is moved across a change of MXCSR */
    bool any = false;
    int64_t kc = g->bf16 ? DP_GEMM_KC_BF16 : DP_GEMM_KC;
    unsigned csr = _mm_getcsr();
    if (g->bf16) _mm_setcsr(csr | 0x8040);
    if (g->base) sum = g->base[i * g->ldbase + j], any = true;
    if (g->bias) sum = any ? sum + g->bias[j] : g->bias[j], any = true;
    for (int64_t k0 = 0; k0 < g->k; k0 += kc) {
        float s = block_sum(g, i, j, k0, k0 + kc < g->k ? k0 + kc : g->k);
        sum = any ? sum + s : s;
        any = true;
    }
    _mm_setcsr(csr);
    return sum;
}

static const struct dp_gemm_level *levels[4];
static int level_count;

static void find_levels(void)
{
    if (level_count) return;
    levels[level_count++] = &dp_gemm_scalar;
    if (dp_cpu_detected() >= DP_CPU_AVX2) levels[level_count++] = &dp_gemm_avx2;
    if (dp_cpu_detected() >= DP_CPU_AVX512) levels[level_count++] = &dp_gemm_avx512;
    if (dp_cpu_detected() >= DP_CPU_AVX512BF16) levels[level_count++] = &dp_gemm_avx512bf16;
}

static struct dp_gemm shared; /* packing buffers for all products, its pool set by each test */

static uint16_t *guarded_bf16(const float *from, int64_t n)
{
    float *f = guarded((n + 1) / 2);
    uint16_t *h = (uint16_t *)(void *)f + n % 2;
    for (int64_t i = 0; i < n; i++) h[i] = dp_bf16(from[i]);
    return h;
}

static void unguard_bf16(uint16_t *h, int64_t n)
{
    unguard((float *)(void *)(h - n % 2), (n + 1) / 2);
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* One product by a level, serial or in the pool. */
static void product(const struct dp_gemm_level *level, struct dp_pool *pool, float *scratch,
                    bool packed, const struct dp_gemm_args *args)
{
    struct dp_gemm_args g = *args;
    struct dp_gemm_packed p = {0};
    struct dp_err err = {0};
    shared.pool = pool;
    shared.level = level;
    if (scratch) {
        dp_gemm_serial(level, scratch, &g);
        return;
    }
    if (packed) {
        if (dp_gemm_packed_open(&p, &shared, g.n, g.k, g.bf16, &err) < 0) abort();
        dp_gemm_pack(&shared, &g, &p);
        g.b = NULL, g.b16 = NULL;
        g.packed = &p;
    }
    dp_gemm_run(&shared, &g);
    dp_gemm_packed_close(&p);
}

/* One product by every level, serial and in the pool; the number of elements that differ from the
 * formula. The rows of all matrices are `gap` elements longer than they need be. */
static int64_t differences(int64_t m, int64_t n, int64_t k, int mode, struct dp_pool *pool)
{
    struct dp_err err = {0};
    if (!shared.pack_a) {
        struct dp_pool *most;
        if (dp_pool_open(&most, 3, &err) < 0 || dp_gemm_open(&shared, most, &err) < 0) abort();
        dp_pool_close(most);
    }
    int ta = mode & TRANSPOSED_A ? 1 : 0, tb = mode & TRANSPOSED_B ? 1 : 0;
    int64_t gap = mode & BIAS ? 3 : 0, lda = (ta ? m : k) + gap, ldb = (tb ? k : n) + gap,
            ldc = n + gap;
    int64_t an = (ta ? k : m) * lda, bn = (tb ? n : k) * ldb, cn = m * ldc, bad = 0;
    float *a = guarded(an), *b = guarded(bn), *base = guarded(cn), *bias = guarded(n),
          *c = guarded(cn), *want = malloc((size_t)cn * 4 + 4);
    uint16_t *a16 = guarded_bf16(a, an), *b16 = guarded_bf16(b, bn);
    float *scratch = dp_floats_alloc(DP_GEMM_SCRATCH);
    struct dp_gemm_args g = {.m = m,
                             .n = n,
                             .k = k,
                             .a = a,
                             .lda = lda,
                             .b = b,
                             .ldb = ldb,
                             .c = c,
                             .ldc = ldc,
                             .base = mode & BASE ? base : NULL,
                             .ldbase = ldc,
                             .bias = mode & BIAS ? bias : NULL,
                             .ta = ta,
                             .tb = tb,
                             .bf16 = mode & BF16 ? 1 : 0};
    if (g.bf16 && mode & GIVEN_A16) g.a = NULL, g.a16 = a16;
    if (g.bf16 && mode & GIVEN_B16) g.b = NULL, g.b16 = b16;
    for (int64_t i = 0; i < cn; i++)
        want[i] = i % ldc < n ? formula(&g, i / ldc, i % ldc) : 7; /* 7: not to be written */
    for (int l = 0; l < level_count * 2; l++) {
        for (int64_t i = 0; i < cn; i++) c[i] = 7;
        if (mode & BASE && mode & IN_PLACE) {
            for (int64_t i = 0; i < cn; i++) c[i] = i % ldc < n ? base[i] : 7;
            g.base = c;
        }
        product(levels[l / 2], pool, l % 2 ? NULL : scratch, mode & PACKED, &g);
        for (int64_t i = 0; i < cn; i++) bad += !same(c[i], want[i]);
    }
    unguard(a, an), unguard(b, bn), unguard(base, cn), unguard(bias, n), unguard(c, cn);
    unguard_bf16(a16, an), unguard_bf16(b16, bn);
    free(want), free(scratch);
    return bad;
}

TEST(small_sizes_in_every_order)
{
    find_levels();
    for (int64_t m = 1; m <= 30; m += 1 + m / 16)
        for (int64_t n = 1; n <= 67; n += m % 5 + 1 + n / 8)
            for (int64_t k = 0; k <= 9; k += 3)
                CHECK_INT(differences(m, n, k, (int)(m * 7 + n * 3 + k * 171) % MODES, NULL), 0);
    for (int mode = 0; mode < MODES; mode++) CHECK_INT(differences(7, 19, 11, mode, NULL), 0);
}

TEST(depths_to_513)
{
    find_levels();
    for (int64_t k = 0; k <= 257; k += 1 + k / 40)
        CHECK_INT(differences(7, 17, k, (int)k * 37 % MODES, NULL), 0);
    CHECK_INT(differences(13, 33, 511, 5, NULL), 0);
    CHECK_INT(differences(13, 33, 513, 14, NULL), 0);
    for (int64_t k = 509; k <= 517; k++)
        CHECK_INT(differences(9, 35, k, BF16 | (int)k * 37 % MODES, NULL), 0);
    CHECK_INT(differences(3, 5, 1541, BF16 | BASE | TRANSPOSED_B, NULL), 0);
}

/* Denormals in, between and out; infinities, NaN and overflow. */
TEST(flushing_and_not_finite)
{
    find_levels();
    for (kind = TINY; kind <= WILD; kind++)
        for (int mode = 0; mode < MODES; mode += kind == TINY ? 5 : 7)
            CHECK_INT(differences(15, 34, 21, mode, NULL), 0);
    kind = USUAL;
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
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            int mode = (int)(i * 5 + (size_t)threads) % MODES;
            CHECK_INT(differences(sizes[i][0], sizes[i][1], sizes[i][2], mode, pool), 0);
            if (i % 3 == (size_t)threads - 1)
                CHECK_INT(differences(sizes[i][0], sizes[i][1], sizes[i][2], mode ^ BF16 ^ PACKED,
                                      pool),
                          0);
        }
        dp_pool_close(pool);
    }
}

TEST(conversion)
{
    find_levels();
    uint32_t from[4099];
    uint16_t to[4099];
    for (int l = 0; l < level_count; l++) {
        int64_t bad = 0;
        for (int64_t i = 0; i < 4099; i++) {
            uint64_t r = dp_splitmix64(&state);
            from[i] = (uint32_t)r;
            if (r >> 40 & 1) from[i] &= 0xffff0000; /* exact */
            if (r >> 41 & 1) from[i] = (from[i] & 0xffff0000) | (0x7fff + (uint32_t)(r >> 42 & 3));
            if ((r >> 44 & 7) == 0) from[i] &= 0x807fffff; /* denormal */
            if ((r >> 44 & 7) == 1) from[i] |= 0x7f800000; /* not finite, almost always NaN */
        }
        dp_gemm_to_bf16(levels[l], 4099, (const float *)(const void *)from, to);
        for (int64_t i = 0; i < 4099; i++) {
            float f;
            memcpy(&f, &from[i], 4);
            bad += to[i] != dp_bf16(f);
        }
        CHECK_INT(bad, 0);
    }
    CHECK_INT(dp_bf16(1.00390625f), 0x3f80); /* ties to even, both ways */
    CHECK_INT(dp_bf16(1.01171875f), 0x3f82);
    CHECK_INT(dp_bf16(3.4e38f), 0x7f80); /* rounds to infinity */
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

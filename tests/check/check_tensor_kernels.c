/* Every tensor kernel at every level against the scalar one, bit for bit: lengths 0..257 at a guard
 * page, ordinary and extreme values; and the scalar one against libm in double, so that all levels
 * being wrong together is found too. */
#include "base/cpu.h"
#include "base/hash.h"
#include "tests/test.h"
#include "trainer/tensor_kernels.h"

#include <sys/mman.h>
#include <unistd.h>

enum { MAX = 257, ARRAYS = 6, ROWS = 5 };

static uint64_t state = 7;

static float value(int kind)
{
    uint64_t r = dp_splitmix64(&state);
    float f = (float)(int64_t)(r >> 40) * 0x1p-23f - 1.0f;
    if (kind == 0) return f * 4;
    static const float odd[] = {0.0f,  -0.0f,  1e-40f,  -1e-40f, 88.5f, -104.0f,
                                1e30f, -1e30f, 3.4e38f, 1.0f,    -1.0f, 127.5f};
    return r % 3 ? f * 100 : odd[r >> 8 & 7 ? (r >> 16) % 12 : 4];
}

/* ARRAYS arrays of `n` floats, each ending at an unreadable page. */
struct arrays {
    float *f[ARRAYS];
    char *map[ARRAYS];
    size_t bytes;
};

static void arrays_open(struct arrays *a, int64_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    a->bytes = ((size_t)n * 4 + page - 1) / page * page + page;
    for (int i = 0; i < ARRAYS; i++) {
        a->map[i] = mmap(NULL, a->bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);
        if (a->map[i] == MAP_FAILED || mprotect(a->map[i] + a->bytes, page, PROT_NONE)) abort();
        a->f[i] = (float *)(void *)(a->map[i] + a->bytes) - n;
    }
}

static void arrays_close(struct arrays *a)
{
    for (int i = 0; i < ARRAYS; i++) munmap(a->map[i], a->bytes + (size_t)sysconf(_SC_PAGESIZE));
}

static struct dp_adamw adam = {.keep2 = 0.95f,
                               .mix1 = 0.1f,
                               .mix2 = 0.05f,
                               .eps = 1e-8f,
                               .decay = 0.9999f,
                               .grad_scale = 0.5f,
                               .rate = 1e-2f,
                               .root = 3.0f};

/* Run kernel number `which` on arrays of n floats; a result that is returned goes to *ret. False:
 * no such kernel. */
static bool run(int which, const struct dp_tensor_level *l, int64_t n, float **f, float *ret)
{
    float stat[2] = {0.3f, 0.7f};
    *ret = 0;
    switch (which) {
    case 0:
        l->norm_fwd(n, f[0], f[1], f[2], 1e-5f, f[3], stat);
        *ret = stat[0] + stat[1];
        return true;
    case 1:
        l->norm_fwd(n, f[0], f[1], NULL, 1e-5f, f[3], stat);
        *ret = stat[1];
        return true;
    case 2: l->norm_bwd(n, f[0], f[1], 0, stat, f[2], f[3]); return true;
    case 3: l->norm_bwd(n, f[0], f[1], 1, stat, f[2], f[3]); return true;
    case 4: l->gelu_fwd(n, f[0], f[3]); return true;
    case 5: l->gelu_bwd(n, f[0], f[1], f[1]); return true;
    case 6: l->swiglu_fwd(n, f[0], f[1], f[3]); return true;
    case 7: l->swiglu_bwd(n, f[0], f[1], f[2], f[3], f[4]); return true;
    case 8: l->rope(n / 2, f[1], f[2], -1.0f, f[0] + n % 2); return true;
    case 9:
        if (n) *ret = l->softmax(n, 0.125f, f[0]);
        return true;
    case 10: l->softmax_bwd(n, 0.125f, 2.0f, 0.5f, f[0], f[1]); return true;
    case 11:
        if (n) *ret = l->cross_entropy(n, f[0], n / 2, 0.25f, 0, stat);
        *ret += stat[0];
        return true;
    case 12:
        if (n) *ret = l->cross_entropy(n, f[0], n - 1, 0, 0, stat);
        return true;
    case 13: *ret = l->dot(n, f[0], f[1]); return true;
    case 14: l->axpy(n, 1.5f, f[0], f[1]); return true;
    case 15:
        for (int64_t i = 0; i < n; i++) f[3][i] = fabsf(f[3][i]);
        l->adamw(n, &adam, f[0], f[1], f[2], f[3]);
        return true;
    case 16:
        if (n) *ret = l->cross_entropy(n, f[0], 0, 0.25f, 1e-3f, stat);
        return true;
    case 17:
        if (n < 4) return true;
        l->dot4(n / 4, f[0], f[1], n / 4, f[3]);
        for (int k = 0; k < 4; k++) { /* each is dot's own */
            float one = l->dot(n / 4, f[0], f[1] + k * (n / 4));
            if (memcmp(&one, f[3] + k, 4) != 0 && !(isnan(one) && isnan(f[3][k]))) *ret = 1e30f * (float)(l == &dp_tensor_scalar ? 1 : 2);
        }
        return true;
    default: return false;
    }
}

static int same(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, 4) != 0 && !(isnan(a[i]) && isnan(b[i]))) return 0;
    return 1;
}

static const struct dp_tensor_level *upper(int i)
{
    if (i == 0 && dp_cpu_detected() >= DP_CPU_AVX2) return &dp_tensor_avx2;
    if (i == 1 && dp_cpu_detected() >= DP_CPU_AVX512) return &dp_tensor_avx512;
    return NULL;
}

TEST(levels_agree_at_every_length)
{
    for (int l = 0; l < 2; l++) {
        if (!upper(l)) continue;
        for (int64_t n = 0; n <= MAX; n++) {
            struct arrays a, b;
            float ra, rb;
            arrays_open(&a, n);
            arrays_open(&b, n);
            for (int which = 0, kind = 0; run(which, &dp_tensor_scalar, 0, a.f, &ra);
                 kind++, which += kind % 2 == 0) {
                for (int i = 0; i < ARRAYS; i++)
                    for (int64_t j = 0; j < n; j++) a.f[i][j] = b.f[i][j] = value(kind % 2);
                run(which, &dp_tensor_scalar, n, a.f, &ra);
                run(which, upper(l), n, b.f, &rb);
                bool equal = same(&ra, &rb, 1);
                for (int i = 0; i < ARRAYS; i++) equal = equal && same(a.f[i], b.f[i], n);
                if (!equal)
                    DP_TEST_FAIL("kernel %d, level %d, n %d, values %d differ", which, l + 1,
                                 (int)n, kind % 2);
            }
            arrays_close(&a);
            arrays_close(&b);
        }
    }
}

TEST(column_kernels_agree)
{
    for (int l = 0; l < 2; l++) {
        if (!upper(l)) continue;
        for (int64_t n = 1; n <= 64; n++) {
            struct arrays a, b;
            arrays_open(&a, n * ROWS);
            arrays_open(&b, n * ROWS);
            for (int i = 0; i < ARRAYS; i++)
                for (int64_t j = 0; j < n * ROWS; j++) a.f[i][j] = b.f[i][j] = value(0);
            float stat[2 * ROWS] = {0.1f, 1, 0.2f, 2, 0.3f, 3, 0, 4, 0, 5};
            for (int k = 0; k < 2; k++) {
                struct arrays *x = k ? &b : &a;
                const struct dp_tensor_level *t = k ? upper(l) : &dp_tensor_scalar;
                t->norm_bwd_weights(ROWS, 0, n, n, x->f[0], stat, x->f[1], x->f[2], x->f[3]);
                t->col_sum(ROWS, 0, n, n, x->f[0], x->f[4]);
            }
            for (int i = 0; i < ARRAYS; i++) CHECK(same(a.f[i], b.f[i], n * ROWS));
            arrays_close(&a);
            arrays_close(&b);
        }
    }
}

TEST(activations_against_libm)
{
    double worst_gelu = 0, worst_slope = 0, worst_silu = 0;
    for (double x = -12; x < 12; x += 0.00137) {
        float in = (float)x, one = 1, out, up = 1;
        double v = (double)in, z = 0.7978845608028654 * (v + 0.044715 * v * v * v), t = tanh(z);
        dp_tensor_scalar.gelu_fwd(1, &in, &out);
        worst_gelu = fmax(worst_gelu, fabs((double)out - 0.5 * v * (1 + t)));
        dp_tensor_scalar.gelu_bwd(1, &in, &one, &out);
        double slope = 0.5 * (1 + t) +
                       0.5 * v * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * v * v);
        worst_slope = fmax(worst_slope, fabs((double)out - slope));
        dp_tensor_scalar.swiglu_fwd(1, &in, &up, &out);
        worst_silu = fmax(worst_silu, fabs((double)out - v / (1 + exp(-v))));
    }
    CHECK_NEAR(worst_gelu, 0, 1.2e-6);
    CHECK_NEAR(worst_slope, 0, 6e-7);
    CHECK_NEAR(worst_silu, 0, 1.2e-6);
}

TEST(softmax_and_loss_against_libm)
{
    for (int n = 1; n < 300; n += 7) {
        float x[300], y[300];
        double max = -1e300, sum = 0;
        for (int i = 0; i < n; i++) x[i] = y[i] = value(0) * 5;
        for (int i = 0; i < n; i++) max = fmax(max, (double)x[i]);
        for (int i = 0; i < n; i++) sum += exp((double)x[i] - max);
        float lse = dp_tensor_scalar.softmax(n, 1.0f, y);
        CHECK_NEAR((double)lse, max + log(sum), 3e-6);
        for (int i = 0; i < n; i++) CHECK_NEAR((double)y[i], exp((double)x[i] - max) / sum, 3e-7);
        for (int k = 0; k < 2; k++) {
            double z = k * 0.01, factor = 1 + 2 * z * (max + log(sum));
            memcpy(y, x, sizeof y);
            float loss = dp_tensor_scalar.cross_entropy(n, y, n / 3, 1.0f, (float)z, &lse);
            CHECK_NEAR((double)loss, max + log(sum) - (double)x[n / 3], 4e-6);
            CHECK_NEAR((double)lse, max + log(sum), 3e-6);
            for (int i = 0; i < n; i++)
                CHECK_NEAR((double)y[i], exp((double)x[i] - max) / sum * factor - (i == n / 3), 4e-7);
        }
    }
}

TEST(logarithm_and_squares)
{
    for (double x = 1e-30; x < 1e30; x *= 1.37)
        CHECK_NEAR(dp_tensor_log(x), log(x), 4e-16 * (1 + fabs(log(x))));
    CHECK(dp_tensor_log(1) == 0);
    CHECK(isinf(dp_tensor_log(0)) && isnan(dp_tensor_log((double)NAN)));
    float x[100];
    double sum = 0;
    for (int i = 0; i < 100; i++) x[i] = value(0), sum += (double)x[i] * (double)x[i];
    CHECK_NEAR(dp_tensor_sum_squares(100, x), sum, 1e-11);
    CHECK(dp_tensor_sum_squares(0, x) == 0);
}

TEST(not_a_number_is_not_hidden)
{
    for (int l = -1; l < 2; l++) {
        const struct dp_tensor_level *t = l < 0 ? &dp_tensor_scalar : upper(l);
        if (!t) continue;
        float x[20] = {0}, out[20];
        x[17] = NAN;
        t->gelu_fwd(20, x, out);
        CHECK(isnan(out[17]) && out[16] == 0);
        CHECK(isnan(t->cross_entropy(20, x, 3, 0, 0, out)));
        t->softmax(20, 1, x);
        CHECK(isnan(x[0]));
    }
}

/* Every level's MinHash kernels against the scalar ones: all lengths 0..257, adversarial values, a guard page behind the input. */
#include "base/cpu.h"
#include "base/hash.h"
#include "dedup/minhash.h"
#include "dedup/word_mask.h"
#include "tests/test.h"

#include <sys/mman.h>
#include <unistd.h>

struct level {
    const char *name;
    enum dp_cpu_level cpu;
    dp_minhash_fn update;
    dp_agree_fn agree;
};
static const struct level levels[] = {
    {"avx2", DP_CPU_AVX2, dp_minhash_avx2, dp_agree_avx2},
    {"avx512", DP_CPU_AVX512, dp_minhash_avx512, dp_agree_avx512},
};

/* n bytes that end at a page nobody may read. */
static void *guarded(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (n + page - 1) / page * page;
    char *p = mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + body, page, PROT_NONE) != 0) abort();
    return p + body - n;
}
static void unguarded(void *p, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (n + page - 1) / page * page;
    munmap((char *)p + n - body, body + page);
}

static uint32_t value(uint64_t *rng)
{
    static const uint32_t edge[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    uint64_t r = dp_splitmix64(rng);
    return r % 5 == 0 ? edge[(r >> 8) % 6] : (uint32_t)(r >> 32);
}

enum { PADDED = 1024 + 16 };

static void update_case(const struct level *l, size_t k, size_t n, uint64_t *rng)
{
    static uint32_t a[PADDED], b[PADDED], want[PADDED], got[PADDED];
    size_t bytes = n * 8;
    uint32_t *x = guarded(bytes ? bytes : 8);
    for (size_t j = 0; j < PADDED; j++) {
        a[j] = value(rng) | 1;
        b[j] = value(rng);
        want[j] = got[j] = value(rng) | 0x80000000u;
    }
    for (size_t i = 0; i < 2 * n; i++) x[i] = value(rng);
    dp_minhash_scalar(want, a, b, k, x, n);
    l->update(got, a, b, k, x, n);
    if (memcmp(want, got, k * sizeof *want) != 0) DP_TEST_FAIL("%s: %zu slots, %zu shingles differ", l->name, k, n);
    size_t pad = (k + 15) / 16 * 16;
    if (memcmp(want + pad, got + pad, (PADDED - pad) * sizeof *want) != 0) DP_TEST_FAIL("%s: %zu slots: wrote past the padding", l->name, k);
    unguarded(x, bytes ? bytes : 8);
}

TEST(update_agrees)
{
    uint64_t rng = 7;
    int ran = 0;
    for (size_t v = 0; v < sizeof levels / sizeof *levels; v++) {
        if (levels[v].cpu > dp_cpu_detected()) continue;
        ran++;
        for (size_t n = 0; n <= 257; n++) update_case(&levels[v], 56, n, &rng);
        for (size_t k = 1; k <= 257; k++) update_case(&levels[v], k, 1 + k % 19, &rng);
        update_case(&levels[v], 1024, 100, &rng);
    }
    if (!ran) SKIP("this machine has the scalar level only");
}

TEST(agree_agrees)
{
    uint64_t rng = 9;
    int ran = 0;
    for (size_t v = 0; v < sizeof levels / sizeof *levels; v++) {
        if (levels[v].cpu > dp_cpu_detected()) continue;
        ran++;
        for (size_t k = 0; k <= 257; k++)
            for (int mode = 0; mode < 3; mode++) {
                size_t bytes = k ? 2 * k : 2;
                uint16_t *p = guarded(bytes), *q = guarded(bytes);
                for (size_t j = 0; j < k; j++) {
                    p[j] = (uint16_t)value(&rng);
                    q[j] = mode == 0 ? (uint16_t)value(&rng) : mode == 1 ? p[j] : (uint16_t)(p[j] ^ (j & 1) << 8);
                }
                CHECK_INT(levels[v].agree(p, q, k), dp_agree_scalar(p, q, k));
                unguarded(p, bytes);
                unguarded(q, bytes);
            }
    }
    if (!ran) SKIP("this machine has the scalar level only");
}

TEST(word_masks_agree)
{
    static uint8_t out[2][320];
    uint64_t mask[2][5], rng = 21;
    if (dp_cpu_detected() < DP_CPU_AVX2) SKIP("this machine has the scalar level only");
    for (size_t n = 0; n <= 257; n++)
        for (int mode = 0; mode < 4; mode++) {
            uint8_t *p = guarded(n ? n : 1);
            for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(dp_splitmix64(&rng) & (mode ? 0x7f : 0xff));
            if (mode == 2) memset(p, 'z', n);
            if (mode == 3 && n) p[dp_splitmix64(&rng) % n] = 0x80;
            memset(mask, 0, sizeof mask);
            size_t a = dp_word_mask_scalar(p, n, out[0], mask[0]), b = dp_word_mask_avx2(p, n, out[1], mask[1]);
            if (a != b || memcmp(out[0], out[1], a) != 0 || memcmp(mask[0], mask[1], sizeof mask[0]) != 0)
                DP_TEST_FAIL("length %zu, mode %d: %zu and %zu bytes", n, mode, a, b);
            unguarded(p, n ? n : 1);
        }
}

TEST(signatures_are_the_same_bytes_at_every_level)
{
    static char text[20000];
    static struct dp_minhash_scratch scratch;
    static struct dp_minhash m;
    struct dp_err err;
    uint64_t rng = 3;
    for (size_t i = 0; i < sizeof text; i++) text[i] = dp_splitmix64(&rng) % 5 ? (char)('a' + dp_splitmix64(&rng) % 6) : ' ';
    struct dp_sig_params p = {14, 8, 5, false, 1};
    uint32_t first[112], sig[112];
    for (int lv = DP_CPU_SCALAR; lv <= (int)dp_cpu_detected(); lv++) {
        CHECK_OK(dp_cpu_force(dp_cpu_name((enum dp_cpu_level)lv), &err));
        CHECK_OK(dp_minhash_init(&m, &p, &err));
        CHECK(dp_minhash_text(&m, &scratch, dp_span(text, sizeof text), sig) > 1000);
        if (lv == DP_CPU_SCALAR) memcpy(first, sig, sizeof sig);
        CHECK(memcmp(first, sig, sizeof sig) == 0);
    }
}

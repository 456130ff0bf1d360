/* Widening kernels: every level against the scalar one; every length 0..257, every alignment of the
 * source's type, source ending at a guard page, target surrounded by sentinels; maxima in every
 * place. */
#include "trainer_feed/feed_widen.h"

#include "base/cpu.h"
#include "base/hash.h"
#include "tests/test.h"

#include <sys/mman.h>

enum { PAGE = 4096, LEN = 258 };
static int32_t got[LEN + 2], want[LEN + 2];

static char *guarded(void)
{
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + PAGE, PAGE, PROT_NONE) != 0) abort();
    return p + PAGE;
}

static void check_all(dp_feed_widen16_fn w16, dp_feed_widen32_fn w32)
{
    char *end = guarded();
    uint64_t state = 5;
    for (int kind = 0; kind < 4; kind++)
        for (size_t n = 0; n < LEN; n++)
            for (size_t gap = 0; gap < 17; gap++) { /* ids between the source and the guard page */
                uint16_t *a = (uint16_t *)(void *)end - n - gap;
                uint32_t *b = (uint32_t *)(void *)end - n - gap;
                for (int wide = 0; wide < 2; wide++) {
                    for (size_t i = 0; i < n + gap; i++) {
                        uint32_t v = kind == 0    ? (uint32_t)dp_splitmix64(&state)
                                     : kind == 1  ? UINT32_MAX
                                     : kind == 2  ? 0
                                     : i == n / 2 ? 0x8000fffe
                                                  : 3;
                        if (wide) b[i] = v;
                        else a[i] = (uint16_t)v;
                    }
                    memset(got, 0x5a, sizeof got);
                    memset(want, 0x5a, sizeof want);
                    uint32_t x = wide ? w32(got + 1, b, n) : w16(got + 1, a, n);
                    uint32_t y = wide ? dp_feed_widen32_scalar(want + 1, b, n)
                                      : dp_feed_widen16_scalar(want + 1, a, n);
                    REQUIRE(x == y && memcmp(got, want, sizeof got) == 0);
                }
            }
}

/* copy16 against the scalar one, between sentinels, every length and alignment, to the guard page. */
static void check_copy(dp_feed_copy16_fn copy)
{
    static uint16_t to[LEN + 2], same[LEN + 2];
    char *end = guarded();
    uint64_t state = 6;
    for (int kind = 0; kind < 3; kind++)
        for (size_t n = 0; n < LEN; n++)
            for (size_t gap = 0; gap < 17; gap++) {
                uint16_t *a = (uint16_t *)(void *)end - n - gap;
                for (size_t i = 0; i < n + gap; i++) a[i] = kind == 0 ? (uint16_t)dp_splitmix64(&state) : kind == 1 ? 0 : i == n / 3 ? 65534 : 2;
                memset(to, 0x5a, sizeof to);
                memset(same, 0x5a, sizeof same);
                uint32_t x = copy(to + 1, a, n), y = dp_feed_copy16_scalar(same + 1, a, n);
                REQUIRE(x == y && memcmp(to, same, sizeof to) == 0 && memcmp(to + 1, a, n * 2) == 0);
            }
}

TEST(widen_scalar)
{
    check_all(dp_feed_widen16_scalar, dp_feed_widen32_scalar);
    check_copy(dp_feed_copy16_scalar);
    uint16_t a[] = {7, 65535, 0};
    uint32_t b[] = {7, 0x80000001, 0};
    CHECK_INT(dp_feed_widen16_scalar(got, a, 3), 65535);
    CHECK(got[0] == 7 && got[1] == 65535 && got[2] == 0);
    CHECK_INT(dp_feed_widen32_scalar(got, b, 3), 0x80000001u);
}

TEST(widen_avx2)
{
#if defined(__x86_64__)
    if (dp_cpu_detected() < DP_CPU_AVX2) SKIP("this processor has no AVX2");
    check_all(dp_feed_widen16_avx2, dp_feed_widen32_avx2);
    check_copy(dp_feed_copy16_avx2);
#else
    SKIP("x86-64 only");
#endif
}

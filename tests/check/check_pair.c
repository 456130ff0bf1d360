/* The kernel that makes int64 pairs of a row: every level against the scalar one; every length 0..130, every alignment of the types,
 * source ending at a guard page, targets surrounded by sentinels. */
#include "base/cpu.h"
#include "base/hash.h"
#include "tests/test.h"
#include "trainer_feed/feed_pair.h"

#include <sys/mman.h>

enum { PAGE = 4096, LEN = 131, ALIGN = 8, SIZE = LEN + 2 * ALIGN };
static int64_t got[2][SIZE], want[2][SIZE];

static char *guarded(void)
{
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + PAGE, PAGE, PROT_NONE) != 0) abort();
    return p + PAGE;
}

static void check_all(dp_feed_pair_fn pair)
{
    char *end = guarded();
    uint64_t state = 5;
    for (size_t n = 0; n < LEN; n++)
        for (size_t gap = 0; gap < ALIGN; gap++) { /* ids between the source and the guard page; and where the targets begin */
            int32_t *row = (int32_t *)(void *)end - n - 1 - gap;
            for (size_t i = 0; i <= n + gap; i++) row[i] = (int32_t)(uint32_t)(dp_splitmix64(&state) >> (i % 3 ? 43 : 32));
            memset(got, 0x5a, sizeof got);
            memset(want, 0x5a, sizeof want);
            pair(got[0] + gap, got[1] + ALIGN - gap, row, n);
            dp_feed_pair_scalar(want[0] + gap, want[1] + ALIGN - gap, row, n);
            REQUIRE(memcmp(got, want, sizeof got) == 0);
        }
}

TEST(pair_scalar)
{
    const int32_t row[] = {7, -1, 0, 200018};
    memset(got, 0x5a, sizeof got);
    dp_feed_pair_scalar(got[0], got[1], row, 3);
    CHECK(got[0][0] == 7 && got[0][1] == 4294967295 && got[0][2] == 0 && got[0][3] == 0x5a5a5a5a5a5a5a5a);
    CHECK(got[1][0] == 4294967295 && got[1][1] == 0 && got[1][2] == 200018 && got[1][3] == 0x5a5a5a5a5a5a5a5a);
    check_all(dp_feed_pair_scalar);
}

TEST(pair_avx2)
{
#if defined(__x86_64__)
    if (dp_cpu_detected() < DP_CPU_AVX2) SKIP("this processor has no AVX2");
    check_all(dp_feed_pair_avx2);
#else
    SKIP("x86-64 only");
#endif
}

TEST(pair_avx512)
{
#if defined(__x86_64__)
    if (dp_cpu_detected() < DP_CPU_AVX512) SKIP("this processor has no AVX-512");
    check_all(dp_feed_pair_avx512);
#else
    SKIP("x86-64 only");
#endif
}

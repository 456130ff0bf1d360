#include "trainer_feed/feed_mix.h"

#include "base/hash.h"
#include "tests/test.h"

#include <stdio.h>

static struct dp_err err;
static const char *const abc[] = {"a", "b", "c"};
static const uint64_t rows_abc[] = {1000, 70, 333};

/* The slow way: look at every sample. Each draw must be the next of its domain. */
static void check_counts(const struct dp_feed_mix *m, uint64_t samples, uint64_t count[])
{
    memset(count, 0, DP_FEED_DOMAINS_MAX * sizeof *count);
    for (uint64_t g = 0; g < samples; g++) {
        uint64_t draw;
        size_t d = dp_feed_mix_at(m, g, &draw);
        REQUIRE(d < m->domains);
        for (size_t k = 0; k < m->domains; k++) REQUIRE(dp_feed_mix_draws(m, g, k) == count[k]);
        REQUIRE(draw == count[d]);
        count[d]++;
    }
}

TEST(mix_has_exact_shares_in_any_window)
{
    struct dp_feed_mix m;
    uint64_t count[DP_FEED_DOMAINS_MAX];
    for (uint64_t seed = 0; seed < 20; seed++) {
        REQUIRE_OK(dp_feed_mix_open(&m, "a=0.5,b=0.3,c=0.2", abc, rows_abc, 3, seed, &err));
        check_counts(&m, 500, count);
        CHECK(count[0] == 250 && count[1] == 150 && count[2] == 100);
        for (uint64_t from = 0; from < 200; from++)
            for (size_t d = 0; d < 3; d++)
                CHECK_INT(dp_feed_mix_draws(&m, from + 10, d) - dp_feed_mix_draws(&m, from, d), d == 0 ? 5 : d == 1 ? 3 : 2);
        dp_feed_mix_release(&m);
    }
}

TEST(mix_of_random_weights_and_stages)
{
    uint64_t state = 7, count[DP_FEED_DOMAINS_MAX];
    static char name[20][4];
    const char *names[20];
    uint64_t rows[20];
    for (int i = 0; i < 20; i++) {
        snprintf(name[i], sizeof name[i], "d%02d", i);
        names[i] = name[i];
        rows[i] = 1 + dp_splitmix64(&state) % 500;
    }
    for (int round = 0; round < 60; round++) {
        size_t n = 1 + dp_splitmix64(&state) % 20;
        char text[4096] = "";
        size_t len = 0;
        uint64_t start = 0;
        for (int stage = 0; stage < 4; stage++, start += 1 + dp_splitmix64(&state) % 700) {
            if (stage) len += (size_t)snprintf(text + len, sizeof text - len, "; %d:", (int)start);
            for (size_t d = 0; d < n; d++)
                len += (size_t)snprintf(text + len, sizeof text - len, "%s%s=%d.%03d", d ? "," : "", names[d], d == 0,
                                        (int)(dp_splitmix64(&state) % 3 ? dp_splitmix64(&state) % 1000 : 0));
        }
        struct dp_feed_mix m;
        REQUIRE_OK(dp_feed_mix_open(&m, text, names, rows, n, (uint64_t)round, &err));
        CHECK_INT(m.stages, 4);
        check_counts(&m, 3000, count);
        /* Every prefix of the last stage is near its shares. */
        const struct dp_feed_stage *s = &m.stage[3];
        for (uint64_t k = 0; k < 3000; k += 37)
            for (size_t d = 0; d < n; d++) {
                double share = (double)(s->sum[d + 1] - s->sum[d]) / (double)s->sum[n] * (double)k;
                double got = (double)(dp_feed_mix_draws(&m, s->start + k, d) - s->before[d]);
                REQUIRE(fabs(got - share) <= log2((double)n) + 1);
                if (s->sum[d + 1] == s->sum[d]) REQUIRE(got == 0);
            }
        dp_feed_mix_release(&m);
    }
}

TEST(mix_by_epochs)
{
    struct dp_feed_mix m;
    uint64_t count[DP_FEED_DOMAINS_MAX];
    REQUIRE_OK(dp_feed_mix_open(&m, "a=2e, b=3.5e, c=1e", abc, rows_abc, 3, 1, &err));
    CHECK_INT(m.pass, 2000 + 245 + 333);
    check_counts(&m, m.pass, count);
    CHECK(count[0] == 2000 && count[1] == 245 && count[2] == 333 && m.by_epochs);
    dp_feed_mix_release(&m);
    REQUIRE_OK(dp_feed_mix_open(&m, NULL, abc, rows_abc, 3, 1, &err)); /* the default: one of each */
    check_counts(&m, m.pass, count);
    CHECK(m.pass == 1403 && count[0] == 1000 && count[1] == 70 && count[2] == 333);
    dp_feed_mix_release(&m);
    REQUIRE_OK(dp_feed_mix_open(&m, "a=0.5,b=0.5; 100:a=1e,c=1e", abc, rows_abc, 3, 1, &err));
    check_counts(&m, m.pass, count);
    CHECK(m.pass == 1433 && count[0] == 1050 && count[1] == 50 && count[2] == 333);
    dp_feed_mix_release(&m);
}

TEST(mix_of_large_numbers)
{
    /* Weights whose sum takes 64-bit products, samples near the end. */
    static const uint64_t rows[] = {(UINT64_C(1) << 40) + 1, 3, 1000000007};
    struct dp_feed_mix m;
    REQUIRE_OK(dp_feed_mix_open(&m, "a=1.001e,b=7e,c=0.25e", abc, rows, 3, 5, &err));
    uint64_t state = 3;
    for (int i = 0; i < 20000; i++) {
        uint64_t g = dp_splitmix64(&state) >> (2 + i % 50), draw, sum = 0;
        if (g >= UINT64_C(1) << 62) continue;
        size_t d = dp_feed_mix_at(&m, g, &draw);
        for (size_t k = 0; k < 3; k++) {
            uint64_t before = dp_feed_mix_draws(&m, g, k), after = dp_feed_mix_draws(&m, g + 1, k);
            sum += before;
            REQUIRE(after - before == (k == d));
            if (k == d) REQUIRE(draw == before);
        }
        REQUIRE(sum == g);
    }
    dp_feed_mix_release(&m);
}

TEST(mix_is_frozen)
{
    struct dp_feed_mix m;
    uint64_t fold = 0, draw;
    REQUIRE_OK(dp_feed_mix_open(&m, "a=0.7,b=0.2,c=0.1; 1000:a=0.2,b=0.75,c=0.05", abc, rows_abc, 3, 42, &err));
    for (uint64_t g = 0; g < 3000; g++) {
        size_t d = dp_feed_mix_at(&m, g, &draw);
        fold = dp_mix64(fold + d + draw * 3);
    }
    CHECK_INT(fold, INT64_C(8622966282143789693));
    char head[41] = "";
    for (uint64_t g = 0; g < 40; g++) head[g] = (char)('a' + dp_feed_mix_at(&m, g, &draw));
    CHECK_STR(head, "caabaabaaacaabaabaaacaabaabaaacaabaabaaa");
    dp_feed_mix_release(&m);
}

TEST(mix_refuses)
{
    static const struct {
        const char *text, *says;
    } t[] = {
        {"", "name is expected"},
        {"a", "= is expected"},
        {"a=", "a weight is expected"},
        {"a=.", "a weight is expected"},
        {"a=-1", "a weight is expected"},
        {"a=x", "a weight is expected"},
        {"a=0", "are 0"},
        {"a=0,b=0e", "not both"},
        {"a=1,b=1e", "not both"},
        {"a=1,a=2", "twice"},
        {"a=1,z=2", "domain z that there isn't"},
        {"a=1 b=2", "a comma"},
        {"a=1,", "name is expected"},
        {"a=1;", "name is expected"},
        {"a=1;5:", "name is expected"},
        {"5:a=1", "first stage begins at sample 0"},
        {"a=1;a=2", "rising"},
        {"a=1;7:a=1;7:b=1", "rising"},
        {"a=1;9999999999999999999999:b=1", "past 2^62"},
        {"a=0.1234567891", "9 digits"},
        {"a=1000001", "over 1000000"},
        {"a=1000000.5", "over 1000000"},
        {"a=99999999999999999999999999", "over 1000000"},
    };
    struct dp_feed_mix m;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        err.msg[0] = 0;
        CHECK_INT(dp_feed_mix_open(&m, t[i].text, abc, rows_abc, 3, 1, &err), DP_CONFIG);
        if (!strstr(err.msg, t[i].says)) DP_TEST_FAIL("\"%s\": %s", t[i].text, err.msg);
        CHECK(!m.stage);
    }
    static const uint64_t huge[] = {(UINT64_C(1) << 60) - 1, (UINT64_C(1) << 60) - 3, 5};
    CHECK_INT(dp_feed_mix_open(&m, "a=3.000000001e,b=3.000000003e", abc, huge, 3, 1, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "fewer digits"));
}

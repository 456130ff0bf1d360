/* tests/test.h - a test program: TEST(name) { CHECK(...); } and nothing else; main is here.
 *
 * Every TEST is one case. A failed CHECK prints file, line and values and fails the case; REQUIRE also leaves it.
 * The last line is "N passed, N failed" (", N skipped" when there are any), which tests/run.sh adds up.
 * Arguments: part of a case's name to run only those. Run from the root of the tree: data is in tests/data. */
#ifndef DP_TESTS_TEST_H
#define DP_TESTS_TEST_H

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dp_test {
    const char *name;
    void (*fn)(void);
    struct dp_test *next;
};
static struct dp_test *dp_tests, **dp_tests_end = &dp_tests;
static int dp_test_bad;
static const char *dp_test_skip;

#define TEST(id)                                                                                   \
    static void id(void);                                                                          \
    __attribute__((constructor)) static void reg_##id(void)                                        \
    {                                                                                              \
        static struct dp_test t = {#id, id, NULL};                                                 \
        *dp_tests_end = &t;                                                                        \
        dp_tests_end = &t.next;                                                                    \
    }                                                                                              \
    static void id(void)
#define DP_TEST_FAIL(...)                                                                          \
    (dp_test_bad++, fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))
#define CHECK(cond) ((cond) ? (void)0 : (void)DP_TEST_FAIL("%s", #cond))
#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            DP_TEST_FAIL("%s", #cond);                                                             \
            return;                                                                                \
        }                                                                                          \
    } while (0)
/* For calls with a struct dp_err named err. */
#define CHECK_OK(call)                                                                             \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        if (rc_ < 0) DP_TEST_FAIL("%s: %d: %s", #call, rc_, err.msg);                              \
    } while (0)
#define REQUIRE_OK(call)                                                                           \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        if (rc_ < 0) {                                                                             \
            DP_TEST_FAIL("%s: %d: %s", #call, rc_, err.msg);                                       \
            return;                                                                                \
        }                                                                                          \
    } while (0)
#define CHECK_INT(got, want)                                                                       \
    do {                                                                                           \
        int64_t g_ = (int64_t)(got), w_ = (int64_t)(want);                                         \
        if (g_ != w_) DP_TEST_FAIL("%s is %" PRId64 ", not %" PRId64, #got, g_, w_);               \
    } while (0)
#define CHECK_STR(got, want)                                                                       \
    do {                                                                                           \
        const char *g_ = (got), *w_ = (want);                                                      \
        if (!g_ || !w_ || strcmp(g_, w_) != 0) DP_TEST_FAIL("%s is \"%s\", not \"%s\"", #got, g_ ? g_ : "(null)", w_ ? w_ : "(null)"); \
    } while (0)
#define CHECK_SPAN(got, want)                                                                      \
    do {                                                                                           \
        struct dp_span g_ = (got);                                                                 \
        const char *w_ = (want);                                                                   \
        if (g_.len != strlen(w_) || (g_.len && memcmp(g_.ptr, w_, g_.len) != 0))                   \
            DP_TEST_FAIL("%s is \"%.*s\", not \"%s\"", #got, (int)g_.len, g_.ptr ? g_.ptr : "", w_); \
    } while (0)
#define CHECK_NEAR(got, want, tol)                                                                 \
    do {                                                                                           \
        double g_ = (got), w_ = (want), t_ = (tol);                                                \
        if (!(fabs(g_ - w_) <= t_)) DP_TEST_FAIL("%s is %.9g, not %.9g +- %.3g", #got, g_, w_, t_); \
    } while (0)
#define SKIP(why)                                                                                  \
    do {                                                                                           \
        dp_test_skip = (why);                                                                      \
        return;                                                                                    \
    } while (0)

/* A whole file of this text. */
__attribute__((unused)) static void dp_test_write(const char *dir, const char *name, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f) abort();
    fputs(text, f);
    fclose(f);
}

/* A new folder under TMPDIR (tests/run.sh removes that); valid until the program ends, at most 64 a program. */
__attribute__((unused)) static char *dp_test_tmpdir(void)
{
    static char paths[64][512];
    static int used;
    if (used == 64) abort();
    char *p = paths[used++];
    snprintf(p, sizeof paths[0], "%s/dpipe-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(p)) abort();
    return p;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0, skipped = 0;
    for (struct dp_test *t = dp_tests; t; t = t->next) {
        bool want = argc < 2;
        for (int i = 1; i < argc; i++) want = want || strstr(t->name, argv[i]);
        if (!want) continue;
        dp_test_bad = 0;
        dp_test_skip = NULL;
        t->fn();
        if (dp_test_bad) {
            failed++;
            fprintf(stderr, "FAIL %s\n", t->name);
        } else if (dp_test_skip) {
            skipped++;
            fprintf(stderr, "skip %s: %s\n", t->name, dp_test_skip);
        } else passed++;
    }
    if (skipped) printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    else printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

#endif

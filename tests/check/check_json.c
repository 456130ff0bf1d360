/* JSON lines at every CPU level: how far a string is plain, against a byte by byte look, from every place to every end; and whole lines, whose fields and errors are the
 * same at all levels. */
#include "tests/test.h"

#include "base/cpu.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/json_plain.h"

static bool special(char c)
{
    return c == '"' || c == '\\' || (unsigned char)c < 0x20;
}

static void check_plain(size_t (*fn)(const char *, size_t), size_t width, const char *p, size_t n)
{
    size_t plain = 0, whole = n / width * width;
    while (plain < whole && !special(p[plain])) plain++;
    CHECK_INT(fn(p, n), plain);
}

TEST(plain_bytes_at_every_level)
{
    uint64_t seed = 3;
    static const char specials[] = "\"\\\n\t\x00\x1f\x20\x21\x23\x5b\x5d\x7f\x80\xff\xa2\xdc";
    for (int round = 0; round < 3000; round++) {
        size_t n = dp_splitmix64(&seed) % 200;
        char *p = malloc(n + 1); /* sanitizers see its end */
        for (size_t i = 0; i < n; i++) p[i] = (char)(0x23 + dp_splitmix64(&seed) % 0x38);
        for (uint64_t k = dp_splitmix64(&seed) % 4; n && k; k--) p[dp_splitmix64(&seed) % n] = specials[dp_splitmix64(&seed) % (sizeof specials - 1)];
        for (size_t from = 0; from <= n; from += 1 + n / 16) {
            check_plain(dp_json_plain_scalar, 8, p + from, n - from);
            if (dp_cpu_detected() >= DP_CPU_AVX2) check_plain(dp_json_plain_avx2, 32, p + from, n - from);
        }
        free(p);
    }
}

/* A line of random parts, many of which are no JSON. */
static size_t make_line(char *to, uint64_t *seed)
{
    static const char *const parts[] = {"{", "}", "\"text\":\"", "\"", "\\n", "\\\"", "\\u00e9", "\\x", "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz", "short", "\xe4\xb8\xad", ",", ":", "1", "null", "\n"};
    size_t n = 0;
    if (dp_splitmix64(seed) % 8) n += (size_t)snprintf(to, 400, "{\"a\":1,\"text\":\"");
    for (uint64_t k = dp_splitmix64(seed) % 6; k; k--) {
        const char *s = parts[dp_splitmix64(seed) % (dp_splitmix64(seed) % 3 ? 10 : sizeof parts / sizeof *parts)];
        n += (size_t)snprintf(to + n, 400 - n, "%s", s);
    }
    if (dp_splitmix64(seed) % 4) n += (size_t)snprintf(to + n, 400 - n, "\",\"z\":[]}");
    return n;
}

TEST(lines_at_every_level)
{
    uint64_t seed = 9;
    struct dp_arena mem;
    int good = 0;
    dp_arena_init(&mem, 1 << 20);
    for (int round = 0; round < 20000; round++) {
        char line[400];
        size_t n = make_line(line, &seed);
        char *p = malloc(n + 1);
        memcpy(p, line, n);
        struct dp_json_field f[2] = {{.key = "text"}, {.key = "text"}};
        struct dp_err e[2] = {{0}, {0}}, err;
        int rc[2];
        for (int level = 0; level < 2; level++) {
            CHECK_OK(dp_cpu_force(level ? dp_cpu_name(dp_cpu_detected()) : "scalar", &err));
            rc[level] = dp_json_fields(dp_span(p, n), &f[level], 1, &mem, &e[level]);
        }
        CHECK_INT(rc[0], rc[1]);
        CHECK_STR(e[0].msg, e[1].msg);
        if (rc[0] == DP_OK) CHECK(f[0].raw.ptr == f[1].raw.ptr && f[0].raw.len == f[1].raw.len && dp_span_eq(f[0].str, f[1].str));
        good += rc[0] == DP_OK;
        dp_arena_reset(&mem);
        free(p);
    }
    CHECK(good > 1000 && good < 19000);
    dp_arena_release(&mem);
}

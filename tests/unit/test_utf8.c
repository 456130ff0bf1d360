/* UTF-8: the scalar validator against an independent one, AVX2 against scalar, repair, NFC against frozen vectors. */
#include "base/cpu.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/nfc.h"
#include "base/utf8.h"
#include "tests/test.h"

#include <sys/mman.h>
#include <unistd.h>

/* By decoding to numbers and looking at ranges: another road than the validator's. */
static size_t reference(const unsigned char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        unsigned k = p[i] < 0x80 ? 1 : (p[i] & 0xE0) == 0xC0 ? 2 : (p[i] & 0xF0) == 0xE0 ? 3 : (p[i] & 0xF8) == 0xF0 ? 4 : 0;
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        if (!k || i + k > n) return i;
        uint32_t c = k == 1 ? p[i] : p[i] & (0x7Fu >> k);
        for (unsigned j = 1; j < k; j++) {
            if ((p[i + j] & 0xC0) != 0x80) return i;
            c = c << 6 | (p[i + j] & 63u);
        }
        if (c < least[k] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return i;
        i += k;
    }
    return n;
}

TEST(every_length_against_a_guard_page)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *m = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(m != MAP_FAILED);
    REQUIRE(mprotect(m + page, page, PROT_NONE) == 0);
    uint64_t seed = 1;
    for (int round = 0; round < 60; round++) {
        for (size_t n = 0; n <= 257; n++) {
            char *p = m + page - n;
            for (size_t i = 0; i < n;) {
                static const char *const bits[] = {"a", "zzzzzzzzzzzzzzzz", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"};
                uint64_t r = dp_splitmix64(&seed);
                const char *s = bits[r % 7];
                for (; *s && i < n; s++) p[i++] = *s;
            }
            if (n && round % 3) p[dp_splitmix64(&seed) % n] = (char)dp_splitmix64(&seed);
            size_t want = reference((unsigned char *)p, n);
            CHECK_INT(dp_utf8_valid_len_scalar(p, n), want);
            CHECK_INT(dp_utf8_valid_len(p, n), want);
            size_t ascii = 0;
            while (ascii < n && (unsigned char)p[ascii] < 0x80) ascii++;
            CHECK_INT(dp_utf8_ascii_len_scalar(p, n), ascii);
            CHECK_INT(dp_utf8_ascii_len(p, n), ascii);
#if defined(__x86_64__)
            if (dp_cpu() >= DP_CPU_AVX2) {
                CHECK_INT(dp_utf8_valid_len_avx2(p, n), want);
                CHECK_INT(dp_utf8_ascii_len_avx2(p, n), ascii);
            }
#endif
        }
    }
    munmap(m, 2 * page);
}

TEST(every_two_and_three_bytes)
{
    char p[48];
    for (unsigned v = 0; v < 1u << 24; v += v < 0xC00000 ? 4099 : 13) {
        memset(p, 'x', sizeof p);
        for (unsigned at = 28; at <= 31; at += 3) {
            p[at] = (char)(v >> 16), p[at + 1] = (char)(v >> 8), p[at + 2] = (char)v;
            size_t want = reference((unsigned char *)p, sizeof p);
            if (dp_utf8_valid_len(p, sizeof p) != want) DP_TEST_FAIL("%06x at %u", v, at);
        }
    }
}

TEST(repair_replaces_maximal_subparts)
{
    static const struct {
        const char *in, *out;
        size_t n;
    } t[] = {{"abc", "abc", 0}, {"\x80", "\xEF\xBF\xBD", 1}, {"a\xE2\x82z", "a\xEF\xBF\xBDz", 1},
             {"\xF0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 3}, {"\xC3", "\xEF\xBF\xBD", 1}, {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 3}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct dp_buf b;
        dp_buf_init(&b, 1000);
        CHECK_INT(dp_utf8_repair(dp_span_str(t[i].in), &b), t[i].n);
        CHECK_SPAN(dp_buf_span(&b), t[i].out);
        dp_buf_release(&b);
    }
}

static size_t unhex(const char **p, char *out)
{
    size_t n = 0;
    for (unsigned v; sscanf(*p, "%2x", &v) == 1 && **p > ' '; *p += 2) out[n++] = (char)v;
    return n;
}

TEST(nfc_as_python_gives_it)
{
    struct dp_err err;
    struct dp_buf f, out;
    struct dp_nfc n = {0};
    int cases = 0;
    dp_buf_init(&f, 1 << 20);
    dp_buf_init(&out, 1 << 20);
    REQUIRE_OK(dp_fs_read("tests/data/clean/nfc.txt", &f, &err));
    for (const char *p = f.ptr; *p;) {
        char a[256], b[256];
        size_t na, nb;
        if (*p != '#') {
            na = unhex(&p, a);
            p++;
            nb = unhex(&p, b);
            dp_buf_clear(&out);
            REQUIRE(dp_nfc(&n, dp_span(a, na), &out) == DP_OK);
            if (!dp_span_eq(dp_buf_span(&out), dp_span(b, nb))) DP_TEST_FAIL("case %d differs", cases);
            if (dp_nfc_quick(dp_span(a, na))) CHECK(na == nb && memcmp(a, b, na) == 0);
            cases++;
        }
        p = strchr(p, '\n') + 1;
    }
    CHECK_INT(cases, 900);
    dp_nfc_release(&n);
    dp_buf_release(&f);
    dp_buf_release(&out);
}

/* A megabyte of marks must not take quadratic time (the counting sort), and comes out ordered. */
TEST(nfc_of_many_marks)
{
    enum { N = 200000 };
    struct dp_buf in, out;
    struct dp_nfc n = {0};
    dp_buf_init(&in, 1 << 20);
    dp_buf_init(&out, 4 << 20);
    dp_buf_add_char(&in, 'x');
    for (int i = 0; i < N; i++) dp_buf_add(&in, i & 1 ? "\xCC\xA3" : "\xCD\x85", 2);
    REQUIRE(dp_nfc(&n, dp_buf_span(&in), &out) == DP_OK);
    REQUIRE(out.len == in.len);
    CHECK(memcmp(out.ptr + 1, "\xCC\xA3", 2) == 0 && memcmp(out.ptr + out.len - 2, "\xCD\x85", 2) == 0);
    dp_nfc_release(&n);
    dp_buf_release(&in);
    dp_buf_release(&out);
}

TEST(census_scalar_and_avx2)
{
    enum { N = 1000 };
    static const char *const pieces[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\n", "\x01", "\x0B", "\x1B", "\x1F", "\x7F", "\t", "\x08", "\x0C", "\x0E", "\r", " "};
    char text[N * 4];
    uint32_t x = 1;
    struct dp_utf8_census s = dp_utf8_census_scalar("a\x01\xC3\xA9\x1B\n\0", 7);
    CHECK(s.chars == 6 && s.controls == 2);
    for (int round = 0; round < 200; round++) {
        size_t n = 0;
        for (int i = 0; i < round * 5; i++) {
            const char *p = pieces[(x = x * 1664525 + 1013904223) >> 28];
            memcpy(text + n, p, strlen(p));
            n += strlen(p);
        }
        char *copy = malloc(n + 1); /* of its own size, so that a read past the end is seen */
        REQUIRE(copy);
        memcpy(copy, text, n);
        struct dp_utf8_census a = dp_utf8_census_scalar(copy, n);
        CHECK(a.chars == dp_utf8_count(copy, n));
#if defined(__x86_64__)
        if (dp_cpu() >= DP_CPU_AVX2) {
            struct dp_utf8_census b = dp_utf8_census_avx2(copy, n);
            CHECK(a.chars == b.chars && a.controls == b.controls);
        }
#endif
        free(copy);
    }
}

/* What Python 3.11's decode("utf-8", "replace") gives; ? stands for U+FFFD. */
TEST(replaced_as_python_does)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ""},
        {"abc \xC3\xA9 \xF0\x9F\x98\x80", "abc \xC3\xA9 \xF0\x9F\x98\x80"},
        {"\xE2\x82", "?"},
        {"\xE2\x82" "a", "?a"},
        {"\xF0\x9F\x98", "?"},
        {"\xF0\x9F\x98 \xF0\x9F!", "? ?!"},
        {"\xED\xA0\x80", "???"},
        {"\xC0\xAF", "??"},
        {"\xE0\x80\x80", "???"},
        {"\xE0\xA0", "?"},
        {"\xF4\x90\x80\x80", "????"},
        {"\xF4\x8F\xBF", "?"},
        {"\xF5\x80", "??"},
        {"\xF0\x80\x80", "???"},
        {"\xF0\x90\x80\xC3\xA9", "?\xC3\xA9"},
        {"a\x80" "b\xFF", "a?b?"},
        {"\xC3", "?"},
        {"\xC3\xC3\xA9", "?\xC3\xA9"},
    };
    struct dp_buf buf, want;
    struct dp_err err;
    dp_buf_init(&buf, 100);
    dp_buf_init(&want, 100);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_span text = dp_span_str(cases[i].text), out;
        dp_buf_clear(&want);
        for (const char *p = cases[i].want; *p; p++)
            if (*p == '?') dp_buf_add_str(&want, "\xEF\xBF\xBD");
            else dp_buf_add_char(&want, *p);
        CHECK_OK(dp_utf8_replace(text, &buf, &out, &err));
        if (!dp_span_eq(out, dp_buf_span(&want))) DP_TEST_FAIL("case %zu: %.*s", i, DP_SPAN_FMT(out));
        CHECK((out.ptr == text.ptr) == (strchr(cases[i].want, '?') == NULL)); /* not copied when valid */
    }
    char bad[64];
    struct dp_span out;
    memset(bad, 0xFF, sizeof bad);
    CHECK_INT(dp_utf8_replace(dp_span(bad, sizeof bad), &buf, &out, &err), DP_LIMIT);
    dp_buf_release(&buf);
    dp_buf_release(&want);
}

/* Stop strings: what goes on, what is held back, and that neither depends on how the text is cut. */
#include "tokenizer/stop_text.h"

#include "base/hash.h"
#include "tests/test.h"

/* All but the stop string's text, given in pieces of random length (seed 0: whole). */
static bool run(const char *text, const char *const *stops, uint64_t seed, char *to, size_t cap)
{
    struct dp_span s[4];
    struct dp_stop_text t;
    struct dp_buf out;
    size_t n = 0, len = strlen(text);
    while (n < 4 && stops[n]) s[n] = dp_span_str(stops[n]), n++;
    dp_stop_text_init(&t, s, n);
    dp_buf_init(&out, 1 << 16);
    bool hit = false;
    for (size_t at = 0; at < len && !hit;) {
        size_t k = seed ? 1 + dp_splitmix64(&seed) % 5 : len;
        if (k > len - at) k = len - at;
        hit = dp_stop_text_push(&t, dp_span(text + at, k), &out);
        at += k;
    }
    if (!hit) dp_stop_text_finish(&t, &out);
    CHECK_INT(dp_buf_check(&out, "text", NULL), 0);
    snprintf(to, cap, "%.*s", (int)out.len, out.ptr ? out.ptr : "");
    dp_stop_text_release(&t);
    dp_buf_release(&out);
    return hit;
}

TEST(texts_and_stops)
{
    static const struct {
        const char *text, *stops[5], *want;
        bool hit;
    } cases[] = {
        {"hello", {NULL}, "hello", false},
        {"", {"x"}, "", false},
        {"hello", {"x"}, "hello", false},
        {"hello", {"hello"}, "", true},
        {"hello", {"l"}, "he", true},
        {"hello", {"lo"}, "hel", true},
        {"hello", {"hellooo"}, "hello", false}, /* held to the end, then given */
        {"aaab", {"aab"}, "a", true},
        {"ababac", {"abac"}, "ab", true},
        {"abcd", {"abcd", "c"}, "ab", true},    /* the one that ends first */
        {"abcd", {"bc", "abc"}, "", true},      /* of those that end there the longest */
        {"User: hi\n\nUser:", {"\n\nUser:", "\n\n\n"}, "User: hi", true},
        {"na\xC3\xAFve", {"\xC3\xAF"}, "na", true},
        {"na\xC3\xAEve", {"\xC3\xAF"}, "na\xC3\xAEve", false},
        {"a\n\nb", {"\n\n\n"}, "a\n\nb", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint64_t seed = 0; seed < 30; seed++) {
            char got[100];
            bool hit = run(cases[i].text, cases[i].stops, seed, got, sizeof got);
            if (hit != cases[i].hit || strcmp(got, cases[i].want) != 0) DP_TEST_FAIL("case %zu, seed %d: \"%s\" %d", i, (int)seed, got, hit);
        }
    }
}

/* Against the definition, byte by byte. */
TEST(random_texts)
{
    uint64_t r = 5;
    for (int round = 0; round < 3000; round++) {
        char text[40], stop[3][5], want[40], got[40];
        const char *stops[4] = {stop[0], stop[1], stop[2], NULL};
        size_t n = dp_splitmix64(&r) % 39, cut = 0, end = 0;
        for (size_t i = 0; i < n; i++) text[i] = (char)('a' + dp_splitmix64(&r) % 2);
        text[n] = 0;
        for (int k = 0; k < 3; k++) {
            size_t m = 1 + dp_splitmix64(&r) % 4;
            for (size_t i = 0; i < m; i++) stop[k][i] = (char)('a' + dp_splitmix64(&r) % 3);
            stop[k][m] = 0;
        }
        for (end = 1; end <= n && !cut; end++)
            for (int k = 0; k < 3; k++)
                if (strlen(stop[k]) <= end && memcmp(text + end - strlen(stop[k]), stop[k], strlen(stop[k])) == 0 && strlen(stop[k]) > cut) cut = strlen(stop[k]);
        snprintf(want, sizeof want, "%.*s", (int)(cut ? end - 1 - cut : n), text);
        bool hit = run(text, stops, round % 7 ? (uint64_t)round : 0, got, sizeof got);
        if (hit != (cut > 0) || strcmp(got, want) != 0) DP_TEST_FAIL("\"%s\" with %s %s %s: \"%s\", not \"%s\"", text, stop[0], stop[1], stop[2], got, want);
    }
}

/* Words and shingles: which texts have the same shingles, how many words a text has. */
#include "dedup/shingle.h"
#include "base/hash.h"
#include "tests/test.h"

struct sums {
    uint64_t sum, n, first;
};
static void add(void *v, const uint64_t *h, size_t n)
{
    struct sums *s = v;
    if (!s->n) s->first = h[0];
    for (size_t i = 0; i < n; i++) s->sum = s->sum * 31 + h[i];
    s->n += n;
}
static uint64_t run(struct dp_span text, uint32_t size, bool fold, struct sums *out)
{
    static struct dp_shingler s;
    *out = (struct sums){0};
    return dp_shingle(&s, text, size, fold, add, out);
}

TEST(word_counts)
{
    static const struct {
        const char *text;
        uint64_t words;
    } cases[] = {
        {"", 0}, {" \n\t ", 0}, {"...!?", 0}, {"one", 1}, {"one two", 2}, {"  one,two;three.", 3}, {"don't", 2}, {"foo_bar", 2},
        {"x1 2y", 2}, {"caf\u00e9 na\u00efve", 2}, {"\u4f60\u597d\u4e16\u754c", 4}, {"\u3053\u3093\u306b\u3061\u306f", 5},
        {"\u0e2a\u0e27\u0e31", 3}, {"abc\u4f60def", 3}, {"\ud55c\uad6d\uc5b4 \ub9d0", 2}, {"soft\u00adhyphen", 1}, {"zero\u200bwidth", 2},
        {"a\u3000b", 2}, {"\u201cquoted\u201d", 1}, {"\U00020000\U00020001", 2}, {"\U0001F600 \U0001F600", 0},
        {"bad\xff""byte", 2}, {"cut\xe4\xbd", 1}, {"\xc0\x80" "a", 1},
    };
    struct sums s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t w = run(dp_span_str(cases[i].text), 5, false, &s);
        if (w != cases[i].words) DP_TEST_FAIL("\"%s\" has %" PRIu64 " words, not %" PRIu64, cases[i].text, w, cases[i].words);
        CHECK_INT(s.n, w == 0 ? 0 : w < 5 ? 1 : w - 4);
    }
}

TEST(same_shingles)
{
    static const struct {
        const char *a, *b;
        bool fold, same;
    } cases[] = {
        {"The quick brown fox jumps", "the  QUICK, brown\nfox-jumps!", false, true},
        {"\u00c9cole \u03a3\u0391\u03a3 STRASSE a b c", "\u00e9cole \u03c3\u03b1\u03c3 strasse A B C", false, true},
        {"\uff21\uff22\uff23 x y z w", "abc X Y Z W", false, true},
        {"\u0416\u0423\u041a a b c d", "\u0436\u0443\u043a A B C D", false, true},
        {"a b c d e", "a b c d f", false, false},
        {"a b", "b a", false, false},
        {"ab c", "a bc", false, false},
        {"a", "a a", false, false},
        {"page 1 of 20", "page 7 of 3", false, false},
        {"page 1 of 20", "page 7 of 3", true, true},
        {"page x12y of 3", "page x9y of 44", true, true},
        {"page x12y of 3", "page xy of 44", true, false},
        {"\u0661\u0662 a", "12 a", true, true},
        {"abcdefgh", "abcdefgh\xc3\xa9", false, false},
        {"abcdefgh", "abcdefghi", false, false},
        {"abcdefghabcdefgh", "abcdefgh", false, false},
    };
    struct sums a, b;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run(dp_span_str(cases[i].a), 5, cases[i].fold, &a);
        run(dp_span_str(cases[i].b), 5, cases[i].fold, &b);
        if ((a.sum == b.sum && a.n == b.n) != cases[i].same) DP_TEST_FAIL("\"%s\" and \"%s\": not %d", cases[i].a, cases[i].b, cases[i].same);
    }
}

/* Across block edges, the shingles of a long text are those of its windows. */
TEST(rolling_equals_windows)
{
    static char text[40000];
    size_t at[8000], n = 0, len = 0;
    uint64_t rng = 5;
    while (n < 5000) {
        at[n++] = len;
        for (int c = 1 + (int)(dp_splitmix64(&rng) % 6); c--;) text[len++] = (char)('a' + dp_splitmix64(&rng) % 26);
        text[len++] = ' ';
    }
    at[n] = len;
    static const uint32_t sizes[] = {1, 2, 5, 64};
    for (size_t k = 0; k < 4; k++) {
        struct sums all, one;
        uint32_t size = sizes[k];
        CHECK_INT(run(dp_span(text, len), size, false, &all), n);
        CHECK_INT(all.n, n - size + 1);
        uint64_t sum = 0;
        for (size_t i = 0; i + size <= n; i++) {
            run(dp_span(text + at[i], at[i + size] - at[i]), size, false, &one);
            sum = sum * 31 + one.first;
        }
        CHECK(sum == all.sum);
    }
}

/* Mask path, table path and code point path hand words over to one another at any place. */
TEST(paths_agree_wherever_they_change)
{
    static char text[6000], other[24000];
    struct sums want, got;
    uint64_t rng = 6;
    for (int round = 0; round < 300; round++) {
        size_t n = 0, m = 0;
        for (int pad = round % 71; pad--;) other[m++] = ' ';
        while (n < 5900) {
            size_t len = 1 + dp_splitmix64(&rng) % (round % 3 ? 9 : 40);
            for (size_t i = 0; i < len && n < 5990; i++) {
                char c = "abcdefghijklmnopqrstuvwxyz0123456789"[dp_splitmix64(&rng) % 36];
                text[n++] = c;
                other[m++] = c >= 'a' && dp_splitmix64(&rng) % 2 ? (char)(c - 32) : c;
                if (dp_splitmix64(&rng) % 50 == 0) m += (size_t)snprintf(other + m, 4, "\u00ad"); /* a soft hyphen is not there */
            }
            text[n++] = ' ';
            if (dp_splitmix64(&rng) % 20) other[m++] = "\n-_,"[dp_splitmix64(&rng) % 4];
            else m += (size_t)snprintf(other + m, 5, "\u2003");
        }
        uint64_t words = run(dp_span(text, n), 5, false, &want);
        if (run(dp_span(other, m), 5, false, &got) != words || got.sum != want.sum) DP_TEST_FAIL("round %d: %" PRIu64 " words", round, words);
    }
}

TEST(a_word_of_megabytes_is_one_word)
{
    size_t n = 4 << 20;
    char *p = malloc(n);
    REQUIRE(p);
    memset(p, 'x', n);
    struct sums s;
    CHECK_INT(run(dp_span(p, n), 5, false, &s), 1);
    free(p);
}

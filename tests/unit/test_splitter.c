/* Splits of one's own: frozen pieces of Hugging Face tokenizers (tests/parity/splitters.py frozen), what is refused, bytes that are no UTF-8,
 * patterns that would take for ever, several steps, and how they come back from tokenizer.json. */
#include "tests/test.h"

#include "base/fs.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"
#include "tokenizer/splitter.h"

static struct dp_err err;

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Reads a word of hex digits; *at moves behind the blank. */
static struct dp_span unhex(char **at)
{
    char *p = *at, *to = p;
    for (; **at != ' '; *at += 2) *to++ = (char)(digit((*at)[0]) << 4 | digit((*at)[1]));
    ++*at;
    return dp_span(p, (size_t)(to - p));
}

/* All ends, `max` at a time; SIZE_MAX for failure. */
static size_t all_ends(struct dp_splitter *s, struct dp_span text, size_t *ends, size_t max)
{
    struct dp_cutter *c;
    size_t pos = 0, got = 0;
    int n;
    if (dp_cutter_open(&c, s, &err) < 0) return SIZE_MAX;
    while ((n = dp_cutter_run(c, text, &pos, ends + got, max, &err)) > 0) got += (size_t)n;
    dp_cutter_close(c);
    return n < 0 ? SIZE_MAX : got;
}

TEST(frozen_patterns)
{
    struct dp_buf b;
    int cases = 0;
    static size_t ends[512], again[512];
    dp_buf_init(&b, 1 << 24);
    REQUIRE_OK(dp_fs_read("tests/data/tokenizer/splitters.txt", &b, &err));
    for (char *line = b.ptr, *nl; line < b.ptr + b.len; line = nl + 1, cases++) {
        nl = strchr(line, '\n');
        struct dp_splitter *s;
        struct dp_span pattern = unhex(&line);
        bool portable = *line == '1';
        line += 2;
        struct dp_span text = unhex(&line);
        struct dp_split_step step = {.kind = DP_CUT_REGEX, .text = pattern, .portable = portable};
        REQUIRE_OK(dp_splitter_open(&s, &step, 1, &err));
        size_t n = all_ends(s, text, ends, 256), i = 0;
        for (char *w = line; w < nl; w++, i++)
            if (strtoul(w, &w, 10) != (i < n ? ends[i] : 0)) DP_TEST_FAIL("case %d, %.*s: piece %zu ends at %zu", cases + 1, DP_SPAN_FMT(pattern), i, ends[i]);
        CHECK_INT(i, n);
        CHECK(all_ends(s, text, again, 1) == n && memcmp(ends, again, n * sizeof *ends) == 0);
        dp_splitter_close(s);
    }
    CHECK(cases > 200);
    dp_buf_release(&b);
}

/* Pieces joined by '|', or what fails. */
static const char *pieces(struct dp_splitter *s, struct dp_span text)
{
    static char out[1024];
    size_t ends[256], n = all_ends(s, text, ends, 64), at = 0;
    char *to = out;
    if (n == SIZE_MAX) return err.msg;
    for (size_t i = 0; i < n; at = ends[i++]) {
        if (i) *to++ = '|';
        memcpy(to, text.ptr + at, ends[i] - at);
        to += ends[i] - at;
    }
    *to = 0;
    return out;
}

static const char *cut(const char *pattern, const char *text)
{
    struct dp_splitter *s;
    struct dp_split_step step = {.kind = DP_CUT_REGEX, .text = dp_span_str(pattern), .portable = true};
    if (dp_splitter_open(&s, &step, 1, &err) < 0) return err.msg;
    const char *p = pieces(s, dp_span_str(text));
    dp_splitter_close(s);
    return p;
}

TEST(bytes_that_are_no_text)
{
    CHECK_STR(cut("\\w+", "ab\xff\xfe""cd \xe2\x82"), "ab|\xff\xfe|cd| |\xe2\x82");
    CHECK_STR(cut(".+", "\x80"), "\x80");
    CHECK_STR(cut("\\s+(?!\\S)|\\s|\\S+", "a  \xff  b"), "a|  |\xff| | |b"); /* the end of a stretch is an end of text */
    CHECK_STR(cut("(?<=a)b|.", "a\xc3""b"), "a|\xc3|b");
    CHECK_STR(cut("\\xe9|b", "b\xc3\xa9"), "the split pattern, at byte 0 (\\xe9|b): a byte is no character to Oniguruma: write \\x{e9}");
    CHECK_STR(cut("\xff", "b"), "the split pattern: UTF-8 error: illegal byte (0xfe or 0xff), at byte 0 of \xff");
}

/* Found with random patterns against Hugging Face's engine. */
TEST(where_engines_differ)
{
    CHECK_STR(cut("(?>.+?)re", "x're"), "x|'re"); /* lazy at the end of an atomic group */
    CHECK_STR(cut("\\N+\\R\\d", "ab\xE2\x80\xA8" "1"), "ab\xE2\x80\xA8" "1");
    CHECK_STR(cut("[a\\w-]+", "b-a c"), "b-a| |c");
    CHECK_STR(cut("[:.a]+", "::b"), "::|b"); /* no POSIX class */
    CHECK_STR(cut("[a^]+", "^b"), "^|b");
    CHECK_STR(cut("\\p{Han}", "\xE3\x88\xA9"), "\xE3\x88\xA9"); /* U+3229 is Common, and used with Han: no match, so the gap is the text */
    CHECK_STR(cut("\\p{Han}+", "\xE6\xBC\xA2\xE3\x88\xA9"), "\xE6\xBC\xA2|\xE3\x88\xA9");
    CHECK(strstr(cut("(?i:[\\p{Lu}a])", "A"), "disagree"));
    CHECK(strstr(cut("[a-\\w]", "A"), "ends in a set"));
}

TEST(patterns_refused)
{
    static const struct {
        const char *pattern, *why;
    } cases[] = {
        {"", "is empty"},
        {"a(b", "isn't closed"},
        {"a)b", "no group to close"},
        {"[a", "no end"},
        {"a++*", "quantifier"},
        {"[[:foo:]]", "isn't supported"},
        {"[[:alpha:]]", "isn't supported"},
        {"[a[b]]", "write \\["},
        {"[a&&b]", "intersection"},
        {"\\h", "other things"},
        {"[\\H]", "other things"},
        {"\\v", "other things"},
        {"\\pL", "in braces"},
        {"\\Qa\\E", "isn't supported"},
        {"a\\Kb", "isn't supported"},
        {"\\Ga", "isn't supported"},
        {"\\X", "isn't supported"},
        {"\\C", "isn't supported"},
        {"(?m)a", "only the option i"},
        {"(?x) a", "only the option i"},
        {"a(?i)b", "write (?i:...)"},
        {"(?R)", "only the option i"},
        {"(?1)", "only the option i"},
        {"(?(?=a)b|c)", "only the option i"},
        {"(?|a|b)", "only the option i"},
        {"(?C1)a", "only the option i"},
        {"(*LIMIT_MATCH=1)a", "verbs"},
        {"a{2}+", "possessive"},
        {"a{,2}", "{0,n}"},
        {"a{2}?", "other things"},
        {"\\p{Nonsense}", "unknown property"},
        {"(?<=a+)b", "lookbehind"},
        {"\\", "backslash"},
        {"\\x{110000}", "too large"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = cut(cases[i].pattern, "ab");
        if (!strstr(got, cases[i].why) || !strstr(got, "split pattern")) DP_TEST_FAIL("%s: %s", cases[i].pattern, got);
    }
    CHECK_STR(cut("a(?#)|(?#b)b", "ab"), "a|b");
    char *deep = malloc(1200); /* limits, not a stack without end */
    memset(deep, '(', 600);
    memset(deep + 600, ')', 599);
    deep[1199] = 0;
    CHECK(strstr(cut(deep, "ab"), "deep"));
    free(deep);
    char *large = calloc(1, DP_SPLIT_PATTERN_BYTES_MAX + 2);
    memset(large, 'a', DP_SPLIT_PATTERN_BYTES_MAX + 1);
    CHECK(strstr(cut(large, "ab"), "at most"));
    free(large);
}

/* Patterns that would take for ever are given up, with the place; those that are only long aren't. */
TEST(patterns_without_end)
{
    static size_t ends[1024];
    struct dp_splitter *s;
    size_t n = 300000;
    char *text = malloc(n + 10);
    memcpy(text, "one two ", 8);
    memset(text + 8, 'a', n);
    static const struct {
        const char *pattern, *why;
    } cases[] = {{"\\w+ |(?:a|aa)+[bc]", "too many steps or too much memory at byte 8 of the text"}, {"(?:a+)+[bc]|\\w+ ", "too many steps or too much memory at byte 8 of the text"}, {"\\w+ |(?=a*$)a|.(?=a*[bc])", "too long at byte "}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_split_step step = {.kind = DP_CUT_REGEX, .text = dp_span_str(cases[i].pattern), .portable = true};
        REQUIRE_OK(dp_splitter_open(&s, &step, 1, &err));
        struct dp_cutter *c;
        size_t pos = 0;
        int rc;
        REQUIRE_OK(dp_cutter_open(&c, s, &err));
        while ((rc = dp_cutter_run(c, dp_span(text, n + 8), &pos, ends, 1024, &err)) > 0) continue;
        CHECK_INT(rc, DP_LIMIT);
        if (!strstr(err.msg, cases[i].why)) DP_TEST_FAIL("%s: %s", cases[i].pattern, err.msg);
        pos = 0; /* and goes on with the next text */
        CHECK_INT(dp_cutter_run(c, dp_span_str("one two"), &pos, ends, 64, &err), 2);
        dp_cutter_close(c);
        dp_splitter_close(s);
    }
    struct dp_split_step step = {.kind = DP_CUT_REGEX, .text = dp_span_str("(?:\\p{L}\\p{M}*)+|\\s"), .portable = true};
    REQUIRE_OK(dp_splitter_open(&s, &step, 1, &err));
    CHECK_INT(all_ends(s, dp_span(text, n + 8), ends, 64), 5);
    CHECK_INT(ends[4], n + 8);
    dp_splitter_close(s);
    free(text);
}

TEST(steps)
{
    static const struct {
        const char *split, *pattern, *text, *pieces;
        int digits;
        bool scripts;
    } cases[] = {
        {"gpt2", NULL, "ab 1234  5", "ab| |1|2|3|4|  |5", 1, false},
        {"gpt2", NULL, "ab 1234  5", "ab| |12|34|  |5", 2, false},
        {"qwen2", NULL, "1234\xD9\xA3", "1|2|3|4|\xD9\xA3", 3, false},
        {"gpt2", NULL, "ab\xD0\xB6\xD0\xB6 \xD0\xB6""b1\xCE\xB1", "ab|\xD0\xB6\xD0\xB6| \xD0\xB6|b|1|\xCE\xB1", 0, true},
        {"gpt2", NULL, "\xE6\xBC\xA2\xE3\x81\x8B\xE3\x82\xAB\xE3\x83\xBC""a", "\xE6\xBC\xA2|\xE3\x81\x8B|\xE3\x82\xAB\xE3\x83\xBC|a", 0, true}, /* the long vowel mark is of no script */
        {"gpt2", "\\S+|\\s", "e\xCC\x81-\xD0\xB6\xCC\x81!", "e\xCC\x81-|\xD0\xB6\xCC\x81!", 0, true},                                         /* nor are marks */
        {"gpt2", "\\S+|\\s", "x12\xFF""3 y", "x|1|2|\xFF|3| |y", 1, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum dp_split split;
        struct dp_splitter *s = NULL;
        REQUIRE_OK(dp_split_parse(dp_span_str(cases[i].split), &split, &err));
        REQUIRE_OK(dp_splitter_choose(&s, &split, cases[i].pattern, cases[i].digits, cases[i].scripts, &err));
        REQUIRE(s != NULL);
        CHECK_STR(pieces(s, dp_span_str(cases[i].text)), cases[i].pieces);
        dp_splitter_close(s);
    }
    struct dp_splitter *s;
    enum dp_split split = DP_SPLIT_GPT2;
    CHECK_OK(dp_splitter_choose(&s, &split, NULL, 0, false, &err));
    CHECK(!s && split == DP_SPLIT_GPT2);
    CHECK_OK(dp_splitter_choose(&s, &split, dp_split_pattern(DP_SPLIT_O200K), 0, false, &err)); /* a scanner does it */
    CHECK(!s && split == DP_SPLIT_O200K);
    CHECK_INT(dp_splitter_choose(&s, &split, NULL, 4, false, &err), DP_CONFIG);
    CHECK_INT(dp_splitter_parse(&s, &split, dp_span_str("nonsense"), &err), DP_CONFIG);
}

/* Cut by cl100k, then digits one by one: qwen2 over a long text, whatever is asked for at once. */
TEST(known_splits_as_steps)
{
    static size_t want[1 << 16], got[1 << 16];
    struct dp_buf b;
    struct dp_splitter *s;
    struct dp_split_step step[] = {{.kind = DP_CUT_KNOWN, .split = DP_SPLIT_CL100K}, {.kind = DP_CUT_DIGITS, .digits = 1}};
    dp_buf_init(&b, 1 << 24);
    REQUIRE_OK(dp_fs_read("tests/data/tokenizer/corpus.txt", &b, &err));
    size_t pos = 0, n = dp_split_run(DP_SPLIT_QWEN2, dp_buf_span(&b), &pos, want, 1 << 16);
    REQUIRE_OK(dp_splitter_open(&s, step, 2, &err));
    static const size_t at_once[] = {1, 3, 64, 1000};
    for (size_t i = 0; i < 4; i++) CHECK(all_ends(s, dp_buf_span(&b), got, at_once[i]) == n && memcmp(got, want, n * sizeof *got) == 0);
    CHECK(dp_span_is(dp_splitter_text(s, DP_SPLIT_CUSTOM), "split cl100k\ndigits 1"));
    CHECK(dp_span_is(dp_splitter_step_text(s, 1), "digits 1"));
    dp_splitter_close(s);
    dp_buf_release(&b);
}

/* Trained with a split, saved, loaded: the same tokenizer, the same ids, again the same file. */
static void round_trip(struct dp_bpe_train_options o)
{
    struct dp_bpe_counter *c;
    struct dp_tokenizer *t, *u;
    struct dp_encoder *a, *b;
    struct dp_ids x = {0}, y = {0};
    struct dp_buf text, file, again;
    uint64_t count;
    dp_buf_init(&text, 1 << 24);
    dp_buf_init(&file, 1 << 24);
    dp_buf_init(&again, 1 << 24);
    REQUIRE_OK(dp_fs_read("tests/data/tokenizer/corpus.txt", &text, &err));
    REQUIRE_OK(dp_bpe_counter_open_for(&c, &o, &err));
    CHECK_OK(dp_bpe_counter_add(c, dp_buf_span(&text), &err));
    REQUIRE_OK(dp_bpe_train(&t, &o, c, NULL, NULL, &err));
    dp_bpe_counter_close(c);
    CHECK_INT(dp_tokenizer_split(t), DP_SPLIT_CUSTOM);
    CHECK_OK(dp_tokenizer_save_hf(t, &file, &err));
    REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&file), "saved", NULL, &err));
    CHECK_OK(dp_tokenizer_save_hf(u, &again, &err));
    CHECK(dp_span_eq(dp_buf_span(&file), dp_buf_span(&again)));
    CHECK(dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
    REQUIRE_OK(dp_encoder_open(&a, t, 0, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encoder_open(&b, u, 0, DP_SPECIAL_NONE, &err));
    CHECK_OK(dp_encode(a, dp_buf_span(&text), &x, &err));
    CHECK_OK(dp_encode(b, dp_buf_span(&text), &y, &err));
    CHECK(x.len == y.len && memcmp(x.ptr, y.ptr, x.len * sizeof *x.ptr) == 0);
    CHECK_OK(dp_encode_count(b, dp_buf_span(&text), &count, &err));
    CHECK_INT(count, x.len);
    dp_buf_clear(&again);
    CHECK_OK(dp_decode(u, x.ptr, x.len, &again, &err));
    CHECK(dp_span_eq(dp_buf_span(&again), dp_buf_span(&text)));
    dp_ids_release(&x);
    dp_ids_release(&y);
    dp_encoder_close(a);
    dp_tokenizer_free(t); /* the other has its own share of nothing */
    dp_encoder_close(b);
    dp_tokenizer_free(u);
    dp_buf_release(&text);
    dp_buf_release(&file);
    dp_buf_release(&again);
}

TEST(trained_and_saved)
{
    static char words[] = "\\s?\\w+|[^\\w\\s]+|\\s", digits[] = "\\p{N}{1,3}";
    round_trip((struct dp_bpe_train_options){.vocab_size = 600, .split_digits = 1});
    round_trip((struct dp_bpe_train_options){.vocab_size = 600, .split = DP_SPLIT_O200K, .split_digits = 2, .split_scripts = true});
    round_trip((struct dp_bpe_train_options){.vocab_size = 600, .split_pattern = words});
    round_trip((struct dp_bpe_train_options){.vocab_size = 600, .split_pattern = digits, .split_digits = 3, .split_scripts = true});
}

TEST(counters_of_other_splits)
{
    struct dp_bpe_counter *a, *b;
    struct dp_tokenizer *t;
    static char one[] = "a+", two[] = "b+";
    struct dp_bpe_train_options x = {.vocab_size = 300, .split_pattern = one}, y = {.vocab_size = 300, .split_pattern = two};
    REQUIRE_OK(dp_bpe_counter_open_for(&a, &x, &err));
    REQUIRE_OK(dp_bpe_counter_open_for(&b, &y, &err));
    CHECK_INT(dp_bpe_counter_merge(a, b, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "regex a+") && strstr(err.msg, "regex b+"));
    CHECK_INT(dp_bpe_train(&t, &y, a, NULL, NULL, &err), DP_CONFIG);
    dp_bpe_counter_close(b);
    REQUIRE_OK(dp_bpe_counter_open_for(&b, &x, &err));
    CHECK_OK(dp_bpe_counter_add(b, dp_span_str("aabaa"), &err));
    CHECK_OK(dp_bpe_counter_merge(a, b, &err));
    CHECK_INT(dp_bpe_counter_total(a), 3);
    dp_bpe_counter_close(a);
    dp_bpe_counter_close(b);
}

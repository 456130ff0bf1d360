/* The rule stages against frozen decisions of datatrove 0.10.1, thresholds, and hostile sizes. */
#include "base/cpu.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/utf8.h"
#include "clean/c4_phrases.h"
#include "clean/lines.h"
#include "clean/words.h"
#include "tests/unit/stage_run.h"

#include <time.h>

TEST(agrees_with_datatrove)
{
    static const char *const keys[] = {"gopher_rep", "gopher_qual", "c4", "fineweb"}, *const on[] = {"enabled", "true", NULL};
    struct stage_run st[4] = {stage_open(&dp_stage_gopher_repetition, NULL), stage_open(&dp_stage_gopher_quality, NULL), stage_open(&dp_stage_c4, NULL),
                              stage_open(&dp_stage_fineweb, on)};
    struct dp_err err;
    struct dp_buf f;
    struct dp_batch b = {0};
    struct dp_words w = {0};
    int n = 0, same[4] = {0}, words = 0;
    dp_buf_init(&f, 1 << 22);
    REQUIRE_OK(dp_fs_read("tests/data/clean/rules.jsonl", &f, &err));
    for (char *p = f.ptr, *q; (q = strchr(p, '\n')) != NULL; p = q + 1, n++) {
        struct dp_json *root;
        REQUIRE_OK(dp_json_parse(&root, dp_span(p, (size_t)(q - p)), "rules.jsonl", &err));
        struct dp_span text = dp_json_str(dp_json_get(root, "text")), rest = text, line;
        for (int k = 0; k < 4; k++) {
            batch_one(&b, text);
            stage_go(&st[k], &b);
            struct dp_json *d = dp_json_get(dp_json_get(root, "decisions"), keys[k]);
            struct dp_span why = dp_json_str(dp_json_at(d, 1));
            const char *name = dp_drop_name(b.drop[0]), *shorter = strchr(name, '_');
            bool keep = dp_span_is(dp_json_str(dp_json_at(d, 0)), "keep");
            bool ok = keep ? b.drop[0] == DP_DROP_KEEP : dp_span_is(why, name) || (shorter && dp_span_is(why, shorter + 1));
            same[k] += ok;
            if (keep && ok && k == 2) CHECK_INT(dp_utf8_count(b.text[0].ptr, b.text[0].len), dp_json_int(dp_json_get(root, "c4_text_chars"), -1));
            if (b.drop[0] != DP_DROP_KEEP && k < 2) CHECK(b.value[0] != b.limit[0]);
        }
        int64_t lines = 0;
        while (dp_line_next(&rest, &line)) lines++;
        CHECK_INT(lines, dp_json_int(dp_json_get(root, "splitlines"), -1));
        w.count = 0;
        CHECK_INT(dp_words_split(&w, text), DP_OK);
        words += (int64_t)w.count == dp_json_int(dp_json_get(root, "words"), -1);
        dp_json_free(root);
    }
    CHECK_INT(n, 110);
    for (int k = 0; k < 4; k++) CHECK_INT(same[k], 110);
    CHECK_INT(words, 110);
    for (int k = 0; k < 4; k++) stage_close(&st[k]);
    dp_words_release(&w);
    dp_batch_release(&b);
    dp_buf_release(&f);
}

TEST(words_as_spacy_cuts_them)
{
    static const struct {
        const char *in, *out;
    } t[] = {{"Hello, world!", "Hello|,|world|!"}, {"don't stop", "do|n't|stop"}, {"(see e.g. Fig.3)", "(|see|e.g.|Fig.3|)"},
             {"well-known", "well|-|known"}, {"10km at 5%.", "10|km|at|5|%|."}, {"http://example.com/a-b?c=d.", "http://example.com/a-b?c=d|."},
             {"core::arch::arm", "core::arch::arm"}, {"a=b", "a|=|b"}, {"wait...", "wait|..."}, {"U.S. Dr. Who", "U.S.|Dr.|Who"}, {"it\xE2\x80\x99s", "it|\xE2\x80\x99s"},
             {"main():", "main|(|):"}, {"'s',", "'s|'|,"}, {"x,y. id.", "x|,|y.|i|d."}, {"e.g.Mode", "e.g.|Mode"}, {"(M:)\"", "(|M|:)|\""},
             {"inet\xE2\x80\xA6\xE2\x80\xA6", "inet|\xE2\x80\xA6\xE2\x80\xA6"}, {"4US$ x1$>", "4|US$|x1|$|>"}, {"a ) : b", "a|)|:|b"},
             {"Shared-StateVa.\xC3\x9F", "Shared|-|StateVa.\xC3\x9F"}, {"x\xC2\xB0\xE2\x80\xA6---y", "x|\xC2\xB0|\xE2\x80\xA6|---y"},
             {"8.8.8.86a-b.com", "8.8.8.86a-b.com"}, {"", ""}, {"  ", ""}};
    struct dp_words w = {0};
    for (size_t round = 0; round < 2 * sizeof t / sizeof *t; round++) { /* the second time from what was seen the first time */
        size_t i = round / 2;
        struct dp_buf b;
        dp_buf_init(&b, 1000);
        w.count = 0;
        CHECK_INT(dp_words_split(&w, dp_span_str(t[i].in)), DP_OK);
        for (size_t k = 0; k < w.count; k++) {
            if (k) dp_buf_add_char(&b, '|');
            dp_buf_add(&b, t[i].in + w.word[k].at, w.word[k].len);
        }
        CHECK_SPAN(dp_buf_span(&b), t[i].out);
        dp_buf_release(&b);
    }
    w.count = 0;
    CHECK_INT(dp_words_split(&w, dp_span("a\0b", 3)), DP_OK);
    CHECK_INT(w.count, 1); /* NUL is no infix */
    dp_words_release(&w);
}

TEST(sentences_end_at_words_and_at_white_space)
{
    static const struct {
        const char *in;
        size_t n;
    } t[] = {{"One. Two! Three?", 3}, {"One.\" two", 2}, {"To be . . .", 1}, {"To be .  .  .", 3}, {"One.\tTwo", 2}, {". . .", 1}, {"", 0}};
    struct dp_words w = {0};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        w.count = 0;
        CHECK_INT(dp_words_split(&w, dp_span_str(t[i].in)), DP_OK);
        if (dp_words_sentences(&w, 0, w.count) != t[i].n) DP_TEST_FAIL("\"%s\": %zu sentences, not %zu", t[i].in, dp_words_sentences(&w, 0, w.count), t[i].n);
    }
    dp_words_release(&w);
}

/* Every start and length around blocks, dense in the bytes that matter. */
TEST(kernels_agree_with_scalar)
{
    static const char bytes[] = "vaskicom \t\n\x1c\x1f!zZaA{[@`\xC2\xE2\x84\xAA\xE1\xE3\xE4\x85\0";
    char text[512];
    uint64_t state = 5, m[2][3][4];
    if (dp_cpu() < DP_CPU_AVX2) SKIP("no AVX2");
    for (int round = 0; round < 3000; round++) {
        size_t n = dp_splitmix64(&state) % 256, at = dp_splitmix64(&state) % 64;
        for (size_t i = 0; i < sizeof text; i++) text[i] = bytes[dp_splitmix64(&state) % (sizeof bytes - 1)];
        for (size_t i = 0; round % 2 && i < sizeof text; i++) text[i] = dp_splitmix64(&state) % 40 ? 'x' : text[i];
        CHECK(dp_c4_suspect_avx2(text + at, n) == dp_c4_suspect_scalar(text + at, n));
        memset(m, 0, sizeof m);
        dp_word_masks_avx2(text + at, n / 64, m[0][0], m[0][1], m[0][2]);
        dp_word_masks_scalar(text + at, n / 64, m[1][0], m[1][1], m[1][2]);
        CHECK(memcmp(m[0], m[1], sizeof m[0]) == 0);
    }
}

TEST(citations_in_digits_of_any_script)
{
    struct stage_run st = stage_open(&dp_stage_c4, (const char *const[]){"sentences_min", "1", NULL});
    struct dp_batch b = {0};
    batch_one(&b, dp_span_str("It is so[12] and so[edit] and so[\xD9\xA3] and [a] so.\nJavaScript is needed for this.\nUse of coo\xE2\x84\xAAies is fine here.\nNo end"));
    stage_go(&st, &b);
    CHECK_SPAN(b.text[0], "It is so and so and so and [a] so.");
    batch_one(&b, dp_span_str("A line that stays, {here}.\n"));
    stage_go(&st, &b);
    CHECK_STR(dp_drop_name(b.drop[0]), "c4_curly_bracket");
    batch_one(&b, dp_span_str("All of it is LOREM Ipsum.\n"));
    stage_go(&st, &b);
    CHECK_STR(dp_drop_name(b.drop[0]), "c4_lorem_ipsum");
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(fineweb_rules)
{
    static const struct {
        const char *text, *drop;
        double value;
    } t[] = {{"No end of sentence here, and nowhere else either\n", "fineweb_line_punct_ratio", 0},
             {"Short.\nAlso short.\nThis line is longer than thirty characters.\nShort.", "fineweb_short_line_ratio", 0.75},
             {"This line is longer than thirty characters.\nThis line is longer than thirty characters.", "fineweb_char_dup_ratio", 0.5},
             {"Aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.\n\nBbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.", "fineweb_list_ratio", 0.5},
             {"A line of many words that is longer than thirty characters.\n \nAnd another one of many words that is as long.", "kept", 0},
             {" \n\t\n", "empty", 0}};
    struct stage_run st = stage_open(&dp_stage_fineweb, (const char *const[]){"enabled", "true", NULL}), off = stage_open(&dp_stage_fineweb, NULL);
    struct dp_batch b = {0};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        batch_one(&b, dp_span_str(t[i].text));
        stage_go(&st, &b);
        CHECK_STR(dp_drop_name(b.drop[0]), t[i].drop);
        CHECK_NEAR(b.value[0], t[i].value, 1e-12);
        batch_one(&b, dp_span_str(t[i].text));
        stage_go(&off, &b);
        CHECK_STR(dp_drop_name(b.drop[0]), "kept");
    }
    batch_one(&b, dp_span_str(t[3].text)); /* newlines say nothing about Japanese */
    memcpy(b.lang[0], "ja", 3);
    stage_go(&st, &b);
    CHECK_STR(dp_drop_name(b.drop[0]), "kept");
    stage_close(&st);
    stage_close(&off);
    dp_batch_release(&b);
}

/* "aaaaaaaaaa bbbbbbbbbb" stands twice before "x y" stands three times: the most frequent 2-gram is the short one. */
TEST(the_most_frequent_gram_is_not_a_longer_one_before_it)
{
    struct stage_run st = stage_open(&dp_stage_gopher_repetition, NULL);
    struct dp_batch b = {0};
    batch_one(&b, dp_span_str("aaaaaaaaaa bbbbbbbbbb c d e aaaaaaaaaa bbbbbbbbbb f g h x y i j k x y l m n x y "
                              "o p q r s t u v w zz yy xx ww vv uu tt ss rr qq pp oo nn mm ll kk jj ii hh gg ff ee dd"));
    stage_go(&st, &b);
    CHECK_STR(dp_drop_name(b.drop[0]), "kept");
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(japanese_is_not_judged_by_english_words)
{
    struct stage_run st = stage_open(&dp_stage_gopher_quality, (const char *const[]){"words_min", "1", "word_length_max", "2", "alpha_ratio_min", "0", NULL});
    struct dp_batch b = {0};
    batch_one(&b, dp_span_str("これは日本語の文章です。とても長い。"));
    memcpy(b.lang[0], "ja", 3);
    stage_go(&st, &b);
    CHECK_STR(dp_drop_name(b.drop[0]), "kept");
    batch_one(&b, dp_span_str("internationalisation considerations notwithstanding"));
    memcpy(b.lang[0], "en", 3);
    stage_go(&st, &b);
    CHECK_STR(dp_drop_name(b.drop[0]), "gopher_above_avg_threshold");
    CHECK_NEAR(b.limit[0], 2, 0);
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(zero_switches_a_threshold_off)
{
    struct stage_run st = stage_open(&dp_stage_gopher_quality, (const char *const[]){"words_min", "0", "stop_words_min", "0", NULL});
    struct dp_batch b = {0};
    batch_one(&b, dp_span_str("plain words here"));
    stage_go(&st, &b);
    CHECK_STR(dp_drop_name(b.drop[0]), "kept");
    stage_close(&st);
    st = stage_open(&dp_stage_gopher_quality, (const char *const[]){"enabled", "false", NULL});
    batch_one(&b, dp_span_str("x"));
    stage_go(&st, &b);
    CHECK_STR(dp_drop_name(b.drop[0]), "kept");
    stage_close(&st);
    dp_batch_release(&b);
}

/* Linear on one huge chunk of affixes, of words, of lines: this takes seconds per case when something is quadratic. */
TEST(too_many_words_are_not_counted)
{
    struct stage_run st = stage_open(&dp_stage_gopher_repetition, (const char *const[]){"words_max", "9", NULL});
    struct dp_batch b = {0};
    batch_one(&b, dp_span_str("one two three four five six seven eight nine ten"));
    stage_go(&st, &b);
    CHECK_INT(b.drop[0], DP_DROP_GOPHER_LONG);
    CHECK(b.value[0] == 10 && b.limit[0] == 9);
    batch_one(&b, dp_span_str("one two three four five six seven eight nine"));
    stage_go(&st, &b);
    CHECK(b.drop[0] != DP_DROP_GOPHER_LONG);
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(hostile_megabytes)
{
    static const char *const bits[] = {"(", ").", "a", "a ", "\n", "'s", "1km", ".", "http://a.b", "[", "-", "ab\n\n", "):", "''", "[1", "\xE2\x80\xA6", "a, "};
    const struct dp_stage_type *types[] = {&dp_stage_gopher_repetition, &dp_stage_gopher_quality, &dp_stage_c4, &dp_stage_fineweb};
    struct dp_batch b = {0};
    struct dp_buf t;
    dp_buf_init(&t, 2 << 20);
    for (int k = 0; k < 4; k++) {
        struct stage_run st = stage_open(types[k], (const char *const[]){"enabled", "true", NULL});
        for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
            dp_buf_clear(&t);
            while (t.len < 1 << 19) dp_buf_add_str(&t, bits[i]);
            batch_one(&b, dp_buf_span(&t));
            clock_t from = clock();
            stage_go(&st, &b);
            /* Takes about 0.1 s; a sanitizer may cost a factor of ten. */
            if (clock() - from > 5 * CLOCKS_PER_SEC) DP_TEST_FAIL("%s on \"%s\" takes %.1f s", types[k]->name, bits[i], (double)(clock() - from) / CLOCKS_PER_SEC);
        }
        stage_close(&st);
    }
    dp_buf_release(&t);
    dp_batch_release(&b);
}

/* The rule stages against frozen decisions of datatrove 0.10.1, thresholds, and hostile sizes. */
#include "base/fs.h"
#include "base/json.h"
#include "clean/lines.h"
#include "clean/utf8.h"
#include "clean/words.h"
#include "tests/unit/stage_run.h"

#include <time.h>

TEST(agrees_with_datatrove)
{
    static const char *const keys[] = {"gopher_rep", "gopher_qual", "c4"};
    struct stage_run st[3] = {stage_open(&dp_stage_gopher_repetition, NULL), stage_open(&dp_stage_gopher_quality, NULL), stage_open(&dp_stage_c4, NULL)};
    struct dp_err err;
    struct dp_buf f;
    struct dp_batch b = {0};
    struct dp_words w = {0};
    int n = 0, same[3] = {0}, words = 0;
    dp_buf_init(&f, 1 << 22);
    REQUIRE_OK(dp_fs_read("tests/data/clean/rules.jsonl", &f, &err));
    for (char *p = f.ptr, *q; (q = strchr(p, '\n')) != NULL; p = q + 1, n++) {
        struct dp_json *root;
        REQUIRE_OK(dp_json_parse(&root, dp_span(p, (size_t)(q - p)), "rules.jsonl", &err));
        struct dp_span text = dp_json_str(dp_json_get(root, "text")), rest = text, line;
        for (int k = 0; k < 3; k++) {
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
        CHECK_INT(dp_words_split(&w, text, 0), DP_OK);
        words += (int64_t)w.count == dp_json_int(dp_json_get(root, "words"), -1);
        dp_json_free(root);
    }
    CHECK_INT(n, 110);
    for (int k = 0; k < 3; k++) CHECK(same[k] >= 109);
    CHECK(words >= 105);
    for (int k = 0; k < 3; k++) stage_close(&st[k]);
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
             {"", ""}, {"  ", ""}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct dp_words w = {0};
        struct dp_buf b;
        dp_buf_init(&b, 1000);
        CHECK_INT(dp_words_split(&w, dp_span_str(t[i].in), 0), DP_OK);
        for (size_t k = 0; k < w.count; k++) {
            if (k) dp_buf_add_char(&b, '|');
            dp_buf_add(&b, t[i].in + w.word[k].at, w.word[k].len);
        }
        CHECK_SPAN(dp_buf_span(&b), t[i].out);
        dp_buf_release(&b);
        dp_words_release(&w);
    }
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
TEST(hostile_megabytes)
{
    static const char *const bits[] = {"(", ").", "a", "a ", "\n", "'s", "1km", ".", "http://a.b", "[", "-", "ab\n\n"};
    const struct dp_stage_type *types[] = {&dp_stage_gopher_repetition, &dp_stage_gopher_quality, &dp_stage_c4};
    struct dp_batch b = {0};
    struct dp_buf t;
    dp_buf_init(&t, 2 << 20);
    for (int k = 0; k < 3; k++) {
        struct stage_run st = stage_open(types[k], NULL);
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

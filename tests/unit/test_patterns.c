/* The patterns stage, and regular expressions that don't compile or never end. */
#include "base/re.h"
#include "tests/unit/stage_run.h"

static enum dp_drop with(const char *option, const char *pattern, const char *url, const char *text, const char *want)
{
    struct stage_run st = stage_open(&dp_stage_patterns, (const char *const[]){option, pattern, NULL});
    struct dp_batch b = {0};
    struct dp_err err;
    CHECK_OK(st.type->open(st.ctx, &err));
    batch_one(&b, dp_span_str(text));
    b.url[0] = dp_span_str(url);
    stage_go(&st, &b);
    enum dp_drop d = (enum dp_drop)b.drop[0];
    if (want) CHECK_SPAN(b.text[0], want);
    st.type->close(st.ctx);
    stage_close(&st);
    dp_batch_release(&b);
    return d;
}

TEST(urls_texts_lines)
{
    CHECK_INT(with("url_drop", "\\.example/(ads|login)\\b", "http://a.example/ads/1", "x", NULL), DP_DROP_PATTERN_URL);
    CHECK_INT(with("url_drop", "\\.example/(ads|login)\\b", "http://a.example/adsense", "x", "x"), DP_DROP_KEEP);
    CHECK_INT(with("url_drop", "caf\xC3\xA9", "http://a/\xFF" "caf\xC3\xA9", "x", NULL), DP_DROP_PATTERN_URL); /* a URL of no charset */
    CHECK_INT(with("text_drop", "^\xC3\xBC" "ber\\w+$", "", "a\n\xC3\xBC" "berall\nb", NULL), DP_DROP_PATTERN_TEXT);
    CHECK_INT(with("text_keep", "\\bwater\\b", "", "underwater", NULL), DP_DROP_PATTERN_MISSING);
    CHECK_INT(with("text_keep", "\\bwater\\b", "", "the water", "the water"), DP_DROP_KEEP);
    CHECK_INT(with("line_drop", "^(Share|Print)$", "", "one\nShare\ntwo\n\nPrint", "one\ntwo\n"), DP_DROP_KEEP);
    CHECK_INT(with("line_drop", ".", "", "one\ntwo", NULL), DP_DROP_EMPTY);
    CHECK_INT(with("ignore_case", "true", "", "x", "x"), DP_DROP_KEEP);
}

TEST(a_pattern_that_does_not_end_is_given_up)
{
    char text[64];
    memset(text, 'a', 60);
    text[60] = '!';
    text[61] = 0;
    CHECK_INT(with("text_drop", "^(a+)+$", "", text, NULL), DP_DROP_PATTERN_COST);
    CHECK_INT(with("line_drop", "^(a|a|b)+$", "", text, NULL), DP_DROP_PATTERN_COST);
}

TEST(a_bad_pattern_is_named)
{
    struct dp_err err;
    struct dp_re *re;
    CHECK_INT(dp_re_open(&re, "a(b", false, "clean.patterns.text_drop", &err), DP_CONFIG);
    CHECK(re == NULL && strstr(err.msg, "clean.patterns.text_drop: ") && strstr(err.msg, "character 3"));
    CHECK_INT(dp_re_open(&re, "\\C", false, "x", &err), DP_CONFIG);
}

/* The normalise stage: each rule, and what an empty result is. */
#include "tests/unit/stage_run.h"

TEST(rules)
{
    static const struct {
        const char *in, *out; /* out NULL: dropped as empty */
    } t[] = {{"a\r\nb\rc", "a\nb\nc"}, {"a \t\nb  ", "a\nb"}, {"a\n\n\n\nb", "a\n\nb"}, {"a\n \n \n\nb", "a\n\nb"}, {"\n\n a", " a"},
             {"a\x01\x7F\xC2\x9F" "b", "ab"}, {"a\xC2\xA0" "b", "a b"}, {"a\xE2\x80\x8B" "b\xC2\xAD" "c\xEF\xBB\xBF", "abc"}, {"e\xCC\x81", "\xC3\xA9"},
             {"\xE2\x80\xA8x\xE2\x80\xA9y", "x\ny"}, {"a\xE2\x80\x8D" "b", "a\xE2\x80\x8D" "b"}, {" \n\t", NULL}, {"", NULL}, {"\xEF\xBB\xBF", NULL}};
    struct stage_run st = stage_open(&dp_stage_normalise, NULL);
    struct dp_batch b = {0};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        batch_one(&b, dp_span_str(t[i].in));
        stage_go(&st, &b);
        CHECK_INT(b.drop[0], t[i].out ? DP_DROP_KEEP : DP_DROP_EMPTY);
        if (t[i].out) CHECK_SPAN(b.text[0], t[i].out);
    }
    stage_close(&st);
    st = stage_open(&dp_stage_normalise, (const char *const[]){"nbsp_to_space", "false", "strip_invisible", "false", "nfc", "false", NULL});
    batch_one(&b, dp_span_str("a\xC2\xA0" "b\xC2\xAD" "e\xCC\x81"));
    stage_go(&st, &b);
    CHECK_SPAN(b.text[0], "a\xC2\xA0" "b\xC2\xAD" "e\xCC\x81");
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(a_second_run_changes_nothing)
{
    struct stage_run st = stage_open(&dp_stage_normalise, NULL);
    struct dp_batch b = {0};
    batch_one(&b, dp_span_str(" x\xC2\xA0\n\n\n\xE2\x80\x8B\ny\xCC\x8A  \r\n"));
    stage_go(&st, &b);
    char once[64];
    size_t n = b.text[0].len;
    REQUIRE(n < sizeof once);
    memcpy(once, b.text[0].ptr, n);
    once[n] = 0;
    batch_one(&b, dp_span_str(once));
    stage_go(&st, &b);
    CHECK_SPAN(b.text[0], once);
    stage_close(&st);
    dp_batch_release(&b);
}

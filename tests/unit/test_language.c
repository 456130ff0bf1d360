/* The language stage: labels, the list, long documents by slices. */
#include "tests/unit/stage_run.h"

static const char english[] = "The committee will meet on Thursday to discuss the budget, and everybody who is interested may attend the meeting. ";
static const char german[] = "Der Ausschuss trifft sich am Donnerstag, um über den Haushalt zu sprechen, und jeder darf an der Sitzung teilnehmen. ";
static const char japanese[] = "委員会は木曜日に予算について話し合うために集まります。興味のある方は誰でも参加できます。";

TEST(labels)
{
    const struct {
        const char *text, *lang;
    } t[] = {{english, "en"}, {german, "de"}, {japanese, "ja"}, {"", "und"}, {"12345", "und"},
             {"\xD7\x94\xD7\x95\xD7\xA2\xD7\x93\xD7\x94 \xD7\xAA\xD7\x99\xD7\xA4\xD7\x92\xD7\xA9 \xD7\x91\xD7\x99\xD7\x95\xD7\x9D \xD7\x97\xD7\x9E\xD7\x99\xD7\xA9\xD7\x99 \xD7\x9B\xD7\x93\xD7\x99 \xD7\x9C\xD7\x93\xD7\x95\xD7\x9F \xD7\x91\xD7\xAA\xD7\xA7\xD7\xA6\xD7\x99\xD7\x91", "he"}};
    struct stage_run st = stage_open(&dp_stage_language, NULL);
    struct dp_batch b = {0};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        batch_one(&b, dp_span_str(t[i].text));
        stage_go(&st, &b);
        CHECK_STR(b.lang[0], t[i].lang);
        CHECK(b.lang_score[0] >= 0 && b.lang_score[0] <= 1);
        CHECK((strcmp(b.lang[0], "und") == 0) == (b.lang_score[0] == 0));
    }
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(keeps_the_languages_asked_for)
{
    struct stage_run st = stage_open(&dp_stage_language, (const char *const[]){"languages", "de,fr", NULL});
    struct dp_batch b = {0};
    batch_one(&b, dp_span_str(english));
    stage_go(&st, &b);
    CHECK_INT(b.drop[0], DP_DROP_LANGUAGE);
    batch_one(&b, dp_span_str(german));
    stage_go(&st, &b);
    CHECK_INT(b.drop[0], DP_DROP_KEEP);
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(long_documents_by_slices)
{
    struct stage_run st = stage_open(&dp_stage_language, NULL);
    struct dp_batch b = {0};
    struct dp_buf t;
    dp_buf_init(&t, 4 << 20);
    while (t.len < 1 << 20) dp_buf_add_str(&t, japanese);
    batch_one(&b, dp_buf_span(&t));
    stage_go(&st, &b);
    CHECK_STR(b.lang[0], "ja");
    dp_buf_release(&t);
    stage_close(&st);
    dp_batch_release(&b);
}

/* The extract stage: text of small pages, the limits, what isn't text. */
#include "tests/unit/stage_run.h"

#define LONG "This is a long enough sentence about the matter at hand, with commas, and with more words than any menu would ever have in one line of its own. "

static void page(struct dp_batch *b, const struct stage_run *st, struct dp_span html, enum dp_format f)
{
    batch_one(b, html);
    b->format[0] = (uint8_t)f;
    stage_go(st, b);
}

TEST(main_content_without_furniture)
{
    struct stage_run st = stage_open(&dp_stage_extract, NULL);
    struct dp_batch b = {0};
    page(&b, &st, dp_span_str("<html lang=en><head><title> My \n page </title><script>var x='<p>no</p>'</script></head><body><nav><a href=/>Home</a></nav>"
        "<div class=sidebar>Buy our things today and every day</div><article><h1>Head &amp; line</h1><p>" LONG "<b>bold</b> text.</p><p>" LONG "</p>"
        "<ul><li>one point</li><li>two points</li></ul><pre>a\n  b</pre></article><footer>Copyright 2020</footer></body>"), DP_FORMAT_HTML);
    CHECK_INT(b.drop[0], DP_DROP_KEEP);
    CHECK_SPAN(b.title[0], "My page");
    CHECK_SPAN(b.text[0], "Head & line\n\n" LONG "bold text.\n\nThis is a long enough sentence about the matter at hand, with commas, and with more words than any menu would ever have in one line of its own.\n\n- one point\n- two points\n\na\n  b");
    stage_close(&st);
    dp_batch_release(&b);
}

/* The paragraph between headline and text, in a node of its own; and lines that send readers elsewhere. */
TEST(lead_and_links_elsewhere)
{
    struct stage_run st = stage_open(&dp_stage_extract, NULL);
    struct dp_batch b = {0};
    page(&b, &st, dp_span_str("<body><div class=teaser>A teaser of another story, long enough to be one.</div><article><header><h1>Head</h1><p class=\"article-intro\">What the article says, in short.</p>"
        "</header><div class=meta>by somebody</div><div class=article-body><p>" LONG "</p><p>Read more: <a href=x>another story</a> of the day before</p><p>" LONG "</p><p>" LONG "</p></div></article></body>"), DP_FORMAT_HTML);
    CHECK_INT(b.drop[0], DP_DROP_KEEP);
    CHECK_SPAN(dp_span(b.text[0].ptr, 60), "What the article says, in short.\n\nThis is a long enough sent");
    CHECK(memmem(b.text[0].ptr, b.text[0].len, "another", 7) == NULL);
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(all_content)
{
    struct stage_run st = stage_open(&dp_stage_extract, (const char *const[]){"content", "all", NULL});
    struct dp_batch b = {0};
    page(&b, &st, dp_span_str("<nav><a>Home</a></nav><p>Te<i>x</i>t<br>more<script>no</script><style>p{}</style><table><tr><td>1<td>2<tr><td>3</table>"), DP_FORMAT_HTML);
    CHECK_SPAN(b.text[0], "Home\n\nText\nmore\n\n1\t2\n3");
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(plain_text_and_binary)
{
    struct stage_run st = stage_open(&dp_stage_extract, NULL);
    struct dp_batch b = {0};
    page(&b, &st, dp_span_str("caf\xE9 au lait, d\xE9j\xE0 vu <b>"), DP_FORMAT_TEXT);
    CHECK_SPAN(b.text[0], "café au lait, déjà vu <b>");
    page(&b, &st, dp_span("\x7F" "ELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x01", 15), DP_FORMAT_UNKNOWN);
    CHECK_INT(b.drop[0], DP_DROP_BINARY);
    CHECK(b.value[0] > b.limit[0]);
    page(&b, &st, dp_span_str("x"), DP_FORMAT_BINARY);
    CHECK_INT(b.drop[0], DP_DROP_BINARY);
    stage_close(&st);
    dp_batch_release(&b);
}

TEST(hostile_pages_are_dropped_quickly)
{
    static const struct {
        const char *before, *bit, *after;
        int times;
        bool drops;
    } t[] = {{"", "<div>", "", 40000, true}, {"<a ", "b=1 ", ">", 40000, true}, {"<a ", "b=1 ", "", 40000, false}, {"", "<font>x", "", 40000, false},
             {"<table>", "<b>x", "", 40000, false}, {"", "<a href=x><p>", "", 40000, false}, {"<!--", "<!--", "", 100000, false}, {"<script>", "</scrip", "", 100000, false},
             {"", "<p>x", "", 200000, false}, {"", "</div>", "", 100000, false}, {"<select>", "<option>a", "", 50000, false}, {"", "<ul><li>", "", 40000, true},
             {"", "<a><div></a>", "", 100000, true}, {"", "<span a='", "", 100000, false}, {"<!--", "-", "", 200000, false}, {"<svg>", "<![CDATA[", "", 100000, false}};
    struct stage_run st = stage_open(&dp_stage_extract, NULL);
    struct dp_batch b = {0};
    struct dp_buf s;
    dp_buf_init(&s, 4 << 20);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        dp_buf_clear(&s);
        dp_buf_add_str(&s, t[i].before);
        for (int k = 0; k < t[i].times; k++) dp_buf_add_str(&s, t[i].bit);
        dp_buf_add_str(&s, t[i].after);
        page(&b, &st, dp_buf_span(&s), DP_FORMAT_HTML);
        if ((b.drop[0] == DP_DROP_HTML_LIMIT) != t[i].drops) DP_TEST_FAIL("case %zu: %s %g %g", i, dp_drop_name(b.drop[0]), b.value[0], b.limit[0]);
    }
    dp_buf_release(&s);
    stage_close(&st);
    dp_batch_release(&b);
}

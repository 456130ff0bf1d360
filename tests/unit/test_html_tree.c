/* The flat tree: what closes what, as outlines; and invariants on broken pages. An outline: tag(children), text in quotes, white space as it is. */
#include "base/buf.h"
#include "base/err.h"
#include "clean/html_tree.h"
#include "tests/test.h"

static const char *const tag_names[] = {"", "other",
#define X(t) #t,
    DP_HTML_TAGS(X)
#undef X
};

static void outline(struct dp_buf *out, const struct dp_html *h, uint32_t i)
{
    const struct dp_html_node *n = &h->node[i];
    if (n->tag == DP_HTML_TEXT) {
        dp_buf_printf(out, "\"%.*s\"", DP_SPAN_FMT(n->text));
        return;
    }
    for (const char *p = tag_names[n->tag]; *p; p++) dp_buf_add_char(out, (char)(*p | 32));
    if (h->attrs[n->attrs].cls.len) dp_buf_printf(out, ".%.*s", DP_SPAN_FMT(h->attrs[n->attrs].cls));
    if (n->end == i + 1) return;
    dp_buf_add_char(out, '(');
    for (uint32_t k = i + 1; k < n->end; k = h->node[k].end) {
        if (k > i + 1) dp_buf_add_char(out, ' ');
        outline(out, h, k);
    }
    dp_buf_add_char(out, ')');
}

/* The children of body. */
static void body_outline(const char *page, struct dp_buf *out)
{
    struct dp_html h;
    struct dp_html_limit limit;
    dp_html_init(&h);
    dp_buf_clear(out);
    CHECK_INT(dp_html_parse(&h, dp_span_str(page), &limit), DP_OK);
    uint32_t body = 2; /* html, head, body */
    REQUIRE(h.count > 2 && h.node[body].tag == DP_HTML_BODY);
    for (uint32_t k = body + 1; k < h.node[body].end; k = h.node[k].end) {
        if (k > body + 1) dp_buf_add_char(out, ' ');
        outline(out, &h, k);
    }
    CHECK_INT(h.node[body].end, h.count);
    dp_html_release(&h);
}

static void check_outlines(const char *const (*cases)[2], size_t n)
{
    struct dp_buf got;
    dp_buf_init(&got, 1 << 16);
    for (size_t i = 0; i < n; i++) {
        body_outline(cases[i][0], &got);
        if (!dp_span_is(dp_buf_span(&got), cases[i][1])) DP_TEST_FAIL("%s: got %s, want %s", cases[i][0], got.ptr ? got.ptr : "", cases[i][1]);
    }
    dp_buf_release(&got);
}
#define CHECK_OUTLINES(cases) check_outlines((cases), sizeof(cases) / sizeof *(cases))

TEST(what_closes_what)
{
    static const char *const cases[][2] = {
        {"<p>a<p>b", "p(\"a\") p(\"b\")"},
        {"<p>a<div>b</div>c", "p(\"a\") div(\"b\") \"c\""},
        {"<p>a<span>b<ul><li>c<li>d</ul>e", "p(\"a\" \"b\") ul(li(\"c\") li(\"d\")) \"e\""},
        {"a</p>b", "\"a\" p \"b\""},
        {"a<br>b</br>c<hr>d", "\"a\" br \"b\" br \"c\" hr \"d\""},
        {"<h1>a<h2>b</h3>c", "h1(\"a\") h2(\"b\") \"c\""},
        {"<ul><li>a<ul><li>b</ul>c<li>d</ul>", "ul(li(\"a\" ul(li(\"b\")) \"c\") li(\"d\"))"},
        {"<li>a<div><li>b</div>c", "li(\"a\" div) li(\"b\" \"c\")"},
        {"<dl><dt>a<dd>b<p>c<dt>d</dl>e", "dl(dt(\"a\") dd(\"b\" p(\"c\")) dt(\"d\")) \"e\""},
        {"<div>a</span></p></section>b</div>c", "div(\"a\" p \"b\") \"c\""},
        {"<div><span class=x>a</div>b</span>c", "div(other.x(\"a\")) \"b\" \"c\""},
        {"<b>a<p>b</b>c", "\"a\" p(\"b\" \"c\")"},
        {"<button>a<button>b</button>c", "button(\"a\") button(\"b\") \"c\""},
        {"<form>a<form>b</form>c</form>d", "form(\"a\" \"b\") \"c\" \"d\""},
        {"<form><div>a</form>b</div>c", "form(div(\"a\" \"b\")) \"c\""},
        {"<pre>\n a\n</pre> b", "pre(\"\n a\n\") \" b\""},
        {"<xmp><b>&amp;</xmp>c", "pre(\"<b>&amp;\") \"c\""},
        {"a<plaintext>b</plaintext>", "\"a\" pre(\"b</plaintext>\")"},
        {"<select><option>a<p>b</select>c", "\"c\""},
        {"<select><option>a<input>b", "\"b\""},
        {"<table><tr><td><select><option>a<td>b</table>", "table(tbody(tr(td td(\"b\"))))"},
        {"<textarea><p>a</textarea>b<script>if (a</p>)</script>c<style>p</style><iframe>d</iframe>e", "\"b\" \"c\" \"e\""},
        {"a<noscript>b<p>c</noscript>d", "\"a\" \"d\""},
        {"a<template><td>b</template>c", "\"a\" template(\"b\") \"c\""},
        {"</div><!-- x --!>a<!doctype html>b", "\"a\" \"b\""},
        {"<body class=x>a<body class=y>b", "\"a\" \"b\""},
        {"a</body>b</html>c", "\"a\" \"b\" \"c\""},
        {"<frameset><frame></frameset><noframes>a</noframes>", ""},
    };
    CHECK_OUTLINES(cases);
}

TEST(tables)
{
    static const char *const cases[][2] = {
        {"<table><td>a<td>b<tr><th>c</table>d", "table(tbody(tr(td(\"a\") td(\"b\")) tr(th(\"c\")))) \"d\""},
        {"<table><caption>a<thead><tr><td>b<tbody><td>c</table>", "table(caption(\"a\") thead(tr(td(\"b\"))) tbody(tr(td(\"c\"))))"},
        {"<table><tr><td><div>a</table>b", "table(tbody(tr(td(div(\"a\"))))) \"b\""},
        {"<table><tr><td>a<table><tr><td>b</table>c</td><td>d</table>", "table(tbody(tr(td(\"a\" table(tbody(tr(td(\"b\")))) \"c\") td(\"d\"))))"},
        {"<div><table><tr><td>a</div>b</table>c</div>d", "div(table(tbody(tr(td(\"a\" \"b\")))) \"c\") \"d\""},
        {"<table><tr><table><tr><td>a</table>", "table(tbody(tr)) table(tbody(tr(td(\"a\"))))"},
        {"<table><tr>a<td>b</table>", "table(tbody(tr(\"a\" td(\"b\"))))"}, /* the standard moves "a" in front */
        {"<tr><td>a</td></tr>b", "\"a\" \"b\""},
        {"<!doctype html><p>a<table><tr><td>b</table>", "p(\"a\") table(tbody(tr(td(\"b\"))))"},
        {"<p>a<table><tr><td>b</table>c", "p(\"a\" table(tbody(tr(td(\"b\")))) \"c\")"}, /* without a document type: quirks */
        {"<table><form><tr><td>a</form>b</table>", "table(tbody(tr(td(\"a\" \"b\"))))"},
        {"<table><colgroup><col><tr><td>a", "table(tbody(tr(td(\"a\"))))"},
    };
    CHECK_OUTLINES(cases);
}

TEST(links)
{
    static const char *const cases[][2] = {
        {"<a>a<b>b</b></a>c", "a(\"a\" \"b\") \"c\""},
        {"<a>a<a>b</a>c", "a(\"a\") a(\"b\") \"c\""},
        {"<a>a<div>b</a>c</div>d", "a(\"a\" div(\"b\")) div(\"c\") \"d\""},
        {"<p><a class=x>a<p>b</a>c", "p(a.x(\"a\")) p(a.x(\"b\") \"c\")"},
        {"<p><a>a</p> <p> </p><div>b</div>", "p(a(\"a\")) p div(a(\"b\"))"},
        {"<a>a<table><tr><td>b</td></tr></table>c</a>d", "a(\"a\" table(tbody(tr(td(\"b\")))) \"c\") \"d\""},
        {"<table><tr><td><a>a<td>b</table>c", "table(tbody(tr(td(a(\"a\")) td(\"b\")))) \"c\""},
        {"</a>a<a></a>", "\"a\" a"},
    };
    CHECK_OUTLINES(cases);
}

TEST(svg_and_math)
{
    static const char *const cases[][2] = {
        {"a<svg><title>b</title><style>p > a</style><text>c</text><svg/></svg>d", "\"a\" \"d\""},
        {"a<svg/>b", "\"a\" \"b\""},
        {"a<svg><g><p>b</svg>c", "\"a\" p(\"b\" \"c\")"},
        {"a<svg><foreignObject><p>b</p></foreignObject></svg>c", "\"a\" \"c\""},
        {"a<svg><![CDATA[</svg>]]></svg>b", "\"a\" \"b\""},
        {"a<math><mi>x</mi><mspace/><mo>=</mo></math>b", "\"a\" \"x\" \"=\" \"b\""},
    };
    CHECK_OUTLINES(cases);
}

TEST(title_language_attributes)
{
    struct dp_html h;
    struct dp_html_limit limit;
    dp_html_init(&h);
    CHECK_INT(dp_html_parse(&h, dp_span_str("<html lang=\"pt&#45;BR\"><title>A &lt;b&gt; c</title><title>no</title><p CLASS='a&amp;b' Id=i class=no itemprop=articleBody>x"
                                            "<div role=main itemprop=y hidden>y<div style=\"color:red; Display:none\">z<div aria-hidden=true>u<title>v</title>"), &limit), DP_OK);
    CHECK_SPAN(h.title, "A <b> c");
    CHECK_SPAN(h.lang, "pt-BR");
    REQUIRE(h.count == 11);
    const struct dp_html_attrs *p = &h.attrs[h.node[3].attrs];
    CHECK_SPAN(p->cls, "a&b");
    CHECK_SPAN(p->id, "i");
    CHECK_SPAN(p->role, "articleBody");
    CHECK(!p->hidden);
    CHECK_SPAN(h.attrs[h.node[5].attrs].role, "main");
    for (uint32_t i = 5; i < 11; i += 2) CHECK(h.node[i].tag == DP_HTML_DIV && h.attrs[h.node[i].attrs].hidden);
    dp_html_release(&h);
}

TEST(limits)
{
    struct dp_html h;
    struct dp_html_limit limit;
    struct dp_buf s;
    dp_html_init(&h);
    dp_buf_init(&s, 8 << 20);
    for (int i = 0; i < 600; i++) dp_buf_add_str(&s, "<div>");
    CHECK_INT(dp_html_parse(&h, dp_buf_span(&s), &limit), DP_LIMIT);
    CHECK(strcmp(limit.what, "nested elements") == 0 && limit.value == 513 && limit.limit == 512);
    dp_buf_clear(&s);
    dp_buf_add_str(&s, "<p ");
    for (int i = 0; i < 513; i++) dp_buf_add_str(&s, "a ");
    dp_buf_add_str(&s, ">");
    CHECK_INT(dp_html_parse(&h, dp_buf_span(&s), &limit), DP_LIMIT);
    CHECK(strcmp(limit.what, "attributes on a tag") == 0 && limit.value == 513);
    /* Every link closed inside 500 blocks begins them again. */
    dp_buf_clear(&s);
    for (int i = 0; i < 100; i++) dp_buf_add_str(&s, "<a>");
    for (int k = 0; k < 400; k++) dp_buf_add_str(&s, "<section>");
    for (int i = 0; i < 100000; i++) dp_buf_add_str(&s, "<a><div></a>");
    CHECK_INT(dp_html_parse(&h, dp_buf_span(&s), &limit), DP_LIMIT);
    dp_buf_release(&s);
    dp_html_release(&h);
}

/* clean/extract.c - the extract stage: bytes to UTF-8, HTML to text. One document at a time: limits, charset, limits of HTML, tree, text. */
#include "base/utf8.h"
#include "clean/charset.h"
#include "clean/html_tree.h"
#include "clean/main_text.h"
#include "clean/stages.h"

#include <strings.h>

struct ctx {
    int content; /* 0 main, 1 all */
    double controls_max, replaced_max;
};
struct worker {
    struct dp_iconv iconv;
    struct dp_buf utf8, scratch, text;
    struct dp_html html;
    struct dp_main_text main;
};

static const struct dp_opt opts[] = {
    {.name = "content", .type = DP_OPT_CHOICE, .offset = offsetof(struct ctx, content), .preset = "main", .choices = "main|all", .help = "The main content of a page, or all its text."},
    {.name = "controls_max", .type = DP_OPT_REAL, .offset = offsetof(struct ctx, controls_max), .preset = "0.02", .max = 1, .help = "Largest share of control characters, else the document is binary; 0 for no limit."},
    {.name = "replaced_max", .type = DP_OPT_REAL, .offset = offsetof(struct ctx, replaced_max), .preset = "0.05", .max = 1, .help = "Largest share of characters that don't fit the charset; 0 for no limit."},
    DP_OPT_END,
};

static bool looks_like_html(struct dp_span s)
{
    static const char *const starts[] = {"<!doctype html", "<html", "<head", "<body", "<?xml", "<!--", "<title", "<div", "<p>", "<script", "<table", "<h1"};
    size_t i = 0;
    while (i < s.len && i < 1024 && (unsigned char)s.ptr[i] <= ' ') i++;
    for (size_t k = 0; k < sizeof starts / sizeof *starts; k++) {
        size_t n = strlen(starts[k]);
        if (s.len - i >= n && strncasecmp(s.ptr + i, starts[k], n) == 0) return true;
    }
    return false;
}

static bool is_html(const struct dp_batch *b, uint32_t i)
{
    struct dp_span m = b->mime[i];
    if (b->format[i] == DP_FORMAT_HTML || b->format[i] == DP_FORMAT_XML) return true;
    if (b->format[i] != DP_FORMAT_UNKNOWN) return false;
    return dp_span_is(m, "text/html") || dp_span_is(m, "application/xhtml+xml") || looks_like_html(b->text[i]);
}

static struct dp_span collapse(struct dp_arena *mem, struct dp_span s)
{
    char *p = dp_arena_alloc(mem, s.len + 1);
    size_t n = 0;
    if (!p) return dp_span(NULL, 0);
    for (size_t i = 0; i < s.len; i++) {
        bool white = (unsigned char)s.ptr[i] <= ' ';
        if (!white) p[n++] = s.ptr[i];
        else if (n && p[n - 1] != ' ') p[n++] = ' ';
    }
    while (n && p[n - 1] == ' ') n--;
    return dp_span(p, n);
}

static int html_text(const struct ctx *c, struct worker *w, struct dp_batch *b, uint32_t i, struct dp_span s, struct dp_span *out, struct dp_err *e)
{
    struct dp_html_limit l;
    int rc = dp_html_parse(&w->html, s, &l);
    if (rc == DP_LIMIT) return dp_batch_drop(b, i, DP_DROP_HTML_LIMIT, l.value, l.limit), DP_OK;
    if (rc < 0) DP_FAIL(e, NOMEM, "extract: the tree of a page of %zu bytes", s.len);
    if (dp_main_text(&w->main, &w->html, c->content == 1, &w->text) < 0) DP_FAIL(e, NOMEM, "extract: a tree of %u nodes", w->html.count);
    DP_TRY(dp_buf_check(&w->text, "extract: the text of a page", e));
    *out = dp_buf_span(&w->text);
    if (!b->title[i].len && w->html.title.len) {
        b->title[i] = collapse(&b->mem, w->html.title);
        if (!b->title[i].ptr) DP_FAIL(e, NOMEM, "extract: a title of %zu bytes", w->html.title.len);
    }
    return DP_OK;
}

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    const struct ctx *c = ctx;
    struct worker *w = worker;
    struct dp_span s = b->text[i];
    if (b->format[i] == DP_FORMAT_BINARY) return dp_batch_drop(b, i, DP_DROP_BINARY, 1, 0), DP_OK;
    struct dp_charset_result r;
    dp_buf_shrink(&w->utf8, DP_SCRATCH_KEEP);
    dp_buf_shrink(&w->scratch, DP_SCRATCH_KEEP);
    dp_buf_shrink(&w->text, DP_SCRATCH_KEEP);
    bool html = is_html(b, i);
    DP_TRY(dp_charset_decode(&w->iconv, s, b->charset[i], html, &w->utf8, &w->scratch, &r, e));
    struct dp_utf8_census n = dp_utf8_census(r.text.ptr, r.text.len);
    double chars = (double)n.chars, share = n.chars ? (double)n.controls / chars : 0, lost = n.chars ? (double)r.replaced / chars : 0;
    if (c->controls_max > 0 && share > c->controls_max) return dp_batch_drop(b, i, DP_DROP_BINARY, share, c->controls_max), DP_OK;
    if (c->replaced_max > 0 && lost > c->replaced_max) return dp_batch_drop(b, i, DP_DROP_CHARSET, (double)r.replaced, c->replaced_max * chars), DP_OK;
    struct dp_span out = r.text;
    if (html) DP_TRY(html_text(c, w, b, i, r.text, &out, e));
    if (b->drop[i] != DP_DROP_KEEP || out.ptr == s.ptr) return DP_OK;
    b->text[i] = dp_arena_dup(&b->mem, out);
    if (!b->text[i].ptr) DP_FAIL(e, NOMEM, "extract: %zu bytes of text in the batch's arena", out.len);
    return DP_OK;
}

static int worker_open(const void *ctx, void *worker, struct dp_err *e)
{
    struct worker *w = worker;
    (void)ctx, (void)e;
    dp_buf_init(&w->utf8, (size_t)DP_DOC_BYTES_MAX * 4);
    dp_buf_init(&w->scratch, (size_t)DP_DOC_BYTES_MAX * 8);
    dp_buf_init(&w->text, (size_t)DP_DOC_BYTES_MAX * 8);
    dp_html_init(&w->html);
    return DP_OK;
}

static void worker_close(const void *ctx, void *worker)
{
    struct worker *w = worker;
    (void)ctx;
    dp_iconv_release(&w->iconv);
    dp_buf_release(&w->utf8);
    dp_buf_release(&w->scratch);
    dp_buf_release(&w->text);
    dp_html_release(&w->html);
    dp_main_text_release(&w->main);
}

const struct dp_stage_type dp_stage_extract = {
    .name = "extract",
    .summary = "bytes to UTF-8, HTML to text",
    .version = 3,
    .needs = DP_COL_BYTES,
    .fills = DP_COL_TEXT,
    .opts = opts,
    .ctx_size = sizeof(struct ctx),
    .worker_size = sizeof(struct worker),
    .row_bytes_max = DP_DOC_BYTES_MAX,
    .worker_open = worker_open,
    .row = row,
    .worker_close = worker_close,
};

/* HTML through extract, both kinds of content: never crashes, always valid UTF-8. The tree of valid UTF-8: nodes nest, texts are valid. */
#include "base/utf8.h"
#include "clean/html_tree.h"
#include "clean/stages.h"

#include <stdlib.h>

static void check_tree(struct dp_span page)
{
    struct dp_html h;
    struct dp_html_limit limit;
    dp_html_init(&h);
    int rc = dp_html_parse(&h, page, &limit);
    if (rc < 0 && (rc != DP_LIMIT || !limit.what)) abort();
    for (uint32_t i = 0; rc >= 0 && i < h.count; i++) {
        const struct dp_html_node *n = &h.node[i], *parent = &h.node[n->parent];
        if (n->end <= i || n->end > parent->end || (i && n->parent >= i) || n->attrs >= h.attrs_count || n->tag >= DP_HTML_TAG_COUNT) abort();
        if (i && (parent->tag == DP_HTML_TEXT || i >= parent->end)) abort();
        if (n->tag == DP_HTML_TEXT && (n->end != i + 1 || !n->text.len || !dp_utf8_valid(n->text))) abort();
    }
    dp_html_release(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_batch b;
    if (dp_utf8_valid(dp_span(data, size))) check_tree(dp_span(data, size));
    for (int content = 0; content < 2; content++) {
        const struct dp_stage_type *t = &dp_stage_extract;
        void *ctx = calloc(1, t->ctx_size), *w;
        if (!ctx || dp_batch_init(&b, 1, 1 << 26, &e) < 0 || dp_opt_defaults(t->opts, ctx, &e) < 0) abort();
        if (dp_opt_set(dp_opt_find(t->opts, dp_span_str("content")), ctx, dp_span_str(content ? "all" : "main"), "fuzz", &e) < 0) abort();
        if (dp_stage_workers_open(&t, &ctx, 1, &w, &e) < 0) abort();
        dp_batch_add(&b);
        b.text[0] = dp_span(data, size);
        b.format[0] = DP_FORMAT_HTML;
        if (dp_stage_run(t, ctx, w, &b, &e) < 0) abort();
        if (b.drop[0] == DP_DROP_KEEP && !dp_utf8_valid(b.text[0])) abort();
        dp_stage_workers_close(&t, &ctx, 1, &w);
        dp_opt_release(t->opts, ctx);
        dp_batch_release(&b);
        free(ctx);
    }
    return 0;
}

/* clean/patterns.c - the patterns stage: regular expressions of one's own over URLs, texts and lines.
 *
 * A pattern that takes too many steps on a document drops it with a reason of its own: whether it would have matched isn't known, and one
 * document must not hold up a run. */
#include "base/buf.h"
#include "base/re.h"
#include "clean/lines.h"
#include "clean/stages.h"

enum { URL_DROP, TEXT_DROP, TEXT_KEEP, LINE_DROP, PATTERNS };
struct ctx {
    char *pattern[PATTERNS];
    bool ignore_case;
    struct dp_re *re[PATTERNS];
};
struct worker {
    struct dp_re_scratch *scratch;
    struct dp_buf lines;
};

#define ROW(key, k, text) {.name = key, .type = DP_OPT_STRING, .offset = offsetof(struct ctx, pattern) + (k) * sizeof(char *), .arg = "REGEX", .help = text}
static const struct dp_opt opts[] = {
    ROW("url_drop", URL_DROP, "Drop documents whose URL matches this regular expression (PCRE2)."),
    ROW("text_drop", TEXT_DROP, "Drop documents whose text matches."),
    ROW("text_keep", TEXT_KEEP, "Drop documents whose text doesn't match."),
    ROW("line_drop", LINE_DROP, "Remove lines that match; a document of which nothing is left is dropped as empty."),
    {.name = "ignore_case", .type = DP_OPT_BOOL, .offset = offsetof(struct ctx, ignore_case), .preset = "false", .help = "Capitals don't matter to these patterns."},
    DP_OPT_END,
};
#undef ROW

static int open_patterns(void *ctx, struct dp_err *e)
{
    static const char *const names[PATTERNS] = {"clean.patterns.url_drop", "clean.patterns.text_drop", "clean.patterns.text_keep", "clean.patterns.line_drop"};
    struct ctx *c = ctx;
    for (int k = 0; k < PATTERNS; k++)
        if (c->pattern[k] && *c->pattern[k]) DP_TRY(dp_re_open(&c->re[k], c->pattern[k], c->ignore_case, names[k], e));
    return DP_OK;
}

static void close_patterns(void *ctx)
{
    struct ctx *c = ctx;
    for (int k = 0; k < PATTERNS; k++) {
        dp_re_close(c->re[k]);
        c->re[k] = NULL;
    }
}

static int worker_open(const void *ctx, void *worker, struct dp_err *e)
{
    struct worker *w = worker;
    (void)ctx;
    dp_buf_init(&w->lines, DP_DOC_BYTES_MAX + 1);
    return dp_re_scratch_open(&w->scratch, e);
}

static void worker_close(const void *ctx, void *worker)
{
    struct worker *w = worker;
    (void)ctx;
    dp_re_scratch_close(w->scratch);
    dp_buf_release(&w->lines);
}

/* Drops row i when the pattern's answer is `bad`; true when it did. The value of the drop is where the match begins. */
static bool decides(const struct ctx *c, struct worker *w, int k, struct dp_span s, enum dp_re_result bad, enum dp_drop why, struct dp_batch *b, uint32_t i)
{
    size_t at = 0, end;
    if (!c->re[k]) return false;
    enum dp_re_result r = dp_re_search(c->re[k], w->scratch, s, 0, &at, &end);
    if (r == DP_RE_GAVE_UP) dp_batch_drop(b, i, DP_DROP_PATTERN_COST, (double)s.len, 0);
    else if (r == bad) dp_batch_drop(b, i, why, (double)at, 0);
    return b->drop[i] != DP_DROP_KEEP;
}

/* The text without the lines that match. */
static int drop_lines(const struct ctx *c, struct worker *w, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    struct dp_span text = b->text[i];
    bool any = false, first = true;
    dp_buf_clear(&w->lines);
    for (const char *p = text.ptr, *end = p + text.len; p <= end;) {
        const char *q = memchr(p, '\n', (size_t)(end - p));
        if (!q) q = end;
        size_t at, to;
        enum dp_re_result r = dp_re_search(c->re[LINE_DROP], w->scratch, dp_span(p, (size_t)(q - p)), 0, &at, &to);
        if (r == DP_RE_GAVE_UP) return dp_batch_drop(b, i, DP_DROP_PATTERN_COST, (double)text.len, 0), DP_OK;
        if (r == DP_RE_YES) any = true;
        else {
            if (!first) dp_buf_add_char(&w->lines, '\n');
            dp_buf_add(&w->lines, p, (size_t)(q - p));
            first = false;
        }
        p = q + 1;
    }
    if (!any) return DP_OK;
    DP_TRY(dp_buf_check(&w->lines, "patterns: a document", e));
    if (dp_trim(dp_buf_span(&w->lines)).len == 0) return dp_batch_drop(b, i, DP_DROP_EMPTY, 0, 1), DP_OK;
    b->text[i] = dp_arena_dup(&b->mem, dp_buf_span(&w->lines));
    if (!b->text[i].ptr) DP_FAIL(e, NOMEM, "patterns: %zu bytes of text in the batch's arena", w->lines.len);
    return DP_OK;
}

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    const struct ctx *c = ctx;
    if (decides(c, worker, URL_DROP, b->url[i], DP_RE_YES, DP_DROP_PATTERN_URL, b, i) ||
        decides(c, worker, TEXT_DROP, b->text[i], DP_RE_YES, DP_DROP_PATTERN_TEXT, b, i) ||
        decides(c, worker, TEXT_KEEP, b->text[i], DP_RE_NO, DP_DROP_PATTERN_MISSING, b, i))
        return DP_OK;
    return c->re[LINE_DROP] ? drop_lines(c, worker, b, i, e) : DP_OK;
}

const struct dp_stage_type dp_stage_patterns = {
    .name = "patterns",
    .summary = "regular expressions of one's own over URLs, texts and lines",
    .version = 1,
    .needs = DP_COL_TEXT,
    .fills = DP_COL_TEXT,
    .opts = opts,
    .ctx_size = sizeof(struct ctx),
    .worker_size = sizeof(struct worker),
    .open = open_patterns,
    .worker_open = worker_open,
    .row = row,
    .worker_close = worker_close,
    .close = close_patterns,
};

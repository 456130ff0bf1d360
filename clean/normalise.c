/* clean/normalise.c - the normalise stage: one pass over the bytes, then NFC where the quick check fails.
 *
 * Line ends (\r\n, \r, U+0085, U+2028, U+2029) become \n; control characters other than \t and \n go; trailing white space of a line goes;
 * three or more \n become two; leading and trailing blank lines go. Not NFKC: it rewrites what text means (x² becomes x2). ZWJ and ZWNJ
 * stay: Persian, Indic scripts and emoji need them. */
#include "base/nfc.h"
#include "base/unicode.h"
#include "base/utf8.h"
#include "clean/lines.h"
#include "clean/stages.h"

struct ctx {
    bool enabled, nbsp_to_space, strip_invisible, nfc;
};
struct worker {
    struct dp_buf first, second;
    struct dp_nfc nfc;
};

#define ROW(field, text) {.name = #field, .type = DP_OPT_BOOL, .offset = offsetof(struct ctx, field), .preset = "true", .help = text}
static const struct dp_opt opts[] = {
    ROW(enabled, "Normalise text."),
    ROW(nbsp_to_space, "Turn no-break spaces (U+00A0, U+202F) into spaces."),
    ROW(strip_invisible, "Remove zero-width spaces, soft hyphens, word joiners and byte order marks."),
    ROW(nfc, "Bring characters into Unicode form NFC."),
    DP_OPT_END,
};
#undef ROW

struct sink {
    char *to;
    size_t len, spaces; /* trailing spaces and tabs of the line */
    unsigned newlines;  /* newlines at the end */
};

static void newline(struct sink *o)
{
    o->len -= o->spaces;
    o->spaces = 0;
    if (o->len == 0 || o->newlines == 2) return;
    o->to[o->len++] = '\n';
    o->newlines++;
}

static void put(struct sink *o, const char *p, size_t n, bool space)
{
    memcpy(o->to + o->len, p, n);
    o->len += n;
    if (space) o->spaces += n;
    else o->spaces = 0, o->newlines = 0;
}

/* A line of blanks between newlines must not hide that they are three: newlines stay counted until text comes. */
static size_t squeeze(const struct ctx *c, struct dp_span s, char *to)
{
    struct sink o = {to, 0, 0, 0};
    const char *p = s.ptr, *e = p + s.len;
    while (p < e) {
        const char *q = p;
        while (q < e && (unsigned char)*q > ' ' && (unsigned char)*q < 0x7F) q++;
        if (q > p) {
            put(&o, p, (size_t)(q - p), false);
            p = q;
            continue;
        }
        uint32_t u = dp_utf8_next(&q);
        if (u == '\n' || u == 0x85 || u == 0x2028 || u == 0x2029) newline(&o);
        else if (u == '\r') {
            newline(&o);
            if (q < e && *q == '\n') q++;
        } else if (u == ' ' || u == '\t') put(&o, p, 1, true);
        else if (u < 0x20 || (u >= 0x7F && u < 0xA0) || (c->strip_invisible && u >= 0x80 && dp_uni(u) & DP_UNI_INVISIBLE)) {
            /* gone */
        } else if (c->nbsp_to_space && (u == 0xA0 || u == 0x202F)) put(&o, " ", 1, true);
        else put(&o, p, (size_t)(q - p), dp_uni(u) & DP_UNI_SPACE);
        p = q;
    }
    o.len -= o.spaces;
    while (o.len && o.to[o.len - 1] == '\n') o.len--;
    return o.len;
}

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    const struct ctx *c = ctx;
    struct worker *w = worker;
    struct dp_span s = b->text[i];
    dp_buf_shrink(&w->first, DP_SCRATCH_KEEP);
    dp_buf_shrink(&w->second, DP_SCRATCH_KEEP);
    char *to = dp_buf_reserve(&w->first, s.len + 1);
    if (!to) DP_FAIL(e, NOMEM, "normalise: a document of %zu bytes", s.len);
    struct dp_span t = dp_span(to, squeeze(c, s, to));
    if (c->nfc && !dp_nfc_quick(t)) {
        if (dp_nfc(&w->nfc, t, &w->second) < 0) DP_FAIL(e, NOMEM, "normalise: NFC of %zu bytes", t.len);
        DP_TRY(dp_buf_check(&w->second, "normalise: the NFC form of a document", e));
        t = dp_buf_span(&w->second);
    }
    if (t.len == 0) return dp_batch_drop(b, i, DP_DROP_EMPTY, 0, 1), DP_OK;
    if (dp_span_eq(t, s)) return DP_OK;
    b->text[i] = dp_arena_dup(&b->mem, t);
    if (!b->text[i].ptr) DP_FAIL(e, NOMEM, "normalise: %zu bytes in the batch's arena", t.len);
    return DP_OK;
}

static int worker_open(const void *ctx, void *worker, struct dp_err *e)
{
    struct worker *w = worker;
    (void)ctx, (void)e;
    dp_buf_init(&w->first, DP_DOC_BYTES_MAX + 64);
    dp_buf_init(&w->second, (size_t)DP_DOC_BYTES_MAX * 8); /* NFC may grow text up to threefold; slow pieces reserve four bytes a character */
    return DP_OK;
}

static void worker_close(const void *ctx, void *worker)
{
    struct worker *w = worker;
    (void)ctx;
    dp_buf_release(&w->first);
    dp_buf_release(&w->second);
    dp_nfc_release(&w->nfc);
}

const struct dp_stage_type dp_stage_normalise = {
    .name = "normalise",
    .summary = "line ends, control characters, spaces, Unicode NFC",
    .version = 1,
    .needs = DP_COL_TEXT,
    .fills = DP_COL_TEXT,
    .opts = opts,
    .ctx_size = sizeof(struct ctx),
    .worker_size = sizeof(struct worker),
    .row_bytes_max = DP_DOC_BYTES_MAX,
    .worker_open = worker_open,
    .row = row,
    .worker_close = worker_close,
};

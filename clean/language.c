/* clean/language.c - the language stage: a label and a score from CLD2.
 *
 * CLD2 looks at every letter, so that a long document costs as much as all shorter ones together and decides nothing more: past
 * `sample_bytes` three slices of equal size (start, middle, end), cut at characters, are looked at instead. The score is the share of the
 * text that CLD2 gives to its first language. */
#include "base/buf.h"
#include "clean/cld2_shim.h"
#include "clean/lines.h"
#include "clean/stages.h"

#include <stdlib.h>

struct ctx {
    bool enabled;
    char *languages;
    double min_score;
    int64_t sample_bytes;
};
struct worker {
    struct dp_buf sample;
};

#define ROW(field, kind, value, lo, hi, text) {.name = #field, .type = kind, .offset = offsetof(struct ctx, field), .preset = value, .min = lo, .max = hi, .help = text}
static const struct dp_opt opts[] = {
    ROW(enabled, DP_OPT_BOOL, "true", 0, 0, "Label documents with their language."),
    ROW(languages, DP_OPT_LIST, NULL, 0, 0, "Keep only these languages (ISO 639-1 codes); empty for all."),
    ROW(min_score, DP_OPT_REAL, "0", 0, 1, "Drop documents whose language has a smaller share of the text; 0 for no limit."),
    ROW(sample_bytes, DP_OPT_INT, "3072", 256, 1 << 24, "Look at no more than so many bytes of a document, in three slices."),
    DP_OPT_END,
};
#undef ROW

static size_t at_char(struct dp_span s, size_t i)
{
    while (i < s.len && ((unsigned char)s.ptr[i] & 0xC0) == 0x80) i++;
    return i;
}

static struct dp_span sample(struct dp_span s, size_t most, struct dp_buf *out)
{
    if (s.len <= most) return s;
    dp_buf_clear(out);
    size_t part = most / 3;
    for (size_t k = 0; k < 3; k++) {
        size_t from = at_char(s, (s.len - part) / 2 * k), to = at_char(s, from + part < s.len ? from + part : s.len);
        dp_buf_add(out, s.ptr + from, to - from);
        dp_buf_add_char(out, '\n');
    }
    return dp_buf_span(out);
}

/* CLD2's code as ISO 639: no script or region, "und" for unknown, today's codes for iw, in, ji, jw. */
static void label(const char *code, char out[8])
{
    static const char *const now[][2] = {{"un", "und"}, {"iw", "he"}, {"in", "id"}, {"ji", "yi"}, {"jw", "jv"}, {"mo", "ro"}, {"xx", "und"}};
    char base[8] = "";
    size_t n = strcspn(code, "-");
    if (n > 3) n = 0;
    memcpy(base, n ? code : "und", n ? n : 3);
    for (size_t i = 0; i < sizeof now / sizeof *now; i++)
        if (strcmp(base, now[i][0]) == 0) memcpy(base, now[i][1], strlen(now[i][1]) + 1);
    memcpy(out, base, 8);
}

static int worker_open(const void *ctx, void *worker, struct dp_err *e)
{
    (void)ctx, (void)e;
    dp_buf_init(&((struct worker *)worker)->sample, DP_DOC_BYTES_MAX + 64);
    return DP_OK;
}

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    const struct ctx *c = ctx;
    struct worker *w = worker;
    struct dp_span s = sample(b->text[i], (size_t)c->sample_bytes, &w->sample);
    DP_TRY(dp_buf_check(&w->sample, "language: the sample of a document", e));
    char code[16];
    float share = 0;
    dp_cld2_detect(s.len ? s.ptr : "", s.len, code, &share);
    label(code, b->lang[i]);
    if (strcmp(b->lang[i], "und") == 0) share = 0;
    b->lang_score[i] = share;
    if (!dp_lang_listed(c->languages, b->lang[i]) || (c->min_score > 0 && (double)share < c->min_score))
        dp_batch_drop(b, i, DP_DROP_LANGUAGE, (double)share, c->min_score);
    return DP_OK;
}

static void worker_close(const void *ctx, void *worker)
{
    (void)ctx;
    dp_buf_release(&((struct worker *)worker)->sample);
}

const struct dp_stage_type dp_stage_language = {
    .name = "language",
    .summary = "labels the language and keeps those asked for",
    .version = 1,
    .needs = DP_COL_TEXT,
    .fills = DP_COL_LANG,
    .opts = opts,
    .ctx_size = sizeof(struct ctx),
    .worker_size = sizeof(struct worker),
    .row_bytes_max = DP_DOC_BYTES_MAX,
    .worker_open = worker_open,
    .row = row,
    .worker_close = worker_close,
};

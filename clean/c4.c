/* clean/c4.c - the C4 rules (Raffel et al. 2020, section 2.2) with datatrove 0.10.1's semantics. Rewrites the text: lines that aren't
 * sentences go, and citation marks. A document goes for "lorem ipsum" or "{" on a line that would have stayed, or when too few
 * sentences are left. Order and comparisons are C4QualityFilter's. */
#include "base/buf.h"
#include "base/unicode.h"
#include "base/utf8.h"
#include "clean/c4_phrases.h"
#include "clean/lines.h"
#include "clean/stages.h"
#include "clean/words.h"

struct ctx {
    bool enabled, citations, end_punctuation, lorem_ipsum, javascript, curly_bracket, policy;
    int64_t sentences_min, words_min, word_length_max;
};
struct worker {
    struct dp_row_words *words;
    struct dp_words cut; /* of a line without its citation marks */
    struct dp_buf line, lower, out;
};

#define ROW(field, kind, value, hi, text) {.name = #field, .type = kind, .offset = offsetof(struct ctx, field), .preset = value, .min = 0, .max = hi, .help = text}
static const struct dp_opt opts[] = {
    ROW(enabled, DP_OPT_BOOL, "true", 0, "Apply the C4 rules."),
    ROW(citations, DP_OPT_BOOL, "true", 0, "Remove citation marks like [1] and [edit]."),
    ROW(end_punctuation, DP_OPT_BOOL, "true", 0, "Drop lines that don't end like a sentence."),
    ROW(sentences_min, DP_OPT_INT, "5", 1e9, "Fewest sentences; 0 for no limit."),
    ROW(words_min, DP_OPT_INT, "3", 1e9, "Drop lines with fewer words; 0 for no limit."),
    ROW(word_length_max, DP_OPT_INT, "1000", 1e9, "Drop lines with a longer word; 0 for no limit."),
    ROW(lorem_ipsum, DP_OPT_BOOL, "true", 0, "Drop documents with \"lorem ipsum\"."),
    ROW(javascript, DP_OPT_BOOL, "true", 0, "Drop lines with \"javascript\"."),
    ROW(curly_bracket, DP_OPT_BOOL, "true", 0, "Drop documents with \"{\"."),
    ROW(policy, DP_OPT_BOOL, "true", 0, "Drop lines about cookies and policies."),
    DP_OPT_END,
};
#undef ROW

static bool has(struct dp_span s, const char *what)
{
    return memmem(s.ptr, s.len, what, strlen(what)) != NULL;
}

/* Lower case of ASCII and of the Kelvin sign, the only other letter whose lower case is an ASCII letter by itself. */
static void lower_ascii(struct dp_span s, struct dp_buf *out)
{
    dp_buf_clear(out);
    char *o = dp_buf_reserve(out, s.len);
    if (!o) return;
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '\xE2' && i + 2 < s.len && s.ptr[i + 1] == '\x84' && s.ptr[i + 2] == '\xAA') {
            o[n++] = 'k';
            i += 2;
        } else o[n++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    out->len = n;
}

/* Is a word between white space longer than `max`? */
static bool too_long(struct dp_span s, int64_t max)
{
    int64_t len = 0;
    for (const char *p = s.ptr, *e = p + s.len; p < e;) {
        if (dp_uni(dp_utf8_next(&p)) & DP_UNI_SPACE) len = 0;
        else if (++len > max) return true;
    }
    return false;
}

/* re.sub(r"\[\d*]|\[edit]|\[citation needed]", ""); \d is a decimal digit of any script. */
static struct dp_span strip_citations(struct dp_span s, struct dp_buf *out)
{
    const char *p = s.ptr, *e = p + s.len, *from = p;
    if (!memchr(p, '[', s.len)) return s;
    dp_buf_clear(out);
    while ((p = memchr(p, '[', (size_t)(e - p))) != NULL) {
        const char *q = p + 1;
        for (const char *r = q; q < e && dp_uni_digit(dp_utf8_next(&r)); q = r) {}
        size_t left = (size_t)(e - p);
        if (q < e && *q == ']') q++;
        else if (left >= 6 && memcmp(p, "[edit]", 6) == 0) q = p + 6;
        else if (left >= 17 && memcmp(p, "[citation needed]", 17) == 0) q = p + 17;
        else {
            p++;
            continue;
        }
        dp_buf_add(out, from, (size_t)(p - from));
        from = p = q;
    }
    dp_buf_add(out, from, (size_t)(e - from));
    return dp_buf_span(out);
}

static bool sentence_end(struct dp_span s)
{
    char c = s.len ? s.ptr[s.len - 1] : 'a';
    if (c != '.' && c != '?' && c != '!' && c != '"' && c != '\'') return false;
    return !(s.len >= 3 && memcmp(s.ptr + s.len - 3, "...", 3) == 0);
}

static bool policy_line(struct dp_span s)
{
    static const char *const phrases[] = {"terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"};
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (has(s, phrases[i])) return true;
    return false;
}

/* What a line's phrases say: keep it, skip it, or drop the document. */
enum verdict { KEEP, SKIP, LOREM, BRACE };
static enum verdict phrases(const struct ctx *c, struct worker *w, struct dp_span line)
{
    bool brace = c->curly_bracket && memchr(line.ptr, '{', line.len);
    if (!dp_c4_suspect(line.ptr, line.len)) return brace ? BRACE : KEEP;
    lower_ascii(line, &w->lower);
    struct dp_span low = dp_buf_span(&w->lower);
    if (c->lorem_ipsum && has(low, "lorem ipsum")) return LOREM;
    if (c->javascript && has(low, "javascript")) return SKIP;
    if (brace) return BRACE;
    return c->policy && policy_line(low) ? SKIP : KEEP;
}

static int row(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    const struct ctx *c = ctx;
    struct worker *w = worker;
    const struct dp_words *words = dp_row_words(w->words, b, i);
    struct dp_span text = b->text[i], rest = text, line;
    size_t at = 0, sentences = 0;
    bool any = false;
    if (!words) DP_FAIL(e, NOMEM, "c4: words of a document of %zu bytes", text.len);
    dp_buf_shrink(&w->out, DP_SCRATCH_KEEP);
    while (dp_line_next(&rest, &line)) {
        line = dp_trim(line);
        size_t from = at, chunks = 0;
        for (size_t end = (size_t)(line.ptr - text.ptr) + line.len; at < words->count && words->word[at].at < end; at++)
            chunks += words->word[at].flags / DP_WORD_FIRST & 1;
        if (c->word_length_max && (int64_t)line.len > c->word_length_max && too_long(line, c->word_length_max)) continue;
        struct dp_span whole = line;
        if (c->citations) line = strip_citations(line, &w->line);
        if (c->end_punctuation && !sentence_end(line)) continue;
        if ((int64_t)chunks < c->words_min) continue;
        enum verdict v = phrases(c, w, line);
        if (v == LOREM) return dp_batch_drop(b, i, DP_DROP_C4_LOREM, 1, 0), DP_OK;
        if (v == BRACE) return dp_batch_drop(b, i, DP_DROP_C4_BRACE, 1, 0), DP_OK;
        if (v == SKIP) continue;
        if (line.len == whole.len) sentences += dp_words_sentences(words, from, at);
        else if (c->sentences_min) {
            w->cut.count = 0;
            if (dp_words_split(&w->cut, line) < 0) DP_FAIL(e, NOMEM, "c4: words of a line of %zu bytes", line.len);
            sentences += dp_words_sentences(&w->cut, 0, w->cut.count);
        }
        if (any) dp_buf_add_char(&w->out, '\n');
        any = true;
        dp_buf_add_span(&w->out, line);
    }
    DP_TRY(dp_buf_check(&w->line, "c4: a line", e));
    DP_TRY(dp_buf_check(&w->lower, "c4: a line", e));
    DP_TRY(dp_buf_check(&w->out, "c4: a document", e));
    if ((int64_t)sentences < c->sentences_min) {
        dp_batch_drop(b, i, DP_DROP_C4_SENTENCES, (double)sentences, (double)c->sentences_min);
        return DP_OK;
    }
    struct dp_span out = dp_trim(dp_buf_span(&w->out));
    b->text[i] = dp_arena_dup(&b->mem, out);
    if (!b->text[i].ptr) DP_FAIL(e, NOMEM, "c4: %zu bytes of text in the batch's arena", out.len);
    return DP_OK;
}

static int worker_open(const void *ctx, void *worker, struct dp_err *e)
{
    struct worker *w = worker;
    (void)ctx, (void)e;
    dp_buf_init(&w->line, DP_DOC_BYTES_MAX + 1);
    dp_buf_init(&w->lower, DP_DOC_BYTES_MAX + 1);
    dp_buf_init(&w->out, DP_DOC_BYTES_MAX + 1);
    return DP_OK;
}

static void worker_close(const void *ctx, void *worker)
{
    struct worker *w = worker;
    (void)ctx;
    dp_words_release(&w->cut);
    dp_buf_release(&w->line);
    dp_buf_release(&w->lower);
    dp_buf_release(&w->out);
}

const struct dp_stage_type dp_stage_c4 = {
    .name = "c4",
    .summary = "C4's rules: keeps lines that are sentences",
    .version = 3,
    .needs = DP_COL_TEXT,
    .fills = DP_COL_TEXT,
    .opts = opts,
    .ctx_size = sizeof(struct ctx),
    .worker_size = sizeof(struct worker),
    .shared = &dp_row_words_shared,
    .shared_at = offsetof(struct worker, words),
    .row_bytes_max = DP_DOC_BYTES_MAX,
    .worker_open = worker_open,
    .row = row,
    .worker_close = worker_close,
};

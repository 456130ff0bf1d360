/* tokenizer/splitter.c - steps that cut, one after the other.
 *
 * Pull: the last step is asked for a piece; a step that has cut its own piece up asks the one before for the next. Each holds a few hundred
 * ends, so memory doesn't depend on the text, and known splits run as they do alone.
 *
 * A regular expression is searched from the end of its last match on, as Hugging Face does with Oniguruma (rust-onig's find_iter): an
 * empty match where the last one ended doesn't count, and the search goes on one character later. A search looks at a few hundred places
 * only and is then repeated from there, so that a pattern that takes long at each of them can be stopped between. */
#include "tokenizer/splitter.h"

#include "base/re.h"
#include "base/utf8.h"
#include "tokenizer/split_int.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    ENDS = 256,
    STEPS_LEAST = 1000000, /* of PCRE2, at one place */
    PLACES_LEAST = 64,
};
#define STACK_BYTES_MAX ((size_t)64 << 20)
#define PLACES_WORK ((size_t)1 << 24) /* places a search looks at, times the text they may look through */
#define LOOK_EVERY ((size_t)1 << 22)  /* such work between two looks at the clock */
#define MATCH_WORK ((size_t)1 << 12)  /* what a search that finds something counts for */

struct dp_splitter {
    _Atomic unsigned owners;
    size_t count;
    struct dp_split_step step[DP_SPLIT_STEPS_MAX];
    struct dp_re *re[DP_SPLIT_STEPS_MAX];
    struct dp_re *newer[DP_SPLIT_STEPS_MAX]; /* for texts with characters that PCRE2 may not know; NULL: the same */
    struct dp_buf text;
    size_t text_from[DP_SPLIT_STEPS_MAX + 1]; /* where the line of a step begins in text */
};

/* ---- making ---- */

void dp_splitter_close(struct dp_splitter *s)
{
    if (!s || atomic_fetch_sub(&s->owners, 1) > 1) return;
    for (size_t i = 0; i < s->count; i++) {
        dp_re_close(s->re[i]);
        dp_re_close(s->newer[i]);
        free((void *)(uintptr_t)s->step[i].text.ptr);
    }
    dp_buf_release(&s->text);
    free(s);
}

struct dp_splitter *dp_splitter_ref(struct dp_splitter *s)
{
    if (s) atomic_fetch_add(&s->owners, 1);
    return s;
}

/* Every special character of a literal escaped. */
static void escape_literal(struct dp_buf *out, struct dp_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool plain = c >= 0x80 || c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        if (plain) dp_buf_add_char(out, (char)c);
        else dp_buf_printf(out, "\\x{%x}", c);
    }
}

static int compile(struct dp_re **re, const struct dp_split_step *step, bool newer, struct dp_err *e)
{
    struct dp_buf b;
    size_t at = 0;
    struct dp_err why = {0};
    dp_buf_init(&b, (size_t)64 * DP_SPLIT_PATTERN_BYTES_MAX);
    int rc = DP_OK;
    if (step->kind == DP_CUT_REGEX) rc = dp_split_regex_translate(step->text, step->portable, newer, &b, e);
    else escape_literal(&b, step->text);
    if (rc >= 0) rc = dp_buf_check(&b, "a split pattern", e);
    if (rc >= 0 && dp_re_open_cut(re, dp_buf_span(&b), &at, &why) < 0) {
        bool same = dp_span_eq(dp_buf_span(&b), step->text);
        rc = dp_err_set(e, why.code, 0, __FILE__, __LINE__, "the split pattern: %s, at byte %zu of %s%.160s", why.msg, at,
                        same ? "" : "what it is to PCRE2: ", dp_buf_span(&b).ptr);
    }
    dp_buf_release(&b);
    return rc;
}

static const char *const kinds[] = {"split ", "regex ", "literal ", "digits ", "scripts"};
static const char *const joins[] = {"", "joined to what is before, ", "joined to what is behind, ", "joined, "};

/* A pattern in a line: an LF is written as one writes it in a regular expression. A literal's backslash is two. */
static void add_line(struct dp_buf *out, const struct dp_split_step *s)
{
    for (size_t i = 0; i < s->text.len; i++) {
        char c = s->text.ptr[i];
        if (c == '\n' || c == '\r') dp_buf_add_str(out, c == '\n' ? "\\n" : "\\r");
        else dp_buf_add_char(out, c);
        if (c == '\\' && s->kind == DP_CUT_LITERAL) dp_buf_add_char(out, c);
    }
}

/* What a step is, in a line: digests depend on it. */
static void describe(struct dp_buf *out, const struct dp_split_step *s)
{
    dp_buf_add_str(out, joins[s->join]);
    dp_buf_add_str(out, kinds[s->kind]);
    if (s->kind == DP_CUT_KNOWN) dp_buf_add_str(out, dp_split_name(s->split));
    else if (s->kind == DP_CUT_DIGITS) dp_buf_printf(out, "%d", s->digits);
    else if (s->kind != DP_CUT_SCRIPTS) add_line(out, s);
}

/* The cl100k pattern of MiniCPM5, whose numbers were cut before: then it is cl100k's. */
static const char numbers_cut[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* Steps [i, n) that begin with regular expressions which together are a known split become that step. Returns how many they are. */
static size_t recognise_several(const struct dp_split_step *steps, size_t i, size_t n, struct dp_split_step *out)
{
    enum { PATTERNS = 3 };
    struct dp_span text[PATTERNS];
    size_t k = 0;
    *out = steps[i];
    for (; k < PATTERNS && i + k < n && steps[i + k].kind == DP_CUT_REGEX && !steps[i + k].join; k++) text[k] = steps[i + k].text;
    if (k == PATTERNS && dp_split_by_patterns(text, k, &out->split)) {
        out->kind = DP_CUT_KNOWN;
        return k;
    }
    return 1;
}

/* Regular expressions that are another kind of step, so that what is written to tokenizer.json comes back as it was. */
static int recognise(struct dp_split_step *s, const struct dp_split_step *before, struct dp_err *e)
{
    static const char *const digits[] = {"\\p{N}+", "\\p{N}", "\\p{N}{1,2}", "\\p{N}{1,3}"};
    struct dp_buf scripts;
    if (s->kind != DP_CUT_REGEX || s->join) return DP_OK;
    if (before && before->kind == DP_CUT_DIGITS && before->digits && dp_span_is(s->text, numbers_cut)) s->kind = DP_CUT_KNOWN, s->split = DP_SPLIT_CL100K;
    if (dp_split_by_pattern(s->text, &s->split)) s->kind = DP_CUT_KNOWN;
    for (int i = 0; i < 4; i++)
        if (dp_span_is(s->text, digits[i])) s->kind = DP_CUT_DIGITS, s->digits = i;
    dp_buf_init(&scripts, DP_SPLIT_PATTERN_BYTES_MAX);
    dp_split_scripts_regex(&scripts);
    int rc = dp_buf_check(&scripts, "a split pattern", e);
    if (dp_span_eq(s->text, dp_buf_span(&scripts))) s->kind = DP_CUT_SCRIPTS;
    dp_buf_release(&scripts);
    return rc;
}

int dp_splitter_open(struct dp_splitter **out, const struct dp_split_step *steps, size_t n, struct dp_err *e)
{
    int rc = DP_OK;
    *out = NULL;
    if (n > DP_SPLIT_STEPS_MAX) DP_FAIL(e, CONFIG, "a pre-tokenizer of %zu steps; at most %d", n, DP_SPLIT_STEPS_MAX);
    struct dp_splitter *s = calloc(1, sizeof *s);
    if (!s) DP_FAIL(e, NOMEM, "a splitter");
    atomic_init(&s->owners, 1);
    dp_buf_init(&s->text, (size_t)DP_SPLIT_STEPS_MAX * (2 * DP_SPLIT_PATTERN_BYTES_MAX + 64));
    for (size_t at = 0; at < n;) {
        struct dp_split_step step;
        size_t i = s->count;
        at += recognise_several(steps, at, n, &step);
        DP_TRY_OUT(recognise(&step, i ? &s->step[i - 1] : NULL, e));
        bool regex = step.kind == DP_CUT_REGEX || step.kind == DP_CUT_LITERAL;
        s->step[i] = step;
        s->step[i].text = (struct dp_span){NULL, 0};
        s->count++;
        if (step.kind == DP_CUT_DIGITS && (step.digits < 0 || step.digits > DP_SPLIT_DIGITS_MAX))
            DP_GOTO(e, CONFIG, "digits can be cut into groups of 1 to %d", DP_SPLIT_DIGITS_MAX);
        if (regex) {
            if (!step.text.len) DP_GOTO(e, CONFIG, "the split pattern is empty");
            char *copy = malloc(step.text.len);
            if (!copy) DP_GOTO(e, NOMEM, "a split pattern");
            memcpy(copy, step.text.ptr, step.text.len);
            s->step[i].text = dp_span(copy, step.text.len);
            DP_TRY_OUT(compile(&s->re[i], &s->step[i], false, e));
            if (step.kind == DP_CUT_REGEX && dp_re_unicode() < 16) DP_TRY_OUT(compile(&s->newer[i], &s->step[i], true, e));
        }
        if (i) dp_buf_add_char(&s->text, '\n');
        s->text_from[i] = s->text.len;
        describe(&s->text, &s->step[i]);
        s->text_from[i + 1] = s->text.len + 1;
    }
    DP_TRY_OUT(dp_buf_check(&s->text, "a pre-tokenizer", e));
    *out = s;
    return DP_OK;
out:
    dp_splitter_close(s);
    return rc;
}

int dp_splitter_choose(struct dp_splitter **out, enum dp_split *split, const char *pattern, int digits, bool scripts, struct dp_err *e)
{
    struct dp_split_step step[3];
    size_t n = 0;
    *out = NULL;
    if (pattern && *pattern && dp_split_by_users_pattern(dp_span_str(pattern), split)) pattern = NULL; /* one that has a scanner */
    bool regex = pattern && *pattern;
    if (!regex && !digits && !scripts) return DP_OK;
    if (digits) step[n++] = (struct dp_split_step){.kind = DP_CUT_DIGITS, .digits = digits};
    step[n++] = (struct dp_split_step){
        .kind = regex ? DP_CUT_REGEX : DP_CUT_KNOWN, .split = *split, .text = dp_span_str(pattern), .portable = true};
    if (scripts) step[n++] = (struct dp_split_step){.kind = DP_CUT_SCRIPTS};
    return dp_splitter_open(out, step, n, e);
}

int dp_splitter_parse(struct dp_splitter **out, enum dp_split *split, struct dp_span text, struct dp_err *e)
{
    static const char prefix[] = "regex:";
    size_t n = sizeof prefix - 1;
    *out = NULL;
    if (text.len < n || memcmp(text.ptr, prefix, n) != 0) return dp_split_parse(text, split, e);
    struct dp_split_step step = {.kind = DP_CUT_REGEX, .text = dp_span(text.ptr + n, text.len - n), .portable = true};
    if (dp_split_by_users_pattern(step.text, split)) return DP_OK;
    *split = DP_SPLIT_CUSTOM;
    return dp_splitter_open(out, &step, 1, e);
}

bool dp_splitter_simplify(struct dp_splitter **s, enum dp_split *split)
{
    if (!*s || (*s)->count != 1 || (*s)->step[0].kind != DP_CUT_KNOWN) return false;
    *split = (*s)->step[0].split;
    dp_splitter_close(*s);
    *s = NULL;
    return true;
}

const struct dp_split_step *dp_splitter_steps(const struct dp_splitter *s, size_t *n)
{
    *n = s->count;
    return s->step;
}

struct dp_span dp_splitter_text(const struct dp_splitter *s, enum dp_split split)
{
    return s ? dp_buf_span(&s->text) : dp_span_str(dp_split_name(split));
}

struct dp_span dp_splitter_step_text(const struct dp_splitter *s, size_t i)
{
    DP_ASSERT(i < s->count);
    return dp_span(s->text.ptr + s->text_from[i], s->text_from[i + 1] - 1 - s->text_from[i]);
}

/* ---- scripts ---- */

unsigned dp_split_script(int32_t cp)
{
    size_t lo = 0, hi = dp_split_script_ranges_count;
    if (cp < 0) return 0;
    while (hi - lo > 1) {
        size_t m = lo + (hi - lo) / 2;
        if (dp_split_script_ranges[m] >> 8 <= (uint32_t)cp) lo = m;
        else hi = m;
    }
    return dp_split_script_ranges[lo] & 255;
}

bool dp_split_has_newer(struct dp_span text)
{
    const uint8_t *p = (const uint8_t *)text.ptr, *end = p + text.len;
    while (p < end) {
        int32_t cp;
        if (*p < 0x80) {
            p += dp_utf8_ascii_len_scalar((const char *)p, (size_t)(end - p));
            continue;
        }
        p += dp_split_decode(p, end, &cp);
        if (cp < (int32_t)dp_split_added[0].first) continue;
        size_t lo = 0, hi = dp_split_added_count;
        while (hi - lo > 1) {
            size_t m = lo + (hi - lo) / 2;
            if (dp_split_added[m].first <= (uint32_t)cp) lo = m;
            else hi = m;
        }
        if ((uint32_t)cp <= dp_split_added[lo].last) return true;
    }
    return false;
}

void dp_split_scripts_regex(struct dp_buf *out)
{
    static const char none[] = "\\P{L}\\p{Common}\\p{Inherited}";
    dp_buf_printf(out, "[%s]*+(?:", none);
    for (size_t i = 1; i < dp_split_script_count; i++)
        dp_buf_printf(out, "%s\\p{%s}[%s\\p{%s}]*+", i > 1 ? "|" : "", dp_split_script_names[i], none, dp_split_script_names[i]);
    dp_buf_printf(out, ")|[%s]+", none);
}

/* ---- cutting ---- */

/* Where a step is in the piece it cuts, [from, to) of the text; the other places count from `from`. */
struct level {
    size_t from, to, pos;
    size_t ends[ENDS];
    size_t n, next; /* ends found, and given on */
    /* Of a regular expression: the well-formed stretch it is in, and from `stretch` on where to search and where the last match ended. */
    size_t stretch, stretch_end, at, last;
    const struct dp_re *re; /* what the stretch is searched with */
    bool held; /* the end of the last match, at pos, isn't given yet: what follows says whether it is one */
};

struct dp_cutter {
    struct dp_splitter *s;
    struct dp_re_scratch *scratch;
    struct level level[DP_SPLIT_STEPS_MAX];
    const char *text; /* being cut */
    size_t work;
    double begin; /* CPU time of the thread when the clock was first looked at; < 0: not yet */
};

int dp_cutter_open(struct dp_cutter **out, struct dp_splitter *s, struct dp_err *e)
{
    struct dp_cutter *c = calloc(1, sizeof *c);
    int rc = DP_OK;
    *out = NULL;
    if (!c) DP_FAIL(e, NOMEM, "a splitter's memory");
    c->s = dp_splitter_ref(s);
    for (size_t i = 0; rc >= 0 && i < s->count; i++)
        if (s->re[i] && !c->scratch) rc = dp_re_scratch_open_deep(&c->scratch, STACK_BYTES_MAX, e);
    if (rc < 0) dp_cutter_close(c);
    else *out = c;
    return rc;
}

void dp_cutter_close(struct dp_cutter *c)
{
    if (!c) return;
    dp_re_scratch_close(c->scratch);
    dp_splitter_close(c->s);
    free(c);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* `place` is a byte of the text. */
static int too_long(const struct dp_cutter *c, size_t step, size_t place, const char *what, struct dp_err *e)
{
    struct dp_span p = c->s->step[step].text;
    DP_FAIL(e, LIMIT, "the split pattern takes too %s at byte %zu of the text; give one that doesn't try so many ways (possessive ++ and (?>...) help): %.*s",
            what, place, (int)(p.len < 80 ? p.len : 80), p.ptr);
}

static int look_at_clock(struct dp_cutter *c, size_t step, size_t place, struct dp_err *e)
{
    double now = cpu_seconds();
    if (c->begin < 0) c->begin = now;
    c->work = 0;
    if (now - c->begin > 0.5 + 1e-6 * (double)place) return too_long(c, step, place, "long", e);
    return DP_OK;
}

static size_t character(const uint8_t *p, const uint8_t *end)
{
    int32_t cp;
    return (size_t)dp_split_decode(p, end, &cp);
}

/* The next match at or behind l->at in the stretch: DP_OK with *b and *e, DP_EOF when there is none. */
static int search(struct dp_cutter *c, size_t i, struct dp_span stretch, size_t *begin, size_t *end, struct dp_err *e)
{
    struct level *l = &c->level[i];
    size_t steps = 4 * stretch.len > STEPS_LEAST ? 4 * stretch.len : STEPS_LEAST;
    if (steps > INT32_MAX) steps = INT32_MAX;
    for (;;) {
        size_t left = stretch.len - l->at, places = PLACES_WORK / (left + 1);
        if (places < PLACES_LEAST) places = PLACES_LEAST;
        size_t last = left < places ? stretch.len : l->at + places;
        while (last < stretch.len && ((uint8_t)stretch.ptr[last] & 0xC0) == 0x80) last++;
        enum dp_re_result r = dp_re_search_cut(l->re, c->scratch, stretch, l->at, last, (uint32_t)steps, begin, end);
        size_t place = l->from + l->stretch + l->at;
        if (r == DP_RE_GAVE_UP) return too_long(c, i, place, "many steps or too much memory", e);
        c->work += r == DP_RE_YES ? MATCH_WORK : (last - l->at + 1) * (left + 1);
        if (c->work >= LOOK_EVERY) DP_TRY(look_at_clock(c, i, place, e));
        if (r == DP_RE_YES) return DP_OK;
        if (last >= stretch.len) return DP_EOF;
        l->at = last;
        l->at += character((const uint8_t *)stretch.ptr + last, (const uint8_t *)stretch.ptr + stretch.len);
    }
}

/* The match [b, to) and what is between l->pos and it (which nothing matches), or with no match what is up to the stretch's end at b = to. */
static void take_match(struct level *l, size_t b, size_t to, bool match, enum dp_split_join join)
{
    bool gap = b > l->pos;
    if (l->held && gap == (join == DP_JOIN_EACH_OTHER)) l->ends[l->n++] = l->pos;
    l->held = false;
    if (gap && !(match && join == DP_JOIN_BEFORE && to > b)) l->ends[l->n++] = b;
    if (to > b && (join == DP_JOIN_BEHIND || join == DP_JOIN_EACH_OTHER)) l->held = true;
    else if (to > b) l->ends[l->n++] = to;
    l->pos = to;
}

static int cut_regex(struct dp_cutter *c, size_t i, struct dp_span piece, struct dp_err *e)
{
    struct level *l = &c->level[i];
    const enum dp_split_join join = c->s->step[i].join;
    const uint8_t *p = (const uint8_t *)piece.ptr, *end = p + piece.len;
    while (l->pos < piece.len && l->n + 4 <= ENDS) {
        size_t b = 0, to = 0;
        if (l->pos == l->stretch_end) {
            size_t well = dp_utf8_valid_len(piece.ptr + l->pos, piece.len - l->pos);
            if (!well) { /* bytes that are none: a piece of their own */
                int32_t cp;
                while (l->pos < piece.len && p[l->pos] >= 0x80 && (dp_split_decode(p + l->pos, end, &cp), cp < 0)) l->pos++;
                l->ends[l->n++] = l->stretch_end = l->pos;
                continue;
            }
            l->stretch = l->pos;
            l->stretch_end = l->pos + well;
            bool newer = c->s->newer[i] && dp_split_has_newer(dp_span(piece.ptr + l->pos, well));
            l->re = newer ? c->s->newer[i] : c->s->re[i];
            l->at = 0;
            l->last = SIZE_MAX;
        }
        struct dp_span stretch = dp_span(piece.ptr + l->stretch, l->stretch_end - l->stretch);
        int rc = search(c, i, stretch, &b, &to, e);
        DP_TRY(rc);
        if (rc == DP_OK && b == to && b == l->last && b < stretch.len) {
            l->at = b + character((const uint8_t *)stretch.ptr + b, end);
            continue;
        }
        bool match = rc != DP_EOF && !(b == to && b == l->last);
        if (!match) b = to = stretch.len;
        l->at = l->last = to;
        take_match(l, l->stretch + b, l->stretch + to, match, join);
        if (l->held && l->pos == l->stretch_end) { /* nothing follows */
            l->ends[l->n++] = l->pos;
            l->held = false;
        }
    }
    return DP_OK;
}

/* Runs of numbers, `most` together (0: all), and what is between them. */
static void cut_digits(struct level *l, struct dp_span piece, int most)
{
    const uint8_t *base = (const uint8_t *)piece.ptr, *p = base + l->pos, *end = base + piece.len;
    int len;
    while (p < end && l->n < ENDS) {
        bool number = dp_split_class_at(p, end, &len) & C_NUMBER;
        p += len;
        for (int k = 1; p < end && (number ? !most || k < most : true); k++) {
            if (((dp_split_class_at(p, end, &len) & C_NUMBER) != 0) != number) break;
            p += len;
        }
        l->ends[l->n++] = (size_t)(p - base);
    }
    l->pos = (size_t)(p - base);
}

static void cut_scripts(struct level *l, struct dp_span piece)
{
    const unsigned latin = dp_split_script('a');
    const uint8_t *base = (const uint8_t *)piece.ptr, *p = base + l->pos, *end = base + piece.len;
    if (dp_utf8_ascii_len_scalar(piece.ptr, piece.len) == piece.len) p = end, l->ends[l->n++] = piece.len;
    while (p < end && l->n < ENDS) {
        unsigned script = 0;
        for (int32_t cp; p < end; p += character(p, end)) {
            unsigned s = dp_split_ascii[*p] & C_LETTER ? latin : 0;
            if (*p >= 0x80) {
                dp_split_decode(p, end, &cp);
                s = dp_split_script(cp);
            }
            if (!s) continue;
            if (script && s != script) break;
            script = s;
        }
        l->ends[l->n++] = (size_t)(p - base);
    }
    l->pos = (size_t)(p - base);
}

/* More ends of the piece that level i is at. */
static int cut(struct dp_cutter *c, size_t i, struct dp_err *e)
{
    struct level *l = &c->level[i];
    const struct dp_split_step *step = &c->s->step[i];
    struct dp_span piece = dp_span(c->text + l->from, l->to - l->from);
    l->n = l->next = 0;
    switch (step->kind) {
    case DP_CUT_KNOWN: l->n = dp_split_run(step->split, piece, &l->pos, l->ends, ENDS); return DP_OK;
    case DP_CUT_DIGITS: cut_digits(l, piece, step->digits); return DP_OK;
    case DP_CUT_SCRIPTS: cut_scripts(l, piece); return DP_OK;
    default: return cut_regex(c, i, piece, e);
    }
}

static void begin_piece(struct level *l, size_t from, size_t to)
{
    l->from = from;
    l->to = to;
    l->pos = l->n = l->next = l->stretch = l->stretch_end = l->at = 0;
    l->last = SIZE_MAX;
    l->held = false;
}

int dp_cutter_run(struct dp_cutter *c, struct dp_span text, size_t *pos, size_t *ends, size_t max, struct dp_err *e)
{
    size_t steps = c->s->count, got = 0;
    struct level *deepest = &c->level[steps ? steps - 1 : 0];
    if (*pos == 0) {
        for (size_t i = 0; i < steps; i++) begin_piece(&c->level[i], 0, 0);
        begin_piece(&c->level[0], 0, text.len);
        c->begin = -1;
        c->work = 0;
    }
    c->text = text.ptr;
    while (got < max && *pos < text.len) {
        size_t i = steps;
        if (!steps) ends[got++] = *pos = text.len;
        else if (deepest->next < deepest->n) ends[got++] = *pos = deepest->from + deepest->ends[deepest->next++];
        else {
            do { /* the deepest level that has something left, and a piece of it for the one below */
                struct level *l = &c->level[--i];
                if (l->next == l->n && l->pos < l->to - l->from) DP_TRY(cut(c, i, e));
                if (l->next < l->n) break;
            } while (i);
            for (; i + 1 < steps; i++) {
                struct level *l = &c->level[i];
                begin_piece(&c->level[i + 1], *pos, l->from + l->ends[l->next++]);
                DP_TRY(cut(c, i + 1, e));
            }
        }
    }
    return (int)got;
}

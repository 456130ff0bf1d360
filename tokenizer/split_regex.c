/* tokenizer/split_regex.c - Oniguruma's regular expressions in PCRE2's words.
 *
 * tokenizer.json has patterns that Hugging Face's tokenizers run with Oniguruma. Most of the two languages is the same; what isn't is
 * rewritten here, or refused, never run with another meaning:
 *   \s \S \w \W \b \B [:alpha:] ...  by Unicode property: PCRE2 10.42 counts U+180E as space, and no marks to \w
 *   \p{Han}                         characters of the script; in PCRE2 also what it shares with others (script extensions)
 *   \h \H \v \uHHHH \O               a hexadecimal digit, U+000B, a code point, any character
 *   [a[bc]] [a&&[^b]]                sets in sets and intersections, which PCRE2 has not: alternatives and look-ahead of one character
 *   X{n,m}+ X{,n}                    repeated (in PCRE2: possessive), at most n
 *   (?m)                             . matches newlines ((?s) in PCRE2); ^ and $ are at lines in both (PCRE2_MULTILINE)
 * A user's own pattern is refused where it has one of the last three or \h \v (what he meant can't be known) and where Oniguruma would not
 * read it (\Q, \pL). Refused from both: recursion, conditions, \G \K \X, backtracking verbs, callouts, (?i) not at the beginning of a group. */
#include "tokenizer/splitter.h"

#include "tokenizer/split_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 32, GROUPS_MAX = 250 };
#define SPACE "\\p{White_Space}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD_ALONE WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}" /* Oniguruma's \w outside of a set has these more */
#define W "[" WORD_ALONE "]"
#define HEX "0-9A-Fa-f"

struct translator {
    struct dp_span in;
    size_t at, begin; /* begin: where the group's first thing would stand */
    bool portable;
    struct dp_buf *out;
    struct dp_err *e;
};

__attribute__((format(printf, 3, 4))) static int refuse(const struct translator *t, size_t from, const char *format, ...)
{
    char why[160];
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    DP_FAIL(t->e, CONFIG, "the split pattern, at byte %zu (%.*s): %s", from, (int)(t->in.len - from < 24 ? t->in.len - from : 24),
            t->in.ptr + from, why);
}

static int peek(const struct translator *t, size_t ahead)
{
    return ahead < t->in.len - t->at ? (unsigned char)t->in.ptr[t->at + ahead] : -1;
}

static bool is_here(const struct translator *t, const char *s)
{
    size_t n = strlen(s);
    return n <= t->in.len - t->at && memcmp(t->in.ptr + t->at, s, n) == 0;
}

static void copy(struct translator *t, struct dp_buf *to, size_t n)
{
    dp_buf_add(to, t->in.ptr + t->at, n);
    t->at += n;
}

static bool is_hex(int c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
}

static bool is_alnum(int c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z' && c < 128);
}

/* Whether a property's name (of PCRE2: in any case, with or without _ and blanks) is that of a script, long or of four letters. */
static bool is_script(struct dp_span name)
{
    char plain[32];
    size_t n = 0;
    for (size_t i = 0; i < name.len && n < sizeof plain - 1; i++)
        if (is_alnum((unsigned char)name.ptr[i])) plain[n++] = (char)(name.ptr[i] | 32);
    plain[n] = 0;
    static const char *const more[] = {"common", "inherited", "unknown"}, *const no_script[] = {"dash", "math"};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(plain, more[i]) == 0) return true;
    for (size_t i = 0; i < 2; i++)
        if (strcmp(plain, no_script[i]) == 0) return false;
    for (size_t i = 1; i < dp_split_script_count; i++) {
        const char *s = dp_split_script_names[i];
        size_t k = 0;
        for (; *s && k < n; s++)
            if (*s != '_' && plain[k++] != (*s | 32)) break;
        if (!*s && k == n) return true;
    }
    return n == 4;
}

/* A property whose name is a script's is of all characters that the script uses to PCRE2, of the script's own to Oniguruma. */
static void property(struct translator *t, struct dp_buf *to, const char *end)
{
    struct dp_span name = dp_span(t->in.ptr + t->at + 3, (size_t)(end - (t->in.ptr + t->at + 3)));
    bool not = name.len && *name.ptr == '^';
    if (not) name = dp_span(name.ptr + 1, name.len - 1);
    dp_buf_add(to, t->in.ptr + t->at, 3);
    if (not) dp_buf_add_char(to, '^');
    if (is_script(name)) dp_buf_add_str(to, "sc:");
    dp_buf_add_span(to, name);
    dp_buf_add_char(to, '}');
    t->at = (size_t)(end + 1 - t->in.ptr);
}

/* \p{...} \P{...}; \x{...} \xHH \uHHHH. */
static int braces(struct translator *t, struct dp_buf *to, int c)
{
    size_t from = t->at;
    if (peek(t, 2) == '{') {
        const char *end = memchr(t->in.ptr + t->at, '}', t->in.len - t->at);
        if (!end || c == 'u') return refuse(t, from, end ? "\\u has four digits" : "no } follows");
        if (c == 'x') copy(t, to, (size_t)(end + 1 - (t->in.ptr + t->at)));
        else property(t, to, end);
        return DP_OK;
    }
    if (c == 'p' || c == 'P') return refuse(t, from, "Oniguruma wants a property in braces: \\%c{L}", c);
    size_t n = c == 'u' ? 4 : 2;
    for (size_t i = 0; i < n; i++)
        if (!is_hex(peek(t, 2 + i))) return refuse(t, from, "%zu hexadecimal digits must follow", n);
    if (c == 'x' && peek(t, 2) >= '8') return refuse(t, from, "a byte is no character to Oniguruma: write \\x{%c%c}", peek(t, 2), peek(t, 3));
    dp_buf_add_str(to, "\\x{");
    t->at += 2;
    copy(t, to, n);
    dp_buf_add_char(to, '}');
    return DP_OK;
}

/* What an escape is as an item of a set, NULL: itself. *negated: the complement of that. */
static const char *set_of(int c, bool *negated)
{
    *negated = c == 'S' || c == 'W' || c == 'H' || c == 'D';
    switch (c) {
    case 's':
    case 'S': return SPACE;
    case 'w':
    case 'W': return WORD;
    case 'd':
    case 'D': return "\\p{Nd}";
    case 'h':
    case 'H': return HEX;
    default: return NULL;
    }
}

/* An escape outside of sets. */
static int escape(struct translator *t)
{
    size_t from = t->at;
    int c = peek(t, 1);
    bool negated;
    const char *set = set_of(c, &negated);
    if (c < 0) return refuse(t, from, "a backslash at the end");
    if (t->portable && (c == 'h' || c == 'H' || c == 'v'))
        return refuse(t, from, "\\%c means other things to Oniguruma and PCRE2; write a set or \\x{...}", c);
    if (set) {
        dp_buf_printf(t->out, "[%s%s]", negated ? "^" : "", (c | 32) == 'w' ? WORD_ALONE : set);
        t->at += 2;
        return DP_OK;
    }
    switch (c) {
    case 'p':
    case 'P':
    case 'x':
    case 'u': return braces(t, t->out, c);
    case 'v': dp_buf_add_str(t->out, "\\x0B"); break;
    case 'O': dp_buf_add_str(t->out, "(?s:.)"); break;
    case 'b': dp_buf_add_str(t->out, "(?:(?<=" W ")(?!" W ")|(?<!" W ")(?=" W "))"); break;
    case 'B': dp_buf_add_str(t->out, "(?:(?<=" W ")(?=" W ")|(?<!" W ")(?!" W "))"); break;
    case 'k':
        if (peek(t, 2) != '<') return refuse(t, from, "write \\k<name>");
        break;
    default:
        if (is_alnum(c) && !strchr("tnrfaeRNAzZ123456789", c)) return refuse(t, from, "\\%c isn't supported in a split pattern", c);
    }
    if (strchr("vObB", c)) t->at += 2;
    else copy(t, t->out, 2);
    return DP_OK;
}

/* ---- sets ---- */

struct set {
    struct dp_buf simple, nested; /* what stands in brackets; alternatives of one character each */
    struct dp_buf all;            /* (?=operand) for each && */
};

static void nest(struct set *s, struct dp_span one)
{
    if (s->nested.len) dp_buf_add_char(&s->nested, '|');
    dp_buf_add_span(&s->nested, one);
}

static int set_escape(struct translator *t, struct set *s)
{
    size_t from = t->at;
    int c = peek(t, 1);
    bool negated;
    const char *set = set_of(c, &negated);
    if (c < 0) return refuse(t, from, "a backslash at the end");
    if (t->portable && (c == 'h' || c == 'H' || c == 'v')) return refuse(t, from, "\\%c means other things to Oniguruma and PCRE2", c);
    if (set && negated) {
        char one[64];
        int n = snprintf(one, sizeof one, "[^%s]", set);
        nest(s, dp_span(one, (size_t)n));
    } else if (set) dp_buf_add_str(&s->simple, set);
    else if (c == 'v') dp_buf_add_str(&s->simple, "\\x0B");
    else if (c == 'p' || c == 'P' || c == 'x' || c == 'u') return braces(t, &s->simple, c);
    else if (is_alnum(c) && !strchr("tnrfaeb", c)) return refuse(t, from, "\\%c isn't supported in a set of a split pattern", c);
    else {
        copy(t, &s->simple, 2);
        return DP_OK;
    }
    t->at += 2;
    return DP_OK;
}

static int posix(struct translator *t, struct set *s)
{
    static const struct {
        const char *name, *set;
    } known[] = {{"[:alpha:]", "\\p{Alphabetic}"}, {"[:digit:]", "\\p{Nd}"},        {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"}, {"[:space:]", SPACE},
                 {"[:upper:]", "\\p{Uppercase}"},  {"[:lower:]", "\\p{Lowercase}"}, {"[:cntrl:]", "\\p{Cc}"},               {"[:word:]", WORD},
                 {"[:xdigit:]", HEX}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (is_here(t, known[i].name)) {
            dp_buf_add_str(&s->simple, known[i].set);
            t->at += strlen(known[i].name);
            return DP_OK;
        }
    return refuse(t, t->at, "this class isn't supported in a split pattern; write \\p{...}");
}

/* The union read so far as a regular expression of one character, to `to`. */
static void operand(struct set *s, struct dp_buf *to)
{
    dp_buf_add_str(to, s->simple.len || s->nested.len ? "(?:" : "(?:(?!)");
    if (s->simple.len) {
        dp_buf_add_char(to, '[');
        dp_buf_add_span(to, dp_buf_span(&s->simple));
        dp_buf_add_char(to, ']');
    }
    if (s->simple.len && s->nested.len) dp_buf_add_char(to, '|');
    dp_buf_add_span(to, dp_buf_span(&s->nested));
    dp_buf_add_char(to, ')');
}

static int read_set(struct translator *t, struct dp_buf *to, int depth);

static int set_items(struct translator *t, struct set *s, int depth)
{
    size_t from = t->at, first = t->at;
    for (;;) {
        int c = peek(t, 0);
        if (c < 0) return refuse(t, from, "the set has no end");
        if (c == ']' && t->at > first) break;
        if (c == '\\') DP_TRY(set_escape(t, s));
        else if (is_here(t, "[:")) DP_TRY(posix(t, s));
        else if (c == '[') {
            struct dp_buf one;
            if (t->portable) return refuse(t, t->at, "a [ in a set begins another one to Oniguruma: write \\[");
            dp_buf_init(&one, DP_SPLIT_PATTERN_BYTES_MAX * 8);
            t->at++;
            int rc = read_set(t, &one, depth + 1);
            if (rc >= 0) nest(s, dp_buf_span(&one));
            dp_buf_release(&one);
            DP_TRY(rc);
        } else if (is_here(t, "&&")) {
            if (t->portable) return refuse(t, t->at, "&& in a set is an intersection to Oniguruma, two & to PCRE2");
            dp_buf_add_str(&s->all, "(?=");
            operand(s, &s->all);
            dp_buf_add_char(&s->all, ')');
            dp_buf_clear(&s->simple);
            dp_buf_clear(&s->nested);
            t->at += 2;
        } else if (c == ']') { /* the first of a set: itself */
            dp_buf_add_str(&s->simple, "\\]");
            t->at++;
        } else copy(t, &s->simple, 1);
    }
    t->at++;
    return DP_OK;
}

/* A set whose [ was read. */
static int read_set(struct translator *t, struct dp_buf *to, int depth)
{
    struct set s = {0};
    if (depth > DEPTH_MAX) return refuse(t, t->at, "sets in sets, more than %d deep", DEPTH_MAX);
    dp_buf_init(&s.simple, DP_SPLIT_PATTERN_BYTES_MAX * 8);
    dp_buf_init(&s.nested, DP_SPLIT_PATTERN_BYTES_MAX * 8);
    dp_buf_init(&s.all, DP_SPLIT_PATTERN_BYTES_MAX * 8);
    bool negated = peek(t, 0) == '^';
    t->at += negated;
    int rc = set_items(t, &s, depth);
    if (rc >= 0 && !s.nested.len && !s.all.len && s.simple.len) {
        dp_buf_add_str(to, negated ? "[^" : "[");
        dp_buf_add_span(to, dp_buf_span(&s.simple));
        dp_buf_add_char(to, ']');
    } else if (rc >= 0) {
        dp_buf_add_str(to, negated ? "(?:(?!" : "(?:");
        dp_buf_add_span(to, dp_buf_span(&s.all));
        operand(&s, to);
        dp_buf_add_str(to, negated ? ")(?s:.))" : ")");
    }
    if (rc >= 0) rc = dp_buf_check(&s.simple, "a split pattern", t->e);
    if (rc >= 0) rc = dp_buf_check(&s.nested, "a split pattern", t->e);
    if (rc >= 0) rc = dp_buf_check(&s.all, "a split pattern", t->e);
    dp_buf_release(&s.simple);
    dp_buf_release(&s.nested);
    dp_buf_release(&s.all);
    return rc;
}

/* ---- groups and repeats ---- */

/* (?i) (?i-i:...) and so on; t->at is behind "(?". */
static int group_flags(struct translator *t, size_t from)
{
    bool begin = from == t->begin;
    dp_buf_add_str(t->out, "(?");
    for (;; t->at++) {
        int c = peek(t, 0);
        if (c == 'm' && !t->portable) dp_buf_add_char(t->out, 's');
        else if (c == 'i' || c == '-') dp_buf_add_char(t->out, (char)c);
        else if (c == ':' || (c == ')' && begin)) break;
        else if (c == ')') return refuse(t, from, "options inside a group mean other things to Oniguruma and PCRE2: write (?i:...)");
        else return refuse(t, from, "only the option i is supported in a split pattern");
    }
    copy(t, t->out, 1);
    t->begin = t->at;
    return DP_OK;
}

static int group(struct translator *t)
{
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"};
    size_t from = t->at;
    if (is_here(t, "(*")) return refuse(t, from, "verbs aren't supported in a split pattern");
    size_t n = is_here(t, "(?") ? 0 : 1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (is_here(t, known[i])) n = strlen(known[i]);
    if (n) {
        copy(t, t->out, n);
        t->begin = t->at;
        return DP_OK;
    }
    int c = peek(t, 2);
    if (c == '#') {
        const char *end = memchr(t->in.ptr + t->at, ')', t->in.len - t->at);
        if (!end) return refuse(t, from, "the comment has no end");
        t->at = (size_t)(end + 1 - t->in.ptr);
        return DP_OK;
    }
    if (c == '<' && (peek(t, 3) | 32) >= 'a' && (peek(t, 3) | 32) <= 'z') {
        copy(t, t->out, 3);
        return DP_OK;
    }
    t->at += 2;
    return group_flags(t, from);
}

/* {n} {n,} {n,m} {,n}; any other brace is itself. *again: X{n,m}+, which repeats what is written so far. */
static int repeat(struct translator *t, bool *again)
{
    size_t from = t->at, i = 1;
    bool low = false, high = false, comma = false;
    for (; peek(t, i) >= '0' && peek(t, i) <= '9'; i++) low = true;
    if (peek(t, i) == ',')
        for (comma = true, i++; peek(t, i) >= '0' && peek(t, i) <= '9'; i++) high = true;
    if (peek(t, i) != '}' || (!low && !high)) {
        dp_buf_add_str(t->out, "\\{");
        t->at++;
        return DP_OK;
    }
    if (!low && t->portable) return refuse(t, from, "write {0,n}");
    dp_buf_add_str(t->out, low ? "{" : "{0");
    t->at++;
    copy(t, t->out, i);
    *again = peek(t, 0) == '+';
    if (*again && t->portable) return refuse(t, from, "{n,m}+ is possessive to PCRE2 and repeats to Oniguruma: write (?>X{n,m})");
    if (!comma && peek(t, 0) == '?') return refuse(t, from, "{n}? means other things to Oniguruma and PCRE2");
    return DP_OK;
}

/* Put what was written from `at` on into a group. */
static void wrap(struct dp_buf *out, size_t at)
{
    static const char open[] = "(?:";
    size_t n = out->len - at;
    dp_buf_add(out, open, sizeof open); /* room */
    if (out->full) return;
    memmove(out->ptr + at + 3, out->ptr + at, n);
    memcpy(out->ptr + at, open, 3);
    out->ptr[at + 3 + n] = ')';
}

/* One character, group mark or repeat. `open` are where the groups that stand open begin in out, *atom where the latest atom does. */
static int step(struct translator *t, size_t *open, size_t *depth, size_t *atom)
{
    int c = peek(t, 0);
    size_t here = t->out->len, from = t->at;
    bool again = false;
    if (c == '*' || c == '+' || c == '?') copy(t, t->out, 1);
    else if (c == '{') {
        DP_TRY(repeat(t, &again));
        if (again) wrap(t->out, *atom);
    } else if (c == '(') {
        DP_TRY(group(t));
        if (t->in.ptr[t->at - 1] == ')') return DP_OK; /* (?i), a comment */
        if (*depth == GROUPS_MAX) return refuse(t, from, "groups more than %d deep", GROUPS_MAX);
        open[(*depth)++] = here;
    } else {
        *atom = here;
        if (c == '\\') return escape(t);
        if (c == ')') {
            if (!*depth) return refuse(t, from, "no group to close");
            *atom = open[--*depth];
        }
        if (c == '[') {
            t->at++;
            return read_set(t, t->out, 0);
        }
        size_t n = 1;
        while (c >= 0x80 && peek(t, n) >= 0 && (peek(t, n) & 0xC0) == 0x80) n++;
        copy(t, t->out, n);
    }
    return DP_OK;
}

int dp_split_regex_translate(struct dp_span pattern, bool portable, struct dp_buf *out, struct dp_err *e)
{
    struct translator t = {.in = pattern, .portable = portable, .out = out, .e = e};
    if (!pattern.len) DP_FAIL(e, CONFIG, "the split pattern is empty");
    if (pattern.len > DP_SPLIT_PATTERN_BYTES_MAX)
        DP_FAIL(e, CONFIG, "the split pattern has %zu bytes; at most %d", pattern.len, DP_SPLIT_PATTERN_BYTES_MAX);
    if (memchr(pattern.ptr, 0, pattern.len)) DP_FAIL(e, CONFIG, "the split pattern has a zero byte: write \\x{0}");
    size_t open[GROUPS_MAX], depth = 0, atom = out->len;
    while (t.at < pattern.len && !out->full) DP_TRY(step(&t, open, &depth, &atom));
    if (depth) return refuse(&t, pattern.len, "a group isn't closed");
    return dp_buf_check(out, "a split pattern", e);
}

/* tokenizer/split_regex.c - Oniguruma's regular expressions in PCRE2's words.
 *
 * tokenizer.json has patterns that Hugging Face's tokenizers run with Oniguruma. Most of the two languages is the same; what isn't is
 * rewritten here, or refused, never run with another meaning:
 *   \s \S \w \W \b \B [:word:] ...   by Unicode property: PCRE2 10.42 counts U+180E as space, and no marks to \w
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
#define HEX "0-9A-Fa-f"

struct translator {
    struct dp_span in;
    size_t at, begin; /* begin: where the group's first thing would stand */
    bool portable, newer, fold; /* fold: inside of (?i) */
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

/* Whether two names of properties are the same to PCRE2: in any case, with or without _ and blanks. */
static bool same_name(struct dp_span a, const char *b)
{
    size_t i = 0;
    for (;; i++, b++) {
        while (i < a.len && !is_alnum((unsigned char)a.ptr[i])) i++;
        while (*b && !is_alnum((unsigned char)*b)) b++;
        if (i == a.len || !*b) return i == a.len && !*b;
        if ((a.ptr[i] | 32) != (*b | 32)) return false;
    }
}

/* Whether it is a script's, long or of four letters. */
static bool is_script(struct dp_span name)
{
    if (same_name(name, "Common") || same_name(name, "Inherited") || same_name(name, "Unknown")) return true;
    for (size_t i = 1; i < dp_split_script_count; i++)
        if (same_name(name, dp_split_script_names[i])) return true;
    return name.len == 4 && !same_name(name, "Dash") && !same_name(name, "Math");
}

/* With t->newer, ranges that the property has in Unicode 16 and not in 14. `name` is a category, a script, or "w" for \\w. */
static bool add_newer(const struct translator *t, struct dp_buf *to, struct dp_span name)
{
    size_t before = to->len;
    for (size_t i = 0; t->newer && i < dp_split_added_count; i++) {
        const struct dp_split_added *a = &dp_split_added[i];
        bool word = *a->category == 'L' || *a->category == 'M' || strcmp(a->category, "Nd") == 0;
        bool has = dp_span_is(name, "w") ? word : name.len == 1 ? (*name.ptr & ~32) == *a->category : same_name(name, a->category) || same_name(name, a->script);
        if (!has) continue;
        dp_buf_printf(to, "\\x{%X}", a->first);
        if (a->last > a->first) dp_buf_printf(to, "-\\x{%X}", a->last);
    }
    return to->len > before;
}

/* \p{...} as items of a set; *negated: they are what it is not. Categories and scripts have what Unicode 16 has, and a script is the script alone, as to
 * Oniguruma; to PCRE2 it would be all characters that the script uses. */
static bool property(struct translator *t, struct dp_buf *items, const char *end, bool *negated)
{
    struct dp_span name = dp_span(t->in.ptr + t->at + 3, (size_t)(end - (t->in.ptr + t->at + 3)));
    *negated = t->in.ptr[t->at + 1] == 'P';
    if (name.len && *name.ptr == '^') {
        *negated = !*negated;
        name = dp_span(name.ptr + 1, name.len - 1);
    }
    dp_buf_add_str(items, is_script(name) ? "\\p{sc:" : "\\p{");
    dp_buf_add_span(items, name);
    dp_buf_add_char(items, '}');
    t->at = (size_t)(end + 1 - t->in.ptr);
    return add_newer(t, items, name);
}

/* A property to a set's items, or (what isn't one of several items) to `one`, a set of its own. */
static int read_property(struct translator *t, struct dp_buf *items, struct dp_buf *one)
{
    const char *end = memchr(t->in.ptr + t->at, '}', t->in.len - t->at);
    struct dp_buf set;
    bool negated;
    if (peek(t, 2) != '{') return refuse(t, t->at, "Oniguruma wants a property in braces: \\%c{L}", peek(t, 1));
    if (!end) return refuse(t, t->at, "no } follows");
    struct dp_span name = dp_span(t->in.ptr + t->at + 3, (size_t)(end - (t->in.ptr + t->at + 3)));
    if (name.len && *name.ptr == '^') name = dp_span(name.ptr + 1, name.len - 1);
    if (t->fold && (same_name(name, "Lu") || same_name(name, "Ll") || same_name(name, "Lt") || same_name(name, "Uppercase") || same_name(name, "Lowercase")))
        return refuse(t, t->at, "a case inside of (?i), where Oniguruma and PCRE2 disagree");
    dp_buf_init(&set, DP_SPLIT_PATTERN_BYTES_MAX * 8);
    bool several = property(t, &set, end, &negated);
    if (negated && !several && !set.full) set.ptr[1] = 'P';
    struct dp_buf *to = negated && several ? one : items;
    if (to == one) dp_buf_add_str(to, "[^");
    dp_buf_add_span(to, dp_buf_span(&set));
    if (to == one) dp_buf_add_char(to, ']');
    int rc = dp_buf_check(&set, "a split pattern", t->e);
    dp_buf_release(&set);
    return rc;
}

/* \x{...} \xHH \uHHHH. */
static int braces(struct translator *t, struct dp_buf *to, int c)
{
    size_t from = t->at;
    if (peek(t, 2) == '{') {
        const char *end = memchr(t->in.ptr + t->at, '}', t->in.len - t->at);
        if (!end || c == 'u') return refuse(t, from, end ? "\\u has four digits" : "no } follows");
        copy(t, to, (size_t)(end + 1 - (t->in.ptr + t->at)));
        return DP_OK;
    }
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

/* \s \w \d \h and their complements (*negated) as items of a set; false: another escape. Alone, outside of a set, \w has some more. */
static bool set_of(const struct translator *t, int c, bool alone, struct dp_buf *items, bool *negated)
{
    *negated = c == 'S' || c == 'W' || c == 'H' || c == 'D';
    switch (c) {
    case 's':
    case 'S': dp_buf_add_str(items, SPACE); return true;
    case 'w':
    case 'W':
        dp_buf_add_str(items, alone ? WORD_ALONE : WORD);
        add_newer(t, items, dp_span_str("w"));
        return true;
    case 'd':
    case 'D':
        dp_buf_add_str(items, "\\p{Nd}");
        add_newer(t, items, dp_span_str("Nd"));
        return true;
    case 'h':
    case 'H': dp_buf_add_str(items, HEX); return true;
    default: return false;
    }
}

static void bracket(struct dp_buf *to, struct dp_span items, bool negated)
{
    dp_buf_add_str(to, negated ? "[^" : "[");
    dp_buf_add_span(to, items);
    dp_buf_add_char(to, ']');
}

/* \b, \B : the characters on both sides are of different kinds, of the same. */
static void boundary(const struct translator *t, struct dp_buf *to, bool differ)
{
    static const char *const parts[2][4] = {{"(?:(?<=", ")(?=", ")|(?<!", ")(?!"}, {"(?:(?<=", ")(?!", ")|(?<!", ")(?="}};
    struct dp_buf word;
    bool negated;
    dp_buf_init(&word, DP_SPLIT_PATTERN_BYTES_MAX);
    set_of(t, 'w', true, &word, &negated);
    for (int i = 0; i < 4; i++) {
        dp_buf_add_str(to, parts[differ][i]);
        bracket(to, dp_buf_span(&word), false);
    }
    dp_buf_add_str(to, "))");
    dp_buf_release(&word);
}

/* A set's escape, or a property, outside of a set. */
static int escape_to_set(struct translator *t, int c)
{
    struct dp_buf items;
    bool negated = false;
    dp_buf_init(&items, DP_SPLIT_PATTERN_BYTES_MAX);
    int rc = DP_OK;
    if (c == 'p' || c == 'P') {
        size_t before = t->out->len;
        rc = read_property(t, &items, t->out);
        if (rc >= 0 && t->out->len == before) bracket(t->out, dp_buf_span(&items), false);
    } else {
        set_of(t, c, true, &items, &negated);
        bracket(t->out, dp_buf_span(&items), negated);
        t->at += 2;
    }
    if (rc >= 0) rc = dp_buf_check(&items, "a split pattern", t->e);
    dp_buf_release(&items);
    return rc;
}

/* An escape outside of sets. */
static int escape(struct translator *t)
{
    size_t from = t->at;
    int c = peek(t, 1);
    if (c < 0) return refuse(t, from, "a backslash at the end");
    if (t->portable && (c == 'h' || c == 'H' || c == 'v'))
        return refuse(t, from, "\\%c means other things to Oniguruma and PCRE2; write a set or \\x{...}", c);
    if (strchr("sSwWdDhHpP", c)) return escape_to_set(t, c);
    switch (c) {
    case 'x':
    case 'u': return braces(t, t->out, c);
    case 'v': dp_buf_add_str(t->out, "\\x0B"); break;
    case 'O': dp_buf_add_str(t->out, "(?s:.)"); break;
    case 'R': dp_buf_add_str(t->out, "(?>\\r\\n|[\\n\\x0B\\f\\r\\x{85}\\x{2028}\\x{2029}])"); break; /* PCRE2 takes it to have nothing in common with \N */
    case 'b':
    case 'B': boundary(t, t->out, c == 'b'); break;
    case 'k':
        if (peek(t, 2) != '<') return refuse(t, from, "write \\k<name>");
        break;
    default:
        if (is_alnum(c) && !strchr("tnrfaeNAzZ123456789", c)) return refuse(t, from, "\\%c isn't supported in a split pattern", c);
    }
    if (strchr("vORbB", c)) t->at += 2;
    else copy(t, t->out, 2);
    return DP_OK;
}

/* ---- sets ---- */

struct set {
    struct dp_buf simple, nested; /* what stands in brackets; alternatives of one character each */
    struct dp_buf all;            /* (?=operand) for each && */
    bool single, range;           /* the item before is a character, from which a - makes a range; a - did */
    bool inner, complement;       /* it has a set in it, or is in one; it has a complement (\W \P{L} [:^digit:]) in it */
};

static void nest(struct set *s, struct dp_span one)
{
    if (s->nested.len) dp_buf_add_char(&s->nested, '|');
    dp_buf_add_span(&s->nested, one);
}

static int set_escape(struct translator *t, struct set *s)
{
    size_t from = t->at;
    int c = peek(t, 1), rc = DP_OK;
    bool negated = false;
    struct dp_buf one;
    if (c < 0) return refuse(t, from, "a backslash at the end");
    if (t->portable && (c == 'h' || c == 'H' || c == 'v')) return refuse(t, from, "\\%c means other things to Oniguruma and PCRE2", c);
    if (c == 'x' || c == 'u') return braces(t, &s->simple, c);
    dp_buf_init(&one, DP_SPLIT_PATTERN_BYTES_MAX);
    if (c == 'p' || c == 'P') {
        rc = read_property(t, &s->simple, &one);
        if (rc >= 0 && one.len) nest(s, dp_buf_span(&one));
    } else if (set_of(t, c, false, &one, &negated)) {
        if (negated) {
            struct dp_buf set;
            dp_buf_init(&set, DP_SPLIT_PATTERN_BYTES_MAX);
            bracket(&set, dp_buf_span(&one), true);
            nest(s, dp_buf_span(&set));
            dp_buf_release(&set);
        } else dp_buf_add_span(&s->simple, dp_buf_span(&one));
        t->at += 2;
    } else if (c == 'v') {
        dp_buf_add_str(&s->simple, "\\x0B");
        t->at += 2;
    } else if (is_alnum(c) && !strchr("tnrfaeb", c)) rc = refuse(t, from, "\\%c isn't supported in a set of a split pattern", c);
    else copy(t, &s->simple, 2);
    dp_buf_release(&one);
    return rc;
}

static int posix(struct translator *t, struct set *s)
{
    static const struct {
        const char *name, *set, *newer;
    } known[] = {{"digit:]", "\\p{Nd}", "Nd"}, {"space:]", SPACE, NULL}, {"cntrl:]", "\\p{Cc}", NULL}, {"word:]", WORD, "w"}, {"xdigit:]", HEX, NULL}};
    size_t from = t->at;
    bool not = peek(t, 2) == '^';
    t->at += 2u + not;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!is_here(t, known[i].name)) continue;
        struct dp_buf items, one;
        dp_buf_init(&items, DP_SPLIT_PATTERN_BYTES_MAX);
        dp_buf_init(&one, DP_SPLIT_PATTERN_BYTES_MAX);
        dp_buf_add_str(&items, known[i].set);
        if (known[i].newer) add_newer(t, &items, dp_span_str(known[i].newer));
        if (not) {
            bracket(&one, dp_buf_span(&items), true);
            nest(s, dp_buf_span(&one));
        } else dp_buf_add_span(&s->simple, dp_buf_span(&items));
        dp_buf_release(&items);
        dp_buf_release(&one);
        t->at += strlen(known[i].name);
        return DP_OK;
    }
    return refuse(t, from, "this class isn't supported in a split pattern; write \\p{...}");
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

static int nested_set(struct translator *t, struct set *s, int depth)
{
    struct dp_buf one;
    if (t->fold) return refuse(t, t->at, "a set in a set inside of (?i) isn't supported");
    s->inner = true;
    if (t->portable) return refuse(t, t->at, "a [ in a set begins another one to Oniguruma: write \\[");
    dp_buf_init(&one, DP_SPLIT_PATTERN_BYTES_MAX * 8);
    t->at++;
    int rc = read_set(t, &one, depth + 1);
    if (rc >= 0) nest(s, dp_buf_span(&one));
    dp_buf_release(&one);
    return rc;
}

static int intersect(struct translator *t, struct set *s)
{
    if (t->fold) return refuse(t, t->at, "&& inside of (?i) isn't supported");
    if (t->portable) return refuse(t, t->at, "&& in a set is an intersection to Oniguruma, two & to PCRE2");
    dp_buf_add_str(&s->all, "(?=");
    operand(s, &s->all);
    dp_buf_add_char(&s->all, ')');
    dp_buf_clear(&s->simple);
    dp_buf_clear(&s->nested);
    s->single = s->range = false;
    t->at += 2;
    return DP_OK;
}

/* A character that stands for itself, or a - . What could mean something else where it comes to stand is escaped. */
static void set_character(struct translator *t, struct set *s)
{
    int c = peek(t, 0);
    bool range = c == '-' && s->single && !s->range && peek(t, 1) != ']' && peek(t, 1) != '[' && !(peek(t, 1) == '&' && peek(t, 2) == '&');
    if (!range && c < 0x80 && !is_alnum(c) && c > ' ') dp_buf_add_char(&s->simple, '\\');
    copy(t, &s->simple, 1);
    while (c >= 0x80 && peek(t, 0) >= 0 && (peek(t, 0) & 0xC0) == 0x80) copy(t, &s->simple, 1);
    s->single = !range && !s->range;
    s->range = range;
}

static bool is_complement(const struct translator *t, size_t at)
{
    return strchr("SWDHP", t->in.ptr[at + 1]) || (t->in.ptr[at + 1] == 'p' && t->in.len - at > 3 && t->in.ptr[at + 3] == '^');
}

static int set_items(struct translator *t, struct set *s, int depth)
{
    size_t from = t->at;
    for (;;) {
        int c = peek(t, 0);
        size_t at = t->at;
        if (c < 0) return refuse(t, from, "the set has no end");
        if (c == ']' && at > from) break;
        if (is_here(t, "&&")) {
            DP_TRY(intersect(t, s));
            continue;
        }
        if (c == '-' && s->single && peek(t, 1) == '[') return refuse(t, at, "a range in a set ends in a set");
        bool set = c == '[' || (c == '\\' && peek(t, 1) >= 0 && strchr("sSwWdDhHpP", peek(t, 1)));
        if (set && s->range) return refuse(t, at, "a range in a set ends in a set");
        if (is_here(t, "[:")) DP_TRY(posix(t, s));
        else if (c == '[') DP_TRY(nested_set(t, s, depth));
        else if (c == '\\') {
            DP_TRY(set_escape(t, s));
            s->single = !set && !s->range;
            s->range = false;
        } else {
            set_character(t, s);
            continue;
        }
        if (set) s->single = false;
        s->complement = s->complement || (c == '\\' && is_complement(t, at)) || (c == '[' && t->in.ptr[at + 1] == ':' && t->in.ptr[at + 2] == '^');
        if (s->complement && s->inner) return refuse(t, from, "a complement and a set in one set, which Oniguruma gets wrong");
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
    s.inner = depth > 0;
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
    bool begin = from == t->begin, off = false;
    dp_buf_add_str(t->out, "(?");
    for (;; t->at++) {
        int c = peek(t, 0);
        if (c == 'i') t->fold = !off;
        if (c == '-') off = true;
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

/* Where a group that stands open begins in out, and whether what is around it is inside of (?i). */
struct group {
    size_t at;
    bool fold;
};

/* One character, group mark or repeat. `open` are where the groups that stand open begin in out, *atom where the latest atom does. */
static int step(struct translator *t, struct group *open, size_t *depth, size_t *atom)
{
    int c = peek(t, 0);
    size_t here = t->out->len, from = t->at;
    bool again = false;
    if (c == '*' || c == '+' || c == '?') copy(t, t->out, 1);
    else if (c == '{') {
        DP_TRY(repeat(t, &again));
        if (again) wrap(t->out, *atom);
    } else if (c == '(') {
        bool fold = t->fold;
        DP_TRY(group(t));
        if (t->in.ptr[t->at - 1] == ')') return DP_OK; /* (?i), a comment */
        if (*depth == GROUPS_MAX) return refuse(t, from, "groups more than %d deep", GROUPS_MAX);
        open[(*depth)++] = (struct group){here, fold};
    } else {
        *atom = here;
        if (c == '\\') return escape(t);
        if (c == ')') {
            if (!*depth) return refuse(t, from, "no group to close");
            *atom = open[--*depth].at;
            t->fold = open[*depth].fold;
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

int dp_split_regex_translate(struct dp_span pattern, bool portable, bool newer, struct dp_buf *out, struct dp_err *e)
{
    struct translator t = {.in = pattern, .portable = portable, .newer = newer, .out = out, .e = e};
    if (!pattern.len) DP_FAIL(e, CONFIG, "the split pattern is empty");
    if (pattern.len > DP_SPLIT_PATTERN_BYTES_MAX)
        DP_FAIL(e, CONFIG, "the split pattern has %zu bytes; at most %d", pattern.len, DP_SPLIT_PATTERN_BYTES_MAX);
    if (memchr(pattern.ptr, 0, pattern.len)) DP_FAIL(e, CONFIG, "the split pattern has a zero byte: write \\x{0}");
    struct group open[GROUPS_MAX];
    size_t depth = 0, atom = out->len;
    while (t.at < pattern.len && !out->full) DP_TRY(step(&t, open, &depth, &atom));
    if (depth) return refuse(&t, pattern.len, "a group isn't closed");
    return dp_buf_check(out, "a split pattern", e);
}

/* clean/html_tokenizer.c - the states of WHATWG 13.2.5 as functions over spans.
 *
 * The standard's machine takes one character at a time; here each state that repeats is a search for what ends it (memchr, or a table of
 * bytes), and the states between are the flow of control. Every function leaves p behind what it used. A tag that the end of the input cuts
 * short is dropped, as the standard has it. */
#include "clean/html_tokenizer.h"

#include <strings.h>

static bool letter(char c)
{
    return (unsigned char)((c | 32) - 'a') < 26;
}
/* Bytes that end the name of a tag (bit 0), of an attribute (bit 1), an unquoted value (bit 2). */
static const uint8_t ends[256] = {[' '] = 7, ['\n'] = 7, ['\t'] = 7, ['\r'] = 7, ['\f'] = 7, ['>'] = 7, ['/'] = 3, ['='] = 2};

static const char *find(const char *p, const char *e, char c)
{
    const char *q = p < e ? memchr(p, c, (size_t)(e - p)) : NULL;
    return q ? q : e;
}

static const char *skip_white(const char *p, const char *e)
{
    while (p < e && dp_html_white(*p)) p++;
    return p;
}

void dp_html_tokens_init(struct dp_html_tokens *t, struct dp_span page)
{
    t->text = t->public_id = t->system_id = t->last_start = dp_span("", 0);
    t->mode = t->text_mode = DP_HTML_DATA;
    t->self_closing = t->force_quirks = t->foreign = false;
    t->attrs = 0;
    t->p = page.ptr;
    t->e = page.ptr + page.len;
}

/* --- tags --- */

static void add_attribute(struct dp_html_tokens *t, const char *name, const char *name_end, const char *value, const char *value_end)
{
    if (t->attrs < DP_HTML_ATTRS_MAX)
        t->attr[t->attrs] = (struct dp_html_attr){{name, (size_t)(name_end - name)}, {value, (size_t)(value_end - value)}};
    t->attrs++;
}

/* An attribute's value, p behind the "=" and white space. Returns what follows; false in *whole when the input ends inside. */
static const char *attribute_value(const char *p, const char *e, const char **from, const char **to, bool *whole)
{
    *whole = true;
    if (p < e && (*p == '"' || *p == '\'')) {
        *from = p + 1;
        *to = find(p + 1, e, *p);
        *whole = *to < e;
        return *whole ? *to + 1 : e;
    }
    *from = p;
    while (p < e && !(ends[(unsigned char)*p] & 4)) p++;
    *to = p;
    return p;
}

/* Attributes, and the ">" of a tag. False when the input ends first. */
static bool tag_rest(struct dp_html_tokens *t)
{
    const char *p = t->p, *e = t->e;
    t->attrs = 0;
    t->self_closing = false;
    bool whole = true;
    while (whole) {
        p = skip_white(p, e);
        if (p == e) break;
        if (*p == '>') {
            t->p = p + 1;
            return true;
        }
        if (*p == '/') {
            t->self_closing = ++p < e && *p == '>';
            continue;
        }
        const char *name = p++, *value = "", *value_end = value;
        while (p < e && !(ends[(unsigned char)*p] & 2)) p++;
        const char *name_end = p;
        p = skip_white(p, e);
        if (p < e && *p == '=') p = attribute_value(skip_white(p + 1, e), e, &value, &value_end, &whole);
        if (whole && p < e) add_attribute(t, name, name_end, value, value_end);
    }
    t->p = e;
    return false;
}

static bool tag_name(struct dp_html_tokens *t)
{
    const char *p = t->p;
    while (p < t->e && !(ends[(unsigned char)*p] & 1)) p++;
    t->text = dp_span(t->p, (size_t)(p - t->p));
    t->p = p;
    return tag_rest(t);
}

/* --- comments and document types --- */

static enum dp_html_token comment_token(struct dp_html_tokens *t, const char *from, const char *to, const char *next)
{
    t->text = dp_span(from, to > from ? (size_t)(to - from) : 0);
    t->p = next;
    return DP_HTML_COMMENT;
}

/* p behind "<!--". Ends: "-->", "--!>", and right at the beginning ">" and "->". */
static enum dp_html_token comment(struct dp_html_tokens *t)
{
    const char *from = t->p, *e = t->e, *p = from;
    if (p < e && *p == '>') return comment_token(t, from, from, p + 1);
    if (e - p >= 2 && p[0] == '-' && p[1] == '>') return comment_token(t, from, from, p + 2);
    while ((p = find(p, e, '-')) < e) {
        const char *run = p;
        while (p < e && *p == '-') p++;
        bool two = p - run >= 2, bang = two && p < e && *p == '!';
        if (p == e) return comment_token(t, from, p - (two ? 2 : 1), e);
        if (bang && p + 1 == e) return comment_token(t, from, p - 2, e);
        if (two && *p == '>') return comment_token(t, from, p - 2, p + 1);
        if (bang && p[1] == '>') return comment_token(t, from, p - 2, p + 2);
    }
    return comment_token(t, from, e, e);
}

/* Up to ">". */
static enum dp_html_token bogus_comment(struct dp_html_tokens *t)
{
    const char *to = find(t->p, t->e, '>');
    return comment_token(t, t->p, to, to < t->e ? to + 1 : to);
}

/* A quoted identifier at p; false (and force_quirks) when ">" or the end cuts it short. */
static bool identifier(struct dp_html_tokens *t, struct dp_span *id)
{
    char quote = *t->p++;
    const char *q = t->p;
    while (q < t->e && *q != quote && *q != '>') q++;
    *id = dp_span(t->p, (size_t)(q - t->p));
    bool whole = q < t->e && *q == quote;
    t->p = whole ? q + 1 : q;
    t->force_quirks |= !whole;
    return whole;
}

static bool quote_follows(const struct dp_html_tokens *t)
{
    return t->p < t->e && (*t->p == '"' || *t->p == '\'');
}

/* What stands behind the name. The last identifier may be followed by anything. */
static void doctype_identifiers(struct dp_html_tokens *t)
{
    size_t left = (size_t)(t->e - t->p);
    bool is_public = left >= 6 && strncasecmp(t->p, "PUBLIC", 6) == 0;
    if (!is_public && !(left >= 6 && strncasecmp(t->p, "SYSTEM", 6) == 0)) {
        t->force_quirks = true;
        return;
    }
    t->p = skip_white(t->p + 6, t->e);
    if (!quote_follows(t)) {
        t->force_quirks = true;
        return;
    }
    if (!identifier(t, is_public ? &t->public_id : &t->system_id) || !is_public) return;
    t->p = skip_white(t->p, t->e);
    if (quote_follows(t)) identifier(t, &t->system_id);
    else if (t->p == t->e || *t->p != '>') t->force_quirks = true;
}

/* p behind "<!DOCTYPE". */
static enum dp_html_token doctype(struct dp_html_tokens *t)
{
    t->force_quirks = false;
    t->public_id = t->system_id = dp_span(NULL, 0);
    const char *from = t->p = skip_white(t->p, t->e);
    while (t->p < t->e && !dp_html_white(*t->p) && *t->p != '>') t->p++;
    t->text = dp_span(from, (size_t)(t->p - from));
    t->p = skip_white(t->p, t->e);
    if (t->text.len == 0 || t->p == t->e) t->force_quirks = true;
    else if (*t->p != '>') doctype_identifiers(t);
    /* An end of the input forces quirks, but not behind characters that don't belong here. */
    t->p = skip_white(t->p, t->e);
    if (t->p == t->e) t->force_quirks = true;
    t->p = find(t->p, t->e, '>');
    t->p += t->p < t->e;
    return DP_HTML_DOCTYPE;
}

static enum dp_html_token declaration(struct dp_html_tokens *t)
{
    size_t left = (size_t)(t->e - t->p);
    if (left >= 2 && t->p[0] == '-' && t->p[1] == '-') {
        t->p += 2;
        return comment(t);
    }
    if (left >= 7 && strncasecmp(t->p, "DOCTYPE", 7) == 0) {
        t->p += 7;
        return doctype(t);
    }
    if (t->foreign && left >= 7 && memcmp(t->p, "[CDATA[", 7) == 0) {
        t->p += 7;
        t->mode = DP_HTML_CDATA;
        return dp_html_token_next(t);
    }
    return bogus_comment(t);
}

/* --- characters --- */

static enum dp_html_token characters(struct dp_html_tokens *t, const char *to)
{
    t->text = dp_span(t->p, (size_t)(to - t->p));
    t->text_mode = t->mode;
    t->p = to;
    return DP_HTML_CHARACTERS;
}

/* The next "<" in [p, e) that begins something, or e. */
static const char *markup(const char *p, const char *e)
{
    while ((p = find(p, e, '<')) < e) {
        const char *q = p + 1;
        if (q == e) return e;
        if (letter(*q) || *q == '!' || *q == '?') return p;
        if (*q == '/' && q + 1 < e) return p;
        p = q;
    }
    return e;
}

static enum dp_html_token data(struct dp_html_tokens *t)
{
    for (;;) {
        const char *q = markup(t->p, t->e);
        if (q > t->p) return characters(t, q);
        if (q == t->e) return DP_HTML_END_OF_FILE;
        bool end = q[1] == '/';
        if (letter(q[1]) || (end && letter(q[2]))) {
            t->p = q + 1 + end;
            if (!tag_name(t)) return DP_HTML_END_OF_FILE;
            if (!end) t->last_start = t->text;
            return end ? DP_HTML_END_TAG : DP_HTML_START_TAG;
        }
        t->p = q + 2;
        if (q[1] == '!') return declaration(t);
        if (!end) t->p = q + 1; /* "?" belongs to the comment */
        if (!end || *t->p != '>') return bogus_comment(t);
        t->p++; /* "</>" is nothing */
    }
}

/* Whether a tag's whole name at p is `name`. */
static bool named(const char *p, const char *e, const char *name, size_t n)
{
    return n && p < e && (size_t)(e - p) > n && strncasecmp(p, name, n) == 0 && (dp_html_white(p[n]) || p[n] == '/' || p[n] == '>');
}

/* The end tag that ends raw text, or e. */
static const char *raw_end(const struct dp_html_tokens *t)
{
    const char *p = t->p, *e = t->e;
    for (; (p = find(p, e, '<')) < e; p++)
        if (e - p > 2 && p[1] == '/' && named(p + 2, e, t->last_start.ptr, t->last_start.len)) return p;
    return e;
}

/* The same for a script: inside "<!--" and "-->" a "<script" hides the next "</script". */
static const char *script_end(const struct dp_html_tokens *t)
{
    const char *p = t->p, *e = t->e;
    bool escaped = false, twice = false;
    while (p < e) {
        while (p < e && *p != '<' && !(escaped && *p == '-')) p++;
        if (p == e) break;
        if (*p == '-') {
            const char *run = p;
            while (p < e && *p == '-') p++;
            if (p - run >= 2 && p < e && *p == '>') escaped = twice = false;
            continue;
        }
        bool end = e - p >= 2 && p[1] == '/';
        if (end && !twice && named(p + 2, e, t->last_start.ptr, t->last_start.len)) return p;
        if (end && twice && named(p + 2, e, "script", 6)) twice = false;
        else if (!escaped && e - p >= 4 && memcmp(p, "<!--", 4) == 0) escaped = true, p++; /* its dashes may be those of "-->" */
        else if (escaped && !twice && named(p + 1, e, "script", 6)) twice = true;
        p++;
    }
    return e;
}

static enum dp_html_token raw(struct dp_html_tokens *t)
{
    const char *q = t->mode == DP_HTML_PLAINTEXT ? t->e : t->mode == DP_HTML_SCRIPT_DATA ? script_end(t) : raw_end(t);
    if (q > t->p) return characters(t, q);
    if (q == t->e) return DP_HTML_END_OF_FILE;
    t->p = q + 2;
    t->mode = DP_HTML_DATA;
    return tag_name(t) ? DP_HTML_END_TAG : DP_HTML_END_OF_FILE;
}

static enum dp_html_token cdata(struct dp_html_tokens *t)
{
    const char *q = t->p < t->e ? memmem(t->p, (size_t)(t->e - t->p), "]]>", 3) : NULL, *to = q ? q : t->e;
    bool any = to > t->p;
    if (any) characters(t, to);
    t->p = q ? q + 3 : t->e;
    t->mode = DP_HTML_DATA;
    return any ? DP_HTML_CHARACTERS : data(t);
}

enum dp_html_token dp_html_token_next(struct dp_html_tokens *t)
{
    if (t->mode == DP_HTML_DATA) return data(t);
    return t->mode == DP_HTML_CDATA ? cdata(t) : raw(t);
}

/* clean/html_limits.c - what a page would cost a tree builder, before one sees it; and the page without what nobody reads.
 *
 * The tree builder spends its time per byte, and most bytes of a page are scripts, styles, comments and attributes. The same pass that
 * checks the limits copies the page without them (extract: from 14.7 to 31 MB/s on the development pages): comments, script, style and svg bodies,
 * void tags without text, formatting tags (b, i, font ...), and all attributes but those that clean/main_text.c looks at.
 *
 * HTML5 tree construction walks the stack of open elements for many tags, and compares every attribute of a tag with those before it. So
 * cost is about the sum over tags of the depth, plus the sum of attributes squared. This pass follows tags with a stack of name
 * hashes (unmatched end tags are ignored, an end tag closes what is open above its element), skips comments and raw text as a tokenizer
 * does, and adds that sum up. Depth here is a bound for the tree's but for formatting elements that get reconstructed; those
 * cost memory, which the parser's arena limits. Gumbo takes about 10 to 40 ns a step: WORK_MAX is a second or two at worst. */
#include "clean/html_tree.h"

#include <strings.h>

enum { DEPTH_MAX = 512, ATTRS_MAX = 512, WORK_MAX = 1 << 25 };

struct scan {
    const char *p, *e;
    uint32_t open[DEPTH_MAX + 1];
    unsigned depth, attrs_most;
    double work;
    struct dp_buf *out;
    const char *from; /* not yet copied */
};

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}
static bool letter(char c)
{
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}

static uint32_t name_hash(struct scan *s)
{
    uint32_t h = 2166136261u;
    for (; s->p < s->e && !blank(*s->p) && *s->p != '>' && *s->p != '/'; s->p++)
        h = (h ^ (unsigned char)(*s->p >= 'A' && *s->p <= 'Z' ? *s->p | 32 : *s->p)) * 16777619u;
    return h;
}

static bool in_list(const char *p, size_t n, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((list[i][0] == (*p | 32)) && n == strlen(list[i]) && strncasecmp(p, list[i], n) == 0) return true;
    return false;
}
#define IN(p, n, list) in_list((p), (n), (list), sizeof(list) / sizeof *(list))

static void keep_attribute(struct scan *s, const char *name, size_t n, const char *end)
{
    static const char *const kept[] = {"class", "id", "role", "itemprop", "style", "hidden", "aria-hidden", "lang"};
    if (n < 2 || n > 11 || !IN(name, n, kept)) return;
    if (n == 5 && (*name | 32) == 's' && !memmem(name, (size_t)(end - name), "none", 4)) return;
    dp_buf_add_char(s->out, ' ');
    dp_buf_add(s->out, name, (size_t)(end - name));
}

/* To behind '>'; counts attributes and copies those that somebody looks at. */
static void attributes(struct scan *s, bool copy)
{
    unsigned n = 0;
    while (s->p < s->e && *s->p != '>') {
        if (blank(*s->p) || *s->p == '/') {
            s->p++;
            continue;
        }
        n++;
        const char *from = s->p;
        while (s->p < s->e && !blank(*s->p) && *s->p != '>' && *s->p != '/' && (*s->p != '=' || s->p == from)) s->p++;
        const char *end = s->p;
        size_t name = (size_t)(end - from);
        while (s->p < s->e && blank(*s->p)) s->p++;
        if (s->p < s->e && *s->p == '=') {
            s->p++;
            while (s->p < s->e && blank(*s->p)) s->p++;
            if (s->p < s->e && (*s->p == '"' || *s->p == '\'')) {
                const char *q = memchr(s->p + 1, *s->p, (size_t)(s->e - s->p - 1));
                s->p = q ? q + 1 : s->e;
            } else
                while (s->p < s->e && !blank(*s->p) && *s->p != '>') s->p++;
            end = s->p;
        }
        if (copy) keep_attribute(s, from, name, end);
    }
    if (s->p < s->e) s->p++;
    if (n > s->attrs_most) s->attrs_most = n;
    s->work += n;
}

static void raw_text(struct scan *s, const char *name)
{
    size_t n = strlen(name);
    while ((s->p = memchr(s->p, '<', (size_t)(s->e - s->p))) != NULL) {
        if ((size_t)(s->e - s->p) > n + 2 && s->p[1] == '/' && strncasecmp(s->p + 2, name, n) == 0) return;
        s->p++;
    }
    s->p = s->e;
}

static void copy_to(struct scan *s, const char *end)
{
    dp_buf_add(s->out, s->from, (size_t)(end - s->from));
}

/* Formatting: nothing that the text depends on. */
static const char *const inlines[] = {"b", "i", "u", "s", "em", "tt", "big", "small", "font", "strong", "strike", "nobr", "wbr", "img",
    "meta", "link", "input", "source", "param", "area", "col", "path", "embed", "track", "abbr", "acronym"};

static void start_tag(struct scan *s)
{
    static const char *const gone[] = {"script", "style", "svg", "iframe", "noembed"};
    static const char *const raws[] = {"textarea", "title", "xmp", "noframes"};
    static const char *const flat[] = {"br", "hr", "p", "li", "option", "td", "tr", "th", "dd", "dt"};
    const char *from = s->p, *open = s->p - 1;
    copy_to(s, open);
    uint32_t h = name_hash(s);
    size_t n = (size_t)(s->p - from), mark = s->out->len;
    bool drop = IN(from, n, inlines);
    s->work += s->depth + 1;
    if (!drop) dp_buf_add(s->out, open, n + 1);
    attributes(s, !drop);
    s->from = s->p;
    if (drop) return;
    dp_buf_add_char(s->out, '>');
    if (IN(from, n, gone)) {
        char name[8] = {0};
        for (size_t i = 0; i < n; i++) name[i] = (char)(from[i] | 32);
        raw_text(s, name);
        while (s->p < s->e && *s->p++ != '>') {}
        s->from = s->p;
        s->out->len = mark;
        return;
    }
    if (IN(from, n, raws)) {
        char name[12] = {0};
        for (size_t i = 0; i < n; i++) name[i] = (char)(from[i] | 32);
        raw_text(s, name);
        return;
    }
    /* Void elements, and those that the next of their kind closes, don't deepen the tree. */
    if (IN(from, n, flat)) return;
    if (s->depth <= DEPTH_MAX) s->open[s->depth++] = h;
}

static void end_tag(struct scan *s)
{
    const char *from = s->p, *open = s->p - 2;
    copy_to(s, open);
    uint32_t h = name_hash(s);
    size_t n = (size_t)(s->p - from);
    attributes(s, false);
    s->from = s->p;
    if (IN(from, n, inlines)) return;
    dp_buf_add(s->out, open, n + 2);
    dp_buf_add_char(s->out, '>');
    s->work += 1;
    for (unsigned d = s->depth; d > 0; d--) {
        s->work += 1;
        if (s->open[d - 1] != h) continue;
        s->depth = d - 1;
        return;
    }
}

struct dp_html_limit dp_html_check(struct dp_span html, struct dp_buf *out)
{
    struct scan s = {.p = html.ptr, .e = html.ptr + html.len, .out = out, .from = html.ptr};
    while (s.p < s.e && (s.p = memchr(s.p, '<', (size_t)(s.e - s.p))) != NULL) {
        s.p++;
        if (s.p == s.e) break;
        if (*s.p == '!' && s.e - s.p >= 3 && s.p[1] == '-' && s.p[2] == '-') {
            copy_to(&s, s.p - 1);
            const char *q = memmem(s.p + 1, (size_t)(s.e - s.p - 1), "-->", 3);
            s.from = s.p = q ? q + 3 : s.e;
        } else if (letter(*s.p)) start_tag(&s);
        else if (*s.p == '/' && s.e - s.p >= 2 && letter(s.p[1])) s.p++, end_tag(&s);
        if (s.depth > DEPTH_MAX) return (struct dp_html_limit){"nested elements", s.depth, DEPTH_MAX};
        if (s.attrs_most > ATTRS_MAX) return (struct dp_html_limit){"attributes on a tag", s.attrs_most, ATTRS_MAX};
        if (s.work > WORK_MAX) return (struct dp_html_limit){"steps of tree construction", s.work, WORK_MAX};
    }
    copy_to(&s, s.e);
    return (struct dp_html_limit){NULL, 0, 0};
}

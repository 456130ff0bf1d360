/* clean/html_limits.c - what a page would cost a tree builder, before one sees it.
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

/* To behind '>'; counts attributes; true for "/>". */
static bool attributes(struct scan *s)
{
    unsigned n = 0;
    bool slash = false;
    while (s->p < s->e && *s->p != '>') {
        if (blank(*s->p) || *s->p == '/') {
            slash = *s->p++ == '/';
            continue;
        }
        n++;
        slash = false;
        const char *from = s->p;
        while (s->p < s->e && !blank(*s->p) && *s->p != '>' && *s->p != '/' && (*s->p != '=' || s->p == from)) s->p++;
        while (s->p < s->e && blank(*s->p)) s->p++;
        if (s->p == s->e || *s->p != '=') continue;
        s->p++;
        while (s->p < s->e && blank(*s->p)) s->p++;
        if (s->p < s->e && (*s->p == '"' || *s->p == '\'')) {
            const char *q = memchr(s->p + 1, *s->p, (size_t)(s->e - s->p - 1));
            s->p = q ? q + 1 : s->e;
        } else
            while (s->p < s->e && !blank(*s->p) && *s->p != '>') s->p++;
    }
    if (s->p < s->e) s->p++;
    if (n > s->attrs_most) s->attrs_most = n;
    s->work += (double)n * n / 8;
    return slash;
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

static void start_tag(struct scan *s)
{
    static const char *const raws[] = {"script", "style", "textarea", "title", "xmp", "iframe", "noframes", "noembed"};
    static const char *const voids[] = {"br", "img", "input", "hr", "meta", "link", "area", "base", "col", "embed", "param", "source",
                                        "track", "wbr", "p", "li", "option", "td", "tr", "th", "dd", "dt"};
    const char *from = s->p;
    uint32_t h = name_hash(s);
    size_t n = (size_t)(s->p - from);
    bool self = attributes(s);
    s->work += s->depth + 1;
    for (size_t i = 0; n >= 3 && i < sizeof raws / sizeof *raws; i++) {
        if (n == strlen(raws[i]) && strncasecmp(from, raws[i], n) == 0) {
            raw_text(s, raws[i]);
            return;
        }
    }
    /* Void elements, and those that the next of their kind closes, don't deepen the tree. */
    for (size_t i = 0; n <= 6 && i < sizeof voids / sizeof *voids; i++)
        if (n == strlen(voids[i]) && strncasecmp(from, voids[i], n) == 0) return;
    (void)self; /* HTML ignores it */
    if (s->depth <= DEPTH_MAX) s->open[s->depth++] = h;
}

static void end_tag(struct scan *s)
{
    uint32_t h = name_hash(s);
    attributes(s);
    s->work += 1;
    for (unsigned d = s->depth; d > 0; d--) {
        s->work += 1;
        if (s->open[d - 1] != h) continue;
        s->depth = d - 1;
        return;
    }
}

struct dp_html_limit dp_html_check(struct dp_span html)
{
    struct scan s = {.p = html.ptr, .e = html.ptr + html.len};
    while (s.p < s.e && (s.p = memchr(s.p, '<', (size_t)(s.e - s.p))) != NULL) {
        s.p++;
        if (s.p == s.e) break;
        if (*s.p == '!' && s.e - s.p >= 3 && s.p[1] == '-' && s.p[2] == '-') {
            const char *q = memmem(s.p + 1, (size_t)(s.e - s.p - 1), "-->", 3);
            s.p = q ? q + 3 : s.e;
        } else if (letter(*s.p)) start_tag(&s);
        else if (*s.p == '/' && s.e - s.p >= 2 && letter(s.p[1])) s.p++, end_tag(&s);
        if (s.depth > DEPTH_MAX) return (struct dp_html_limit){"nested elements", s.depth, DEPTH_MAX};
        if (s.attrs_most > ATTRS_MAX) return (struct dp_html_limit){"attributes on a tag", s.attrs_most, ATTRS_MAX};
        if (s.work > WORK_MAX) return (struct dp_html_limit){"steps of tree construction", s.work, WORK_MAX};
    }
    return (struct dp_html_limit){NULL, 0, 0};
}

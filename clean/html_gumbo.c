/* clean/html_gumbo.c - the tree through libgumbo, the only file that sees it.
 *
 * Gumbo allocates for every node and attribute: an arena makes that a bump and freeing nothing. It doesn't check for NULL, so
 * that the arena's limit leaves gumbo by longjmp; nothing of gumbo's is outside the arena. */
#include "clean/html_tree.h"

#include <gumbo.h>

#include <pthread.h>
#include <setjmp.h>
#include <strings.h>

enum { MEM_FACTOR = 160, MEM_LEAST = 8 << 20, MEM_MOST = 384 << 20, MEM_KEEP = 64 << 20 };

struct alloc {
    struct dp_arena *mem;
    char *bump, *end;
    jmp_buf out;
};

static uint8_t tag_map[GUMBO_TAG_LAST + 1];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void map_tags(void)
{
    static const char *const names[] = {
#define X(t) #t,
        DP_HTML_TAGS(X)
#undef X
    };
    memset(tag_map, DP_HTML_OTHER, sizeof tag_map);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char low[16];
        size_t n = strlen(names[i]);
        for (size_t k = 0; k <= n; k++) low[k] = (char)(names[i][k] >= 'A' && names[i][k] <= 'Z' ? names[i][k] | 32 : names[i][k]);
        GumboTag g = gumbo_tag_enum(low);
        if (g != GUMBO_TAG_UNKNOWN) tag_map[g] = (uint8_t)(DP_HTML_OTHER + 1 + i);
    }
}

static void *take(void *ctx, size_t n)
{
    struct alloc *a = ctx;
    n = (n + 15) & ~(size_t)15;
    if ((size_t)(a->end - a->bump) >= n) {
        void *p = a->bump;
        a->bump += n;
        return p;
    }
    if (n >= 8192) {
        void *p = dp_arena_alloc(a->mem, n);
        if (!p) longjmp(a->out, 1);
        return p;
    }
    char *p = dp_arena_alloc(a->mem, 32768);
    if (!p) longjmp(a->out, 1);
    a->bump = p + n;
    a->end = p + 32768;
    return p;
}

static void give(void *ctx, void *p)
{
    (void)ctx, (void)p;
}

void dp_html_init(struct dp_html *h)
{
    memset(h, 0, sizeof *h);
    dp_arena_init(&h->mem, MEM_MOST);
}

void dp_html_release(struct dp_html *h)
{
    dp_arena_release(&h->mem);
    dp_html_init(h);
}

static struct dp_span attr(const GumboNode *n, const char *name)
{
    const GumboAttribute *a = gumbo_get_attribute(&n->v.element.attributes, name);
    return a ? dp_span_str(a->value) : dp_span("", 0);
}

static bool has_word(struct dp_span s, const char *w)
{
    size_t n = strlen(w);
    for (size_t i = 0; i + n <= s.len; i++)
        if (strncasecmp(s.ptr + i, w, n) == 0) return true;
    return false;
}

static void element(struct dp_html *h, struct dp_html_node *d, const GumboNode *n)
{
    d->tag = n->v.element.tag_namespace == GUMBO_NAMESPACE_HTML ? tag_map[n->v.element.tag]
             : n->v.element.tag_namespace == GUMBO_NAMESPACE_SVG ? DP_HTML_SVG : DP_HTML_OTHER;
    if (n->v.element.attributes.length == 0) return;
    d->cls = attr(n, "class");
    d->id = attr(n, "id");
    d->role = attr(n, "role");
    if (!d->role.len) d->role = attr(n, "itemprop");
    struct dp_span style = attr(n, "style");
    d->hidden = gumbo_get_attribute(&n->v.element.attributes, "hidden") != NULL || dp_span_is(attr(n, "aria-hidden"), "true") ||
                has_word(style, "display:none") || has_word(style, "display: none");
    if (d->tag == DP_HTML_HTML) h->lang = attr(n, "lang");
}

static const GumboVector *children(const GumboNode *n)
{
    if (n->type == GUMBO_NODE_ELEMENT || n->type == GUMBO_NODE_TEMPLATE) return &n->v.element.children;
    return n->type == GUMBO_NODE_DOCUMENT ? &n->v.document.children : NULL;
}

/* The node after n in document order, NULL at the end of root; *up counts the elements left. */
static const GumboNode *after(const GumboNode *n, const GumboNode *root, unsigned *up)
{
    const GumboVector *c = children(n);
    *up = 0;
    if (c && c->length) return c->data[0];
    while (n != root) {
        const GumboVector *s = children(n->parent);
        if (n->index_within_parent + 1 < s->length) return s->data[n->index_within_parent + 1];
        n = n->parent;
        ++*up;
    }
    return NULL;
}

static size_t count_nodes(const GumboNode *root)
{
    size_t k = 0;
    unsigned up;
    for (const GumboNode *n = root; n; n = after(n, root, &up)) k++;
    return k;
}

static int flatten(struct dp_html *h, const GumboNode *root)
{
    size_t room = count_nodes(root);
    h->node = dp_arena_alloc(&h->mem, room * sizeof *h->node);
    if (!h->node || room > UINT32_MAX) return DP_LIMIT;
    uint32_t parent = 0;
    unsigned up;
    for (const GumboNode *n = root, *next; n; n = next) {
        struct dp_html_node *d = &h->node[h->count];
        *d = (struct dp_html_node){.tag = DP_HTML_OTHER, .parent = parent};
        uint32_t me = h->count++;
        if (n->type == GUMBO_NODE_ELEMENT || n->type == GUMBO_NODE_TEMPLATE) element(h, d, n);
        else if (n->type != GUMBO_NODE_COMMENT) d->tag = DP_HTML_TEXT, d->text = dp_span_str(n->v.text.text);
        else d->hidden = true;
        const GumboVector *c = children(n);
        bool inner = c && c->length;
        next = after(n, root, &up);
        if (inner) {
            parent = me;
            continue;
        }
        d->end = h->count;
        for (; up; up--) {
            h->node[parent].end = h->count;
            parent = h->node[parent].parent;
        }
    }
    for (uint32_t i = 0; i + 1 < h->count; i++) {
        if (h->node[i].tag != DP_HTML_TITLE || h->node[i + 1].tag != DP_HTML_TEXT) continue;
        h->title = h->node[i + 1].text;
        break;
    }
    return DP_OK;
}

int dp_html_parse(struct dp_html *h, struct dp_span html)
{
    pthread_once(&once, map_tags);
    if (h->mem.bytes_held > MEM_KEEP) dp_arena_release(&h->mem);
    dp_arena_reset(&h->mem);
    size_t most = html.len > MEM_MOST / MEM_FACTOR ? MEM_MOST : html.len * MEM_FACTOR;
    h->mem.bytes_max = most < MEM_LEAST ? MEM_LEAST : most;
    if (h->mem.bytes_max < h->mem.bytes_held) h->mem.bytes_max = h->mem.bytes_held;
    h->node = NULL;
    h->count = 0;
    h->title = h->lang = dp_span("", 0);
    struct alloc a = {.mem = &h->mem};
    GumboOptions o = kGumboDefaultOptions;
    o.allocator = take;
    o.deallocator = give;
    o.userdata = &a;
    o.max_errors = 0;
    if (setjmp(a.out)) return DP_LIMIT;
    GumboOutput *g = gumbo_parse_with_options(&o, html.ptr, html.len);
    return flatten(h, g->root);
}

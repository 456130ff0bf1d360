/* clean/main_text.c - choosing and writing the main content.
 *
 * Four loops over the flat tree. (1) Mark what can't be content: scripts, forms' controls, navigation, by tag, role and words in class and
 * id. (2) Add up text, link text and paragraphs below each node. (3) Choose the node that holds the content: each paragraph gives points to
 * its parent and half to its grandparent (the idea of Arc90's readability), weighed by what isn't link text and by hints in class and id.
 * (4) Write its subtree without blocks that are mostly links. When little is left, the whole body is taken, marks respected.
 * Not a classifier over blocks: that needs a model to ship, and page furniture is named by its makers in nine of ten pages. */
#include "clean/main_text.h"

#include "clean/class_words.h"

#include <stdlib.h>
#include <strings.h>

struct dp_page_stat {
    uint32_t own;                                  /* characters of a text node */
    uint32_t chars, link_chars, para_chars, links; /* below the node, what is marked left out */
    float points;
    uint8_t words; /* enum dp_class_word of class and id */
    bool cut;      /* not content, with all below */
};

#define FURNITURE_SHARE 0.35
enum { BLOCK = 1, CUT = 2, CELL = 4, PARA = 8, HEAD = 16 };
static const uint8_t kind[DP_HTML_TAG_COUNT] = {
#define B(t, f) [DP_HTML_##t] = BLOCK | (f)
    B(ADDRESS, 0), B(ARTICLE, 0), B(ASIDE, CUT), B(BLOCKQUOTE, PARA), B(BODY, 0), B(CAPTION, 0), B(CENTER, 0), B(DD, PARA), B(DETAILS, 0),
    B(DIV, PARA), B(DL, 0), B(DT, 0), B(FIELDSET, 0), B(FIGCAPTION, 0), B(FIGURE, 0), B(FOOTER, CUT), B(FORM, 0), B(H1, HEAD), B(H2, HEAD),
    B(H3, HEAD), B(H4, HEAD), B(H5, HEAD), B(H6, HEAD), B(HEADER, 0), B(HGROUP, 0), B(HR, 0), B(HTML, 0), B(LEGEND, 0), B(LI, PARA),
    B(MAIN, 0), B(MENU, CUT), B(NAV, CUT), B(OL, 0), B(P, PARA), B(PRE, PARA), B(SECTION, PARA), B(SUMMARY, 0), B(TABLE, 0), B(TBODY, 0),
    B(TFOOT, 0), B(THEAD, 0), B(TR, 0), B(UL, 0),
#undef B
    [DP_HTML_TD] = CELL | PARA, [DP_HTML_TH] = CELL,
};
static const bool never[DP_HTML_TAG_COUNT] = {
    [DP_HTML_TEMPLATE] = 1, [DP_HTML_HEAD] = 1, [DP_HTML_OPTION] = 1, [DP_HTML_BUTTON] = 1,
    [DP_HTML_CANVAS] = 1, [DP_HTML_OBJECT] = 1, [DP_HTML_VIDEO] = 1, [DP_HTML_AUDIO] = 1,
};

static bool furniture_role(struct dp_span r)
{
    static const char *const roles[] = {"navigation", "banner", "contentinfo", "complementary", "search", "dialog", "menu", "menubar", "alert"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (dp_span_is(r, roles[i])) return true;
    return false;
}

/* Not content whatever it holds. */
static bool never_content(const struct dp_html_node *n, bool all)
{
    return never[n->tag] || (!all && (n->tag == DP_HTML_NAV || n->tag == DP_HTML_MENU));
}

/* Furniture by its name; the caller checks that it isn't half the page. */
static bool named_furniture(const struct dp_html *h, const struct dp_html_node *n, unsigned words)
{
    if (n->tag == DP_HTML_BODY || n->tag == DP_HTML_HTML || n->tag == DP_HTML_ARTICLE || n->tag == DP_HTML_MAIN) return false;
    if (kind[n->tag] & CUT) return true;
    if (!n->attrs) return false;
    if (h->attrs[n->attrs].hidden || furniture_role(h->attrs[n->attrs].role)) return true;
    if (!(kind[n->tag] & (BLOCK | CELL)) && n->tag != DP_HTML_OTHER && n->tag != DP_HTML_A) return false;
    return words & DP_CLASS_FURNITURE;
}

/* Characters, a run of white space as one. A character of Chinese or Japanese says as much as three letters. */
static uint32_t count_text(struct dp_span t)
{
    uint32_t n = 0;
    bool gap = true;
    for (size_t i = 0; i < t.len; i++) {
        unsigned char c = (unsigned char)t.ptr[i];
        bool white = c <= ' ';
        n += white ? !gap : (uint32_t)((c & 0xC0) != 0x80) + (c >= 0xE3 && c <= 0xED) * 2u;
        gap = white;
    }
    return n;
}

/* Sums below every node: children stand after their parent, so that going backwards meets them first. */
static void sum_up(const struct dp_html *h, struct dp_page_stat *st)
{
    for (uint32_t i = 0; i < h->count; i++) st[i].chars = st[i].link_chars = st[i].para_chars = st[i].links = 0;
    for (uint32_t i = h->count; i-- > 0;) {
        const struct dp_html_node *n = &h->node[i];
        struct dp_page_stat *s = &st[i];
        if (s->cut) continue;
        if (n->tag == DP_HTML_TEXT) s->chars = s->own;
        else if (n->tag == DP_HTML_A) s->link_chars = s->chars, s->links = 1;
        else if (kind[n->tag] & PARA && s->para_chars == 0 && s->chars - s->link_chars >= 25) s->para_chars = s->chars - s->link_chars;
        if (i == 0) break;
        struct dp_page_stat *p = &st[n->parent];
        p->chars += s->chars;
        p->link_chars += s->link_chars;
        p->para_chars += s->para_chars;
        p->links += s->links;
    }
}

/* Text directly below a node, inline elements included, is a paragraph when the node has PARA; its points go up. */
static void give_points(const struct dp_html *h, struct dp_page_stat *st)
{
    for (uint32_t i = 1; i < h->count; i++) {
        const struct dp_html_node *n = &h->node[i];
        if (st[i].cut) {
            i = n->end - 1;
            continue;
        }
        if (!(kind[n->tag] & PARA)) continue;
        uint32_t own = st[i].chars, own_links = st[i].link_chars;
        for (uint32_t k = i + 1; k < n->end; k = h->node[k].end) {
            if (!(kind[h->node[k].tag] & (BLOCK | CELL)) || st[k].cut) continue;
            own -= st[k].chars < own ? st[k].chars : own;
            own_links -= st[k].link_chars < own_links ? st[k].link_chars : own_links;
        }
        if (own < 25 || own_links * 2 > own) continue;
        float x = 1.0f + (float)(own - own_links) / 100.0f + (float)(n->tag == DP_HTML_P);
        uint32_t p = n->tag == DP_HTML_DIV || n->tag == DP_HTML_SECTION || n->tag == DP_HTML_TD ? i : n->parent, g = h->node[p].parent, gg = h->node[g].parent;
        st[p].points += x;
        st[g].points += x * 0.5f;
        st[gg].points += x * 0.25f;
    }
}

/* A node that its makers call the article's text, when it holds a good part of what the points chose; else 0. */
static uint32_t strong_hint(const struct dp_html *h, const struct dp_page_stat *st, uint32_t chosen)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < h->count; i++) {
        if (st[i].cut) {
            i = h->node[i].end - 1;
            continue;
        }
        if (!(kind[h->node[i].tag] & BLOCK) || (float)st[i].para_chars < (float)chosen * 0.5f || st[i].para_chars < 150) continue;
        if (!(st[i].words & DP_CLASS_ARTICLE)) continue;
        if (!best || i >= h->node[best].end || (float)st[i].para_chars > (float)st[best].para_chars * 0.9f) best = best && i >= h->node[best].end && st[i].para_chars < st[best].para_chars ? best : i;
    }
    return best;
}

static uint32_t choose(const struct dp_html *h, struct dp_page_stat *st)
{
    uint32_t best = 0, article = 0;
    float top = 0, total = 0;
    for (uint32_t i = 0; i < h->count; i++) {
        const struct dp_html_node *n = &h->node[i];
        if (st[i].cut) {
            i = n->end - 1;
            continue;
        }
        if (n->tag == DP_HTML_BODY) total = (float)st[i].para_chars;
        if (dp_span_is(h->attrs[n->attrs].role, "articleBody") && st[i].para_chars > 200 && (!article || st[i].para_chars > st[article].para_chars)) article = i;
        if (st[i].points <= 0 || n->tag == DP_HTML_HTML) continue;
        float x = st[i].points * (1.0f - (float)st[i].link_chars / (float)(st[i].chars + 1));
        if (n->tag == DP_HTML_ARTICLE || n->tag == DP_HTML_MAIN || st[i].words & DP_CLASS_CONTENT || dp_span_is(h->attrs[n->attrs].role, "main")) x *= 1.4f;
        if (x > top) top = x, best = i;
    }
    if (article && (float)st[article].para_chars > total * 0.4f) return article;
    uint32_t strong = strong_hint(h, st, st[best].para_chars);
    if (strong) return strong;
    /* Up while the parent holds clearly more of the page's paragraphs. */
    while (best && h->node[best].tag != DP_HTML_BODY) {
        uint32_t p = h->node[best].parent;
        if ((float)st[p].para_chars < (float)st[best].para_chars * 1.25f || p == best) {
            uint32_t g = h->node[p].parent;
            if (p == best || g == p || (float)st[g].para_chars < (float)st[best].para_chars * 1.6f) break;
        }
        best = p;
    }
    return best;
}

struct writer {
    struct dp_buf *out;
    size_t start;
    int breaks;  /* newlines owed before the next text */
    bool space, tab, item;
    size_t heading; /* length of out before the heading that was written last, SIZE_MAX after other text */
};

static void owe(struct writer *w, int n)
{
    if (w->breaks < n) w->breaks = n;
}

static void before_text(struct writer *w)
{
    struct dp_buf *o = w->out;
    if (o->len == w->start) w->breaks = 0, w->space = w->tab = false;
    if (w->breaks) dp_buf_add(o, "\n\n", (size_t)(w->breaks > 2 ? 2 : w->breaks));
    else if (w->tab) dp_buf_add_char(o, '\t');
    else if (w->space) dp_buf_add_char(o, ' ');
    if (w->item) dp_buf_add(o, "- ", 2);
    w->breaks = 0;
    w->space = w->tab = w->item = false;
}

static bool white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void write_text(struct writer *w, struct dp_span t, bool pre)
{
    const char *p = t.ptr, *e = p + t.len;
    if (pre) {
        while (w->breaks && p < e && *p == '\n') p++;
        if (p == e) return;
        before_text(w);
        dp_buf_add(w->out, p, (size_t)(e - p));
        return;
    }
    while (p < e && white(*p)) p++;
    if (p > t.ptr) w->space = true;
    if (p == e) return;
    before_text(w);
    char *o = dp_buf_reserve(w->out, (size_t)(e - p)), *from = o;
    if (!o) return;
    while (p < e) {
        if (!white(*p)) {
            *o++ = *p++;
            continue;
        }
        while (p < e && white(*p)) p++;
        if (p == e) w->space = true;
        else *o++ = ' ';
    }
    w->out->len += (size_t)(o - from);
}

static int gap_of(uint8_t tag)
{
    switch (tag) {
    case DP_HTML_LI: case DP_HTML_TR: case DP_HTML_DT: case DP_HTML_DD: return 1;
    default: return 2;
    }
}

static bool list_of_links(const struct dp_html *h, const struct dp_page_stat *st, uint32_t i)
{
    const struct dp_html_node *n = &h->node[i];
    const struct dp_page_stat *s = &st[i];
    if (!(kind[n->tag] & BLOCK) || s->links == 0 || kind[n->tag] & HEAD || s->chars == 0) return false;
    float density = (float)s->link_chars / (float)s->chars;
    bool list = n->tag == DP_HTML_UL || n->tag == DP_HTML_OL || n->tag == DP_HTML_DL || n->tag == DP_HTML_TABLE;
    if (list) return density > 0.6f && s->links > 1;
    if (n->tag == DP_HTML_P || n->tag == DP_HTML_LI) return density > 0.9f && (n->tag == DP_HTML_P || s->links > 2);
    return density > (s->chars < 200 ? 0.5f : 0.65f) && s->para_chars < 200;
}

/* Whether a short block only sends the reader elsewhere: the words it begins with. */
static bool sends_elsewhere(const struct dp_html *h, const struct dp_page_stat *st, uint32_t i)
{
    enum { CHARS_MAX = 200 };
    static const char *const starts[] = {"read more", "also read", "read also", "more on this", "related:", "related stor", "you may also",
        "lea tambi", "lea m\xC3\xA1s", "lee tambi", "le puede interesar", "te puede interesar", "mira tambi", "ver tambi", "veja tamb", "leia tamb", "leia mais",
        "\xC3\xA0 lire aussi", "\xC3\x80 lire aussi", "lire aussi", "voir aussi", "auch lesen", "lesen sie auch", "lies auch", "mehr zum thema", "auch interessant",
        "weitere artikel", "weitere themen", "schon gelesen", "das k\xC3\xB6nnte ", "passend dazu", "leggi anche", "lees ook", "l\xC3\xA4s ocks\xC3\xA5", "les ogs\xC3\xA5", "czytaj tak", "czytaj te",
        "zobacz tak", "\xC4\x8Dt\xC4\x9Bte tak", "\xD1\x87\xD0\xB8\xD1\x82\xD0\xB0\xD0\xB9\xD1\x82\xD0\xB5 \xD1\x82\xD0\xB0\xD0\xBA\xD0\xB6\xD0\xB5"};
    const struct dp_html_node *n = &h->node[i];
    if (!(kind[n->tag] & (PARA | HEAD)) || st[i].chars == 0 || st[i].chars > CHARS_MAX) return false;
    uint32_t t = i + 1;
    while (t < n->end && (h->node[t].tag != DP_HTML_TEXT || st[t].own == 0)) t++;
    if (t == n->end) return false;
    struct dp_span s = h->node[t].text;
    while (s.len && white(*s.ptr)) s.ptr++, s.len--;
    for (size_t k = 0; k < sizeof starts / sizeof *starts; k++) {
        size_t len = strlen(starts[k]);
        if (s.len >= len && strncasecmp(s.ptr, starts[k], len) == 0) return true;
    }
    return false;
}

/* The subtree of `root`; blocks are closed when the loop has passed their end. */
static void write_tree(struct writer *w, const struct dp_html *h, const struct dp_page_stat *st, uint32_t root, bool all)
{
    uint32_t up = root, pre_end = 0, head_end = 0;
    w->heading = SIZE_MAX;
    for (uint32_t i = root, end = h->node[root].end; i < end;) {
        for (; up != root && i >= h->node[up].end; up = h->node[up].parent)
            if (kind[h->node[up].tag] & BLOCK) owe(w, gap_of(h->node[up].tag));
        const struct dp_html_node *n = &h->node[i];
        if (st[i].cut || (i != root && !all && (list_of_links(h, st, i) || sends_elsewhere(h, st, i)))) {
            if (kind[n->tag] & BLOCK) owe(w, gap_of(n->tag));
            i = n->end;
            continue;
        }
        if (n->tag == DP_HTML_TEXT) {
            size_t was = w->out->len;
            write_text(w, n->text, i < pre_end);
            if (w->out->len > was && i >= head_end) w->heading = SIZE_MAX;
            else if (w->out->len > was && w->heading == SIZE_MAX) w->heading = was;
        }
        else if (n->tag == DP_HTML_BR) owe(w, w->breaks + 1 > 2 ? 2 : w->breaks + 1);
        else if (kind[n->tag] & CELL) w->tab = true;
        else if (kind[n->tag] & BLOCK) {
            owe(w, gap_of(n->tag));
            w->item = n->tag == DP_HTML_LI ? true : w->item && n->tag != DP_HTML_UL && n->tag != DP_HTML_OL;
            if (kind[n->tag] & HEAD && n->end > head_end) head_end = n->end;
            if (n->tag == DP_HTML_PRE && n->end > pre_end) pre_end = n->end;
        }
        if (n->end > i + 1) up = i;
        i++;
    }
    w->breaks = 2;
    w->item = false;
    /* Headings that nothing follows belonged to what was left out. */
    if (!all && w->heading != SIZE_MAX && w->heading > w->start) w->out->len = w->heading;
}

/* The paragraph between headline and text often stands outside the node that holds the text, and is named for what it is. Written are such nodes
 * between the last <h1> before `best` and best, inside an ancestor near enough to be the article. */
static void write_lead(struct writer *w, const struct dp_html *h, const struct dp_page_stat *st, uint32_t best)
{
    enum { LEVELS = 8, CHARS_MIN = 20, CHARS_MAX = 1500 };
    uint32_t a = best, from;
    for (int k = 0; k < LEVELS && h->node[h->node[a].parent].tag != DP_HTML_BODY && h->node[h->node[a].parent].tag != DP_HTML_HTML; k++) a = h->node[a].parent;
    from = a + 1;
    for (uint32_t i = a; i < best; i++)
        if (h->node[i].tag == DP_HTML_H1) from = h->node[i].end;
    for (uint32_t i = from; i < best; i++) {
        const struct dp_html_node *n = &h->node[i];
        if (never_content(n, false) || n->tag == DP_HTML_ASIDE || n->tag == DP_HTML_FOOTER) {
            i = n->end - 1;
            continue;
        }
        if (!(st[i].words & DP_CLASS_LEAD) || n->end > best || st[i].cut) continue;
        if (st[i].chars >= CHARS_MIN && st[i].chars <= CHARS_MAX && st[i].link_chars * 2 < st[i].chars) {
            write_tree(w, h, st, i, false);
            owe(w, 2);
        }
        i = n->end - 1;
    }
}

static uint32_t body_of(const struct dp_html *h)
{
    for (uint32_t i = 0; i < h->count; i++)
        if (h->node[i].tag == DP_HTML_BODY) return i;
    return 0;
}

static void cut(const struct dp_html *h, struct dp_page_stat *st, uint32_t i)
{
    for (uint32_t k = i; k < h->node[i].end; k++) st[k].cut = true;
}

/* Look at every node once: what its text counts, what its name says. */
static void look(const struct dp_html *h, struct dp_page_stat *st)
{
    for (uint32_t i = 0; i < h->count; i++) {
        const struct dp_html_node *n = &h->node[i];
        st[i] = (struct dp_page_stat){0};
        if (n->tag == DP_HTML_TEXT) st[i].own = count_text(n->text);
        else if (n->attrs) st[i].words = (uint8_t)(dp_class_words(h->attrs[n->attrs].cls) | dp_class_words(h->attrs[n->attrs].id));
    }
}

static void cut_never(const struct dp_html *h, struct dp_page_stat *st, bool all)
{
    for (uint32_t i = 0; i < h->count; i++) {
        if (!never_content(&h->node[i], all)) continue;
        cut(h, st, i);
        i = h->node[i].end - 1;
    }
}

/* Themes name whole pages "has-sidebar" or "menu-open": what holds a good part of the paragraphs isn't furniture. */
static void cut_furniture(const struct dp_html *h, struct dp_page_stat *st)
{
    sum_up(h, st);
    uint32_t total = st[0].para_chars;
    for (uint32_t i = 0; i < h->count; i++) {
        if (!st[i].cut) {
            if ((double)st[i].para_chars > (double)total * FURNITURE_SHARE || !named_furniture(h, &h->node[i], st[i].words)) continue;
            cut(h, st, i);
        }
        i = h->node[i].end - 1;
    }
}

int dp_main_text(struct dp_main_text *m, const struct dp_html *h, bool all, struct dp_buf *out)
{
    if (h->count == 0) return DP_OK;
    if (h->count > m->cap) {
        free(m->stat);
        m->cap = 0;
        m->stat = malloc((size_t)h->count * sizeof *m->stat);
        if (!m->stat) return DP_NOMEM;
        m->cap = h->count;
    }
    struct writer w = {.out = out, .start = out->len};
    uint32_t body = body_of(h);
    look(h, m->stat);
    cut_never(h, m->stat, all);
    if (!all) {
        cut_furniture(h, m->stat);
        sum_up(h, m->stat);
        give_points(h, m->stat);
        uint32_t best = choose(h, m->stat);
        if (best) write_lead(&w, h, m->stat, best);
        write_tree(&w, h, m->stat, best ? best : body, false);
        if (out->len - w.start >= 250) return DP_OK;
        /* Little found: all that isn't furniture; then all there is. */
        size_t had = out->len - w.start;
        out->len = w.start;
        w = (struct writer){.out = out, .start = out->len};
        write_tree(&w, h, m->stat, body, false);
        if (out->len - w.start >= 100 || out->len - w.start > had * 2) return DP_OK;
        out->len = w.start;
        w = (struct writer){.out = out, .start = out->len};
        for (uint32_t i = 0; i < h->count; i++) m->stat[i].cut = false;
        cut_never(h, m->stat, true);
    }
    write_tree(&w, h, m->stat, body, true);
    return DP_OK;
}

void dp_main_text_release(struct dp_main_text *m)
{
    free(m->stat);
    memset(m, 0, sizeof *m);
}

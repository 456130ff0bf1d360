/* clean/html_build.c - tokens to the flat tree.
 *
 * Tree construction of WHATWG HTML 13.2.6 as far as text and its order depend on it: implied html, head, body, tbody and tr; what closes <p>, <li>, <dd>,
 * headings and cells; scopes; <select>; raw text; SVG left out. Nodes are written once, in the order of the page, and get their end when
 * their element closes, so nothing is ever moved. That is where this tree departs from the standard's:
 *  - misplaced content of tables stays where it stands instead of moving in front of the table;
 *  - of the formatting elements only <a> is followed (who reads the tree counts link text). A link closed inside a block that began in it ends there, and the
 *    open blocks go on as new nodes of the same kind; a link that a block's end cut off begins again at the next text;
 *  - <noscript> is raw text, as where scripts run;
 *  - a removed <form> ends with the block that is open in it;
 *  - <frameset> counts for nothing.
 * Cost: constant for a tag but for searches of the stack of open elements, which DEPTH_MAX bounds; a search for what isn't open costs
 * nothing (`opened`). */
#include "clean/html_elements.h"
#include "clean/html_refs.h"
#include "clean/html_tree.h"

#include "base/err.h"

#include <stdlib.h>
#include <strings.h>

enum { DEPTH_MAX = 512, NODES_FREE = 4096, KEEP_BYTES = 64 << 20 };
#define NONE UINT32_MAX

/* An open element. */
struct open {
    uint64_t key;
    uint32_t node; /* NONE: it has none */
    uint32_t flags;
    uint8_t id;
};
/* The link that text belongs to. */
struct link {
    bool active;
    uint32_t at; /* place in open[]; NONE: cut off, to begin again at the next text */
    uint32_t attrs;
};
struct build {
    struct dp_html *h;
    struct dp_html_tokens *t;
    struct dp_html_limit limit;
    int rc;
    uint32_t nodes_max;
    unsigned depth, saves, svg, svg_html; /* svg: nested <svg>; svg_html: places in it where HTML may stand */
    bool body, quirks, form, select, layout, nul;
    uint16_t opened[E_COUNT];
    struct open open[DEPTH_MAX + 1];
    struct link link, saved[DEPTH_MAX + 1];
};

/* --- nodes --- */

static void refuse(struct build *b, const char *what, double value, double limit)
{
    if (b->rc >= 0) b->limit = (struct dp_html_limit){what, value, limit};
    if (b->rc >= 0) b->rc = DP_LIMIT;
}

/* Room for one more in an array of `cap` entries of `size` bytes. */
static bool grow(struct build *b, void **array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap) return true;
    uint32_t more = *cap ? *cap * 2 : 1024;
    void *p = realloc(*array, more * size);
    if (!p) {
        b->rc = DP_NOMEM;
        return false;
    }
    *array = p;
    *cap = more;
    return true;
}

/* Its index; 0 on failure, which b->rc tells. */
static uint32_t add_node(struct build *b, uint8_t tag, uint32_t attrs, struct dp_span text)
{
    struct dp_html *h = b->h;
    if (h->count >= b->nodes_max) refuse(b, "nodes", h->count, b->nodes_max);
    if (b->rc < 0 || !grow(b, (void **)&h->node, h->count, &h->node_cap, sizeof *h->node)) return 0;
    uint32_t parent = 0;
    for (unsigned d = b->depth; d-- > 0;)
        if (b->open[d].node != NONE) {
            parent = b->open[d].node;
            break;
        }
    h->node[h->count] = (struct dp_html_node){.tag = tag, .parent = parent, .end = h->count + 1, .attrs = attrs, .text = text};
    return h->count++;
}

/* What a reader gets of raw bytes: themselves where nothing has to be decoded. */
static struct dp_span decoded(struct build *b, struct dp_span raw, unsigned how)
{
    if (raw.len == 0 || (!(b->nul && memchr(raw.ptr, 0, raw.len)) && !(how && memchr(raw.ptr, '&', raw.len)))) return raw;
    char *o = dp_arena_alloc(&b->h->mem, raw.len * 3);
    if (!o) {
        b->rc = DP_NOMEM;
        return dp_span("", 0);
    }
    size_t n = dp_html_decode(raw, how, o), kept = 0;
    for (size_t i = 0; b->nul && i < n; i++)
        if (o[i]) o[kept++] = o[i];
    return dp_span(o, b->nul ? kept : n);
}

static bool has_word(struct dp_span s, const char *w)
{
    size_t n = strlen(w);
    for (size_t i = 0; i + n <= s.len; i++)
        if (strncasecmp(s.ptr + i, w, n) == 0) return true;
    return false;
}

/* The attributes of the tag at hand that somebody reads; 0 when there are none. */
static uint32_t attributes(struct build *b)
{
    struct dp_html *h = b->h;
    struct dp_span v[ATTR_KINDS];
    unsigned seen = 0;
    for (uint32_t i = 0; i < b->t->attrs && i < DP_HTML_ATTRS_MAX; i++) {
        enum dp_html_attr_kind w = dp_html_attr_of(b->t->attr[i].name, b->t->e);
        if (w == ATTR_OTHER || seen >> w & 1) continue;
        seen |= 1u << w;
        v[w] = decoded(b, b->t->attr[i].value, DP_HTML_DECODE_REFS | DP_HTML_DECODE_ATTRIBUTE);
    }
    if (!(seen & ~(1u << ATTR_LANG))) return 0;
    struct dp_html_attrs a = {dp_span("", 0), dp_span("", 0), dp_span("", 0), false};
    if (seen >> ATTR_CLASS & 1) a.cls = v[ATTR_CLASS];
    if (seen >> ATTR_ID & 1) a.id = v[ATTR_ID];
    if (seen >> ATTR_ITEMPROP & 1) a.role = v[ATTR_ITEMPROP];
    if (seen >> ATTR_ROLE & 1 && v[ATTR_ROLE].len) a.role = v[ATTR_ROLE];
    a.hidden = seen >> ATTR_HIDDEN & 1 || (seen >> ATTR_ARIA_HIDDEN & 1 && dp_span_is(v[ATTR_ARIA_HIDDEN], "true")) ||
               (seen >> ATTR_STYLE & 1 && (has_word(v[ATTR_STYLE], "display:none") || has_word(v[ATTR_STYLE], "display: none")));
    if (!a.cls.len && !a.id.len && !a.role.len && !a.hidden) return 0;
    if (!grow(b, (void **)&h->attrs, h->attrs_count, &h->attrs_cap, sizeof *h->attrs)) return 0;
    h->attrs[h->attrs_count] = a;
    return h->attrs_count++;
}

static void page_language(struct build *b)
{
    for (uint32_t i = 0; i < b->t->attrs && i < DP_HTML_ATTRS_MAX && !b->h->lang.len; i++)
        if (dp_html_attr_of(b->t->attr[i].name, b->t->e) == ATTR_LANG) b->h->lang = decoded(b, b->t->attr[i].value, DP_HTML_DECODE_REFS | DP_HTML_DECODE_ATTRIBUTE);
}

/* --- the stack of open elements --- */

static void push_open(struct build *b, struct open o)
{
    if (b->depth >= DEPTH_MAX) refuse(b, "nested elements", b->depth + 1, DEPTH_MAX);
    if (b->rc < 0) return;
    if (o.flags & MARKER) {
        b->saved[b->saves++] = b->link;
        b->link.active = false;
    }
    b->opened[o.id]++;
    b->open[b->depth++] = o;
}

static void push(struct build *b, const struct dp_html_element *x, uint32_t attrs)
{
    uint32_t node = add_node(b, x->tag, attrs, dp_span("", 0));
    push_open(b, (struct open){x->key, node, x->flags, x->id});
}

static void pop_one(struct build *b)
{
    const struct open *o = &b->open[--b->depth];
    if (o->node != NONE) b->h->node[o->node].end = b->h->count;
    b->opened[o->id]--;
    if (b->link.active && b->link.at == b->depth) b->link.at = NONE;
    if (o->flags & MARKER) b->link = b->saved[--b->saves];
}

static void pop_to(struct build *b, unsigned depth)
{
    while (b->depth > depth) pop_one(b);
    /* Forms that were removed while something in them was open. */
    while (b->depth && b->open[b->depth - 1].id == E_unknown && b->open[b->depth - 1].flags & BLOCK_END) pop_one(b);
}

/* The place of the innermost open `id` that nothing of `barrier` hides, or -1. */
static int find_open(const struct build *b, unsigned id, uint32_t barrier)
{
    if (!b->opened[id]) return -1;
    for (int i = (int)b->depth - 1; i >= 0; i--) {
        if (b->open[i].id == id) return i;
        if (b->open[i].flags & barrier) return -1;
    }
    return -1;
}

static bool close_open(struct build *b, unsigned id, uint32_t barrier)
{
    int i = find_open(b, id, barrier);
    if (i >= 0) pop_to(b, (unsigned)i);
    return i >= 0;
}

static void close_p(struct build *b)
{
    close_open(b, E_p, SCOPE | BUTTON_SCOPE);
}

/* --- links --- */

/* </a>, and <a> inside a link. Blocks open in the link go on as nodes behind it. */
static void end_link(struct build *b)
{
    struct open again[DEPTH_MAX];
    unsigned n = 0;
    if (!b->link.active) return;
    if (b->link.at != NONE) {
        unsigned from = b->link.at + 1, to = b->depth;
        while (from < to && !(b->open[from].flags & SPECIAL)) from++;
        for (unsigned i = from; i < to; i++) again[n++] = b->open[i];
        pop_to(b, b->link.at);
    }
    b->link.active = false;
    for (unsigned i = 0; i < n && b->rc >= 0; i++) {
        if (again[i].node != NONE) again[i].node = add_node(b, b->h->node[again[i].node].tag, b->h->node[again[i].node].attrs, dp_span("", 0));
        push_open(b, again[i]);
    }
}

static void begin_link(struct build *b, uint32_t attrs)
{
    push(b, &dp_html_elements[E_a], attrs);
    b->link = (struct link){true, b->depth - 1, attrs};
}

/* --- text --- */

static void begin_body(struct build *b, uint32_t attrs)
{
    pop_to(b, 1);
    push(b, &dp_html_elements[E_body], attrs);
    b->body = b->layout = true;
}

static void characters(struct build *b)
{
    struct dp_span s = b->t->text;
    if (b->svg || b->select) return;
    size_t i = 0;
    while (i < s.len && dp_html_white(s.ptr[i])) i++;
    bool blank = i == s.len;
    if (blank && (!b->body || (b->layout && !b->opened[E_pre] && !b->opened[E_listing] && !b->opened[E_xmp] && !b->opened[E_plaintext]))) return;
    if (!b->body) begin_body(b, 0);
    if (!blank) {
        b->layout = false;
        if (b->link.active && b->link.at == NONE) begin_link(b, b->link.attrs);
    }
    bool refs = b->t->text_mode == DP_HTML_DATA || b->t->text_mode == DP_HTML_RCDATA;
    s = decoded(b, s, refs ? DP_HTML_DECODE_REFS : 0);
    if (s.len) add_node(b, DP_HTML_TEXT, 0, s);
}

/* --- start tags --- */

/* To the end tag of raw text; its characters, which have come as one token. */
static struct dp_span raw_content(struct build *b, enum dp_html_mode mode)
{
    struct dp_span s = dp_span("", 0);
    b->t->mode = mode;
    while (dp_html_token_next(b->t) == DP_HTML_CHARACTERS) s = b->t->text;
    return s;
}

static void skip_raw(struct build *b, const struct dp_html_element *x)
{
    raw_content(b, x->id == E_script ? DP_HTML_SCRIPT_DATA : x->id == E_textarea ? DP_HTML_RCDATA : DP_HTML_RAWTEXT);
}

static void title(struct build *b)
{
    struct dp_span s = raw_content(b, DP_HTML_RCDATA);
    if (!b->h->title.len) b->h->title = decoded(b, s, DP_HTML_DECODE_REFS);
}

/* Whether misplaced content would stand in a table: no cell or caption is open in the innermost one. */
static bool in_table(const struct build *b)
{
    if (!b->opened[E_table]) return false;
    for (unsigned d = b->depth; d-- > 0;) {
        if (b->open[d].flags & MARKER) return false;
        if (b->open[d].id == E_table || b->open[d].flags & TABLE_PART) return true;
    }
    return false;
}

/* The place of the innermost table, or -1 when there is none or a <template> hides it. */
static int innermost_table(const struct build *b)
{
    int d = b->opened[E_table] ? (int)b->depth - 1 : -1;
    while (d >= 0 && b->open[d].id != E_table) d = b->open[d].id == E_template ? -1 : d - 1;
    return d;
}

/* The innermost of three kinds above `floor`, or -1. */
static int part_above(const struct build *b, int floor, unsigned x, unsigned y, unsigned z)
{
    for (int i = (int)b->depth - 1; i > floor; i--)
        if (b->open[i].id == x || b->open[i].id == y || b->open[i].id == z) return i;
    return -1;
}

static void table_part(struct build *b, const struct dp_html_element *x)
{
    int t = innermost_table(b);
    if (t < 0) return;
    bool cell = x->id == E_td || x->id == E_th;
    if (x->id == E_col || x->id == E_colgroup) {
        close_open(b, E_caption, TABLE_SCOPE);
        return;
    }
    uint32_t attrs = attributes(b);
    int row = cell ? part_above(b, t, E_tr, E_tr, E_tr) : -1;
    if (row >= 0) pop_to(b, (unsigned)row + 1);
    else if (cell || x->id == E_tr) {
        int rows = part_above(b, t, E_tbody, E_thead, E_tfoot);
        pop_to(b, (unsigned)(rows >= 0 ? rows : t) + 1);
        if (rows < 0) push(b, &dp_html_elements[E_tbody], 0);
        if (cell) push(b, &dp_html_elements[E_tr], 0);
    } else pop_to(b, (unsigned)t + 1);
    push(b, x, attrs);
}

/* <li> ends the <li> before it, unless a block that isn't <address>, <div> or <p> stands between. */
static void close_item(struct build *b, unsigned id, unsigned other)
{
    if (!b->opened[id] && !b->opened[other]) return;
    for (unsigned d = b->depth; d-- > 0;) {
        const struct open *o = &b->open[d];
        if (o->id == id || o->id == other) {
            pop_to(b, d);
            return;
        }
        if (o->flags & SPECIAL && o->id != E_address && o->id != E_div && o->id != E_p) return;
    }
}

/* Elements whose start is a matter of their own; false for all others. */
static bool start_special(struct build *b, const struct dp_html_element *x)
{
    switch (x->id) {
    case E_html: page_language(b); return true;
    case E_head: case E_body: return true;
    case E_title: title(b); return true;
    case E_select: b->select = true; return true;
    case E_svg:
        b->svg = !b->t->self_closing;
        b->svg_html = 0;
        b->t->foreign = b->svg > 0;
        return true;
    case E_a:
        end_link(b);
        begin_link(b, attributes(b));
        return true;
    case E_form:
        if ((b->form && !b->opened[E_template]) || in_table(b)) return true;
        b->form = true;
        return false;
    case E_table:
        if (in_table(b)) close_open(b, E_table, 0);
        if (b->quirks) push(b, x, attributes(b));
        return b->quirks;
    case E_li: close_item(b, E_li, E_li); close_p(b); return false;
    case E_dd: case E_dt: close_item(b, E_dd, E_dt); close_p(b); return false;
    case E_button: close_open(b, E_button, SCOPE); return false;
    case E_option: case E_optgroup:
        if (b->depth && b->open[b->depth - 1].id == E_option) pop_one(b);
        return false;
    case E_xmp: b->t->mode = DP_HTML_RAWTEXT; return false;
    case E_plaintext: b->t->mode = DP_HTML_PLAINTEXT; return false;
    default: return false;
    }
}

static void start_in_body(struct build *b, const struct dp_html_element *x, uint64_t key)
{
    if (x->flags & LAYOUT) b->layout = true;
    if (x->flags & TABLE_PART) {
        table_part(b, x);
        return;
    }
    if (start_special(b, x)) return;
    if (x->flags & CLOSES_P || (x->id == E_table && !b->quirks)) close_p(b);
    if (x->flags & HEADING && b->depth && b->open[b->depth - 1].flags & HEADING) pop_to(b, b->depth - 1);
    uint32_t attrs = attributes(b);
    if (x->flags & VOID) add_node(b, x->tag, attrs, dp_span("", 0));
    else if (x->id != E_unknown && x->tag != DP_HTML_OTHER) push(b, x, attrs);
    else if (!(b->opened[E_math] && b->t->self_closing)) {
        uint32_t node = attrs || x->flags & LAYOUT ? add_node(b, x->tag, attrs, dp_span("", 0)) : NONE;
        push_open(b, (struct open){key, node, x->flags, x->id});
        b->t->foreign = b->opened[E_math] > 0;
    }
}

/* A start tag before the body; false when it begins the body. */
static bool start_in_head(struct build *b, const struct dp_html_element *x)
{
    if (x->id == E_html) page_language(b);
    else if (x->id == E_body) begin_body(b, attributes(b));
    else if (x->id == E_title) title(b);
    else return x->id == E_head || (x->flags & IN_HEAD && x->flags & GONE);
    return true;
}

/* A tag inside <svg>; false when it ends the SVG and counts. */
static bool inside_svg(struct build *b, const struct dp_html_element *x, bool end)
{
    bool html = x->id == E_foreignobject || x->id == E_desc || x->id == E_title;
    if (!end && x->flags & BREAKOUT && !b->svg_html) {
        b->svg = 0;
        b->t->foreign = false;
        return false;
    }
    if (b->t->self_closing && !end) return true;
    if (x->id == E_svg) b->svg += end ? -1u : 1u;
    else if (html && !(end && !b->svg_html)) b->svg_html += end ? -1u : 1u;
    b->t->foreign = b->svg > 0;
    return true;
}

/* A tag inside <select>; false when it ends the select and counts. */
static bool inside_select(struct build *b, const struct dp_html_element *x, bool end)
{
    bool table = x->id == E_table || (x->flags & TABLE_PART && x->id != E_col && x->id != E_colgroup);
    bool counts = end ? table && find_open(b, x->id, TABLE_SCOPE) >= 0 : table ? b->opened[E_table] > 0 : x->id == E_input || x->id == E_keygen || x->id == E_textarea;
    if (counts || x->id == E_select) b->select = false;
    else if (x->id == E_script && !end) skip_raw(b, x);
    return !counts;
}

static void start_tag(struct build *b)
{
    uint64_t key;
    const struct dp_html_element *x = dp_html_element_of(b->t->text, b->t->e, &key);
    if (b->t->attrs > DP_HTML_ATTRS_MAX) refuse(b, "attributes on a tag", b->t->attrs, DP_HTML_ATTRS_MAX);
    if (b->svg && inside_svg(b, x, false)) return;
    if (b->select && inside_select(b, x, false)) return;
    if (x->flags & RAW && (b->body || x->flags & IN_HEAD)) {
        skip_raw(b, x);
        return;
    }
    if (!b->body) {
        if (start_in_head(b, x)) return;
        begin_body(b, 0);
        if (x->flags & RAW) {
            skip_raw(b, x);
            return;
        }
    }
    if (!(x->flags & GONE)) start_in_body(b, x, key);
}

/* --- end tags --- */

static void end_heading(struct build *b)
{
    for (unsigned d = b->depth; d-- > 0 && !(b->open[d].flags & SCOPE);)
        if (b->open[d].flags & HEADING) {
            pop_to(b, d);
            return;
        }
}

/* The form leaves the stack; what is open in it stays. */
static void end_form(struct build *b)
{
    int i = find_open(b, E_form, SCOPE);
    b->form = false;
    if (i < 0) return;
    if ((unsigned)i + 1 == b->depth) {
        pop_to(b, (unsigned)i);
        return;
    }
    b->opened[E_form]--;
    b->opened[E_unknown]++;
    b->open[i] = (struct open){0, b->open[i].node, BLOCK_END, E_unknown};
}

static void end_other(struct build *b, const struct dp_html_element *x, uint64_t key)
{
    if (!b->opened[x->id]) return;
    for (unsigned d = b->depth; d-- > 0;) {
        const struct open *o = &b->open[d];
        if (o->id == x->id && (x->id != E_unknown || o->key == key)) {
            pop_to(b, d);
            return;
        }
        if (o->flags & SPECIAL) return;
    }
}

static void end_tag(struct build *b)
{
    uint64_t key;
    const struct dp_html_element *x = dp_html_element_of(b->t->text, b->t->e, &key);
    if (b->svg && inside_svg(b, x, true)) return;
    if (b->select && inside_select(b, x, true)) return;
    if (!b->body) {
        if (x->id != E_br && x->id != E_p) return;
        begin_body(b, 0);
    }
    if (x->flags & LAYOUT) b->layout = true;
    if (x->flags & (GONE | RAW) || x->id == E_html || x->id == E_head || x->id == E_body) return;
    if (x->id == E_p) {
        if (!close_open(b, E_p, SCOPE | BUTTON_SCOPE)) add_node(b, DP_HTML_P, 0, dp_span("", 0));
    } else if (x->id == E_br) add_node(b, DP_HTML_BR, 0, dp_span("", 0));
    else if (x->id == E_a) end_link(b);
    else if (x->id == E_form) end_form(b);
    else if (x->id == E_li) close_open(b, E_li, SCOPE | LIST_SCOPE);
    else if (x->flags & HEADING) end_heading(b);
    else if (x->id == E_table || x->flags & TABLE_PART) close_open(b, x->id, TABLE_SCOPE);
    else if (x->id == E_template) close_open(b, x->id, 0);
    else if (x->flags & BLOCK_END || x->id == E_dd || x->id == E_dt) close_open(b, x->id, SCOPE);
    else end_other(b, x, key);
    b->t->foreign = b->opened[E_math] > 0;
}

/* Old document types let tables stand in paragraphs. */
static void document_type(struct build *b)
{
    static const char *const old[] = {"-//IETF//", "-//W3C//DTD HTML 3", "-//W3C//DTD HTML 4.0 ", "-//W3C//DTD HTML 4.01 ", "-//W3O//", "-//Netscape", "-//Microsoft", "-//SoftQuad"};
    struct dp_span id = b->t->public_id;
    b->quirks = b->t->force_quirks || b->t->text.len != 4 || strncasecmp(b->t->text.ptr, "html", 4) != 0;
    for (size_t i = 0; id.ptr && i < sizeof old / sizeof *old; i++) {
        size_t n = strlen(old[i]);
        if (id.len < n || strncasecmp(id.ptr, old[i], n) != 0) continue;
        bool four = i == 3 || i == 2, strict = four && id.len > n && (id.ptr[n] == '/' || strncasecmp(id.ptr + n, "Strict", 6) == 0);
        if (!strict && !(i == 3 && b->t->system_id.ptr)) b->quirks = true;
    }
}

/* --- */

void dp_html_init(struct dp_html *h)
{
    memset(h, 0, sizeof *h);
    dp_arena_init(&h->mem, SIZE_MAX);
}

void dp_html_release(struct dp_html *h)
{
    dp_arena_release(&h->mem);
    free(h->node);
    free(h->attrs);
    dp_html_init(h);
}

int dp_html_parse(struct dp_html *h, struct dp_span page, struct dp_html_limit *limit)
{
    dp_html_elements_init();
    size_t held = h->node_cap * sizeof *h->node + h->attrs_cap * sizeof *h->attrs + h->mem.bytes_held;
    if (held > KEEP_BYTES) dp_html_release(h); /* one giant page isn't a reason to hold on to its memory */
    dp_arena_reset(&h->mem);
    h->count = 0;
    h->attrs_count = 1;
    h->title = h->lang = dp_span("", 0);
    struct build b = {.h = h, .t = &h->tokens, .quirks = true, .layout = true, .nul = page.len && memchr(page.ptr, 0, page.len)};
    b.nodes_max = (uint32_t)(page.len / 2 > UINT32_MAX / 4 ? UINT32_MAX / 4 : page.len / 2) + NODES_FREE;
    if (grow(&b, (void **)&h->attrs, 0, &h->attrs_cap, sizeof *h->attrs)) h->attrs[0] = (struct dp_html_attrs){0};
    dp_html_tokens_init(b.t, page);
    push(&b, &dp_html_elements[E_html], 0);
    push(&b, &dp_html_elements[E_head], 0);
    for (enum dp_html_token k = DP_HTML_COMMENT; b.rc >= 0 && k != DP_HTML_END_OF_FILE;) {
        k = dp_html_token_next(b.t);
        if (k == DP_HTML_CHARACTERS) characters(&b);
        else if (k == DP_HTML_START_TAG) start_tag(&b);
        else if (k == DP_HTML_END_TAG) end_tag(&b);
        else if (k == DP_HTML_DOCTYPE && h->count == 2) document_type(&b);
    }
    if (b.rc >= 0 && !b.body) begin_body(&b, 0);
    pop_to(&b, 0);
    *limit = b.limit;
    return b.rc;
}

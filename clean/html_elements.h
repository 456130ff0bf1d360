/* clean/html_elements.h - what the tree builder knows of each element and attribute by its name. Private to clean/html_build.c. */
#ifndef DP_CLEAN_HTML_ELEMENTS_H
#define DP_CLEAN_HTML_ELEMENTS_H

#include "base/span.h"
#include "clean/html_tree.h"

#include <stdint.h>

enum {
    SPECIAL = 1 << 0,    /* ends the search of an end tag */
    CLOSES_P = 1 << 1,   /* its start tag ends a paragraph */
    BLOCK_END = 1 << 2,  /* its end tag closes it where it is in scope */
    GONE = 1 << 3,       /* no node, not followed */
    RAW = 1 << 4,        /* content is raw and nobody reads it */
    IN_HEAD = 1 << 5,    /* doesn't begin the body */
    MARKER = 1 << 6,     /* links don't reach into it */
    SCOPE = 1 << 7,      /* the scopes of the standard: what ends each search */
    LIST_SCOPE = 1 << 8,
    BUTTON_SCOPE = 1 << 9,
    TABLE_SCOPE = 1 << 10,
    TABLE_PART = 1 << 11,
    HEADING = 1 << 12,
    LAYOUT = 1 << 13,    /* white space beside it is nothing */
    BREAKOUT = 1 << 14,  /* its start tag ends SVG */
    VOID = 1 << 15,      /* a node without content */
    /* shorthands */
    BLOCK = SPECIAL | CLOSES_P | BLOCK_END | LAYOUT,
    CELLS = SPECIAL | MARKER | SCOPE | TABLE_PART | LAYOUT,
    ROWS = SPECIAL | TABLE_PART | LAYOUT,
    FRAME = SPECIAL | MARKER | SCOPE,
};

/* Elements by name: tag of the node, flags. */
#define ELEMENTS(X)                                                                                                              \
    X(html, HTML, SPECIAL | SCOPE | TABLE_SCOPE) X(head, HEAD, SPECIAL | BREAKOUT) X(body, BODY, SPECIAL | BREAKOUT)              \
    X(base, OTHER, GONE | IN_HEAD) X(basefont, OTHER, GONE | IN_HEAD) X(bgsound, OTHER, GONE | IN_HEAD)                           \
    X(link, OTHER, GONE | IN_HEAD) X(meta, OTHER, GONE | IN_HEAD | BREAKOUT) X(title, OTHER, IN_HEAD)                             \
    X(script, OTHER, RAW | IN_HEAD) X(style, OTHER, RAW | IN_HEAD) X(noframes, OTHER, RAW | IN_HEAD)                              \
    X(noscript, OTHER, RAW | IN_HEAD) X(iframe, OTHER, RAW) X(noembed, OTHER, RAW) X(textarea, OTHER, RAW)                        \
    X(template, TEMPLATE, FRAME | TABLE_SCOPE) X(frameset, OTHER, GONE) X(frame, OTHER, GONE)      \
    X(address, ADDRESS, BLOCK) X(article, ARTICLE, BLOCK) X(aside, ASIDE, BLOCK) X(blockquote, BLOCKQUOTE, BLOCK | BREAKOUT)      \
    X(center, CENTER, BLOCK | BREAKOUT) X(details, DETAILS, BLOCK) X(dialog, OTHER, BLOCK) X(dir, OTHER, BLOCK)                   \
    X(div, DIV, BLOCK | BREAKOUT) X(dl, DL, BLOCK | BREAKOUT) X(fieldset, FIELDSET, BLOCK) X(figcaption, FIGCAPTION, BLOCK)       \
    X(figure, FIGURE, BLOCK) X(footer, FOOTER, BLOCK) X(header, HEADER, BLOCK) X(hgroup, HGROUP, BLOCK) X(main, MAIN, BLOCK)      \
    X(menu, MENU, BLOCK | BREAKOUT) X(nav, NAV, BLOCK) X(ol, OL, BLOCK | LIST_SCOPE | BREAKOUT) X(search, OTHER, BLOCK)           \
    X(section, SECTION, BLOCK) X(summary, SUMMARY, BLOCK) X(ul, UL, BLOCK | LIST_SCOPE | BREAKOUT)                                \
    X(pre, PRE, BLOCK | BREAKOUT) X(listing, PRE, BLOCK | BREAKOUT) X(xmp, PRE, BLOCK) X(plaintext, PRE, BLOCK)                   \
    X(p, P, SPECIAL | CLOSES_P | LAYOUT | BREAKOUT) X(form, FORM, SPECIAL | CLOSES_P | LAYOUT)                                    \
    X(h1, H1, HEADING | SPECIAL | CLOSES_P | LAYOUT | BREAKOUT) X(h2, H2, HEADING | SPECIAL | CLOSES_P | LAYOUT | BREAKOUT)       \
    X(h3, H3, HEADING | SPECIAL | CLOSES_P | LAYOUT | BREAKOUT) X(h4, H4, HEADING | SPECIAL | CLOSES_P | LAYOUT | BREAKOUT)       \
    X(h5, H5, HEADING | SPECIAL | CLOSES_P | LAYOUT | BREAKOUT) X(h6, H6, HEADING | SPECIAL | CLOSES_P | LAYOUT | BREAKOUT)       \
    X(li, LI, SPECIAL | LAYOUT | BREAKOUT) X(dd, DD, SPECIAL | LAYOUT | BREAKOUT) X(dt, DT, SPECIAL | LAYOUT | BREAKOUT)          \
    X(hr, HR, CLOSES_P | LAYOUT | BREAKOUT | VOID) X(br, BR, LAYOUT | BREAKOUT | VOID) X(a, A, 0)                                 \
    X(button, BUTTON, SPECIAL | BLOCK_END | BUTTON_SCOPE) X(object, OBJECT, FRAME | BLOCK_END)                                    \
    X(applet, OTHER, FRAME | BLOCK_END) X(marquee, OTHER, FRAME | BLOCK_END)                                                      \
    X(audio, AUDIO, 0) X(video, VIDEO, 0) X(canvas, CANVAS, 0) X(legend, LEGEND, LAYOUT)                                          \
    X(select, OTHER, SPECIAL) X(option, OPTION, 0) X(optgroup, OPTION, 0) X(input, OTHER, GONE) X(keygen, OTHER, GONE)            \
    X(table, TABLE, SPECIAL | SCOPE | TABLE_SCOPE | LAYOUT | BREAKOUT) X(caption, CAPTION, CELLS) X(td, TD, CELLS) X(th, TH, CELLS) \
    X(tbody, TBODY, ROWS) X(thead, THEAD, ROWS) X(tfoot, TFOOT, ROWS) X(tr, TR, ROWS) X(col, OTHER, ROWS) X(colgroup, OTHER, ROWS) \
    X(svg, OTHER, 0) X(math, OTHER, 0) X(foreignobject, OTHER, 0) X(desc, OTHER, 0)                                               \
    X(b, OTHER, GONE | BREAKOUT) X(big, OTHER, GONE | BREAKOUT) X(code, OTHER, GONE | BREAKOUT) X(em, OTHER, GONE | BREAKOUT)     \
    X(i, OTHER, GONE | BREAKOUT) X(nobr, OTHER, GONE | BREAKOUT) X(s, OTHER, GONE | BREAKOUT) X(small, OTHER, GONE | BREAKOUT)    \
    X(strike, OTHER, GONE | BREAKOUT) X(strong, OTHER, GONE | BREAKOUT) X(tt, OTHER, GONE | BREAKOUT) X(u, OTHER, GONE | BREAKOUT) \
    X(embed, OTHER, GONE | BREAKOUT) X(img, OTHER, GONE | BREAKOUT) X(image, OTHER, GONE) X(font, OTHER, GONE)                    \
    X(abbr, OTHER, GONE) X(acronym, OTHER, GONE) X(area, OTHER, GONE) X(wbr, OTHER, GONE) X(param, OTHER, GONE)                   \
    X(source, OTHER, GONE) X(track, OTHER, GONE)                                                                                  \
    X(span, OTHER, BREAKOUT) X(sub, OTHER, BREAKOUT) X(sup, OTHER, BREAKOUT) X(ruby, OTHER, BREAKOUT) X(var, OTHER, BREAKOUT)

enum {
    E_unknown, /* by its key */
#define X(name, tag, flags) E_##name,
    ELEMENTS(X)
#undef X
    E_COUNT
};
struct dp_html_element {
    const char *name;
    uint64_t key;
    uint8_t id, tag, len;
    uint32_t flags;
};
extern struct dp_html_element dp_html_elements[E_COUNT];

/* Before the next two; once is enough, from any thread. */
void dp_html_elements_init(void);
/* By a tag's raw name, whatever its case; `e` ends the page. *key stands for the name of elements that aren't in the table (E_unknown). */
const struct dp_html_element *dp_html_element_of(struct dp_span name, const char *e, uint64_t *key);

enum dp_html_attr_kind { ATTR_OTHER, ATTR_CLASS, ATTR_ID, ATTR_ROLE, ATTR_ITEMPROP, ATTR_STYLE, ATTR_HIDDEN, ATTR_ARIA_HIDDEN, ATTR_LANG, ATTR_KINDS };
enum dp_html_attr_kind dp_html_attr_of(struct dp_span name, const char *e);

#endif

/* clean/html_tree.h - an HTML page as a flat array of nodes.
 *
 * Nodes stand in document order, a node's subtree is [i, node[i].end): every pass over the tree is a loop, no recursion, whatever
 * the depth. The parser behind it (clean/html_gumbo.c) can be exchanged without touching those who read the tree.
 * Limits come first, in one linear pass over the bytes (clean/html_limits.c): tree builders are quadratic in attributes and depth.
 * Memory: nodes and texts belong to the dp_html and hold until its next parse. One owner at a time. */
#ifndef DP_CLEAN_HTML_TREE_H
#define DP_CLEAN_HTML_TREE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

/* Tags that matter to somebody; all others are OTHER (inline). */
#define DP_HTML_TAGS(X)                                                                            \
    X(A) X(ADDRESS) X(ARTICLE) X(ASIDE) X(AUDIO) X(B) X(BLOCKQUOTE) X(BODY) X(BR) X(BUTTON) X(CANVAS) X(CAPTION) X(CENTER) \
    X(CODE) X(DD) X(DETAILS) X(DIV) X(DL) X(DT) X(FIELDSET) X(FIGCAPTION) X(FIGURE) X(FOOTER) X(FORM) X(FRAMESET) X(H1) X(H2) \
    X(H3) X(H4) X(H5) X(H6) X(HEAD) X(HEADER) X(HGROUP) X(HR) X(HTML) X(IFRAME) X(INPUT) X(LABEL) X(LEGEND) X(LI) X(MAIN) X(MATH) X(MENU) \
    X(NAV) X(NOFRAMES) X(NOSCRIPT) X(OBJECT) X(OL) X(OPTION) X(P) X(PRE) X(SCRIPT) X(SECTION) X(SELECT) X(STYLE) X(SUMMARY) X(SVG) X(TABLE) \
    X(TBODY) X(TD) X(TEMPLATE) X(TEXTAREA) X(TFOOT) X(TH) X(THEAD) X(TITLE) X(TR) X(UL) X(VIDEO)
enum dp_html_tag {
    DP_HTML_TEXT, /* a text node */
    DP_HTML_OTHER,
#define X(t) DP_HTML_##t,
    DP_HTML_TAGS(X)
#undef X
    DP_HTML_TAG_COUNT
};
struct dp_html_node {
    uint8_t tag;
    bool hidden;           /* hidden, aria-hidden=true, display:none */
    uint32_t parent, end;  /* parent of node 0 is 0 */
    struct dp_span text;   /* of a text node: characters, references decoded */
    struct dp_span cls, id, role; /* attributes of an element; role also holds itemprop after no role */
};
struct dp_html {
    struct dp_arena mem;
    struct dp_html_node *node;
    uint32_t count;
    struct dp_span title, lang;
};
/* Why a page isn't parsed; value and limit say by how much. */
struct dp_html_limit {
    const char *what; /* NULL: within limits */
    double value, limit;
};

void dp_html_init(struct dp_html *h);
void dp_html_release(struct dp_html *h);
/* The linear look at the bytes; appends to `out` the page without what the tree isn't asked for (scripts, comments,
 * most attributes): parse that. When it returns a limit, out is incomplete. The caller checks out->full. */
struct dp_html_limit dp_html_check(struct dp_span html, struct dp_buf *out);
/* Parse valid UTF-8. DP_OK; DP_LIMIT when the tree would pass its memory limit (a bad page, nothing in `e`). */
int dp_html_parse(struct dp_html *h, struct dp_span html);

#endif

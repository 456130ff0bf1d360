/* clean/html_tree.h - an HTML page as a flat array of nodes.
 *
 * Nodes stand in document order, a node's subtree is [i, node[i].end): every pass over the tree is a loop, no recursion, whatever
 * the depth. What nobody who reads the tree asks for has no node: scripts, styles, comments, forms' choices, pictures, formatting (b, i, font), inline
 * elements without the attributes below.
 * Memory: nodes and attributes belong to the dp_html and hold until its next parse; texts may point into the page. About 2 bytes for a byte of
 * page as pages are, 32 at most. One owner at a time. Linear in time but for the depth, which is limited. */
#ifndef DP_CLEAN_HTML_TREE_H
#define DP_CLEAN_HTML_TREE_H

#include "base/arena.h"
#include "base/span.h"
#include "clean/html_tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

/* Tags that matter to somebody; all others are OTHER (inline). */
#define DP_HTML_TAGS(X)                                                                            \
    X(A) X(ADDRESS) X(ARTICLE) X(ASIDE) X(AUDIO) X(BLOCKQUOTE) X(BODY) X(BR) X(BUTTON) X(CANVAS) X(CAPTION) X(CENTER) \
    X(DD) X(DETAILS) X(DIV) X(DL) X(DT) X(FIELDSET) X(FIGCAPTION) X(FIGURE) X(FOOTER) X(FORM) X(H1) X(H2) \
    X(H3) X(H4) X(H5) X(H6) X(HEAD) X(HEADER) X(HGROUP) X(HR) X(HTML) X(LEGEND) X(LI) X(MAIN) X(MENU) \
    X(NAV) X(OBJECT) X(OL) X(OPTION) X(P) X(PRE) X(SECTION) X(SUMMARY) X(TABLE) \
    X(TBODY) X(TD) X(TEMPLATE) X(TFOOT) X(TH) X(THEAD) X(TR) X(UL) X(VIDEO)
enum dp_html_tag {
    DP_HTML_TEXT, /* a text node */
    DP_HTML_OTHER,
#define X(t) DP_HTML_##t,
    DP_HTML_TAGS(X)
#undef X
    DP_HTML_TAG_COUNT
};
/* Attributes of an element that somebody reads, references decoded. */
struct dp_html_attrs {
    struct dp_span cls, id, role; /* role also holds itemprop after no role */
    bool hidden;                  /* hidden, aria-hidden=true, display:none */
};
struct dp_html_node {
    uint8_t tag;
    uint32_t parent, end; /* parent of node 0 is 0 */
    uint32_t attrs;       /* of an element: index into attrs[]; 0 has none */
    struct dp_span text;  /* of a text node: characters, references decoded */
};
struct dp_html {
    struct dp_html_node *node;
    struct dp_html_attrs *attrs;
    uint32_t count, attrs_count;
    struct dp_span title, lang; /* white space as it stands */
    /* Private. */
    uint32_t node_cap, attrs_cap;
    struct dp_arena mem;
    struct dp_html_tokens tokens;
};
/* Why a page isn't parsed; value and limit say by how much. */
struct dp_html_limit {
    const char *what; /* NULL: within limits */
    double value, limit;
};

void dp_html_init(struct dp_html *h);
void dp_html_release(struct dp_html *h);
/* Parse valid UTF-8, which must live as long as the tree is read. DP_OK; DP_LIMIT with *limit for a page past the limits of depth, attributes or
 * nodes (a bad page, not an error); DP_NOMEM. */
int dp_html_parse(struct dp_html *h, struct dp_span page, struct dp_html_limit *limit);

#endif

/* clean/main_text.h - the text of a page: all of it, or what the page is about.
 *
 * Text is for language models: paragraphs separated by an empty line, list items "- ", table cells by a tab, <br> and <pre> keep their lines,
 * white space else collapsed. Reads the tree only; scratch is reused. Linear in the size of the tree. */
#ifndef DP_CLEAN_MAIN_TEXT_H
#define DP_CLEAN_MAIN_TEXT_H

#include "base/buf.h"
#include "clean/html_tree.h"

struct dp_main_text {
    struct dp_page_stat *stat;
    size_t cap;
};
/* Append the text to out (its full flag tells of the limit). DP_OK or DP_NOMEM. */
int dp_main_text(struct dp_main_text *m, const struct dp_html *h, bool all, struct dp_buf *out);
void dp_main_text_release(struct dp_main_text *m);

#endif

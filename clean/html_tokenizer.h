/* clean/html_tokenizer.h - HTML's bytes as tokens, without a copy.
 *
 * WHATWG HTML 13.2.5, all of it but the preprocessing of the input and the decoding of character references: a token's spans are the
 * page's own bytes, and dp_html_decode (clean/html_refs.h) makes them what the standard says. So a reader pays only for what it
 * looks at. Checked against html5lib's tokenizer tests (tests/unit/test_html_tokenizer.c).
 * Input must be valid UTF-8. Linear in time. Owns nothing; one owner at a time; zero it, then dp_html_tokens_init. */
#ifndef DP_CLEAN_HTML_TOKENIZER_H
#define DP_CLEAN_HTML_TOKENIZER_H

#include "base/span.h"

#include <stdint.h>

enum { DP_HTML_ATTRS_MAX = 512 }; /* attributes of a tag that are kept; the others are counted */

/* What the tokenizer reads as: the tree builder sets it after a start tag; an end tag that fits sets DATA again. */
enum dp_html_mode { DP_HTML_DATA, DP_HTML_RCDATA, DP_HTML_RAWTEXT, DP_HTML_SCRIPT_DATA, DP_HTML_PLAINTEXT, DP_HTML_CDATA };
enum dp_html_token { DP_HTML_END_OF_FILE, DP_HTML_CHARACTERS, DP_HTML_START_TAG, DP_HTML_END_TAG, DP_HTML_COMMENT, DP_HTML_DOCTYPE };

struct dp_html_attr {
    struct dp_span name, value; /* raw: case and references as they stand */
};
struct dp_html_tokens {
    /* The token at hand. */
    struct dp_span text; /* characters, comment, or the name of a tag or document type; raw */
    enum dp_html_mode text_mode; /* how characters were read: references count in DATA and RCDATA only */
    bool self_closing;
    uint32_t attrs; /* of a tag, duplicates included (the first counts); those past DP_HTML_ATTRS_MAX aren't in attr[] */
    struct dp_span public_id, system_id; /* of a document type; ptr NULL: missing */
    bool force_quirks;
    /* To be set by the owner. */
    enum dp_html_mode mode;
    bool foreign;             /* inside SVG or MathML: <![CDATA[ counts */
    struct dp_span last_start; /* name of the last start tag: what ends RCDATA, RAWTEXT and script data */
    /* Private. */
    const char *p, *e;
    struct dp_html_attr attr[DP_HTML_ATTRS_MAX];
};

/* HTML's white space. */
static inline bool dp_html_white(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f';
}

void dp_html_tokens_init(struct dp_html_tokens *t, struct dp_span page);
/* The next token; adjacent characters may come as several. */
enum dp_html_token dp_html_token_next(struct dp_html_tokens *t);

#endif

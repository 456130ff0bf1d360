/* tokenizer/stop_text.h - text that comes in pieces, until one of some strings stands in it.
 *
 * What may still become a stop string is held back, everything else goes on. The string that ends first wins, of
 * those that end at one place the longest; so the result doesn't depend on how the text is cut into pieces. The
 * strings are whole characters; so is the text that comes, and what goes on. Memory: less than the longest string.
 * Thread-safety: one owner; the strings outlive it. */
#ifndef DP_TOKENIZER_STOP_TEXT_H
#define DP_TOKENIZER_STOP_TEXT_H

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>

struct dp_stop_text {
    const struct dp_span *stops; /* none is empty */
    size_t count;
    struct dp_buf held;
};
void dp_stop_text_init(struct dp_stop_text *s, const struct dp_span *stops, size_t count);
void dp_stop_text_release(struct dp_stop_text *s);
/* Append to out what is certain with this piece. True when a string was found: then all before it has gone on, and what
 * stands from its first byte on never will. */
bool dp_stop_text_push(struct dp_stop_text *s, struct dp_span piece, struct dp_buf *out);
/* The text ends: append what was held back. */
void dp_stop_text_finish(struct dp_stop_text *s, struct dp_buf *out);

#endif

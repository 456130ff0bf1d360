/* cli/text_line.h - the text of a line: the line itself, a member of a JSON object, or what that is in base64. */
#ifndef DP_CLI_TEXT_LINE_H
#define DP_CLI_TEXT_LINE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

/* The string member `field` of the object in `line`; with b64_field (else NULL) the bytes that this one has in base64. A line of white space alone gives an
 * empty text. Escapes are undone: of lone surrogates comes U+FFFD, as Python's "replace" has it; bytes that are no UTF-8 stay. In the line or in mem.
 * DP_CORRUPT says what is wrong. */
int dp_text_of_json(struct dp_span line, const char *field, const char *b64_field, struct dp_arena *mem, struct dp_span *text, struct dp_err *e);

#endif

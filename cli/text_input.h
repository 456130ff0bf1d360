/* cli/text_input.h - texts of files and standard input, one at a time: lines, whole files, or a member of JSON lines. */
#ifndef DP_CLI_TEXT_INPUT_H
#define DP_CLI_TEXT_INPUT_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct dp_text_input {
    bool whole_file, jsonl, keep_newline; /* keep_newline: a line's text ends with its newline */
    const char *field, *b64_field;        /* of JSON lines: text, or base64 of bytes when b64_field is not NULL */
};
/* Call fn for each text of `path` ("-": standard input). Errors name path and line. */
int dp_text_input_each(const struct dp_text_input *in, const char *path, int (*fn)(void *ctx, struct dp_span text, struct dp_err *e), void *ctx,
                       struct dp_err *e);

#endif

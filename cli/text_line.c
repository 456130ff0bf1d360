#include "cli/text_line.h"

#include "base/base64.h"
#include "base/json.h"

int dp_text_of_json(struct dp_span line, const char *field, const char *b64_field, struct dp_arena *mem, struct dp_span *text, struct dp_err *e)
{
    struct dp_json_field f = {.key = b64_field ? b64_field : field};
    size_t blank = 0;
    if (line.len >= 3 && memcmp(line.ptr, "\xef\xbb\xbf", 3) == 0) line = dp_span(line.ptr + 3, line.len - 3); /* as some editors begin a file */
    while (blank < line.len && strchr(" \t\r\n", line.ptr[blank]) && line.ptr[blank]) blank++;
    *text = dp_span("", 0);
    if (blank == line.len) return DP_OK;
    DP_TRY(dp_json_fields(line, &f, 1, mem, e));
    if (f.raw.ptr && !f.str.ptr) DP_FAIL(e, CORRUPT, "\"%s\" is %.*s, no string", f.key, (int)(f.raw.len < 20 ? f.raw.len : 20), f.raw.ptr);
    if (!f.str.ptr) DP_FAIL(e, CORRUPT, "no string \"%s\"", f.key);
    if (b64_field) {
        char *to = dp_arena_alloc(mem, f.str.len / 4 * 3 + 3);
        if (!to) DP_FAIL(e, LIMIT, "a base64 text of %zu bytes", f.str.len);
        *text = dp_span(to, 0);
        return dp_base64_decode(f.str, to, &text->len, e);
    }
    *text = f.str;
    return DP_OK;
}

/* A list of ids from hostile bytes: taken exactly when a JSON parser takes it as an array of whole numbers from 0 to 2^31 - 1, with the same numbers, which print and
 * read back. */
#include "base/json.h"
#include "tokenizer/ids_text.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same_as_json(struct dp_span text, const struct dp_ids *ids)
{
    struct dp_json *j;
    struct dp_err e;
    if (dp_json_parse(&j, text, "x", &e) < 0) return false;
    bool same = dp_json_kind(j) == DP_JSON_ARRAY && (!ids || dp_json_count(j) == ids->len);
    for (size_t i = 0; same && i < dp_json_count(j); i++) {
        int64_t v = dp_json_int(dp_json_at(j, i), -1);
        same = v >= 0 && v <= INT32_MAX && (!ids || v == ids->ptr[i]);
    }
    dp_json_free(j);
    return same;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_ids ids = {0}, again = {0};
    struct dp_ids_printer p;
    struct dp_buf out;
    struct dp_err e;
    if (size > 1 << 16) return 0;
    char *in = malloc(size + 1);
    DP_ASSERT(in && dp_ids_printer_open(&p, 1000, &e) == DP_OK);
    memcpy(in, data, size);
    struct dp_span text = dp_span(in, size);
    int rc = dp_ids_parse(text, &ids, &e);
    DP_ASSERT(rc == DP_OK || rc == DP_CORRUPT);
    if (rc == DP_OK) {
        DP_ASSERT(same_as_json(text, &ids));
        dp_buf_init(&out, 1 << 20);
        dp_buf_add_char(&out, '[');
        dp_ids_print(&p, ids.ptr, ids.len, &out);
        dp_buf_add_char(&out, ']');
        DP_ASSERT(dp_ids_parse(dp_buf_span(&out), &again, &e) == DP_OK && again.len == ids.len && memcmp(again.ptr, ids.ptr, ids.len * sizeof *ids.ptr) == 0);
        dp_buf_release(&out);
    } else if (!memchr(in, '-', size) && !memchr(in, 0, size)) /* -0 is a number there, and bytes of 0 are passed over */
        DP_ASSERT(!same_as_json(text, NULL));
    dp_ids_release(&ids);
    dp_ids_release(&again);
    dp_ids_printer_close(&p);
    free(in);
    return 0;
}

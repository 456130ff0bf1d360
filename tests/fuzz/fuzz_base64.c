/* Base64 of hostile bytes is refused or gives bytes whose encoding gives them again; any bytes come back from their encoding. */
#include "base/base64.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(struct dp_span bytes)
{
    struct dp_buf text;
    struct dp_err e;
    size_t n = 0;
    dp_buf_init(&text, 1 << 20);
    dp_base64_encode(&text, bytes);
    DP_ASSERT(!text.full && text.len == (bytes.len + 2) / 3 * 4);
    char *back = malloc(text.len / 4 * 3 + 3);
    DP_ASSERT(back && dp_base64_decode(dp_buf_span(&text), back, &n, &e) == DP_OK && dp_span_eq(dp_span(back, n), bytes));
    while (text.len && text.ptr[text.len - 1] == '=') text.len--;
    DP_ASSERT(dp_base64_decode(dp_buf_span(&text), back, &n, &e) == DP_OK && dp_span_eq(dp_span(back, n), bytes)); /* without padding too */
    free(back);
    dp_buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    size_t n = 0;
    if (size > 1 << 16) return 0;
    char *in = malloc(size + 1), *out = malloc(size / 4 * 3 + 3); /* sanitizers see their ends */
    DP_ASSERT(in && out);
    memcpy(in, data, size);
    int rc = dp_base64_decode(dp_span(in, size), out, &n, &e);
    DP_ASSERT(rc == DP_OK || rc == DP_CORRUPT);
    if (rc == DP_OK) {
        DP_ASSERT(n <= size / 4 * 3 + 3);
        round_trip(dp_span(out, n));
    }
    round_trip(dp_span(in, size));
    free(in);
    free(out);
    return 0;
}

/* A manifest from hostile bytes: it is refused, or rendering what was read gives bytes that read
 * and render the same. */
#include "shards/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_manifest *m, *again;
    struct dp_err err;
    struct dp_buf a, b;
    int rc = dp_manifest_parse(&m, dp_span(data, size), "fuzz", &err);
    if (rc < 0) {
        DP_ASSERT(m == NULL);
        return 0;
    }
    dp_buf_init(&a, 1 << 24);
    dp_buf_init(&b, 1 << 24);
    DP_ASSERT(dp_manifest_render(m, &a, &err) == DP_OK);
    DP_ASSERT(dp_manifest_parse(&again, dp_buf_span(&a), "again", &err) == DP_OK);
    DP_ASSERT(dp_manifest_render(again, &b, &err) == DP_OK &&
              dp_span_eq(dp_buf_span(&a), dp_buf_span(&b)));
    DP_ASSERT(dp_hash128_eq(m->hash, again->hash));
    dp_buf_release(&a);
    dp_buf_release(&b);
    dp_manifest_free(m);
    dp_manifest_free(again);
    return 0;
}

/* A mixture's text from hostile bytes: it is refused, or every sample has one domain, whose draws count up. */
#include "trainer_feed/feed_mix.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a", "b", "c", "d.1"};
    static const uint64_t rows[] = {1, 1000, UINT64_C(1) << 30, 77};
    static const uint64_t samples[] = {0, 1, 2, 99, 100, 12345, UINT64_C(1) << 40, (UINT64_C(1) << 62) - 2};
    struct dp_feed_mix m;
    struct dp_err err;
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    int rc = dp_feed_mix_open(&m, text, names, rows, 4, size, &err);
    DP_ASSERT(rc == DP_OK || (rc == DP_CONFIG && !m.stage));
    for (size_t i = 0; rc == DP_OK && i < sizeof samples / sizeof *samples; i++) {
        uint64_t draw, before = 0;
        size_t d = dp_feed_mix_at(&m, samples[i], &draw);
        DP_ASSERT(d < 4 && draw == dp_feed_mix_draws(&m, samples[i], d));
        for (size_t k = 0; k < 4; k++) {
            uint64_t n = dp_feed_mix_draws(&m, samples[i], k);
            DP_ASSERT(dp_feed_mix_draws(&m, samples[i] + 1, k) == n + (k == d));
            before += n;
        }
        DP_ASSERT(before == samples[i]);
    }
    if (rc == DP_OK) dp_feed_mix_release(&m);
    free(text);
    return 0;
}

/* tests/fuzz/reader_target.h - any bytes under a name that leads to one of the readers: must end, without harm, within small limits;
 * ids and spans must be sound. */
#include "base/batch.h"
#include "ingest/reader.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_all(const char *name, const uint8_t *data, size_t size)
{
    struct dp_ingest_options o = {.doc_bytes_max = 64 << 10, .total_bytes_max = 8 << 20, .nested_bytes_max = 1 << 20, .ratio_max = 100, .depth_max = 4, .members_max = 200};
    struct dp_batch b;
    struct dp_reader *r;
    struct dp_err e;
    if (dp_batch_init(&b, 16, 4 << 20, &e) < 0) return 0;
    int rc = dp_reader_open_span(&r, &o, dp_span(data, size), name, "", "d", NULL, NULL, &e);
    volatile unsigned sum = 0;
    while (rc == DP_OK && (rc = dp_reader_next(r, &b, &e)) == DP_OK)
        for (uint32_t i = 0; i < b.count; i++) {
            if (b.drop[i] && b.text[i].len) abort();
            for (size_t k = 0; k < b.text[i].len; k++) sum += (unsigned char)b.text[i].ptr[k];
            for (size_t k = 0; k < b.meta[i].len; k++) sum += (unsigned char)b.meta[i].ptr[k];
        }
    (void)sum;
    if (rc < 0 && rc != DP_NOMEM) abort();
    if (rc >= 0) dp_reader_close(r);
    dp_batch_release(&b);
    return 0;
}

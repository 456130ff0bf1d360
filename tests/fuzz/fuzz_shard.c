/* A shard from hostile bytes: u16 length of the side file (low 15 bits; the top bit asks for valid
 * checksums), side file, body. Whatever opens must be safe to walk: every accessor, every document,
 * verification. */
#include "shards/shard.h"

#include "shards/shard_layout.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Valid checksums let the fuzzer behind them. */
static void reseal(char *dpx, size_t n)
{
    struct dpx_header *h = (void *)dpx;
    size_t at = sizeof *h;
    if (n < sizeof *h) return;
    for (int i = 0; i < DPX_SECTIONS; i++) {
        uint64_t rows = i == DPX_FRAMES ? h->frames : h->documents;
        if (rows > (n - at) / dpx_width[i]) break;
        h->section_crc[i] = dp_crc32c(0, dpx + at, (size_t)rows * dpx_width[i]);
        at += (size_t)rows * dpx_width[i];
    }
    h->header_crc = dp_crc32c(0, h, offsetof(struct dpx_header, header_crc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    size_t n = (size_t)(data[0] | data[1] << 8) & 0x7fff, body = size - 2;
    if (n > body) n = body;
    body -= n;
    char *dpx = malloc(n ? n : 1), *bin = malloc(body ? body : 1);
    if (!dpx || !bin) abort();
    memcpy(dpx, data + 2, n);
    memcpy(bin, data + 2 + n, body);
    if (data[1] & 0x80) reseal(dpx, n);
    struct dp_shard *s;
    struct dp_err err;
    if (dp_shard_open_mem(&s, dp_span(bin, body), dp_span(dpx, n), "fuzz", &err) >= 0) {
        uint64_t last = 0, sum = 0;
        for (uint64_t d = 0; d < dp_shard_documents(s); d++) {
            DP_ASSERT(dp_shard_ends(s)[d] >= last);
            if (dp_shard_ends(s)[d] > last) DP_ASSERT(dp_shard_document_at(s, last) == d);
            last = dp_shard_ends(s)[d];
            sum += dp_shard_contents(s)[d].lo ^ dp_shard_doc_ids(s)[d].hi ^ dp_shard_sources(s)[d];
        }
        DP_ASSERT(last == dp_shard_tokens(s));
        for (uint64_t i = 0; i < last; i++) sum += dp_shard_id(s, i);
        dp_shard_verify(s, NULL, NULL, &err);
        if (sum == 1) bin[0] = 0; /* keeps the reads */
        dp_shard_close(s);
    } else {
        DP_ASSERT(err.code == DP_CORRUPT && s == NULL);
    }
    free(dpx);
    free(bin);
    return 0;
}

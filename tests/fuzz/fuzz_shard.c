/* A shard from hostile bytes: u16 length of the side file (low 15 bits; the top bit asks for valid
 * checksums), side file, body, flat or compressed. Whatever opens must be safe to walk: every accessor, every
 * document, copies, verification. */
#include "shards/shard.h"

#include "shards/shard_layout.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Valid checksums let the fuzzer behind them. */
static void reseal_packs(struct dpx_header *h, char *table, size_t left, const char *bin, size_t body)
{
    uint64_t n = h->pack_ids ? dpx_frames_of(h->tokens, h->pack_ids) : 0;
    struct dpx_pack e;
    if (!(h->flags & DPX_ZSTD) || n > left / sizeof e) return;
    for (uint64_t k = 0; k < n; k++) {
        memcpy(&e, table + k * sizeof e, sizeof e);
        if (e.bytes > body) break;
        e.crc = dp_crc32c(0, bin, e.bytes);
        memcpy(table + k * sizeof e, &e, sizeof e);
        bin += e.bytes;
        body -= e.bytes;
    }
    h->pack_crc = dp_crc32c(0, table, (size_t)n * sizeof e);
}

static void reseal(char *dpx, size_t n, const char *bin, size_t body)
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
    reseal_packs(h, dpx + at, n - at, bin, body);
    h->header_crc = dp_crc32c(0, h, offsetof(struct dpx_header, header_crc));
}

/* Any range of a compressed body, its ends and places in between: right ids or a named frame. */
static uint64_t copies(const struct dp_shard *s)
{
    uint64_t tokens = dp_shard_tokens(s), sum = 0;
    int32_t ids[300];
    struct dp_err err;
    for (uint64_t at = 0, step = tokens / 16 + 1; at < tokens; at += step) {
        uint64_t n = tokens - at < 300 ? tokens - at : 300;
        if (dp_shard_copy_ids(s, at, n, ids, &err) >= 0)
            for (uint64_t i = 0; i < n; i++) {
                DP_ASSERT(ids[i] >= 0 && (uint32_t)ids[i] < dp_shard_meta(s)->vocab_size);
                sum += (uint64_t)ids[i];
            }
        else DP_ASSERT(err.code == DP_CORRUPT);
        sum += dp_shard_id(s, at);
    }
    return sum;
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
    if (data[1] & 0x80) reseal(dpx, n, bin, body);
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
        if (!dp_shard_pack_ids(s))
            for (uint64_t i = 0; i < last; i++) sum += dp_shard_id(s, i);
        sum += copies(s);
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

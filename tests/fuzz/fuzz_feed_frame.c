/* What the other end of a feed's TCP connection may send. A frame: whole, damaged, or not there yet, whatever the bytes are. And what stands in one whose
 * checksums are right: a batch that is refused, or whose ids, segments and masks are in range and, sent on, are the same bytes.
 * Input: a byte that says what batches are like, then a frame or a payload. */
#include "trainer_feed/feed_frame.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { T = 16, B = 2, LIMIT = 1 << 16 };

static void check_batch(const struct dp_feed_shape *s, const struct dp_feed_accept *a, struct dp_span payload, const void *slot)
{
    struct dp_feed_meta m;
    const char *ids = (const char *)slot + DP_FEED_SLOT_HEAD;
    dp_feed_shape_meta(s, slot, &m);
    for (size_t i = 0; i < B * (T + 1); i++)
        if ((s->id_bytes == 2 ? ((const uint16_t *)(const void *)ids)[i] : ((const uint32_t *)(const void *)ids)[i]) >= a->vocab_size) abort();
    for (int b = 0; b < B; b++) {
        for (int i = 0; i < T && m.positions; i++)
            if (m.positions[b * T + i] < 0 || m.positions[b * T + i] > i) abort();
        if (m.segments && (m.segments[b] < 1 || m.segments[b] > T)) abort();
        for (int i = 0; i < T && m.cu_seqlens; i++)
            if (m.cu_seqlens[b * (T + 1) + i] > m.cu_seqlens[b * (T + 1) + i + 1] || m.cu_seqlens[b * (T + 1) + T] != T) abort();
        for (int i = 0; i < T && m.loss_mask; i++)
            if (m.loss_mask[b * T + i] > 1) abort();
    }
    if (s->meta != DP_FEED_META_ALL) return;
    static _Alignas(64) char again[LIMIT];
    struct dp_feed_slot head;
    memcpy(&head, slot, sizeof head);
    memcpy(again + DP_FEED_BATCH_IDS, ids, (size_t)B * (T + 1) * (size_t)s->id_bytes);
    if (dp_feed_batch_encode(s, &head, &m, again) != payload.len || memcmp(again, payload.ptr, payload.len) != 0) abort();
}

static void batch(uint8_t kind, const uint8_t *data, size_t size)
{
    static _Alignas(64) char payload[LIMIT], slot[LIMIT], frame[LIMIT + DP_FEED_FRAME_HEAD];
    struct dp_feed_accept a = {.seq_len = T, .batch = B, .rank = 1, .world = 2, .vocab_size = kind & 64 ? 70000 : 60000};
    struct dp_feed_shape s;
    struct dp_feed_widen w;
    struct dp_feed_frame f = {.kind = DP_FEED_BATCH, .raw_bytes = (uint32_t)size};
    struct dp_err err = {0};
    if (size > LIMIT) return;
    dp_feed_shape_init(&s, T, B, a.vocab_size, kind & 63);
    dp_feed_widen_init(&w);
    if (s.slot_bytes > sizeof slot) abort();
    if (size) memcpy(frame + DP_FEED_FRAME_HEAD, data, size);
    f.payload = dp_span(frame + DP_FEED_FRAME_HEAD, size);
    dp_feed_frame_head(frame, &f);
    if (dp_feed_frame_parse(frame, size + DP_FEED_FRAME_HEAD, LIMIT, &f, &err) != DP_OK || f.payload.len != size) abort();
    if (kind & 128) { /* a zstd frame, of what size it likes */
        struct dp_zstd_decoder *z;
        uint64_t n = dp_feed_batch_bytes_max(&s);
        if (dp_zstd_decoder_open(&z, &err) < 0) abort();
        bool good = dp_zstd_decode(z, f.payload, payload, (size_t)n, &err) >= 0;
        dp_zstd_decoder_close(z);
        if (!good) return;
        f.payload = dp_span(payload, (size_t)n);
    } else if (size) {
        memcpy(payload, data, size); /* at an address as in a connection's buffer */
        f.payload.ptr = payload;
    }
    int rc = dp_feed_batch_decode(&s, &a, &w, f.payload, slot, &err);
    if (rc < 0 ? !err.msg[0] : rc != DP_OK) abort();
    if (rc == DP_OK) check_batch(&s, &a, f.payload, slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_feed_frame f;
    struct dp_err err = {0};
    if (!size) return 0;
    int rc = dp_feed_frame_parse(data + 1, size - 1, LIMIT, &f, &err);
    if (rc == DP_OK && (f.size > size - 1 || f.payload.len + DP_FEED_FRAME_HEAD != f.size || f.raw_bytes > LIMIT)) abort();
    if (rc == DP_EMPTY && f.size <= size - 1) abort();
    if (rc < 0 && rc != DP_CORRUPT) abort();
    struct dp_span token = dp_feed_ask_token(dp_span(data, size));
    if (token.len > size || memchr(token.ptr, '\n', token.len)) abort();
    batch(data[0], data + 1, size - 1);
    return 0;
}

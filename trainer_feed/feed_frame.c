/* What can be computed isn't sent: positions follow from segments, sample numbers from the batch's; of cu_seqlens only the ends that there are;
 * loss masks as bits. Ids are sent as the shard has them. */
#include "trainer_feed/feed_frame.h"

#include "base/hash.h"

#include <inttypes.h>

static const uint32_t magic = 0x32506470; /* "dpP2" */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian");
enum { SEGMENTED = DP_FEED_META_CU_SEQLENS | DP_FEED_META_SEGMENTS | DP_FEED_META_POSITIONS };

struct head {
    uint32_t magic;
    uint16_t kind, flags;
    uint32_t bytes, raw_bytes;
    uint64_t arg;
    uint32_t payload_crc, head_crc;
};
_Static_assert(sizeof(struct head) == DP_FEED_FRAME_HEAD, "no padding");

int dp_feed_frame_parse(const void *p, size_t n, uint64_t bytes_max, struct dp_feed_frame *f, struct dp_err *e)
{
    struct head h;
    *f = (struct dp_feed_frame){.size = sizeof h};
    if (n >= sizeof h.magic && memcmp(p, &magic, sizeof magic) != 0) DP_FAIL(e, CORRUPT, "feed: what came is no frame of the feed's");
    if (n < sizeof h) return DP_EMPTY;
    memcpy(&h, p, sizeof h);
    if (dp_crc32c(0, p, offsetof(struct head, head_crc)) != h.head_crc) DP_FAIL(e, CORRUPT, "feed: the head of a frame is damaged");
    if (h.bytes > bytes_max || h.raw_bytes > bytes_max)
        DP_FAIL(e, CORRUPT, "feed: a frame of %" PRIu32 " bytes (%" PRIu32 " decompressed) where at most %" PRIu64 " may come", h.bytes, h.raw_bytes, bytes_max);
    f->size += h.bytes;
    if (n < f->size) return DP_EMPTY;
    f->kind = h.kind;
    f->flags = h.flags;
    f->arg = h.arg;
    f->raw_bytes = h.raw_bytes;
    f->payload = dp_span((const char *)p + sizeof h, h.bytes);
    if (dp_crc32c(0, f->payload.ptr, f->payload.len) != h.payload_crc) DP_FAIL(e, CORRUPT, "feed: a frame of %" PRIu32 " bytes is damaged", h.bytes);
    if (h.flags & ~(unsigned)DP_FEED_ZSTD || (!(h.flags & DP_FEED_ZSTD) && h.raw_bytes != h.bytes))
        DP_FAIL(e, CORRUPT, "feed: a frame of another version");
    return DP_OK;
}

void dp_feed_frame_head(char head[DP_FEED_FRAME_HEAD], const struct dp_feed_frame *f)
{
    struct head h = {.magic = magic, .kind = (uint16_t)f->kind, .flags = (uint16_t)f->flags, .bytes = (uint32_t)f->payload.len, .raw_bytes = f->raw_bytes,
                     .arg = f->arg, .payload_crc = dp_crc32c(0, f->payload.ptr, f->payload.len)};
    h.head_crc = dp_crc32c(0, &h, offsetof(struct head, head_crc));
    memcpy(head, &h, sizeof h);
}

/* --- batches --- */

static size_t ids_bytes(const struct dp_feed_shape *s)
{
    return (size_t)s->batch * ((size_t)s->seq_len + 1) * (size_t)s->id_bytes;
}

uint64_t dp_feed_batch_bytes_max(const struct dp_feed_shape *s)
{
    uint64_t n = (uint64_t)s->batch, t = (uint64_t)s->seq_len, bytes = DP_FEED_BATCH_IDS + ids_bytes(s);
    if (s->meta & SEGMENTED) bytes += n * 4 * (t + 1);
    if (s->meta & DP_FEED_META_LOSS_MASK) bytes += n * ((t + 7) / 8);
    if (s->meta & DP_FEED_META_DOMAIN) bytes += n * 4;
    return bytes;
}

static char *put(char *to, const void *from, size_t n)
{
    memcpy(to, from, n);
    return to + n;
}

static char *put_bits(char *to, const uint8_t *mask, size_t t)
{
    for (size_t i = 0; i < t; i += 8) {
        unsigned char byte = 0;
        for (size_t k = 0; k < 8 && i + k < t; k++) byte = (unsigned char)(byte | (mask[i + k] & 1) << k);
        *to++ = (char)byte;
    }
    return to;
}

size_t dp_feed_batch_encode(const struct dp_feed_shape *s, const struct dp_feed_slot *head, const struct dp_feed_meta *m, char *payload)
{
    size_t t = (size_t)s->seq_len, n = (size_t)s->batch;
    put(payload, head, DP_FEED_BATCH_IDS);
    char *p = payload + DP_FEED_BATCH_IDS + ids_bytes(s);
    for (size_t b = 0; b < n && s->meta & SEGMENTED; b++) {
        p = put(p, &m->segments[b], 4);
        p = put(p, m->cu_seqlens + b * (t + 1) + 1, (size_t)m->segments[b] * 4);
    }
    for (size_t b = 0; b < n && s->meta & DP_FEED_META_LOSS_MASK; b++) p = put_bits(p, m->loss_mask + b * t, t);
    if (s->meta & DP_FEED_META_DOMAIN) p = put(p, m->domain, n * 4);
    return (size_t)(p - payload);
}

/* n bytes of what is left; NULL when there aren't so many. */
static const char *take(struct dp_span *from, size_t n)
{
    const char *p = from->ptr;
    if (n > from->len) return NULL;
    from->ptr += n;
    from->len -= n;
    return p;
}

static int row_segments(const struct dp_feed_shape *s, struct dp_span *from, const struct dp_feed_meta *m, size_t b, struct dp_err *e)
{
    int32_t t = (int32_t)s->seq_len, n = 0, begin = 0, end = 0;
    const char *p = take(from, 4);
    if (p) memcpy(&n, p, 4);
    p = p && n > 0 && n <= t ? take(from, (size_t)n * 4) : NULL;
    if (!p) DP_FAIL(e, CORRUPT, "feed: row %zu of a batch has no whole list of segments", b);
    int32_t *cu = m->cu_seqlens ? m->cu_seqlens + b * ((size_t)t + 1) : NULL, *positions = m->positions ? m->positions + b * (size_t)t : NULL;
    if (cu) cu[0] = 0;
    for (int32_t i = 0; i < n; i++, begin = end) {
        memcpy(&end, p + 4 * i, 4);
        if (end <= begin || end > t || (i == n - 1) != (end == t)) DP_FAIL(e, CORRUPT, "feed: the segments of row %zu of a batch don't fit", b);
        if (cu) cu[i + 1] = end;
        for (int32_t k = begin; positions && k < end; k++) positions[k] = k - begin;
    }
    for (int32_t i = n + 1; cu && i <= t; i++) cu[i] = t;
    if (m->segments) m->segments[b] = n;
    return DP_OK;
}

static int take_meta(const struct dp_feed_shape *s, const struct dp_feed_accept *a, struct dp_span *from, const struct dp_feed_meta *m, uint64_t sample,
                     struct dp_err *e)
{
    size_t t = (size_t)s->seq_len, n = (size_t)s->batch;
    for (size_t b = 0; b < n && s->meta & SEGMENTED; b++) DP_TRY(row_segments(s, from, m, b, e));
    for (size_t b = 0; b < n && m->loss_mask; b++) {
        const char *p = take(from, (t + 7) / 8);
        if (!p) DP_FAIL(e, CORRUPT, "feed: a batch ends within its loss masks");
        for (size_t i = 0; i < t; i++) m->loss_mask[b * t + i] = (unsigned char)p[i / 8] >> (i & 7) & 1;
    }
    if (m->domain) {
        const char *p = take(from, n * 4);
        if (!p) DP_FAIL(e, CORRUPT, "feed: a batch ends within its domains");
        memcpy(m->domain, p, n * 4);
    }
    for (size_t b = 0; b < n && m->sample; b++) m->sample[b] = sample + (uint64_t)a->rank * n + b;
    return DP_OK;
}

int dp_feed_batch_decode(const struct dp_feed_shape *s, const struct dp_feed_accept *a, const struct dp_feed_widen *w, struct dp_span payload, void *slot,
                         struct dp_err *e)
{
    struct dp_feed_meta m;
    struct dp_feed_slot head;
    char *ids = (char *)slot + DP_FEED_SLOT_HEAD;
    size_t n = ids_bytes(s) / (size_t)s->id_bytes;
    const char *p = take(&payload, DP_FEED_BATCH_IDS), *from = p ? take(&payload, ids_bytes(s)) : NULL;
    if (!from) DP_FAIL(e, CORRUPT, "feed: a batch ends within its ids");
    memcpy(&head, p, sizeof head);
    memcpy(slot, &head, sizeof head);
    uint32_t high = s->id_bytes == 2 ? w->copy16((uint16_t *)(void *)ids, (const uint16_t *)(const void *)from, n)
                                     : w->u32((int32_t *)(void *)ids, (const uint32_t *)(const void *)from, n);
    if (high >= a->vocab_size) DP_FAIL(e, CORRUPT, "feed: a batch has id %" PRIu32 ", the vocabulary ends at %" PRIu64, high, a->vocab_size);
    dp_feed_shape_meta(s, slot, &m);
    DP_TRY(take_meta(s, a, &payload, &m, head.sample, e));
    if (payload.len) DP_FAIL(e, CORRUPT, "feed: a batch of %zu bytes too many", payload.len);
    return DP_OK;
}

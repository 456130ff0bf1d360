/* Where documents begin in a row, and what masks follow from it. The plain path knows nothing of this: document ends are read
 * only here. */
#include "trainer_feed/feed_internal.h"

#include <string.h>

struct marks {
    int32_t t;     /* seq_len */
    bool boundary; /* first ids of documents are no targets */
    int32_t *cu, *positions;
    uint8_t *mask;
    int32_t segments, begin; /* of the segment at hand */
};

static void close_segment(struct marks *m, int32_t end)
{
    if (m->positions)
        for (int32_t i = m->begin; i < end; i++) m->positions[i] = i - m->begin;
    m->segments++;
    if (m->cu) m->cu[m->segments] = end;
    m->begin = end;
}

/* A document, or what stands for one, begins with id `at` of the row, 0 to T. */
static void begin_at(struct marks *m, int32_t at)
{
    if (!at) return;
    if (m->mask && m->boundary) m->mask[at - 1] = 0;
    if (at < m->t) close_segment(m, at);
}

/* Document ends inside a piece that is n ids from global number `token` and begins with id `at` of the row. */
static void inside(const struct dp_feed_docs *docs, uint64_t token, uint64_t n, int32_t at, struct marks *m)
{
    uint64_t end = token + n, last = token;
    for (size_t s = dp_feed_docs_shard(docs, token); s < docs->shards && docs->token_start[s] < end; s++) {
        if (docs->token_start[s + 1] <= token) continue;
        const uint64_t *ends = dp_shard_ends(docs->shard[s]), start = docs->token_start[s], n_docs = dp_feed_docs_count(docs, s);
        for (uint64_t d = dp_shard_document_at(docs->shard[s], last - start); d < n_docs && start + ends[d] < end; d++) {
            if (start + ends[d] == last) continue; /* a document without ids */
            last = start + ends[d];
            begin_at(m, at + (int32_t)(last - token));
        }
        last = docs->token_start[s + 1];
    }
}

static int meta_row(const struct dp_feed *f, uint64_t sample, struct dp_feed_row *r, const struct dp_feed_meta *out, uint64_t b)
{
    size_t t = (size_t)f->o.seq_len;
    struct marks m = {.t = (int32_t)t,
                      .boundary = f->o.loss_mask == DP_FEED_MASK_BOUNDARIES,
                      .cu = out->cu_seqlens ? out->cu_seqlens + b * (t + 1) : NULL,
                      .positions = out->positions ? out->positions + b * t : NULL,
                      .mask = out->loss_mask ? out->loss_mask + b * t : NULL};
    int32_t at = 0;
    if (m.cu) m.cu[0] = 0;
    if (m.mask) memset(m.mask, 1, t);
    dp_feed_row_begin(f, r);
    do {
        begin_at(&m, at);
        if (!r->layout->packed) inside(&r->layout->docs, r->piece.token, r->piece.n, at, &m);
        at += (int32_t)r->piece.n;
    } while (dp_feed_row_next(f, r));
    if (at <= m.t) { /* padding from id `at` on */
        if (m.mask && f->o.loss_mask != DP_FEED_MASK_NOTHING) memset(m.mask + at - 1, 0, t - (size_t)at + 1);
        begin_at(&m, at);
    }
    close_segment(&m, m.t);
    for (int32_t i = m.segments + 1; m.cu && i <= m.t; i++) m.cu[i] = m.t;
    if (out->segments) out->segments[b] = m.segments;
    if (out->domain) out->domain[b] = (uint32_t)r->domain;
    if (out->sample) out->sample[b] = sample;
    return DP_OK;
}

static int row_with_meta(const struct dp_feed *f, uint64_t sample, struct dp_feed_epoch *cache, int32_t *ids, const struct dp_feed_meta *out,
                         uint64_t b, struct dp_err *e)
{
    struct dp_feed_row r;
    DP_TRY(dp_feed_row_find(f, sample, cache, &r, e));
    if (ids) {
        dp_feed_row_begin(f, &r);
        DP_TRY(dp_feed_row_copy(f, &r, ids + b * ((uint64_t)f->o.seq_len + 1), e));
    } else {
        DP_TRY(dp_feed_row_settle(f, &r, e));
    }
    return meta_row(f, sample, &r, out, b);
}

int dp_feed_get_meta(const struct dp_feed *f, uint64_t global_sample, int32_t *ids, const struct dp_feed_meta *m, struct dp_err *e)
{
    return row_with_meta(f, global_sample, NULL, ids, m, 0, e);
}

int dp_feed_next_meta(struct dp_feed *f, int32_t *ids, const struct dp_feed_meta *m, struct dp_err *e)
{
    uint64_t batch = (uint64_t)f->o.batch, step = batch * (uint64_t)f->o.world, first = f->cursor + (uint64_t)f->o.rank * batch;
    if (f->cursor >= DP_FEED_SAMPLE_MAX - 2 * step) DP_FAIL(e, USAGE, "feed: sample %llu is past 2^62", (unsigned long long)f->cursor);
    for (uint64_t b = 0; b < batch; b++) DP_TRY(row_with_meta(f, first + b, f->epoch, ids, m, b, e));
    f->cursor += step;
    return DP_OK;
}

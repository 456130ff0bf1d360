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

/* Blocks of constant length are what the compiler makes vectors of. */
enum { BLOCK = 16 };

static void count_up(int32_t *p, int32_t n)
{
    int32_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (int32_t k = 0; k < BLOCK; k++) p[i + k] = i + k;
    for (; i < n; i++) p[i] = i;
}

static void fill(int32_t *p, int32_t n, int32_t value)
{
    int32_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (int32_t k = 0; k < BLOCK; k++) p[i + k] = value;
    for (; i < n; i++) p[i] = value;
}

static void close_segment(struct marks *m, int32_t end)
{
    if (m->positions) count_up(m->positions + m->begin, end - m->begin);
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

void dp_feed_row_meta(const struct dp_feed *f, uint64_t sample, struct dp_feed_row *r, const struct dp_feed_meta *out, uint64_t b)
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
    if (m.cu) fill(m.cu + m.segments + 1, m.t - m.segments, m.t);
    if (out->segments) out->segments[b] = m.segments;
    if (out->domain) out->domain[b] = (uint32_t)r->domain;
    if (out->sample) out->sample[b] = sample;
}

int dp_feed_get_meta(const struct dp_feed *f, uint64_t global_sample, int32_t *ids, const struct dp_feed_meta *m, struct dp_err *e)
{
    struct dp_feed_row r;
    DP_TRY(dp_feed_row_find(f, global_sample, NULL, &r, e));
    dp_feed_row_begin(f, &r);
    DP_TRY(ids ? dp_feed_row_copy(f, &r, ids, sizeof *ids, e) : dp_feed_row_settle(f, &r, e));
    dp_feed_row_meta(f, global_sample, &r, m, 0);
    return DP_OK;
}

int dp_feed_next_meta(struct dp_feed *f, int32_t *ids, const struct dp_feed_meta *m, struct dp_err *e)
{
    return dp_feed_rows(f, ids, sizeof *ids, m, e);
}

/* From a sample number to ids. A batch prefetches the first 4 KiB of the next row while the current one is copied: rows are far
 * apart, and the hardware's prefetcher needs a few lines to see where one goes. */
#include "trainer_feed/feed_internal.h"

#include <inttypes.h>

enum {
    PREFETCH_BYTES = 4096, /* +10 to 30 % over none or 1 KiB (bench_feed 200) */
    TRIES = 1000           /* rows looked at in place of a bad one */
};

/* --- which row --- */

int dp_feed_row_find(const struct dp_feed *f, uint64_t sample, struct dp_feed_epoch *cache, struct dp_feed_row *r, struct dp_err *e)
{
    struct dp_feed_epoch own = {0}, *ep;
    uint64_t draw = sample;
    if (sample >= DP_FEED_SAMPLE_MAX) DP_FAIL(e, USAGE, "feed: sample %" PRIu64 " is past 2^62", sample);
    if (sample < f->floor)
        DP_FAIL(e, USAGE, "feed: sample %" PRIu64 " was drawn before the data grew at sample %" PRIu64 "; resume from a state of that time", sample,
                f->floor);
    r->domain = f->domains > 1 ? dp_feed_mix_at(&f->mix, sample, &draw) : 0;
    const struct dp_feed_source *d = &f->domain[r->domain];
    if (draw >= d->turn_draw) {
        r->layout = d->now;
        draw -= d->turn_draw;
        r->epoch = d->turn_epoch + draw / r->layout->rows;
        r->index = draw % r->layout->rows;
    } else {
        uint64_t back = d->turn_draw - 1 - draw;
        r->layout = d->old;
        r->epoch = d->turn_epoch - 1 - back / r->layout->rows;
        r->index = r->layout->rows - 1 - back % r->layout->rows;
    }
    r->row = r->index;
    if (!f->o.shuffle) return DP_OK;
    ep = cache ? &cache[r->domain] : &own;
    if (ep->layout != r->layout || ep->epoch != r->epoch) {
        dp_feed_order_init(&ep->order, r->layout->rows, d->seed, r->epoch);
        ep->layout = r->layout;
        ep->epoch = r->epoch;
    }
    r->row = dp_feed_order_at(&ep->order, r->index);
    return DP_OK;
}

/* Another row in place of a bad one: the k-th to be tried. */
static uint64_t substitute(const struct dp_feed *f, const struct dp_feed_row *r, uint64_t k)
{
    uint64_t h = dp_mix64(f->domain[r->domain].seed ^ UINT64_C(0x7375627374697475));
    h = dp_mix64(h + r->epoch);
    h = dp_mix64(h + r->index);
    return dp_mix64(h + k) % r->layout->rows;
}

/* --- its pieces --- */

void dp_feed_row_begin(const struct dp_feed *f, struct dp_feed_row *r)
{
    if (r->layout->packed) {
        dp_feed_pack_row(&r->layout->pack, r->row, &r->piece);
        return;
    }
    r->pos = r->row * (uint64_t)f->o.seq_len;
    r->left = (uint64_t)f->o.seq_len + 1;
    r->piece.n = dp_feed_index_find(&r->layout->ix, r->pos, r->left, &r->piece.token);
}

bool dp_feed_row_next(const struct dp_feed *f, struct dp_feed_row *r)
{
    (void)f;
    if (r->layout->packed) return dp_feed_pack_next(&r->layout->pack, &r->piece);
    r->pos += r->piece.n;
    r->left -= r->piece.n;
    if (!r->left) return false;
    r->piece.n = dp_feed_index_find(&r->layout->ix, r->pos, r->left, &r->piece.token);
    return true;
}

/* --- ids --- */

static int bad_id(const struct dp_feed *f, const struct dp_feed_docs *docs, size_t s, uint64_t first, uint64_t n, struct dp_err *e)
{
    uint64_t i = first;
    while (i + 1 < first + n && dp_shard_id(docs->shard[s], i) < f->meta.vocab_size) i++;
    DP_FAIL(e, CORRUPT, "%s: frame %" PRIu64 ", id number %" PRIu64 " is %" PRIu32 ", the vocabulary ends at %" PRIu32 "; run dpipe verify",
            docs->m->shards[s].name, i / DP_SHARD_FRAME_IDS, i, dp_shard_id(docs->shard[s], i), f->meta.vocab_size);
}

/* Out of compressed frames, by way of int32; checked there. */
static int copy_packed(const struct dp_shard *s, uint64_t first, uint64_t n, char *ids, size_t width, struct dp_err *e)
{
    int32_t some[512];
    if (width == sizeof(int32_t)) return dp_shard_copy_ids(s, first, n, (int32_t *)(void *)ids, e);
    for (uint64_t k; n; first += k, n -= k, ids += k * width) {
        k = n < 512 ? n : 512;
        DP_TRY(dp_shard_copy_ids(s, first, k, some, e));
        for (uint64_t i = 0; i < k; i++) ((uint16_t *)(void *)ids)[i] = (uint16_t)some[i];
    }
    return DP_OK;
}

/* n contiguous global ids, over shard boundaries, as int32 or (width 2) uint16. */
static int copy_ids(const struct dp_feed *f, const struct dp_feed_docs *docs, uint64_t token, uint64_t n, void *to, size_t width, struct dp_err *e)
{
    char *ids = to;
    bool u32 = f->meta.dtype == DP_SHARD_U32;
    for (size_t s = dp_feed_docs_shard(docs, token); n; s++) {
        uint64_t first = token - docs->token_start[s], k = docs->token_start[s + 1] - token;
        if (k > n) k = n;
        if (!k) continue;
        if (docs->check) DP_TRY(dp_feed_docs_touch(docs, s, first, k, e));
        const void *body = dp_shard_ids(docs->shard[s]);
        if (body) {
            int32_t *wide = (int32_t *)(void *)ids;
            uint32_t high = width == 2 ? f->widen.copy16((uint16_t *)(void *)ids, (const uint16_t *)body + first, (size_t)k)
                            : u32      ? f->widen.u32(wide, (const uint32_t *)body + first, (size_t)k)
                                       : f->widen.u16(wide, (const uint16_t *)body + first, (size_t)k);
            if (high >= f->meta.vocab_size) return bad_id(f, docs, s, first, k, e);
        } else {
            DP_TRY(copy_packed(docs->shard[s], first, k, ids, width, e));
        }
        ids += k * width;
        token += k;
        n -= k;
    }
    return DP_OK;
}

static int copy_once(const struct dp_feed *f, struct dp_feed_row *r, void *to, size_t width, struct dp_err *e)
{
    char *ids = to, *end = ids + ((size_t)f->o.seq_len + 1) * width;
    do {
        DP_TRY(copy_ids(f, &r->layout->docs, r->piece.token, r->piece.n, ids, width, e));
        ids += r->piece.n * width;
    } while (dp_feed_row_next(f, r));
    for (; ids < end; ids += width) memcpy(ids, &f->pad, width); /* little-endian */
    return DP_OK;
}

/* The same without a copy: what copy_once would say. */
static int test_ids(const struct dp_feed *f, const struct dp_feed_docs *docs, uint64_t token, uint64_t n, struct dp_err *e)
{
    int32_t some[512];
    for (uint64_t k; n; token += k, n -= k) {
        k = n < 512 ? n : 512;
        DP_TRY(copy_ids(f, docs, token, k, some, sizeof *some, e));
    }
    return DP_OK;
}

static int test_once(const struct dp_feed *f, struct dp_feed_row *r, struct dp_err *e)
{
    do {
        DP_TRY(test_ids(f, &r->layout->docs, r->piece.token, r->piece.n, e));
    } while (dp_feed_row_next(f, r));
    return DP_OK;
}

static int replace(const struct dp_feed *f, struct dp_feed_row *r, void *ids, size_t width, struct dp_err *e)
{
    for (uint64_t k = 1; k <= TRIES; k++) {
        r->row = substitute(f, r, k);
        dp_feed_row_begin(f, r);
        int rc = ids ? copy_once(f, r, ids, width, e) : test_once(f, r, e);
        if (rc != DP_CORRUPT) return rc;
    }
    dp_err_prefix(e, "feed: of %d rows in place of a bad one none is whole; the last", TRIES);
    return DP_CORRUPT;
}

int dp_feed_row_copy(const struct dp_feed *f, struct dp_feed_row *r, void *ids, size_t width, struct dp_err *e)
{
    int rc = copy_once(f, r, ids, width, e);
    return rc == DP_CORRUPT && f->o.on_bad == DP_FEED_SKIP ? replace(f, r, ids, width, e) : rc;
}

int dp_feed_row_settle(const struct dp_feed *f, struct dp_feed_row *r, struct dp_err *e)
{
    if (f->o.on_bad != DP_FEED_SKIP) return DP_OK;
    struct dp_feed_row copy = *r;
    dp_feed_row_begin(f, &copy);
    int rc = test_once(f, &copy, e);
    return rc == DP_CORRUPT ? replace(f, r, NULL, 0, e) : rc;
}

/* --- the calls --- */

static uint64_t prefetch_piece(const struct dp_feed *f, const struct dp_feed_row *r, uint64_t most)
{
    const struct dp_feed_docs *docs = &r->layout->docs;
    size_t s = dp_feed_docs_shard(docs, r->piece.token), width = (size_t)f->meta.dtype;
    uint64_t first = r->piece.token - docs->token_start[s], n = docs->token_start[s + 1] - r->piece.token;
    if (n > r->piece.n) n = r->piece.n;
    const char *body = dp_shard_ids(docs->shard[s]), *p = body ? body + first * width : NULL;
    uint64_t bytes = n * width < most ? n * width : most;
    for (uint64_t i = 0; p && i < bytes; i += 64) __builtin_prefetch(p + i, 0, 3);
    return bytes;
}

/* The row's first pieces, up to PREFETCH_BYTES of them. */
static void prefetch(const struct dp_feed *f, const struct dp_feed_row *r)
{
    uint64_t left = PREFETCH_BYTES - prefetch_piece(f, r, PREFETCH_BYTES);
    if (!left || r->piece.at == r->piece.end) return;
    struct dp_feed_row copy = *r;
    while (left && dp_feed_row_next(f, &copy)) left -= prefetch_piece(f, &copy, left);
}

int dp_feed_get(const struct dp_feed *f, uint64_t global_sample, int32_t *ids, struct dp_err *e)
{
    struct dp_feed_row r;
    DP_TRY(dp_feed_row_find(f, global_sample, NULL, &r, e));
    dp_feed_row_begin(f, &r);
    return dp_feed_row_copy(f, &r, ids, sizeof *ids, e);
}

/* The k-th row from the batch's first on, as far as this rank goes: behind the batch's last comes the first of its next batch. */
static int find_ahead(struct dp_feed *f, uint64_t k, struct dp_feed_row *r, struct dp_err *e)
{
    uint64_t batch = (uint64_t)f->o.batch, first = f->cursor + (uint64_t)f->o.rank * batch, step = batch * (uint64_t)f->o.world;
    return dp_feed_row_find(f, first + k / batch * step + k % batch, f->epoch, r, e);
}

int dp_feed_rows(struct dp_feed *f, void *ids, size_t width, const struct dp_feed_meta *m, struct dp_err *e)
{
    uint64_t batch = (uint64_t)f->o.batch, step = batch * (uint64_t)f->o.world;
    struct dp_feed_row r, next, later; /* being copied; its ids being fetched; its document ends being fetched */
    if (f->cursor >= DP_FEED_SAMPLE_MAX - 4 * step) DP_FAIL(e, USAGE, "feed: sample %" PRIu64 " is past 2^62", f->cursor);
    DP_TRY(find_ahead(f, 0, &r, e));
    DP_TRY(find_ahead(f, 1, &next, e));
    dp_feed_row_begin(f, &r);
    for (uint64_t b = 0; b < batch; b++, r = next, next = later) {
        DP_TRY(find_ahead(f, b + 2, &later, e));
        if (later.layout->packed) dp_feed_pack_prefetch(&later.layout->pack, later.row);
        dp_feed_row_begin(f, &next);
        if (ids) {
            prefetch(f, &next);
            DP_TRY(dp_feed_row_copy(f, &r, (char *)ids + b * ((uint64_t)f->o.seq_len + 1) * width, width, e));
        } else {
            DP_TRY(dp_feed_row_settle(f, &r, e));
        }
        if (m) dp_feed_row_meta(f, f->cursor + (uint64_t)f->o.rank * batch + b, &r, m, b);
    }
    f->cursor += step;
    return DP_OK;
}

int dp_feed_next(struct dp_feed *f, int32_t *ids, struct dp_err *e)
{
    return dp_feed_rows(f, ids, sizeof *ids, NULL, e);
}

int dp_feed_locate(const struct dp_feed *f, uint64_t global_sample, uint64_t row_token, struct dp_feed_origin *out, struct dp_err *e)
{
    struct dp_feed_row r;
    if (row_token > (uint64_t)f->o.seq_len)
        DP_FAIL(e, USAGE, "feed: token %" PRIu64 " of a row of %" PRId64 " ids", row_token, f->o.seq_len + 1);
    DP_TRY(dp_feed_row_find(f, global_sample, NULL, &r, e));
    DP_TRY(dp_feed_row_settle(f, &r, e));
    dp_feed_row_begin(f, &r);
    while (row_token >= r.piece.n) {
        row_token -= r.piece.n;
        if (!dp_feed_row_next(f, &r)) return DP_EMPTY;
    }
    const struct dp_feed_docs *docs = &r.layout->docs;
    uint64_t token = r.piece.token + row_token;
    size_t s = dp_feed_docs_shard(docs, token);
    const struct dp_shard *shard = docs->shard[s];
    uint64_t at = token - docs->token_start[s], d = dp_shard_document_at(shard, at);
    *out = (struct dp_feed_origin){.shard = docs->m->shards[s].name,
                                   .shard_number = s,
                                   .document = d,
                                   .document_token = at - (d ? dp_shard_ends(shard)[d - 1] : 0),
                                   .shard_token = at,
                                   .id = dp_shard_doc_ids(shard)[d],
                                   .content = dp_shard_contents(shard)[d],
                                   .source = dp_shard_sources(shard)[d],
                                   .domain = f->domain[r.domain].name};
    return DP_OK;
}

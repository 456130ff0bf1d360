/* The feed: order -> stream position -> shard bytes -> int32 row. Everything here is arithmetic on
 * immutable state; the only thing that moves is the cursor of dp_feed_next.
 *
 * Ids are range-checked while they are widened (the maximum costs nothing beside the loads), so a
 * trainer can index its embedding without asking again; checksums are `dpipe verify`'s work, since
 * a random row would pay for a frame 32 times its size.
 *
 * A batch prefetches the first 4 KiB of the next row while the current one is copied: rows are far
 * apart, and the hardware's prefetcher needs a few lines to see where one goes. */
#include "trainer_feed/feed.h"

#include "trainer_feed/feed_index.h"
#include "trainer_feed/feed_order.h"
#include "trainer_feed/feed_widen.h"

#include <inttypes.h>
#include <stdlib.h>

#define OFF(field) offsetof(struct dp_feed_options, field)
const struct dp_opt dp_feed_opts[] = {
    {"seq_len", DP_OPT_INT, OFF(seq_len), "1024", 1, 1 << 24, NULL, "T",
     "Ids a row is trained on; rows have one more.", 0, 0},
    {"batch", DP_OPT_INT, OFF(batch), "8", 1, 1 << 20, NULL, "N", "Rows of a batch on one rank.", 0,
     0},
    {"seed", DP_OPT_INT, OFF(seed), "0", 0, 0, NULL, "N", "Key of the order of samples.", 0, 0},
    {"split", DP_OPT_CHOICE, OFF(split), "train", 0, 0, "train|val", "NAME",
     "Which documents to read.", 0, 0},
    {"val_fraction", DP_OPT_REAL, OFF(val_fraction), "0.01", 0, 1, NULL, "X",
     "Share of documents kept for validation.", 0, 0},
    {"rank", DP_OPT_INT, OFF(rank), "0", 0, 1 << 20, NULL, "R",
     "Number of this process among world.", 0, DP_OPT_NOKEY},
    {"world", DP_OPT_INT, OFF(world), "1", 1, 1 << 20, NULL, "N", "Processes that share each step.",
     0, 0},
    {"shuffle", DP_OPT_BOOL, OFF(shuffle), "true", 0, 0, NULL, NULL,
     "Permute the samples of every epoch.", 0, 0},
    DP_OPT_END,
};

#define SAMPLE_MAX (UINT64_C(1) << 62)
enum { PREFETCH_BYTES = 4096 }; /* +10 to 30 % over none or 1 KiB (bench_feed 200) */

struct dp_feed {
    struct dp_feed_options o;
    struct dp_manifest *m;
    struct dp_feed_index ix;
    struct dp_feed_widen widen;
    uint64_t samples, cursor;
    bool wide; /* u32 ids */
};

void dp_feed_options_init(struct dp_feed_options *o)
{
    *o = (struct dp_feed_options){
        .seq_len = 1024, .batch = 8, .val_fraction = 0.01, .world = 1, .shuffle = true};
}

static int check_options(const struct dp_feed_options *o, struct dp_err *e)
{
    if (o->seq_len < 1 || o->seq_len > 1 << 24)
        DP_FAIL(e, CONFIG, "feed: seq_len %" PRId64 " is outside 1 to 16777216", o->seq_len);
    if (o->batch < 1 || o->batch > 1 << 20)
        DP_FAIL(e, CONFIG, "feed: batch %" PRId64 " is outside 1 to 1048576", o->batch);
    if (o->world < 1 || o->world > 1 << 20)
        DP_FAIL(e, CONFIG, "feed: world %" PRId64 " is outside 1 to 1048576", o->world);
    if (o->rank < 0 || o->rank >= o->world)
        DP_FAIL(e, CONFIG, "feed: rank %" PRId64 " is outside 0 to %" PRId64 " (world %" PRId64 ")",
                o->rank, o->world - 1, o->world);
    if (o->split != DP_FEED_TRAIN && o->split != DP_FEED_VAL)
        DP_FAIL(e, CONFIG, "feed: split %d is neither train nor val", o->split);
    if (!(o->val_fraction >= 0 && o->val_fraction <= 1))
        DP_FAIL(e, CONFIG, "feed: val_fraction %g is outside 0 to 1", o->val_fraction);
    return DP_OK;
}

int dp_feed_open(struct dp_feed **out, const char *manifest_path, const struct dp_feed_options *o,
                 struct dp_err *e)
{
    *out = NULL;
    DP_TRY(check_options(o, e));
    struct dp_feed *f = calloc(1, sizeof *f);
    if (!f) DP_FAIL(e, NOMEM, "feed");
    int rc = DP_OK;
    f->o = *o;
    dp_feed_widen_init(&f->widen);
    DP_TRY_OUT(dp_manifest_read(&f->m, manifest_path, e));
    f->wide = f->m->meta.dtype == DP_SHARD_U32;
    DP_TRY_OUT(dp_feed_index_open(&f->ix, f->m, manifest_path, o->split, o->val_fraction,
                                  DP_FEED_RUNS_MAX, e));
    if (f->ix.tokens < (uint64_t)o->seq_len + 1)
        DP_GOTO(e, CONFIG,
                "%s: the %s split has %" PRIu64 " ids in %" PRIu64 " of %" PRIu64
                " documents, one row takes %" PRId64
                "; lower seq_len, change val_fraction (%g) or add data",
                manifest_path, o->split == DP_FEED_VAL ? "val" : "train", f->ix.tokens,
                f->ix.documents, f->m->documents, o->seq_len + 1, o->val_fraction);
    f->samples = (f->ix.tokens - 1) / (uint64_t)o->seq_len;
    *out = f;
    f = NULL;
out:
    dp_feed_close(f);
    return rc;
}

void dp_feed_close(struct dp_feed *f)
{
    if (!f) return;
    dp_feed_index_release(&f->ix);
    dp_manifest_free(f->m);
    free(f);
}

uint64_t dp_feed_samples(const struct dp_feed *f) { return f->samples; }
uint64_t dp_feed_tokens(const struct dp_feed *f) { return f->ix.tokens; }
uint64_t dp_feed_documents(const struct dp_feed *f) { return f->ix.documents; }
uint32_t dp_feed_vocab_size(const struct dp_feed *f) { return f->m->meta.vocab_size; }
int64_t dp_feed_eot(const struct dp_feed *f) { return f->m->meta.eot; }
struct dp_hash128 dp_feed_tokenizer(const struct dp_feed *f) { return f->m->meta.tokenizer; }

/* Stream positions of global samples. The key schedule is redone only when the epoch changes. */
struct row_order {
    struct dp_feed_order order;
    uint64_t epoch;
};

static uint64_t row_position(const struct dp_feed *f, uint64_t sample, struct row_order *ro)
{
    uint64_t epoch = sample / f->samples, i = sample % f->samples;
    if (f->o.shuffle) {
        if (ro->order.n == 0 || ro->epoch != epoch) {
            dp_feed_order_init(&ro->order, f->samples, (uint64_t)f->o.seed, epoch);
            ro->epoch = epoch;
        }
        i = dp_feed_order_at(&ro->order, i);
    }
    return i * (uint64_t)f->o.seq_len;
}

static int bad_id(const struct dp_feed *f, size_t s, uint64_t first, uint64_t n, struct dp_err *e)
{
    uint64_t i = first;
    while (i + 1 < first + n && dp_shard_id(f->ix.shard[s], i) < f->m->meta.vocab_size) i++;
    DP_FAIL(e, CORRUPT,
            "%s: frame %" PRIu64 ", id number %" PRIu64 " is %" PRIu32
            ", the vocabulary ends at %" PRIu32 "; run dpipe verify",
            f->m->shards[s].name, i / DP_SHARD_FRAME_IDS, i, dp_shard_id(f->ix.shard[s], i),
            f->m->meta.vocab_size);
}

/* n contiguous global ids, over shard boundaries. */
static int copy_ids(const struct dp_feed *f, uint64_t token, uint64_t n, int32_t *ids,
                    struct dp_err *e)
{
    for (size_t s = dp_feed_index_shard(&f->ix, token); n; s++) {
        uint64_t first = token - f->ix.token_start[s], k = f->ix.token_start[s + 1] - token;
        if (k > n) k = n;
        if (!k) continue;
        const void *body = dp_shard_ids(f->ix.shard[s]);
        uint32_t high = f->wide ? f->widen.u32(ids, (const uint32_t *)body + first, (size_t)k)
                                : f->widen.u16(ids, (const uint16_t *)body + first, (size_t)k);
        if (high >= f->m->meta.vocab_size) return bad_id(f, s, first, k, e);
        ids += k;
        token += k;
        n -= k;
    }
    return DP_OK;
}

/* A row that is going to be copied: its first piece, looked up ahead. */
struct row {
    uint64_t pos, token, n; /* n ids of the row follow global id `token` */
};

static struct row row_find(const struct dp_feed *f, uint64_t sample, struct row_order *ro)
{
    struct row r = {.pos = row_position(f, sample, ro)};
    r.n = dp_feed_index_find(&f->ix, r.pos, (uint64_t)f->o.seq_len + 1, &r.token);
    return r;
}

static void row_prefetch(const struct dp_feed *f, const struct row *r)
{
    size_t s = dp_feed_index_shard(&f->ix, r->token), width = (size_t)f->m->meta.dtype;
    uint64_t first = r->token - f->ix.token_start[s], n = f->ix.token_start[s + 1] - r->token;
    if (n > r->n) n = r->n;
    const char *p = (const char *)dp_shard_ids(f->ix.shard[s]) + first * width;
    size_t bytes = n * width < PREFETCH_BYTES ? (size_t)n * width : PREFETCH_BYTES;
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 3);
}

static int row_copy(const struct dp_feed *f, const struct row *r, int32_t *ids, struct dp_err *e)
{
    uint64_t left = (uint64_t)f->o.seq_len + 1, pos = r->pos, token = r->token, n = r->n;
    for (;;) {
        DP_TRY(copy_ids(f, token, n, ids, e));
        ids += n;
        pos += n;
        left -= n;
        if (!left) return DP_OK;
        n = dp_feed_index_find(&f->ix, pos, left, &token);
    }
}

int dp_feed_get(const struct dp_feed *f, uint64_t global_sample, int32_t *ids, struct dp_err *e)
{
    struct row_order ro = {0};
    if (global_sample >= SAMPLE_MAX)
        DP_FAIL(e, USAGE, "feed: sample %" PRIu64 " is past 2^62", global_sample);
    struct row r = row_find(f, global_sample, &ro);
    return row_copy(f, &r, ids, e);
}

int dp_feed_next(struct dp_feed *f, int32_t *ids, struct dp_err *e)
{
    uint64_t batch = (uint64_t)f->o.batch, step = batch * (uint64_t)f->o.world,
             first = f->cursor + (uint64_t)f->o.rank * batch;
    struct row_order ro = {0};
    if (f->cursor >= SAMPLE_MAX - 2 * step)
        DP_FAIL(e, USAGE, "feed: sample %" PRIu64 " is past 2^62", f->cursor);
    struct row r = row_find(f, first, &ro);
    for (uint64_t b = 0; b < batch; b++) {
        /* After the batch's last row comes the first of this rank's next batch. */
        struct row next = row_find(f, b + 1 < batch ? first + b + 1 : first + step, &ro);
        row_prefetch(f, &next);
        DP_TRY(row_copy(f, &r, ids + b * ((uint64_t)f->o.seq_len + 1), e));
        r = next;
    }
    f->cursor += step;
    return DP_OK;
}

void dp_feed_state(const struct dp_feed *f, struct dp_feed_state *s)
{
    *s = (struct dp_feed_state){f->cursor,         f->m->hash, f->o.seed,           f->o.seq_len,
                                f->o.val_fraction, f->o.split, f->o.shuffle ? 1 : 0};
}

int dp_feed_resume(struct dp_feed *f, const struct dp_feed_state *s, struct dp_err *e)
{
    if (!dp_hash128_eq(s->manifest, f->m->hash)) {
        char was[DP_HEX128], now[DP_HEX128];
        dp_hash128_hex(s->manifest, was);
        dp_hash128_hex(f->m->hash, now);
        DP_FAIL(e, CONFIG,
                "feed: the run was reading manifest %s, this one is %s; resume with the same data, "
                "or start a new run",
                was, now);
    }
    if (s->seed != f->o.seed)
        DP_FAIL(e, CONFIG, "feed: the run had seed %" PRId64 ", not %" PRId64, s->seed, f->o.seed);
    if (s->seq_len != f->o.seq_len)
        DP_FAIL(e, CONFIG, "feed: the run had seq_len %" PRId64 ", not %" PRId64, s->seq_len,
                f->o.seq_len);
    if (s->split != f->o.split) DP_FAIL(e, CONFIG, "feed: the run was reading the other split");
    if (s->val_fraction != f->o.val_fraction)
        DP_FAIL(e, CONFIG, "feed: the run had val_fraction %.17g, not %.17g", s->val_fraction,
                f->o.val_fraction);
    if ((s->shuffle != 0) != f->o.shuffle)
        DP_FAIL(e, CONFIG, "feed: the run was %sshuffled", s->shuffle ? "" : "not ");
    if (s->sample >= SAMPLE_MAX)
        DP_FAIL(e, CONFIG, "feed: sample %" PRIu64 " is past 2^62; the state is damaged",
                s->sample);
    f->cursor = s->sample;
    return DP_OK;
}

int dp_feed_locate(const struct dp_feed *f, uint64_t global_sample, uint64_t row_token,
                   struct dp_feed_origin *out, struct dp_err *e)
{
    struct row_order ro = {0};
    if (global_sample >= SAMPLE_MAX)
        DP_FAIL(e, USAGE, "feed: sample %" PRIu64 " is past 2^62", global_sample);
    if (row_token > (uint64_t)f->o.seq_len)
        DP_FAIL(e, USAGE, "feed: token %" PRIu64 " of a row of %" PRId64 " ids", row_token,
                f->o.seq_len + 1);
    uint64_t token;
    dp_feed_index_find(&f->ix, row_position(f, global_sample, &ro) + row_token, 1, &token);
    size_t s = dp_feed_index_shard(&f->ix, token);
    const struct dp_shard *shard = f->ix.shard[s];
    uint64_t at = token - f->ix.token_start[s], d = dp_shard_document_at(shard, at);
    *out = (struct dp_feed_origin){.shard = f->m->shards[s].name,
                                   .shard_number = s,
                                   .document = d,
                                   .document_token = at - (d ? dp_shard_ends(shard)[d - 1] : 0),
                                   .shard_token = at,
                                   .id = dp_shard_doc_ids(shard)[d],
                                   .content = dp_shard_contents(shard)[d],
                                   .source = dp_shard_sources(shard)[d]};
    return DP_OK;
}

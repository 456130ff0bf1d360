#include "base/docs.h"
#include "base/pipeline.h"
#include "tests/test.h"

#include <unistd.h>

static struct dp_err err;

struct odd {
    int64_t modulus;
    bool fail;
};
static const struct dp_opt odd_opts[] = {
    {.name = "modulus", .type = DP_OPT_INT, .offset = offsetof(struct odd, modulus), .preset = "3"},
    DP_OPT_END,
};
static int odd_run(const void *ctx, void *worker, struct dp_batch *b, struct dp_err *e)
{
    const struct odd *o = ctx;
    (void)worker;
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->drop[i]) continue;
        if (o->fail && b->id[i].lo == 500) DP_FAIL(e, IO, "row 500");
        if (b->id[i].lo % (uint64_t)o->modulus == 0) dp_batch_drop(b, i, DP_DROP_EMPTY, (double)b->id[i].lo, 1);
    }
    return DP_OK;
}
static const struct dp_stage_type odd_stage = {.name = "odd", .version = 1, .needs = DP_COL_BYTES, .fills = DP_COL_TEXT, .opts = odd_opts,
                                               .ctx_size = sizeof(struct odd), .run = odd_run};

struct io {
    uint64_t next, rows, sum, dropped, last_seq;
    bool ordered;
};
static int next(void *ctx, struct dp_batch *b, struct dp_err *e)
{
    struct io *io = ctx;
    (void)e;
    while (io->next < io->rows && b->count < 7) {
        uint32_t i = (uint32_t)dp_batch_add(b);
        b->id[i].lo = io->next++;
        b->text[i] = dp_span_str("abc");
        b->bytes_in[i] = 3;
    }
    return b->count ? DP_OK : DP_EOF;
}
static int done(void *ctx, struct dp_batch *b, struct dp_err *e)
{
    struct io *io = ctx;
    (void)e;
    io->ordered = io->ordered && b->seq == io->last_seq++;
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->drop[i]) io->dropped++;
        else io->sum = io->sum * 31 + b->id[i].lo;
    }
    return DP_OK;
}

TEST(order_and_counts_do_not_depend_on_lanes)
{
    const struct dp_stage_type *types[] = {&odd_stage};
    uint64_t want = 0;
    for (int lanes = 1; lanes <= 4; lanes++) {
        struct dp_pipeline p;
        struct dp_stage_counts c[2] = {{0}};
        struct io io = {.rows = 1000, .ordered = true};
        struct dp_pipeline_io calls = {&io, next, done, NULL, NULL, NULL};
        REQUIRE_OK(dp_pipeline_init(&p, types, 1, DP_COL_BYTES, &err));
        REQUIRE_OK(dp_pipeline_open(&p, &err));
        CHECK_OK(dp_pipeline_run(&p, &calls, lanes, 16, 1 << 20, c, &err));
        CHECK(io.ordered);
        CHECK_INT(io.dropped, 334);
        CHECK_INT(c[1].docs_in, 1000);
        CHECK_INT(c[1].docs_out, 666);
        CHECK_INT(c[1].drop[DP_DROP_EMPTY], 334);
        CHECK_INT(c[1].bytes_in, 3000);
        if (lanes == 1) want = io.sum;
        CHECK(io.sum == want);
        dp_pipeline_release(&p);
    }
}

TEST(a_stage_that_fails_ends_the_run)
{
    const struct dp_stage_type *types[] = {&odd_stage};
    for (int lanes = 1; lanes <= 3; lanes++) {
        struct dp_pipeline p;
        struct dp_stage_counts c[2] = {{0}};
        struct io io = {.rows = 100000, .ordered = true};
        struct dp_pipeline_io calls = {&io, next, done, NULL, NULL, NULL};
        REQUIRE_OK(dp_pipeline_init(&p, types, 1, DP_COL_BYTES, &err));
        ((struct odd *)p.ctx[0])->fail = true;
        REQUIRE_OK(dp_pipeline_open(&p, &err));
        CHECK_INT(dp_pipeline_run(&p, &calls, lanes, 16, 1 << 20, c, &err), DP_IO);
        CHECK_STR(err.msg, "row 500");
        CHECK(io.ordered && io.next < 100000);
        dp_pipeline_release(&p);
    }
    struct dp_pipeline p;
    CHECK_INT(dp_pipeline_init(&p, types, 1, DP_COL_ID, &err), DP_CONFIG); /* needs what nobody fills */
}

/* Row stages: `count` counts rows in scratch that both of a worker have; the second must find what the first put there for the same row. */
struct tally {
    uint64_t row, rows;
};
struct tally_worker {
    int own;
    struct tally *shared;
};
struct tally_options {
    bool enabled, second;
};
static int tally_closed;
static void tally_row(void *scratch)
{
    ((struct tally *)scratch)->row = UINT64_MAX;
}
static void tally_close(void *scratch)
{
    tally_closed += ((struct tally *)scratch)->rows > 0;
}
static const struct dp_stage_shared tally_shared = {sizeof(struct tally), tally_row, tally_close};
static const struct dp_opt tally_opts[] = {
    {.name = "enabled", .type = DP_OPT_BOOL, .offset = offsetof(struct tally_options, enabled), .preset = "true"},
    DP_OPT_END,
};
static int tally_run(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    const struct tally_options *o = ctx;
    struct tally *t = ((struct tally_worker *)worker)->shared;
    if (b->drop[i]) DP_FAIL(e, BROKEN, "a dropped row");
    if (o->second && t->row != b->id[i].lo) DP_FAIL(e, BROKEN, "another row");
    if (!o->second && t->row != UINT64_MAX) DP_FAIL(e, BROKEN, "the row before");
    t->row = b->id[i].lo;
    t->rows++;
    if (!o->second && b->id[i].lo % 5 == 0) dp_batch_drop(b, i, DP_DROP_BINARY, 5, 0);
    return DP_OK;
}
static const struct dp_stage_type tally_stage = {.name = "tally", .version = 1, .needs = DP_COL_BYTES, .fills = DP_COL_TEXT, .opts = tally_opts,
                                                 .ctx_size = sizeof(struct tally_options), .worker_size = sizeof(struct tally_worker),
                                                 .shared = &tally_shared, .shared_at = offsetof(struct tally_worker, shared), .row_bytes_max = 3,
                                                 .row = tally_run};

TEST(row_stages_share_scratch_a_row)
{
    const struct dp_stage_type *types[] = {&tally_stage, &tally_stage, &odd_stage, &tally_stage};
    for (int lanes = 1; lanes <= 3; lanes++) {
        struct dp_pipeline p;
        struct dp_stage_counts c[5] = {{0}};
        struct io io = {.rows = 1000, .ordered = true};
        struct dp_pipeline_io calls = {.ctx = &io, .next = next, .done = done};
        tally_closed = 0;
        REQUIRE_OK(dp_pipeline_init(&p, types, 4, DP_COL_BYTES, &err));
        ((struct tally_options *)p.ctx[1])->second = true;
        ((struct tally_options *)p.ctx[3])->enabled = false;
        REQUIRE_OK(dp_pipeline_open(&p, &err));
        CHECK_OK(dp_pipeline_run(&p, &calls, lanes, 16, 1 << 20, c, &err));
        CHECK_INT(c[1].docs_out, 800);
        CHECK_INT(c[1].drop[DP_DROP_BINARY], 200);
        CHECK_INT(c[2].docs_in, 800);
        CHECK_INT(c[2].bytes_in, 2400);
        CHECK_INT(c[3].docs_out, c[4].docs_out);
        CHECK(tally_closed >= 1 && tally_closed <= lanes);
        dp_pipeline_release(&p);
    }
    struct dp_batch b;
    void *ctx = &(struct tally_options){.enabled = true}, *worker;
    const struct dp_stage_type *t = &tally_stage;
    REQUIRE_OK(dp_batch_init(&b, 2, 1 << 16, &err));
    REQUIRE_OK(dp_stage_workers_open(&t, &ctx, 1, &worker, &err));
    dp_batch_add(&b);
    dp_batch_add(&b);
    b.id[0].lo = b.id[1].lo = 1;
    b.text[0] = dp_span_str("long");
    CHECK_OK(dp_stage_run(t, ctx, worker, &b, &err));
    CHECK_STR(dp_drop_name(b.drop[0]), "too_large");
    CHECK_NEAR(b.limit[0], 3, 0);
    CHECK_STR(dp_drop_name(b.drop[1]), "kept");
    dp_stage_workers_close(&t, &ctx, 1, &worker);
    dp_batch_release(&b);
}

TEST(document_files_round_trip)
{
    struct dp_batch b;
    char path[600], hex[65];
    uint64_t bytes;
    struct dp_lines *l;
    struct dp_docs_reader *r;
    struct dp_doc d;
    snprintf(path, sizeof path, "%s/docs.jsonl.zst", dp_test_tmpdir());
    REQUIRE_OK(dp_batch_init(&b, 4, 1 << 20, &err));
    int64_t i = dp_batch_add(&b);
    b.id[i] = dp_hash128("x", 1);
    b.text[i] = dp_span_str("line\n\"quoted\" \xc3\xa9 \x01");
    b.url[i] = dp_span_str("http://a/");
    b.meta[i] = dp_span_str("\"k\":[1]");
    memcpy(b.lang[i], "en", 3);
    FILE *f = fopen(path, "wb+");
    REQUIRE(f);
    REQUIRE_OK(dp_lines_fd(&l, dup(fileno(f)), path, 3, &err));
    fclose(f);
    for (int k = 0; k < 30000; k++) {
        dp_docs_print(&b, 0, dp_lines_buf(l));
        REQUIRE_OK(dp_lines_end(l, &err));
    }
    REQUIRE_OK(dp_lines_finish(l, hex, &bytes, &err));
    dp_lines_close(l);
    REQUIRE_OK(dp_docs_open(&r, path, &err));
    int n = 0, rc;
    while ((rc = dp_docs_next(r, &d, &err)) == DP_OK && n < 100000) {
        n++;
        if (n % 1000) continue;
        CHECK(dp_hash128_eq(d.id, b.id[0]));
        CHECK(dp_span_eq(d.text, b.text[0]));
        CHECK_SPAN(d.url, "http://a/");
        CHECK_SPAN(d.meta, "{\"k\":[1]}");
    }
    CHECK_INT(rc, DP_EOF);
    CHECK_INT(n, 30000);
    dp_docs_close(r);
    CHECK(truncate(path, (off_t)bytes / 2) == 0); /* torn: an error, not an early end */
    REQUIRE_OK(dp_docs_open(&r, path, &err));
    while ((rc = dp_docs_next(r, &d, &err)) == DP_OK) {
    }
    CHECK_INT(rc, DP_CORRUPT);
    dp_docs_close(r);
    dp_batch_release(&b);
}

#include "trainer_feed/feed.h"

#include "trainer_feed/feed_index.h"
#include "trainer_feed/feed_order.h"
#include "tests/unit/test_shard_data.h"

#include <pthread.h>

static struct dp_err err;

TEST(feed_order_is_a_bijection)
{
    static const uint64_t sizes[] = {1,  2,  3,   4,   5,   7,   8,    9,    15,   16,    17,
                                     31, 33, 100, 255, 256, 257, 1000, 4095, 4097, 65537, 1000003};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            uint64_t n = sizes[k];
            struct dp_feed_order o;
            dp_feed_order_init(&o, n, seed, seed * 5);
            uint8_t *hit = calloc(1, n);
            for (uint64_t i = 0; i < n; i++) {
                uint64_t p = dp_feed_order_at(&o, i);
                REQUIRE(p < n && !hit[p]);
                hit[p] = 1;
            }
            free(hit);
        }
}

TEST(feed_order_is_frozen_and_mixes)
{
    /* Frozen values: whoever changes the order changes every run in progress. */
    struct dp_feed_order o, o2;
    dp_feed_order_init(&o, 1000000007, 42, 3);
    uint64_t fold = 0;
    for (uint64_t i = 0; i < 1000; i++) fold = dp_mix64(fold + dp_feed_order_at(&o, i * 999983));
    CHECK_INT(fold, INT64_C(-2219159839242389785));
    /* 10^5 images fall evenly into 100 bins (chi-square with 99 degrees; 200 is past 1e-8),
     * neighbours are unrelated, epochs differ. */
    enum { N = 100000 };
    uint32_t bins[100] = {0}, rises = 0, same = 0;
    dp_feed_order_init(&o, 10 * N, 1, 0);
    dp_feed_order_init(&o2, 10 * N, 1, 1);
    for (uint64_t i = 0; i < N; i++) {
        bins[dp_feed_order_at(&o, i) / (10 * N / 100)]++;
        rises += dp_feed_order_at(&o, i + 1) > dp_feed_order_at(&o, i);
        same += dp_feed_order_at(&o, i) == dp_feed_order_at(&o2, i);
    }
    double chi = 0;
    for (int b = 0; b < 100; b++) chi += (bins[b] - 1000.0) * (bins[b] - 1000.0) / 1000;
    CHECK(chi < 200);
    CHECK(rises > N / 2 - 1000 && rises < N / 2 + 1000);
    CHECK(same < 10);
}

/* What the header promises, computed the slow way: the split's stream, and the document of each of
 * its ids. */
struct stream {
    uint32_t *ids;
    size_t *doc;
    uint64_t tokens, docs;
};
static struct stream stream_of(const struct data *d, int split, double val_fraction)
{
    struct stream s = {malloc((d->tokens + 1) * sizeof *s.ids),
                       malloc((d->tokens + 1) * sizeof *s.doc), 0, 0};
    for (size_t k = 0; k < d->docs; k++) {
        if (dp_feed_split_of(d->doc[k].content, val_fraction, 0) != split) continue;
        s.docs++;
        for (uint64_t i = 0; i < d->doc[k].n; i++) {
            s.doc[s.tokens] = k;
            s.ids[s.tokens++] = d->all[d->doc[k].first + i];
        }
    }
    return s;
}
static void stream_free(struct stream *s)
{
    free(s->ids);
    free(s->doc);
}

static struct dp_feed_options options(int64_t seq_len, int split, double val_fraction, bool shuffle)
{
    struct dp_feed_options o;
    dp_feed_options_init(&o);
    o.seq_len = seq_len;
    o.batch = 3;
    o.seed = 7;
    o.split = split;
    o.val_fraction = val_fraction;
    o.shuffle = shuffle;
    return o;
}

static void check_stream(const struct data *d, int64_t seq_len, int split, double val_fraction)
{
    struct stream s = stream_of(d, split, val_fraction);
    struct dp_feed_options o = options(seq_len, split, val_fraction, false);
    struct dp_feed *f;
    int32_t *row = malloc((size_t)(seq_len + 1) * sizeof *row);
    int rc = dp_feed_open(&f, d->path, &o, &err);
    if (s.tokens < (uint64_t)seq_len + 1) {
        CHECK_INT(rc, DP_CONFIG);
    } else {
        REQUIRE_OK(rc);
        CHECK_INT(dp_feed_tokens(f), s.tokens);
        CHECK_INT(dp_feed_documents(f), s.docs);
        CHECK_INT(dp_feed_samples(f), (s.tokens - 1) / (uint64_t)seq_len);
        for (uint64_t k = 0; k < dp_feed_samples(f); k++) {
            REQUIRE_OK(dp_feed_get(f, k, row, &err));
            for (int64_t i = 0; i <= seq_len; i++)
                REQUIRE((uint32_t)row[i] == s.ids[k * (uint64_t)seq_len + (uint64_t)i]);
        }
        struct dp_feed_origin at;
        for (uint64_t k = 0; k < dp_feed_samples(f); k += 1 + dp_feed_samples(f) / 50)
            for (int64_t i = 0; i <= seq_len; i += 1 + seq_len / 9) {
                uint64_t pos = k * (uint64_t)seq_len + (uint64_t)i;
                const struct data_doc *doc = &d->doc[s.doc[pos]];
                REQUIRE_OK(dp_feed_locate(f, k, (uint64_t)i, &at, &err));
                REQUIRE(dp_hash128_eq(at.id, doc->id) && dp_hash128_eq(at.content, doc->content) &&
                        at.source == doc->source);
                REQUIRE(d->all[doc->first + at.document_token] == s.ids[pos] &&
                        strncmp(at.shard, "part-", 5) == 0);
                REQUIRE(pos < at.document_token || s.doc[pos - at.document_token] == s.doc[pos]);
            }
        CHECK_INT(dp_feed_locate(f, 0, (uint64_t)seq_len + 1, &at, &err), DP_USAGE);
        dp_feed_close(f);
    }
    free(row);
    stream_free(&s);
}

TEST(feed_rows_are_the_split_stream)
{
    static const struct {
        uint32_t vocab;
        int64_t eot;
        int shards, docs;
        uint32_t max_len;
    } t[] = {{50257, 50256, 3, 200, 60},
             {70000, -1, 4, 150, 5},
             {65536, 0, 1, 50, 300},
             {200019, 199999, 9, 40, 0},
             {1000, -1, 6, 40, 1}};
    static const double fractions[] = {0, 0.01, 0.1, 0.5, 0.97, 1};
    static const int64_t lens[] = {1, 2, 17, 64, 501};
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        struct data d;
        REQUIRE_OK(data_make(&d, t[k].vocab, t[k].eot, t[k].shards, t[k].docs, t[k].max_len, 31 + k,
                             &err));
        for (size_t i = 0; i < 6; i++)
            for (size_t j = 0; j < 5; j++) {
                check_stream(&d, lens[j], DP_FEED_TRAIN, fractions[i]);
                check_stream(&d, lens[j], DP_FEED_VAL, fractions[i]);
            }
        data_release(&d);
    }
}

TEST(feed_index_stays_right_when_it_thins_out)
{
    /* The same stream through an index of 2 to 64 entries as through a full one. */
    struct data d;
    struct dp_manifest *m;
    REQUIRE_OK(data_make(&d, 50257, -1, 5, 400, 9, 41, &err));
    REQUIRE_OK(dp_manifest_read(&m, d.path, &err));
    for (size_t max = 2; max <= 64; max = max * 2 + 1) {
        struct dp_feed_index full, thin;
        struct dp_feed_select train = {.split = DP_FEED_TRAIN, .val_fraction = 0.3};
        struct dp_feed_docs docs;
        REQUIRE_OK(dp_feed_docs_open(&docs, m, d.path, m->count, &train, false, false, &err));
        REQUIRE_OK(dp_feed_index_open(&full, &docs, DP_FEED_RUNS_MAX, &err));
        REQUIRE_OK(dp_feed_index_open(&thin, &docs, max, &err));
        CHECK(full.stride == 1 && thin.stride > 1 && thin.runs <= max &&
              thin.tokens == full.tokens);
        for (uint64_t pos = 0; pos < full.tokens; pos++)
            for (uint64_t want = 1; want <= 40 && want <= full.tokens - pos; want += 13) {
                uint64_t a, b, n = dp_feed_index_find(&full, pos, want, &a),
                               k = dp_feed_index_find(&thin, pos, want, &b);
                REQUIRE(a == b && n == k);
            }
        dp_feed_index_release(&full);
        dp_feed_index_release(&thin);
        dp_feed_docs_release(&docs);
    }
    dp_manifest_free(m);
    data_release(&d);
}

TEST(feed_split_is_by_content)
{
    struct data d;
    REQUIRE_OK(data_make(&d, 300, 0, 4, 2500, 3, 51, &err));
    size_t val = 0;
    for (size_t k = 0; k < d.docs; k++) {
        int s = dp_feed_split_of(d.doc[k].content, 0.1, 0);
        val += s == DP_FEED_VAL;
        if (k % 7 == 6)
            CHECK_INT(s,
                      dp_feed_split_of(d.doc[k - 1].content, 0.1, 0)); /* duplicates stay together */
        if (s == DP_FEED_VAL) CHECK_INT(dp_feed_split_of(d.doc[k].content, 0.2, 0), DP_FEED_VAL);
        CHECK_INT(dp_feed_split_of(d.doc[k].content, 0, 0), DP_FEED_TRAIN);
        CHECK_INT(dp_feed_split_of(d.doc[k].content, 1, 0), DP_FEED_VAL);
    }
    CHECK_NEAR((double)val, 0.1 * (double)d.docs,
               5 * 35); /* a seventh are pairs: a little over 5 sigma */
    struct dp_feed *a, *b;
    struct dp_feed_options o = options(16, DP_FEED_TRAIN, 0.1, true);
    REQUIRE_OK(dp_feed_open(&a, d.path, &o, &err));
    o.split = DP_FEED_VAL;
    REQUIRE_OK(dp_feed_open(&b, d.path, &o, &err));
    CHECK_INT(dp_feed_tokens(a) + dp_feed_tokens(b), d.tokens);
    CHECK_INT(dp_feed_documents(a) + dp_feed_documents(b), d.docs);
    dp_feed_close(a);
    dp_feed_close(b);
    data_release(&d);
}

TEST(feed_epochs_permute_all_samples)
{
    struct data d;
    REQUIRE_OK(data_make(&d, 1u << 20, -1, 2, 100, 90, 61,
                         &err)); /* a large vocabulary: rows tell themselves apart */
    struct dp_feed_options o = options(8, DP_FEED_TRAIN, 0.05, true),
                           plain = options(8, DP_FEED_TRAIN, 0.05, false);
    struct dp_feed *f, *p;
    REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
    REQUIRE_OK(dp_feed_open(&p, d.path, &plain, &err));
    uint64_t n = dp_feed_samples(f), moved = 0;
    int32_t row[9], want[9];
    uint8_t *hit = malloc(n);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        memset(hit, 0, n);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t k = 0;
            REQUIRE_OK(dp_feed_get(f, epoch * n + i, row, &err));
            for (; k < n; k++) {
                REQUIRE_OK(dp_feed_get(p, k, want, &err));
                if (memcmp(row, want, sizeof row) == 0) break;
            }
            REQUIRE(k < n && !hit[k]);
            hit[k] = 1;
            moved += k != i;
        }
    }
    CHECK(moved > 2 * n);
    free(hit);
    dp_feed_close(f);
    dp_feed_close(p);
    data_release(&d);
}

/* The global sequence of `steps` batches as `world` ranks see it, rows in global order. */
static int32_t *sequence(const struct data *d, int64_t world, int64_t global_batch, int steps,
                         uint64_t restart_every)
{
    struct dp_feed_options o = options(16, DP_FEED_TRAIN, 0.1, true);
    size_t row = 17, all = (size_t)steps * (size_t)global_batch * row;
    int32_t *out = malloc(all * sizeof *out);
    o.world = world;
    o.batch = global_batch / world;
    for (o.rank = 0; o.rank < world; o.rank++) {
        struct dp_feed *f;
        struct dp_feed_state s;
        if (dp_feed_open(&f, d->path, &o, &err) < 0) abort();
        for (int k = 0; k < steps; k++) {
            int32_t *to =
                out + ((size_t)k * (size_t)global_batch + (size_t)(o.rank * o.batch)) * row;
            if (dp_feed_next(f, to, &err) < 0) abort();
            if (restart_every && (uint64_t)k % restart_every == restart_every - 1) {
                dp_feed_state(f, &s);
                dp_feed_close(f);
                if (dp_feed_open(&f, d->path, &o, &err) < 0 || dp_feed_resume(f, &s, &err) < 0)
                    abort();
            }
        }
        dp_feed_close(f);
    }
    return out;
}

TEST(feed_sequence_is_the_same_for_any_world_and_restart)
{
    struct data d;
    REQUIRE_OK(data_make(&d, 50257, 50256, 3, 60, 120, 71, &err));
    enum { STEPS = 100 }; /* several epochs */
    int32_t *want = sequence(&d, 1, 24, STEPS, 0);
    static const int64_t worlds[] = {1, 2, 3, 8, 24};
    for (size_t i = 0; i < 5; i++)
        for (uint64_t every = 0; every < 8; every += 3) {
            int32_t *got = sequence(&d, worlds[i], 24, STEPS, every);
            CHECK(memcmp(got, want, (size_t)STEPS * 24 * 17 * sizeof *got) == 0);
            free(got);
        }
    /* dp_feed_get is the same function; a restart may change the world too. */
    struct dp_feed_options o = options(16, DP_FEED_TRAIN, 0.1, true);
    struct dp_feed_state s;
    struct dp_feed *f;
    int32_t row[17], batch[4 * 17];
    o.batch = 4;
    REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
    CHECK(dp_feed_samples(f) * 3 < STEPS * 24);
    for (uint64_t g = 0; g < STEPS * 24; g++) {
        REQUIRE_OK(dp_feed_get(f, g, row, &err));
        REQUIRE(memcmp(row, want + g * 17, sizeof row) == 0);
    }
    for (int i = 0; i < 5; i++) REQUIRE_OK(dp_feed_next(f, batch, &err));
    dp_feed_state(f, &s);
    CHECK_INT(s.sample, 20);
    dp_feed_close(f);
    o.batch = 2;
    o.world = 2;
    o.rank = 1;
    REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
    REQUIRE_OK(dp_feed_resume(f, &s, &err));
    REQUIRE_OK(dp_feed_next(f, batch, &err));
    CHECK(memcmp(batch, want + 22 * 17, sizeof row * 2) == 0);
    dp_feed_close(f);
    free(want);
    data_release(&d);
}

TEST(feed_resume_refuses_another_run)
{
    struct data d, other;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 60, 50, 81, &err));
    REQUIRE_OK(data_make(&other, 300, 0, 1, 60, 50, 82, &err));
    struct dp_feed_options o = options(8, DP_FEED_TRAIN, 0.1, true);
    struct dp_feed_state good, s;
    struct dp_feed *f, *g;
    REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
    REQUIRE_OK(dp_feed_open(&g, other.path, &o, &err));
    dp_feed_state(f, &good);
    CHECK(sizeof good < 200);
    CHECK_INT(dp_feed_resume(g, &good, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "manifest"));
    static const char *const says[] = {"seed",         "seq_len",  "split",
                                       "val_fraction", "shuffled", "2^62"};
    for (int k = 0; k < 6; k++) {
        s = good;
        if (k == 0) s.seed++;
        if (k == 1) s.seq_len++;
        if (k == 2) s.split = DP_FEED_VAL;
        if (k == 3) s.val_fraction = 0.11;
        if (k == 4) s.shuffle = 0;
        if (k == 5) s.sample = UINT64_MAX;
        CHECK_INT(dp_feed_resume(f, &s, &err), DP_CONFIG);
        CHECK(strstr(err.msg, says[k]));
    }
    CHECK_OK(dp_feed_resume(f, &good, &err));
    good.sample = (UINT64_C(1) << 62) - 1;
    CHECK_OK(dp_feed_resume(f, &good, &err));
    int32_t rows[3 * 9];
    CHECK_INT(dp_feed_next(f, rows, &err), DP_USAGE);
    CHECK_INT(dp_feed_get(f, UINT64_MAX, rows, &err), DP_USAGE);
    dp_feed_close(f);
    dp_feed_close(g);
    data_release(&d);
    data_release(&other);
}

TEST(feed_open_refuses)
{
    struct data d;
    struct dp_feed *f;
    REQUIRE_OK(data_make(&d, 300, 0, 1, 4, 5, 91, &err));
    struct dp_feed_options o = options((int64_t)d.tokens, DP_FEED_TRAIN, 0, true);
    CHECK_INT(dp_feed_open(&f, d.path, &o, &err), DP_CONFIG);
    char has[64], takes[64];
    snprintf(has, sizeof has, "has %" PRIu64 " ids in 4 of 4 documents", d.tokens);
    snprintf(takes, sizeof takes, "takes %" PRIu64, d.tokens + 1);
    CHECK(!f && strstr(err.msg, has) && strstr(err.msg, takes));
    o.seq_len--;
    CHECK_OK(dp_feed_open(&f, d.path, &o, &err)); /* exactly one sample */
    CHECK_INT(dp_feed_samples(f), 1);
    dp_feed_close(f);
    o.split = DP_FEED_VAL;
    CHECK_INT(dp_feed_open(&f, d.path, &o, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "val split has 0 ids"));
    for (int k = 0; k < 9; k++) {
        o = options(2, DP_FEED_TRAIN, 0, true);
        if (k == 0) o.seq_len = 0;
        if (k == 1) o.seq_len = (1 << 24) + 1;
        if (k == 2) o.batch = 0;
        if (k == 3) o.world = 0;
        if (k == 4) o.rank = 1;
        if (k == 5) o.rank = -1;
        if (k == 6) o.split = 3;
        if (k == 7) o.val_fraction = NAN;
        if (k == 8) o.val_fraction = 1.5;
        if (dp_feed_open(&f, d.path, &o, &err) != DP_CONFIG) DP_TEST_FAIL("case %d was taken", k);
    }
    o = options(2, DP_FEED_TRAIN, 0, true);
    CHECK_INT(dp_feed_open(&f, "/nonexistent/manifest.json", &o, &err), DP_NOTFOUND);
    data_flip(d.dir, "part-000.dpx", 1100);
    CHECK_INT(dp_feed_open(&f, d.path, &o, &err), DP_CORRUPT);
    data_release(&d);
}

TEST(feed_options_match_their_table)
{
    struct dp_feed_options a, b;
    memset(&b, 0, sizeof b);
    dp_feed_options_init(&a);
    REQUIRE_OK(dp_opt_defaults(dp_feed_opts, &b, &err));
    CHECK(a.seq_len == b.seq_len && a.batch == b.batch && a.seed == b.seed && a.split == b.split &&
          a.val_fraction == b.val_fraction);
    CHECK(a.rank == b.rank && a.world == b.world && a.shuffle == b.shuffle);
    CHECK(a.test_fraction == b.test_fraction && a.pack == b.pack && a.loss_mask == b.loss_mask && a.on_bad == b.on_bad && a.check == b.check &&
          !b.domains && !b.mixture);
}

TEST(feed_never_hands_out_an_id_outside_the_vocabulary)
{
    struct data d;
    struct dp_feed *f;
    REQUIRE_OK(data_make(&d, 200019, 0, 1, 400, 400, 95, &err));
    REQUIRE(d.tokens > 65536 + 700);
    data_flip(d.dir, "part-000.bin",
              (65536ull + 600) * 32 + 31); /* the top bit of an id in frame 1 */
    struct dp_feed_options o = options(500, DP_FEED_TRAIN, 0, false);
    REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
    int32_t row[501];
    int bad = 0;
    for (uint64_t k = 0; k < dp_feed_samples(f); k++) {
        int rc = dp_feed_get(f, k, row, &err);
        bad += rc < 0;
        if (rc < 0)
            CHECK(rc == DP_CORRUPT && strstr(err.msg, "part-000.bin: frame 1, id number 66136 is"));
        for (int i = 0; rc >= 0 && i <= 500; i++) REQUIRE(row[i] >= 0 && row[i] < 200019);
    }
    CHECK_INT(bad, 1);
    dp_feed_close(f);
    data_release(&d);
}

struct reader {
    const struct dp_feed *f;
    const int32_t *want;
    int bad;
};
static void *read_some(void *arg)
{
    struct reader *r = arg;
    struct dp_err e;
    int32_t row[17];
    for (uint64_t g = 0; g < 240; g++)
        if (dp_feed_get(r->f, g, row, &e) < 0 || memcmp(row, r->want + g * 17, sizeof row) != 0)
            r->bad++;
    return NULL;
}

TEST(feed_get_from_many_threads)
{
    struct data d;
    struct dp_feed *f;
    REQUIRE_OK(data_make(&d, 50257, 50256, 3, 60, 120, 71, &err));
    int32_t *want = sequence(&d, 1, 24, 10, 0);
    for (int check = 0; check < 2; check++) { /* with check, all meet the frames first at once */
        struct dp_feed_options o = options(16, DP_FEED_TRAIN, 0.1, true);
        o.check = check != 0;
        REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
        pthread_t t[4];
        struct reader r[4];
        for (int i = 0; i < 4; i++) {
            r[i] = (struct reader){f, want, 0};
            REQUIRE(pthread_create(&t[i], NULL, read_some, &r[i]) == 0);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(t[i], NULL);
            CHECK_INT(r[i].bad, 0);
        }
        dp_feed_close(f);
    }
    free(want);
    data_release(&d);
}

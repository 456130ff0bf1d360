/* The sampler whole: domains, stages, packing, ranks, restarts, masks, growth and damage together. */
#include "trainer_feed/feed.h"

#include "tests/unit/test_shard_data.h"

#include <sys/stat.h>

static struct dp_err err;

enum { T = 32, ROW = T + 1 };

/* Three data sets of one tokenizer. */
static struct data sets[3];
static void make_sets(void)
{
    if (sets[0].path) return;
    data_tokenizer = 4711;
    if (data_make(&sets[0], 1u << 20, 7, 3, 60, 150, 1, &err) < 0 || data_make(&sets[1], 1u << 20, 7, 2, 40, 20, 2, &err) < 0 ||
        data_make(&sets[2], 1u << 20, 7, 1, 30, 400, 3, &err) < 0)
        abort();
}
static const char stages[] = "web=0.5,books=0.3,code=0.2; 150:web=0.1,books=0.1,code=0.8; 400:books=1";

static struct dp_feed_options options(int pack)
{
    static char text[2048], mixture[256];
    make_sets();
    snprintf(text, sizeof text, "web=%s,books=%s,code=%s", sets[0].path, sets[1].path, sets[2].path);
    snprintf(mixture, sizeof mixture, "%s", stages);
    struct dp_feed_options o;
    dp_feed_options_init(&o);
    o.seq_len = T;
    o.batch = 1;
    o.seed = 99;
    o.val_fraction = 0.1;
    o.pack = pack;
    o.domains = text;
    o.mixture = mixture;
    return o;
}
static struct dp_feed *feed_open(const struct dp_feed_options *o)
{
    struct dp_feed *f;
    if (dp_feed_open(&f, NULL, o, &err) < 0) {
        DP_TEST_FAIL("%s", err.msg);
        abort();
    }
    return f;
}

/* --- ranks and restarts --- */

static void check_world(int64_t world, int64_t batch, int restart, const int32_t *want, size_t samples, int pack)
{
    struct dp_feed_options o = options(pack);
    size_t steps = samples / (size_t)(world * batch);
    int32_t *got = malloc((size_t)batch * ROW * sizeof *got);
    o.world = world;
    o.batch = batch;
    for (o.rank = 0; o.rank < world; o.rank++) {
        struct dp_feed *f = feed_open(&o);
        struct dp_feed_state s;
        for (size_t k = 0; k < steps; k++) {
            if (restart && k % (size_t)restart == (size_t)(o.rank % restart)) {
                dp_feed_state(f, &s);
                dp_feed_close(f);
                f = feed_open(&o);
                REQUIRE_OK(dp_feed_resume(f, &s, &err));
            }
            REQUIRE_OK(dp_feed_next(f, got, &err));
            size_t first = k * (size_t)(world * batch) + (size_t)(o.rank * batch);
            if (memcmp(got, want + first * ROW, (size_t)batch * ROW * sizeof *got) != 0)
                DP_TEST_FAIL("world %d, batch %d, rank %d, step %zu differs", (int)world, (int)batch, (int)o.rank, k);
        }
        dp_feed_close(f);
    }
    free(got);
}

TEST(sequence_is_the_same_for_1_to_64_ranks_and_any_restart)
{
    enum { SAMPLES = 640 };
    for (int pack = 0; pack < 2; pack++) {
        struct dp_feed_options o = options(pack);
        struct dp_feed *f = feed_open(&o);
        int32_t *want = malloc((size_t)SAMPLES * ROW * sizeof *want);
        for (uint64_t g = SAMPLES; g-- > 0;) REQUIRE_OK(dp_feed_get(f, g, want + g * ROW, &err)); /* in any order */
        for (int64_t world = 1; world <= 64; world++) check_world(world, 1 + world % 3, world % 4, want, SAMPLES, pack);
        /* Every restart point, each time with another number of ranks: 1 to 64, whether they divide what was or not. */
        int32_t *got = malloc(ROW * sizeof *got);
        struct dp_feed_state s;
        dp_feed_state(f, &s);
        CHECK(sizeof s < 200);
        for (uint64_t g = 0; g < SAMPLES; g++) {
            o = options(pack);
            o.world = (int64_t)(1 + g % 64);
            o.rank = (int64_t)(g * 7 % (uint64_t)o.world);
            s.sample = g;
            struct dp_feed *r = feed_open(&o);
            REQUIRE_OK(dp_feed_resume(r, &s, &err));
            REQUIRE_OK(dp_feed_next(r, got, &err));
            if (g + (uint64_t)o.rank < SAMPLES) REQUIRE(memcmp(got, want + (g + (uint64_t)o.rank) * ROW, ROW * sizeof *got) == 0);
            dp_feed_close(r);
        }
        free(got);
        free(want);
        dp_feed_close(f);
    }
}

/* --- mixtures --- */

TEST(domains_are_drawn_in_their_shares_and_whole)
{
    /* Names stand in alphabetical order: books, code, web. */
    for (int pack = 0; pack < 2; pack++) {
        struct dp_feed_options o = options(pack);
        struct dp_feed *f = feed_open(&o);
        struct dp_feed_domain_info info[3];
        struct dp_feed_meta meta = {0};
        uint64_t drawn[3] = {0};
        uint32_t domain;
        CHECK_INT(dp_feed_domains(f), 3);
        for (size_t d = 0; d < 3; d++) dp_feed_domain_info(f, d, &info[d]);
        CHECK_STR(info[0].name, "books");
        CHECK_STR(info[1].name, "code");
        CHECK_STR(info[2].name, "web");
        meta.domain = &domain;
        /* Each domain's draws are its own feed's, alone and under the same name. */
        struct dp_feed *alone[3];
        const char *names[] = {"books", "code", "web"};
        for (size_t d = 0; d < 3; d++) {
            struct dp_feed_domain one = {names[d], sets[d == 0 ? 1 : d == 1 ? 2 : 0].path, NULL, NULL};
            struct dp_feed_options plain = o;
            plain.domains = plain.mixture = NULL;
            REQUIRE_OK(dp_feed_open_domains(&alone[d], &one, 1, &plain, &err));
            CHECK_INT(dp_feed_samples(alone[d]), info[d].rows);
        }
        int32_t row[ROW], want[ROW];
        for (uint64_t g = 0; g < 1000; g++) {
            if (g == 150) CHECK(drawn[0] == 45 && drawn[1] == 30 && drawn[2] == 75);
            if (g == 400) CHECK(drawn[0] == 45 + 25 && drawn[1] == 30 + 200 && drawn[2] == 75 + 25);
            REQUIRE_OK(dp_feed_get_meta(f, g, row, &meta, &err));
            REQUIRE_OK(dp_feed_get(alone[domain], drawn[domain]++, want, &err));
            REQUIRE(memcmp(row, want, sizeof row) == 0);
        }
        CHECK_INT(drawn[0], 70 + 600);
        for (size_t d = 0; d < 3; d++) dp_feed_close(alone[d]);
        dp_feed_close(f);
    }
}

/* Random options over random domains: what ranks draw, restarted at random, is each domain's own sequence dealt out by the mixture. */
static void check_random(uint64_t *state)
{
#define BELOW(n) ((int)(dp_splitmix64(state) % (uint64_t)(n)))
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    struct dp_feed_options o = options(BELOW(2)), alone;
    struct dp_feed_domain d[6];
    struct dp_feed *own[6], *f;
    struct dp_feed_state s;
    uint64_t drawn[6] = {0}, g = 0;
    size_t n = 1 + (size_t)BELOW(6), len = 0;
    char mixture[512] = "";
    o.seq_len = 1 + BELOW(70);
    o.shuffle = BELOW(4) != 0;
    o.seed = (int64_t)dp_splitmix64(state);
    o.val_fraction = BELOW(3) * 0.2;
    o.test_fraction = BELOW(3) * 0.1;
    o.check = BELOW(2);
    o.on_bad = BELOW(2);
    o.domains = NULL;
    o.mixture = BELOW(4) ? mixture : NULL;
    for (int stage = 0, at = 0; stage < 1 + BELOW(3); stage++, at += 1 + BELOW(60)) {
        if (stage) len += (size_t)snprintf(mixture + len, sizeof mixture - len, ";%d:", at);
        bool epochs = BELOW(3) == 0;
        for (size_t k = 0; k < n; k++)
            len += (size_t)snprintf(mixture + len, sizeof mixture - len, "%s%s=%d.%d%s", k ? "," : "", names[k], BELOW(3) + (k == 0), BELOW(10), epochs ? "e" : "");
    }
    alone = o;
    alone.mixture = NULL;
    for (size_t k = 0; k < n; k++) {
        d[k] = (struct dp_feed_domain){.name = names[k], .manifest = sets[k % 3].path};
        REQUIRE_OK(dp_feed_open_domains(&own[k], &d[k], 1, &alone, &err));
    }
    size_t row = (size_t)o.seq_len + 1;
    int32_t *got = malloc(4 * row * sizeof *got), *want = malloc(row * sizeof *want);
    uint32_t domain[4];
    struct dp_feed_meta m = {.domain = domain};
    REQUIRE_OK(dp_feed_open_domains(&f, d, n, &o, &err));
    while (g < 150) {
        /* One step of all ranks, each opened for it. */
        o.world = 1 + BELOW(5);
        o.batch = 1 + BELOW(4);
        dp_feed_state(f, &s);
        s.sample = g;
        for (o.rank = 0; o.rank < o.world; o.rank++) {
            struct dp_feed *r;
            REQUIRE_OK(dp_feed_open_domains(&r, d, n, &o, &err));
            REQUIRE_OK(dp_feed_resume(r, &s, &err));
            REQUIRE_OK(dp_feed_next_meta(r, got, &m, &err));
            for (size_t b = 0; b < (size_t)o.batch; b++) {
                REQUIRE_OK(dp_feed_get(own[domain[b]], drawn[domain[b]]++, want, &err));
                REQUIRE(memcmp(got + b * row, want, row * sizeof *want) == 0);
            }
            dp_feed_close(r);
        }
        g += (uint64_t)(o.world * o.batch);
    }
    for (size_t k = 0; k < n; k++) dp_feed_close(own[k]);
    dp_feed_close(f);
    free(got);
    free(want);
}

TEST(random_feeds_are_their_domains_dealt_out)
{
    uint64_t state = 20;
    make_sets();
    for (int i = 0; i < 40; i++) check_random(&state);
}

TEST(domains_do_not_depend_on_their_order)
{
    struct dp_feed_options o = options(DP_FEED_BESTFIT), p = o;
    char text[2048], mixture[] = "code=0.2,web=0.5,books=0.3;150:code=8,books=1,web=1;400:books=0.001";
    snprintf(text, sizeof text, "code=%s,web=%s,books=%s", sets[2].path, sets[0].path, sets[1].path);
    p.domains = text;
    p.mixture = mixture;
    struct dp_feed *f = feed_open(&o), *g = feed_open(&p);
    struct dp_feed_state s;
    dp_feed_state(f, &s);
    CHECK_OK(dp_feed_resume(g, &s, &err));
    int32_t a[ROW], b[ROW];
    for (uint64_t k = 0; k < 600; k++) {
        REQUIRE_OK(dp_feed_get(f, k, a, &err));
        REQUIRE_OK(dp_feed_get(g, k, b, &err));
        REQUIRE(memcmp(a, b, sizeof a) == 0);
    }
    dp_feed_close(f);
    dp_feed_close(g);
}

TEST(an_epoch_of_best_fit_has_every_document_once)
{
    struct dp_feed_options o = options(DP_FEED_BESTFIT);
    o.mixture = NULL; /* one epoch of each */
    struct dp_feed *f = feed_open(&o);
    uint8_t *hit[3];
    uint64_t rows = dp_feed_samples(f), ids = 0, padding = 0, told = 0;
    for (size_t d = 0; d < 3; d++) hit[d] = calloc(sets[d].tokens, 1);
    for (uint64_t g = 0; g < rows; g++)
        for (uint64_t i = 0; i < ROW; i++) {
            struct dp_feed_origin at;
            int rc = dp_feed_locate(f, g, i, &at, &err);
            REQUIRE_OK(rc);
            padding += rc == DP_EMPTY;
            if (rc == DP_EMPTY) continue;
            const struct data *d = &sets[strcmp(at.domain, "web") == 0 ? 0 : strcmp(at.domain, "books") == 0 ? 1 : 2];
            hit[d - sets][d->doc[at.id.lo].first + at.document_token]++;
            ids++;
        }
    for (size_t d = 0; d < 3; d++) {
        for (size_t k = 0; k < sets[d].docs; k++) {
            const struct data_doc *doc = &sets[d].doc[k];
            bool ours = dp_feed_split_of(doc->content, o.val_fraction, 0) == DP_FEED_TRAIN;
            for (uint64_t i = 0; i < doc->n; i++) {
                /* A long document's rows share the id they are cut at. */
                bool twice = doc->n > T + 1 && i && i % T == 0 && i + 1 < doc->n;
                REQUIRE(hit[d][doc->first + i] == (ours ? 1 + twice : 0));
            }
        }
        struct dp_feed_domain_info info;
        dp_feed_domain_info(f, d, &info);
        told += info.padding;
        free(hit[d]);
    }
    CHECK_INT(padding, told);
    CHECK_INT(ids + padding, rows * ROW);
    dp_feed_close(f);
}

/* --- masks --- */

static void check_masks(struct dp_feed *f, const struct dp_feed_options *o, uint64_t g)
{
    int32_t cu[T + 1], segments, positions[T], want_cu[T + 2] = {0}, n = 0, row[ROW], plain[ROW];
    uint8_t mask[T];
    uint64_t sample;
    struct dp_feed_meta m = {cu, &segments, positions, mask, NULL, &sample};
    REQUIRE_OK(dp_feed_get_meta(f, g, row, &m, &err));
    REQUIRE_OK(dp_feed_get(f, g, plain, &err));
    REQUIRE(memcmp(row, plain, sizeof row) == 0 && sample == g);
    struct dp_feed_origin at[ROW];
    bool pad[ROW], begins[ROW];
    for (int i = 0; i < ROW; i++) {
        int rc = dp_feed_locate(f, g, (uint64_t)i, &at[i], &err);
        REQUIRE_OK(rc);
        pad[i] = rc == DP_EMPTY;
        if (pad[i]) REQUIRE(row[i] == dp_feed_pad(f));
        bool same = i && !pad[i] && !pad[i - 1] && at[i].document == at[i - 1].document && at[i].shard_number == at[i - 1].shard_number &&
                    at[i].document_token == at[i - 1].document_token + 1;
        begins[i] = !same && !(i && pad[i] && pad[i - 1]);
    }
    int32_t begin = 0;
    for (int i = 0; i < T; i++) {
        if (begins[i]) {
            begin = i;
            want_cu[n++] = i;
        }
        REQUIRE(positions[i] == i - begin);
        bool on = o->loss_mask == DP_FEED_MASK_NOTHING || (!pad[i + 1] && !(begins[i + 1] && o->loss_mask == DP_FEED_MASK_BOUNDARIES));
        REQUIRE(mask[i] == on);
    }
    REQUIRE(segments == n);
    for (int i = 0; i <= T; i++) REQUIRE(cu[i] == (i < n ? want_cu[i] : T));
}

TEST(masks_are_right)
{
    for (int pack = 0; pack < 2; pack++)
        for (int masking = 0; masking < 3; masking++)
            for (int eot = 0; eot < 2; eot++) {
                struct data d;
                struct dp_feed *f;
                struct dp_feed_options o = options(pack);
                o.loss_mask = masking;
                o.mixture = o.domains = NULL;
                REQUIRE_OK(data_make(&d, 50257, eot ? 9 : -1, 4, 50, eot ? 60 : 7, 17, &err));
                REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
                CHECK_INT(dp_feed_pad(f), eot ? 9 : 0);
                for (uint64_t g = 0; g < dp_feed_samples(f); g++) check_masks(f, &o, g);
                dp_feed_close(f);
                data_release(&d);
            }
}

TEST(batches_with_masks_are_the_same_batches)
{
    struct dp_feed_options o = options(DP_FEED_BESTFIT);
    o.batch = 5;
    o.world = 3;
    o.rank = 1;
    struct dp_feed *f = feed_open(&o), *g = feed_open(&o);
    int32_t a[5 * ROW], b[5 * ROW], cu[5 * (T + 1)], segments[5], one_cu[T + 1], one;
    uint64_t sample[5];
    struct dp_feed_meta m = {.cu_seqlens = cu, .segments = segments, .sample = sample}, single = {.cu_seqlens = one_cu, .segments = &one};
    for (int k = 0; k < 30; k++) {
        REQUIRE_OK(dp_feed_next(f, a, &err));
        REQUIRE_OK(dp_feed_next_meta(g, b, &m, &err));
        REQUIRE(memcmp(a, b, sizeof a) == 0);
        for (int i = 0; i < 5; i++) {
            REQUIRE(sample[i] == (uint64_t)(k * 15 + 5 + i));
            REQUIRE_OK(dp_feed_get_meta(f, sample[i], NULL, &single, &err));
            REQUIRE(one == segments[i] && memcmp(one_cu, cu + i * (T + 1), sizeof one_cu) == 0);
        }
    }
    dp_feed_close(f);
    dp_feed_close(g);
}

/* --- the split --- */

TEST(split_has_three_sides)
{
    uint64_t state = 5, n[3] = {0};
    for (int i = 0; i < 100000; i++) {
        struct dp_hash128 h = {dp_splitmix64(&state), 0};
        int s = dp_feed_split_of(h, 0.1, 0.05), without = dp_feed_split_of(h, 0.1, 0);
        n[s]++;
        CHECK(s == without || (s == DP_FEED_TEST && without == DP_FEED_TRAIN)); /* test comes out of train */
        if (s == DP_FEED_TEST) CHECK_INT(dp_feed_split_of(h, 0.2, 0.3), DP_FEED_TEST);
        CHECK_INT(dp_feed_split_of(h, 0, 1), DP_FEED_TEST);
        CHECK(dp_feed_split_of(h, 0.5, 0.5) != DP_FEED_TRAIN);
    }
    CHECK_NEAR((double)n[DP_FEED_VAL], 10000, 500);
    CHECK_NEAR((double)n[DP_FEED_TEST], 5000, 360);
    struct dp_feed_options o = options(DP_FEED_BESTFIT);
    uint64_t documents = 0, tokens = 0;
    o.mixture = NULL;
    o.val_fraction = 0.3;
    o.test_fraction = 0.2;
    for (o.split = DP_FEED_TRAIN; o.split <= DP_FEED_TEST; o.split++) {
        struct dp_feed *f = feed_open(&o);
        documents += dp_feed_documents(f);
        tokens += dp_feed_tokens(f);
        dp_feed_close(f);
    }
    CHECK_INT(documents, sets[0].docs + sets[1].docs + sets[2].docs);
    CHECK_INT(tokens, sets[0].tokens + sets[1].tokens + sets[2].tokens);
    struct dp_feed *f;
    o.split = DP_FEED_TRAIN;
    o.test_fraction = 0.8;
    CHECK_INT(dp_feed_open(&f, NULL, &o, &err), DP_CONFIG);
}

/* --- sources --- */

static bool takes_some(void *ctx, const char *shard, uint32_t source)
{
    (void)shard;
    return source % 3 == *(const uint32_t *)ctx; /* test_shard_data.h: shard * 10 + document % 3 */
}

TEST(sources_of_one_manifest_are_domains)
{
    make_sets();
    static uint32_t which[] = {0, 1, 2};
    static const char *const names[] = {"x", "y", "z"};
    for (int pack = 0; pack < 2; pack++) {
        struct dp_feed_options o = options(pack);
        struct dp_feed_domain d[3];
        struct dp_feed *f;
        char mixture[] = "x=1,y=2,z=1";
        uint64_t documents = 0;
        o.domains = NULL;
        o.mixture = mixture;
        for (int i = 0; i < 3; i++) d[i] = (struct dp_feed_domain){names[i], sets[0].path, takes_some, &which[i]};
        REQUIRE_OK(dp_feed_open_domains(&f, d, 3, &o, &err));
        for (uint64_t g = 0; g < 300; g++)
            for (uint64_t i = 0; i < ROW; i++) {
                struct dp_feed_origin at;
                int rc = dp_feed_locate(f, g, i, &at, &err);
                REQUIRE_OK(rc);
                if (rc == DP_OK) REQUIRE(at.source % 3 == (uint32_t)(*at.domain - 'x'));
            }
        for (size_t i = 0; i < 3; i++) {
            struct dp_feed_domain_info info;
            dp_feed_domain_info(f, i, &info);
            documents += info.documents;
        }
        for (size_t k = 0; k < sets[0].docs; k++) documents -= dp_feed_split_of(sets[0].doc[k].content, o.val_fraction, 0) == DP_FEED_TRAIN;
        CHECK_INT(documents, 0);
        /* Other sources under the same name are other data. */
        struct dp_feed_state s;
        struct dp_feed *g;
        dp_feed_state(f, &s);
        d[0].ctx = &which[1];
        REQUIRE_OK(dp_feed_open_domains(&g, d, 3, &o, &err));
        CHECK_INT(dp_feed_resume(g, &s, &err), DP_CONFIG);
        dp_feed_close(g);
        dp_feed_close(f);
    }
}

/* --- growth --- */

/* Let d's manifest name its first n shards only. */
static void cut_manifest(const struct data *d, const struct dp_manifest *full, size_t n)
{
    struct dp_manifest *m;
    if (dp_manifest_new(&m, &full->meta, &err) < 0) abort();
    for (size_t i = 0; i < n; i++)
        if (dp_manifest_add(m, &full->shards[i], &err) < 0) abort();
    if (dp_manifest_write(m, d->path, &err) < 0) abort();
    dp_manifest_free(m);
}

/* A restart at `sample`, with everything there: the same, and the earlier samples too. */
static void restart_is_the_same(const struct dp_feed *f, const struct data *d, const struct dp_feed_options *o, uint64_t sample)
{
    struct dp_feed_state s;
    struct dp_feed *g;
    int32_t row[ROW], want[ROW];
    dp_feed_state(f, &s);
    REQUIRE_OK(dp_feed_open(&g, d->path, o, &err));
    REQUIRE_OK(dp_feed_resume(g, &s, &err));
    for (uint64_t k = sample > 40 ? sample - 40 : 0; k < sample + 9; k++) {
        REQUIRE_OK(dp_feed_get(f, k, row, &err));
        REQUIRE_OK(dp_feed_get(g, k, want, &err));
        REQUIRE(memcmp(row, want, sizeof want) == 0);
    }
    dp_feed_close(g);
}

TEST(growth_begins_with_an_epoch)
{
    for (int pack = 0; pack < 2; pack++) {
        struct data d;
        struct dp_manifest *full;
        struct dp_feed_options o = options(pack);
        struct dp_feed *f, *g, *part[4];
        o.domains = o.mixture = NULL;
        o.batch = 3;
        REQUIRE_OK(data_make(&d, 1 << 20, 5, 3, 30, 60, 23, &err));
        REQUIRE_OK(dp_manifest_read(&full, d.path, &err));
        for (size_t n = 1; n <= 3; n++) { /* what an epoch over n shards is */
            cut_manifest(&d, full, n);
            REQUIRE_OK(dp_feed_open(&part[n], d.path, &o, &err));
        }
        cut_manifest(&d, full, 1);
        REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
        CHECK_INT(dp_feed_reload(f, &err), DP_EMPTY);
        uint64_t n1 = dp_feed_samples(part[1]), n2 = dp_feed_samples(part[2]), n3 = dp_feed_samples(part[3]);
        REQUIRE(n1 < n2 && n2 < n3);
        /* Grows in epoch 1 (2 shards), and again before that ends (3): so epochs 0, 1 have 1 shard, later ones 3. Then a second
         * time, by nothing. */
        int32_t row[3 * ROW], want[ROW];
        uint64_t sample = 0;
        struct dp_feed_state before_two = {0};
        while (sample < 2 * n1 + 3 * n3) {
            if (sample >= n1 + 4 && sample < n1 + 7) {
                cut_manifest(&d, full, 2);
                CHECK_INT(dp_feed_reload(f, &err), DP_OK);
                CHECK_INT(dp_feed_reload(f, &err), DP_EMPTY);
                dp_feed_state(f, &before_two);
            }
            if (sample >= 2 * n1 - 6 && sample < 2 * n1 - 3) {
                cut_manifest(&d, full, 3);
                CHECK_INT(dp_feed_reload(f, &err), DP_OK);
            }
            REQUIRE_OK(dp_feed_next(f, row, &err));
            for (uint64_t b = 0; b < 3; b++, sample++) {
                /* The frozen feeds count epochs of their own length. */
                uint64_t epoch = sample < 2 * n1 ? sample / n1 : 2 + (sample - 2 * n1) / n3, at = sample < 2 * n1 ? sample % n1 : (sample - 2 * n1) % n3;
                struct dp_feed *p = epoch < 2 ? part[1] : part[3];
                REQUIRE_OK(dp_feed_get(p, epoch * dp_feed_samples(p) + at, want, &err));
                if (memcmp(row + b * ROW, want, sizeof want) != 0) DP_TEST_FAIL("sample %d of a growing run", (int)sample);
            }
            restart_is_the_same(f, &d, &o, sample);
        }
        /* A state of the time when 2 shards were known still means 2 shards, whatever came later. */
        REQUIRE_OK(dp_feed_open(&g, d.path, &o, &err));
        REQUIRE_OK(dp_feed_resume(g, &before_two, &err));
        for (uint64_t k = 0; k < n2; k++) {
            REQUIRE_OK(dp_feed_get(g, 2 * n1 + k, row, &err));
            REQUIRE_OK(dp_feed_get(part[2], 2 * n2 + k, want, &err));
            REQUIRE(memcmp(row, want, sizeof want) == 0);
        }
        dp_feed_close(g);
        /* A manifest that isn't a continuation. */
        cut_manifest(&d, full, 2);
        CHECK_INT(dp_feed_reload(f, &err), DP_CONFIG);
        full->shards[1].sha256[3] ^= 1;
        cut_manifest(&d, full, 3);
        CHECK_INT(dp_feed_reload(f, &err), DP_CONFIG);
        CHECK(strstr(err.msg, "no longer begins"));
        REQUIRE_OK(dp_feed_next(f, row, &err)); /* the feed is as it was */
        for (size_t n = 1; n <= 3; n++) dp_feed_close(part[n]);
        dp_feed_close(f);
        dp_manifest_free(full);
        data_release(&d);
    }
}

TEST(growth_where_an_epoch_begins)
{
    struct data d;
    struct dp_manifest *full;
    struct dp_feed_options o = options(DP_FEED_CONCAT);
    struct dp_feed *f, *part[4];
    int32_t row[ROW], want[ROW];
    o.domains = o.mixture = NULL;
    REQUIRE_OK(data_make(&d, 1 << 20, 5, 3, 30, 60, 23, &err));
    REQUIRE_OK(dp_manifest_read(&full, d.path, &err));
    for (size_t n = 1; n <= 3; n++) {
        cut_manifest(&d, full, n);
        REQUIRE_OK(dp_feed_open(&part[n], d.path, &o, &err));
    }
    uint64_t n1 = dp_feed_samples(part[1]), n3 = dp_feed_samples(part[3]);
    for (int first = 0; first < 2; first++) { /* grown once before, or not */
        struct dp_feed_state s;
        cut_manifest(&d, full, 1);
        REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
        for (uint64_t g = 0; g < n1 + n3; g++) {
            if (first && g == n1 - 1) {
                cut_manifest(&d, full, 2);
                CHECK_INT(dp_feed_reload(f, &err), DP_OK);
            }
            if (g == n1) { /* the epoch that begins here takes all 3 up, and what went before can still be asked for */
                cut_manifest(&d, full, 3);
                CHECK_INT(dp_feed_reload(f, &err), DP_OK);
                dp_feed_state(f, &s);
                CHECK(s.floor == 0 && s.turn_draw[0] == n1 && s.turn_epoch[0] == 1 && s.shards[0] == 1 && s.shards_next[0] == 3);
                REQUIRE_OK(dp_feed_get(f, g - 1, row, &err));
                REQUIRE_OK(dp_feed_get(part[1], g - 1, want, &err));
                CHECK(memcmp(row, want, sizeof row) == 0);
            }
            REQUIRE_OK(dp_feed_next(f, row, &err));
            REQUIRE_OK(g < n1 ? dp_feed_get(part[1], g, want, &err) : dp_feed_get(part[3], n3 + g - n1, want, &err));
            REQUIRE(memcmp(row, want, sizeof row) == 0);
        }
        dp_feed_close(f);
    }
    for (size_t n = 1; n <= 3; n++) dp_feed_close(part[n]);
    dp_manifest_free(full);
    data_release(&d);
}

TEST(growth_of_a_mixture_is_exact)
{
    /* One domain grows, three times, in a mixture with stages: a run that is never restarted against one that is at every step. */
    struct data d;
    struct dp_manifest *full;
    struct dp_feed_options o = options(DP_FEED_BESTFIT);
    char text[2048];
    data_tokenizer = 4711;
    REQUIRE_OK(data_make(&d, 1u << 20, 7, 4, 20, 60, 29, &err));
    REQUIRE_OK(dp_manifest_read(&full, d.path, &err));
    snprintf(text, sizeof text, "web=%s,books=%s,code=%s", d.path, sets[1].path, sets[2].path);
    char mixture[] = "web=0.6,books=0.3,code=0.1; 200:web=0.75,books=0.2,code=0.05";
    o.domains = text;
    o.mixture = mixture;
    o.batch = 4;
    cut_manifest(&d, full, 1);
    struct dp_feed *f = feed_open(&o), *g = feed_open(&o);
    int32_t a[4 * ROW], b[4 * ROW];
    struct dp_feed_state s;
    uint64_t seen = 0;
    for (int step = 0; step < 120; step++) {
        if (step == 10 || step == 20 || step == 60) {
            cut_manifest(&d, full, step == 10 ? 2 : step == 20 ? 3 : 4);
            CHECK_INT(dp_feed_reload(f, &err), DP_OK);
            CHECK_INT(dp_feed_reload(g, &err), DP_OK);
        }
        dp_feed_state(g, &s);
        dp_feed_close(g);
        g = feed_open(&o);
        REQUIRE_OK(dp_feed_resume(g, &s, &err));
        REQUIRE_OK(dp_feed_next(f, a, &err));
        REQUIRE_OK(dp_feed_next(g, b, &err));
        REQUIRE(memcmp(a, b, sizeof a) == 0);
        for (uint64_t i = 0; i < 4; i++) {
            struct dp_feed_origin at;
            REQUIRE_OK(dp_feed_locate(f, (uint64_t)step * 4 + i, 0, &at, &err));
            if (strcmp(at.domain, "web") == 0) seen |= UINT64_C(1) << at.shard_number;
        }
        if (step < 10) CHECK_INT(seen, 1);
    }
    CHECK_INT(seen, 15);
    CHECK(s.floor > 0); /* grown under a growth that had begun: what came before is gone */
    CHECK_INT(dp_feed_get(f, s.floor - 1, a, &err), DP_USAGE);
    CHECK_OK(dp_feed_get(f, s.floor, a, &err));
    dp_feed_close(f);
    dp_feed_close(g);
    /* By epochs the weights would change: refused. */
    char epochs[] = "web=1e,books=1e,code=1e";
    o.mixture = epochs;
    cut_manifest(&d, full, 1);
    f = feed_open(&o);
    cut_manifest(&d, full, 2);
    CHECK_INT(dp_feed_reload(f, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "epochs"));
    dp_feed_close(f);
    dp_manifest_free(full);
    data_release(&d);
}

TEST(resume_refuses_another_mixture)
{
    struct dp_feed_options o = options(DP_FEED_BESTFIT), p;
    struct dp_feed *f = feed_open(&o), *g;
    struct dp_feed_state s;
    dp_feed_state(f, &s);
    dp_feed_close(f);
    for (int k = 0; k < 5; k++) {
        char weights[] = "web=0.5,books=0.3,code=0.2", later[] = "web=0.5,books=0.3,code=0.2; 151:web=0.1,books=0.1,code=0.8; 400:books=1", two[2048];
        p = o;
        if (k == 0) p.mixture = weights;
        if (k == 1) p.mixture = later;
        if (k == 2) p.pack = DP_FEED_CONCAT;
        if (k == 3) p.test_fraction = 0.1;
        if (k == 4) {
            snprintf(two, sizeof two, "web=%s,books=%s", sets[0].path, sets[1].path);
            p.domains = two;
            p.mixture = NULL;
        }
        g = feed_open(&p);
        CHECK_INT(dp_feed_resume(g, &s, &err), DP_CONFIG);
        if (!strstr(err.msg, k < 2 ? "mixture" : k == 2 ? "bestfit" : k == 3 ? "test_fraction" : "domains")) DP_TEST_FAIL("case %d: %s", k, err.msg);
        dp_feed_close(g);
    }
}

TEST(domains_refuse)
{
    struct dp_feed_options o = options(DP_FEED_CONCAT);
    struct dp_feed *f;
    struct data other;
    char text[2048];
    data_tokenizer = 4712;
    REQUIRE_OK(data_make(&other, 1u << 20, 7, 1, 30, 50, 1, &err));
    snprintf(text, sizeof text, "web=%s,books=%s", sets[0].path, other.path);
    o.domains = text;
    o.mixture = NULL;
    CHECK_INT(dp_feed_open(&f, NULL, &o, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "one tokenizer"));
    static const char *const bad[] = {"", "web", "=x", "web=", "web=x,,", "we b=/x", "a=source:*.txt", "a=/x,b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "%s", bad[i]);
        int rc = dp_feed_open(&f, NULL, &o, &err);
        if (rc != DP_CONFIG && rc != DP_NOTFOUND) DP_TEST_FAIL("\"%s\" gives %d", bad[i], rc);
    }
    snprintf(text, sizeof text, "web=%s,web=%s", sets[0].path, sets[1].path);
    CHECK_INT(dp_feed_open(&f, NULL, &o, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "two domains are named web"));
    o = options(DP_FEED_CONCAT);
    o.seq_len = 100000;
    CHECK_INT(dp_feed_open(&f, NULL, &o, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "domain "));
    data_release(&other);
}

/* --- damage --- */

struct damage {
    const char *shard;
    uint64_t first, end; /* frames */
};
static bool touches(const struct dp_feed *f, uint64_t g, const struct damage *bad)
{
    for (uint64_t i = 0; i < ROW; i++) {
        struct dp_feed_origin at;
        if (dp_feed_locate(f, g, i, &at, &err) != DP_OK) continue;
        uint64_t frame = at.shard_token / DP_SHARD_FRAME_IDS;
        if (strcmp(at.shard, bad->shard) == 0 && frame >= bad->first && frame < bad->end) return true;
    }
    return false;
}

/* docs/formats/feed_order.md: the row that stands in for sample g; rows of `plain` are in their own order. */
static uint64_t stand_in(const struct dp_feed *plain, uint64_t seed, uint64_t g, const struct damage *bad)
{
    uint64_t n = dp_feed_samples(plain), h = dp_mix64(dp_mix64(dp_mix64(seed ^ UINT64_C(0x7375627374697475)) + g / n) + g % n);
    for (uint64_t j = 1;; j++)
        if (!touches(plain, dp_mix64(h + j) % n, bad)) return dp_mix64(h + j) % n;
}

/* Rows of a damaged copy beside the whole one's: those that touch what is bad are others, all else is equal. */
static void check_skip(const struct data *d, const char *whole_path, const struct dp_feed_options *o, struct damage bad, uint64_t *replaced)
{
    struct dp_feed *f, *backwards, *whole, *plain;
    struct dp_feed_options p = *o;
    int32_t a[ROW], b[ROW], c[ROW];
    REQUIRE_OK(dp_feed_open(&f, d->path, o, &err));
    REQUIRE_OK(dp_feed_open(&backwards, d->path, o, &err));
    REQUIRE_OK(dp_feed_open(&whole, whole_path, o, &err));
    p.shuffle = false;
    REQUIRE_OK(dp_feed_open(&plain, whole_path, &p, &err));
    uint64_t n = dp_feed_samples(whole);
    CHECK_INT(dp_feed_samples(f), n);
    for (uint64_t g = 2 * n; g-- > 0;) REQUIRE_OK(dp_feed_get(backwards, g, c, &err)); /* it has met all damage before */
    *replaced = 0;
    for (uint64_t g = 0; g < 2 * n; g++) {
        bool hit = touches(whole, g, &bad);
        REQUIRE(!touches(f, g, &bad));
        if (hit) REQUIRE_OK(dp_feed_get(plain, stand_in(plain, (uint64_t)o->seed, g, &bad), a, &err));
        else REQUIRE_OK(dp_feed_get(whole, g, a, &err));
        REQUIRE_OK(dp_feed_get(f, g, b, &err));
        REQUIRE_OK(dp_feed_get(backwards, g, c, &err));
        REQUIRE(memcmp(b, c, sizeof b) == 0 && memcmp(a, b, sizeof a) == 0);
        /* Masks are of the row that came, whether its ids are asked for or not. */
        int32_t cu[2][T + 1];
        struct dp_feed_meta m = {.cu_seqlens = cu[0]}, without = {.cu_seqlens = cu[1]};
        REQUIRE_OK(dp_feed_get_meta(f, g, b, &m, &err));
        REQUIRE_OK(dp_feed_get_meta(backwards, g, NULL, &without, &err));
        REQUIRE(memcmp(b, c, sizeof b) == 0 && memcmp(cu[0], cu[1], sizeof cu[0]) == 0);
        *replaced += hit;
    }
    struct dp_feed_domain_info info;
    dp_feed_domain_info(f, 0, &info);
    CHECK(info.frames_bad == bad.end - bad.first && info.shards_absent == 0);
    dp_feed_close(f);
    dp_feed_close(backwards);
    dp_feed_close(whole);
    dp_feed_close(plain);
}

TEST(bad_frames_and_missing_shards_are_skipped_or_stop)
{
    for (int pack = 0; pack < 2; pack++) {
        struct data d, same;
        struct dp_feed *whole, *f;
        struct dp_feed_options o = options(pack);
        uint64_t replaced;
        int32_t row[ROW];
        o.domains = o.mixture = NULL;
        REQUIRE_OK(data_make(&d, 1 << 20, 5, 3, 700, 300, 37, &err));
        REQUIRE_OK(data_make(&same, 1 << 20, 5, 3, 700, 300, 37, &err));
        REQUIRE_OK(dp_feed_open(&whole, same.path, &o, &err));
        data_flip(d.dir, "part-001.bin", (65536ull + 40000) * 32 + 3); /* frame 1; the id stays inside the vocabulary */
        /* stop: without check nobody notices, with it the frame is named. */
        uint64_t stops = 0, n = dp_feed_samples(whole);
        o.check = true;
        REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
        for (uint64_t g = 0; g < n; g++)
            if (dp_feed_get(f, g, row, &err) < 0) {
                stops++;
                CHECK(err.code == DP_CORRUPT && strstr(err.msg, "part-001") && strstr(err.msg, "frame 1"));
            }
        CHECK(stops > 100 && stops < n / 2);
        dp_feed_close(f);
        o.check = false;
        o.on_bad = DP_FEED_SKIP;
        check_skip(&d, same.path, &o, (struct damage){"part-001.bin", 1, 2}, &replaced);
        CHECK(replaced >= 2 * stops - 2 && replaced > 200);
        /* The body of shard 2 goes: the layout stays, all its rows are others. Run states stay good. */
        struct dp_feed_state s;
        struct dp_feed_domain_info info;
        data_flip(d.dir, "part-001.bin", (65536ull + 40000) * 32 + 3);
        char *body = dp_fs_join(d.dir, "part-002.bin"), *side = dp_fs_join(d.dir, "part-002.dpx");
        REQUIRE(unlink(body) == 0);
        check_skip(&d, same.path, &o, (struct damage){"part-002.bin", 0, (d.tokens - d.doc[1400].first + 65535) / 65536}, &replaced);
        CHECK(replaced > n / 2);
        dp_feed_state(whole, &s);
        REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
        CHECK_OK(dp_feed_resume(f, &s, &err));
        dp_feed_close(f);
        o.on_bad = DP_FEED_STOP;
        CHECK_INT(dp_feed_open(&f, d.path, &o, &err), DP_NOTFOUND);
        CHECK(strstr(err.msg, "part-002.bin"));
        /* Its side file too: other rows altogether, which a state tells. */
        REQUIRE(unlink(side) == 0);
        o.on_bad = DP_FEED_SKIP;
        REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
        dp_feed_domain_info(f, 0, &info);
        CHECK(info.shards_absent == 1 && dp_feed_samples(f) < n);
        CHECK_INT(dp_feed_resume(f, &s, &err), DP_CONFIG);
        for (uint64_t g = 0; g < dp_feed_samples(f); g++) REQUIRE_OK(dp_feed_get(f, g, row, &err));
        dp_feed_close(f);
        dp_feed_close(whole);
        free(body);
        free(side);
        data_release(&d);
        data_release(&same);
    }
}

TEST(when_nothing_is_whole_it_says_so)
{
    struct data d;
    struct dp_feed *f;
    struct dp_feed_options o = options(DP_FEED_CONCAT);
    int32_t row[ROW];
    o.domains = o.mixture = NULL;
    o.on_bad = DP_FEED_SKIP;
    REQUIRE_OK(data_make(&d, 300, 5, 1, 100, 50, 37, &err));
    data_flip(d.dir, "part-000.bin", 12345);
    REQUIRE_OK(dp_feed_open(&f, d.path, &o, &err));
    CHECK_INT(dp_feed_get(f, 0, row, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "none is whole") && strstr(err.msg, "part-000") && strstr(err.msg, "frame 0"));
    dp_feed_close(f);
    data_release(&d);
}

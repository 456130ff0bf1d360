/* The functions that other languages load: what they give is what the C interface gives, and every refusal leaves a message. */
#include "daemon/feed_abi.h"
#include "tests/unit/test_shard_data.h"
#include "tokenizer/tokenizer_abi.h"
#include "trainer_feed/feed_server.h"

#include <pthread.h>
#include <time.h>

enum { B = 3, T = 16 };
static const char options[] = "seq_len=16\nbatch=3\nval_fraction=0\npack=bestfit\n";
static struct dp_err err;
static char msg[512];

static struct dp_feed_abi *open_abi(const struct data *d)
{
    struct dp_feed_abi *h = NULL;
    if (dp_feed_abi_open(&h, d->path, NULL, options, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    return h;
}

TEST(feed_abi_gives_the_feeds_rows)
{
    struct data data;
    REQUIRE_OK(data_make(&data, 500, 0, 2, 40, 30, 1, &err));
    struct dp_feed_abi *h = open_abi(&data);
    struct dp_feed_options o;
    struct dp_feed *f;
    REQUIRE(h);
    dp_feed_options_init(&o);
    o.seq_len = T;
    o.batch = B;
    o.val_fraction = 0;
    o.pack = DP_FEED_BESTFIT;
    REQUIRE_OK(dp_feed_open(&f, data.path, &o, &err));
    int64_t number[DP_FEED_ABI_NUMBERS], of_domain[9], in[B][T], target[B][T];
    int32_t want[B][T + 1], got[B][T + 1], cu[B][T + 1], want_cu[B][T + 1];
    uint8_t loss[B][T], want_loss[B][T];
    for (int step = 0; step < 20; step++) {
        struct dp_feed_meta m = {.cu_seqlens = want_cu[0], .loss_mask = want_loss[0]};
        REQUIRE_OK(dp_feed_next_meta(f, want[0], &m, &err));
        if (step % 2) {
            CHECK_INT(dp_feed_abi_next(h, got[0], cu[0], NULL, NULL, loss[0], NULL, NULL, msg, sizeof msg), DP_OK);
            CHECK(memcmp(got, want, sizeof got) == 0);
        } else {
            CHECK_INT(dp_feed_abi_next_pair(h, in[0], target[0], cu[0], NULL, NULL, loss[0], NULL, NULL, msg, sizeof msg), DP_OK);
            for (int i = 0; i < B * T; i++) REQUIRE(in[i / T][i % T] == want[i / T][i % T] && target[i / T][i % T] == want[i / T][i % T + 1]);
        }
        CHECK(memcmp(cu, want_cu, sizeof cu) == 0 && memcmp(loss, want_loss, sizeof loss) == 0);
    }
    CHECK_INT(dp_feed_abi_numbers(h, number, DP_FEED_ABI_NUMBERS), DP_FEED_ABI_NUMBERS);
    CHECK_INT(number[DP_FEED_ABI_SAMPLE], 20 * B);
    CHECK_INT(number[DP_FEED_ABI_SAMPLES], dp_feed_samples(f));
    CHECK_STR(dp_feed_abi_domain(h, 0, of_domain, 9), "");
    CHECK_INT(of_domain[5], 20 * B);
    CHECK(dp_feed_abi_domain(h, 1, of_domain, 9) == NULL);
    dp_feed_abi_close(h);
    dp_feed_close(f);
    data_release(&data);
}

TEST(feed_abi_resumes)
{
    struct data data;
    REQUIRE_OK(data_make(&data, 500, 0, 2, 40, 30, 1, &err));
    struct dp_feed_abi *h = open_abi(&data), *again = open_abi(&data);
    int32_t a[B][T + 1], b[B][T + 1], row[T + 1];
    char state[DP_FEED_ABI_STATE_BYTES];
    REQUIRE(h && again);
    for (int k = 0; k < 5; k++) dp_feed_abi_next(h, a[0], NULL, NULL, NULL, NULL, NULL, NULL, msg, sizeof msg);
    dp_feed_abi_state(h, state);
    CHECK_INT(dp_feed_abi_resume(again, state, sizeof state, msg, sizeof msg), DP_OK);
    dp_feed_abi_next(h, a[0], NULL, NULL, NULL, NULL, NULL, NULL, msg, sizeof msg);
    dp_feed_abi_next(again, b[0], NULL, NULL, NULL, NULL, NULL, NULL, msg, sizeof msg);
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK_INT(dp_feed_abi_seek(again, 5 * B, msg, sizeof msg), DP_OK);
    dp_feed_abi_next(again, b[0], NULL, NULL, NULL, NULL, NULL, NULL, msg, sizeof msg);
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK_INT(dp_feed_abi_get(h, 5 * B + 1, row, msg, sizeof msg), DP_OK);
    CHECK(memcmp(row, a[1], sizeof row) == 0);
    const char *shard, *domain;
    int64_t number[5];
    char id[33], content[33];
    CHECK_INT(dp_feed_abi_locate(h, 5 * B, 0, &shard, &domain, number, id, content, msg, sizeof msg), DP_OK);
    CHECK(strncmp(shard, "part-", 5) == 0 && number[1] < 40 && strlen(id) == 32 && strlen(content) == 32);
    CHECK_INT(dp_feed_abi_resume(h, state, sizeof state - 1, msg, sizeof msg), DP_CORRUPT);
    memset(state, 1, sizeof state);
    CHECK_INT(dp_feed_abi_resume(h, state, sizeof state, msg, sizeof msg), DP_CONFIG);
    CHECK_INT(dp_feed_abi_reload(h, msg, sizeof msg), DP_EMPTY);
    dp_feed_abi_close(h);
    dp_feed_abi_close(again);
    data_release(&data);
}

TEST(feed_abi_refuses)
{
    static const struct {
        const char *options, *says;
    } row[] = {{"seq_len=0", "seq_len"}, {"seqlen=1", "\"seqlen\""}, {"pack", "\"pack\""}, {"\n\nbatch=x\n", "batch"}, {"rank=5\nworld=2", "rank 5"}};
    struct data data;
    REQUIRE_OK(data_make(&data, 500, 0, 2, 40, 30, 1, &err));
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        struct dp_feed_abi *h = (void *)1;
        msg[0] = 0;
        CHECK(dp_feed_abi_open(&h, data.path, NULL, row[k].options, msg, sizeof msg) < 0 && !h);
        if (!strstr(msg, row[k].says)) DP_TEST_FAIL("%s: %s", row[k].options, msg);
    }
    struct dp_feed_abi *h;
    CHECK_INT(dp_feed_abi_open(&h, NULL, NULL, "", msg, sizeof msg), DP_USAGE);
    CHECK_INT(dp_feed_abi_open(&h, "a", "b", "", msg, sizeof msg), DP_USAGE);
    CHECK(dp_feed_abi_open(&h, NULL, data.dir, "", msg, sizeof msg) < 0 && strstr(msg, data.dir));
    char small[8];
    CHECK(dp_feed_abi_open(&h, "/nonexistent/manifest.json", NULL, NULL, small, sizeof small) < 0);
    CHECK_INT(strlen(small), 7);
    CHECK(dp_feed_abi_open(&h, "/nonexistent/manifest.json", NULL, NULL, NULL, 0) < 0);
    dp_feed_abi_close(NULL);
    data_release(&data);
}

__attribute__((unused)) static long anonymous_kib(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long kib = 0;
    while (f && fgets(line, sizeof line, f)) sscanf(line, "RssAnon: %ld", &kib);
    if (f) fclose(f);
    return kib;
}

TEST(feed_abi_memory)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP("a sanitizer has memory of its own");
#else
    static int64_t pairs[2 * 8 * 512];
    struct data data;
    struct dp_feed_abi *h;
    REQUIRE_OK(data_make(&data, 500, 0, 8, 4000, 60, 1, &err));
    for (int packed = 0; packed < 2; packed++) {
        long before = anonymous_kib();
        if (dp_feed_abi_open(&h, data.path, NULL, packed ? "seq_len=512\nbatch=8\npack=bestfit" : "seq_len=512\nbatch=8", msg, sizeof msg) < 0)
            DP_TEST_FAIL("%s", msg);
        for (int k = 0; k < 500; k++) REQUIRE(dp_feed_abi_pairs(h, pairs) == DP_OK);
        long took = anonymous_kib() - before;
        if (took >= 20 * 1024) DP_TEST_FAIL("a feed of 32,000 documents took %ld KiB", took);
        dp_feed_abi_close(h);
    }
    data_release(&data);
#endif
}

static void *serve(void *arg)
{
    struct dp_err e;
    return (void *)(intptr_t)dp_feed_server_run(arg, &e);
}

static void *stop_soon(void *arg)
{
    struct timespec t = {0, 50000000};
    nanosleep(&t, NULL);
    dp_feed_abi_stop(arg, 1);
    return NULL;
}

static void compare_with_server(struct dp_feed_abi *h, struct dp_feed_abi *local)
{
    int32_t got[B][T + 1], want[B][T + 1];
    int64_t pairs[2][B][T], want_pairs[2][B][T];
    for (int step = 0; step < 30; step++) {
        if (step % 2) {
            CHECK_INT(dp_feed_abi_rows(h, got[0]), DP_OK);
            CHECK_INT(dp_feed_abi_rows(local, want[0]), DP_OK);
            REQUIRE(memcmp(got, want, sizeof got) == 0);
        } else {
            CHECK_INT(dp_feed_abi_pairs(h, pairs[0][0]), DP_OK);
            CHECK_INT(dp_feed_abi_pairs(local, want_pairs[0][0]), DP_OK);
            REQUIRE(memcmp(pairs, want_pairs, sizeof pairs) == 0);
        }
    }
}

/* The next batch of both, with everything. */
static void compare_masks(struct dp_feed_abi *a, struct dp_feed_abi *b)
{
    struct all {
        int64_t x[B][T], y[B][T];
        int32_t ids[B][T + 1], cu[B][T + 1], segments[B], positions[B][T];
        uint32_t domain[B];
        uint64_t sample[B];
        uint8_t mask[B][T];
    } one[2];
    struct dp_feed_abi *h[2] = {a, b};
    memset(one, 0, sizeof one);
    for (int k = 0; k < 2; k++) {
        struct all *o = &one[k];
        CHECK_INT(dp_feed_abi_next(h[k], o->ids[0], o->cu[0], o->segments, o->positions[0], o->mask[0], o->domain, o->sample, msg, sizeof msg), DP_OK);
        CHECK_INT(dp_feed_abi_next_pair(h[k], o->x[0], o->y[0], o->cu[0], o->segments, o->positions[0], o->mask[0], o->domain, o->sample, msg, sizeof msg),
                  DP_OK);
    }
    CHECK(memcmp(&one[0], &one[1], sizeof one[0]) == 0 && one[0].sample[0] == B);
}

TEST(feed_abi_connects)
{
    struct data data;
    char path[600], now[600], all[600], state[DP_FEED_ABI_STATE_BYTES];
    struct dp_feed_server *s;
    struct dp_feed_abi *h, *local, *again, *none, *masked;
    pthread_t thread;
    int64_t number[DP_FEED_ABI_NUMBERS], want[DP_FEED_ABI_NUMBERS];
    int32_t rows[B][T + 1];
    REQUIRE_OK(data_make(&data, 500, 0, 2, 40, 30, 1, &err));
    snprintf(path, sizeof path, "%s/s", data.dir);
    snprintf(now, sizeof now, "%s\nreconnect=0s\n", options);
    snprintf(all, sizeof all, "%smeta=all\n", now);
    struct dp_feed_server_options o = {.addr = path, .manifest = data.path};
    dp_feed_options_init(&o.feed);
    REQUIRE_OK(dp_feed_server_open(&s, &o, &err));
    REQUIRE(pthread_create(&thread, NULL, serve, s) == 0);
    REQUIRE(local = open_abi(&data));
    CHECK_INT(dp_feed_abi_ready(local), 1);
    if (dp_feed_abi_connect(&h, path, now, 0, NULL, 0, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    dp_feed_abi_numbers(h, number, DP_FEED_ABI_NUMBERS);
    dp_feed_abi_numbers(local, want, DP_FEED_ABI_NUMBERS);
    CHECK(memcmp(number, want, sizeof number) == 0);
    compare_with_server(h, local);
    dp_feed_abi_state(h, state);
    if (dp_feed_abi_connect(&again, path, now, 0, state, sizeof state, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    for (int k = 0; k < 3; k++) CHECK_INT(dp_feed_abi_rows(h, rows[0]), DP_OK);
    CHECK_INT(dp_feed_abi_resume(h, state, sizeof state, msg, sizeof msg), DP_OK);
    compare_with_server(h, local);
    CHECK_INT(dp_feed_abi_seek(local, 30 * B, msg, sizeof msg), DP_OK);
    compare_with_server(again, local);
    CHECK_INT(dp_feed_abi_seek(again, 7, msg, sizeof msg), DP_OK);
    CHECK_INT(dp_feed_abi_seek(local, 7, msg, sizeof msg), DP_OK);
    compare_with_server(again, local);
    /* What a server doesn't give. */
    CHECK_INT(dp_feed_abi_get(h, 0, rows[0], msg, sizeof msg), DP_USAGE);
    CHECK_INT(dp_feed_abi_reload(h, msg, sizeof msg), DP_EMPTY);
    CHECK_INT(dp_feed_abi_locate(h, 0, 0, NULL, NULL, number, NULL, NULL, msg, sizeof msg), DP_USAGE);
    CHECK_INT(dp_feed_abi_next(h, rows[0], rows[0], NULL, NULL, NULL, NULL, NULL, msg, sizeof msg), DP_USAGE);
    CHECK(strstr(msg, "meta=all") && dp_feed_abi_domain(h, 0, number, 1) == NULL);
    /* Masks come from a server that was asked for them. */
    if (dp_feed_abi_connect(&masked, path, all, 0, NULL, 0, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    CHECK_INT(dp_feed_abi_seek(local, 0, msg, sizeof msg), DP_OK);
    compare_masks(masked, local);
    dp_feed_abi_close(masked);
    CHECK_INT(dp_feed_abi_resume(h, state, 5, msg, sizeof msg), DP_CORRUPT);
    CHECK_INT(dp_feed_abi_connect(&none, path, "seqlen=1", 0, NULL, 0, msg, sizeof msg), DP_USAGE);
    /* A server that is gone: what was made is handed out, then it is said; or waited for, until told to stop. */
    dp_feed_server_stop(s);
    pthread_join(thread, NULL);
    dp_feed_server_close(s);
    int rc = DP_OK;
    for (int k = 0; rc == DP_OK && k < 1 << 20; k++) rc = dp_feed_abi_rows(h, rows[0]);
    CHECK_INT(rc, DP_NOTFOUND);
    CHECK(strstr(dp_feed_abi_message(h), "gone") != NULL);
    CHECK_INT(dp_feed_abi_ready(h), 0);
    CHECK_INT(dp_feed_abi_connect(&none, path, "reconnect=0s\n", 0, NULL, 0, msg, sizeof msg), DP_NOTFOUND);
    dp_feed_abi_close(h);
    dp_feed_abi_close(again);
    dp_feed_abi_close(local);
    data_release(&data);
}

TEST(feed_abi_stops_waiting)
{
    struct data data;
    char path[600];
    struct dp_feed_server *s;
    struct dp_feed_abi *h;
    pthread_t thread, stopper;
    int32_t rows[B][T + 1];
    REQUIRE_OK(data_make(&data, 500, 0, 2, 40, 30, 1, &err));
    snprintf(path, sizeof path, "%s/s", data.dir);
    struct dp_feed_server_options o = {.addr = path, .manifest = data.path};
    dp_feed_options_init(&o.feed);
    REQUIRE_OK(dp_feed_server_open(&s, &o, &err));
    REQUIRE(pthread_create(&thread, NULL, serve, s) == 0);
    if (dp_feed_abi_connect(&h, path, options, 0, NULL, 0, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    dp_feed_server_stop(s);
    pthread_join(thread, NULL);
    dp_feed_server_close(s);
    REQUIRE(pthread_create(&stopper, NULL, stop_soon, h) == 0);
    int rc = DP_OK;
    for (int k = 0; rc == DP_OK && k < 1 << 20; k++) rc = dp_feed_abi_rows(h, rows[0]);
    CHECK_INT(rc, DP_STOPPED);
    pthread_join(stopper, NULL);
    dp_feed_abi_close(h);
    data_release(&data);
}

TEST(tokenizer_abi_encodes_and_decodes)
{
    struct dp_tokenizer_abi *h;
    const char *text = "one river,\n two houses and a bridge", *back;
    const uint64_t end[] = {0, 10, strlen(text)}, falling[] = {5, 4};
    uint64_t id_end[3];
    const uint32_t *ids;
    size_t n;
    if (dp_tokenizer_abi_open(&h, "tests/data/tokenizer/hf.json", NULL, 0, 0, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    REQUIRE(h);
    CHECK_INT(dp_tokenizer_abi_encode(h, text, end, 3, &ids, id_end, msg, sizeof msg), DP_OK);
    CHECK(id_end[0] == 0 && id_end[1] > 0 && id_end[2] > id_end[1]);
    uint32_t *kept = malloc(id_end[2] * sizeof *kept);
    memcpy(kept, ids, id_end[2] * sizeof *kept);
    CHECK_INT(dp_tokenizer_abi_decode(h, kept, id_end[2], &back, &n, msg, sizeof msg), DP_OK);
    CHECK_SPAN(dp_span(back, n), text);
    CHECK_INT(dp_tokenizer_abi_decode(h, kept, id_end[1], &back, &n, msg, sizeof msg), DP_OK);
    CHECK_SPAN(dp_span(back, n), "one river,");
    CHECK_INT(dp_tokenizer_abi_encode(h, text, falling, 2, &ids, id_end, msg, sizeof msg), DP_USAGE);
    CHECK_INT(dp_tokenizer_abi_encode(h, "", NULL, 0, &ids, NULL, msg, sizeof msg), DP_OK);
    kept[0] = dp_tokenizer_abi_size(h);
    CHECK_INT(dp_tokenizer_abi_decode(h, kept, 1, &back, &n, msg, sizeof msg), DP_CORRUPT);
    CHECK_INT(n, 0);
    const char *special;
    uint32_t id;
    for (size_t k = 0; dp_tokenizer_abi_special(h, k, &special, &n, &id); k++) CHECK_INT(dp_tokenizer_abi_id(h, special, n), id);
    CHECK_INT(dp_tokenizer_abi_id(h, "no such token", 13), -1);
    char hex[33];
    dp_tokenizer_abi_digest(h, hex);
    CHECK_INT(strlen(hex), 32);
    free(kept);
    dp_tokenizer_abi_close(h);
    CHECK(dp_tokenizer_abi_open(&h, "/nonexistent", NULL, 0, 0, msg, sizeof msg) < 0 && strstr(msg, "/nonexistent"));
}

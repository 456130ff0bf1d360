/* Growth (daemon/lineage.h): generations over a real workspace, run in this process, and feeds that follow them. */
#include "base/fs.h"
#include "base/log.h"
#include "base/progress.h"
#include "daemon/feed_abi.h"
#include "daemon/lineage.h"
#include "daemon/quarantine.h"
#include "tests/test.h"
#include "trainer_feed/feed_server.h"

#include <pthread.h>
#include <unistd.h>

static struct dp_err err;
static char msg[512];

struct ws {
    char *base, *dir, *in;
    char more[512]; /* of the recipe */
};

static char *join(const char *a, const char *b)
{
    char *p = dp_fs_join(a, b);
    if (!p) abort();
    return p;
}

static void write_text(const char *dir, const char *name, const char *text)
{
    char *p = join(dir, name);
    FILE *f = fopen(p, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0) DP_TEST_FAIL("%s", p);
    free(p);
}

static void recipe(const struct ws *w)
{
    char text[2048];
    snprintf(text, sizeof text,
             "sources: [\"%s\"]\nclean:\n  gopher_quality: {enabled: false}\n  gopher_repetition: {enabled: false}\n  c4: {enabled: false}\n"
             "  language: {enabled: false}\n  fineweb: {enabled: false}\ntrain-bpe: {vocab_size: 300}\n%s",
             w->in, w->more);
    write_text(w->dir, "recipe.yaml", text);
}

/* A document of its own: numbers from `seed` on. */
static void add(const struct ws *w, const char *name, int seed, int words)
{
    char text[32768];
    size_t n = 0;
    for (int i = 0; i < words && n + 16 < sizeof text; i++) n += (size_t)snprintf(text + n, sizeof text - n, "%d ", seed * 100003 + i * 7);
    write_text(w->in, name, text);
}

static void ws_open(struct ws *w)
{
    dp_progress_init(DP_PROGRESS_QUIET);
    dp_log_init(DP_LOG_ERROR, DP_LOG_AUTO);
    *w = (struct ws){.base = strdup(dp_test_tmpdir())};
    if (!w->base) abort();
    w->dir = join(w->base, "w");
    w->in = join(w->base, "in");
    CHECK_OK(dp_fs_mkdirs(w->in, &err));
    CHECK_OK(dp_workspace_init(w->dir, dp_span_str("sources: []\n"), &err));
    recipe(w);
}

static void ws_close(struct ws *w)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", w->base);
    if (system(command) != 0) DP_TEST_FAIL("%s", command);
    free(w->base);
    free(w->dir);
    free(w->in);
}

/* What a plan or a run came to. */
struct was {
    size_t gens, lineage, units, groups, fresh;
    char ended[400], bpe[DP_HEX128], shard[DP_HEX128], first_dedup[DP_HEX128];
    char *manifest;
    int rc;
};

enum how { LOOK, APPEND, REBUILD, PLAN };

static struct was go(const struct ws *w, enum how how)
{
    struct was o = {.rc = 0};
    struct dp_options *k = calloc(1, sizeof *k);
    struct dp_road r;
    err = (struct dp_err){0};
    if (!k) abort();
    CHECK_OK(dp_options_init(k, &err));
    CHECK_OK(o.rc = dp_road_open(&r, w->dir, k, 2, 64 << 20, how != LOOK, NULL, NULL, &err));
    if (o.rc >= 0) {
        r.append = how == APPEND || how == PLAN;
        o.rc = how == LOOK ? dp_road_survey(&r, &err) : dp_road_plan(&r, true, &err);
        snprintf(o.ended, sizeof o.ended, "%s", r.ended);
        o.fresh = r.gens - r.lineage;
        if (o.rc >= 0 && (how == APPEND || how == REBUILD)) o.rc = dp_road_run(&r, DP_STEP_SHARD, &err);
        if (!o.ended[0]) snprintf(o.ended, sizeof o.ended, "%s", r.ended);
        o.gens = r.gens;
        o.lineage = r.lineage;
        o.units = r.units;
        o.groups = r.groups;
        snprintf(o.bpe, sizeof o.bpe, "%s", r.bpe.hex);
        snprintf(o.shard, sizeof o.shard, "%s", r.shard.hex);
        if (r.gens) snprintf(o.first_dedup, sizeof o.first_dedup, "%s", r.gen[0].dedup.hex);
        if (o.rc >= 0 && how != PLAN && r.shard.hex[0]) o.manifest = dp_road_path(&r, "shard", r.shard.hex, "manifest", 0, &err);
        dp_road_close(&r);
    }
    dp_options_release(k);
    free(k);
    return o;
}
/* For a call whose manifest isn't asked for. */
static struct was just(const struct ws *w, enum how how)
{
    struct was o = go(w, how);
    free(o.manifest);
    o.manifest = NULL;
    return o;
}

TEST(the_first_generation_is_what_run_makes)
{
    struct ws a, b;
    ws_open(&a);
    ws_open(&b);
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.txt", i);
        add(&a, name, i, 300);
        add(&b, name, i, 300);
    }
    struct was x = just(&a, APPEND), y = just(&b, REBUILD);
    CHECK_INT(x.lineage, 1);
    CHECK_INT(y.lineage, 0);
    CHECK_STR(x.shard, y.shard);
    CHECK_STR(x.bpe, y.bpe);
    x = just(&a, REBUILD); /* ends the lineage, with nothing to make */
    CHECK_STR(x.shard, y.shard);
    CHECK_INT(just(&a, LOOK).lineage, 0);
    ws_close(&a);
    ws_close(&b);
}

TEST(generations_stay_as_they_are)
{
    enum { N = 9 };
    struct ws w;
    struct was o, first;
    ws_open(&w);
    add(&w, "m.txt", 1, 300);
    first = just(&w, APPEND);
    for (int g = 2; g <= N; g++) {
        char name[16];
        snprintf(name, sizeof name, "%c.txt", g % 2 ? 'a' + g : 'z' - g); /* before and behind those that are there */
        add(&w, name, g, 300);
        o = just(&w, PLAN);
        CHECK_INT(o.lineage, g - 1);
        CHECK_INT(o.gens, g);
        o = just(&w, APPEND);
        CHECK_INT(o.lineage, g);
        CHECK_STR(o.bpe, first.bpe);
        CHECK_STR(o.first_dedup, first.first_dedup);
        CHECK_INT(o.ended[0], 0);
        struct was seen = just(&w, LOOK);
        CHECK_STR(seen.shard, o.shard);
        CHECK_INT(seen.lineage, g);
    }
    o = just(&w, APPEND); /* nothing new: nothing more */
    CHECK_INT(o.lineage, N);
    CHECK_INT(o.gens, N);
    /* What isn't complete yet doesn't hide what is. */
    add(&w, "new.txt", 99, 300);
    struct was seen = just(&w, LOOK);
    CHECK_STR(seen.shard, o.shard);
    just(&w, PLAN); /* registered now */
    seen = just(&w, LOOK);
    CHECK_STR(seen.shard, o.shard);
    ws_close(&w);
}

TEST(a_lineage_ends_with_a_reason)
{
    struct ws w;
    struct was o;
    ws_open(&w);
    add(&w, "a.txt", 1, 300);
    add(&w, "b.txt", 2, 300);
    just(&w, APPEND);
    add(&w, "c.txt", 3, 300);
    CHECK_INT(just(&w, APPEND).lineage, 2);
    /* The same content at another path is no change; nor is a file that is only touched. */
    char *a = join(w.in, "a.txt"), *b = join(w.in, "b.txt"), *sub = join(w.in, "sub");
    add(&w, "a.txt", 1, 300);
    o = just(&w, APPEND);
    CHECK_INT(o.lineage, 2);
    CHECK_STR(o.ended, "");
    CHECK_INT(unlink(b), 0);
    struct was before = just(&w, LOOK);
    o = just(&w, PLAN);
    CHECK(strstr(o.ended, "b.txt is gone") != NULL);
    CHECK_INT(o.lineage, 0);
    CHECK_STR(just(&w, LOOK).shard, before.shard); /* until another one is complete */
    o = just(&w, APPEND);
    CHECK_INT(o.lineage, 1);
    CHECK(strcmp(o.shard, before.shard) != 0);
    CHECK_STR(just(&w, LOOK).shard, o.shard);
    add(&w, "a.txt", 4, 300);
    CHECK(strstr(just(&w, APPEND).ended, "a.txt is gone, or was changed") != NULL);
    static const struct {
        const char *more, *why;
    } change[] = {{"dedup: {similarity: 0.8}\n", "dedup"},
                  {"dedup: {similarity: 0.8}\ningest: {min_chars: 3}\n", NULL},
                  {"dedup: {similarity: 0.8, signature: {seed: 9}}\n", "signatures"},
                  {"shards: {compression: zstd}\ndedup: {similarity: 0.8, signature: {seed: 9}}\n", "shards"}};
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        if (!change[i].why) continue;
        snprintf(w.more, sizeof w.more, "%s", change[i].more);
        recipe(&w);
        o = just(&w, APPEND);
        CHECK(strstr(o.ended, change[i].why) != NULL);
        if (o.rc == DP_BUSY) { /* seen on the way: the caller plans again, without it */
            just(&w, REBUILD);
            o = just(&w, APPEND);
        }
        CHECK_INT(o.lineage, 1);
        CHECK_STR(just(&w, APPEND).ended, "");
    }
    free(a);
    free(b);
    free(sub);
    ws_close(&w);
}

/* An entry in quarantine of the first unit's, sent round again. */
static void send_round(const struct ws *w)
{
    struct dp_options *k = calloc(1, sizeof *k);
    struct dp_road r;
    size_t marked;
    if (!k) abort();
    CHECK_OK(dp_options_init(k, &err));
    REQUIRE_OK(dp_road_open(&r, w->dir, k, 1, 64 << 20, true, NULL, NULL, &err));
    r.append = true;
    CHECK_OK(dp_road_plan(&r, true, &err));
    char id[DP_HEX128];
    dp_hash128_hex(dp_hash128("x", 1), id);
    struct dp_quarantined q = {.unit = r.unit[0].ingest.hex, .path = "/a", .position = "@1", .url = "", .id = id, .stage = "extract", .reason = "crash",
                               .what = "SIGSEGV", .bytes = 4};
    CHECK_OK(dp_quarantine_put(&r.ws, &q, 2, dp_span_str("byte"), &err));
    const char *name = q.name;
    CHECK_OK(dp_quarantine_retry(&r.ws, &name, 1, &marked, &err));
    CHECK_INT(marked, 1);
    dp_road_close(&r);
    dp_options_release(k);
    free(k);
}

TEST(a_retry_of_the_quarantine_ends_it)
{
    struct ws w;
    ws_open(&w);
    add(&w, "a.txt", 1, 300);
    just(&w, APPEND);
    add(&w, "b.txt", 2, 300);
    CHECK_INT(just(&w, APPEND).lineage, 2);
    send_round(&w);
    struct was o = just(&w, APPEND);
    CHECK(strstr(o.ended, "quarantined documents of a.txt") != NULL);
    CHECK_INT(o.lineage, 1);
    CHECK_STR(just(&w, APPEND).ended, "");
    ws_close(&w);
}

TEST(a_tokenizer_is_of_the_first_generation)
{
    struct ws w;
    ws_open(&w);
    add(&w, "a.txt", 1, 300);
    struct was o = just(&w, APPEND);
    char name[96], *store = join(w.dir, "store"), *path;
    snprintf(name, sizeof name, "tokenizer-%s.json", o.bpe);
    path = join(store, name);
    char before[DP_HEX256], after[DP_HEX256];
    REQUIRE_OK(dp_fs_sha256(path, before, &err));
    add(&w, "b.txt", 2, 3000);
    just(&w, APPEND);
    CHECK_INT(unlink(path), 0); /* lost: made again, of the first generation's documents */
    just(&w, APPEND);
    REQUIRE_OK(dp_fs_sha256(path, after, &err));
    CHECK_STR(after, before);
    free(path);
    free(store);
    ws_close(&w);
}

/* --- feeds --- */

enum { B = 2, T = 32, ROW = T + 1 };
static struct dp_feed_abi *open_feed(const struct ws *w, const char *more)
{
    struct dp_feed_abi *h = NULL;
    char options[256];
    snprintf(options, sizeof options, "seq_len=32\nbatch=2\nval_fraction=0\nseed=5\n%s", more);
    if (dp_feed_abi_open(&h, NULL, w->dir, options, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    return h;
}
static int64_t number_of(const struct dp_feed_abi *h, int which)
{
    int64_t n[DP_FEED_ABI_NUMBERS];
    dp_feed_abi_numbers(h, n, DP_FEED_ABI_NUMBERS);
    return n[which];
}
static void draw(struct dp_feed_abi *h, int32_t *ids)
{
    if (dp_feed_abi_next(h, ids, NULL, NULL, NULL, NULL, NULL, NULL, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
}
static void check_same(struct dp_feed_abi *a, struct dp_feed_abi *b, int steps)
{
    int32_t x[B * ROW], y[B * ROW];
    for (int i = 0; i < steps && !dp_test_bad; i++) {
        draw(a, x);
        draw(b, y);
        if (memcmp(x, y, sizeof x) != 0) DP_TEST_FAIL("step %d differs", i);
    }
}

TEST(a_feed_follows_generations)
{
    struct ws w;
    int32_t x[B * ROW], y[B * ROW];
    ws_open(&w);
    add(&w, "a.txt", 1, 400);
    just(&w, APPEND);
    struct dp_feed_abi *h = open_feed(&w, ""), *idle = open_feed(&w, "");
    REQUIRE(h && idle);
    int64_t rows = number_of(h, DP_FEED_ABI_SAMPLES);
    char early[DP_FEED_ABI_STATE_BYTES], late[DP_FEED_ABI_STATE_BYTES];
    for (int i = 0; i < 5; i++) {
        draw(h, x);
        draw(idle, y);
    }
    dp_feed_abi_state(h, early);
    CHECK_INT(dp_feed_abi_reload(h, msg, sizeof msg), DP_EMPTY);
    add(&w, "b.txt", 2, 400);
    just(&w, APPEND);
    CHECK_INT(dp_feed_abi_reload(h, msg, sizeof msg), DP_OK);
    CHECK_INT(dp_feed_abi_reload(h, msg, sizeof msg), DP_EMPTY);
    CHECK(number_of(h, DP_FEED_ABI_SAMPLES) > rows + rows / 2);
    dp_feed_abi_state(h, late);
    /* The epoch at hand is as it was, the next one has the new documents too. */
    while (number_of(idle, DP_FEED_ABI_SAMPLE) + B <= rows) {
        draw(h, x);
        draw(idle, y);
        CHECK(memcmp(x, y, sizeof x) == 0);
    }
    bool seen[3] = {false, false, false};
    for (int64_t s = rows; s < rows + number_of(h, DP_FEED_ABI_SAMPLES); s++) {
        const char *shard, *domain;
        int64_t n[5];
        char id[33], content[33];
        CHECK_INT(dp_feed_abi_locate(h, (uint64_t)s, 0, &shard, &domain, n, id, content, msg, sizeof msg), DP_OK);
        REQUIRE(n[0] < 2);
        seen[n[0]] = true;
    }
    CHECK(seen[0] && seen[1]);
    /* States of before and behind the growth, in feeds of before and behind it. */
    struct dp_feed_abi *now = open_feed(&w, ""), *again = open_feed(&w, "");
    REQUIRE(now && again);
    CHECK_INT(dp_feed_abi_resume(now, early, sizeof early, msg, sizeof msg), DP_OK);
    CHECK_INT(dp_feed_abi_seek(idle, 5 * B, msg, sizeof msg), DP_OK);
    check_same(now, idle, 60);
    CHECK_INT(dp_feed_abi_resume(now, late, sizeof late, msg, sizeof msg), DP_OK);
    CHECK_INT(dp_feed_abi_resume(idle, late, sizeof late, msg, sizeof msg), DP_OK); /* opened when there was one generation */
    CHECK_INT(dp_feed_abi_seek(h, 5 * B, msg, sizeof msg), DP_OK);
    check_same(now, idle, 60);
    CHECK_INT(dp_feed_abi_resume(idle, late, sizeof late, msg, sizeof msg), DP_OK);
    check_same(h, idle, 60);
    /* The lineage ends: who reads the old manifest goes on, and is told when it asks for more. */
    char *a = join(w.in, "a.txt");
    CHECK_INT(unlink(a), 0);
    free(a);
    just(&w, APPEND);
    CHECK_INT(dp_feed_abi_reload(h, msg, sizeof msg), DP_CONFIG);
    CHECK(strstr(msg, "no longer begins") != NULL);
    CHECK_INT(dp_feed_abi_resume(h, early, sizeof early, msg, sizeof msg), DP_OK);
    CHECK_INT(dp_feed_abi_resume(again, early, sizeof early, msg, sizeof msg), DP_OK);
    check_same(h, again, 20);
    dp_feed_abi_close(h);
    dp_feed_abi_close(idle);
    dp_feed_abi_close(now);
    dp_feed_abi_close(again);
    ws_close(&w);
}

TEST(domains_of_sources_and_of_other_workspaces_follow)
{
    struct ws w, other;
    char more[512];
    int64_t n[9];
    ws_open(&w);
    ws_open(&other);
    snprintf(w.more, sizeof w.more, "shards: {bytes_per_shard: 64K}\n");
    recipe(&w);
    add(&w, "a1.txt", 1, 500);
    add(&other, "o1.txt", 11, 500);
    struct was o = just(&w, APPEND);
    snprintf(other.more, sizeof other.more, "tokenizer: {file: \"%s/store/tokenizer-%s.json\"}\n", w.dir, o.bpe); /* only then they mix */
    recipe(&other);
    add(&w, "b1.txt", 2, 500);
    just(&w, APPEND);
    just(&other, APPEND);
    snprintf(more, sizeof more, "domains=a=source:a*.txt,b=source:b*.txt,o=%s\nmixture=a=0.4,b=0.4,o=0.2\n", other.dir);
    struct dp_feed_abi *h = NULL;
    char options[768];
    snprintf(options, sizeof options, "seq_len=32\nbatch=2\nval_fraction=0\nseed=5\n%s", more);
    if (dp_feed_abi_open(&h, NULL, w.dir, options, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    REQUIRE(h);
    for (size_t d = 0; d < 3; d++) {
        dp_feed_abi_domain(h, d, n, 9);
        CHECK_INT(n[2], 1); /* documents */
    }
    add(&w, "a2.txt", 3, 500);
    just(&w, APPEND);
    add(&w, "c.txt", 4, 500);
    add(&other, "o2.txt", 12, 500);
    just(&w, APPEND);
    just(&other, APPEND);
    CHECK_INT(dp_feed_abi_reload(h, msg, sizeof msg), DP_OK);
    static const int64_t want[] = {2, 1, 2};
    for (size_t d = 0; d < 3; d++) {
        dp_feed_abi_domain(h, d, n, 9);
        CHECK_INT(n[2], want[d]);
    }
    int32_t x[B * ROW];
    for (int i = 0; i < 200 && !dp_test_bad; i++) draw(h, x);
    char state[DP_FEED_ABI_STATE_BYTES];
    dp_feed_abi_state(h, state);
    struct dp_feed_abi *again = NULL;
    if (dp_feed_abi_open(&again, NULL, w.dir, options, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    REQUIRE(again);
    CHECK_INT(dp_feed_abi_resume(again, state, sizeof state, msg, sizeof msg), DP_OK);
    check_same(h, again, 100);
    dp_feed_abi_close(h);
    dp_feed_abi_close(again);
    ws_close(&w);
    ws_close(&other);
}

/* A server that opens the newest manifest for each connection, as `dpipe feed --serve` and `dpipe serve --feed` do. */
static int open_newest(void *ctx, struct dp_feed **f, void **own, const struct dp_feed_options *o, const struct dp_feed_state *state, struct dp_err *e)
{
    struct was now = go(ctx, LOOK);
    (void)state;
    *own = NULL;
    int rc = now.manifest ? dp_feed_open(f, now.manifest, o, e) : DP_NOTFOUND;
    free(now.manifest);
    return rc;
}
static void *serve_main(void *s)
{
    struct dp_err e;
    if (dp_feed_server_run(s, &e) < 0) DP_TEST_FAIL("%s", e.msg);
    return NULL;
}

TEST(a_servers_client_follows_when_it_asks)
{
    struct ws w;
    struct dp_feed_server *s;
    pthread_t thread;
    char path[128];
    int32_t x[B * ROW];
    ws_open(&w);
    add(&w, "a.txt", 1, 400);
    just(&w, APPEND);
    snprintf(path, sizeof path, "%s/feed.sock", w.base);
    struct dp_feed_server_options o = {.addr = path, .open = open_newest, .ctx = &w};
    dp_feed_options_init(&o.feed);
    REQUIRE_OK(dp_feed_server_open(&s, &o, &err));
    REQUIRE(pthread_create(&thread, NULL, serve_main, s) == 0);
    static const char wants[] = "seq_len=32\nbatch=2\nval_fraction=0\nseed=5\nreconnect=5\n";
    struct dp_feed_abi *c = NULL, *f = open_feed(&w, "");
    CHECK_INT(dp_feed_abi_connect(&c, path, wants, 0, NULL, 0, msg, sizeof msg), DP_OK);
    REQUIRE(c && f);
    check_same(c, f, 5);
    CHECK_INT(dp_feed_abi_reload(c, msg, sizeof msg), DP_EMPTY);
    add(&w, "b.txt", 2, 400);
    just(&w, APPEND);
    int64_t before = number_of(c, DP_FEED_ABI_SAMPLES);
    CHECK_INT(dp_feed_abi_seek(c, 5 * B, msg, sizeof msg), DP_OK); /* a new connection alone takes nothing up */
    CHECK_INT(dp_feed_abi_reload(c, msg, sizeof msg), DP_OK);
    CHECK_INT(dp_feed_abi_reload(f, msg, sizeof msg), DP_OK);
    CHECK(number_of(c, DP_FEED_ABI_SAMPLES) > before);
    check_same(c, f, 200);
    /* The state has the growth, whoever goes on with it. */
    char state[DP_FEED_ABI_STATE_BYTES];
    struct dp_feed_abi *again = NULL;
    dp_feed_abi_state(c, state);
    CHECK_INT(dp_feed_abi_connect(&again, path, wants, 0, state, sizeof state, msg, sizeof msg), DP_OK);
    REQUIRE(again);
    draw(f, x);
    int32_t y[B * ROW];
    draw(again, y);
    CHECK(memcmp(x, y, sizeof x) == 0);
    dp_feed_abi_close(c);
    dp_feed_abi_close(again);
    dp_feed_abi_close(f);
    dp_feed_server_stop(s);
    pthread_join(thread, NULL);
    dp_feed_server_close(s);
    ws_close(&w);
}

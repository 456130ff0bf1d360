#include "base/catalog.h"
#include "base/fs.h"
#include "base/workspace.h"
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static struct dp_err err;

static struct dp_catalog *fresh(char **path)
{
    struct dp_catalog *c = NULL;
    *path = dp_fs_join(dp_test_tmpdir(), "catalog.db");
    if (dp_catalog_open(&c, *path, &err) < 0) DP_TEST_FAIL("%s", err.msg);
    return c;
}

static int seen_name(void *ctx, const struct dp_artifact *a)
{
    snprintf(ctx, 64, "%s %s %lld", a->kind, a->name, (long long)a->docs);
    return 0;
}

TEST(a_unit_is_claimed_done_and_found)
{
    char *path, got[64] = "";
    struct dp_catalog *c = fresh(&path);
    int64_t unit, epoch;
    REQUIRE_OK(dp_catalog_claim(c, "clean", "k1", "a.deb", "me:1", 60, &unit, &epoch, &err));
    CHECK_INT(epoch, 1);
    struct dp_artifact a = {"docs", "docs-k1", "digest", 10, 3, 9};
    struct dp_stage_counts n = {.docs_in = 5, .docs_out = 3};
    n.drop[DP_DROP_EMPTY] = 2;
    struct dp_unit_count counts[] = {{"extract", &n}};
    const char *parents[] = {"p"};
    REQUIRE_OK(dp_catalog_done(c, unit, epoch, "r", &a, 1, parents, 1, counts, 1, &err));
    CHECK(dp_catalog_is_done(c, "clean", "k1"));
    CHECK(!dp_catalog_is_done(c, "clean", "k2"));
    CHECK_OK(dp_catalog_artifacts(c, "clean", "k1", seen_name, got, &err));
    CHECK_STR(got, "docs docs-k1 3");
    CHECK_INT(dp_catalog_claim(c, "clean", "k1", "a.deb", "me:1", 60, &unit, &epoch, &err), DP_EMPTY);
    dp_catalog_close(c);
    REQUIRE_OK(dp_catalog_open(&c, path, &err)); /* and after a restart */
    CHECK(dp_catalog_is_done(c, "clean", "k1"));
    dp_catalog_close(c);
    free(path);
}

TEST(a_lost_lease_cannot_publish)
{
    char *path;
    struct dp_catalog *c = fresh(&path);
    int64_t unit, epoch, unit2, epoch2;
    REQUIRE_OK(dp_catalog_claim(c, "s", "k", "u", "old", 0, &unit, &epoch, &err)); /* a lease that ends at once */
    REQUIRE_OK(dp_catalog_claim(c, "s", "k", "u", "new", 60, &unit2, &epoch2, &err));
    CHECK_INT(unit2, unit);
    CHECK_INT(epoch2, epoch + 1);
    CHECK_INT(dp_catalog_claim(c, "s", "k", "u", "third", 60, &unit, &epoch, &err), DP_BUSY);
    CHECK_INT(dp_catalog_done(c, unit2, epoch2 - 1, "r", NULL, 0, NULL, 0, NULL, 0, &err), DP_BUSY);
    CHECK_OK(dp_catalog_done(c, unit2, epoch2, "r", NULL, 0, NULL, 0, NULL, 0, &err));
    dp_catalog_close(c);
    free(path);
}

TEST(counts_that_do_not_add_up_fail_the_unit)
{
    char *path;
    struct dp_catalog *c = fresh(&path);
    int64_t unit, epoch;
    REQUIRE_OK(dp_catalog_claim(c, "s", "k", "u", "me", 60, &unit, &epoch, &err));
    struct dp_stage_counts n = {.docs_in = 5, .docs_out = 3};
    struct dp_unit_count counts[] = {{"extract", &n}};
    struct dp_artifact a = {"docs", "docs-k", "d", 1, 1, 1};
    CHECK_INT(dp_catalog_done(c, unit, epoch, "r", &a, 1, NULL, 0, counts, 1, &err), DP_BROKEN);
    CHECK(!dp_catalog_is_done(c, "s", "k"));
    n.drop[DP_DROP_EMPTY] = 2; /* nothing of the refused transaction is left: the same name goes in */
    CHECK_OK(dp_catalog_done(c, unit, epoch, "r", &a, 1, NULL, 0, counts, 1, &err));
    dp_catalog_close(c);
    free(path);
}

static void *many_units(void *v)
{
    struct dp_err e;
    for (int i = 0; i < 50; i++) {
        char key[32];
        int64_t unit, epoch;
        snprintf(key, sizeof key, "%p-%d", (void *)&key, i);
        if (dp_catalog_claim(v, "s", key, "u", "me", 60, &unit, &epoch, &e) != DP_OK) return &many_units;
        if (dp_catalog_done(v, unit, epoch, "r", NULL, 0, NULL, 0, NULL, 0, &e) != DP_OK) return &many_units;
    }
    return NULL;
}

static int count_unit(void *ctx, const struct dp_unit_row *u)
{
    *(int *)ctx += strcmp(u->state, "done") == 0;
    return 0;
}

TEST(threads_share_one_writer)
{
    char *path;
    struct dp_catalog *c = fresh(&path);
    pthread_t t[4];
    for (int i = 0; i < 4; i++) REQUIRE(pthread_create(&t[i], NULL, many_units, c) == 0);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        CHECK(!bad);
    }
    int done = 0;
    CHECK_OK(dp_catalog_units(c, count_unit, &done, &err));
    CHECK_INT(done, 200);
    dp_catalog_close(c);
    free(path);
}

TEST(a_writer_sweeps_what_the_catalog_does_not_know)
{
    char *dir = dp_test_tmpdir(), *orphan, *rest;
    struct dp_workspace w, second;
    REQUIRE_OK(dp_workspace_init(dir, dp_span_str("sources:\n"), &err));
    REQUIRE_OK(dp_workspace_open(&w, dir, true, &err));
    dp_workspace_close(&w);
    orphan = dp_fs_join(dir, "store/docs-orphan");
    rest = dp_fs_join(dir, "tmp/half");
    close(open(orphan, O_CREAT | O_WRONLY, 0666));
    close(open(rest, O_CREAT | O_WRONLY, 0666));
    REQUIRE_OK(dp_workspace_open(&w, dir, false, &err)); /* a reader changes nothing */
    dp_workspace_close(&w);
    CHECK(dp_fs_exists(orphan) && dp_fs_exists(rest));
    REQUIRE_OK(dp_workspace_open(&w, dir, true, &err));
    CHECK(!dp_fs_exists(orphan) && !dp_fs_exists(rest));
    CHECK_INT(dp_workspace_open(&second, dir, true, &err), DP_BUSY);
    dp_workspace_close(&w);
    free(orphan);
    free(rest);
}

TEST(a_lock_that_a_dead_service_left_for_a_moment_is_waited_for)
{
    char *dir = dp_test_tmpdir(), *lock = NULL;
    struct dp_workspace w;
    REQUIRE_OK(dp_workspace_init(dir, dp_span_str("sources:\n"), &err));
    lock = dp_fs_join(dir, "lock");
    pid_t dead = fork();
    if (dead == 0) _exit(0);
    waitpid(dead, NULL, 0);
    for (int alive = 0; alive < 2; alive++) { /* the holder that the lock names is alive: then it is taken */
        char note[64];
        int fd = open(lock, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        int n = snprintf(note, sizeof note, "pid=%d\nsocket=/x\n", (int)(alive ? getpid() : dead));
        REQUIRE(fd >= 0 && write(fd, note, (size_t)n) == n && flock(fd, LOCK_EX | LOCK_NB) == 0);
        pid_t child = fork(); /* has the descriptor too, as one between fork and exec has */
        if (child == 0) {
            usleep(300000);
            _exit(0);
        }
        close(fd);
        CHECK_INT(dp_workspace_open(&w, dir, true, &err), alive ? DP_BUSY : DP_OK);
        if (!alive) dp_workspace_close(&w);
        waitpid(child, NULL, 0);
    }
    free(lock);
}

/* A reader that comes while the first writer makes the tables (`dpipe status` beside a service that starts) must not make them again. */
static void *open_one(void *path)
{
    struct dp_err e = {0};
    struct dp_catalog *c = NULL;
    int rc = dp_catalog_open(&c, path, &e);
    if (rc < 0) fprintf(stderr, "%s\n", e.msg);
    dp_catalog_close(c);
    return (void *)(intptr_t)rc;
}

TEST(many_may_open_a_fresh_catalog_at_once)
{
    for (int round = 0; round < 10; round++) {
        char name[32], *dir = dp_test_tmpdir(), *path;
        pthread_t t[4];
        void *rc;
        snprintf(name, sizeof name, "catalog-%d.db", round);
        path = dp_fs_join(dir, name);
        for (int i = 0; i < 4; i++)
            if (pthread_create(&t[i], NULL, open_one, path) != 0) abort();
        for (int i = 0; i < 4; i++) {
            pthread_join(t[i], &rc);
            CHECK_INT((intptr_t)rc, 0);
        }
        free(path);
    }
}

static int count_artifact(void *ctx, const struct dp_artifact *a)
{
    (void)a;
    ++*(int *)ctx;
    return 0;
}

static void publish(struct dp_workspace *w, const char *key, const char *name, const char *content, int64_t bytes)
{
    int64_t unit, epoch;
    char *path = dp_workspace_store_path(w, name);
    struct dp_artifact a = {.kind = "docs", .name = name, .digest = "d", .bytes = bytes};
    REQUIRE_OK(dp_catalog_claim(w->catalog, "clean", key, "u", "me", 60, &unit, &epoch, &err));
    REQUIRE_OK(dp_fs_write_atomic(path, dp_span_str(content), &err));
    REQUIRE_OK(dp_catalog_done(w->catalog, unit, epoch, "r", &a, 1, NULL, 0, NULL, 0, &err));
    free(path);
}

TEST(what_is_gone_from_the_store_is_not_done)
{
    char *dir = dp_test_tmpdir(), *path, *db;
    struct dp_workspace w;
    int n = 0;
    REQUIRE_OK(dp_workspace_init(dir, dp_span_str("sources:\n"), &err));
    REQUIRE_OK(dp_workspace_open(&w, dir, true, &err));
    publish(&w, "whole", "docs-whole", "abc", 3);
    publish(&w, "short", "docs-short", "abc", 4);
    publish(&w, "gone", "docs-gone", "abc", 3);
    path = dp_workspace_store_path(&w, "docs-gone");
    unlink(path);
    free(path);
    dp_workspace_close(&w);
    REQUIRE_OK(dp_workspace_open(&w, dir, false, &err)); /* a reader still sees all three */
    CHECK_OK(dp_catalog_all(w.catalog, count_artifact, &n, &err));
    CHECK_INT(n, 3);
    dp_workspace_close(&w);
    REQUIRE_OK(dp_workspace_open(&w, dir, true, &err));
    CHECK(dp_catalog_is_done(w.catalog, "clean", "whole"));
    CHECK(!dp_catalog_is_done(w.catalog, "clean", "short") && !dp_catalog_is_done(w.catalog, "clean", "gone"));
    path = dp_workspace_store_path(&w, "docs-short");
    CHECK(!dp_fs_exists(path));
    free(path);
    dp_workspace_close(&w);
    /* A store whose catalog was deleted is not swept away. */
    static const char *const files[] = {"catalog.db", "catalog.db-wal", "catalog.db-shm"};
    for (int i = 0; i < 3; i++) {
        db = dp_fs_join(dir, files[i]);
        unlink(db);
        free(db);
    }
    CHECK_INT(dp_workspace_open(&w, dir, true, &err), DP_CONFIG);
    CHECK_INT(dp_workspace_open(&w, dir, false, &err), DP_CONFIG);
    path = dp_fs_join(dir, "store/docs-whole");
    CHECK(dp_fs_exists(path));
    unlink(path);
    free(path);
    CHECK_OK(dp_workspace_open(&w, dir, false, &err)); /* an empty one is an empty workspace; a reader makes no file */
    dp_workspace_close(&w);
    db = dp_fs_join(dir, "catalog.db");
    CHECK(!dp_fs_exists(db));
    free(db);
}

static bool keep_b(void *ctx, const char *path)
{
    (void)ctx;
    return strcmp(path, "/b") == 0;
}

TEST(sources_are_forgotten)
{
    char *path;
    struct dp_catalog *c = fresh(&path);
    bool known;
    size_t isnew;
    uint64_t gone;
    struct dp_source s[] = {{0, "/a", "a", "", "/a", 1, 2, 3}, {0, "/b", "b", "", "/b", 1, 2, 3}, {0, "/c", "c", "", "/c", 1, 2, 3}};
    REQUIRE_OK(dp_catalog_sources_put(c, s, 3, &isnew, &err));
    CHECK_INT(isnew, 3);
    REQUIRE_OK(dp_catalog_sources_prune(c, keep_b, NULL, &gone, &err));
    CHECK_INT(gone, 2);
    REQUIRE_OK(dp_catalog_source_known(c, "/b", 1, 2, 3, "", &known, &err));
    CHECK(known);
    REQUIRE_OK(dp_catalog_source_known(c, "/a", 1, 2, 3, "", &known, &err));
    CHECK(!known);
    dp_catalog_close(c);
    free(path);
}

struct listing {
    char names[64];
    int64_t id[8];
    size_t n;
};

static int list_source(void *ctx, const struct dp_source *s)
{
    struct listing *l = ctx;
    l->id[l->n++] = s->id;
    size_t at = strlen(l->names);
    snprintf(l->names + at, sizeof l->names - at, "%s ", s->path);
    return DP_OK;
}

/* In the order of prefix, name, digest, whatever the order they came in; parts of the list are parts of the whole; one path of a content. */
TEST(sources_in_order_and_in_parts)
{
    char *path;
    struct dp_catalog *c = fresh(&path);
    size_t isnew;
    const struct dp_source s[] = {{0, "/5", "n", "p", "d5", 1, 2, 3}, {0, "/2", "b", "", "d2", 1, 2, 3}, {0, "/4", "m", "p", "d4", 1, 2, 3},
                                  {0, "/1", "a", "", "d1", 1, 2, 3},  {0, "/3", "b", "", "d3", 1, 2, 3}, {0, "/9", "n", "p", "d5", 1, 2, 3}};
    REQUIRE_OK(dp_catalog_sources_put(c, s, 6, &isnew, &err));
    CHECK_INT(isnew, 6);
    REQUIRE_OK(dp_catalog_sources_put(c, s, 6, &isnew, &err));
    CHECK_INT(isnew, 0);
    struct listing all = {.n = 0};
    REQUIRE_OK(dp_catalog_sources(c, 0, -1, list_source, &all, &err));
    CHECK_STR(all.names, "/1 /2 /3 /4 /5 ");
    for (size_t from = 0; from < all.n; from++)
        for (size_t n = 1; from + n <= all.n; n++) {
            struct listing part = {.n = 0};
            REQUIRE_OK(dp_catalog_sources(c, all.id[from], (int64_t)n, list_source, &part, &err));
            CHECK_INT(part.n, n);
            CHECK(memcmp(part.id, all.id + from, n * sizeof *part.id) == 0);
        }
    CHECK_INT(dp_catalog_has_artifact(c, "docs-k", &err), 0);
    dp_catalog_close(c);
    free(path);
}

/* --- what is newest, and what is in use --- */

static int join_name(void *ctx, const struct dp_unit_name *u)
{
    size_t n = strlen(ctx);
    snprintf((char *)ctx + n, 64 - n, "%s ", u->key);
    return DP_OK;
}
static int count_name(void *ctx, const struct dp_unit_name *u)
{
    (void)u;
    ++*(int *)ctx;
    return DP_OK;
}
static int superseded_at(struct dp_catalog *c, int64_t since)
{
    int n = 0;
    return dp_catalog_superseded(c, since, 100, count_name, &n, &err) < 0 ? -1 : n;
}

TEST(what_is_in_use_counts_as_superseded_now)
{
    char *path, got[64] = "";
    struct dp_catalog *c = fresh(&path);
    static const char *const keys[] = {"k1", "k2", "k3"};
    struct dp_unit_name u[3];
    for (int i = 0; i < 3; i++) {
        int64_t unit, epoch;
        char name[2][16];
        snprintf(name[0], sizeof name[0], "m%d", i + 1);
        snprintf(name[1], sizeof name[1], "other%d", i + 1);
        const struct dp_artifact a[] = {{"manifest", name[0], "digest", 10, 3, 9}, {"other", name[1], "digest", 10, 3, 9}};
        REQUIRE_OK(dp_catalog_claim(c, "shard", keys[i], "all", "serve:1", 60, &unit, &epoch, &err));
        REQUIRE_OK(dp_catalog_done(c, unit, epoch, "r", a, 2, NULL, 0, NULL, 0, &err));
        snprintf(u[i].stage, sizeof u[i].stage, "shard");
        snprintf(u[i].key, sizeof u[i].key, "%s", keys[i]);
    }
    REQUIRE_OK(dp_catalog_newest_shards(c, 10, join_name, got, &err));
    CHECK_STR(got, "k3 k2 k1 ");
    REQUIRE_OK(dp_catalog_supersede(c, NULL, 0, u, 2, 100, &err)); /* the second came, and again the first */
    REQUIRE_OK(dp_catalog_supersede(c, &u[1], 1, NULL, 0, 200, &err));
    got[0] = 0;
    REQUIRE_OK(dp_catalog_newest_shards(c, 2, join_name, got, &err));
    CHECK_STR(got, "k1 k3 ");
    const char *const in_use[] = {"m2", "other2", "nothing"}, *const present[] = {"m1", "m2"};
    CHECK_INT(superseded_at(c, 199), 0);
    CHECK_INT(superseded_at(c, 200), 1);
    REQUIRE_OK(dp_catalog_refresh(c, present, 2, 250, &err)); /* the first is of the present: nothing is looked at */
    CHECK_INT(superseded_at(c, 200), 1);
    REQUIRE_OK(dp_catalog_refresh(c, in_use, 3, 300, &err));
    CHECK_INT(superseded_at(c, 299), 0);
    CHECK_INT(superseded_at(c, 300), 1);
    dp_catalog_close(c);
    free(path);
}

/* --- the lineage --- */

static int list_generation(void *ctx, const struct dp_lineage_generation *g)
{
    char *out = ctx;
    snprintf(out + strlen(out), 512 - strlen(out), "%d:%s:%s:%s ", (int)g->units, g->dedup, g->bpe, g->shard);
    return DP_OK;
}
static int list_member(void *ctx, const struct dp_lineage_member *m)
{
    char *out = ctx;
    snprintf(out + strlen(out), 512 - strlen(out), "%d:%s:%s%s ", (int)m->unit, m->sig, m->source.digest, *m->source.path ? m->source.path : ":gone");
    return DP_OK;
}
static bool is_not(void *ctx, const char *path)
{
    return strcmp(ctx, path) != 0;
}
static struct dp_lineage_unit unit_of(void *ctx, int64_t i)
{
    return ((const struct dp_lineage_unit *)ctx)[i];
}
static int append(struct dp_catalog *c, bool anew, const struct dp_lineage_generation *g, const struct dp_lineage_unit *u)
{
    const struct dp_lineage_change k = {anew, *g, unit_of, (void *)(uintptr_t)u};
    return dp_catalog_lineage_append(c, &k, &err);
}
static const char *lineage(struct dp_catalog *c)
{
    static char out[512];
    out[0] = 0;
    CHECK_OK(dp_catalog_lineage(c, list_generation, out, &err));
    return out;
}
static const char *members(struct dp_catalog *c, int64_t from, int64_t n)
{
    static char out[512];
    out[0] = 0;
    CHECK_OK(dp_catalog_lineage_members(c, from, n, list_member, out, &err));
    return out;
}

TEST(a_lineage_grows_ends_and_begins_anew)
{
    char *path;
    struct dp_catalog *c = fresh(&path);
    size_t isnew;
    uint64_t gone;
    int64_t had;
    const struct dp_source s[] = {{0, "/1", "a", "a", "d1", 1, 2, 3}, {0, "/2", "b", "b", "d2", 1, 2, 3}, {0, "/3", "c", "c", "d3", 1, 2, 3}};
    const struct dp_source more[] = {{0, "/0", "B", "B", "d0", 1, 2, 3}, {0, "/4", "bb", "bb", "d4", 1, 2, 3}, {0, "/22", "b", "b", "d2", 1, 2, 3}};
    REQUIRE_OK(dp_catalog_sources_put(c, s, 3, &isnew, &err));
    struct listing all = {.n = 0};
    REQUIRE_OK(dp_catalog_sources_fresh(c, 0, -1, list_source, &all, &err));
    CHECK_STR(all.names, "/1 /2 /3 ");
    const struct dp_lineage_unit first[] = {{"s0", all.id[0], 2}, {"s1", all.id[2], 1}};
    const struct dp_lineage_generation g1 = {2, "k1", "b1", "m1"}, g2 = {1, "k2", "b1", "m2"};
    REQUIRE_OK(append(c, true, &g1, first));
    CHECK_STR(lineage(c), "2:k1:b1:m1 ");
    CHECK_STR(members(c, 0, -1), "0:s0:d1/1 0:s0:d2/2 1:s1:d3/3 ");
    CHECK_STR(members(c, 1, 1), "1:s1:d3/3 ");
    CHECK_STR(members(c, 2, 9), "");
    /* Fresh are those of no unit; an alias of an old content is not. */
    REQUIRE_OK(dp_catalog_sources_put(c, more, 3, &isnew, &err));
    all = (struct listing){.n = 0};
    REQUIRE_OK(dp_catalog_sources_fresh(c, 0, -1, list_source, &all, &err));
    CHECK_STR(all.names, "/0 /4 ");
    struct listing part = {.n = 0};
    REQUIRE_OK(dp_catalog_sources_fresh(c, all.id[1], 1, list_source, &part, &err));
    CHECK_STR(part.names, "/4 ");
    /* One unit that says it has more files than there are: nothing of it. */
    const struct dp_lineage_unit two = {"s2", all.id[0], 2}, three = {"s2", all.id[0], 3};
    CHECK_INT(append(c, false, &g2, &three), DP_BUSY);
    CHECK_STR(lineage(c), "2:k1:b1:m1 ");
    REQUIRE_OK(append(c, false, &g2, &two));
    CHECK_STR(lineage(c), "2:k1:b1:m1 1:k2:b1:m2 ");
    /* With the manifest's unit: both or neither. */
    const struct dp_lineage_unit none = {"s3", all.id[0], 9};
    const struct dp_lineage_change bad = {false, g2, unit_of, (void *)(uintptr_t)&none};
    const struct dp_artifact a = {"manifest", "m", "digest", 1, 1, 1};
    int64_t id, epoch;
    REQUIRE_OK(dp_catalog_claim(c, "shard", "k", "manifest", "me", 60, &id, &epoch, &err));
    CHECK_INT(dp_catalog_done_lineage(c, id, epoch, "k", &a, 1, NULL, 0, NULL, 0, &bad, &err), DP_BUSY);
    CHECK(!dp_catalog_is_done(c, "shard", "k"));
    CHECK_STR(lineage(c), "2:k1:b1:m1 1:k2:b1:m2 ");
    /* Content that moves stays, content that goes is told. */
    REQUIRE_OK(dp_catalog_sources_prune(c, is_not, (void *)(uintptr_t) "/2", &gone, &err));
    CHECK_STR(members(c, 0, 1), "0:s0:d1/1 0:s0:d2/22 ");
    REQUIRE_OK(dp_catalog_sources_prune(c, is_not, (void *)(uintptr_t) "/4", &gone, &err));
    CHECK_STR(members(c, 2, -1), "2:s2:d0/0 2:s2:d4:gone ");
    /* Anew: the old one goes in the same transaction. */
    all = (struct listing){.n = 0};
    REQUIRE_OK(dp_catalog_sources(c, 0, -1, list_source, &all, &err));
    const struct dp_lineage_unit whole = {"t0", all.id[0], 4};
    const struct dp_lineage_generation g = {1, "k9", "b9", "m9"};
    const struct dp_lineage_unit wrong = {"t0", all.id[0], 5};
    CHECK_INT(append(c, true, &g, &wrong), DP_BUSY);
    CHECK_STR(lineage(c), "2:k1:b1:m1 1:k2:b1:m2 ");
    REQUIRE_OK(append(c, true, &g, &whole));
    CHECK_STR(lineage(c), "1:k9:b9:m9 ");
    CHECK_STR(members(c, 0, -1), "0:t0:d0/0 0:t0:d1/1 0:t0:d2/22 0:t0:d3/3 ");
    REQUIRE_OK(dp_catalog_lineage_end(c, &had, &err));
    CHECK_INT(had, 1);
    CHECK_STR(members(c, 0, -1), "");
    REQUIRE_OK(dp_catalog_lineage_end(c, &had, &err));
    CHECK_INT(had, 0);
    dp_catalog_close(c);
    free(path);
}

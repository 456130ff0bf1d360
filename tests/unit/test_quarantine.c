/* Every bit of a data set's files, and the way into quarantine and back. */
#include "shards/shard_quarantine.h"
#include "shards/shard_verify.h"
#include "tests/unit/test_shard_data.h"

static struct dp_err err;

struct found {
    int problems, frames;
    char shard[64];
};
static void see(void *ctx, const struct dp_verify_problem *p)
{
    struct found *f = ctx;
    f->problems++;
    f->frames += p->frame >= 0;
    snprintf(f->shard, sizeof f->shard, "%s", p->shard);
}

static void put_file(const char *dir, const char *name, struct dp_span s)
{
    char *p = dp_fs_join(dir, name);
    FILE *f = fopen(p, "wb");
    if (!f || fwrite(s.ptr, 1, s.len, f) != s.len || fclose(f)) abort();
    free(p);
}

/* Flip each bit of one file in turn; `step` bits apart. */
static void flip_all(const struct data *d, const char *name, bool manifest, bool frames)
{
    struct dp_span was = data_file(d->dir, name);
    char *now = malloc(was.len);
    for (size_t bit = 0; bit < was.len * 8; bit++) {
        struct found f = {0};
        memcpy(now, was.ptr, was.len);
        now[bit / 8] = (char)(now[bit / 8] ^ 1 << bit % 8);
        put_file(d->dir, name, dp_span(now, was.len));
        int rc = dp_verify_manifest(d->path, NULL, true, see, &f, NULL, &err);
        if (rc >= 0) DP_TEST_FAIL("bit %zu of %s went unnoticed", bit, name);
        if (!manifest && (f.problems == 0 || strncmp(f.shard, "part-001", 8) != 0)) DP_TEST_FAIL("bit %zu of %s: %s named", bit, name, f.shard);
        if (frames && !f.frames) DP_TEST_FAIL("bit %zu of %s: no frame named", bit, name);
        if (dp_test_bad > 5) break;
    }
    put_file(d->dir, name, was);
    CHECK_OK(dp_verify_manifest(d->path, NULL, true, NULL, NULL, NULL, &err));
    data_free(was);
    free(now);
}

TEST(verify_finds_each_flipped_bit)
{
    for (int packed = 0; packed < 2; packed++) {
        struct data d;
        data_packing = packed ? &(struct dp_shard_packing){3, 65536} : NULL;
        int rc = data_make(&d, 50257, 50256, 2, 2, 20, 21, &err);
        data_packing = NULL;
        REQUIRE_OK(rc);
        flip_all(&d, "part-001.bin", false, true);
        flip_all(&d, "part-001.dpx", false, false);
        if (packed) flip_all(&d, "manifest.json", true, false); /* has all members */
        data_release(&d);
    }
}

static bool there(const struct data *d, const char *name)
{
    char *p = dp_fs_join(d->dir, name);
    bool yes = dp_fs_exists(p);
    free(p);
    return yes;
}

struct back {
    int moved, stayed;
    char why[64];
};
static void restored(void *ctx, const char *name, const char *problem, bool back)
{
    struct back *b = ctx;
    CHECK(strncmp(name, "part-", 5) == 0);
    snprintf(b->why, sizeof b->why, "%s", problem);
    if (back) b->moved++;
    else b->stayed++;
}

TEST(quarantine_takes_damaged_files_and_gives_them_back)
{
    struct data d;
    struct dp_manifest *m;
    struct found f = {0};
    struct back b = {0};
    REQUIRE_OK(data_make(&d, 50257, 50256, 3, 9, 60, 22, &err));
    REQUIRE_OK(dp_manifest_read(&m, d.path, &err));
    CHECK_OK(dp_quarantine_restore(d.path, restored, &b, &err)); /* nothing there */
    data_flip(d.dir, "part-001.bin", 77);
    data_flip(d.dir, "part-002.dpx", 1000);
    struct dp_span bad = data_file(d.dir, "part-001.bin");
    for (size_t i = 0; i < 3; i++) CHECK_OK(dp_quarantine_shard(m, d.path, i, "frame 0: checksum", restored, &b, &err));
    CHECK_INT(b.moved, 2);
    b.moved = 0;
    CHECK(there(&d, "quarantine/part-001.bin") && there(&d, "quarantine/part-002.dpx") && there(&d, "quarantine/list.json"));
    CHECK(there(&d, "part-000.bin") && !there(&d, "part-001.bin") && there(&d, "part-001.dpx") && there(&d, "part-002.bin") && !there(&d, "part-002.dpx"));
    CHECK_INT(dp_verify_manifest(d.path, NULL, true, see, &f, NULL, &err), DP_CORRUPT);
    CHECK(f.problems >= 2);
    struct dp_shard *s;
    CHECK_INT(dp_manifest_open_shard(m, d.path, 1, &s, &err), DP_NOTFOUND);
    /* One has been made again meanwhile: both stay. */
    put_file(d.dir, "part-002.dpx", dp_span("new", 3));
    CHECK_OK(dp_quarantine_restore(d.path, restored, &b, &err));
    CHECK(b.moved == 1 && b.stayed == 1);
    CHECK_STR(b.why, "frame 0: checksum");
    struct dp_span again = data_file(d.dir, "part-001.bin");
    CHECK(dp_span_eq(again, bad));
    CHECK(there(&d, "quarantine/part-002.dpx") && there(&d, "quarantine/list.json"));
    char *p = dp_fs_join(d.dir, "part-002.dpx");
    unlink(p);
    free(p);
    CHECK_OK(dp_quarantine_restore(d.path, restored, &b, &err));
    CHECK(b.moved == 2 && !there(&d, "quarantine/list.json") && there(&d, "part-002.dpx"));
    data_free(bad);
    data_free(again);
    dp_manifest_free(m);
    data_release(&d);
}

TEST(quarantine_survives_a_crash_between_its_steps)
{
    struct data d;
    struct back b = {0};
    REQUIRE_OK(data_make(&d, 50257, 50256, 1, 9, 60, 23, &err));
    CHECK_OK(dp_quarantine_file(d.path, "part-000.bin", "x", &err));
    char *in = dp_fs_join(d.dir, "quarantine/part-000.bin"), *out = dp_fs_join(d.dir, "part-000.bin");
    CHECK(rename(in, out) == 0); /* listed, but not moved yet; or moved back, but still listed */
    CHECK_OK(dp_quarantine_restore(d.path, restored, &b, &err));
    CHECK(b.moved == 0 && b.stayed == 0 && there(&d, "part-000.bin") && !there(&d, "quarantine/list.json"));
    /* A list that others wrote doesn't reach outside. */
    char *list = dp_fs_join(d.dir, "quarantine/list.json");
    CHECK_OK(dp_fs_write_atomic(list, dp_span_str("{\"format\":\"dpipe-quarantine\",\"files\":[{\"name\":\"../../x\"}]}"), &err));
    CHECK_INT(dp_quarantine_restore(d.path, restored, &b, &err), DP_CORRUPT);
    CHECK_OK(dp_fs_write_atomic(list, dp_span_str("[]"), &err));
    CHECK_INT(dp_quarantine_restore(d.path, restored, &b, &err), DP_CORRUPT);
    CHECK_INT(dp_quarantine_file(d.path, "part-000.bin", "x", &err), DP_CORRUPT);
    CHECK(there(&d, "part-000.bin"));
    free(in);
    free(out);
    free(list);
    data_release(&d);
}

/* Compressed bodies: the same shard as a flat one, and nothing of it can change unnoticed. */
#include "shards/shard_layout.h"
#include "shards/shard_verify.h"
#include "tests/unit/test_shard_data.h"

#include <pthread.h>

static struct dp_err err;

static struct dp_shard *open_part(const struct data *d, const char *body, const char *side)
{
    struct dp_shard *s = NULL;
    char *bin = dp_fs_join(d->dir, body), *dpx = dp_fs_join(d->dir, side);
    CHECK_OK(dp_shard_open(&s, bin, dpx, &err));
    free(bin);
    free(dpx);
    return s;
}

static void check_copy(const struct dp_shard *s, const uint32_t *all, uint64_t first, uint64_t n)
{
    int32_t *out = malloc(((size_t)n + 1) * sizeof *out);
    out[n] = -7;
    REQUIRE_OK(dp_shard_copy_ids(s, first, n, out, &err));
    for (uint64_t i = 0; i < n; i++) REQUIRE(out[i] == (int32_t)all[first + i]);
    CHECK_INT(out[n], -7);
    free(out);
}

static void check_kind(uint32_t vocab, int64_t eot, int docs, uint32_t max_len,
                       const struct dp_shard_packing *how)
{
    struct data d;
    uint64_t rng = vocab;
    data_packing = how;
    int rc = data_make(&d, vocab, eot, 1, docs, max_len, vocab + 3, &err);
    data_packing = NULL;
    REQUIRE_OK(rc);
    struct dp_shard *s = open_part(&d, "part-000.bin", "part-000.dpx");
    REQUIRE(s != NULL);
    CHECK_INT(dp_shard_tokens(s), d.tokens);
    CHECK_INT(dp_shard_pack_ids(s), how ? how->frame_ids : 0);
    CHECK(!how || !dp_shard_ids(s));
    CHECK_OK(dp_shard_verify(s, NULL, NULL, &err));
    check_copy(s, d.all, 0, d.tokens);
    check_copy(s, d.all, d.tokens, 0);
    for (int k = 0; k < 200 && d.tokens; k++) {
        uint64_t first = dp_splitmix64(&rng) % d.tokens,
                 n = dp_splitmix64(&rng) % (k % 2 ? 100 : 70000);
        if (n > d.tokens - first) n = d.tokens - first;
        check_copy(s, d.all, first, n);
        CHECK(dp_shard_id(s, first) == d.all[first]);
    }
    dp_shard_close(s);
    data_release(&d);
}

TEST(packed_shard_reads_back)
{
    static const struct dp_shard_packing how[] = {{3, 65536}, {1, 131072}, {9, 1048576}, {3, 4096}, {3, 32768}};
    for (int k = -1; k < 5; k++) {
        const struct dp_shard_packing *h = k < 0 ? NULL : &how[k];
        check_kind(50257, 50256, 150, 3000, h);
        if (k > 2) continue;
        check_kind(65536, -1, 90, 3000, h);
        check_kind(200019, 0, 90, 3000, h);
        check_kind(300, 0, 3, 20, h);
        check_kind(300, -1, 3, 0, h); /* no ids: an empty body */
    }
}

TEST(packed_writer_refuses)
{
    static const struct dp_shard_packing bad[] = {{0, 65536}, {20, 65536}, {3, 0}, {3, 65535},
                                                  {3, 2097152}, {3, 2048}, {3, 12288}, {3, 131072 + 4096}};
    struct dp_shard_meta meta = {.vocab_size = 100, .eot = 99};
    char *dir = dp_test_tmpdir(), *bin = dp_fs_join(dir, "a.bin"), *dpx = dp_fs_join(dir, "a.dpx");
    struct dp_shard_writer *w;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_INT(dp_shard_writer_open_packed(&w, bin, dpx, &meta, &bad[i], &err), DP_CONFIG);
        CHECK(!w && !dp_fs_exists(bin));
    }
    free(bin);
    free(dpx);
}

static int copy_open(struct dp_span bin, struct dp_span dpx)
{
    struct dp_shard *s;
    int rc = dp_shard_open_mem(&s, bin, dpx, "t", &err);
    if (rc >= 0) rc = dp_shard_verify(s, NULL, NULL, &err);
    dp_shard_close(s);
    return rc;
}

static void flip_and_cut(const struct dp_shard_packing *how, int docs, uint32_t longest, size_t step)
{
    struct data d;
    data_packing = how;
    int rc = data_make(&d, 50257, 50256, 1, docs, longest, 11, &err);
    data_packing = NULL;
    REQUIRE_OK(rc);
    struct dp_span f[2] = {data_file(d.dir, "part-000.bin"), data_file(d.dir, "part-000.dpx")};
    REQUIRE_OK(copy_open(f[0], f[1]));
    for (int k = 0; k < 2; k++) {
        char *p = (char *)(uintptr_t)f[k].ptr;
        for (size_t bit = 0; bit < f[k].len * 8; bit += step) {
            p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
            if (copy_open(f[0], f[1]) != DP_CORRUPT) DP_TEST_FAIL("bit %zu of file %d went unnoticed", bit, k);
            p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
        }
        for (size_t n = 0; n < f[k].len; n += step) {
            struct dp_span cut = {f[k].ptr, n};
            CHECK_INT(k ? copy_open(f[0], cut) : copy_open(cut, f[1]), DP_CORRUPT);
        }
    }
    data_free(f[0]);
    data_free(f[1]);
    data_release(&d);
}

TEST(packed_any_flipped_bit_and_cut_is_found)
{
    flip_and_cut(&(struct dp_shard_packing){3, 65536}, 9, 60, 1);
    flip_and_cut(&(struct dp_shard_packing){3, 4096}, 90, 300, 61); /* several zstd frames under one checksum */
}

struct seen {
    uint64_t frame[8];
    int n;
};
static void see(void *ctx, uint64_t frame, uint64_t first, const char *what)
{
    struct seen *s = ctx;
    CHECK(first == frame * 65536 && strstr(what, "checksum"));
    if (s->n < 8) s->frame[s->n] = frame;
    s->n++;
}

TEST(packed_damage_is_named_and_stays_in_its_frame)
{
    struct data d;
    struct seen seen = {0};
    int32_t ids[8];
    data_packing = &(struct dp_shard_packing){1, 65536};
    int rc = data_make(&d, 50257, 50256, 1, 100, 8000, 13, &err);
    data_packing = NULL;
    REQUIRE_OK(rc);
    REQUIRE(d.tokens > 4 * 65536);
    struct dp_span dpx = data_file(d.dir, "part-000.dpx");
    const struct dpx_header *h = (const void *)dpx.ptr;
    const struct dpx_pack *table = (const void *)(dpx.ptr + dpx.len - 8 * h->frames);
    data_flip(d.dir, "part-000.bin", ((uint64_t)table[0].bytes + table[1].bytes + 100) * 8);
    struct dp_shard *s = open_part(&d, "part-000.bin", "part-000.dpx");
    CHECK_INT(dp_shard_verify(s, see, &seen, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "frame 2 ") != NULL);
    CHECK_INT(seen.n, 1);
    CHECK_INT(seen.frame[0], 2);
    CHECK_INT(dp_shard_copy_ids(s, 3 * 65536 - 4, 8, ids, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "frame 2 ") != NULL);
    CHECK_INT(dp_shard_id(s, 2 * 65536), UINT32_MAX);
    check_copy(s, d.all, 65536, 65536);
    check_copy(s, d.all, 3 * 65536, 65536);
    dp_shard_close(s);
    data_free(dpx);
    data_release(&d);
}

TEST(packed_ids_outside_the_vocabulary_are_refused)
{
    struct data d;
    int32_t ids[16];
    for (int packed = 0; packed < 2; packed++)
        for (uint32_t vocab = 300; vocab < 100000; vocab += 99000) {
            data_packing = packed ? &(struct dp_shard_packing){1, 65536} : NULL;
            int rc = data_make(&d, vocab, vocab - 1, 1, 3, 40, 4, &err);
            data_packing = NULL;
            REQUIRE_OK(rc);
            struct dp_span bin = data_file(d.dir, "part-000.bin"), dpx = data_file(d.dir, "part-000.dpx");
            struct dpx_header *h = (void *)(uintptr_t)dpx.ptr;
            h->vocab_size--; /* consistent, but the EOTs are outside now */
            h->eot = -1;
            h->header_crc = dp_crc32c(0, h, offsetof(struct dpx_header, header_crc));
            struct dp_shard *s;
            REQUIRE_OK(dp_shard_open_mem(&s, bin, dpx, "t", &err));
            uint64_t end = dp_shard_ends(s)[0];
            CHECK_INT(dp_shard_copy_ids(s, end - 1, 1, ids, &err), DP_CORRUPT);
            CHECK(strstr(err.msg, "vocabulary ends at") != NULL);
            CHECK_OK(dp_shard_copy_ids(s, 0, end - 1 < 16 ? end - 1 : 16, ids, &err));
            CHECK_INT(dp_shard_verify(s, NULL, NULL, &err), DP_CORRUPT);
            dp_shard_close(s);
            data_free(bin);
            data_free(dpx);
            data_release(&d);
        }
}

TEST(packed_hostile_tables_are_refused)
{
    struct data d;
    data_packing = &(struct dp_shard_packing){3, 65536};
    int rc = data_make(&d, 50257, 50256, 1, 100, 3000, 14, &err);
    data_packing = NULL;
    REQUIRE_OK(rc);
    struct dp_span bin = data_file(d.dir, "part-000.bin"), dpx = data_file(d.dir, "part-000.dpx");
    char *copy = malloc(dpx.len);
    struct dpx_header *h = (void *)copy;
    for (int k = 0; k < 8; k++) {
        memcpy(copy, dpx.ptr, dpx.len);
        struct dpx_pack *table = (void *)(copy + dpx.len - 8 * h->frames);
        if (k == 0) table[0].bytes++;
        if (k == 1) table[0].bytes++, table[1].bytes--; /* adds up; the frames' checksums tell */
        if (k == 2) table[1].bytes = UINT32_MAX;
        h->pack_crc = dp_crc32c(0, table, 8 * (size_t)h->frames);
        if (k == 3) h->pack_ids = 0;
        if (k == 4) h->pack_ids = 1u << 31;
        if (k == 5) h->pack_bytes++;
        if (k == 6) h->flags = 0;
        if (k == 7) h->flags = 3;
        h->header_crc = dp_crc32c(0, h, offsetof(struct dpx_header, header_crc));
        if (copy_open(bin, dp_span(copy, dpx.len)) != DP_CORRUPT) DP_TEST_FAIL("case %d was taken", k);
    }
    free(copy);
    data_free(bin);
    data_free(dpx);
    data_release(&d);
}

TEST(packed_manifest_opens_and_verifies)
{
    struct data d;
    struct dp_manifest *m;
    struct dp_shard *s;
    struct dp_verify_totals t;
    data_packing = &(struct dp_shard_packing){3, 65536};
    int rc = data_make(&d, 50257, 50256, 2, 60, 3000, 15, &err);
    data_packing = NULL;
    REQUIRE_OK(rc);
    REQUIRE_OK(dp_manifest_read(&m, d.path, &err));
    CHECK(m->shards[0].packed && m->shards[0].bytes < m->shards[0].tokens * 2 + 4096);
    REQUIRE_OK(dp_manifest_open_shard(m, d.path, 1, &s, &err));
    check_copy(s, d.all, 0, 0);
    dp_shard_close(s);
    CHECK_OK(dp_verify_manifest(d.path, NULL, true, NULL, NULL, &t, &err));
    CHECK_INT(t.tokens, d.tokens);
    m->shards[0].packed = false; /* the manifest says flat, the side file compressed */
    CHECK_INT(dp_manifest_open_shard(m, d.path, 0, &s, &err), DP_CORRUPT);
    dp_manifest_free(m);
    data_flip(d.dir, "part-001.bin", 8 * 50);
    CHECK_INT(dp_verify_manifest(d.path, NULL, false, NULL, NULL, &t, &err), DP_CORRUPT);
    CHECK_INT(t.shards_bad, 1);
    data_release(&d);
}

struct reading {
    const struct dp_shard *s;
    const uint32_t *all;
    uint64_t seed;
    bool bad;
};
static void *read_random(void *ctx)
{
    struct reading *r = ctx;
    int32_t ids[512];
    struct dp_err e;
    for (int k = 0; k < 200; k++) {
        uint64_t first = dp_splitmix64(&r->seed) % (dp_shard_tokens(r->s) - 512);
        r->bad = r->bad || dp_shard_copy_ids(r->s, first, 512, ids, &e) < 0;
        for (int i = 0; i < 512; i++) r->bad = r->bad || ids[i] != (int32_t)r->all[first + (uint64_t)i];
    }
    return NULL;
}

TEST(packed_shard_is_shared_by_threads)
{
    struct data d;
    data_packing = &(struct dp_shard_packing){1, 65536};
    int rc = data_make(&d, 50257, 50256, 1, 100, 8000, 16, &err);
    data_packing = NULL;
    REQUIRE_OK(rc);
    struct dp_shard *s = open_part(&d, "part-000.bin", "part-000.dpx");
    pthread_t t[4];
    struct reading r[4];
    for (int i = 0; i < 4; i++) {
        r[i] = (struct reading){s, d.all, (uint64_t)i, false};
        if (pthread_create(&t[i], NULL, read_random, &r[i])) abort();
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        CHECK(!r[i].bad);
    }
    dp_shard_close(s);
    data_release(&d);
}

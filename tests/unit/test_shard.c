#include "shards/shard.h"

#include "shards/shard_layout.h"
#include "tests/unit/test_shard_data.h"

#include <signal.h>
#include <sys/resource.h>

static struct dp_err err;

static void check_round_trip(uint32_t vocab, int64_t eot, int docs, uint32_t max_len)
{
    struct data d;
    struct dp_shard *s;
    REQUIRE_OK(data_make(&d, vocab, eot, 1, docs, max_len, vocab + (uint64_t)docs, &err));
    char *bin = dp_fs_join(d.dir, "part-000.bin"), *dpx = dp_fs_join(d.dir, "part-000.dpx");
    REQUIRE_OK(dp_shard_open(&s, bin, dpx, &err));
    CHECK_INT(dp_shard_tokens(s), d.tokens);
    CHECK_INT(dp_shard_documents(s), docs);
    CHECK_INT(dp_shard_meta(s)->vocab_size, vocab);
    CHECK_INT(dp_shard_meta(s)->eot, eot);
    CHECK_INT(dp_shard_meta(s)->dtype, vocab <= 65536 ? 2 : 4);
    CHECK(dp_hash128_eq(dp_shard_meta(s)->tokenizer, d.meta.tokenizer));
    for (uint64_t i = 0; i < d.tokens; i++)
        if (dp_shard_id(s, i) != d.all[i]) {
            CHECK_INT(dp_shard_id(s, i), d.all[i]);
            break;
        }
    for (size_t k = 0; k < d.docs; k++) {
        REQUIRE(dp_shard_ends(s)[k] == d.doc[k].first + d.doc[k].n);
        REQUIRE(dp_hash128_eq(dp_shard_contents(s)[k], d.doc[k].content) &&
                dp_hash128_eq(dp_shard_doc_ids(s)[k], d.doc[k].id));
        REQUIRE(dp_shard_sources(s)[k] == d.doc[k].source);
        if (!d.doc[k].n) continue;
        REQUIRE(dp_shard_document_at(s, d.doc[k].first) == k &&
                dp_shard_document_at(s, d.doc[k].first + d.doc[k].n - 1) == k);
    }
    CHECK_OK(dp_shard_verify(s, NULL, NULL, &err));
    dp_shard_close(s);
    free(bin);
    free(dpx);
    data_release(&d);
}

TEST(shard_reads_back_what_was_written)
{
    static const struct {
        uint32_t vocab;
        int64_t eot;
        int docs;
        uint32_t max_len;
    } t[] = {{50257, 50256, 300, 700}, {65536, 65535, 40, 3000},
             {65537, 0, 300, 700},     {1u << 31, -1, 20, 9000},
             {2, -1, 500, 2},          {50257, 50256, 0, 0},
             {300, -1, 5, 0},          {300, 0, 5, 0}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        check_round_trip(t[i].vocab, t[i].eot, t[i].docs, t[i].max_len);
}

TEST(shard_body_is_flat_little_endian)
{
    struct data d;
    REQUIRE_OK(data_make(&d, 50257, 50256, 1, 50, 100, 3, &err));
    struct dp_span bin = data_file(d.dir, "part-000.bin");
    REQUIRE(bin.len == d.tokens * 2);
    for (size_t i = 0; i < d.tokens; i++) {
        const unsigned char *p = (const unsigned char *)bin.ptr + 2 * i;
        REQUIRE((uint32_t)(p[0] | p[1] << 8) == d.all[i]);
    }
    data_free(bin);
    data_release(&d);
}

static int copy_open(const struct dp_span bin, const struct dp_span dpx)
{
    struct dp_shard *s;
    int rc = dp_shard_open_mem(&s, bin, dpx, "t", &err);
    if (rc >= 0) rc = dp_shard_verify(s, NULL, NULL, &err);
    dp_shard_close(s);
    return rc;
}

TEST(shard_any_flipped_bit_is_found)
{
    struct data d;
    REQUIRE_OK(data_make(&d, 50257, 50256, 1, 9, 60, 11, &err));
    struct dp_span file[2] = {data_file(d.dir, "part-000.bin"), data_file(d.dir, "part-000.dpx")};
    REQUIRE_OK(copy_open(file[0], file[1]));
    for (int k = 0; k < 2; k++) {
        char *p = (char *)(uintptr_t)file[k].ptr;
        for (size_t bit = 0; bit < file[k].len * 8; bit++) {
            p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
            int rc = copy_open(file[0], file[1]);
            if (rc != DP_CORRUPT) DP_TEST_FAIL("bit %zu of file %d went unnoticed: %d", bit, k, rc);
            p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
        }
    }
    CHECK_OK(copy_open(file[0], file[1]));
    data_free(file[0]);
    data_free(file[1]);
    data_release(&d);
}

TEST(shard_any_cut_is_found)
{
    struct data d;
    REQUIRE_OK(data_make(&d, 70000, 5, 1, 9, 60, 12, &err));
    struct dp_span bin = data_file(d.dir, "part-000.bin"), dpx = data_file(d.dir, "part-000.dpx");
    for (size_t n = 0; n < dpx.len; n++) CHECK_INT(copy_open(bin, dp_span(dpx.ptr, n)), DP_CORRUPT);
    for (size_t n = 0; n < bin.len; n++) CHECK_INT(copy_open(dp_span(bin.ptr, n), dpx), DP_CORRUPT);
    data_free(bin);
    data_free(dpx);
    data_release(&d);
}

struct seen {
    uint64_t frame[8], first[8];
    int n;
};
static void see(void *ctx, uint64_t frame, uint64_t first, const char *what)
{
    struct seen *s = ctx;
    CHECK(strstr(what, "checksum"));
    if (s->n < 8) {
        s->frame[s->n] = frame;
        s->first[s->n] = first;
    }
    s->n++;
}

TEST(shard_verify_names_frames)
{
    struct data d;
    struct dp_shard *s;
    struct seen seen = {0};
    REQUIRE_OK(data_make(&d, 50257, 50256, 1, 100, 8000, 13, &err));
    REQUIRE(d.tokens > 4 * 65536);
    data_flip(d.dir, "part-000.bin", (65536ull * 16) - 1); /* last bit of frame 0 */
    data_flip(d.dir, "part-000.bin", 3ull * 65536 * 16);   /* first of frame 3 */
    data_flip(d.dir, "part-000.bin", d.tokens * 16 - 1);   /* last of all */
    char *bin = dp_fs_join(d.dir, "part-000.bin"), *dpx = dp_fs_join(d.dir, "part-000.dpx");
    REQUIRE_OK(dp_shard_open(&s, bin, dpx, &err));
    CHECK_INT(dp_shard_verify(s, see, &seen, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "frame 0 ") && strstr(err.msg, "part-000"));
    CHECK_INT(seen.n, 3);
    CHECK_INT(seen.frame[0], 0);
    CHECK_INT(seen.frame[1], 3);
    CHECK_INT(seen.first[1], 3 * 65536);
    CHECK_INT(seen.frame[2], (d.tokens - 1) / 65536);
    dp_shard_close(s);
    free(bin);
    free(dpx);
    data_release(&d);
}

/* Give a side file valid checksums again, as an attacker would. */
static void reseal(char *dpx)
{
    struct dpx_header *h = (void *)dpx;
    char *p = dpx + sizeof *h;
    for (int i = 0; i < DPX_SECTIONS; i++) {
        size_t n = (size_t)(i == DPX_FRAMES ? h->frames : h->documents) * dpx_width[i];
        h->section_crc[i] = dp_crc32c(0, p, n);
        p += n;
    }
    h->header_crc = dp_crc32c(0, h, offsetof(struct dpx_header, header_crc));
}

TEST(shard_hostile_side_files_are_refused)
{
    struct data d;
    REQUIRE_OK(data_make(&d, 50257, 50256, 1, 9, 60, 14, &err));
    struct dp_span bin = data_file(d.dir, "part-000.bin"), dpx = data_file(d.dir, "part-000.dpx");
    char *copy = malloc(dpx.len);
    struct dpx_header *h = (void *)copy;
    uint64_t *ends = (void *)(copy + sizeof *h);
    for (int k = 0; k < 12; k++) {
        memcpy(copy, dpx.ptr, dpx.len);
        switch (k) {
        case 0: ends[3] = UINT64_MAX; break;
        case 1: ends[3] = ends[5] + 1; break;
        case 2: ends[8]--; break;
        case 3: ends[0] = d.tokens + 1; break;
        }
        reseal(copy); /* before header fields change, so that sections stay in bounds */
        switch (k) {
        case 4: h->documents = UINT64_MAX / 44; break;
        case 5: h->tokens = UINT64_C(1) << 63; break;
        case 6: h->id_bytes = 0; break;
        case 7: h->eot = 50257; break;
        case 8: h->vocab_size = 0; break;
        case 9: h->frame_ids = 0; break;
        case 10: h->version = 2; break;
        case 11: h->reserved[1] = 1; break;
        }
        h->header_crc = dp_crc32c(0, h, offsetof(struct dpx_header, header_crc));
        if (copy_open(bin, dp_span(copy, dpx.len)) != DP_CORRUPT)
            DP_TEST_FAIL("case %d was taken", k);
    }
    memcpy(copy, dpx.ptr, dpx.len);
    h->vocab_size = 50256; /* consistent, but ids are now outside */
    h->eot = -1;
    h->header_crc = dp_crc32c(0, h, offsetof(struct dpx_header, header_crc));
    CHECK_INT(copy_open(bin, dp_span(copy, dpx.len)), DP_CORRUPT);
    CHECK(strstr(err.msg, "vocabulary ends at 50256"));
    free(copy);
    data_free(bin);
    data_free(dpx);
    data_release(&d);
}

TEST(shard_writer_refuses)
{
    struct dp_shard_writer *w, *w2;
    struct dp_shard_meta meta = {.vocab_size = 100, .eot = 99};
    char *dir = dp_test_tmpdir(), *bin = dp_fs_join(dir, "a.bin"), *dpx = dp_fs_join(dir, "a.dpx");
    struct dp_hash128 h = {1, 2};
    REQUIRE_OK(dp_shard_writer_open(&w, bin, dpx, &meta, &err));
    CHECK(dp_shard_writer_open(&w2, bin, dpx, &meta, &err) < 0); /* the files exist */
    CHECK(!w2 && dp_fs_exists(bin) && dp_fs_exists(dpx));
    uint32_t ids[] = {1, 2, 100};
    CHECK_INT(dp_shard_writer_add(w, h, h, 0, ids, 3, &err), DP_CORRUPT);
    CHECK_INT(dp_shard_writer_tokens(w), 0);
    CHECK_INT(dp_shard_writer_add(w, h, h, 0, ids, (size_t)1 << 30, &err),
              DP_LIMIT); /* with EOT one too many; ids are not read */
    CHECK(!dp_shard_writer_fits(w, (size_t)1 << 30) &&
          dp_shard_writer_fits(w, ((size_t)1 << 30) - 1) && !dp_shard_writer_fits(w, SIZE_MAX));
    CHECK_OK(dp_shard_writer_add(w, h, h, 0, ids, 2, &err));
    CHECK_INT(dp_shard_writer_tokens(w), 3);
    dp_shard_writer_close(w);
    CHECK(!dp_fs_exists(bin) && !dp_fs_exists(dpx)); /* unfinished: removed */
    static const struct dp_shard_meta bad[] = {{.vocab_size = 0, .eot = -1},
                                               {.vocab_size = 10, .eot = 10},
                                               {.vocab_size = 10, .eot = -2},
                                               {.vocab_size = 10, .eot = 1, .dtype = 4},
                                               {.vocab_size = UINT32_MAX, .eot = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_INT(dp_shard_writer_open(&w, bin, dpx, &bad[i], &err), DP_CONFIG);
        CHECK(!dp_fs_exists(bin));
    }
    free(bin);
    free(dpx);
}

TEST(shard_failed_write_makes_no_shard)
{
    struct dp_shard_meta meta = {.vocab_size = 100, .eot = 99};
    static uint32_t ids[100000];
    struct dp_hash128 h = {1, 2};
    struct rlimit was;
    char *dir = dp_test_tmpdir(), *bin = dp_fs_join(dir, "a.bin"), *dpx = dp_fs_join(dir, "a.dpx");
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    /* The limit hits the body in add, in finish, and the side file. */
    static const struct {
        int docs;
        size_t n;
        rlim_t limit;
    } t[] = {{50, 100000, 1 << 20}, {1, 1000, 100}, {1000, 1, 30000}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct dp_shard_writer *w;
        REQUIRE_OK(dp_shard_writer_open(&w, bin, dpx, &meta, &err));
        struct rlimit low = {t[i].limit, was.rlim_max};
        setrlimit(RLIMIT_FSIZE, &low);
        int rc = DP_OK;
        for (int k = 0; k < t[i].docs && rc >= 0; k++)
            rc = dp_shard_writer_add(w, h, h, 0, ids, t[i].n, &err);
        if (rc >= 0) rc = dp_shard_writer_finish(w, NULL, NULL, &err);
        CHECK_INT(rc, DP_IO);
        CHECK(dp_shard_writer_add(w, h, h, 0, ids, 1, &err) < 0); /* dead */
        CHECK(dp_shard_writer_finish(w, NULL, NULL, &err) < 0);
        setrlimit(RLIMIT_FSIZE, &was);
        dp_shard_writer_close(w);
        CHECK(!dp_fs_exists(bin) && !dp_fs_exists(dpx));
    }
    free(bin);
    free(dpx);
}

TEST(shard_bytes_are_frozen)
{
    /* The format's bytes: a change here is a new version of it. */
    struct dp_shard_meta meta = {.vocab_size = 300, .eot = 0, .tokenizer = {3, 4}};
    struct dp_shard_writer *w;
    char *dir = dp_test_tmpdir(), *bin = dp_fs_join(dir, "a.bin"), *dpx = dp_fs_join(dir, "a.dpx"),
         hex[2][DP_HEX256], again[DP_HEX256];
    uint32_t ids[] = {1, 2, 299};
    REQUIRE_OK(dp_shard_writer_open(&w, bin, dpx, &meta, &err));
    CHECK_OK(dp_shard_writer_add(w, (struct dp_hash128){5, 6}, (struct dp_hash128){7, 8}, 9, ids, 3,
                                 &err));
    CHECK_OK(dp_shard_writer_finish(w, hex[0], hex[1], &err));
    dp_shard_writer_close(w);
    struct dp_span b = data_file(dir, "a.bin"), x = data_file(dir, "a.dpx");
    CHECK(b.len == 8 && memcmp(b.ptr, "\1\0\2\0\x2b\1\0\0", 8) == 0);
    CHECK_INT(x.len, 128 + 44 + 4);
    static const unsigned char head[80] = {
        'D',      'P',      'X',      '1',      1,        0,        0,         0,
        2,        0,        0,        0,        0x2c,     1,        0,         0,
        [24] = 4, [32] = 1, [40] = 3, [48] = 4, [58] = 1, [64] = 1, [72] = 176};
    CHECK(x.len >= 80 && memcmp(x.ptr, head, 80) == 0);
    CHECK(x.len == 176 && x.ptr[128] == 4 && x.ptr[136] == 7 && x.ptr[144] == 8 &&
          x.ptr[152] == 5 && x.ptr[160] == 6 && x.ptr[168] == 9);
    CHECK_OK(dp_sha256_span(b, again, &err));
    CHECK_STR(hex[0], again);
    CHECK_OK(dp_sha256_span(x, again, &err));
    CHECK_STR(hex[1], again);
    data_free(b);
    data_free(x);
    free(bin);
    free(dpx);
}

/* Signature and keep files: round trips, every truncation, every flipped byte; the external sort beneath. */
#include "dedup/extsort.h"
#include "tests/unit/dedup_fixture.h"

#include <fcntl.h>

static void put_file(const char *path, const char *p, size_t n)
{
    struct dp_err err;
    CHECK_OK(dp_fs_write_atomic(path, dp_span(p, n), &err));
}

static void small_file(struct fixture *f)
{
    f->params = (struct dp_sig_params){3, 4, 5, true, UINT64_C(0x8000000000000001)};
    fixture_begin(f);
    fixture_text(f, dp_span_str("some words of a text"), 0.25f);
    fixture_text(f, dp_span_str(""), -3);
    fixture_text(f, dp_span_str("other words"), 0);
    fixture_end(f);
}

TEST(signature_round_trip)
{
    struct dp_err err;
    struct fixture *f = fixture_new();
    struct dp_sigfile *s;
    small_file(f);
    REQUIRE_OK(dp_sigfile_open(&s, f->sig[0], &err));
    CHECK_INT(dp_sigfile_count(s), 3);
    CHECK_INT(dp_sigfile_record_bytes(s), 32 + 48);
    CHECK_INT(dp_sigfile_params(s)->bands, 3);
    CHECK(dp_sigfile_params(s)->fold_digits && dp_sigfile_params(s)->seed == UINT64_C(0x8000000000000001));
    CHECK_OK(dp_sigfile_verify(s, &err));
    uint32_t raw[3][20], want[12];
    struct dp_sig_record r;
    CHECK_OK(dp_sigfile_read(s, 0, 3, raw, &err));
    dp_sigfile_decode(s, raw[0], &r);
    CHECK(dp_minhash_text(&f->mh, &f->scratch, dp_span_str("some words of a text"), want) == 5);
    CHECK(r.slots && memcmp(r.slots, want, sizeof want) == 0);
    CHECK_INT(r.length, 20);
    CHECK_NEAR((double)r.score, 0.25, 0);
    CHECK(dp_hash128_eq(r.hash, dp_hash128("some words of a text", 20)));
    dp_sigfile_decode(s, raw[1], &r);
    CHECK(r.slots == NULL && r.length == 0);
    dp_sigfile_close(s);
    fixture_free(f);
}

/* Both readers must refuse any single damage. */
TEST(every_truncation_and_flip_is_refused)
{
    struct dp_err err;
    struct fixture *f = fixture_new();
    small_file(f);
    REQUIRE_OK(fixture_run(f, 1, &err));
    for (int kind = 0; kind < 2; kind++) {
        char *path = kind ? f->keep[0] : f->sig[0];
        struct dp_buf b;
        dp_buf_init(&b, 1 << 20);
        REQUIRE_OK(dp_fs_read(path, &b, &err));
        for (size_t i = 0; i < 2 * b.len; i++) {
            bool cut = i < b.len;
            size_t at = cut ? i : i - b.len;
            char *copy = malloc(b.len);
            if (!copy) abort();
            memcpy(copy, b.ptr, b.len);
            if (!cut) copy[at] = (char)(copy[at] ^ 0x40);
            put_file(f->sig[7], copy, cut ? at : b.len);
            free(copy);
            struct dp_sigfile *s = NULL;
            struct dp_keepfile *k = NULL;
            int rc = kind ? dp_keepfile_open(&k, f->sig[7], &err) : dp_sigfile_open(&s, f->sig[7], &err);
            if (rc >= 0 && !kind) rc = dp_sigfile_verify(s, &err);
            if (rc >= 0) DP_TEST_FAIL("kind %d: %s at %zu was not noticed", kind, cut ? "a cut" : "a flip", at);
            else CHECK(strstr(err.msg, f->sig[7]) != NULL);
            dp_sigfile_close(s);
            dp_keepfile_close(k);
        }
        dp_buf_release(&b);
    }
    fixture_free(f);
}

/* Damage in the records is noticed by dedup itself. */
TEST(dedup_checks_the_records)
{
    struct dp_err err;
    struct fixture *f = fixture_new();
    struct dp_buf b;
    small_file(f);
    dp_buf_init(&b, 1 << 20);
    REQUIRE_OK(dp_fs_read(f->sig[0], &b, &err));
    b.ptr[DP_SIGFILE_HEADER + 40] ^= 1;
    put_file(f->sig[0], b.ptr, b.len);
    dp_buf_release(&b);
    CHECK_INT(fixture_run(f, 1, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "checksum") != NULL);
    CHECK(access(f->keep[0], F_OK) != 0);
    fixture_free(f);
}

TEST(a_full_disk_is_said)
{
    struct dp_err err;
    struct dp_out *out;
    struct dp_sigfile_writer *w;
    struct dp_sig_params p = {14, 8, 5, false, 1};
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (fd < 0) SKIP("no /dev/full");
    REQUIRE_OK(dp_out_fd(&out, fd, "signatures", false, &err));
    REQUIRE_OK(dp_sigfile_writer_open(&w, out, &p, &err));
    struct dp_sig_record r = {.length = 1};
    int rc = 0;
    for (int i = 0; i < 1000 && rc >= 0; i++) rc = dp_sigfile_writer_add(w, &r, &err);
    CHECK_INT(rc, DP_NOSPACE);
    dp_sigfile_writer_close(w);
    dp_out_close(out);
}

static int by_rec(const void *a, const void *b)
{
    const struct dp_rec *p = a, *q = b;
    return p->key != q->key ? (p->key < q->key ? -1 : 1) : p->val < q->val ? -1 : p->val > q->val;
}

TEST(external_sort_sorts)
{
    enum { N = 40000 };
    struct dp_err err;
    struct dp_rec *want = malloc(N * sizeof *want), r;
    char *dir = dp_test_tmpdir();
    REQUIRE(want);
    for (int kind = 0; kind < 4; kind++) { /* random, one key, few keys, ascending */
        uint64_t rng = (uint64_t)kind;
        struct dp_extsort *s;
        REQUIRE_OK(dp_extsort_open(&s, dir, "test", kind == 3 ? 8 << 20 : 0, &err));
        for (uint64_t i = 0; i < N; i++) {
            uint64_t v = dp_splitmix64(&rng);
            want[i] = (struct dp_rec){kind == 0 ? v : kind == 1 ? 5 : kind == 2 ? v % 3 << 60 : i, kind == 1 ? v % 1000 : v};
            REQUIRE_OK(dp_extsort_add(s, want[i].key, want[i].val, &err));
        }
        qsort(want, N, sizeof *want, by_rec);
        REQUIRE_OK(dp_extsort_finish(s, &err));
        CHECK_INT(dp_extsort_count(s), N);
        for (int pass = 0; pass < 2; pass++) {
            REQUIRE_OK(dp_extsort_rewind(s, &err));
            size_t bad = 0;
            for (size_t i = 0; i < N; i++) bad += dp_extsort_next(s, &r, &err) != DP_OK || by_rec(&r, &want[i]) != 0;
            CHECK_INT(bad, 0);
            CHECK_INT(dp_extsort_next(s, &r, &err), DP_EOF);
        }
        dp_extsort_close(s);
    }
    free(want);
    CHECK_INT(rmdir(dir), 0);
}

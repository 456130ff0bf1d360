#include "shards/export.h"

#include "tests/unit/test_shard_data.h"

#include <dirent.h>

static struct dp_err err;

static uint64_t le(const char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;) v = v << 8 | (unsigned char)p[i];
    return v;
}

/* A file of width-byte ids from `skip` on equals ids [first, first + n) of the data. */
static bool same_ids(struct dp_span file, size_t skip, int width, const struct data *d,
                     uint64_t first, uint64_t n)
{
    if (file.len != skip + n * (uint64_t)width) return false;
    for (uint64_t i = 0; i < n; i++)
        if (le(file.ptr + skip + i * (uint64_t)width, width) != d->all[first + i]) return false;
    return true;
}

static int export_to(const struct data *d, enum dp_export_format f, const char *name,
                     int64_t file_tokens)
{
    char *out = dp_fs_join(d->dir, name);
    struct dp_export_options o = {file_tokens};
    int rc = dp_export(f, d->path, out, file_tokens ? &o : NULL, &err);
    free(out);
    return rc;
}

static int files_like(const char *dir, const char *part)
{
    int n = 0;
    DIR *h = opendir(dir);
    for (struct dirent *x; h && (x = readdir(h));) n += strstr(x->d_name, part) != NULL;
    if (h) closedir(h);
    return n;
}

static void check_megatron(uint32_t vocab, int width, int64_t eot, uint32_t max_len)
{
    struct data d;
    REQUIRE_OK(data_make(&d, vocab, eot, 3, 90, max_len, vocab, &err));
    REQUIRE_OK(export_to(&d, DP_EXPORT_MEGATRON, "mega", 0));
    struct dp_span bin = data_file(d.dir, "mega.bin"), idx = data_file(d.dir, "mega.idx");
    CHECK(same_ids(bin, 0, width, &d, 0, d.tokens));
    size_t seqs = 0;
    for (size_t k = 0; k < d.docs; k++) seqs += d.doc[k].n != 0;
    REQUIRE(idx.len == 34 + seqs * 4 + seqs * 8 + (seqs + 1) * 8);
    CHECK(memcmp(idx.ptr, "MMIDIDX\0\0", 9) == 0);
    CHECK_INT(le(idx.ptr + 9, 8), 1);
    CHECK_INT(idx.ptr[17], width == 2 ? 8 : 4);
    CHECK_INT(le(idx.ptr + 18, 8), seqs);
    CHECK_INT(le(idx.ptr + 26, 8), seqs + 1);
    size_t s = 0;
    for (size_t k = 0; k < d.docs; k++) {
        if (!d.doc[k].n) continue;
        REQUIRE(le(idx.ptr + 34 + s * 4, 4) == d.doc[k].n);
        REQUIRE(le(idx.ptr + 34 + seqs * 4 + s * 8, 8) == d.doc[k].first * (uint64_t)width);
        s++;
    }
    for (size_t k = 0; k <= seqs; k++) REQUIRE(le(idx.ptr + 34 + seqs * 12 + k * 8, 8) == k);
    CHECK_INT(files_like(d.dir, ".tmp"), 0);
    data_free(bin);
    data_free(idx);
    data_release(&d);
}

TEST(export_megatron)
{
    check_megatron(50257, 2, 50256, 1500);
    check_megatron(65499, 2, -1, 2); /* with documents without ids */
    check_megatron(65500, 4, 0, 300);
    check_megatron(65536, 4, 0, 300);
    check_megatron(200019, 4, 199999, 1500);
}

TEST(export_llmc)
{
    static const struct {
        uint32_t vocab;
        int32_t magic, version;
        int width;
        int64_t file_tokens;
    } t[] = {{50257, 20240520, 1, 2, 0},
             {50257, 20240520, 1, 2, 30000},
             {200019, 20240801, 7, 4, 50001},
             {200019, 20240801, 7, 4, 2147483647}};
    for (size_t k = 0; k < 4; k++) {
        struct data d;
        REQUIRE_OK(data_make(&d, t[k].vocab, 1, 3, 60, 2500, 5, &err));
        REQUIRE_OK(export_to(&d, DP_EXPORT_LLMC, "llmc", t[k].file_tokens));
        uint64_t most = t[k].file_tokens ? (uint64_t)t[k].file_tokens : d.tokens,
                 files = (d.tokens + most - 1) / most, first = 0;
        CHECK_INT(files_like(d.dir, "llmc_"), files);
        for (uint64_t i = 0; i < files; i++) {
            char name[40];
            snprintf(name, sizeof name, "llmc_%06d.bin", (int)i);
            struct dp_span f = data_file(d.dir, name);
            REQUIRE(f.len > 1024);
            uint64_t n = le(f.ptr + 8, 4);
            CHECK_INT(le(f.ptr, 4), t[k].magic);
            CHECK_INT(le(f.ptr + 4, 4), t[k].version);
            CHECK(n <= most && n >= d.tokens / files);
            for (size_t b = 12; b < 1024; b++) REQUIRE(f.ptr[b] == 0);
            CHECK(same_ids(f, 1024, t[k].width, &d, first, n));
            first += n;
            data_free(f);
        }
        CHECK_INT(first, d.tokens);
        data_release(&d);
    }
}

TEST(export_flat)
{
    struct data d;
    REQUIRE_OK(
        data_make(&d, 50257, -1, 3, 3000, 40, 6, &err)); /* csv of more than one deflate block */
    REQUIRE_OK(export_to(&d, DP_EXPORT_NANOGPT, "train", 0));
    REQUIRE_OK(export_to(&d, DP_EXPORT_DATATROVE, "trove", 0));
    REQUIRE_OK(export_to(&d, DP_EXPORT_OLMO, "olmo", 0));
    static const char *const bodies[] = {"train.bin", "trove.ds", "olmo.npy"};
    for (int i = 0; i < 3; i++) {
        struct dp_span f = data_file(d.dir, bodies[i]);
        CHECK(same_ids(f, 0, 2, &d, 0, d.tokens));
        data_free(f);
    }
    struct dp_span f = data_file(d.dir, "trove.ds.index");
    REQUIRE(f.len == d.docs * 8);
    for (size_t k = 0; k < d.docs; k++)
        REQUIRE(le(f.ptr + k * 8, 8) == d.doc[k].first + d.doc[k].n);
    data_free(f);
    f = data_file(d.dir, "trove.ds.metadata");
    char want[128];
    int n = snprintf(want, sizeof want, "dpipe-%016x%016x|2\n%" PRIu64 "\n", 77, 6, d.tokens);
    CHECK(f.len > (size_t)n && memcmp(f.ptr, want, (size_t)n) == 0);
    data_free(f);
    /* Its content is read by gzip in tests/parity/shards_formats.py; here only the frame is. */
    f = data_file(d.dir, "olmo.csv.gz");
    CHECK(f.len > 70000 && (unsigned char)f.ptr[0] == 0x1f && (unsigned char)f.ptr[1] == 0x8b &&
          f.ptr[2] == 8);
    data_free(f);
    CHECK_INT(files_like(d.dir, ".tmp"), 0);
    data_release(&d);
}

TEST(export_refuses)
{
    struct data d;
    enum dp_export_format f;
    CHECK_OK(dp_export_format_parse("olmo", &f, &err));
    CHECK_INT(f, DP_EXPORT_OLMO);
    CHECK_INT(dp_export_format_parse("mdz", &f, &err), DP_USAGE);
    CHECK_INT(dp_export(DP_EXPORT_MDS, "m", "n", NULL, &err), DP_USAGE);
    REQUIRE_OK(data_make(&d, 70000, 0, 2, 30, 40, 7, &err));
    CHECK_INT(export_to(&d, DP_EXPORT_NANOGPT, "n", 0), DP_CONFIG);
    CHECK_INT(export_to(&d, DP_EXPORT_LLMC, "n", 5), DP_CONFIG);
    CHECK(export_to(&d, DP_EXPORT_OLMO, "nosuch/n", 0) < 0);
    data_flip(d.dir, "part-001.bin", 100);
    for (f = DP_EXPORT_MEGATRON; f <= DP_EXPORT_OLMO; f++) {
        if (f == DP_EXPORT_NANOGPT) continue;
        CHECK_INT(export_to(&d, f, "n", 0), DP_CORRUPT);
        CHECK(strstr(err.msg, "part-001.bin") && strstr(err.msg, "frame 0 "));
    }
    CHECK_INT(files_like(d.dir, ""),
              4 + 1 + 2); /* two shards, the manifest, . and ..: nothing else was left */
    data_release(&d);
    REQUIRE_OK(data_make(&d, 300, -1, 1, 3, 0, 8, &err)); /* no ids at all */
    CHECK_INT(export_to(&d, DP_EXPORT_MEGATRON, "n", 0), DP_CONFIG);
    data_release(&d);
}

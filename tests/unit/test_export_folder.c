/* Exports as folders: linked, copied, replaced, refused; MDS and the rest read back. */
#include "shards/export.h"

#include "base/json.h"
#include "base/zstd.h"
#include "tests/unit/test_shard_data.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>

static struct dp_err err;

static uint64_t le(const char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;) v = v << 8 | (unsigned char)p[i];
    return v;
}

static bool same_ids(struct dp_span file, size_t skip, int width, const struct data *d, uint64_t first, uint64_t n)
{
    if (file.len < skip + n * (uint64_t)width) return false;
    for (uint64_t i = 0; i < n; i++)
        if (le(file.ptr + skip + i * (uint64_t)width, width) != d->all[first + i]) return false;
    return true;
}

static const struct dp_export_folder_options presets = {.link = true, .file_tokens = 100000000, .mds_bytes = 1 << 26};

static char *folder(const struct data *d, enum dp_export_format f, const char *name, struct dp_export_folder_options o,
                    struct dp_export_report *r, int want)
{
    char *dir = dp_fs_join(d->dir, name);
    int rc = dp_export_folder(f, d->path, dir, &o, r, &err);
    if (rc != want) DP_TEST_FAIL("export to %s: %d, not %d: %s", name, rc, want, rc < 0 ? err.msg : "");
    return dir;
}

static int files_in(const char *dir, const char *part)
{
    int n = 0;
    DIR *h = opendir(dir);
    for (struct dirent *x; h && (x = readdir(h));) n += x->d_name[0] != '.' && strstr(x->d_name, part) != NULL;
    if (h) closedir(h);
    return n;
}

static uint64_t inode(const char *dir, const char *name)
{
    struct stat st;
    char *p = dp_fs_join(dir, name);
    uint64_t i = stat(p, &st) == 0 ? (uint64_t)st.st_ino : 0;
    free(p);
    return i;
}

/* Read a whole MDS folder as its reader does: index.json, then every sample by its offsets. */
static void check_mds(const char *dir, const struct data *d, bool zstd)
{
    struct dp_span index = data_file(dir, "index.json");
    struct dp_json *root;
    int width = dp_shard_dtype_of(d->meta.vocab_size);
    REQUIRE_OK(dp_json_parse(&root, index, "index.json", &err));
    const struct dp_json *shards = dp_json_get(root, "shards");
    size_t doc = 0;
    CHECK_INT(dp_json_int(dp_json_get(root, "version"), 0), 2);
    for (size_t s = 0; s < dp_json_count(shards); s++) {
        const struct dp_json *sh = dp_json_at(shards, s), *raw = dp_json_get(sh, "raw_data"), *zip = dp_json_get(sh, "zip_data");
        char name[64], hex[DP_HEX256];
        struct dp_span base = dp_json_str(dp_json_get(zstd ? zip : raw, "basename"));
        snprintf(name, sizeof name, "%.*s", DP_SPAN_FMT(base));
        struct dp_span f = data_file(dir, name);
        REQUIRE(f.ptr != NULL);
        CHECK_OK(dp_sha256_span(f, hex, &err));
        CHECK_SPAN(dp_json_str(dp_json_get(dp_json_get(zstd ? zip : raw, "hashes"), "sha256")), hex);
        size_t bytes = (size_t)dp_json_int(dp_json_get(raw, "bytes"), 0);
        if (zstd) {
            struct dp_zstd_decoder *z;
            char *out = malloc(bytes);
            REQUIRE_OK(dp_zstd_decoder_open(&z, &err));
            REQUIRE_OK(dp_zstd_decode(z, f, out, bytes, &err));
            dp_zstd_decoder_close(z);
            data_free(f);
            f = dp_span(out, bytes);
            CHECK_OK(dp_sha256_span(f, hex, &err));
            CHECK_SPAN(dp_json_str(dp_json_get(dp_json_get(raw, "hashes"), "sha256")), hex);
        }
        CHECK_INT(f.len, bytes);
        uint64_t n = le(f.ptr, 4);
        CHECK_INT(n, dp_json_int(dp_json_get(sh, "samples"), -1));
        CHECK_INT(le(f.ptr + 4 + 4 * n, 4), f.len);
        for (uint64_t i = 0; i < n; i++, doc++) {
            while (doc < d->docs && !d->doc[doc].n) doc++;
            REQUIRE(doc < d->docs);
            uint64_t at = le(f.ptr + 4 + 4 * i, 4), end = le(f.ptr + 8 + 4 * i, 4), value = le(f.ptr + at, 4);
            int head = (unsigned char)f.ptr[at + 4], len = head == 4 ? 1 : head == 5 ? 2 : head == 6 ? 4 : 0;
            REQUIRE(len && end - at == 4 + value && le(f.ptr + at + 5, len) == d->doc[doc].n);
            REQUIRE(value == 1 + (uint64_t)len + d->doc[doc].n * (uint64_t)width);
            REQUIRE(same_ids(f, at + 5 + (size_t)len, width, d, d->doc[doc].first, d->doc[doc].n));
        }
        data_free(f);
    }
    while (doc < d->docs && !d->doc[doc].n) doc++;
    CHECK_INT(doc, d->docs);
    dp_json_free(root);
    data_free(index);
}

TEST(folder_mds)
{
    static const struct {
        uint32_t vocab, max_len;
        int64_t eot;
        uint64_t bytes;
        bool zstd;
    } t[] = {{50257, 300, 50256, 1 << 26, false}, {50257, 300, -1, 20000, false}, {200019, 70000, 0, 100000, false},
             {50257, 700, 50256, 50000, true},    {300, 2, -1, 1024, false}};
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        struct data d;
        struct dp_export_report r;
        struct dp_export_folder_options o = presets;
        o.mds_bytes = t[k].bytes;
        o.mds_zstd = t[k].zstd;
        REQUIRE_OK(data_make(&d, t[k].vocab, t[k].eot, 3, 40, t[k].max_len, k + 1, &err));
        char *dir = folder(&d, DP_EXPORT_MDS, "mds", o, &r, DP_OK);
        check_mds(dir, &d, t[k].zstd);
        CHECK(r.linked == 0 && r.files == (uint64_t)files_in(dir, "") - 1);
        if (t[k].bytes < 1 << 20) CHECK(files_in(dir, "shard.") > 1);
        free(dir);
        data_release(&d);
    }
}

/* The bodies of a data set of one flat shard are links; of several, one a shard. */
TEST(folder_links_bodies)
{
    static const struct {
        enum dp_export_format f;
        const char *body, *part;
    } t[] = {{DP_EXPORT_MEGATRON, "tokens.bin", "tokens_00001.bin"}, {DP_EXPORT_NANOGPT, "train.bin", NULL},
             {DP_EXPORT_DATATROVE, "tokens.ds", "tokens_00001.ds"}, {DP_EXPORT_OLMO, "tokens.npy", "tokens_00001.npy"}};
    struct data one, two;
    struct dp_export_report r;
    struct dp_export_folder_options copy = presets, merge = presets;
    copy.link = false;
    merge.merge = true;
    REQUIRE_OK(data_make(&one, 50257, 50256, 1, 60, 300, 3, &err));
    REQUIRE_OK(data_make(&two, 50257, 50256, 2, 60, 300, 4, &err));
    for (size_t k = 0; k < 4; k++) {
        char name[16];
        snprintf(name, sizeof name, "x%zu", k);
        char *dir = folder(&one, t[k].f, name, presets, &r, DP_OK);
        CHECK(r.linked == 1 && inode(dir, t[k].body) == inode(one.dir, "part-000.bin"));
        free(dir);
        dir = folder(&one, t[k].f, name, copy, &r, DP_OK); /* over the one before */
        CHECK(r.linked == 0 && inode(dir, t[k].body) != inode(one.dir, "part-000.bin"));
        struct dp_span f = data_file(dir, t[k].body);
        CHECK(f.len == one.tokens * 2 && same_ids(f, 0, 2, &one, 0, one.tokens));
        data_free(f);
        free(dir);
        dir = folder(&two, t[k].f, name, presets, &r, DP_OK);
        if (t[k].part) CHECK(r.linked == 2 && inode(dir, t[k].part) == inode(two.dir, "part-001.bin"));
        else CHECK(r.linked == 0);
        free(dir);
        dir = folder(&two, t[k].f, name, merge, &r, DP_OK);
        f = data_file(dir, t[k].body);
        CHECK(r.linked == 0 && f.len == two.tokens * 2 && same_ids(f, 0, 2, &two, 0, two.tokens));
        if (t[k].part) CHECK_INT(files_in(dir, t[k].part), 0);
        data_free(f);
        free(dir);
    }
    data_release(&one);
    data_release(&two);
}

TEST(folder_widens_and_unpacks)
{
    struct data d;
    struct dp_export_report r;
    /* Megatron takes uint16 below 65,500 only: the body is another one then. */
    REQUIRE_OK(data_make(&d, 65500, 0, 1, 60, 300, 5, &err));
    char *dir = folder(&d, DP_EXPORT_MEGATRON, "m", presets, &r, DP_OK);
    struct dp_span f = data_file(dir, "tokens.bin");
    CHECK(r.linked == 0 && same_ids(f, 0, 4, &d, 0, d.tokens));
    data_free(f);
    free(dir);
    data_release(&d);
    for (uint32_t vocab = 50257; vocab < 300000; vocab += 149762) {
        int width = vocab <= 65536 ? 2 : 4;
        data_packing = &(struct dp_shard_packing){3, 65536};
        int rc = data_make(&d, vocab, 0, 2, 90, 1500, 6, &err);
        data_packing = NULL;
        REQUIRE_OK(rc);
        dir = folder(&d, DP_EXPORT_OLMO, "o", presets, &r, DP_OK);
        uint64_t half = d.doc[89].first + d.doc[89].n;
        f = data_file(dir, "tokens_00001.npy");
        CHECK(r.linked == 0 && same_ids(f, 0, width, &d, half, d.tokens - half));
        data_free(f);
        free(dir);
        dir = folder(&d, DP_EXPORT_LLMC, "l", presets, &r, DP_OK);
        f = data_file(dir, "tokens_000000.bin");
        CHECK(le(f.ptr, 4) == (width == 2 ? 20240520 : 20240801) && same_ids(f, 1024, width, &d, 0, d.tokens));
        data_free(f);
        free(dir);
        dir = folder(&d, DP_EXPORT_MDS, "s", presets, &r, DP_OK);
        check_mds(dir, &d, false);
        free(dir);
        data_release(&d);
    }
}

static void put(const char *dir, const char *name)
{
    char *p = dp_fs_join(dir, name);
    CHECK_OK(dp_fs_write_atomic(p, dp_span_str("x"), &err));
    free(p);
}

TEST(folder_replaces_only_its_own)
{
    struct data d;
    struct dp_export_report r;
    REQUIRE_OK(data_make(&d, 50257, 50256, 1, 9, 60, 7, &err));
    char *dir = dp_fs_join(d.dir, "x"), *tmp = dp_fs_join(d.dir, ".x.dpipe-export");
    CHECK_OK(dp_fs_mkdirs(dir, &err)); /* empty: taken */
    free(folder(&d, DP_EXPORT_MEGATRON, "x", presets, &r, DP_OK));
    CHECK_OK(dp_fs_mkdirs(tmp, &err)); /* a killed export's rest is removed */
    put(tmp, "tokens.bin.tmp1");
    free(folder(&d, DP_EXPORT_LLMC, "x", presets, &r, DP_OK));
    CHECK(files_in(dir, "") == 2 && files_in(dir, "tokens_000000.bin") == 1 && !dp_fs_exists(tmp));
    put(dir, "mine.txt");
    free(folder(&d, DP_EXPORT_LLMC, "x", presets, &r, DP_CONFIG));
    CHECK(strstr(err.msg, "mine.txt") != NULL);
    CHECK_INT(files_in(dir, ""), 3);
    char *other = dp_fs_join(d.dir, "y");
    CHECK_OK(dp_fs_mkdirs(other, &err));
    put(other, "a");
    free(folder(&d, DP_EXPORT_LLMC, "y", presets, &r, DP_CONFIG));
    put(d.dir, "file");
    free(folder(&d, DP_EXPORT_LLMC, "file", presets, &r, DP_CONFIG));
    CHECK_OK(dp_fs_mkdirs(tmp, &err));
    int fd = open(tmp, O_RDONLY | O_DIRECTORY); /* another export at work */
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    put(tmp, "theirs");
    free(folder(&d, DP_EXPORT_MDS, "x2", presets, &r, DP_OK));
    char *x = dp_fs_join(dir, "mine.txt");
    unlink(x);
    free(folder(&d, DP_EXPORT_MDS, "x", presets, &r, DP_BUSY));
    CHECK_INT(files_in(tmp, "theirs"), 1);
    close(fd);
    free(folder(&d, DP_EXPORT_MDS, "x", presets, &r, DP_OK));
    free(x);
    free(dir);
    free(tmp);
    free(other);
    data_release(&d);
}

TEST(folder_refuses_damage_and_leaves_nothing)
{
    struct data d;
    struct dp_export_report r;
    REQUIRE_OK(data_make(&d, 50257, 50256, 2, 60, 300, 8, &err));
    data_flip(d.dir, "part-001.bin", 100);
    int before = files_in(d.dir, "");
    for (enum dp_export_format f = DP_EXPORT_MEGATRON; f <= DP_EXPORT_MDS; f++) {
        free(folder(&d, f, "x", presets, &r, DP_CORRUPT));
        CHECK(strstr(err.msg, "part-001.bin") && strstr(err.msg, "frame 0 "));
    }
    CHECK_INT(files_in(d.dir, ""), before);
    char *tmp = dp_fs_join(d.dir, ".x.dpipe-export");
    CHECK(!dp_fs_exists(tmp));
    free(tmp);
    data_release(&d);
}

#include "shards/manifest.h"

#include "shards/shard_verify.h"
#include "tests/unit/test_shard_data.h"

#include <sys/wait.h>

static struct dp_err err;

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
static const char golden[] =
    "{\n \"format\": \"dpipe-manifest\",\n \"version\": 1,\n \"dtype\": \"u16\",\n \"vocab_size\": 300,\n \"eot\": 0,\n"
    " \"tokenizer\": \"00000000000000040000000000000003\",\n \"tokens\": 12,\n \"documents\": 3,\n \"shards\": [\n"
    "  {\n   \"name\": \"a.bin\",\n   \"index\": \"a.dpx\",\n   \"tokens\": 5,\n   \"documents\": 1,\n   \"bytes\": 10,\n"
    "   \"sha256\": \"" HEX64 "\",\n   \"index_sha256\": \"" HEX64 "\"\n  },\n"
    "  {\n   \"name\": \"sub/b.bin\",\n   \"index\": \"sub/b.dpx\",\n   \"tokens\": 7,\n   \"documents\": 2,\n   \"bytes\": 14,\n"
    "   \"sha256\": \"" HEX64 "\",\n   \"index_sha256\": \"" HEX64 "\"\n  }\n ]\n}\n";

TEST(manifest_has_one_form)
{
    struct dp_shard_meta meta = {.vocab_size = 300, .eot = 0, .tokenizer = {3, 4}};
    struct dp_manifest *m, *back;
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    REQUIRE_OK(dp_manifest_new(&m, &meta, &err));
    CHECK_OK(dp_manifest_add(
        m, &(struct dp_manifest_shard){"a.bin", "a.dpx", 5, 1, 10, HEX64, HEX64, false}, &err));
    CHECK_OK(dp_manifest_add(
        m, &(struct dp_manifest_shard){"sub/b.bin", "sub/b.dpx", 7, 2, 14, HEX64, HEX64, false}, &err));
    CHECK_OK(dp_manifest_render(m, &b, &err));
    CHECK_SPAN(dp_buf_span(&b), golden);
    REQUIRE_OK(dp_manifest_parse(&back, dp_buf_span(&b), "m", &err));
    CHECK(dp_hash128_eq(back->hash, m->hash) &&
          dp_hash128_eq(m->hash, dp_manifest_hash(dp_span_str(golden))));
    CHECK_INT(back->count, 2);
    CHECK_INT(back->tokens, 12);
    CHECK_INT(back->documents, 3);
    CHECK_INT(back->meta.dtype, DP_SHARD_U16);
    CHECK_STR(back->shards[1].index, "sub/b.dpx");
    dp_manifest_free(m);
    dp_manifest_free(back);
    dp_buf_release(&b);
}

TEST(manifest_bad_files_are_refused)
{
    static const struct {
        const char *from, *to, *says;
    } t[] = {{"dpipe-manifest", "other", "format"},
             {"\"version\": 1", "\"version\": 2", "version 2"},
             {"\"u16\"", "\"u32\"", "bytes"},
             {"\"u16\"", "16", "bytes"},
             {"\"vocab_size\": 300", "\"vocab_size\": 0", "vocab_size"},
             {"\"vocab_size\": 300", "\"vocab_size\": 3e2", "vocab_size"},
             {"\"vocab_size\": 300", "\"vocab_size\": 99999999999999999999", "m"},
             {"\"eot\": 0", "\"eot\": 300", "eot"},
             {"\"eot\": 0", "\"eot\": -2", "eot"},
             {"00000000000000040000000000000003", "04", "tokenizer"},
             {"\"tokens\": 12", "\"tokens\": 13", "totals"},
             {"\"documents\": 3", "\"documents\": -3", "documents"},
             {"\"tokens\": 5", "\"tokens\": -5", "tokens"},
             {"\"tokens\": 5", "\"tokens\": 1073741825", "tokens"},
             {"\"bytes\": 10", "\"bytes\": 11", "bytes"},
             {"a.bin", "../a.bin", "folder"},
             {"a.bin", "/etc/passwd", "folder"},
             {"a.bin", "", "folder"},
             {"a.bin", "x//y", "folder"},
             {"a.bin", "x/./y", "folder"},
             {"a.bin", "x/..", "folder"},
             {"a.bin", "x/", "folder"},
             {"a.bin", "x\\u0000y", "name"},
             {"a.bin", "x\\ny", "folder"},
             {"a.dpx", "a.bin", "twice"},
             {"a.bin", "sub/b.dpx", "twice"},
             {"abcdef\"", "abcdeF\"", "digest"},
             {"0123456789", "012345678", "sha256"},
             {"\"shards\": [", "\"shards\": [7,", "name"},
             {"\"shards\"", "\"shard\"", "shards"},
             {"\"documents\": 1,", "\"documents\": 0,", "go together"},
             {"]\n}", "]", "m"},
             {"]\n}", "]}}", "m"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char text[4096];
        const char *at = strstr(golden, t[i].from);
        REQUIRE(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - golden), golden, t[i].to,
                 at + strlen(t[i].from));
        struct dp_manifest *m;
        int rc = dp_manifest_parse(&m, dp_span_str(text), "m", &err);
        if (rc != DP_CORRUPT || m || !strstr(err.msg, t[i].says))
            DP_TEST_FAIL("%s -> %s: %d %s", t[i].from, t[i].to, rc, rc < 0 ? err.msg : "");
        dp_manifest_free(m);
    }
}

TEST(manifest_paths)
{
    char *p = dp_manifest_path("a/b/m.json", "s.bin"), *q = dp_manifest_path("m.json", "x/s.bin");
    CHECK_STR(p, "a/b/s.bin");
    CHECK_STR(q, "x/s.bin");
    free(p);
    free(q);
}

struct log {
    char text[8192];
    size_t n;
};
static void log_problem(void *ctx, const struct dp_verify_problem *p)
{
    struct log *l = ctx;
    l->n += (size_t)snprintf(l->text + l->n, sizeof l->text - l->n, "%s %d %lld %s\n", p->shard,
                             p->code, (long long)p->frame, p->what);
}

TEST(manifest_verify_finds_and_names_everything)
{
    struct data d;
    struct dp_verify_totals t;
    struct log l[2] = {{.n = 0}, {.n = 0}};
    struct dp_pool *pool;
    REQUIRE_OK(data_make(&d, 50257, 50256, 70, 20, 50, 21, &err));
    CHECK_OK(dp_verify_manifest(d.path, NULL, true, log_problem, &l[0], &t, &err));
    CHECK_INT(l[0].n, 0);
    CHECK_INT(t.shards, 70);
    CHECK_INT(t.tokens, d.tokens);
    CHECK_INT(t.documents, d.docs);
    data_flip(d.dir, "part-003.bin", 77);
    data_flip(d.dir, "part-004.dpx", 1500);
    char *gone = dp_fs_join(d.dir, "part-066.bin"), *a = dp_fs_join(d.dir, "part-067.bin"),
         *b = dp_fs_join(d.dir, "part-068.bin");
    unlink(gone);
    truncate(a, 10);
    struct dp_span other = data_file(d.dir, "part-001.bin");
    dp_fs_write_atomic(b, other, &err);
    data_free(other);
    REQUIRE_OK(dp_pool_open(&pool, 4, &err));
    CHECK_INT(dp_verify_manifest(d.path, NULL, false, log_problem, &l[0], &t, &err), DP_CORRUPT);
    CHECK_INT(t.shards_bad, 5);
    CHECK(strstr(err.msg, "5 of 70 shards"));
    CHECK_INT(dp_verify_manifest(d.path, pool, false, log_problem, &l[1], &t, &err), DP_CORRUPT);
    CHECK_STR(l[1].text, l[0].text);
    CHECK(strstr(l[0].text, "part-003.bin -4 0 checksum"));
    CHECK(strstr(l[0].text, "part-004.bin -4 -1 "));
    CHECK(strstr(l[0].text, "part-066.bin -8 -1 "));
    CHECK(strstr(l[0].text, "part-067.bin -4 -1 "));
    CHECK(strstr(l[0].text, "part-068.bin -4 "));
    dp_pool_close(pool);
    free(gone);
    free(a);
    free(b);
    data_release(&d);
}

TEST(manifest_verify_catches_a_consistent_swap)
{
    /* Two shards with equal counts whose files changed places: only digests can tell. */
    struct data d;
    REQUIRE_OK(data_make(&d, 300, 0, 2, 40, 0, 22, &err));
    static const char *const swap[][2] = {{"part-000.dpx", "part-001.dpx"},
                                          {"part-000.bin", "part-001.bin"}};
    for (int i = 0; i < 2; i++) {
        struct dp_span x = data_file(d.dir, swap[i][0]), y = data_file(d.dir, swap[i][1]);
        char *px = dp_fs_join(d.dir, swap[i][0]), *py = dp_fs_join(d.dir, swap[i][1]);
        CHECK_OK(dp_fs_write_atomic(px, y, &err));
        CHECK_OK(dp_fs_write_atomic(py, x, &err));
        free(px);
        free(py);
        data_free(x);
        data_free(y);
    }
    CHECK_INT(dp_verify_manifest(d.path, NULL, false, NULL, NULL, NULL, &err), DP_CORRUPT);
    data_release(&d);
}

/* A data set of several shards, its manifest taken apart: the list `m`, and a file with the first row alone. */
static void first_row_alone(const struct data *d, struct dp_manifest **m)
{
    REQUIRE_OK(dp_manifest_read(m, d->path, &err));
    struct dp_manifest *one;
    REQUIRE_OK(dp_manifest_new(&one, &(*m)->meta, &err));
    CHECK_OK(dp_manifest_add(one, &(*m)->shards[0], &err));
    CHECK_OK(dp_manifest_write(one, d->path, &err));
    dp_manifest_free(one);
}

TEST(manifest_append)
{
    struct data d;
    struct dp_manifest *m, *now;
    REQUIRE_OK(data_make(&d, 300, 0, 4, 3, 30, 31, &err));
    struct dp_span whole = data_file(d.dir, "manifest.json");
    first_row_alone(&d, &m);
    CHECK_OK(dp_manifest_append(d.path, &m->shards[1], 2, &err));
    CHECK_OK(dp_manifest_append(d.path, &m->shards[3], 0, &err));
    CHECK_INT(dp_manifest_append(d.path, &m->shards[2], 2, &err), DP_CONFIG); /* one is there already: neither is added */
    REQUIRE_OK(dp_manifest_read(&now, d.path, &err));
    CHECK_INT(now->count, 3);
    dp_manifest_free(now);
    struct dp_manifest_shard gone = m->shards[3], cut = m->shards[3];
    gone.index = "nosuch.dpx";
    cut.bytes = (cut.tokens += 1) * 2;
    CHECK_INT(dp_manifest_append(d.path, &gone, 1, &err), DP_CONFIG);
    CHECK_INT(dp_manifest_append(d.path, &cut, 1, &err), DP_CONFIG);
    CHECK_OK(dp_manifest_append(d.path, &m->shards[3], 1, &err));
    struct dp_span again = data_file(d.dir, "manifest.json");
    CHECK(dp_span_eq(whole, again)); /* however it grew */
    data_free(whole);
    data_free(again);
    dp_manifest_free(m);
    data_release(&d);
}

TEST(manifest_appenders_wait_for_each_other)
{
    struct data d;
    struct dp_manifest *m, *now;
    enum { SHARDS = 13 };
    REQUIRE_OK(data_make(&d, 300, 0, SHARDS, 1, 5, 32, &err));
    first_row_alone(&d, &m);
    pid_t pid[3];
    for (int p = 0; p < 3; p++)
        if ((pid[p] = fork()) == 0) {
            int bad = 0;
            for (int i = 1 + p; i < SHARDS; i += 3) bad |= dp_manifest_append(d.path, &m->shards[i], 1, &err) < 0;
            _exit(bad);
        }
    for (int p = 0; p < 3; p++) {
        int status = -1;
        CHECK(waitpid(pid[p], &status, 0) == pid[p] && status == 0);
    }
    REQUIRE_OK(dp_manifest_read(&now, d.path, &err));
    CHECK_INT(now->count, SHARDS);
    CHECK_INT(now->tokens, m->tokens);
    dp_manifest_free(now);
    dp_manifest_free(m);
    data_release(&d);
}

/* Readers end to end: a source's bytes in, one line a row out ("position format drop bytes first-words"), damage behind the rows as lines that begin with '!'. */
#include "base/batch.h"
#include "base/buf.h"
#include "base/fs.h"
#include "ingest/reader.h"
#include "tests/test.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA "tests/data/ingest/"

static struct dp_err err;
static struct dp_reader_stats stats;

static void on_damage(void *ctx, const struct dp_damage *d)
{
    dp_buf_printf(ctx, "!%s %" PRIu64 "\n", d->path, d->offset);
    if (!d->msg[0]) abort();
}

static void add_row(struct dp_buf *t, const struct dp_batch *b, uint32_t i)
{
    static const char *const formats[] = {"-", "text", "md", "html", "xml", "bin"};
    dp_buf_add_span(t, b->pos[i]);
    dp_buf_printf(t, " %s %s %u\n", formats[b->format[i]], dp_drop_name(b->drop[i]), b->bytes_in[i]);
    if (b->drop[i] && b->text[i].len) dp_buf_add_str(t, "a dropped row with text\n");
}

static struct dp_buf damage;

static int read_all(struct dp_buf *t, const struct dp_ingest_options *o, struct dp_span bytes, const char *name, uint32_t rows)
{
    struct dp_reader *r = NULL;
    struct dp_batch b;
    int rc = dp_batch_init(&b, rows, 64 << 20, &err);
    if (rc < 0) return rc;
    uint64_t seq = 0;
    dp_buf_init(&damage, 1 << 20);
    rc = dp_reader_open_span(&r, o, bytes, name, "", "d", on_damage, &damage, &err);
    while (rc == DP_OK && (rc = dp_reader_next(r, &b, &err)) == DP_OK) {
        CHECK(b.count > 0);
        CHECK_INT(b.seq, seq++);
        CHECK_INT(b.columns, DP_COL_ID | DP_COL_BYTES);
        for (uint32_t i = 0; i < b.count; i++) add_row(t, &b, i);
    }
    if (r) dp_reader_stats(r, &stats);
    dp_reader_close(r);
    dp_batch_release(&b);
    dp_buf_add_span(t, dp_buf_span(&damage));
    dp_buf_release(&damage);
    return rc;
}

/* The transcript of bytes under `name`, with batches of 1000 rows and of 1 row: both must agree. */
static char *transcript(struct dp_span bytes, const char *name, const struct dp_ingest_options *given)
{
    struct dp_ingest_options o = {0};
    struct dp_buf t, u;
    dp_buf_init(&t, 16 << 20);
    dp_buf_init(&u, 16 << 20);
    if (!given) CHECK_OK(dp_opt_defaults(dp_ingest_opts, &o, &err));
    CHECK_INT(read_all(&t, given ? given : &o, bytes, name, 1000), DP_EOF);
    CHECK_INT(read_all(&u, given ? given : &o, bytes, name, 1), DP_EOF);
    CHECK(dp_span_eq(dp_buf_span(&t), dp_buf_span(&u)));
    dp_buf_release(&u);
    if (!given) dp_opt_release(dp_ingest_opts, &o);
    return t.ptr ? t.ptr : strdup("");
}

static void check_bytes(struct dp_span bytes, const char *name, const char *want)
{
    char *got = transcript(bytes, name, NULL);
    if (strcmp(got, want) != 0) DP_TEST_FAIL("%s gives\n%s--- not\n%s", name, got, want);
    free(got);
}

static struct dp_buf load(const char *file)
{
    struct dp_buf b;
    char path[300];
    snprintf(path, sizeof path, DATA "%s", file);
    dp_buf_init(&b, 4 << 20);
    CHECK_OK(dp_fs_read(path, &b, &err));
    return b;
}

static void check_file(const char *file, const char *want)
{
    struct dp_buf b = load(file);
    check_bytes(dp_buf_span(&b), file, want);
    dp_buf_release(&b);
}

TEST(containers_give_all_their_files)
{
    static const char *const files[] = {"files.tar.gz", "files.tar.bz2", "files.tar.xz", "files.tar.zst", "files.tar.lz4", "files.zip"};
    for (size_t i = 0; i < 6; i++)
        check_file(files[i], "doc/readme.txt text kept 24\ndoc/page.html html kept 56\ndoc/notes.md md kept 8\nsrc/main.c text kept 29\n"
                             "img/dot.png bin format 16\ndata/rows.jsonl@0 text kept 3\ndata/rows.jsonl@30 text kept 6\n"
                             "doc/caf\xc3\xa9 100%25%21.txt text kept 24\n");
    static const char *const more[] = {"files.7z", "files.cpio"};
    for (size_t i = 0; i < 2; i++)
        check_file(more[i], "doc/readme.txt text kept 24\ndoc/page.html html kept 56\ndoc/notes.md md kept 8\nsrc/main.c text kept 29\n");
    check_file("files.iso.gz", "doc/readme.txt text kept 24\ndoc/page.html html kept 56\n");
    check_file("files.tar.gz", "doc/readme.txt text kept 24\ndoc/page.html html kept 56\ndoc/notes.md md kept 8\nsrc/main.c text kept 29\n"
                               "img/dot.png bin format 16\ndata/rows.jsonl@0 text kept 3\ndata/rows.jsonl@30 text kept 6\n"
                               "doc/caf\xc3\xa9 100%25%21.txt text kept 24\n");
    CHECK_INT(stats.skipped, 4); /* link, hard link, folder, fifo */
    CHECK_INT(stats.damaged, 0);
}

TEST(old_and_odd_containers_give_all_their_files)
{
    static const char four[] = "doc/readme.txt text kept 24\ndoc/page.html html kept 56\ndoc/notes.md md kept 8\nsrc/main.c text kept 29\n";
    static const char *const files[] = {"words.cpio", "words_big.cpio", "files.xar", "joined.tar", "self.exe"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) check_file(files[i], four);
    check_file("modes.ar", "readme.txt text kept 24\npage.html html kept 56\n");
    struct dp_buf b = load("directory.zip"); /* the directory is damaged, the members are not */
    char *got = transcript(dp_buf_span(&b), "directory.zip", NULL), *bad = strstr(got, "!directory.zip ");
    CHECK(bad && strlen(four) == (size_t)(bad - got) && strncmp(got, four, strlen(four)) == 0);
    free(got);
    dp_buf_release(&b);
    /* The last member's bytes are there, only their padding isn't. */
    check_file("padding.tar", "doc/readme.txt text kept 24\ndoc/page.html html kept 56\n!padding.tar!doc/page.html 56\n");
}

TEST(nothing_before_the_damage_is_no_document)
{
    check_bytes(dp_span("\x28\xb5\x2f\xfd\x20\x05", 6), "a.txt.zst", "!a.txt.zst 0\n");
    check_bytes(dp_span("\x1f\x8b\x08\0\0\0\0\0\0\3\x7f", 11), "a.txt.gz", "!a.txt.gz 0\n");
}

TEST(nesting_opens)
{
    check_file("package.deb", "debian-binary text kept 4\ncontrol.tar.gz!./control text kept 11\n"
                              "data.tar.xz!./usr/share/doc/x/readme.html html kept 56\ndata.tar.xz!./usr/share/man/man1/x.1.gz text kept 8\n");
    check_file("nested.tar.gz", "in.zip!doc/readme.txt text kept 24\nin.zip!doc/page.html html kept 56\nin.tar.xz!doc/readme.txt text kept 24\n");
    check_file("deep.tar.gz", "!deep.tar.gz!d7!d6!d5!d4!d3 0\n");
}

TEST(names_are_unique_and_clean)
{
    check_file("twice.tar", "a text kept 24\na#2 text kept 24\na#3 text kept 24\na%232 text kept 24\nb%01\xc3\xa9%405 text kept 24\n");
}

TEST(encrypted_members_are_reported)
{
    check_file("encrypted.zip", "open.txt text kept 24\n!encrypted.zip!secret.txt 0\n");
}

TEST(bombs_are_refused_and_the_rest_is_read)
{
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    struct dp_buf b = load("bomb.gz");
    char *got = transcript(dp_buf_span(&b), "bomb.gz", NULL);
    CHECK(strncmp(got, "!bomb.gz ", 9) == 0 && !strstr(got, " kept "));
    free(got);
    dp_buf_release(&b);
    b = load("bomb.zip");
    got = transcript(dp_buf_span(&b), "bomb.zip", NULL);
    CHECK(strstr(got, "a.txt text kept 24\nz.txt text kept 24\n!bomb.zip!bomb ") == got);
    free(got);
    dp_buf_release(&b);
    getrusage(RUSAGE_SELF, &after);
    CHECK((after.ru_maxrss - before.ru_maxrss) < 400 * 1024); /* KiB; 1 GiB would come out. The sanitizer's own memory is in it */
}

TEST(a_bomb_between_members_is_skipped)
{
    struct dp_buf b = load("bomb_between.jsonl.zst");
    char *got = transcript(dp_buf_span(&b), "bomb_between.jsonl.zst", NULL);
    CHECK(strncmp(got, "@0 text kept 3\n", 15) == 0 && strstr(got, " text kept 5\n") && strstr(got, "!bomb_between.jsonl.zst 28\n"));
    if (!strstr(got, " text kept 5\n")) DP_TEST_FAIL("%s", got);
    free(got);
    dp_buf_release(&b);
}

TEST(limits_of_a_source)
{
    struct dp_ingest_options o = {0};
    REQUIRE_OK(dp_opt_defaults(dp_ingest_opts, &o, &err));
    struct dp_buf b = load("twice.tar");
    o.members_max = 3;
    char *got = transcript(dp_buf_span(&b), "twice.tar", &o);
    CHECK_STR(got, "a text kept 24\na#2 text kept 24\na#3 text kept 24\n!twice.tar 0\n");
    free(got);
    o.members_max = 100;
    o.total_bytes_max = 50;
    got = transcript(dp_buf_span(&b), "twice.tar", &o);
    CHECK_STR(got, "a text kept 24\na#2 text kept 24\n!twice.tar!a#3 0\n");
    free(got);
    o.total_bytes_max = 1 << 20;
    o.nested_bytes_max = 100;
    dp_buf_release(&b);
    b = load("nested.tar.gz");
    got = transcript(dp_buf_span(&b), "nested.tar.gz", &o);
    CHECK_STR(got, "in.tar.xz!doc/readme.txt text kept 24\n!nested.tar.gz!in.zip 0\n");
    free(got);
    dp_buf_release(&b);
    o.doc_bytes_max = 1024;
    char big[1026];
    memset(big, 'x', sizeof big);
    got = transcript(dp_span(big, 1025), "big.txt", &o);
    CHECK_STR(got, " text too_large 1025\n");
    free(got);
    got = transcript(dp_span(big, 1024), "big.txt", &o);
    CHECK_STR(got, " text kept 1024\n");
    free(got);
    dp_opt_release(dp_ingest_opts, &o);
}

TEST(plain_files)
{
    static const struct {
        const char *name, *bytes, *want;
    } cases[] = {
        {"a.html", "<p>x", " html kept 4\n"},
        {"a.txt", "plain", " text kept 5\n"},
        {"a.txt", "<!DOCTYPE html><p>x", " html kept 19\n"},
        {"README", "plain", " text kept 5\n"},
        {"page", "  <!-- c --><HTML><body>", " html kept 24\n"},
        {"a.py", "<a>", " text kept 3\n"},
        {"a.xml", "<?xml version='1.0'?><a/>", " xml kept 25\n"},
        {"a.png", "\x89PNG\r\n\x1a\n", " bin format 8\n"},
        {"a.txt", "", " text empty 0\n"},
        {"a.json", "{\n \"text\": 1\n}\n", " text kept 15\n"},
        {"a.json", "{\"text\":\"x\"}\n{\"text\":\"yy\"}\n", "@0 text kept 1\n@13 text kept 2\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_bytes(dp_span_str(cases[i].bytes), cases[i].name, cases[i].want);
}

TEST(ids_are_hashes_of_digest_and_position)
{
    struct dp_ingest_options o = {0};
    REQUIRE_OK(dp_opt_defaults(dp_ingest_opts, &o, &err));
    struct dp_batch b;
    REQUIRE_OK(dp_batch_init(&b, 10, 1 << 20, &err));
    struct dp_reader *r;
    REQUIRE_OK(dp_reader_open_span(&r, &o, dp_span_str("{\"text\":\"x\"}"), "x.jsonl", "sub/x!.jsonl", "abc", NULL, NULL, &err));
    REQUIRE(dp_reader_next(r, &b, &err) == DP_OK);
    CHECK_SPAN(b.pos[0], "sub/x%21.jsonl@0");
    CHECK(dp_hash128_eq(b.id[0], dp_hash128("abc\nsub/x%21.jsonl@0", 20)));
    CHECK(dp_reader_next(r, &b, &err) == DP_EOF);
    CHECK(dp_reader_next(r, &b, &err) == DP_EOF);
    dp_reader_close(r);
    dp_batch_release(&b);
    dp_opt_release(dp_ingest_opts, &o);
}

TEST(a_record_too_large_for_the_batch_is_dropped)
{
    struct dp_ingest_options o = {0};
    REQUIRE_OK(dp_opt_defaults(dp_ingest_opts, &o, &err));
    struct dp_batch b;
    REQUIRE_OK(dp_batch_init(&b, 10, 128 * 1024, &err));
    char *big = malloc(300000);
    REQUIRE(big);
    memset(big, 'x', 300000);
    struct dp_reader *r;
    REQUIRE_OK(dp_reader_open_span(&r, &o, dp_span(big, 300000), "x.txt", "", "abc", NULL, NULL, &err));
    REQUIRE(dp_reader_next(r, &b, &err) == DP_OK);
    CHECK_INT(b.drop[0], DP_DROP_TOO_LARGE);
    CHECK_INT(b.text[0].len, 0);
    dp_reader_close(r);
    dp_batch_release(&b);
    dp_opt_release(dp_ingest_opts, &o);
    free(big);
}

TEST(file_descriptors_and_wrong_ones)
{
    struct dp_ingest_options o = {0};
    REQUIRE_OK(dp_opt_defaults(dp_ingest_opts, &o, &err));
    struct dp_reader *r;
    int fd = open(DATA "files.zip", O_RDONLY | O_CLOEXEC);
    CHECK_OK(dp_reader_open(&r, &o, fd, "files.zip", "", "d", NULL, NULL, &err));
    close(fd);
    struct dp_batch b;
    REQUIRE_OK(dp_batch_init(&b, 100, 1 << 20, &err));
    CHECK(dp_reader_next(r, &b, &err) == DP_OK && b.count == 8);
    dp_reader_close(r);
    dp_batch_release(&b);
    fd = open("tests", O_RDONLY | O_CLOEXEC);
    CHECK(dp_reader_open(&r, &o, fd, "tests", "", "d", NULL, NULL, &err) == DP_USAGE);
    close(fd);
    dp_opt_release(dp_ingest_opts, &o);
}

TEST(damaged_archives_end_without_harm)
{
    static const char *const files[] = {"files.tar.gz", "files.zip", "files.7z", "files.cpio", "package.deb", "nested.tar.gz", "files.tar.xz", "files.tar.lz4"};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        struct dp_buf b = load(files[f]);
        for (size_t n = 0; n < b.len; n += b.len / 7 + 1) free(transcript(dp_span(b.ptr, n), files[f], NULL));
        for (size_t at = 0; at < b.len; at += b.len / 29 + 1) {
            b.ptr[at] = (char)(b.ptr[at] ^ 0x5a);
            free(transcript(dp_buf_span(&b), files[f], NULL));
            b.ptr[at] = (char)(b.ptr[at] ^ 0x5a);
        }
        dp_buf_release(&b);
    }
}

/* --- walking --- */

static int on_file(void *ctx, const char *path, const char *relative, uint64_t size)
{
    struct stat st;
    dp_buf_printf(ctx, "%s %" PRIu64 "\n", relative, size);
    if (stat(path, &st) != 0 || (uint64_t)st.st_size != size) abort();
    return strcmp(relative, "stop") == 0 ? 7 : DP_OK;
}

TEST(walks_are_sorted_and_stay_inside)
{
    char *dir = dp_test_tmpdir(), path[5000];
    static const char *const files[] = {"a/b", "a.txt", "a-b", "z", ".hidden", ".git/x", "a/c/d"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        char *slash = strrchr(path, '/');
        *slash = 0;
        REQUIRE_OK(dp_fs_mkdirs(path, &err));
        *slash = '/';
        REQUIRE_OK(dp_fs_write_atomic(path, dp_span_str("xy"), &err));
    }
    static const char *const links[][2] = {{"inside", "z"}, {"outside", "/etc/passwd"}, {"loop", "."}, {"dangling", "nothing"}};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, links[i][0]);
        REQUIRE(symlink(links[i][1], path) == 0);
    }
    snprintf(path, sizeof path, "%s/fifo", dir);
    REQUIRE(mkfifo(path, 0600) == 0);
    struct dp_buf t;
    dp_buf_init(&t, 1 << 16);
    CHECK_OK(dp_walk(dir, on_file, NULL, &t, &err));
    CHECK_STR(t.ptr, "a-b 2\na.txt 2\na/b 2\na/c/d 2\ninside 2\nz 2\n");
    dp_buf_clear(&t);
    snprintf(path, sizeof path, "%s/z", dir);
    CHECK_OK(dp_walk(path, on_file, NULL, &t, &err));
    CHECK_STR(t.ptr, " 2\n");
    snprintf(path, sizeof path, "%s/none", dir);
    CHECK_INT(dp_walk(path, on_file, NULL, &t, &err), DP_NOTFOUND);
    dp_buf_release(&t);
}

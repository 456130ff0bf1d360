/* WARC: the files of other projects' tests, and damage made on purpose. Transcripts: "position drop bytes", damage "!offset". */
#include "base/batch.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/hash.h"
#include "ingest/reader.h"
#include "tests/test.h"

#define DATA "tests/data/ingest/"

static struct dp_err err;
static struct dp_reader_stats stats;
static char last_meta[1024], last_url[1024], last_type[256], last_text[8192];

static void on_damage(void *ctx, const struct dp_damage *d)
{
    dp_buf_printf(ctx, "!%" PRIu64 "\n", d->offset);
}

static void keep(char *to, size_t cap, struct dp_span s)
{
    size_t n = s.len < cap - 1 ? s.len : cap - 1;
    memcpy(to, s.ptr, n);
    to[n] = 0;
}

static char *transcript(struct dp_span bytes, const char *name)
{
    struct dp_ingest_options o = {0};
    struct dp_buf t, damage; /* damage goes behind the rows */
    struct dp_batch b;
    struct dp_reader *r = NULL;
    dp_buf_init(&damage, 1 << 24);
    dp_buf_init(&t, 1 << 24);
    dp_buf_add_str(&t, "");
    CHECK_OK(dp_opt_defaults(dp_ingest_opts, &o, &err));
    CHECK_OK(dp_batch_init(&b, 50, 64 << 20, &err));
    int rc = dp_reader_open_span(&r, &o, bytes, name, "", "d", on_damage, &damage, &err);
    while (rc == DP_OK && (rc = dp_reader_next(r, &b, &err)) == DP_OK)
        for (uint32_t i = 0; i < b.count; i++) {
            dp_buf_add_span(&t, b.pos[i]);
            dp_buf_printf(&t, " %s %u\n", dp_drop_name(b.drop[i]), b.bytes_in[i]);
            keep(last_meta, sizeof last_meta, b.meta[i]);
            keep(last_url, sizeof last_url, b.url[i]);
            keep(last_text, sizeof last_text, b.text[i]);
            snprintf(last_type, sizeof last_type, "%.*s;%.*s", DP_SPAN_FMT(b.mime[i]), DP_SPAN_FMT(b.charset[i]));
        }
    CHECK_INT(rc, DP_EOF);
    dp_reader_stats(r, &stats);
    dp_reader_close(r);
    dp_batch_release(&b);
    dp_opt_release(dp_ingest_opts, &o);
    dp_buf_add_span(&t, dp_buf_span(&damage));
    dp_buf_release(&damage);
    return t.ptr;
}

static void check(struct dp_span bytes, const char *name, const char *want)
{
    char *got = transcript(bytes, name);
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

TEST(files_of_other_projects)
{
    /* Payload sizes and record counts as warcio and FastWARC give them, where they agree; skipped: the rest. */
    static const struct {
        const char *file, *want;
        int skipped;
    } cases[] = {
        {"warcio--example.warc.gz", "@784 kept 1270\n", 5},
        {"warcio--example-iana.org-chunked.warc", "@405 kept 7223\n", 2},
        {"warcio--example-resource.warc.gz", "@802 kept 1303\n", 2},
        {"warcio--example-wrong-chunks.warc.gz", "@0 kept 1270\n", 1},
        {"warcio--example-wget-bad-target-uri.warc.gz", "@824 kept 1270\n@2295 kept 49\n@2681 kept 471\n", 3},
        {"warcio--example-space-in-target-uri.warc.gz", "@241 format 70\n", 1},
        {"warcio--example-bad-non-chunked.warc.gz", "@0+1197 kept 1270\n", 5},
        {"warcio--example-trunc.warc", "@1197 kept 1270\n!1197\n!2560\n", 3},
        {"warcio--example-space-in-url.arc", "!151\n", 1},
        {"fastwarc--block-sized-records.warc.gz", "", 3},
        {"fastwarc--block-sized-records.warc.lz4", "", 3},
        {"fastwarc--clipped.warc.gz", "!0\n!0\n", 0},
        {"jwarc--gzip_extra_sl.warc.gz", "", 1},
        {"jwarc--cc.warc.gz", "@0 kept 20289\n", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_buf b = load(cases[i].file);
        check(dp_buf_span(&b), cases[i].file, cases[i].want);
        if (stats.skipped != (uint64_t)cases[i].skipped) DP_TEST_FAIL("%s: %d skipped", cases[i].file, (int)stats.skipped);
        dp_buf_release(&b);
    }
    CHECK_STR(last_url, "http://commoncrawl.org/");
    CHECK_STR(last_type, "text/html;utf-8");
}

static void add_record(struct dp_buf *b, const char *type, const char *content_type, const char *block, int length)
{
    dp_buf_printf(b, "WARC/1.0\r\nWARC-Type: %s\r\nWARC-Target-URI: http://x/\r\nWARC-Date: 2020-01-01T00:00:00Z\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n",
                  type, content_type, length < 0 ? (int)strlen(block) : length, block);
}

static struct dp_buf three(int length_of_second)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    add_record(&b, "resource", "text/plain", "first", -1);
    add_record(&b, "resource", "text/plain", "second one", length_of_second);
    add_record(&b, "resource", "text/plain", "third", -1);
    return b;
}

TEST(wrong_lengths_lose_one_record_at_most)
{
    static const struct {
        int length;
        const char *want;
    } cases[] = {
        {10, "@0 kept 5\n@148 kept 10\n@302 kept 5\n"},
        {6, "@0 kept 5\n@148 kept 6\n@301 kept 5\n!293\n"}, /* too small: the rest is garbage, and said so */
        {20, "@0 kept 5\n@302 kept 5\n!148\n"},             /* into the next record's first line */
        {150, "@0 kept 5\n@303 kept 5\n!148\n"},
        {5000, "@0 kept 5\n@304 kept 5\n!148\n"},           /* past the end */
        {2000000000, "@0 kept 5\n@310 kept 5\n!148\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_buf b = three(cases[i].length);
        check(dp_buf_span(&b), "x.warc", cases[i].want);
        dp_buf_release(&b);
    }
}

TEST(garbage_between_records)
{
    static const char *const garbage[] = {"xyz", "\r\n\r\nWARC/1.0 is a format\r\n", "WARC/1.0\r\nno header at all\r\n\r\n", "\0\0\0\0"};
    for (size_t i = 0; i < 4; i++) {
        struct dp_buf b;
        dp_buf_init(&b, 1 << 20);
        add_record(&b, "resource", "text/plain", "first", -1);
        dp_buf_add(&b, garbage[i], i == 3 ? 4 : strlen(garbage[i]));
        add_record(&b, "conversion", "text/plain", "second", -1);
        char *got = transcript(dp_buf_span(&b), "x.warc");
        CHECK(strstr(got, "@0 kept 5\n@") == got && strstr(got, " kept 6\n!"));
        CHECK_INT(stats.damaged, 1);
        free(got);
        dp_buf_release(&b);
    }
}

TEST(headers_in_all_shapes)
{
    check(dp_span_str("WARC/1.1\nwarc-type:resource\ncontent-length:  2 \ncontent-type: text/plain\n\nhi\n\n"), "x", "@0 kept 2\n");
    check(dp_span_str("WARC/1.0\r\nWARC-Type: resource\r\n\r\nhi"), "x", "!0\n");
    check(dp_span_str("WARC/1.0\r\nWARC-Type: resource\r\nContent-Length: -1\r\n\r\nhi"), "x", "!0\n");
    check(dp_span_str("WARC/1.0\r\nWARC-Type: resource\r\nContent-Length: 99999999999999999999999\r\n\r\nhi"), "x", "!0\n");
    check(dp_span_str("WARC/1.0\r\nWARC-Type: resource\r\nContent-Le"), "x", "!0\n");
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    dp_buf_add_str(&b, "WARC/1.0\r\nWARC-Type: resource\r\nX: ");
    for (int i = 0; i < 70000; i++) dp_buf_add_char(&b, 'x');
    dp_buf_add_str(&b, "\r\nContent-Length: 2\r\n\r\nhi\r\n\r\n");
    add_record(&b, "resource", "text/plain", "next", -1);
    check(dp_buf_span(&b), "x.warc", "@70063 kept 4\n!0\n");
    dp_buf_release(&b);
}

static const char *http(const char *block)
{
    static struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    add_record(&b, "response", "application/http; msgtype=response", block, -1);
    char *got = transcript(dp_buf_span(&b), "x.warc");
    dp_buf_release(&b);
    static char line[200];
    snprintf(line, sizeof line, "%.190s", got);
    free(got);
    return line;
}

TEST(http_responses)
{
    CHECK_STR(http("HTTP/1.1 200 OK\r\nContent-Type: Text/HTML; Charset=\"UTF-8\"\r\n\r\n<p>hi"), "@0 kept 5\n");
    CHECK_STR(last_type, "text/html;utf-8");
    CHECK_STR(last_meta, "\"date\":\"2020-01-01T00:00:00Z\",\"status\":200");
    CHECK_STR(http("HTTP/1.1 404 Not Found\r\n\r\ngone"), "@0 http_status 4\n");
    CHECK_STR(http("HTTP/1.1 200\nContent-Type: image/png\n\nxxxx"), "@0 format 4\n");
    CHECK_STR(http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), "@0 kept 5\n");
    CHECK_STR(last_text, "abcde");
    CHECK_STR(http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n<p>not chunked"), "@0 kept 14\n");
    CHECK_STR(last_text, "<p>not chunked");
    CHECK_STR(http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n9\r\nde"), "@0 kept 5\n!0\n");
    CHECK_STR(http("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/plain\r\n\r\nplain"), "@0 kept 5\n");
    CHECK_STR(http("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Type: text/plain\r\n\r\n\x8b\x02\x80\x01\x02\x03\x04\x05\x06\x07"), "@0 format 10\n!0\n");
    CHECK_STR(http("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"), "@0 empty 0\n");
    CHECK_STR(http("HTTP/1.1 200 OK"), "@0 empty 0\n");
    CHECK_STR(http("<p>no status line"), "@0 kept 17\n");
}

/* A response of bytes that may be NUL, behind `head`. */
static const char *http_bytes(const char *head, const char *body, size_t n)
{
    struct dp_buf b;
    static char line[200];
    dp_buf_init(&b, 1 << 20);
    dp_buf_printf(&b, "WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %zu\r\n\r\n%s", strlen(head) + n, head);
    dp_buf_add(&b, body, n);
    dp_buf_add_str(&b, "\r\n\r\n");
    char *got = transcript(dp_buf_span(&b), "x.warc");
    snprintf(line, sizeof line, "%.190s", got);
    free(got);
    dp_buf_release(&b);
    return line;
}
#define HTTP_BYTES(head, body) http_bytes("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" head "\r\n\r\n", body, sizeof body - 1)

TEST(codings)
{
    static const char brotli[] = "\033\035\000\370\035\251\121\237\073\246\222\007\015\056\331\100\336\312\247\254\004\321\247\016\170\346\255\034\007";
    static const char members[] = "\037\213\010\000\000\000\000\000\002\003\113\313\054\052\056\121\310\110\314\111\323\121\000\000\374\314\026\064\014\000\000\000\037\213\010\000\000\000\000\000\002\003\053\116\115\316\317\113\121\310\110\314\111\323\121\310\311\317\113\117\055\122\050\311\110\314\123\310\054\001\000\277\225\062\157\033\000\000\000";
    static const char transfer[] = "31\r\n\037\213\010\000\000\000\000\000\002\003\113\316\050\315\313\116\115\121\110\314\113\121\110\257\312\054\320\121\110\252\124\050\051\112\314\053\116\113\055\002\000\354\102\223\274\035\000\000\000\r\n0\r\n\r\n";
    CHECK_STR(HTTP_BYTES("Content-Encoding: br", brotli), "@0 kept 30\n");
    CHECK_STR(last_text, "<p>hello hello hello hello</p>");
    CHECK_STR(http_bytes("HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n", brotli, sizeof brotli - 4), "@0 format 26\n!0\n");
    CHECK_STR(HTTP_BYTES("Content-Encoding: br", "<p>stored decoded"), "@0 kept 17\n");
    CHECK_STR(HTTP_BYTES("Content-Encoding: gzip", members), "@0 kept 39\n");
    CHECK_STR(last_text, "first half, second half, longer than it");
    CHECK_STR(HTTP_BYTES("Content-Encoding:\r\n gzip", members), "@0 kept 39\n");
    CHECK_STR(HTTP_BYTES("Transfer-Encoding: gzip,\r\n\tchunked", transfer), "@0 kept 29\n");
    CHECK_STR(last_text, "chunked and gzip, by transfer");
}

TEST(utf16_is_no_binary)
{
    static const char wide[] = "<\0p\0>\0\0N\0N\0N\2\1\1\0N"; /* U+4E00 has its NUL at the other parity */
    CHECK_STR(http_bytes("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-16le\r\n\r\n", wide, sizeof wide - 1), "@0 kept 17\n");
}

TEST(folded_and_missing_fields)
{
    check(dp_span_str("WARC/1.0\r\nWARC-Type:\r\n resource\r\nX: a\r\n\tb\r\nContent-Length:\r\n\t 2\r\nContent-Type: text/plain\r\n\r\nhi\r\n\r\n"), "x", "@0 kept 2\n");
    check(dp_span_str("WARC/1.0\r\nContent-Length: 2\r\n\r\nhi\r\n\r\n"), "x", "!0\n"); /* no type: not skipped without a word */
    check(dp_span_str("WARC/1.0\r\nWARC-Type: response\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<p>hi\r\n"), "x", "@0 kept 5\n");
}

/* Records of all sizes in buffered streams: the window moves and grows under the header (once a use after free that skipped records). */
TEST(streams_of_all_codecs_give_every_record)
{
    static const char *const files[] = {"sizes.warc.zst", "sizes.warc.gz", "sizes.warc.bz2"};
    struct dp_buf want;
    dp_buf_init(&want, 1 << 16);
    uint64_t at = 0;
    for (int i = 0; i < 60; i++) {
        char head[300];
        int line = snprintf(NULL, 0, "line %d of a long record\n", i);
        int bytes = line * (1 + (int)((int64_t)i * i * 7919 % 12007));
        int n = snprintf(head, sizeof head, "WARC/1.1\r\nWARC-Type: resource\r\nWARC-Target-URI: http://x/%d\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", i, bytes);
        if (i) dp_buf_printf(&want, "@0+%" PRIu64 " kept %d\n", at, bytes);
        else dp_buf_printf(&want, "@0 kept %d\n", bytes);
        at += (uint64_t)(n + bytes + 4);
    }
    for (size_t i = 0; i < 3; i++) {
        struct dp_buf b = load(files[i]);
        check(dp_buf_span(&b), files[i], want.ptr);
        CHECK_INT(stats.skipped, 0);
        CHECK_STR(last_url, "http://x/59");
        dp_buf_release(&b);
    }
    dp_buf_release(&want);
}

/* Once a loop without end: the record's own begin was taken for the next one's. */
TEST(a_record_too_large_to_hold_is_dropped)
{
    static const struct {
        const char *file, *want;
    } cases[] = {{"large.warc.gz", "@0 kept 5\n@87 too_large 17825792\n@17530 kept 6\n"}, {"large_cut.warc.gz", "@0 too_large 17825792\n@17439 kept 6\n!0\n"}};
    for (size_t i = 0; i < 2; i++) {
        struct dp_buf b = load(cases[i].file);
        check(dp_buf_span(&b), cases[i].file, cases[i].want);
        dp_buf_release(&b);
    }
}

TEST(bad_gzip_members_lose_only_themselves)
{
    struct dp_buf b = load("warcio--example-wget-bad-target-uri.warc.gz");
    struct dp_buf twice;
    dp_buf_init(&twice, 1 << 20);
    dp_buf_add_span(&twice, dp_buf_span(&b));
    dp_buf_add_span(&twice, dp_buf_span(&b));
    /* each byte of the response's member (offsets 824 to 1977) in turn, coarsely: the records around it must all come */
    for (size_t at = 824; at < 1970; at += 13) {
        twice.ptr[at] = (char)(twice.ptr[at] ^ 0xff);
        char *got = transcript(dp_buf_span(&twice), "x.warc.gz");
        const char *wanted[] = {"@2295 kept 49\n", "@2681 kept 471\n", "@4091 kept 1270\n", "@5562 kept 49\n", "@5948 kept 471\n"};
        for (size_t k = 0; k < 5; k++)
            if (!strstr(got, wanted[k])) DP_TEST_FAIL("byte %zu bad: no %s in\n%s", at, wanted[k], got);
        /* time, system and wget's extra field of the gzip header carry nothing */
        if (at >= 850 && !stats.damaged) DP_TEST_FAIL("byte %zu bad: not reported", at);
        free(got);
        twice.ptr[at] = (char)(twice.ptr[at] ^ 0xff);
    }
    for (size_t n = 0; n < b.len; n += 37) free(transcript(dp_span(b.ptr, n), "x.warc.gz"));
    dp_buf_release(&b);
    dp_buf_release(&twice);
}

TEST(fake_magics_cost_linear_time)
{
    struct dp_buf b;
    dp_buf_init(&b, 8 << 20);
    while (b.len < 4 << 20) dp_buf_add(&b, "\x1f\x8b\x08\0\0\0\0\0\0\3\x4b\x04", 12);
    free(transcript(dp_buf_span(&b), "x.warc.gz"));
    CHECK(stats.damaged > 0);
    dp_buf_clear(&b);
    while (b.len < 1 << 20) dp_buf_add_str(&b, "WARC/1.0\r\n");
    free(transcript(dp_buf_span(&b), "x.warc"));
    CHECK(stats.damaged > 0);
    dp_buf_release(&b);
}

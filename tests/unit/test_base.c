#include "base/arena.h"
#include "base/buf.h"
#include "base/cpu.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/opt.h"
#include "base/thread.h"
#include "tests/test.h"

#include <stdatomic.h>
#include <unistd.h>

static struct dp_err err;

TEST(err_keeps_what_it_quotes)
{
    struct dp_err e;
    CHECK_INT(dp_err_set(&e, DP_IO, ENOSPC, "f.c", 3, "x.bin at %d", 7), DP_IO);
    CHECK_STR(e.msg, "x.bin at 7: No space left on device");
    CHECK_INT(dp_err_prefix(&e, "unit %s", "a"), DP_IO);
    CHECK_STR(e.msg, "unit a: x.bin at 7: No space left on device");
    CHECK_INT(dp_code_exit(DP_USAGE), 64);
    CHECK_INT(dp_code_exit(DP_CORRUPT), 65);
    CHECK_INT(dp_code_exit(DP_IO), 74);
    CHECK_INT(dp_code_exit(DP_BUSY), 75);
    CHECK_INT(dp_code_exit(DP_CONFIG), 78);
}

TEST(arena_aligns_caps_and_recycles)
{
    struct dp_arena a;
    dp_arena_init(&a, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        char *p = dp_arena_alloc(&a, (size_t)i);
        REQUIRE(p && ((uintptr_t)p & 15) == 0);
        memset(p, i, (size_t)i);
    }
    size_t held = a.bytes_held;
    dp_arena_reset(&a);
    for (int i = 0; i < 1000; i++) REQUIRE(dp_arena_alloc(&a, (size_t)i));
    CHECK_INT(a.bytes_held, held);
    CHECK(dp_arena_alloc(&a, 1 << 20) == NULL);
    CHECK(dp_arena_alloc(&a, SIZE_MAX) == NULL);
    CHECK_SPAN(dp_arena_dup(&a, dp_span_str("abc")), "abc");
    dp_arena_release(&a);
}

TEST(buf_refuses_past_its_maximum)
{
    struct dp_buf b;
    dp_buf_init(&b, 10);
    dp_buf_add_str(&b, "0123456789");
    CHECK_OK(dp_buf_check(&b, "b", &err));
    dp_buf_add_char(&b, 'x');
    CHECK_INT(dp_buf_check(&b, "b", &err), DP_LIMIT);
    CHECK_SPAN(dp_buf_span(&b), "0123456789");
    dp_buf_release(&b);
}

TEST(hashes_match_published_vectors)
{
    char hex[DP_HEX256];
    CHECK_OK(dp_sha256_span(dp_span_str("abc"), hex, &err));
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_INT(dp_crc32c(0, "123456789", 9), 0xE3069283);
    char zeros[32] = {0};
    CHECK_INT(dp_crc32c(0, zeros, 32), 0x8A9136AA); /* RFC 3720 B.4 */
    CHECK_INT(dp_crc32c(dp_crc32c(0, "1234", 4), "56789", 5), 0xE3069283);
    char h[DP_HEX128];
    dp_hash128_hex(dp_hash128("", 0), h);
    CHECK_STR(h, "99aa06d3014798d86001c324468d497f"); /* xxhsum -H2 of nothing */
    struct dp_hash128 back;
    CHECK_OK(dp_hash128_parse(dp_span_str(h), &back, &err));
    CHECK(dp_hash128_eq(back, dp_hash128("", 0)));
    CHECK_INT(dp_hash128_parse(dp_span_str("99zz06d3014798d86001c324468d497f"), &back, &err), DP_CORRUPT);
}

/* Long stretches go by four lanes, single bytes one by one. */
TEST(crc32c_of_any_length_is_that_of_its_bytes)
{
    static unsigned char bytes[40000];
    static const size_t lengths[] = {1023, 1024, 4095, 4096, 4097, 8191, 8192, 8200, 12288, 16385, 32768, 39000};
    uint64_t x = 3;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)dp_splitmix64(&x);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
        for (size_t at = 0; at < 9; at++) {
            uint32_t one = 0xABCD1234;
            for (size_t i = 0; i < lengths[k]; i++) one = dp_crc32c(one, bytes + at + i, 1);
            CHECK_INT(dp_crc32c(0xABCD1234, bytes + at, lengths[k]), one);
        }
}

TEST(json_writes_and_reads_back)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 16);
    struct dp_jsonw w;
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "a:");
    dp_jsonw_begin(&w, '[');
    dp_jsonw_int(&w, -1);
    dp_jsonw_cstr(&w, "x:");
    dp_jsonw_cstr(&w, "\"\\\n\x01\xff\xe2\x82\xac");
    dp_jsonw_real(&w, 0.1);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_end(&w, '}');
    dp_jsonw_end(&w, ']');
    dp_jsonw_key(&w, "b");
    dp_jsonw_bool(&w, true);
    dp_jsonw_end(&w, '}');
    CHECK_SPAN(dp_buf_span(&b), "{\"a:\":[-1,\"x:\",\"\\\"\\\\\\n\\u0001\xef\xbf\xbd\xe2\x82\xac\",0.1,{}],\"b\":true}");
    struct dp_json *v;
    REQUIRE_OK(dp_json_parse(&v, dp_buf_span(&b), "t", &err));
    CHECK_INT(dp_json_int(dp_json_at(dp_json_get(v, "a:"), 0), 0), -1);
    CHECK(dp_json_real(dp_json_at(dp_json_get(v, "a:"), 3), 0) == 0.1);
    dp_json_free(v);
    dp_buf_release(&b);
}

TEST(json_has_no_nul_bytes)
{
    static const struct {
        const char *text;
        size_t len, at;
    } bad[] = {{"\0{\"a\":1}", 8, 0}, {"{\"a\"\0:1}", 8, 4}, {"{\"a\":1\0}", 8, 6}, {"[12\0,3]", 8, 3}, {"[true\0, null\0]", 14, 5}, {"[1.5\0]", 7, 4},
               {"{\"a\":1}\0", 8, 7}, {"{\"a\":\"b\0c\"}", 11, 7}, {"7\0", 2, 1}};
    struct dp_json *v;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char says[32];
        snprintf(says, sizeof says, "t: byte %zu is NUL", bad[i].at);
        if (dp_json_parse(&v, dp_span(bad[i].text, bad[i].len), "t", &err) != DP_CORRUPT || !strstr(err.msg, says)) DP_TEST_FAIL("%zu: %s", i, err.msg);
    }
    REQUIRE_OK(dp_json_parse(&v, dp_span_str("[\"a\\u0000b\"]"), "t", &err));
    CHECK(dp_span_eq(dp_json_str(dp_json_at(v, 0)), dp_span("a\0b", 3)));
    dp_json_free(v);
}

TEST(json_fields_of_a_line)
{
    struct dp_arena mem;
    dp_arena_init(&mem, 1 << 20);
    static const struct {
        const char *line, *text, *raw; /* text NULL: an error */
    } t[] = {
        {"{\"text\":\"abc\",\"n\":1}", "abc", "1"},
        {" { \"n\" : [1,{\"text\":\"no\"},\"]\"] , \"text\" : \"a\\nb\\u00e9\\ud83d\\ude00\" } ", "a\nb\xc3\xa9\xf0\x9f\x98\x80", "[1,{\"text\":\"no\"},\"]\"]"},
        {"{\"t\\u0065xt\":\"k\"}", "k", NULL},
        {"{\"text\":\"a\\ud800b\"}", "a\xef\xbf\xbd" "b", NULL},
        {"{\"text\":\"one\",\"text\":\"two\"}", "two", NULL},
        {"{}", "", NULL},
        {"{\"text\":\"abc\"", NULL, NULL},
        {"{\"text\":\"ab\tc\"}", NULL, NULL},
        {"{\"text\":\"a\"} x", NULL, NULL},
        {"{\"text\":01}", NULL, NULL},
        {"{\"text\":\"\\x\"}", NULL, NULL},
        {"{\"n\":[1,}", NULL, NULL},
        {"{\"n\":[1}]", NULL, NULL},
        {"[]", NULL, NULL},
        {"", NULL, NULL},
        {"{\"n\":{\"a\":[]},\"text\":\"12345678901234567890\\\"x\"}", "12345678901234567890\"x", "{\"a\":[]}"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct dp_json_field f[2] = {{.key = "text"}, {.key = "n"}};
        int rc = dp_json_fields(dp_span_str(t[i].line), f, 2, &mem, &err);
        CHECK_INT(rc, t[i].text ? DP_OK : DP_CORRUPT);
        if (rc == DP_OK && t[i].text) {
            CHECK_SPAN(f[0].str, t[i].text);
            CHECK_SPAN(f[1].raw, t[i].raw ? t[i].raw : "");
        }
    }
    char deep[2000];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "{\"n\":", 5);
    struct dp_json_field f[1] = {{.key = "n"}};
    CHECK_INT(dp_json_fields(dp_span(deep, sizeof deep), f, 1, &mem, &err), DP_CORRUPT);
    dp_arena_release(&mem);
}

struct sample {
    bool flag;
    int64_t n;
    uint64_t size;
    double real;
    char *text;
    int tie;
};
static const struct dp_opt rows[] = {
    {.name = "flag", .type = DP_OPT_BOOL, .offset = offsetof(struct sample, flag), .preset = "true"},
    {.name = "vocab_size", .type = DP_OPT_INT, .offset = offsetof(struct sample, n), .preset = "32000", .min = 1, .max = 1e6},
    {.name = "memory", .type = DP_OPT_SIZE, .offset = offsetof(struct sample, size), .preset = "64M", .flags = DP_OPT_NOKEY},
    {.name = "rate", .type = DP_OPT_REAL, .offset = offsetof(struct sample, real), .preset = "0.1"},
    {.name = "name", .type = DP_OPT_STRING, .offset = offsetof(struct sample, text)},
    {.name = "tie", .type = DP_OPT_CHOICE, .offset = offsetof(struct sample, tie), .preset = "bytes", .choices = "hf|bytes"},
    DP_OPT_END,
};
static const struct dp_opt later_rows[] = {
    {.name = "n", .type = DP_OPT_INT, .offset = offsetof(struct sample, n), .preset = "3"},
    {.name = "rate", .type = DP_OPT_REAL, .offset = offsetof(struct sample, real), .preset = "1e-1", .flags = DP_OPT_LATER},
    {.name = "name", .type = DP_OPT_STRING, .offset = offsetof(struct sample, text), .flags = DP_OPT_LATER},
    DP_OPT_END,
};

TEST(later_options_leave_keys_alone)
{
    struct sample s = {0};
    struct dp_buf b;
    dp_buf_init(&b, 4096);
    REQUIRE_OK(dp_opt_defaults(later_rows, &s, &err));
    dp_opt_canonical(later_rows, &s, &b);
    CHECK_SPAN(dp_buf_span(&b), "n=3\n");
    CHECK_OK(dp_opt_set(&later_rows[1], &s, dp_span_str("0.25"), "--rate", &err));
    CHECK_OK(dp_opt_set(&later_rows[2], &s, dp_span_str("x"), "--name", &err));
    dp_buf_clear(&b);
    dp_opt_canonical(later_rows, &s, &b);
    CHECK_SPAN(dp_buf_span(&b), "n=3\nrate=0.25\nname=x\n");
    dp_buf_release(&b);
    dp_opt_release(later_rows, &s);
}

TEST(options_from_one_table)
{
    struct sample s = {0};
    REQUIRE_OK(dp_opt_defaults(rows, &s, &err));
    CHECK(s.flag && s.n == 32000 && s.size == 64 << 20 && s.real == 0.1 && s.tie == 1);
    const struct dp_opt *r = dp_opt_find(rows, dp_span_str("vocab-size"));
    REQUIRE(r);
    CHECK_OK(dp_opt_set(r, &s, dp_span_str("8,192"), "--vocab-size", &err));
    CHECK_INT(s.n, 8192);
    CHECK_INT(dp_opt_set(r, &s, dp_span_str("0"), "--vocab-size", &err), DP_USAGE);
    CHECK_STR(err.msg, "--vocab-size: 0 is outside 1 to 1000000");
    CHECK_INT(dp_opt_set(&rows[5], &s, dp_span_str("x"), "--tie", &err), DP_USAGE);
    CHECK_OK(dp_opt_set(&rows[2], &s, dp_span_str("1.5GiB"), "--memory", &err));
    CHECK_INT(s.size, 1610612736);
    CHECK_INT(dp_opt_set(&rows[2], &s, dp_span_str("1.5X"), "--memory", &err), DP_USAGE);
    struct dp_buf b;
    dp_buf_init(&b, 4096);
    dp_opt_canonical(rows, &s, &b);
    CHECK_SPAN(dp_buf_span(&b), "flag=true\nvocab_size=8192\nrate=0.1\nname=\ntie=bytes\n");
    dp_buf_release(&b);
    dp_opt_release(rows, &s);
    static const char *const words[] = {"ingest", "inspect", "init", "train-bpe", "train"};
    CHECK_STR(dp_opt_nearest(dp_span_str("ingset"), words, 5), "ingest");
    CHECK_STR(dp_opt_nearest(dp_span_str("train_bp"), words, 5), "train-bpe");
    CHECK(dp_opt_nearest(dp_span_str("xylophone"), words, 5) == NULL);
}

static _Atomic int seen[1000];
static void mark(void *ctx, size_t i, int worker)
{
    (void)ctx;
    (void)worker;
    seen[i]++;
}

TEST(pool_runs_each_index_once)
{
    struct dp_pool *p;
    REQUIRE_OK(dp_pool_open(&p, 4, &err));
    for (int round = 0; round < 50; round++) dp_pool_run(p, 1000, mark, NULL);
    for (int i = 0; i < 1000; i++) CHECK_INT(seen[i], 50);
    dp_pool_keep_near(p);
    for (int round = 0; round < 50; round++) dp_pool_run(p, 1 + (size_t)round * 20, mark, NULL);
    for (int i = 0; i < 1000; i++) CHECK_INT(seen[i], 100 - (i + 19) / 20);
    dp_pool_close(p);
}

static void *pusher(void *v)
{
    for (intptr_t i = 1; i <= 10000; i++)
        if (!dp_queue_push(v, (void *)i)) break;
    dp_queue_close(v);
    return NULL;
}

static void fail_some(void *ctx, size_t i, int worker)
{
    struct dp_err own = {0};
    (void)worker;
    int rc = i % 3 ? DP_OK : dp_err_set(&own, i % 2 ? DP_CORRUPT : DP_LIMIT, 0, __FILE__, __LINE__, "task %zu", i);
    dp_failure_note(ctx, rc, &own);
}

TEST(first_failure_of_tasks)
{
    struct dp_failure f = DP_FAILURE_NONE;
    struct dp_err later = {0};
    struct dp_pool *p;
    size_t i = 1;
    CHECK_OK(dp_failure_get(&f, &err));
    REQUIRE_OK(dp_pool_open(&p, 4, &err));
    dp_pool_run(p, 300, fail_some, &f);
    dp_pool_close(p);
    int rc = dp_failure_get(&f, &err);
    CHECK(sscanf(err.msg, "task %zu", &i) == 1 && i % 3 == 0 && rc == (i % 2 ? DP_CORRUPT : DP_LIMIT) && rc == err.code); /* all of one task */
    CHECK_INT(dp_failure_note(&f, dp_err_set(&later, DP_IO, 0, __FILE__, __LINE__, "later"), &later), DP_IO);
    CHECK_INT(dp_failure_get(&f, NULL), rc);
}

TEST(queue_is_fifo_and_bounded)
{
    struct dp_queue q;
    REQUIRE_OK(dp_queue_init(&q, 3, &err));
    pthread_t t;
    REQUIRE(pthread_create(&t, NULL, pusher, &q) == 0);
    intptr_t want = 1;
    for (void *p; (p = dp_queue_pop(&q)); want++) CHECK_INT((intptr_t)p, want);
    CHECK_INT(want, 10001);
    pthread_join(t, NULL);
    CHECK(!dp_queue_push(&q, &q));
    dp_queue_release(&q);
}

TEST(files_publish_and_read_back)
{
    char *dir = dp_test_tmpdir(), *a = dp_fs_join(dir, "x/y/z"), *f = dp_fs_join(a, "f");
    REQUIRE_OK(dp_fs_mkdirs(a, &err));
    REQUIRE_OK(dp_fs_write_atomic(f, dp_span_str("hello"), &err));
    struct dp_buf b;
    dp_buf_init(&b, 5);
    REQUIRE_OK(dp_fs_read(f, &b, &err));
    CHECK_SPAN(dp_buf_span(&b), "hello");
    dp_buf_release(&b);
    dp_buf_init(&b, 4);
    CHECK_INT(dp_fs_read(f, &b, &err), DP_LIMIT);
    dp_buf_release(&b);
    CHECK_INT(dp_fs_read("/nonexistent/file", &b, &err), DP_NOTFOUND);
    struct dp_out *o;
    char *g = dp_fs_join(a, "g"), hex[65];
    REQUIRE_OK(dp_out_open(&o, g, true, &err));
    for (int i = 0; i < 1000000; i++) CHECK_OK(dp_out_add(o, "a", 1, &err));
    REQUIRE_OK(dp_out_finish(o, hex, &err));
    dp_out_close(o);
    CHECK_STR(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"); /* FIPS 180 example */
    CHECK_INT(dp_out_open(&o, g, true, &err), DP_IO);
    struct dp_map m;
    REQUIRE_OK(dp_map_open(&m, g, &err));
    CHECK_INT(m.len, 1000000);
    dp_map_close(&m);
    free(a), free(f), free(g);
}

TEST(cpu_can_only_go_down)
{
    enum dp_cpu_level was = dp_cpu();
    CHECK_OK(dp_cpu_force("scalar", &err));
    CHECK_INT(dp_crc32c(0, "123456789", 9), 0xE3069283);
    CHECK_INT(dp_cpu_force("mmx", &err), DP_CONFIG);
    CHECK_OK(dp_cpu_force(dp_cpu_name(was), &err));
}

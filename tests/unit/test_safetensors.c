/* The safetensors reader on hand-made files, good and bad, and the writer's bytes. */
#include "base/buf.h"
#include "base/fs.h"
#include "tests/test.h"
#include "trainer/safetensors.h"

#include <unistd.h>

/* Header text and the number of data bytes -> a parsed file or an error. */
static char *exact; /* freed by done() */

static void done(struct dp_safetensors *s)
{
    dp_safetensors_close(s);
    free(exact);
    exact = NULL;
}

static int parse(struct dp_safetensors **s, const char *header, size_t data, struct dp_err *err)
{
    static char file[1 << 16];
    size_t n = strlen(header);
    memset(file, 0, sizeof file);
    for (int i = 0; i < 8; i++) file[i] = (char)(n >> (8 * i));
    memcpy(file + 8, header, n);
    for (size_t i = 0; i < data; i++) file[8 + n + i] = (char)i;
    /* An exact copy, so that a sanitizer sees the first byte read past the end. */
    exact = malloc(8 + n + data);
    memcpy(exact, file, 8 + n + data);
    int rc = dp_safetensors_parse(s, dp_span(exact, 8 + n + data), "test", err);
    if (rc < 0) {
        free(exact);
        exact = NULL;
    }
    return rc;
}

TEST(good_headers)
{
    struct dp_err err = {0};
    struct dp_safetensors *s;
    REQUIRE_OK(parse(&s,
                     "{\"__metadata__\":{\"k\":\"v\"},\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],"
                     "\"data_offsets\":[4,12]},"
                     "\"a\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]},\"z\":{"
                     "\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[4,4]}}  ",
                     12, &err));
    CHECK_INT(dp_safetensors_count(s), 3);
    CHECK_SPAN(dp_safetensors_meta(s, "k"), "v");
    CHECK(!dp_safetensors_meta(s, "q").ptr);
    const struct dp_safetensor *a = dp_safetensors_find(s, "a"), *b = dp_safetensors_find(s, "b"),
                               *z = dp_safetensors_find(s, "z");
    REQUIRE(a && b && z);
    CHECK(!dp_safetensors_find(s, "c"));
    CHECK_STR(a->dtype, "I32");
    CHECK_INT(a->dims, 0);
    CHECK_INT(a->elements, 1);
    CHECK_INT(b->elements, 2);
    CHECK_INT(b->data[0], 4);
    CHECK_INT(z->elements, 0);
    CHECK(dp_safetensors_at(s, 0) == a);
    done(s);
    REQUIRE_OK(parse(&s, "{}", 0, &err));
    CHECK_INT(dp_safetensors_count(s), 0);
    done(s);
}

TEST(bad_headers)
{
    static const struct {
        const char *header;
        size_t data;
        const char *says;
    } cases[] = {
        {"[]", 0, "no JSON object"},
        {"{", 0, ""},
        {"{}x", 0, ""},
        {"{\"a\":1}", 0, "dtype"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "no string"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
         "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "cut off"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "cut off"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "cut off"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "needs 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "end at 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "begins at 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\","
         "\"shape\":[2],\"data_offsets\":[4,12]}}",
         12, "begins at 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\","
         "\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_err err = {0};
        struct dp_safetensors *s;
        int rc = parse(&s, cases[i].header, cases[i].data, &err);
        if (rc != DP_CORRUPT || !strstr(err.msg, cases[i].says))
            DP_TEST_FAIL("case %zu: %d \"%s\"", i, rc, err.msg);
        if (rc >= 0) done(s);
    }
}

TEST(bad_lengths)
{
    static const char *const files[] = {"", "1234567", "\3\0\0\0\0\0\0\0{}",
                                        "\377\377\377\377\377\377\377\377{}", "\0\0\0\0\0\0\0\0{}"};
    static const size_t sizes[] = {0, 7, 10, 10, 10};
    for (size_t i = 0; i < 5; i++) {
        struct dp_err err = {0};
        struct dp_safetensors *s;
        CHECK_INT(dp_safetensors_parse(&s, dp_span(files[i], sizes[i]), "test", &err), DP_CORRUPT);
    }
}

TEST(writes_what_it_reads)
{
    struct dp_err err = {0};
    char *dir = dp_test_tmpdir(), *path = dp_fs_join(dir, "a.safetensors");
    const float f[6] = {1, -2, 3, 4, 5, (float)NAN};
    const int32_t k[1] = {-7};
    struct dp_safetensors_item items[] = {
        {"w\"\n", "F32", 2, {2, 3}, f}, {"b", "I32", 0, {0}, k}, {"none", "F32", 1, {0}, f}};
    struct dp_safetensors_kv meta[] = {{"z", "1"}, {"a", "\xc3\xa9"}};
    REQUIRE_OK(dp_safetensors_write(path, items, 3, meta, 2, &err));
    struct dp_buf bytes;
    dp_buf_init(&bytes, 1 << 16);
    REQUIRE_OK(dp_fs_read(path, &bytes, &err));
    CHECK(memcmp(bytes.ptr + 8, "{\"__metadata__\":{\"z\":\"1\",\"a\":", 28) == 0);
    CHECK_INT((bytes.len - 28) % 64, 0);
    struct dp_safetensors *s;
    REQUIRE_OK(dp_safetensors_open(&s, path, &err));
    const struct dp_safetensor *w = dp_safetensors_find(s, "w\"\n"),
                               *b = dp_safetensors_find(s, "b");
    REQUIRE(w && b);
    CHECK(memcmp(w->data, f, sizeof f) == 0);
    CHECK(memcmp(b->data, k, sizeof k) == 0);
    CHECK_INT(w->shape[1], 3);
    CHECK_SPAN(dp_safetensors_meta(s, "a"), "\xc3\xa9");
    done(s);
    CHECK(dp_safetensors_write(path, items, 3, meta, 2, &err) < 0); /* it never overwrites */
    dp_buf_release(&bytes);
    free(path);
}

TEST(missing_file)
{
    struct dp_err err = {0};
    struct dp_safetensors *s;
    CHECK(dp_safetensors_open(&s, "/nonexistent/x.safetensors", &err) < 0);
    CHECK(strstr(err.msg, "/nonexistent/x.safetensors") != NULL);
}

TEST(written_piece_by_piece)
{
    struct dp_err err = {0};
    struct dp_safetensors_writer *w;
    struct dp_safetensors *s;
    static const struct dp_safetensors_item items[] = {{"a", "I16", 1, {3}, NULL}, {"empty", "F32", 2, {0, 4}, NULL}, {"b", "U8", 0, {0}, NULL}};
    char *path = dp_fs_join(dp_test_tmpdir(), "x");
    REQUIRE_OK(dp_safetensors_create(&w, path, items, 3, NULL, 0, &err));
    CHECK_OK(dp_safetensors_add(w, "\1\0\2", 3, &err));
    dp_safetensors_writer_close(w); /* not finished: nothing stays */
    CHECK(!dp_fs_exists(path));
    REQUIRE_OK(dp_safetensors_create(&w, path, items, 3, NULL, 0, &err));
    CHECK_OK(dp_safetensors_add(w, "\1\0\2", 3, &err));
    CHECK_OK(dp_safetensors_add(w, "\0\3\0\7", 4, &err));
    CHECK_OK(dp_safetensors_finish(w, &err));
    dp_safetensors_writer_close(w);
    REQUIRE_OK(dp_safetensors_open(&s, path, &err));
    CHECK_INT(dp_safetensors_count(s), 3);
    CHECK(memcmp(dp_safetensors_data(s).ptr, "\1\0\2\0\3\0\7", 7) == 0);
    dp_safetensors_close(s);
    struct dp_safetensors_writer *again;
    CHECK(dp_safetensors_create(&again, path, items, 3, NULL, 0, &err) < 0); /* never over another */
    CHECK(dp_fs_exists(path));
    free(path);
}

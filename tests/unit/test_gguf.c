/* GGUF's tokenizer fields: written and read again, what llama.cpp's names say, what is refused. tests/parity/tokenizer_convert.py has the reference readers. */
#include "tests/unit/tokenizer_data.h"

#include "base/fs.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

static struct dp_buf save(const struct dp_tokenizer *t)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 24);
    CHECK_OK(dp_tokenizer_save_gguf(t, &b, &err));
    return b;
}

static void same_ids_of_corpus(const struct dp_tokenizer *t, const struct dp_tokenizer *u)
{
    struct dp_buf text = read_data("corpus.txt");
    dp_buf_add_str(&text, "x<|endoftext|>y");
    same_ids(t, u, dp_buf_span(&text), DP_SPECIAL_ALL);
    dp_buf_release(&text);
}

TEST(byte_level_round_trip)
{
    static const struct {
        const char *file, *split, *pre;
    } cases[] = {{"hf.json", NULL, "gpt-2"}, {"hf.json", "cl100k", "dbrx"}, {"rust.tiktoken", "cl100k", "llama-bpe"}, {"rust.tiktoken", "o200k", "gpt-4o"},
                 {"hf.json", "qwen2", "qwen2"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_tokenizer *t = load_data(cases[i].file, cases[i].split), *u;
        REQUIRE(t != NULL);
        struct dp_buf b = save(t), again;
        CHECK(memmem(b.ptr, b.len, cases[i].pre, strlen(cases[i].pre)) != NULL);
        CHECK_INT(b.len % 32, 0);
        REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&b), "saved.gguf", NULL, &err));
        CHECK_INT(dp_tokenizer_split(u), dp_tokenizer_split(t));
        CHECK_INT(dp_tokenizer_eot(u), dp_tokenizer_eot(t));
        CHECK_INT(dp_tokenizer_tokens(u), dp_tokenizer_tokens(t));
        same_ids_of_corpus(t, u);
        again = save(u);
        CHECK(dp_span_eq(dp_buf_span(&b), dp_buf_span(&again)));
        dp_tokenizer_free(t);
        dp_tokenizer_free(u);
        dp_buf_release(&b);
        dp_buf_release(&again);
    }
}

TEST(sentencepiece_round_trip)
{
    static const char *const files[] = {"sp_bytes.model", "sp_rules.model", "sp_unused.model"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct dp_tokenizer *t = load_data(files[i], NULL), *u, *none;
        REQUIRE(t != NULL);
        struct dp_buf b = save(t);
        REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&b), "saved.gguf", NULL, &err));
        CHECK(dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
        CHECK_INT(dp_tokenizer_load(&none, dp_buf_span(&b), "saved.gguf", "gpt2", &err), DP_CONFIG);
        dp_tokenizer_free(t);
        dp_tokenizer_free(u);
        dp_buf_release(&b);
    }
}

/* A gap in the ids is a filler there, and a gap again. */
TEST(gaps_and_what_has_no_name)
{
    struct dp_tokenizer *t, *u;
    struct dp_buf file, b;
    dp_buf_init(&file, 1 << 20);
    CHECK_OK(dp_fs_read("tests/data/tokenizer/hf.json", &file, &err));
    char *added = strstr(file.ptr, "\"added_tokens\":[{");
    REQUIRE(added != NULL);
    struct dp_buf more;
    dp_buf_init(&more, 1 << 20);
    added += strlen("\"added_tokens\":[");
    dp_buf_add(&more, file.ptr, (size_t)(added - file.ptr));
    dp_buf_add_str(&more, "{\"id\":3000,\"content\":\"<far>\",\"special\":true},");
    dp_buf_add_str(&more, added);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&more), "gap.json", NULL, &err));
    b = save(t);
    CHECK(memmem(b.ptr, b.len, "[PAD2999]", 9) != NULL);
    REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&b), "gap.gguf", NULL, &err));
    CHECK_INT(dp_tokenizer_tokens(u), dp_tokenizer_tokens(t));
    CHECK_INT(dp_tokenizer_special(u, dp_span_str("<far>")), 3000);
    CHECK(dp_tokenizer_bytes(u, 2999).ptr == NULL);
    dp_tokenizer_free(t);
    dp_tokenizer_free(u);
    dp_buf_clear(&b);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "t.json", "regex:[a-z]+|[^a-z]+", &err));
    CHECK_INT(dp_tokenizer_save_gguf(t, &b, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "llama.cpp") != NULL);
    dp_tokenizer_free(t);
    dp_buf_clear(&more);
    dp_buf_add(&more, file.ptr, (size_t)(added - file.ptr));
    dp_buf_add_str(&more, "{\"id\":3000,\"content\":\"<far>\",\"lstrip\":true},");
    dp_buf_add_str(&more, added);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&more), "t.json", NULL, &err));
    CHECK_INT(dp_tokenizer_save_gguf(t, &b, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "lstrip") != NULL);
    dp_tokenizer_free(t);
    dp_buf_release(&file);
    dp_buf_release(&more);
    dp_buf_release(&b);
}

static void replace(struct dp_buf *b, const char *from, const char *to)
{
    char *at = memmem(b->ptr, b->len, from, strlen(from));
    REQUIRE(at != NULL && strlen(from) == strlen(to));
    memcpy(at, to, strlen(to));
}

static int load_changed(const struct dp_buf *good, const char *from, const char *to)
{
    struct dp_buf b;
    struct dp_tokenizer *t = NULL;
    dp_buf_init(&b, 1 << 24);
    dp_buf_add_span(&b, dp_buf_span(good));
    replace(&b, from, to);
    int rc = dp_tokenizer_load(&t, dp_buf_span(&b), "bad.gguf", NULL, &err);
    dp_tokenizer_free(t);
    dp_buf_release(&b);
    return rc;
}

TEST(bad_gguf)
{
    struct dp_tokenizer *t = load_data("hf.json", NULL), *u;
    REQUIRE(t != NULL);
    struct dp_buf b = save(t);
    for (size_t n = 4; n < b.len - 64; n += 97) {
        int rc = dp_tokenizer_load(&u, dp_span(b.ptr, n), "cut.gguf", NULL, &err);
        if (rc != DP_CORRUPT) DP_TEST_FAIL("%zu bytes give %d", n, rc);
    }
    CHECK_INT(load_changed(&b, "GGUF\3", "GGUF\1"), DP_CONFIG);
    CHECK(strstr(err.msg, "version 1") != NULL);
    CHECK_INT(load_changed(&b, "gpt-2", "gpt-x"), DP_CONFIG);
    CHECK(strstr(err.msg, "gpt-x") != NULL);
    CHECK_INT(load_changed(&b, "ggml.merges", "ggml.nosuch"), DP_CORRUPT);
    CHECK(strstr(err.msg, "merges") != NULL);
    CHECK_INT(load_changed(&b, "ggml.tokens", "ggml.tokenz"), DP_CONFIG);
    CHECK_INT(load_changed(&b, "e r", "e\x7fr"), DP_CORRUPT);
    CHECK(strstr(err.msg, "merge 0") != NULL);
    dp_tokenizer_free(t);
    dp_buf_release(&b);
}

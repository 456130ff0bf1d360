/* Files: round trips between the formats, both merge notations, overrides, and what is refused. */
#include "tests/unit/tokenizer_data.h"

#include "base/fs.h"
#include "base/json.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_int.h"

TEST(byte_level_characters)
{
    uint8_t seen[256] = {0};
    for (unsigned b = 0; b < 256; b++) CHECK_INT(dp_byte_level_byte(dp_byte_level_char(b)), b);
    for (unsigned i = 0; i < 256; i++) {
        seen[dp_byte_level_order(i)]++;
        if (i) CHECK(dp_byte_level_char(dp_byte_level_order(i - 1)) < dp_byte_level_char(dp_byte_level_order(i)));
    }
    for (int b = 0; b < 256; b++) CHECK_INT(seen[b], 1);
    CHECK_INT(dp_byte_level_char(' '), 0x120);
    CHECK_INT(dp_byte_level_char(0xAD), 0x143);
    CHECK_INT(dp_byte_level_byte(0x144), -1);
}

/* The pre-tokenizers of published files: which split they are, and that what is saved is the same again. */
TEST(published_pre_tokenizers)
{
#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define SEQUENCE(list) "{\"type\":\"Sequence\",\"pretokenizers\":[" list ",{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true}"
#define CL_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
#define CL_TAIL "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define DEEPSEEK(digits) SPLIT("\\\\p{N}{1,3}") "," SPLIT("[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+") "," \
    SPLIT("[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\r\\n]*|\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+") digits
    static const struct {
        const char *pre, *split, *steps;
    } cases[] = {
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}", "gpt2", NULL},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]}", "gpt2", NULL},
        {SEQUENCE(SPLIT(CL_HEAD "\\\\p{L}+|\\\\p{N}" CL_TAIL)), "qwen2", NULL},
        {SEQUENCE(SPLIT(CL_HEAD "\\\\p{L}+|\\\\p{N}{1,3}" CL_TAIL)), "cl100k", NULL},
        {SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" CL_HEAD "\\\\p{L}+|\\\\p{N}{1,3}" CL_TAIL "\"},\"behavior\":\"Removed\",\"invert\":true}"), "cl100k", NULL},
        {SEQUENCE(DEEPSEEK("")), "deepseek-v3", NULL},
        {SEQUENCE(DEEPSEEK("," DIGITS)), "custom", "split deepseek-v3\ndigits 1"},
        {SEQUENCE(SPLIT("\\\\p{N}{1,3}") "," SPLIT(CL_HEAD "\\\\p{L}+|\\\\p{N}+" CL_TAIL)), "custom", "digits 3\nsplit cl100k"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[" DIGITS ",{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]}", "custom", "digits 1\nsplit gpt2"},
        {SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\n+\"},\"behavior\":\"MergedWithNext\",\"invert\":false}," DIGITS), "custom", "joined to what is behind, regex \\n+\ndigits 1"},
        {SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"String\":\"a\\\\\"},\"behavior\":\"Isolated\",\"invert\":false}"), "custom", "literal a\\\\"},
        {SEQUENCE(SPLIT(" ?[^(\\\\s|[.,!?])]+")), "custom", "regex  ?[^(\\s|[.,!?])]+"},
    };
    struct dp_buf whole = read_data("hf.json"), file, out;
    dp_buf_init(&file, 1 << 20);
    dp_buf_init(&out, 1 << 20);
    const char *at = strstr(whole.ptr, "\"pre_tokenizer\":") + strlen("\"pre_tokenizer\":"), *end = strchr(at, '}') + 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_tokenizer *t, *u;
        dp_buf_clear(&file);
        dp_buf_clear(&out);
        dp_buf_add(&file, whole.ptr, (size_t)(at - whole.ptr));
        dp_buf_add_str(&file, cases[i].pre);
        dp_buf_add_str(&file, end);
        REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "published", NULL, &err));
        CHECK_STR(dp_split_name(dp_tokenizer_split(t)), cases[i].split);
        struct dp_span steps = dp_splitter_text(dp_tokenizer_splitter(t), dp_tokenizer_split(t));
        if (!dp_span_is(steps, cases[i].steps ? cases[i].steps : cases[i].split)) DP_TEST_FAIL("case %zu is %.*s", i, DP_SPAN_FMT(steps));
        CHECK_OK(dp_tokenizer_save_hf(t, &out, &err));
        REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&out), "saved", NULL, &err));
        CHECK(dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
        dp_tokenizer_free(t);
        dp_tokenizer_free(u);
    }
    dp_buf_release(&whole);
    dp_buf_release(&file);
    dp_buf_release(&out);
}

TEST(tokenizer_json_round_trip)
{
    struct dp_buf file = read_data("hf.json"), out, again;
    struct dp_tokenizer *t, *u;
    dp_buf_init(&out, 1 << 24);
    dp_buf_init(&again, 1 << 24);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "hf.json", NULL, &err));
    CHECK_INT(dp_tokenizer_split(t), DP_SPLIT_GPT2);
    CHECK_INT(dp_tokenizer_eot(t), 0);
    CHECK_INT(dp_tokenizer_size(t), dp_tokenizer_tokens(t));
    CHECK_OK(dp_tokenizer_save_hf(t, &out, &err));
    REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&out), "saved", NULL, &err));
    CHECK(dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
    CHECK_OK(dp_tokenizer_save_hf(u, &again, &err));
    CHECK(dp_span_eq(dp_buf_span(&out), dp_buf_span(&again)));
    dp_tokenizer_free(u);
    REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&file), "hf.json", "o200k", &err));
    CHECK_INT(dp_tokenizer_split(u), DP_SPLIT_O200K);
    CHECK(!dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
    dp_tokenizer_free(u);
    dp_tokenizer_free(t);
    dp_buf_release(&file);
    dp_buf_release(&out);
    dp_buf_release(&again);
}

TEST(tiktoken_round_trip_and_conversion)
{
    struct dp_buf file = read_data("rust.tiktoken"), text = read_data("corpus.txt"), out;
    struct dp_tokenizer *t, *u;
    dp_buf_init(&out, 1 << 24);
    CHECK_INT(dp_tokenizer_load(&t, dp_buf_span(&file), "x.tiktoken", NULL, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "pre-tokenizer") != NULL);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "x.tiktoken", "cl100k", &err));
    CHECK(dp_tokenizer_ignore_merges(t));
    CHECK_OK(dp_tokenizer_save_tiktoken(t, &out, &err));
    CHECK(dp_span_eq(dp_buf_span(&out), dp_buf_span(&file)));
    dp_buf_clear(&out);
    CHECK_OK(dp_tokenizer_save_hf(t, &out, &err));
    REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&out), "converted", NULL, &err));
    CHECK_INT(dp_tokenizer_merges(u), dp_tokenizer_size(t) - 256);
    same_ids(t, u, dp_buf_span(&text), DP_SPECIAL_NONE);
    dp_tokenizer_free(t);
    dp_tokenizer_free(u);
    dp_buf_release(&file);
    dp_buf_release(&text);
    dp_buf_release(&out);
}

/* The old notation "a b" gives the same tokenizer as ["a","b"]; made by rewriting the file's merges. */
TEST(both_merge_notations)
{
    struct dp_buf file = read_data("hf.json"), old;
    struct dp_tokenizer *t, *u;
    dp_buf_init(&old, 1 << 24);
    const char *from = strstr(file.ptr, "\"merges\":[[");
    REQUIRE(from != NULL);
    from += strlen("\"merges\":[");
    dp_buf_add(&old, file.ptr, (size_t)(from - file.ptr));
    for (const char *p = from; *p; p++) { /* ["x","y"] -> "x y"; a comma or bracket token stands in quotes, so the marks are whole */
        if (*p == '[' && p[1] == '"') continue;
        if (strncmp(p, "\",\"", 3) == 0 && p[-1] != '[') {
            dp_buf_add_char(&old, ' ');
            p += 2;
        } else if (*p == ']' && p[-1] == '"' && (p[1] == ',' || p[1] == ']')) continue;
        else dp_buf_add_char(&old, *p);
    }
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "new", NULL, &err));
    REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&old), "old", NULL, &err));
    CHECK(dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
    dp_tokenizer_free(t);
    dp_tokenizer_free(u);
    dp_buf_release(&file);
    dp_buf_release(&old);
}

TEST(vocab_and_merges_files)
{
    struct dp_buf file = read_data("hf.json"), out;
    struct dp_tokenizer *t;
    dp_buf_init(&out, 1 << 24);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "hf.json", NULL, &err));
    CHECK_OK(dp_tokenizer_save_vocab(t, &out, &err));
    CHECK(strncmp(out.ptr, "{\"<|endoftext|>\":0,\"!\":1,", 25) == 0);
    dp_buf_clear(&out);
    CHECK_OK(dp_tokenizer_save_merges(t, &out, &err));
    CHECK(strncmp(out.ptr, "#version: 0.2\n", 14) == 0);
    size_t lines = 0;
    for (size_t i = 0; i < out.len; i++) lines += out.ptr[i] == '\n';
    CHECK_INT(lines, 1 + dp_tokenizer_merges(t));
    /* ids begin with a special token, but merges and ids rise together: ranks can hold it */
    dp_buf_clear(&out);
    CHECK_OK(dp_tokenizer_save_tiktoken(t, &out, &err));
    dp_tokenizer_free(t);
    dp_buf_release(&file);
    dp_buf_release(&out);
}

/* All bytes, then `more`, in the notation of the file. */
static void alphabet(struct dp_buf *b, const char *more)
{
    dp_buf_add_str(b, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (unsigned i = 0; i < 256; i++) {
        uint32_t c = dp_byte_level_char(i);
        dp_buf_printf(b, "\"\\u%04x\":%u,", c, i);
    }
    dp_buf_add_str(b, more);
}

TEST(bad_tokenizer_json)
{
#define PRE "},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"
    static const struct {
        const char *more;
        int rc;
        const char *says;
    } cases[] = {
        {"\"ab\":256},\"merges\":[\"a b\"]" PRE "}", DP_OK, ""},
        {"\"ab\":256},\"merges\":[\"a c\"]" PRE "}", DP_CORRUPT, "merge 0"},
        {"\"ab\":256},\"merges\":[\"a b\",[\"a\",\"b\"]]" PRE "}", DP_CORRUPT, "merge 1"},
        {"\"ab\":256},\"merges\":[[\"a\"]]" PRE "}", DP_CORRUPT, "merge 0"},
        {"\"ab\":256},\"merges\":[\"ab\"]" PRE "}", DP_CORRUPT, "merge 0"},
        {"\"ab\":256},\"merges\":[\" b\"]" PRE "}", DP_CORRUPT, "merge 0"},
        {"\"ab\":256},\"merges\":[7]" PRE "}", DP_CORRUPT, "merge 0"},
        {"\"ab\":255},\"merges\":[]" PRE "}", DP_CORRUPT, "255"},
        {"\"ab\":2097152},\"merges\":[]" PRE "}", DP_CORRUPT, "2097151"},
        {"\"ab\":-1},\"merges\":[]" PRE "}", DP_CORRUPT, "id of 'ab'"},
        {"\"ab\":\"x\"},\"merges\":[]" PRE "}", DP_CORRUPT, "id of 'ab'"},
        {"\"a b\":256},\"merges\":[]" PRE "}", DP_CORRUPT, "byte-level"},
        {"\"\xE4\xB8\xAD\":256},\"merges\":[]" PRE "}", DP_CORRUPT, "byte-level"},
        {"\"ab\":256},\"merges\":[]" PRE ",\"normalizer\":{\"type\":\"NFKC\"}}", DP_CONFIG, "NFKC"},
        {"\"ab\":256},\"merges\":[]" PRE ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[null,{\"type\":\"NFC\"}]}}", DP_OK, ""},
        {"\"ab\":256},\"merges\":[],\"dropout\":0.1" PRE "}", DP_CONFIG, "dropout"},
        {"\"ab\":256},\"merges\":[],\"byte_fallback\":true" PRE "}", DP_CONFIG, "byte_fallback"},
        {"\"ab\":256},\"merges\":[]},\"pre_tokenizer\":null}", DP_CONFIG, "pre_tokenizer"},
        {"\"ab\":256},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}}", DP_CONFIG, "add_prefix_space"},
        {"\"ab\":256},\"merges\":[]" PRE ",\"added_tokens\":[{\"id\":3000000,\"content\":\"x\"}]}", DP_CORRUPT, "added token 0"},
        {"\"ab\":256},\"merges\":[]" PRE ",\"added_tokens\":[{\"id\":300,\"content\":\"x\"},{\"id\":301,\"content\":\"x\"}]}", DP_CORRUPT,
         "two ids"},
        {"\"ab\":256},\"merges\":[]" PRE ",\"added_tokens\":[{\"id\":97,\"content\":\"a\"}]}", DP_OK, ""},
        {"\"ab\":256},\"merges\":[]" PRE ",\"added_tokens\":[{\"id\":97,\"content\":\"q\"}]}", DP_CORRUPT, "97"},
        {"\"ab\":256},\"merges\":[]" PRE ",\"added_tokens\":[{\"id\":257,\"content\":\"q\"}]}", DP_CORRUPT, "two ids"},
        {"\"ab\":256},\"merges\":[", DP_CORRUPT, "JSON"},
    };
#undef PRE
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_buf b;
        struct dp_tokenizer *t = NULL;
        dp_buf_init(&b, 1 << 20);
        alphabet(&b, cases[i].more);
        int rc = dp_tokenizer_load(&t, dp_buf_span(&b), "bad.json", NULL, &err);
        if (rc != cases[i].rc) DP_TEST_FAIL("case %zu gives %d: %s", i, rc, rc < 0 ? err.msg : "");
        if (rc < 0 && !strstr(err.msg, cases[i].says)) DP_TEST_FAIL("case %zu says: %s", i, err.msg);
        if (rc < 0) CHECK(strstr(err.msg, "bad.json") != NULL && t == NULL);
        dp_tokenizer_free(t);
        dp_buf_release(&b);
    }
    struct dp_tokenizer *t;
    CHECK_INT(dp_tokenizer_load(&t, dp_span_str("{}"), "e", NULL, &err), DP_CORRUPT);
    CHECK_INT(dp_tokenizer_load(&t, dp_span_str(" \n"), "e", NULL, &err), DP_CORRUPT);
    CHECK_INT(dp_tokenizer_load(&t, dp_span("{\"model\":{\"a\":1\0}}", 18), "e", NULL, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "e: byte 15 is NUL") != NULL);
    CHECK_INT(dp_tokenizer_load(&t, dp_span(NULL, 0), "e", NULL, &err), DP_CORRUPT);
    CHECK_INT(dp_tokenizer_load(&t, dp_span_str("{\"model\":{\"type\":\"Unigram\"}}"), "e", NULL, &err), DP_CONFIG);
}

TEST(bad_tiktoken)
{
    struct dp_buf good = read_data("rust.tiktoken");
    static const struct {
        const char *more;
        int rc;
        const char *says;
    } cases[] = {
        {"", DP_OK, ""},
        {"\r\n\n", DP_OK, ""},
        {"enp6eno= 9000", DP_OK, ""}, /* a gap, no line end */
        {"enp6eno=", DP_CORRUPT, "isn't 'base64 rank'"},
        {"enp6eno= ", DP_CORRUPT, "no rank"},
        {"enp6eno= 12x\n", DP_CORRUPT, "no number"},
        {"enp6eno= -1\n", DP_CORRUPT, "no number"},
        {"enp6eno= 99999999999999999999\n", DP_CORRUPT, "no rank"},
        {"enp6eno= 2097152\n", DP_CORRUPT, "2097151"},
        {"enp6en* 9000\n", DP_CORRUPT, "base64"},
        {"en=6 9000\n", DP_CORRUPT, "base64"},
        {"==== 9000\n", DP_CORRUPT, "base64"},
        {" 9000\n", DP_CORRUPT, "base64"},
        {"enp6eno= 5\n", DP_CORRUPT, "rank 5 again"},
        {"AA== 9000\n", DP_CORRUPT, "same bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dp_buf b;
        struct dp_tokenizer *t = NULL;
        dp_buf_init(&b, 1 << 20);
        dp_buf_add_span(&b, dp_buf_span(&good));
        dp_buf_add_str(&b, cases[i].more);
        int rc = dp_tokenizer_load(&t, dp_buf_span(&b), "bad.tiktoken", "gpt2", &err);
        if (rc != cases[i].rc) DP_TEST_FAIL("case %zu gives %d: %s", i, rc, rc < 0 ? err.msg : "");
        if (rc < 0 && i != 8 && !strstr(err.msg, cases[i].says)) DP_TEST_FAIL("case %zu says: %s", i, err.msg);
        dp_tokenizer_free(t);
        dp_buf_release(&b);
    }
    struct dp_tokenizer *t;
    CHECK_INT(dp_tokenizer_load(&t, dp_span_str("YQ== 0\n"), "few", "gpt2", &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "256") != NULL);
    CHECK_INT(dp_tokenizer_load(&t, dp_buf_span(&good), "x", "nosuch", &err), DP_CONFIG);
    dp_buf_release(&good);
}

/* What ranks can't say must not be written as ranks. */
TEST(tiktoken_refuses_other_orders)
{
    struct dp_buf b, out;
    struct dp_tokenizer *t;
    dp_buf_init(&b, 1 << 20);
    dp_buf_init(&out, 1 << 20);
    alphabet(&b,
             "\"ab\":257,\"bc\":256},\"merges\":[\"a b\",\"b c\"]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}");
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&b), "t", NULL, &err));
    CHECK_INT(dp_tokenizer_save_tiktoken(t, &out, &err), DP_CONFIG);
    dp_tokenizer_free(t);
    dp_buf_clear(&b);
    alphabet(&b, "\"ab\":256,\"bc\":257},\"merges\":[\"a b\"]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}");
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&b), "t", NULL, &err));
    CHECK_INT(dp_tokenizer_save_tiktoken(t, &out, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "257") != NULL);
    /* an unreachable token is not found by looking the word up, unless the file says so */
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    CHECK_OK(dp_encode(c, dp_span_str("bc"), &ids, &err));
    CHECK_INT(ids.len, 2);
    dp_ids_release(&ids);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
    dp_buf_release(&b);
    dp_buf_release(&out);
}

TEST(special_tokens_with_conditions)
{
    struct dp_buf b;
    struct dp_tokenizer *t;
    struct dp_encoder *c;
    dp_buf_init(&b, 1 << 20);
    alphabet(
        &b,
        "\"ab\":256},\"merges\":[\"a b\"],\"ignore_merges\":true},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
        "\"added_tokens\":[{\"id\":260,\"content\":\"<x>\",\"lstrip\":true},{\"id\":258,\"content\":\"<｜y｜>\"}]}");
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&b), "t", NULL, &err));
    CHECK_INT(dp_tokenizer_size(t), 261);
    CHECK_INT(dp_tokenizer_tokens(t), 259);
    CHECK(dp_tokenizer_bytes(t, 259).ptr == NULL);
    CHECK_SPAN(dp_tokenizer_bytes(t, 258), "<｜y｜>");
    struct dp_ids ids = {0};
    CHECK_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_ALL, &err));
    CHECK_OK(dp_encode(c, dp_span_str("a \n<x> <｜y｜>"), &ids, &err));
    CHECK(ids.len == 4 && ids.ptr[0] == 'a' && ids.ptr[1] == 260 && ids.ptr[2] == ' ' && ids.ptr[3] == 258);
    dp_ids_release(&ids);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
    dp_buf_release(&b);
}

/* hf.json with other added tokens and normalizers; ids of Hugging Face's tokenizers, with all added tokens and without the special ones. */
TEST(added_tokens_as_hugging_face)
{
    struct dp_buf base = read_data("hf.json"), lines = read_data("added.jsonl"), file;
    dp_buf_init(&file, 1 << 20);
    const char *head = strstr(base.ptr, "\"added_tokens\""), *rest = strstr(base.ptr, "\"pre_tokenizer\"");
    REQUIRE(head && rest);
    for (size_t at = 0; at < lines.len;) {
        const char *end = memchr(lines.ptr + at, '\n', lines.len - at);
        struct dp_json *j;
        struct dp_tokenizer *t;
        REQUIRE(end != NULL);
        REQUIRE_OK(dp_json_parse(&j, dp_span(lines.ptr + at, (size_t)(end - lines.ptr) - at), "added.jsonl", &err));
        at = (size_t)(end - lines.ptr) + 1;
        struct dp_span members = dp_json_str(dp_json_get(j, "head"));
        dp_buf_clear(&file);
        dp_buf_add(&file, base.ptr, (size_t)(head - base.ptr));
        dp_buf_add(&file, members.ptr + 1, members.len - 2);
        dp_buf_printf(&file, ",%s", rest);
        REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "added.json", NULL, &err));
        for (int policy = 1; policy <= 2; policy++) {
            struct dp_encoder *c;
            REQUIRE_OK(dp_encoder_open(&c, t, 4096, policy == 1 ? DP_SPECIAL_ALL : DP_SPECIAL_ADDED, &err));
            for (size_t i = 0; i < dp_json_count(dp_json_get(j, "texts")); i++) {
                const struct dp_json *row = dp_json_at(dp_json_get(j, "texts"), i), *want = dp_json_at(row, (size_t)policy);
                struct dp_ids ids = {0};
                CHECK_OK(dp_encode(c, dp_json_str(dp_json_at(row, 0)), &ids, &err));
                bool same = ids.len == dp_json_count(want);
                for (size_t k = 0; same && k < ids.len; k++) same = dp_json_int(dp_json_at(want, k), -1) == ids.ptr[k];
                if (!same) DP_TEST_FAIL("'%.*s'", DP_SPAN_FMT(dp_json_str(dp_json_at(row, 0))));
                dp_ids_release(&ids);
            }
            dp_encoder_close(c);
        }
        dp_tokenizer_free(t);
        dp_json_free(j);
    }
    dp_buf_release(&base);
    dp_buf_release(&lines);
    dp_buf_release(&file);
}

static void put_file(const char *dir, const char *name, struct dp_span content)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (dp_fs_write_atomic(path, content, &err) < 0) DP_TEST_FAIL("%s", err.msg);
}

static int load_in(struct dp_tokenizer **t, const char *dir, const char *name, const char *split)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return dp_tokenizer_load_file(t, path, split, &err);
}

/* vocab.json with merges.txt, by either name or the folder; without #version, with CR LF; the older names. */
TEST(vocab_and_merges_are_read)
{
    const char *dir = dp_test_tmpdir(), *empty = dp_test_tmpdir();
    struct dp_buf file = read_data("hf.json"), vocab, merges, crlf;
    struct dp_tokenizer *t, *u;
    dp_buf_init(&vocab, 1 << 20);
    dp_buf_init(&merges, 1 << 20);
    dp_buf_init(&crlf, 1 << 20);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "hf.json", NULL, &err));
    CHECK_OK(dp_tokenizer_save_vocab(t, &vocab, &err));
    CHECK_OK(dp_tokenizer_save_merges(t, &merges, &err));
    for (size_t i = 14; i < merges.len; i++) { /* behind "#version: 0.2" */
        if (merges.ptr[i] == '\n') dp_buf_add_char(&crlf, '\r');
        dp_buf_add_char(&crlf, merges.ptr[i]);
    }
    put_file(dir, "encoder.json", dp_buf_span(&vocab));
    put_file(dir, "vocab.bpe", dp_buf_span(&merges));
    put_file(dir, "x-vocab.json", dp_buf_span(&vocab));
    put_file(dir, "x-merges.txt", dp_buf_span(&crlf));
    static const char *const names[] = {"", "encoder.json", "vocab.bpe", "x-vocab.json", "x-merges.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        REQUIRE_OK(load_in(&u, dir, names[i], NULL));
        CHECK(dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
        dp_tokenizer_free(u);
    }
    put_file(dir, "vocab.json", dp_buf_span(&vocab));
    CHECK_INT(load_in(&u, dir, "vocab.json", NULL), DP_NOTFOUND);
    CHECK(strstr(err.msg, "merges.txt") != NULL);
    put_file(dir, "merges.txt", dp_span_str("#version: 0.2\n\ne r\nt nosuch\n"));
    CHECK_INT(load_in(&u, dir, "vocab.json", NULL), DP_CORRUPT);
    CHECK(strstr(err.msg, "merges.txt: line 4") != NULL);
    put_file(dir, "merges.txt", dp_span_str("e r\ne r e\n"));
    CHECK_INT(load_in(&u, dir, "merges.txt", NULL), DP_CORRUPT);
    CHECK(strstr(err.msg, "line 2") != NULL);
    CHECK_INT(load_in(&u, empty, "", NULL), DP_NOTFOUND);
    dp_tokenizer_free(t);
    dp_buf_release(&file);
    dp_buf_release(&vocab);
    dp_buf_release(&merges);
    dp_buf_release(&crlf);
}

/* What transformers' files beside say of added tokens and the pre-tokenizer. */
TEST(files_beside_vocab)
{
    const char *dir = dp_test_tmpdir();
    struct dp_buf file = read_data("hf.json"), b;
    struct dp_tokenizer *t, *u;
    dp_buf_init(&b, 1 << 20);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "hf.json", NULL, &err));
    uint32_t size = dp_tokenizer_size(t);
    CHECK_OK(dp_tokenizer_save_vocab(t, &b, &err));
    put_file(dir, "vocab.json", dp_buf_span(&b));
    dp_buf_clear(&b);
    CHECK_OK(dp_tokenizer_save_merges(t, &b, &err));
    put_file(dir, "merges.txt", dp_buf_span(&b));
    dp_buf_clear(&b);
    dp_buf_printf(&b, "{\"<w>\":%u}", size);
    put_file(dir, "added_tokens.json", dp_buf_span(&b));
    put_file(dir, "special_tokens_map.json", dp_span_str("{\"pad_token\":\"<pad>\",\"additional_special_tokens\":[{\"content\":\"<l>\",\"lstrip\":true}]}"));
    REQUIRE_OK(load_in(&u, dir, "vocab.json", NULL));
    size_t n;
    const struct dp_special *s = dp_tokenizer_specials(u, &n);
    CHECK_INT(n, 4); /* <l> <pad> <w> <|endoftext|> */
    CHECK(s[0].id == size + 2 && s[0].flags == (DP_ADDED_SPECIAL | DP_ADDED_LSTRIP | DP_ADDED_OUTSIDE));
    CHECK(s[1].id == size + 1 && s[1].flags == (DP_ADDED_SPECIAL | DP_ADDED_OUTSIDE));
    CHECK(s[2].id == size && s[2].flags == (DP_ADDED_NORMALIZED | DP_ADDED_OUTSIDE));
    CHECK(s[3].id == 0 && s[3].flags == DP_ADDED_SPECIAL);
    dp_tokenizer_free(u);
    dp_buf_clear(&b);
    dp_buf_printf(&b, "{\"tokenizer_class\":\"Qwen2Tokenizer\",\"added_tokens_decoder\":{\"%u\":{\"content\":\"<w>\",\"special\":true}}}", size);
    put_file(dir, "tokenizer_config.json", dp_buf_span(&b));
    REQUIRE_OK(load_in(&u, dir, "", NULL));
    CHECK_INT(dp_tokenizer_split(u), DP_SPLIT_QWEN2);
    CHECK_INT(dp_tokenizer_normal(u), DP_NORMAL_NFC);
    s = dp_tokenizer_specials(u, &n);
    CHECK(s[2].flags == (DP_ADDED_SPECIAL | DP_ADDED_OUTSIDE));
    dp_tokenizer_free(u);
    put_file(dir, "tokenizer_config.json", dp_span_str("{\"tokenizer_class\":\"CLIPTokenizer\"}"));
    CHECK_INT(load_in(&u, dir, "", NULL), DP_CONFIG);
    put_file(dir, "tokenizer_config.json", dp_span_str("{\"add_prefix_space\":true}"));
    CHECK_INT(load_in(&u, dir, "", NULL), DP_CONFIG);
    dp_tokenizer_free(t);
    dp_buf_release(&file);
    dp_buf_release(&b);
}

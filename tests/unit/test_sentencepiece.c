/* sentencepiece models: frozen ids and texts of its Encode and Decode (tests/parity/tokenizer_sentencepiece.py), writing, what is refused. */
#include "tests/unit/tokenizer_data.h"

#include "base/fs.h"
#include "base/json.h"
#include "tokenizer/decode_stream.h"
#include "tokenizer/encode.h"
#include "tokenizer/sp.h"
#include "tokenizer/tokenizer.h"

static bool ids_are(const struct dp_ids *ids, const struct dp_json *want)
{
    bool same = ids->len == dp_json_count(want);
    for (size_t k = 0; same && k < ids->len; k++) same = dp_json_int(dp_json_at(want, k), -1) == ids->ptr[k];
    return same;
}

static void check_row(const struct dp_tokenizer *t, struct dp_encoder *c, const struct dp_json *row)
{
    struct dp_span text = dp_json_str(dp_json_at(row, 0)), back = dp_json_str(dp_json_at(row, 2));
    const struct dp_json *want = dp_json_at(row, 1);
    struct dp_ids ids = {0};
    struct dp_buf out;
    uint64_t count;
    dp_buf_init(&out, 1 << 20);
    if (text.ptr) {
        CHECK_OK(dp_encode(c, text, &ids, &err));
        if (!ids_are(&ids, want)) DP_TEST_FAIL("ids of '%.*s'", DP_SPAN_FMT(text));
        CHECK_OK(dp_encode_count(c, text, &count, &err));
        CHECK_INT(count, ids.len);
    }
    CHECK_OK(dp_ids_reserve(&ids, dp_json_count(want), &err));
    for (ids.len = 0; ids.len < dp_json_count(want); ids.len++) ids.ptr[ids.len] = (uint32_t)dp_json_int(dp_json_at(want, ids.len), 0);
    CHECK_OK(dp_decode(t, ids.ptr, ids.len, &out, &err));
    struct dp_decode_stream s;
    struct dp_buf parts;
    dp_buf_init(&parts, 1 << 20);
    dp_decode_stream_init(&s, t, DP_BAD_REPLACE, false);
    for (int twice = 0; twice < 2; twice++) { /* one by one, and again with the same stream */
        dp_buf_clear(&parts);
        for (size_t i = 0; i < ids.len; i++) CHECK_OK(dp_decode_stream_push(&s, ids.ptr + i, 1, &parts, &err));
        CHECK_OK(dp_decode_stream_finish(&s, &parts, &err));
        if (!dp_span_eq(dp_buf_span(&parts), back)) DP_TEST_FAIL("one by one it is '%.*s', not '%.*s'", DP_SPAN_FMT(dp_buf_span(&parts)), DP_SPAN_FMT(back));
    }
    dp_buf_release(&parts);
    if (!dp_span_eq(dp_buf_span(&out), back)) DP_TEST_FAIL("text is '%.*s', not '%.*s'", DP_SPAN_FMT(dp_buf_span(&out)), DP_SPAN_FMT(back));
    dp_ids_release(&ids);
    dp_buf_release(&out);
}

/* json: tokenizer.json with byte_fallback, where added tokens are found in texts, and that only tokenizer.json can say. */
static void check_frozen(const char *name, bool json)
{
    struct dp_buf lines = read_data(name);
    for (size_t at = 0; at < lines.len;) {
        const char *end = memchr(lines.ptr + at, '\n', lines.len - at);
        struct dp_json *j;
        struct dp_tokenizer *t, *u;
        struct dp_encoder *c;
        REQUIRE(end != NULL);
        REQUIRE_OK(dp_json_parse(&j, dp_span(lines.ptr + at, (size_t)(end - lines.ptr) - at), name, &err));
        at = (size_t)(end - lines.ptr) + 1;
        struct dp_buf file = read_data(dp_json_str(dp_json_get(j, "model")).ptr), out;
        REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "a.model", NULL, &err));
        CHECK(dp_tokenizer_is_sp(t) && dp_tokenizer_rewrites(t));
        for (size_t small = 0; small < 2; small++) {
            REQUIRE_OK(dp_encoder_open(&c, t, small ? 1 : 0, json ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, &err));
            for (size_t i = 0; i < dp_json_count(dp_json_get(j, "rows")); i++) check_row(t, c, dp_json_at(dp_json_get(j, "rows"), i));
            dp_encoder_close(c);
        }
        dp_buf_init(&out, 1 << 24);
        CHECK_OK((json ? dp_tokenizer_save_hf : dp_tokenizer_save_sp)(t, &out, &err));
        REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&out), "saved", NULL, &err));
        CHECK(dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
        CHECK_INT(dp_tokenizer_merges(u), 0);
        dp_buf_clear(&out);
        CHECK_INT((json ? dp_tokenizer_save_sp : dp_tokenizer_save_hf)(t, &out, &err), DP_CONFIG);
        if (json) CHECK_INT(dp_tokenizer_save_gguf(t, &out, &err), DP_CONFIG);
        dp_buf_clear(&out);
        CHECK_OK(dp_tokenizer_save(t, &out, &err));
        CHECK_INT(out.ptr[0] == '{', json);
        CHECK_INT(dp_tokenizer_save_tiktoken(t, &out, &err), DP_CONFIG);
        dp_tokenizer_free(t);
        dp_tokenizer_free(u);
        dp_json_free(j);
        dp_buf_release(&file);
        dp_buf_release(&out);
    }
    dp_buf_release(&lines);
}

TEST(ids_and_texts_as_sentencepiece)
{
    check_frozen("sp.jsonl", false);
}

/* tests/parity/tokenizer_sp_json.py */
TEST(ids_and_texts_as_hugging_face)
{
    check_frozen("spj.jsonl", true);
}

/* The file with `from` in it replaced once; from NULL: as it is. */
static int with_change(const char *file, const char *from, const char *to)
{
    struct dp_buf b = read_data(file), changed;
    struct dp_tokenizer *t = NULL;
    dp_buf_init(&changed, 1 << 20);
    const char *at = memmem(b.ptr, b.len, from, strlen(from));
    if (!at) DP_TEST_FAIL("%s has no %s", file, from);
    size_t before = at ? (size_t)(at - b.ptr) : 0;
    dp_buf_add(&changed, b.ptr, before);
    dp_buf_add_str(&changed, to);
    dp_buf_add(&changed, b.ptr + before + strlen(from), b.len - before - strlen(from));
    int rc = dp_tokenizer_load(&t, dp_buf_span(&changed), "changed", NULL, &err);
    CHECK((t == NULL) == (rc < 0));
    dp_tokenizer_free(t);
    dp_buf_release(&changed);
    dp_buf_release(&b);
    return rc;
}

TEST(other_forms_of_tokenizer_json)
{
    static const struct {
        const char *file, *from, *to;
        int rc;
        const char *says;
    } cases[] = {
        {"spj_prepend.json", "\"prepend\": \"\u2581\"", "\"prepend\": \"x\"", DP_CONFIG, "normalizer"},
        {"spj_prepend.json", "\"String\": \" \"", "\"String\": \"  \"", DP_CONFIG, "normalizer"},
        {"spj_prepend.json", "\"pre_tokenizer\": null", "\"pre_tokenizer\": {\"type\": \"ByteLevel\"}", DP_CONFIG, "pre_tokenizer"},
        {"spj_prepend.json", "\"normalized\": false", "\"normalized\": true", DP_CONFIG, "'<unk>' is looked for in normalised"},
        {"spj_first.json", "\"normalized\": false", "\"normalized\": true", DP_OK, ""},
        {"spj_first.json", "\"split\": false", "\"split\": true", DP_CONFIG, "split"},
        {"spj_first.json", ", \"split\": false", "", DP_CONFIG, "split"},
        {"spj_first.json", "\"prepend_scheme\": \"first\", ", "", DP_OK, ""},
        {"spj_first.json", "\"first\"", "\"last\"", DP_CONFIG, "prepend_scheme 'last'"},
        {"spj_first.json", "\"first\"", "\"first\", \"add_prefix_space\": false", DP_CONFIG, "contradicts"},
        {"spj_first.json", "\"first\"", "\"never\", \"add_prefix_space\": false", DP_OK, ""},
        {"spj_first.json", "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}", DP_CONFIG, "normalizer"},
        {"spj_first.json", "{\"type\": \"Fuse\"}", "{\"type\": \"Metaspace\"}", DP_CONFIG, "decoder"},
        {"spj_first.json", "\"start\": 1", "\"start\": 2", DP_CONFIG, "decoder"},
        {"spj_first.json", "\"type\": \"BPE\"", "\"type\": \"Unigram\"", DP_CONFIG, "Unigram"},
        {"spj_first.json", "\"ignore_merges\": false", "\"ignore_merges\": true", DP_CONFIG, "ignore_merges"},
        {"spj_first.json", "\"unk_token\": \"<unk>\"", "\"unk_token\": null", DP_CONFIG, "unk_token"},
        {"spj_first.json", "\"unk_token\": \"<unk>\"", "\"unk_token\": \"a\"", DP_CONFIG, "unk_token"},
        {"spj_first.json", "\"<0x41>\": 68", "\"<0x4g>\": 68", DP_CORRUPT, "<0x41>"},
        {"spj_first.json", "\"<0x41>\": 68", "\"<0x41>\": 67", DP_CORRUPT, "have the id 67"},
        {"spj_first.json", "\"<0x41>\": 68", "\"<0x41>\": 9999", DP_CONFIG, "9999"},
        {"spj_first.json", "{\"id\": 1, \"content\": \"<s>\"", "{\"id\": 5, \"content\": \"<s>\"", DP_CORRUPT, "two ids"},
        {"spj_first.json", "\"merges\": [", "\"merges\": [\"a qq\", ", DP_CORRUPT, "merge 0 ('a' 'qq')"},
        {"spj_first.json", "\"merges\": [", "\"merges\": [7, ", DP_CORRUPT, "merge 0 isn't two"},
        {"spj_first.json", "\"merges\": [", "\"merges\": [\"<un k>\", ", DP_CORRUPT, "merge 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = with_change(cases[i].file, cases[i].from, cases[i].to);
        if (rc != cases[i].rc || (rc < 0 && !strstr(err.msg, cases[i].says))) DP_TEST_FAIL("case %zu gives %d: %s", i, rc, rc < 0 ? err.msg : "");
    }
    struct dp_buf b = read_data("spj_first.json");
    struct dp_tokenizer *t;
    CHECK_INT(dp_tokenizer_load(&t, dp_buf_span(&b), "t", "gpt2", &err), DP_CONFIG);
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&b), "t", NULL, &err));
    CHECK_INT(dp_tokenizer_eot(t), 2);
    CHECK_INT(dp_tokenizer_special(t, dp_span_str("[INST]")), dp_tokenizer_size(t) - 1);
    dp_tokenizer_free(t);
    dp_buf_release(&b);
}

TEST(specials_and_other_accessors)
{
    struct dp_buf file = read_data("sp_bytes.model");
    struct dp_tokenizer *t;
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "a.model", NULL, &err));
    CHECK_INT(dp_tokenizer_eot(t), 2);
    CHECK_INT(dp_tokenizer_special(t, dp_span_str("<s>")), 1);
    CHECK_INT(dp_tokenizer_special(t, dp_span_str("<unk>")), 0);
    CHECK_SPAN(dp_tokenizer_bytes(t, (uint32_t)dp_tokenizer_id(t, dp_span_str(" t"))), " t");
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_ALL, &err));
    CHECK_OK(dp_encode(c, dp_span_str("a</s>"), &ids, &err));
    CHECK(ids.len > 1 && ids.ptr[ids.len - 1] == 2);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
    CHECK_INT(dp_tokenizer_load(&t, dp_buf_span(&file), "a.model", "gpt2", &err), DP_CONFIG);
    for (size_t n = 3; n < file.len; n += 17) { /* cut anywhere: an error with the offset, or too little to be a model */
        int rc = dp_tokenizer_load(&t, dp_span(file.ptr, n), "cut.model", NULL, &err);
        if (rc != DP_CORRUPT && rc != DP_CONFIG) DP_TEST_FAIL("%zu bytes give %d", n, rc);
    }
    dp_ids_release(&ids);
    dp_buf_release(&file);
}

static int with_pieces(const struct dp_sp_piece *p, uint32_t n, bool bytes, struct dp_span map)
{
    struct dp_sp_fields f = {.piece = (struct dp_sp_piece *)p, .count = n, .byte_fallback = bytes, .eos = -1, .rules = {.charsmap = map}};
    struct dp_tokenizer *t = NULL;
    int rc = dp_sp_tokenizer(&t, &f, "made", &err);
    dp_tokenizer_free(t);
    return rc;
}

TEST(contradictory_models)
{
#define P(s, type) {{s, sizeof s - 1}, 0, DP_SP_##type}
    const struct dp_sp_piece good[] = {P("<unk>", UNKNOWN), P("a", NORMAL), P("b", NORMAL), P("ab", NORMAL)};
    const struct dp_sp_piece none[] = {P("a", NORMAL)}, twice[] = {P("<unk>", UNKNOWN), P("a", NORMAL), P("a", USER_DEFINED)};
    const struct dp_sp_piece two[] = {P("<unk>", UNKNOWN), P("<u>", UNKNOWN)}, byte[] = {P("<unk>", UNKNOWN), P("<0x41>", BYTE)};
    const struct dp_sp_piece no_byte[] = {P("<unk>", UNKNOWN), P("<0x4g>", BYTE)}, empty[] = {P("", NORMAL)}, bad[] = {P("\xff", NORMAL)};
    const struct dp_sp_piece ways[] = {P("<unk>", UNKNOWN), P("a", NORMAL), P("aa", NORMAL), P("aaa", UNUSED)};
    const struct dp_sp_piece nan[] = {P("<unk>", UNKNOWN), {{"a", 1}, __builtin_nanf(""), DP_SP_NORMAL}};
    struct dp_span no = {NULL, 0};
#undef P
#define N(a) a, sizeof(a) / sizeof *(a)
    CHECK_OK(with_pieces(N(good), false, no));
    CHECK(with_pieces(N(none), false, no) == DP_CORRUPT && strstr(err.msg, "unknown one"));
    CHECK(with_pieces(N(twice), false, no) == DP_CORRUPT && strstr(err.msg, "both 'a'"));
    CHECK(with_pieces(N(two), false, no) == DP_CORRUPT && strstr(err.msg, "both the unknown"));
    CHECK(with_pieces(N(byte), true, no) == DP_CORRUPT && strstr(err.msg, "byte_fallback without"));
    CHECK(with_pieces(N(no_byte), true, no) == DP_CORRUPT && strstr(err.msg, "no byte"));
    CHECK(with_pieces(N(empty), false, no) == DP_CORRUPT && strstr(err.msg, "no UTF-8"));
    CHECK(with_pieces(N(bad), false, no) == DP_CORRUPT && strstr(err.msg, "no UTF-8"));
    CHECK(with_pieces(N(ways), false, no) == DP_CONFIG && strstr(err.msg, "2 ways"));
    CHECK(with_pieces(N(nan), false, no) == DP_CORRUPT && strstr(err.msg, "score"));
    CHECK(with_pieces(N(good), false, dp_span_str("xx")) == DP_CORRUPT && strstr(err.msg, "charsmap"));
}

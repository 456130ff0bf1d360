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

TEST(ids_and_texts_as_sentencepiece)
{
    struct dp_buf lines = read_data("sp.jsonl");
    for (size_t at = 0; at < lines.len;) {
        const char *end = memchr(lines.ptr + at, '\n', lines.len - at);
        struct dp_json *j;
        struct dp_tokenizer *t, *u;
        struct dp_encoder *c;
        REQUIRE(end != NULL);
        REQUIRE_OK(dp_json_parse(&j, dp_span(lines.ptr + at, (size_t)(end - lines.ptr) - at), "sp.jsonl", &err));
        at = (size_t)(end - lines.ptr) + 1;
        struct dp_buf file = read_data(dp_json_str(dp_json_get(j, "model")).ptr), out;
        REQUIRE_OK(dp_tokenizer_load(&t, dp_buf_span(&file), "a.model", NULL, &err));
        CHECK(dp_tokenizer_is_sp(t) && dp_tokenizer_rewrites(t));
        for (size_t small = 0; small < 2; small++) {
            REQUIRE_OK(dp_encoder_open(&c, t, small ? 1 : 0, DP_SPECIAL_NONE, &err));
            for (size_t i = 0; i < dp_json_count(dp_json_get(j, "rows")); i++) check_row(t, c, dp_json_at(dp_json_get(j, "rows"), i));
            dp_encoder_close(c);
        }
        dp_buf_init(&out, 1 << 24);
        CHECK_OK(dp_tokenizer_save_sp(t, &out, &err));
        REQUIRE_OK(dp_tokenizer_load(&u, dp_buf_span(&out), "saved", NULL, &err));
        CHECK(dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u)));
        dp_buf_clear(&out);
        CHECK_INT(dp_tokenizer_save_hf(t, &out, &err), DP_CONFIG);
        CHECK_INT(dp_tokenizer_save_tiktoken(t, &out, &err), DP_CONFIG);
        dp_tokenizer_free(t);
        dp_tokenizer_free(u);
        dp_json_free(j);
        dp_buf_release(&file);
        dp_buf_release(&out);
    }
    dp_buf_release(&lines);
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

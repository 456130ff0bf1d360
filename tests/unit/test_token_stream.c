/* Offsets, decoding id by id, encoding piece by piece: each against what the whole gives. */
#include "tests/test.h"

#include "base/hash.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/decode_stream.h"
#include "tokenizer/encode_stream.h"
#include "tokenizer/offsets.h"

static struct dp_err err;

static const char *const splits[] = {"gpt2", "cl100k", "o200k", "qwen2", "qwen3.5", "tekken", "deepseek-v3"};

static struct dp_tokenizer *load(const char *split)
{
    struct dp_tokenizer *t = NULL;
    CHECK_OK(dp_tokenizer_load_file(&t, "tests/data/tokenizer/hf.json", split, &err));
    return t;
}

/* Trained on nothing, so that each byte is a token: special tokens that begin like each other and like text. */
static struct dp_tokenizer *with_specials(const char *split)
{
    struct dp_bpe_counter *k;
    struct dp_tokenizer *t = NULL;
    char list[] = "<|a|>,<|a|>b,<|endoftext|>,<|,a b,\n\n!";
    struct dp_bpe_train_options o = {.vocab_size = 262, .special_tokens = list};
    enum dp_split s;
    CHECK_OK(dp_split_parse(dp_span_str(split), &s, &err));
    o.split = (int)s;
    CHECK_OK(dp_bpe_counter_open(&k, s, &err));
    CHECK_OK(dp_bpe_train(&t, &o, k, NULL, NULL, &err));
    dp_bpe_counter_close(k);
    return t;
}

/* Characters of every class and what the patterns treat in their own ways, bad bytes, and parts of special tokens. */
static const char *const atoms[] = {
    " ", " ", " ", "  ", "\n", "\n", "\r\n", "\t", "\xC2\xA0", "\xE3\x80\x80", "\xC2\x85", "a", "b", "the", "The", "camelCase", "HTML", "s", "t", "re", "'s", "'S",
    "'ll", "'LL", "'", "''", "'re", "'\xC5\xBF", "1", "12", "1234567", "\xD9\xA3", "\xC2\xBD", ".", ",", "/", "//", "!\n", "...", "-", "(", ");", "\xC3\xA9", "e\xCC\x81",
    "\xCC\x81", "\xE2\x83\x9D", "\xC3\x89", "\xC7\x85", "\xCA\xB0", "\xD0\xAF", "\xD1\x8F", "\xE4\xB8\xAD", "\xE6\x97\xA5\xE6\x9C\xAC", "\xE3\x80\x82", "\xED\x95\x9C", "\xE0\xB8\xA0\xE0\xB8\xB2",
    "\xF0\x9F\x98\x80", "\xF0\x9F\x87\xA9", "\xE2\x80\x8D", "\xEF\xB8\x8F", "\0", "\x80", "\xE4\xB8", "\xFF", "\xF0\x9F", "\xC3", "<|", "<|a|>", "|>b", "<|endoftext|>", "<|endof", "a b", "\n\n!",
};
enum { ATOMS = sizeof atoms / sizeof *atoms };

static size_t random_text(uint64_t *seed, char *to, size_t cap)
{
    size_t n = 0, few = dp_splitmix64(seed) % 3 ? ATOMS : 4, base = dp_splitmix64(seed) % ATOMS, count = 1 + dp_splitmix64(seed) % 40;
    for (size_t i = 0; i < count; i++) {
        const char *a = atoms[(base + dp_splitmix64(seed) % few) % ATOMS];
        size_t len = *a ? strlen(a) : 1;
        if (n + len > cap) break;
        memcpy(to + n, a, len);
        n += len;
    }
    return n;
}

static bool begins(const struct dp_ids *whole, const struct dp_ids *part)
{
    return part->len <= whole->len && (!part->len || memcmp(part->ptr, whole->ptr, part->len * sizeof *part->ptr) == 0);
}

static void pieces_give_the_whole(const struct dp_tokenizer *t, enum dp_special_policy special, uint64_t seed, int rounds)
{
    struct dp_encoder *c;
    struct dp_encode_stream *s;
    struct dp_ids want = {0}, got = {0};
    char text[1024];
    REQUIRE_OK(dp_encoder_open(&c, t, 4096, special, &err));
    REQUIRE_OK(dp_encode_stream_open(&s, c, 0, &err));
    for (int i = 0; i < rounds; i++) {
        size_t n = random_text(&seed, text, sizeof text), at = 0, step = dp_splitmix64(&seed) % 4 ? 1 + dp_splitmix64(&seed) % 30 : 1;
        want.len = got.len = 0;
        REQUIRE_OK(dp_encode(c, dp_span(text, n), &want, &err));
        while (at < n) {
            size_t k = step == 1 ? 1 : dp_splitmix64(&seed) % step + 1;
            if (k > n - at) k = n - at;
            REQUIRE_OK(dp_encode_stream_push(s, dp_span(text + at, k), &got, &err));
            at += k;
            if (!begins(&want, &got)) break;
        }
        REQUIRE_OK(dp_encode_stream_finish(s, &got, &err));
        if (got.len != want.len || !begins(&want, &got)) {
            DP_TEST_FAIL("%s, round %d: \"%.*s\" (%zu bytes): %zu ids, not %zu", dp_split_name(dp_tokenizer_split(t)), i, (int)n, text, n, got.len, want.len);
            break;
        }
    }
    dp_ids_release(&want);
    dp_ids_release(&got);
    dp_encode_stream_close(s);
    dp_encoder_close(c);
}

TEST(encoding_in_pieces)
{
    for (size_t k = 0; k < sizeof splits / sizeof *splits; k++) {
        struct dp_tokenizer *t = load(splits[k]), *u = with_specials(splits[k]);
        REQUIRE(t && u);
        pieces_give_the_whole(t, DP_SPECIAL_NONE, k + 1, 4000);
        pieces_give_the_whole(u, DP_SPECIAL_ALL, k + 11, 4000);
        dp_tokenizer_free(t);
        dp_tokenizer_free(u);
    }
}

/* Where text is changed before it is encoded nothing is proven: all is kept, and no part begins anew. */
TEST(models_that_normalise_keep_all)
{
    struct dp_tokenizer *t = NULL;
    struct dp_encoder *c;
    struct dp_encode_stream *s;
    struct dp_ids whole = {0}, parts = {0};
    struct dp_span text = dp_span_str("one two three, four five");
    REQUIRE_OK(dp_tokenizer_load_file(&t, "tests/data/tokenizer/sp_bytes.model", NULL, &err));
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encode_stream_open(&s, c, 0, &err));
    REQUIRE_OK(dp_encode(c, text, &whole, &err));
    for (size_t i = 0; i < text.len; i++) REQUIRE_OK(dp_encode_stream_push(s, dp_span(text.ptr + i, 1), &parts, &err));
    CHECK_INT(parts.len, 0);
    REQUIRE_OK(dp_encode_stream_finish(s, &parts, &err));
    CHECK(parts.len == whole.len && begins(&whole, &parts));
    CHECK_INT(dp_encode_restart(t, DP_SPECIAL_NONE, text, 1), text.len);
    dp_ids_release(&whole);
    dp_ids_release(&parts);
    dp_encode_stream_close(s);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
}

TEST(what_is_kept_back_is_bounded)
{
    struct dp_tokenizer *t = load(NULL);
    struct dp_encoder *c;
    struct dp_encode_stream *s;
    struct dp_ids ids = {0};
    const char *line = "All that is gold does not glitter, 1234 of it; \xE4\xB8\xAD\xE6\x96\x87\xE3\x80\x82\n";
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encode_stream_open(&s, c, 100, &err));
    size_t most = 0;
    for (int i = 0; i < 2000; i++)
        for (const char *p = line; *p; p++) {
            REQUIRE_OK(dp_encode_stream_push(s, dp_span(p, 1), &ids, &err));
            if (dp_encode_stream_held(s) > most) most = dp_encode_stream_held(s);
        }
    CHECK(most <= 24);
    CHECK(ids.len > 2000 * 10);
    dp_encode_stream_reset(s);
    int rc = DP_OK;
    for (int i = 0; i < 101 && rc >= 0; i++) rc = dp_encode_stream_push(s, dp_span_str("x"), &ids, &err);
    CHECK_INT(rc, DP_LIMIT);
    dp_encode_stream_reset(s);
    ids.len = 0;
    CHECK_OK(dp_encode_stream_push(s, dp_span_str("the"), &ids, &err));
    CHECK_OK(dp_encode_stream_finish(s, &ids, &err));
    CHECK(ids.len > 0);
    CHECK_OK(dp_encode_stream_finish(s, &ids, &err)); /* nothing more */
    dp_ids_release(&ids);
    dp_encode_stream_close(s);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
}

TEST(pieces_cost_what_the_whole_costs)
{
    struct dp_tokenizer *t = load(NULL);
    struct dp_encoder *c;
    struct dp_encode_stream *s;
    struct dp_ids ids = {0};
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encode_stream_open(&s, c, 0, &err));
    for (int i = 0; i < 1 << 20; i++) REQUIRE_OK(dp_encode_stream_push(s, dp_span_str("a"), &ids, &err)); /* no cut: looked at once, not a million times */
    CHECK_INT(ids.len, 0);
    CHECK_OK(dp_encode_stream_finish(s, &ids, &err));
    CHECK(ids.len > 0);
    dp_ids_release(&ids);
    dp_encode_stream_close(s);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
}

/* What the header promises, done simply: the characters that a byte range touches. */
static void naive_chars(struct dp_span text, struct dp_offset in, struct dp_offset *out)
{
    size_t chars = 0;
    *out = (struct dp_offset){UINT64_MAX, 0};
    for (size_t i = 0; i < text.len; chars++) {
        unsigned char c = (unsigned char)text.ptr[i];
        size_t len = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        if (i < in.end && i + len > in.begin) {
            if (out->begin == UINT64_MAX) out->begin = chars;
            out->end = chars + 1;
        }
        i += len;
    }
}

TEST(offsets_of_tokens)
{
    struct dp_tokenizer *t = load(NULL);
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    struct dp_offset bytes[64], chars[64];
    const char *const texts[] = {"the tokens  are \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x98\x80\xF0\x9F\x91\x8D", "\xC3\xA9\xC3\xA9 na\xC3\xAFve", "x", ""};
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        struct dp_span text = dp_span_str(texts[k]);
        size_t at = 0;
        ids.len = 0;
        REQUIRE_OK(dp_encode(c, text, &ids, &err));
        REQUIRE(ids.len <= 64);
        CHECK_OK(dp_offsets(t, text, ids.ptr, ids.len, DP_OFFSET_BYTES, bytes, &err));
        CHECK_OK(dp_offsets(t, text, ids.ptr, ids.len, DP_OFFSET_CHARS, chars, &err));
        for (size_t i = 0; i < ids.len; i++) {
            struct dp_offset want;
            CHECK_INT(bytes[i].begin, at);
            CHECK(dp_span_eq(dp_tokenizer_bytes(t, ids.ptr[i]), dp_span(text.ptr + at, (size_t)bytes[i].end - at)));
            at = (size_t)bytes[i].end;
            naive_chars(text, bytes[i], &want);
            CHECK_INT(chars[i].begin, want.begin);
            CHECK_INT(chars[i].end, want.end);
        }
        CHECK_INT(at, text.len);
    }
    /* A bad byte is a character. */
    struct dp_span odd = dp_span("\xC3\xA9\xFF\xE4\xB8z", 6);
    ids.len = 0;
    REQUIRE_OK(dp_encode(c, odd, &ids, &err));
    CHECK_OK(dp_offsets(t, odd, ids.ptr, ids.len, DP_OFFSET_CHARS, chars, &err));
    CHECK_INT(chars[ids.len - 1].end, 5);
    /* Ids of another text. */
    CHECK_INT(dp_offsets(t, dp_span("\xC3\xA9\xFF\xE4\xB8y", 6), ids.ptr, ids.len, DP_OFFSET_BYTES, bytes, &err), DP_CORRUPT);
    CHECK_INT(dp_offsets(t, dp_span(odd.ptr, 5), ids.ptr, ids.len, DP_OFFSET_BYTES, bytes, &err), DP_CORRUPT);
    CHECK_INT(dp_offsets(t, odd, ids.ptr, ids.len - 1, DP_OFFSET_BYTES, bytes, &err), DP_CORRUPT);
    ids.ptr[0] = dp_tokenizer_size(t);
    CHECK_INT(dp_offsets(t, odd, ids.ptr, ids.len, DP_OFFSET_BYTES, bytes, &err), DP_CORRUPT);
    dp_ids_release(&ids);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
}

TEST(offsets_with_special_tokens)
{
    struct dp_tokenizer *t = with_specials("gpt2");
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    struct dp_offset o[8];
    struct dp_span text = dp_span_str("\xC3\xA9<|endoftext|>x");
    REQUIRE_OK(dp_encoder_open(&c, t, 4096, DP_SPECIAL_ALL, &err));
    REQUIRE_OK(dp_encode(c, text, &ids, &err));
    REQUIRE(ids.len == 4);
    CHECK_OK(dp_offsets(t, text, ids.ptr, ids.len, DP_OFFSET_CHARS, o, &err));
    const unsigned want[4][2] = {{0, 1}, {0, 1}, {1, 14}, {14, 15}};
    for (int i = 0; i < 4; i++) CHECK(o[i].begin == want[i][0] && o[i].end == want[i][1]);
    dp_ids_release(&ids);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
}

/* Bytes as ids of one byte each, so that any bytes can be decoded. */
static void decode_bytes(const struct dp_tokenizer *t, struct dp_span bytes, enum dp_bad_bytes bad, struct dp_buf *out, bool at_once)
{
    struct dp_decode_stream s;
    uint32_t ids[256];
    size_t valid = out->len;
    for (size_t i = 0; i < bytes.len; i++) ids[i] = (uint32_t)dp_tokenizer_id(t, dp_span(bytes.ptr + i, 1));
    dp_decode_stream_init(&s, t, bad, false);
    for (size_t i = 0; i < bytes.len; i += at_once ? bytes.len : 1) {
        REQUIRE_OK(dp_decode_stream_push(&s, ids + i, at_once ? bytes.len : 1, out, &err));
        /* What came so far never ends inside a character. */
        for (size_t k = valid; bad == DP_BAD_REPLACE && k < out->len; valid = k) {
            unsigned char c = (unsigned char)out->ptr[k];
            k += c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
            CHECK(k <= out->len);
        }
    }
    REQUIRE_OK(dp_decode_stream_finish(&s, out, &err));
}

TEST(decoding_id_by_id)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
#define R "\xEF\xBF\xBD"
        {"", ""},
        {"plain", "plain"},
        {"\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80", "\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80"},
        {"a\xC3", "a" R},
        {"\xC3(", R "("},
        {"\xF0\x9F\x98", R},
        {"\xF0\x9F\x98z", R "z"},
        {"\xE4\xB8\xE4\xB8\xAD", R "\xE4\xB8\xAD"},
        {"\x80\xBF", R R},
        {"\xC0\xAF", R R},
        {"\xE0\x80\x80", R R R},
        {"\xED\xA0\x80", R R R},
        {"\xF0\x80\x80\x80", R R R R},
        {"\xF4\x90\x80\x80", R R R R},
        {"\xF5\xFF", R R},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A"}, /* Unicode's own example */
    };
    struct dp_tokenizer *t = load(NULL);
    struct dp_buf b, kept;
    dp_buf_init(&b, 4096);
    dp_buf_init(&kept, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int at_once = 0; at_once < 2; at_once++) {
            dp_buf_clear(&b);
            dp_buf_clear(&kept);
            decode_bytes(t, dp_span_str(cases[i].in), DP_BAD_REPLACE, &b, at_once);
            decode_bytes(t, dp_span_str(cases[i].in), DP_BAD_KEEP, &kept, at_once);
            CHECK_SPAN(dp_buf_span(&b), cases[i].out);
            CHECK_SPAN(dp_buf_span(&kept), cases[i].in);
        }
    dp_buf_release(&b);
    dp_buf_release(&kept);
    dp_tokenizer_free(t);
}

TEST(decoding_equals_the_whole)
{
    struct dp_tokenizer *t = load(NULL);
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    struct dp_buf b;
    char text[1024];
    uint64_t seed = 5;
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    dp_buf_init(&b, 1 << 16);
    for (int i = 0; i < 2000; i++) {
        struct dp_decode_stream s;
        size_t n = random_text(&seed, text, sizeof text);
        ids.len = 0;
        dp_buf_clear(&b);
        REQUIRE_OK(dp_encode(c, dp_span(text, n), &ids, &err));
        dp_decode_stream_init(&s, t, DP_BAD_KEEP, false);
        for (size_t k = 0; k < ids.len; k++) {
            struct dp_decode_stream branch = s; /* a copy goes on as if nothing had been */
            size_t len = b.len;
            REQUIRE_OK(dp_decode_stream_push(&branch, ids.ptr, 1, &b, &err));
            b.len = len;
            REQUIRE_OK(dp_decode_stream_push(&s, ids.ptr + k, 1, &b, &err));
            REQUIRE(b.len <= n && (!b.len || memcmp(b.ptr, text, b.len) == 0));
        }
        REQUIRE_OK(dp_decode_stream_finish(&s, &b, &err));
        CHECK(dp_span_eq(dp_buf_span(&b), dp_span(text, n)));
    }
    dp_buf_release(&b);
    dp_ids_release(&ids);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
}

TEST(decoding_refuses_and_leaves_out)
{
    struct dp_tokenizer *t = with_specials("gpt2");
    struct dp_decode_stream s;
    struct dp_buf b;
    uint32_t eot = (uint32_t)dp_tokenizer_eot(t), x = (uint32_t)dp_tokenizer_id(t, dp_span_str("x")), half = (uint32_t)dp_tokenizer_id(t, dp_span("\xC3", 1));
    uint32_t ids[] = {x, eot, half, dp_tokenizer_size(t)};
    dp_buf_init(&b, 16);
    dp_decode_stream_init(&s, t, DP_BAD_REPLACE, true);
    CHECK_OK(dp_decode_stream_push(&s, ids, 2, &b, &err));
    CHECK_SPAN(dp_buf_span(&b), "x");
    CHECK_INT(dp_decode_stream_push(&s, ids, 4, &b, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "position 5") != NULL);
    CHECK_SPAN(dp_buf_span(&b), "x");
    CHECK_OK(dp_decode_stream_push(&s, &half, 1, &b, &err));
    CHECK_SPAN(dp_buf_span(&b), "x");
    for (int i = 0; i < 5; i++) CHECK_OK(dp_decode_stream_push(&s, &half, 1, &b, &err));
    CHECK_INT(dp_decode_stream_push(&s, ids, 1, &b, &err), DP_LIMIT); /* U+FFFD and x: no room, nothing changes */
    CHECK_INT(b.len, 16);
    dp_buf_clear(&b);
    CHECK_OK(dp_decode_stream_finish(&s, &b, &err));
    CHECK_SPAN(dp_buf_span(&b), R);
    dp_buf_clear(&b);
    dp_decode_stream_init(&s, t, DP_BAD_REPLACE, false);
    CHECK_OK(dp_decode_stream_push(&s, ids, 2, &b, &err));
    CHECK_SPAN(dp_buf_span(&b), "x<|endoftext|>");
    dp_buf_release(&b);
    dp_tokenizer_free(t);
}

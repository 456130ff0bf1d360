/* Words first, then what joins them: the ids of merging whole pieces. */
#include "tests/test.h"

#include "base/fs.h"
#include "base/hash.h"
#include "tokenizer/bpe_merge.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer_int.h"

#include <time.h>

static struct dp_err err;

static struct dp_tokenizer *train(struct dp_span text, int64_t from, int tie, int split)
{
    struct dp_bpe_train_options o = {.vocab_size = 1000, .tie = tie, .split = split, .super_from = from, .super_bytes_max = 1 << 20};
    struct dp_bpe_counter *c = NULL;
    struct dp_tokenizer *t = NULL;
    CHECK_OK(dp_bpe_counter_open_for(&c, &o, &err));
    CHECK_OK(dp_bpe_counter_add(c, text, &err));
    CHECK_OK(dp_bpe_train(&t, &o, c, NULL, NULL, &err));
    dp_bpe_counter_close(c);
    return t;
}

/* The definition: each piece merged as a whole. */
static void by_pieces(const struct dp_tokenizer *t, struct dp_span text, struct dp_ids *out)
{
    struct dp_merge_scratch s = {0};
    size_t pos = 0, from = 0, end, n;
    for (out->len = 0; dp_split_run(DP_SPLIT_SUPERBPE, text, &pos, &end, 1); from = end) {
        CHECK_OK(dp_ids_reserve(out, end - from, &err));
        CHECK_OK(dp_bpe_merge(t, &s, dp_span(text.ptr + from, end - from), out->ptr + out->len, &n, &err));
        out->len += n;
    }
    dp_merge_scratch_release(&s);
}

static void same(struct dp_encoder *c, const struct dp_tokenizer *t, struct dp_span text)
{
    struct dp_ids got = {0}, want = {0};
    CHECK_OK(dp_encode(c, text, &got, &err));
    by_pieces(t, text, &want);
    if (got.len != want.len || (got.len && memcmp(got.ptr, want.ptr, got.len * sizeof *got.ptr) != 0))
        DP_TEST_FAIL("%zu ids, not %zu: '%.*s'", got.len, want.len, text.len < 60 ? (int)text.len : 60, text.ptr);
    dp_ids_release(&got);
    dp_ids_release(&want);
}

TEST(units_against_whole_pieces)
{
    static const char *const parts[] = {" the", "the", " ", "  ", ".", ", and", ". The", "\n", "a", "ab", "12345", "\xC3\xA9", "\xE4\xB8\xAD", "\xFF", "\x80", "!!", ":", "don't", "\xC2\xA0", "aaaaaaaaaaaaaaaaaaaaaaaa", "\t", "_"};
    struct dp_buf text, mix;
    dp_buf_init(&text, 1 << 24);
    dp_buf_init(&mix, 1 << 24);
    REQUIRE_OK(dp_fs_read("tests/data/tokenizer/corpus.txt", &text, &err));
    for (int k = 0; k < 4; k++) {
        struct dp_tokenizer *t = train(dp_buf_span(&text), k == 3 ? 256 : 400 + 150 * k, k & 1, k == 2 ? DP_SPLIT_O200K : DP_SPLIT_GPT2);
        struct dp_encoder *c;
        uint64_t seed = (uint64_t)k;
        REQUIRE(t);
        CHECK(t->units != NULL);
        REQUIRE_OK(dp_encoder_open(&c, t, 1 << 16, DP_SPECIAL_NONE, &err));
        same(c, t, dp_buf_span(&text));
        for (int i = 0; i < 1200; i++) {
            dp_buf_clear(&mix);
            for (uint64_t n = 1 + dp_splitmix64(&seed) % 60; n-- > 0;) {
                size_t from = dp_splitmix64(&seed) % (text.len - 40);
                if (i % 2) dp_buf_add_str(&mix, parts[dp_splitmix64(&seed) % (sizeof parts / sizeof *parts)]);
                else dp_buf_add(&mix, text.ptr + from, dp_splitmix64(&seed) % 12);
            }
            char *tight = malloc(mix.len + 1); /* AddressSanitizer sees the end */
            memcpy(tight, mix.ptr ? mix.ptr : "", mix.len);
            same(c, t, dp_span(tight, mix.len));
            free(tight);
        }
        dp_encoder_close(c);
        dp_tokenizer_free(t);
    }
    dp_buf_release(&text);
    dp_buf_release(&mix);
}

/* A later merge makes a part of an earlier one: no two stages. */
TEST(merges_without_stages)
{
    struct dp_span bytes[300];
    char all[256];
    for (unsigned i = 0; i < 256; i++) all[i] = (char)i, bytes[i] = dp_span(&all[i], 1);
    bytes[256] = dp_span_str("bc");
    bytes[257] = dp_span_str("abc");
    bytes[258] = dp_span_str("abcd");
    bytes[259] = dp_span_str("x ");
    for (int staged = 0; staged < 2; staged++) {
        struct dp_merge merges[] = {{'b', 'c', 256}, {257, 'd', 258}, {'x', ' ', 259}, {'a', 256, 257}};
        if (staged) merges[1] = (struct dp_merge){'a', 256, 257}, merges[3] = (struct dp_merge){257, 'd', 258};
        struct dp_tokenizer_parts p = {.split = DP_SPLIT_SUPERBPE, .size = 260, .bytes = bytes, .merges = merges, .merge_count = 4};
        struct dp_tokenizer *t;
        struct dp_encoder *c;
        REQUIRE_OK(dp_tokenizer_build(&t, &p, "t", &err));
        CHECK_INT(t->units != NULL, staged);
        REQUIRE_OK(dp_encoder_open(&c, t, 1 << 16, DP_SPECIAL_NONE, &err));
        same(c, t, dp_span_str("abcd x y abc dx bcd"));
        dp_encoder_close(c);
        dp_tokenizer_free(t);
    }
}

TEST(time_is_linear)
{
    static const char *const units[] = {"a", " the", ", and of", "\xE4\xB8\xAD", "ab "};
    struct dp_buf text, corpus;
    dp_buf_init(&corpus, 1 << 24);
    REQUIRE_OK(dp_fs_read("tests/data/tokenizer/corpus.txt", &corpus, &err));
    struct dp_tokenizer *t = train(dp_buf_span(&corpus), 500, 0, DP_SPLIT_GPT2);
    for (size_t i = 0; i < 5; i++) {
        struct dp_encoder *c;
        struct dp_ids ids = {0};
        dp_buf_init(&text, 1 << 24);
        while (text.len < 1000000) dp_buf_add_str(&text, units[i]);
        REQUIRE_OK(dp_encoder_open(&c, t, 1 << 16, DP_SPECIAL_NONE, &err));
        clock_t begun = clock();
        CHECK_OK(dp_encode(c, dp_buf_span(&text), &ids, &err));
        double seconds = (double)(clock() - begun) / CLOCKS_PER_SEC;
        if (seconds > 8) DP_TEST_FAIL("%.1f s for 1 MB of '%s'", seconds, units[i]);
        dp_ids_release(&ids);
        dp_encoder_close(c);
        dp_buf_release(&text);
    }
    dp_tokenizer_free(t);
    dp_buf_release(&corpus);
}

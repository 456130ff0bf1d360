/* Nested and pruned vocabularies: what training gives, and mapped ids for every text that used nothing of what is gone. */
#include "tests/unit/tokenizer_data.h"

#include "base/fs.h"
#include "base/hash.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"
#include "tokenizer/vocab_change.h"

static struct dp_tokenizer *train(struct dp_span text, int64_t size, int tie, int64_t super_from)
{
    char specials[] = "<|endoftext|>,<|pad|>";
    struct dp_bpe_train_options o = {.vocab_size = size, .tie = tie, .special_tokens = specials, .super_from = super_from, .super_bytes_max = 1 << 20};
    struct dp_bpe_counter *c = NULL;
    struct dp_tokenizer *t = NULL;
    CHECK_OK(dp_bpe_counter_open_for(&c, &o, &err));
    CHECK_OK(dp_bpe_counter_add(c, text, &err));
    CHECK_OK(dp_bpe_train(&t, &o, c, NULL, NULL, &err));
    dp_bpe_counter_close(c);
    return t;
}

/* The same vocabulary as ranks. */
static struct dp_tokenizer *as_ranks(const struct dp_tokenizer *t)
{
    struct dp_buf b;
    struct dp_tokenizer *r = NULL;
    dp_buf_init(&b, 1 << 24);
    CHECK_OK(dp_tokenizer_save_tiktoken(t, &b, &err));
    CHECK_OK(dp_tokenizer_load(&r, dp_buf_span(&b), "t", dp_split_name(dp_tokenizer_split(t)), &err));
    dp_buf_release(&b);
    return r;
}

TEST(nested_is_trained)
{
    struct dp_buf text = read_data("corpus.txt");
    for (int tie = 0; tie < 2; tie++) {
        struct dp_tokenizer *large = train(dp_buf_span(&text), 1100, tie, 0), *nested, *small, *a, *b;
        for (int64_t n = 258; n <= 1100; n += 421) {
            REQUIRE_OK(dp_tokenizer_nest(&nested, large, (uint32_t)n, &err));
            small = train(dp_buf_span(&text), n, tie, 0);
            CHECK(dp_hash128_eq(dp_tokenizer_digest(nested), dp_tokenizer_digest(small)));
            CHECK_INT(dp_tokenizer_special(nested, dp_span_str("<|pad|>")), tie ? n - 1 : 1);
            if (tie) { /* ranks: without special tokens in the file */
                a = as_ranks(large);
                b = as_ranks(small);
                dp_tokenizer_free(nested);
                REQUIRE_OK(dp_tokenizer_nest(&nested, a, (uint32_t)n - 2, &err));
                CHECK(dp_hash128_eq(dp_tokenizer_digest(nested), dp_tokenizer_digest(b)));
                dp_tokenizer_free(a);
                dp_tokenizer_free(b);
            }
            dp_tokenizer_free(small);
            dp_tokenizer_free(nested);
        }
        CHECK_INT(dp_tokenizer_nest(&nested, large, 257, &err), DP_CONFIG);
        REQUIRE_OK(dp_tokenizer_nest(&nested, large, 5000, &err));
        CHECK(dp_hash128_eq(dp_tokenizer_digest(nested), dp_tokenizer_digest(large)));
        dp_tokenizer_free(nested);
        dp_tokenizer_free(large);
    }
    dp_buf_release(&text);
}

struct ids {
    struct dp_encoder *c;
    struct dp_ids ids;
};

static void open_ids(struct ids *x, const struct dp_tokenizer *t)
{
    x->ids = (struct dp_ids){0};
    CHECK_OK(dp_encoder_open(&x->c, t, 1 << 16, DP_SPECIAL_NONE, &err));
}

static void close_ids(struct ids *x)
{
    dp_encoder_close(x->c);
    dp_ids_release(&x->ids);
}

static size_t encode(struct ids *x, struct dp_span text)
{
    x->ids.len = 0;
    CHECK_OK(dp_encode(x->c, text, &x->ids, &err));
    return x->ids.len;
}

/* Every text has ids that give it back; those without pruned tokens have the mapped ones. */
static void same_texts(const struct dp_tokenizer *old, const struct dp_tokenizer *new, const int32_t *map, struct dp_span corpus_text)
{
    struct ids a, b;
    struct dp_buf back;
    uint64_t seed = 3;
    int whole = 0, cut = 0;
    dp_buf_init(&back, 1 << 20);
    open_ids(&a, old);
    open_ids(&b, new);
    for (int i = 0; i < 1500; i++) {
        size_t from = dp_splitmix64(&seed) % (corpus_text.len - 200), n = dp_splitmix64(&seed) % (i % 4 ? 24 : 200);
        struct dp_span text = dp_span(corpus_text.ptr + from, n);
        bool has = true, same = encode(&b, text) == encode(&a, text);
        for (size_t k = 0; k < a.ids.len; k++) has = has && map[a.ids.ptr[k]] >= 0;
        for (size_t k = 0; k < a.ids.len && same; k++) same = map[a.ids.ptr[k]] == (int32_t)b.ids.ptr[k];
        if (has && !same) DP_TEST_FAIL("'%.*s' has other ids", DP_SPAN_FMT(text));
        whole += has;
        cut += !has;
        dp_buf_clear(&back);
        CHECK_OK(dp_decode(new, b.ids.ptr, b.ids.len, &back, &err));
        CHECK(dp_span_eq(dp_buf_span(&back), text));
    }
    CHECK(whole > 50 && cut > 50);
    dp_buf_release(&back);
    close_ids(&a);
    close_ids(&b);
}

static void check_map(const struct dp_tokenizer *old, const struct dp_tokenizer *new, const int32_t *map)
{
    int32_t next = 0;
    for (uint32_t i = 0; i < dp_tokenizer_size(old); i++) {
        if (map[i] < 0) continue;
        CHECK_INT(map[i], next++);
        CHECK(dp_span_eq(dp_tokenizer_bytes(old, i), dp_tokenizer_bytes(new, (uint32_t)map[i])));
    }
    CHECK_INT(dp_tokenizer_size(new), next);
    CHECK_INT(dp_tokenizer_tokens(new), next);
    size_t n;
    const struct dp_special *s = dp_tokenizer_specials(old, &n);
    for (size_t i = 0; i < n; i++) CHECK_INT(dp_tokenizer_special(new, s[i].text), map[s[i].id]);
}

TEST(pruned_by_usage_and_by_name)
{
    struct dp_buf text = read_data("corpus.txt");
    struct dp_span part = dp_span(text.ptr, text.len / 16), all = dp_buf_span(&text);
    for (int kind = 0; kind < 5; kind++) { /* hf, bytes, SuperBPE of both, ranks */
        struct dp_tokenizer *t = train(all, 1000, kind & 1, kind == 2 || kind == 3 ? 600 : 0), *small;
        if (kind == 4) {
            struct dp_tokenizer *merges = train(all, 1000, 1, 0);
            dp_tokenizer_free(t);
            t = as_ranks(merges);
            dp_tokenizer_free(merges);
        }
        uint32_t size = dp_tokenizer_size(t);
        uint64_t *counts = calloc(size, sizeof *counts), seed = 9;
        int32_t *map = calloc(size, sizeof *map);
        uint8_t *keep = calloc(size, 1);
        struct ids x;
        open_ids(&x, t);
        encode(&x, part);
        for (size_t i = 0; i < x.ids.len; i++) counts[x.ids.ptr[i]]++;
        REQUIRE_OK(dp_tokenizer_prune(&small, t, counts, 500, UINT64_MAX, map, &err));
        CHECK_INT(dp_tokenizer_tokens(small), 500);
        check_map(t, small, map);
        same_texts(t, small, map, all);
        dp_tokenizer_free(small);
        REQUIRE_OK(dp_tokenizer_prune(&small, t, counts, 0, 1, map, &err)); /* nothing that the text uses goes */
        CHECK(dp_tokenizer_tokens(small) < dp_tokenizer_tokens(t));
        for (uint32_t i = 0; i < size; i++) CHECK(!counts[i] || map[i] >= 0);
        dp_tokenizer_free(small);
        for (uint32_t i = 0; i < size; i++) keep[i] = dp_splitmix64(&seed) % 3 == 0;
        REQUIRE_OK(dp_tokenizer_keep(&small, t, keep, map, &err));
        for (uint32_t i = 0; i < size; i++) CHECK(!keep[i] || map[i] >= 0);
        check_map(t, small, map);
        same_texts(t, small, map, all);
        for (uint32_t i = 0; i < size; i++) { /* what is kept is reached, if it was */
            if (map[i] < 0 || dp_tokenizer_special(t, dp_tokenizer_bytes(t, i)) >= 0) continue;
            struct dp_span b = dp_tokenizer_bytes(t, i);
            if (encode(&x, b) != 1) continue;
            struct ids y;
            open_ids(&y, small);
            CHECK_INT(encode(&y, b), 1);
            close_ids(&y);
        }
        dp_tokenizer_free(small);
        memset(keep, 0, size);
        REQUIRE_OK(dp_tokenizer_keep(&small, t, keep, map, &err));
        CHECK_INT(dp_tokenizer_tokens(small), kind == 4 ? 256 : 258);
        dp_tokenizer_free(small);
        CHECK_INT(dp_tokenizer_prune(&small, t, counts, 200, UINT64_MAX, map, &err), DP_CONFIG);
        close_ids(&x);
        free(counts);
        free(map);
        free(keep);
        dp_tokenizer_free(t);
    }
    dp_buf_release(&text);
}

/* a b c d: "ab", "cd", "abcd", "bc" used so often; the parts of what goes get its count. */
TEST(counts_go_to_the_parts)
{
    struct dp_bpe_counter *c;
    struct dp_tokenizer *t, *small;
    struct dp_bpe_train_options o = {.vocab_size = 260, .tie = DP_BPE_TIE_BYTES};
    uint64_t counts[260] = {0};
    int32_t map[260];
    REQUIRE_OK(dp_bpe_counter_open(&c, DP_SPLIT_GPT2, &err));
    CHECK_OK(dp_bpe_counter_add_word(c, dp_span_str("ab"), 9, &err));
    CHECK_OK(dp_bpe_counter_add_word(c, dp_span_str("abcd"), 8, &err));
    CHECK_OK(dp_bpe_counter_add_word(c, dp_span_str("xy"), 1, &err));
    REQUIRE_OK(dp_bpe_train(&t, &o, c, NULL, NULL, &err)); /* 256 ab, 257 cd, 258 abcd, 259 xy */
    CHECK(dp_span_eq(dp_tokenizer_bytes(t, 258), dp_span_str("abcd")));
    counts[256] = 1, counts[257] = 2, counts[258] = 5, counts[259] = 6;
    REQUIRE_OK(dp_tokenizer_prune(&small, t, counts, 258, UINT64_MAX, map, &err));
    CHECK(map[258] < 0 && map[259] < 0 && map[256] == 256 && map[257] == 257); /* abcd goes first: 5 < 6; then ab has 6, cd 7, xy 6: the highest id */
    dp_tokenizer_free(small);
    counts[259] = 7;
    REQUIRE_OK(dp_tokenizer_prune(&small, t, counts, 258, UINT64_MAX, map, &err));
    CHECK(map[256] < 0 && map[257] == 256 && map[259] == 257);
    dp_tokenizer_free(small);
    dp_tokenizer_free(t);
    dp_bpe_counter_close(c);
}

/* Encoding: frozen ids of Hugging Face and tiktoken, the definition done slowly on random words and vocabularies, caches, special tokens,
 * decoding. */
#include "tests/unit/tokenizer_data.h"

#include "base/hash.h"
#include "tokenizer/bpe_merge.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"

#include <time.h>

#include "base/fs.h"

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void frozen_ids(const char *vocab, const char *split, const char *file, size_t cache)
{
    struct dp_tokenizer *t = load_data(vocab, split);
    struct dp_encoder *c;
    struct dp_buf b, back;
    struct dp_ids ids = {0};
    char path[128];
    int cases = 0;
    snprintf(path, sizeof path, "tests/data/tokenizer/%s", file);
    dp_buf_init(&b, 1 << 24);
    dp_buf_init(&back, 1 << 24);
    REQUIRE(t != NULL);
    REQUIRE_OK(dp_fs_read(path, &b, &err));
    REQUIRE_OK(dp_encoder_open(&c, t, cache, DP_SPECIAL_NONE, &err));
    for (char *line = b.ptr, *nl; line < b.ptr + b.len; line = nl + 1, cases++) {
        nl = strchr(line, '\n');
        char *space = memchr(line, ' ', (size_t)(nl - line)), *want = space + 1;
        size_t n = (size_t)(space - line) / 2;
        char *text = malloc(n + 1);
        uint64_t count;
        for (size_t i = 0; i < n; i++) text[i] = (char)(hex(line[2 * i]) << 4 | hex(line[2 * i + 1]));
        ids.len = 0;
        CHECK_OK(dp_encode(c, dp_span(text, n), &ids, &err));
        for (size_t i = 0; i < ids.len; i++, want++) {
            uint32_t w = (uint32_t)strtoul(want, &want, 10);
            if (ids.ptr[i] != w) DP_TEST_FAIL("%s:%d: id %zu is %u, not %u", file, cases + 1, i, ids.ptr[i], w);
        }
        if (ids.len) CHECK_INT(want - 1 - nl, 0);
        CHECK_OK(dp_encode_count(c, dp_span(text, n), &count, &err));
        CHECK_INT(count, ids.len);
        dp_buf_clear(&back);
        CHECK_OK(dp_decode(t, ids.ptr, ids.len, &back, &err));
        CHECK(dp_span_eq(dp_buf_span(&back), dp_span(text, n)));
        free(text);
    }
    CHECK(cases > 150);
    dp_encoder_close(c);
    dp_ids_release(&ids);
    dp_tokenizer_free(t);
    dp_buf_release(&b);
    dp_buf_release(&back);
}

TEST(ids_of_hugging_face)
{
    frozen_ids("hf.json", NULL, "ids_hf.txt", 0);
}
TEST(ids_of_tiktoken)
{
    frozen_ids("rust.tiktoken", "cl100k", "ids_tiktoken.txt", 0);
}
TEST(ids_with_the_smallest_cache)
{
    frozen_ids("hf.json", NULL, "ids_hf.txt", 1);
}

/* Least rank, leftmost, one at a time. */
static size_t naive(const struct dp_tokenizer *t, const char *p, size_t n, uint32_t *ids)
{
    for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)dp_tokenizer_id(t, dp_span(p + i, 1));
    for (;;) {
        uint32_t best = UINT32_MAX, at = 0, into = 0;
        for (uint32_t i = 0; i + 1 < n; i++) {
            for (uint32_t m = 0; m < dp_tokenizer_merges(t) && m < best; m++) {
                uint32_t a, b, id;
                dp_tokenizer_merge(t, m, &a, &b, &id);
                if (a == ids[i] && b == ids[i + 1]) best = m, at = i, into = id;
            }
        }
        if (best == UINT32_MAX) return n;
        ids[at] = into;
        n--;
        for (size_t i = at + 1; i < n; i++) ids[i] = ids[i + 1];
    }
}

/* Lengths around the change from the short to the long way of merging, and of what the caches hold. */
TEST(random_words_against_the_definition)
{
    uint64_t seed = 7;
    char text[600];
    for (int round = 0; round < 6; round++) {
        struct dp_bpe_counter *k;
        struct dp_tokenizer *t;
        struct dp_encoder *c;
        struct dp_ids ids = {0};
        struct dp_bpe_train_options o = {.vocab_size = 256 + 40, .tie = round & 1};
        REQUIRE_OK(dp_bpe_counter_open(&k, DP_SPLIT_GPT2, &err));
        unsigned letters = 1 + (unsigned)round % 3;
        for (int i = 0; i < 200; i++) {
            size_t n = 1 + dp_splitmix64(&seed) % 30;
            for (size_t j = 0; j < n; j++) text[j] = (char)('a' + dp_splitmix64(&seed) % letters);
            REQUIRE_OK(dp_bpe_counter_add_word(k, dp_span(text, n), 1, &err));
        }
        REQUIRE_OK(dp_bpe_train(&t, &o, k, NULL, NULL, &err));
        REQUIRE_OK(dp_encoder_open(&c, t, 4096, DP_SPECIAL_NONE, &err));
        for (size_t n = 1; n < 180; n += n < 70 ? 1 : 13) {
            uint32_t want[600];
            for (size_t j = 0; j < n; j++) text[j] = (char)('a' + dp_splitmix64(&seed) % letters);
            size_t w = naive(t, text, n, want);
            for (int twice = 0; twice < 2; twice++) {
                ids.len = 0;
                REQUIRE_OK(dp_encode(c, dp_span(text, n), &ids, &err));
                if (ids.len != w || memcmp(ids.ptr, want, w * sizeof *want) != 0)
                    DP_TEST_FAIL("round %d, %zu letters, pass %d", round, n, twice);
            }
        }
        dp_ids_release(&ids);
        dp_encoder_close(c);
        dp_tokenizer_free(t);
        dp_bpe_counter_close(k);
    }
}

enum { VOCAB_MAX = 256 + 48, WORDS = 24, WORD_BYTES = 128, VOCAB_BYTES = 4096 };

/* A vocabulary of a few letters with merges in any order, several to a token, some that nothing reaches; or of ranks, edited likewise. */
struct random_vocab {
    struct dp_span bytes[VOCAB_MAX];
    struct dp_merge merges[64];
    size_t merge_count;
    uint32_t size;
    char text[VOCAB_BYTES];
    size_t text_len;
};

static uint32_t token_of(struct random_vocab *v, struct dp_span b)
{
    uint32_t id = 0;
    while (id < v->size && !dp_span_eq(v->bytes[id], b)) id++;
    if (id < v->size || v->size == VOCAB_MAX || v->text_len + b.len > VOCAB_BYTES) return id;
    char *to = v->text + v->text_len;
    memcpy(to, b.ptr, b.len);
    v->text_len += b.len;
    v->bytes[v->size++] = dp_span(to, b.len);
    return id;
}

static void add_random_token(struct random_vocab *v, uint64_t *seed, unsigned letters, bool parts)
{
    char both[64];
    uint32_t pair[2];
    size_t n = 0;
    if (!parts) {
        n = 2 + dp_splitmix64(seed) % 5;
        for (size_t i = 0; i < n; i++) both[i] = (char)('a' + dp_splitmix64(seed) % letters);
    }
    for (int k = 0; parts && k < 2; k++) {
        uint64_t pick = dp_splitmix64(seed) % (letters + v->size - 256);
        pair[k] = (uint32_t)(pick < letters ? 'a' + pick : 256 + pick - letters);
        if (v->bytes[pair[k]].len > sizeof both / 2) return;
        memcpy(both + n, v->bytes[pair[k]].ptr, v->bytes[pair[k]].len);
        n += v->bytes[pair[k]].len;
    }
    for (size_t i = 0; parts && i < v->merge_count; i++)
        if (v->merges[i].left == pair[0] && v->merges[i].right == pair[1]) return;
    uint32_t id = token_of(v, dp_span(both, n));
    if (parts && id < v->size && v->merge_count < sizeof v->merges / sizeof *v->merges) v->merges[v->merge_count++] = (struct dp_merge){pair[0], pair[1], id};
}

static struct dp_tokenizer *random_tokenizer(uint64_t *seed, unsigned letters, bool ranks)
{
    static struct random_vocab v;
    struct dp_tokenizer *t = NULL;
    v.size = 256;
    v.text_len = 256;
    v.merge_count = 0;
    for (unsigned i = 0; i < 256; i++) {
        v.text[i] = (char)i;
        v.bytes[i] = dp_span(v.text + i, 1);
    }
    bool parts = !ranks || dp_splitmix64(seed) % 2;
    for (uint64_t n = 2 + dp_splitmix64(seed) % 40; n > 0; n--) add_random_token(&v, seed, letters, parts);
    for (size_t swaps = dp_splitmix64(seed) % 4; swaps > 0; swaps--) { /* edits */
        size_t m = ranks ? v.size - 256 : v.merge_count;
        if (!m) break;
        size_t i = dp_splitmix64(seed) % m, j = dp_splitmix64(seed) % m;
        struct dp_merge merge = v.merges[i];
        struct dp_span b = v.bytes[256 + i];
        if (ranks) v.bytes[256 + i] = v.bytes[256 + j], v.bytes[256 + j] = b;
        else v.merges[i] = v.merges[j], v.merges[j] = merge;
    }
    struct dp_tokenizer_parts p = {.split = DP_SPLIT_GPT2, .ranks = ranks, .size = v.size, .bytes = v.bytes, .merges = v.merges, .merge_count = v.merge_count};
    if (dp_tokenizer_build(&t, &p, "random", &err) < 0) DP_TEST_FAIL("%s", err.msg);
    return t;
}

/* naive(), with ranks too: the lower rank, the leftmost of those. */
static size_t by_definition(const struct dp_tokenizer *t, uint32_t (*rank)[VOCAB_MAX], struct dp_span w, uint32_t *ids)
{
    size_t n = w.len;
    for (size_t i = 0; i < n; i++) ids[i] = (uint8_t)w.ptr[i];
    for (;;) {
        uint32_t best = UINT32_MAX, ignored;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            if (rank[ids[i]][ids[i + 1]] < best) best = rank[ids[i]][ids[i + 1]], at = i;
        if (best == UINT32_MAX) return n;
        if (dp_tokenizer_ranks(t)) ids[at] = best;
        else dp_tokenizer_merge(t, best, &ignored, &ignored, &ids[at]);
        n--;
        memmove(ids + at + 1, ids + at + 2, (n - at - 1) * sizeof *ids);
    }
}

TEST(random_vocabularies_against_the_definition)
{
    static uint32_t rank[VOCAB_MAX][VOCAB_MAX];
    const char *more = getenv("DP_RANDOM_VOCABULARIES");
    uint64_t seed = more ? 99 : 11;
    struct dp_merge_scratch s = {0};
    for (long round = 0, rounds = more ? atol(more) : 400; round < rounds; round++) {
        char text[WORDS * WORD_BYTES];
        uint32_t want[WORD_BYTES], one[WORD_BYTES], ids[WORDS * WORD_BYTES], counts[WORDS], left, right, id;
        struct dp_span words[WORDS];
        unsigned letters = 1 + (unsigned)(dp_splitmix64(&seed) % 3);
        struct dp_tokenizer *t = random_tokenizer(&seed, letters, round & 1);
        size_t begin = 0, got;
        REQUIRE(t != NULL);
        memset(rank, 0xff, sizeof rank);
        for (uint32_t i = 0; i < dp_tokenizer_merges(t); i++) {
            dp_tokenizer_merge(t, i, &left, &right, &id);
            rank[left][right] = dp_tokenizer_ranks(t) ? id : i;
        }
        for (size_t w = 0; w < WORDS; w++) {
            size_t n = 1 + dp_splitmix64(&seed) % (w % 8 ? 20 : WORD_BYTES);
            words[w] = dp_span(text + w * WORD_BYTES, n);
            for (size_t i = 0; i < n; i++) text[w * WORD_BYTES + i] = (char)('a' + dp_splitmix64(&seed) % letters);
        }
        REQUIRE_OK(dp_bpe_merge_many(t, &s, words, WORDS, ids, counts, &err));
        for (size_t w = 0; w < WORDS; begin += words[w++].len) {
            size_t n = by_definition(t, rank, words[w], want);
            REQUIRE_OK(dp_bpe_merge(t, &s, words[w], one, &got, &err));
            if (counts[w] != n || memcmp(ids + begin, want, n * sizeof *want) != 0) DP_TEST_FAIL("round %ld, word %zu of many", round, w);
            if (got != n || memcmp(one, want, n * sizeof *want) != 0) DP_TEST_FAIL("round %ld, word %zu", round, w);
        }
        dp_tokenizer_free(t);
    }
    dp_merge_scratch_release(&s);
}

TEST(long_pretokens_take_n_log_n)
{
    struct dp_tokenizer *t = load_data("hf.json", NULL);
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    struct dp_buf back;
    size_t n = 1 << 20;
    char *p = malloc(n);
    REQUIRE(t && p);
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    static const char *const units[] = {"a", "ab", "token", "=", " ", "\xE4\xB8\xAD", "\xff"};
    dp_buf_init(&back, n);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t len = strlen(units[u]);
        for (size_t i = 0; i < n; i++) p[i] = units[u][i % len];
        clock_t start = clock();
        ids.len = 0;
        CHECK_OK(dp_encode(c, dp_span(p, n), &ids, &err));
        CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 5.0);
        dp_buf_clear(&back);
        CHECK_OK(dp_decode(t, ids.ptr, ids.len, &back, &err));
        CHECK(dp_span_eq(dp_buf_span(&back), dp_span(p, n)));
    }
    free(p);
    dp_buf_release(&back);
    dp_ids_release(&ids);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
}

/* The same text through a cache that is always too small and one that never is. */
TEST(caches_never_change_ids)
{
    struct dp_tokenizer *t = load_data("hf.json", NULL);
    struct dp_encoder *small, *large;
    struct dp_ids a = {0}, b = {0};
    uint64_t seed = 3;
    char *p = malloc(300000);
    REQUIRE(t && p);
    for (size_t i = 0; i < 300000; i++) {
        uint64_t r = dp_splitmix64(&seed);
        p[i] = r % 9 == 0 ? ' ' : r % 97 == 1 ? (char)(r >> 32) : (char)('a' + r / 97 % 7);
    }
    REQUIRE_OK(dp_encoder_open(&small, t, 1, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encoder_open(&large, t, 64 << 20, DP_SPECIAL_NONE, &err));
    for (int pass = 0; pass < 2; pass++) {
        a.len = b.len = 0;
        CHECK_OK(dp_encode(small, dp_span(p, 300000), &a, &err));
        CHECK_OK(dp_encode(large, dp_span(p, 300000), &b, &err));
        CHECK(a.len == b.len && memcmp(a.ptr, b.ptr, a.len * sizeof *a.ptr) == 0);
    }
    free(p);
    dp_ids_release(&a);
    dp_ids_release(&b);
    dp_encoder_close(small);
    dp_encoder_close(large);
    dp_tokenizer_free(t);
}

TEST(special_tokens)
{
    struct dp_bpe_counter *k;
    struct dp_tokenizer *t;
    struct dp_encoder *none, *all;
    struct dp_ids ids = {0};
    char list[] = "<|a|>,<|a|>b,<|endoftext|>,<|";
    struct dp_bpe_train_options o = {.vocab_size = 260, .special_tokens = list};
    REQUIRE_OK(dp_bpe_counter_open(&k, DP_SPLIT_GPT2, &err));
    REQUIRE_OK(dp_bpe_train(&t, &o, k, NULL, NULL, &err));
    REQUIRE_OK(dp_encoder_open(&none, t, 4096, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encoder_open(&all, t, 4096, DP_SPECIAL_ALL, &err));
    static const struct {
        const char *text;
        size_t n;
        uint32_t first, last; /* ids, with special tokens found */
    } cases[] = {{"<|endoftext|>", 1, 2, 2},
                 {"<|a|>b", 1, 1, 1},
                 {"<|a|><|a|>", 2, 0, 0},
                 {"<|a|b", 4, 3, UINT32_MAX},
                 {"x<|a|>", 2, UINT32_MAX, 0},
                 {"<|endoftext|<|a|>", 12, 3, 0},
                 {"<|", 1, 3, 3},
                 {"<", 1, UINT32_MAX, UINT32_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t count;
        struct dp_span s = dp_span_str(cases[i].text);
        ids.len = 0;
        CHECK_OK(dp_encode(all, s, &ids, &err));
        CHECK_INT(ids.len, cases[i].n);
        if (cases[i].first != UINT32_MAX) CHECK_INT(ids.ptr[0], cases[i].first);
        if (cases[i].last != UINT32_MAX) CHECK_INT(ids.ptr[ids.len - 1], cases[i].last);
        CHECK_OK(dp_encode_count(all, s, &count, &err));
        CHECK_INT(count, ids.len);
        ids.len = 0;
        CHECK_OK(dp_encode(none, s, &ids, &err));
        CHECK_INT(ids.len, s.len); /* a token a byte: nothing was learnt */
    }
    dp_ids_release(&ids);
    dp_encoder_close(none);
    dp_encoder_close(all);
    dp_tokenizer_free(t);
    dp_bpe_counter_close(k);
}

TEST(appending_and_empty_text)
{
    struct dp_tokenizer *t = load_data("hf.json", NULL);
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    REQUIRE(t != NULL);
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    CHECK_OK(dp_encode(c, dp_span(NULL, 0), &ids, &err));
    CHECK_INT(ids.len, 0);
    CHECK_OK(dp_encode(c, dp_span_str("the"), &ids, &err));
    size_t n = ids.len;
    CHECK_OK(dp_encode(c, dp_span_str("the"), &ids, &err));
    CHECK_INT(ids.len, 2 * n);
    CHECK(memcmp(ids.ptr, ids.ptr + n, n * sizeof *ids.ptr) == 0);
    dp_ids_release(&ids);
    dp_encoder_close(c);
    dp_tokenizer_free(t);
}

TEST(decoding_refuses_unknown_ids)
{
    struct dp_tokenizer *t = load_data("hf.json", NULL);
    struct dp_buf b;
    uint32_t ids[] = {5, 6, dp_tokenizer_size(t)};
    dp_buf_init(&b, 4);
    CHECK_INT(dp_decode(t, ids, 3, &b, &err), DP_CORRUPT);
    CHECK(strstr(err.msg, "position 2") != NULL);
    CHECK_INT(b.len, 0);
    CHECK_OK(dp_decode(t, ids, 2, &b, &err));
    CHECK_INT(b.len, 2);
    uint32_t many[] = {5, 5, 5};
    CHECK_INT(dp_decode(t, many, 3, &b, &err), DP_LIMIT);
    CHECK_INT(b.len, 2);
    dp_buf_release(&b);
    dp_tokenizer_free(t);
}

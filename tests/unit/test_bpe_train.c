/* Training: frozen merges of Hugging Face and rustbpe, a naive reference on random corpora, counters, limits. */
#include "tests/unit/tokenizer_data.h"

#include "base/fs.h"
#include "base/hash.h"
#include "tokenizer/bpe_train.h"

static struct dp_tokenizer *train(struct dp_span text, enum dp_split split, int tie, int64_t vocab, char *specials, int64_t min_count,
                                  int64_t bytes_max)
{
    struct dp_bpe_counter *c = NULL;
    struct dp_tokenizer *t = NULL;
    struct dp_bpe_train_options o = {.vocab_size = vocab, .split = split, .tie = tie, .special_tokens = specials, .min_count = min_count, .token_bytes_max = bytes_max};
    CHECK_OK(dp_bpe_counter_open(&c, split, &err));
    CHECK_OK(dp_bpe_counter_add(c, text, &err));
    CHECK_OK(dp_bpe_train(&t, &o, c, NULL, NULL, &err));
    dp_bpe_counter_close(c);
    return t;
}

static void same_as_hf(enum dp_split split, const char *file)
{
    struct dp_buf text = read_data("corpus.txt"), want = read_data(file);
    char specials[] = "<|endoftext|>";
    struct dp_tokenizer *t = train(dp_buf_span(&text), split, DP_BPE_TIE_HF, 1500, specials, 0, 0);
    REQUIRE(t && want.ptr);
    char *p = want.ptr;
    uint32_t n = 0;
    for (; p < want.ptr + want.len; n++) {
        uint32_t got[3];
        REQUIRE(n < dp_tokenizer_merges(t));
        dp_tokenizer_merge(t, n, &got[0], &got[1], &got[2]);
        for (int i = 0; i < 3; i++) {
            uint32_t w = (uint32_t)strtoul(p, &p, 10);
            if (got[i] != w) DP_TEST_FAIL("merge %u: %u, not %u", n, got[i], w);
        }
        p++;
    }
    CHECK_INT(dp_tokenizer_merges(t), n);
    CHECK_INT(dp_tokenizer_eot(t), 0);
    CHECK_INT(dp_tokenizer_size(t), 257 + n); /* the corpus is exhausted before 1500: both stop */
    dp_tokenizer_free(t);
    dp_buf_release(&text);
    dp_buf_release(&want);
}

TEST(merges_of_hugging_face_gpt2)
{
    same_as_hf(DP_SPLIT_GPT2, "merges_hf_gpt2.txt");
}
TEST(merges_of_hugging_face_o200k)
{
    same_as_hf(DP_SPLIT_O200K, "merges_hf_o200k.txt");
}

TEST(ranks_of_rustbpe)
{
    struct dp_buf text = read_data("corpus.txt"), want = read_data("rust.tiktoken"), got;
    struct dp_tokenizer *t = train(dp_buf_span(&text), DP_SPLIT_CL100K, DP_BPE_TIE_BYTES, 1500, NULL, 0, 0);
    dp_buf_init(&got, 1 << 24);
    REQUIRE(t);
    CHECK_OK(dp_tokenizer_save_tiktoken(t, &got, &err));
    CHECK(dp_span_eq(dp_buf_span(&got), dp_buf_span(&want)));
    dp_tokenizer_free(t);
    dp_buf_release(&got);
    dp_buf_release(&text);
    dp_buf_release(&want);
}

/* Words by hash, and counts: what two counters are compared by. */
struct listed {
    uint64_t hash, count;
    size_t len;
};
static int by_hash(const void *a, const void *b)
{
    uint64_t x = ((const struct listed *)a)->hash, y = ((const struct listed *)b)->hash;
    return (x > y) - (x < y);
}
static size_t list_words(struct dp_bpe_counter *c, struct listed *out, size_t max)
{
    struct dp_span w;
    uint64_t n;
    size_t k = 0;
    CHECK_OK(dp_bpe_counter_finish(c, 0, &err));
    while (dp_bpe_counter_next(c, &w, &n, &err) == DP_OK && k < max) out[k++] = (struct listed){dp_hash64(w.ptr, w.len, 0), n, w.len};
    CHECK(k < max);
    qsort(out, k, sizeof *out, by_hash);
    return k;
}

TEST(lines_at_once_as_lines_one_by_one)
{
    static const char *const atoms[] = {"\n", "\n", "\n\n", " ", "  ", "\t", "\r\n", "\r", "\xe2\x80\xa8", "a", "word", "Word", "HTML", "12", "1234", "!", "?!", "/", "'s", "'S", "'",
                                        "\xe4\xb8\xad", "\xcc\x81", "\xd0\xbf", "\xff", "\xe2\x80", "don't", "\xc5\xbf", "\v", "\x01", "\xe3\x83\xbb", "xxxxxxxxxxxxxxxxxxxx"};
    uint64_t seed = 7;
    for (int round = 0; round < 400; round++) {
        struct dp_bpe_counter *whole, *each;
        enum dp_split split = (enum dp_split)(round % DP_SPLIT_COUNT);
        char text[1200];
        size_t n = 0;
        uint64_t atoms_used = round % 3 ? sizeof atoms / sizeof *atoms : 8;
        while (n < sizeof text - 24 && dp_splitmix64(&seed) % 300) {
            const char *a = atoms[dp_splitmix64(&seed) % atoms_used];
            memcpy(text + n, a, strlen(a));
            n += strlen(a);
        }
        REQUIRE_OK(dp_bpe_counter_open(&whole, split, &err));
        REQUIRE_OK(dp_bpe_counter_open(&each, split, &err));
        uint64_t lines = 0, want = 0;
        CHECK_OK(dp_bpe_counter_add_lines(whole, dp_span(text, n), &lines, &err));
        for (size_t from = 0, to; from < n; from = to) {
            for (to = from + 1; to < n && text[to - 1] != '\n';) to++;
            want++;
            CHECK_OK(dp_bpe_counter_add(each, dp_span(text + from, to - from), &err));
        }
        struct listed a[700], b[700];
        CHECK_INT(lines, want);
        CHECK_INT(dp_bpe_counter_total(whole), dp_bpe_counter_total(each));
        size_t ka = list_words(whole, a, 700), kb = list_words(each, b, 700);
        CHECK_INT(ka, kb);
        for (size_t i = 0; i < ka && i < kb; i++)
            if (a[i].count != b[i].count || a[i].hash != b[i].hash) DP_TEST_FAIL("round %d, word %zu", round, i);
        dp_bpe_counter_close(whole);
        dp_bpe_counter_close(each);
    }
}

TEST(long_pretokens_are_cut_between_characters)
{
    struct dp_bpe_counter *c;
    struct listed w[8];
    static const char han[] = "\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80\xe4\xb8\x80";
    REQUIRE_OK(dp_bpe_counter_open(&c, DP_SPLIT_GPT2, &err));
    dp_bpe_counter_word_max(c, 20);
    /* Of 36 bytes 20 end inside the seventh character: 18 are taken, twice. A space and 19 letters are 20 bytes. */
    CHECK_OK(dp_bpe_counter_add(c, dp_span_str(han), &err));
    CHECK_OK(dp_bpe_counter_add(c, dp_span_str(" abcdefghijklmnopqrs abcdefghijklmnopqrst"), &err));
    CHECK_INT(dp_bpe_counter_words_cut(c), 2);
    CHECK_INT(dp_bpe_counter_total(c), 5); /* 2, 1, 2 */
    REQUIRE(list_words(c, w, 8) == 2);     /* "t" has no pair to learn */
    for (int i = 0; i < 2; i++) {
        CHECK_INT(w[i].count, 2);
        CHECK_INT(w[i].len, w[i].hash == dp_hash64(han, 18, 0) ? 18 : 20);
    }
    dp_bpe_counter_close(c);
}

/* The definition, done the slow way: words as arrays of ids, all pairs counted anew for each merge. */
struct naive {
    uint32_t w[64][40];
    size_t len[64];
    uint64_t freq[64];
    size_t words;
};

static bool naive_best(const struct naive *v, uint32_t *left, uint32_t *right)
{
    uint64_t best = 0;
    for (size_t i = 0; i < v->words; i++) {
        for (size_t k = 0; k + 1 < v->len[i]; k++) {
            uint32_t a = v->w[i][k], b = v->w[i][k + 1];
            uint64_t n = 0;
            for (size_t x = 0; x < v->words; x++)
                for (size_t y = 0; y + 1 < v->len[x]; y++)
                    if (v->w[x][y] == a && v->w[x][y + 1] == b) n += v->freq[x];
            if (n > best || (n == best && (a < *left || (a == *left && b < *right)))) best = n, *left = a, *right = b;
        }
    }
    return best > 0;
}

static void naive_merge(struct naive *v, uint32_t left, uint32_t right, uint32_t id)
{
    for (size_t i = 0; i < v->words; i++) {
        size_t n = 0;
        for (size_t k = 0; k < v->len[i]; k++) {
            if (k + 1 < v->len[i] && v->w[i][k] == left && v->w[i][k + 1] == right) v->w[i][n++] = id, k++;
            else v->w[i][n++] = v->w[i][k];
        }
        v->len[i] = n;
    }
}

TEST(random_words_against_the_definition)
{
    uint64_t seed = 42;
    for (int round = 0; round < 60; round++) {
        struct naive v = {.words = 1 + dp_splitmix64(&seed) % 12};
        struct dp_bpe_counter *c;
        REQUIRE_OK(dp_bpe_counter_open(&c, DP_SPLIT_GPT2, &err));
        unsigned letters = 1 + dp_splitmix64(&seed) % 4; /* few letters: repeats, overlaps, ties */
        size_t words = v.words;
        v.words = 0;
        for (size_t i = 0; i < words; i++) {
            char text[40];
            size_t n = 1 + dp_splitmix64(&seed) % 38, k = v.words;
            for (size_t j = 0; j < n; j++) text[j] = (char)('a' + dp_splitmix64(&seed) % letters);
            uint64_t f = 1 + dp_splitmix64(&seed) % 5;
            for (size_t j = 0; j < n; j++) v.w[k][j] = (uint8_t)text[j];
            v.len[k] = n;
            v.freq[k] = f;
            v.words++;
            REQUIRE_OK(dp_bpe_counter_add_word(c, dp_span(text, n), f, &err));
        }
        struct dp_bpe_train_options o = {.vocab_size = 400, .tie = DP_BPE_TIE_BYTES};
        struct dp_tokenizer *t;
        REQUIRE_OK(dp_bpe_train(&t, &o, c, NULL, NULL, &err));
        uint32_t left = 0, right = 0, n = 0;
        while (n < 144 && naive_best(&v, &left, &right)) {
            uint32_t a, b, id;
            REQUIRE(n < dp_tokenizer_merges(t));
            dp_tokenizer_merge(t, n, &a, &b, &id);
            if (a != left || b != right) DP_TEST_FAIL("round %d merge %u: (%u, %u), not (%u, %u)", round, n, a, b, left, right);
            naive_merge(&v, left, right, id);
            n++;
        }
        CHECK_INT(dp_tokenizer_merges(t), n);
        dp_tokenizer_free(t);
        dp_bpe_counter_close(c);
    }
}

TEST(counters_merge_in_any_order)
{
    struct dp_buf text = read_data("corpus.txt");
    struct dp_bpe_counter *c[3], *one;
    size_t half = text.len / 2;
    while (text.ptr[half] != '\n') half++;
    REQUIRE_OK(dp_bpe_counter_open(&one, DP_SPLIT_O200K, &err));
    for (int i = 0; i < 3; i++) REQUIRE_OK(dp_bpe_counter_open(&c[i], DP_SPLIT_O200K, &err));
    struct dp_span a = dp_span(text.ptr, half), b = dp_span(text.ptr + half, text.len - half);
    CHECK_OK(dp_bpe_counter_add(one, a, &err));
    CHECK_OK(dp_bpe_counter_add(one, b, &err));
    CHECK_OK(dp_bpe_counter_add(c[0], b, &err));
    CHECK_OK(dp_bpe_counter_add(c[1], a, &err));
    struct dp_bpe_counter *other;
    REQUIRE_OK(dp_bpe_counter_open(&other, DP_SPLIT_GPT2, &err));
    CHECK_INT(dp_bpe_counter_merge(other, one, &err), DP_CONFIG);
    CHECK_OK(dp_bpe_counter_merge(c[2], c[1], &err));
    CHECK_OK(dp_bpe_counter_merge(c[2], c[0], &err));
    CHECK_OK(dp_bpe_counter_finish(c[2], 0, &err));
    CHECK_OK(dp_bpe_counter_finish(one, 0, &err));
    CHECK(dp_bpe_counter_unique(one) > 0);
    CHECK_INT(dp_bpe_counter_unique(c[2]), dp_bpe_counter_unique(one));
    CHECK_INT(dp_bpe_counter_total(c[2]), dp_bpe_counter_total(one));
    struct dp_bpe_train_options o = {.vocab_size = 900, .split = DP_SPLIT_O200K};
    struct dp_tokenizer *x, *y;
    REQUIRE_OK(dp_bpe_train(&x, &o, one, NULL, NULL, &err));
    REQUIRE_OK(dp_bpe_train(&y, &o, c[2], NULL, NULL, &err));
    CHECK(dp_hash128_eq(dp_tokenizer_digest(x), dp_tokenizer_digest(y)));
    dp_tokenizer_free(x);
    dp_tokenizer_free(y);
    dp_bpe_counter_close(other);
    dp_bpe_counter_close(one);
    for (int i = 0; i < 3; i++) dp_bpe_counter_close(c[i]);
    dp_buf_release(&text);
}

TEST(a_budget_is_an_error_not_a_loss)
{
    struct dp_bpe_counter *c;
    uint64_t seed = 1;
    int rc = 0;
    REQUIRE_OK(dp_bpe_counter_open(&c, DP_SPLIT_GPT2, &err));
    dp_bpe_counter_budget(c, 2 << 20, NULL);
    for (int i = 0; i < 200000 && rc >= 0; i++) {
        char w[24];
        int n = snprintf(w, sizeof w, " w%llx", (unsigned long long)dp_splitmix64(&seed));
        rc = dp_bpe_counter_add_word(c, dp_span(w, (size_t)n), 1, &err);
    }
    CHECK_INT(rc, DP_LIMIT);
    CHECK(dp_bpe_counter_bytes(c) <= 2 << 20);
    CHECK(strstr(err.msg, "budget") != NULL);
    dp_bpe_counter_close(c);
}

/* A word of a made-up vocabulary: rank r with a Zipf-like chance. */
static struct dp_span a_word(uint64_t *seed, char buf[64])
{
    uint64_t r = dp_splitmix64(seed) % (1 + dp_splitmix64(seed) % 40000);
    uint64_t h = r * UINT64_C(0x9e3779b97f4a7c15);
    size_t n = 1 + h % (r % 100 == 7 ? 60 : 9);
    for (size_t i = 0; i < n; i++) buf[i] = (char)('a' + (h >> (i % 11 * 5)) % 26);
    n += (size_t)snprintf(buf + n, 64 - n, "%llx", (unsigned long long)(r % 1000 < 10 ? r % 10 : r));
    return dp_span(buf, n);
}

/* Of the chosen words and their counts, whatever the order. */
static uint64_t digest_of(struct dp_bpe_counter *c)
{
    struct dp_span w;
    uint64_t n, sum = 0;
    int rc;
    while ((rc = dp_bpe_counter_next(c, &w, &n, &err)) == DP_OK) sum += dp_hash64(w.ptr, w.len, n);
    CHECK_INT(rc, DP_EOF);
    return sum;
}

/* Tables that overflow into runs, on one counter and on three, count and choose as one table that doesn't. */
TEST(words_on_disk_count_the_same)
{
    const char *dir = dp_test_tmpdir();
    const uint64_t limits[] = {0, 1, 5000, 77777, 150000, UINT64_MAX};
    for (size_t k = 0; k < sizeof limits / sizeof *limits; k++) {
        struct dp_bpe_counter *ram, *disk, *part[3];
        uint64_t seed = 4;
        char buf[64];
        REQUIRE_OK(dp_bpe_counter_open(&ram, DP_SPLIT_GPT2, &err));
        REQUIRE_OK(dp_bpe_counter_open(&disk, DP_SPLIT_GPT2, &err));
        dp_bpe_counter_budget(disk, 100, dir); /* a run every few words: merges of merges */
        for (int i = 0; i < 3; i++) {
            REQUIRE_OK(dp_bpe_counter_open(&part[i], DP_SPLIT_GPT2, &err));
            if (i) dp_bpe_counter_budget(part[i], 1300000, dir); /* part[0] has no folder */
        }
        for (int i = 0; i < 60000; i++) {
            struct dp_span w = a_word(&seed, buf);
            uint64_t n = i % 1000 == 0 ? UINT64_C(1) << (i / 1000) : 1;
            REQUIRE_OK(dp_bpe_counter_add_word(ram, w, n, &err));
            REQUIRE_OK(dp_bpe_counter_add_word(part[i % 3], w, n, &err));
            if (i == 3000) dp_bpe_counter_budget(disk, 1300000, dir);
            REQUIRE_OK(dp_bpe_counter_add_word(disk, w, n, &err));
        }
        for (int i = 1; i < 3; i++) REQUIRE_OK(dp_bpe_counter_merge(part[0], part[i], &err));
        REQUIRE_OK(dp_bpe_counter_finish(ram, limits[k], &err));
        REQUIRE_OK(dp_bpe_counter_finish(disk, limits[k], &err));
        REQUIRE_OK(dp_bpe_counter_finish(part[0], limits[k], &err));
        CHECK_INT(dp_bpe_counter_unique(disk), dp_bpe_counter_unique(ram));
        CHECK_INT(dp_bpe_counter_unique(part[0]), dp_bpe_counter_unique(ram));
        CHECK_INT(dp_bpe_counter_total(disk), dp_bpe_counter_total(ram));
        CHECK_INT(dp_bpe_counter_total(part[0]), dp_bpe_counter_total(ram));
        CHECK_INT(dp_bpe_counter_taken(disk), dp_bpe_counter_taken(ram));
        if (limits[k]) CHECK(dp_bpe_counter_text_bytes(ram) <= limits[k]);
        uint64_t want = digest_of(ram);
        CHECK(digest_of(disk) == want);
        CHECK(digest_of(part[0]) == want);
        dp_bpe_counter_close(ram);
        dp_bpe_counter_close(disk);
        for (int i = 0; i < 3; i++) dp_bpe_counter_close(part[i]);
    }
}

/* words_bytes_max: the most frequent first, among equals by bytes, up to the first that doesn't fit. */
TEST(which_words_are_left_out)
{
    const char *dir = dp_test_tmpdir();
    const struct {
        const char *word;
        uint64_t n;
    } words[] = {{"dd", 7}, {"bbbb", 7}, {"often", 70000}, {"z", 99}, {"cc", 7}, {"most", UINT64_C(1) << 40}, {"rare", 1}, {"aa", 7}};
    const struct {
        uint64_t max;
        const char *taken;
    } cases[] = {{0, "aa bbbb cc dd most often rare"}, {5, "most"}, {10, "most"}, {11, "most often"}, {14, "aa most often"},
                 {18, "aa most often"}, {19, "aa bbbb most often"}, {24, "aa bbbb cc most often"}, {29, "aa bbbb cc dd most often"},
                 {30, "aa bbbb cc dd most often rare"}, {4, ""}};
    for (size_t k = 0; k < 2 * sizeof cases / sizeof *cases; k++) {
        struct dp_bpe_counter *c;
        struct dp_span w;
        uint64_t n, want = 0, got = 0;
        size_t many = 0;
        REQUIRE_OK(dp_bpe_counter_open(&c, DP_SPLIT_GPT2, &err));
        if (k & 1) dp_bpe_counter_budget(c, 1, dir);
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            REQUIRE_OK(dp_bpe_counter_add_word(c, dp_span_str(words[i].word), words[i].n, &err));
        REQUIRE_OK(dp_bpe_counter_finish(c, cases[k / 2].max, &err));
        for (const char *p = cases[k / 2].taken; *p; p += strcspn(p, " "), p += *p == ' ', many++)
            want += dp_hash64(p, strcspn(p, " "), 0);
        while (dp_bpe_counter_next(c, &w, &n, &err) == DP_OK) got += dp_hash64(w.ptr, w.len, 0);
        if (want != got || dp_bpe_counter_taken(c) != many)
            DP_TEST_FAIL("%llu bytes%s: %llu words, not \"%s\"", (unsigned long long)cases[k / 2].max, k & 1 ? " on disk" : "",
                         (unsigned long long)dp_bpe_counter_taken(c), cases[k / 2].taken);
        CHECK_INT(dp_bpe_counter_left_out(c), 7 - many);
        dp_bpe_counter_close(c);
    }
}

TEST(counts_past_32_bits)
{
    struct dp_bpe_counter *c;
    struct dp_tokenizer *t;
    struct dp_bpe_train_options o = {.vocab_size = 258, .tie = DP_BPE_TIE_BYTES};
    REQUIRE_OK(dp_bpe_counter_open(&c, DP_SPLIT_GPT2, &err));
    CHECK_OK(dp_bpe_counter_add_word(c, dp_span_str("the"), UINT64_C(5000000000), &err));
    CHECK_OK(dp_bpe_counter_add_word(c, dp_span_str("xy"), UINT64_C(4000000000), &err));
    REQUIRE_OK(dp_bpe_train(&t, &o, c, NULL, NULL, &err));
    CHECK_SPAN(dp_tokenizer_bytes(t, 256), "he");
    CHECK_SPAN(dp_tokenizer_bytes(t, 257), "the");
    dp_tokenizer_free(t);
    dp_bpe_counter_close(c);
}

TEST(limits_of_the_options)
{
    struct dp_span text = dp_span_str("low low low lower lowest newest widest aaaaaaaaaaaaaaaa");
    char specials[] = "<|endoftext|>,,<|pad|>";
    struct dp_tokenizer *t = train(text, DP_SPLIT_GPT2, DP_BPE_TIE_HF, 5000, specials, 3, 0);
    CHECK_INT(dp_tokenizer_special(t, dp_span_str("<|pad|>")), 1);
    CHECK(dp_tokenizer_id(t, dp_span_str(" low")) > 257);
    CHECK_INT(dp_tokenizer_id(t, dp_span_str("west")), -1); /* twice only */
    dp_tokenizer_free(t);
    t = train(text, DP_SPLIT_GPT2, DP_BPE_TIE_BYTES, 5000, specials, 1, 3);
    for (uint32_t i = 0; i < dp_tokenizer_size(t); i++) CHECK(dp_tokenizer_bytes(t, i).len <= 3 || i >= dp_tokenizer_size(t) - 2);
    CHECK_INT(dp_tokenizer_eot(t), dp_tokenizer_size(t) - 2); /* special tokens last */
    dp_tokenizer_free(t);
    struct dp_bpe_counter *c;
    struct dp_bpe_train_options o = {.vocab_size = 257, .special_tokens = specials};
    REQUIRE_OK(dp_bpe_counter_open(&c, DP_SPLIT_GPT2, &err));
    CHECK_INT(dp_bpe_train(&t, &o, c, NULL, NULL, &err), DP_CONFIG);
    o.vocab_size = 258; /* an empty corpus gives the alphabet */
    CHECK_OK(dp_bpe_train(&t, &o, c, NULL, NULL, &err));
    CHECK_INT(dp_tokenizer_size(t), 258);
    dp_tokenizer_free(t);
    o.split = DP_SPLIT_O200K;
    CHECK_INT(dp_bpe_train(&t, &o, c, NULL, NULL, &err), DP_CONFIG);
    dp_bpe_counter_close(c);
}

/* One pretoken of a megabyte: peers that rewrite words take the square of it. */
TEST(long_pretokens)
{
    size_t n = 1 << 20;
    char *p = malloc(n);
    uint64_t seed = 9;
    for (size_t i = 0; i < n; i++) p[i] = (char)('a' + dp_splitmix64(&seed) % 3);
    struct dp_tokenizer *t = train(dp_span(p, n), DP_SPLIT_GPT2, DP_BPE_TIE_HF, 3000, NULL, 1, 0);
    CHECK_INT(dp_tokenizer_size(t), 3000);
    dp_tokenizer_free(t);
    memset(p, 'a', n);
    t = train(dp_span(p, n), DP_SPLIT_GPT2, DP_BPE_TIE_HF, 3000, NULL, 1, 0);
    CHECK_INT(dp_tokenizer_merges(t), 20);
    dp_tokenizer_free(t);
    free(p);
}

static void note(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *last = ctx;
    CHECK(done >= *last && done <= total);
    *last = done;
}

TEST(progress_and_defaults)
{
    struct dp_buf text = read_data("corpus.txt");
    struct dp_bpe_counter *c;
    struct dp_bpe_train_options o = {0};
    struct dp_tokenizer *t;
    uint64_t last = 0;
    REQUIRE_OK(dp_opt_defaults(dp_bpe_train_opts, &o, &err));
    CHECK_INT(o.vocab_size, 32000);
    CHECK_STR(o.special_tokens, "<|endoftext|>");
    o.vocab_size = 1000;
    REQUIRE_OK(dp_bpe_counter_open(&c, (enum dp_split)o.split, &err));
    CHECK_OK(dp_bpe_counter_add(c, dp_buf_span(&text), &err));
    CHECK_OK(dp_bpe_train(&t, &o, c, note, &last, &err));
    CHECK_INT(last, 1000 - 257);
    dp_tokenizer_free(t);
    dp_bpe_counter_close(c);
    dp_opt_release(dp_bpe_train_opts, &o);
    dp_buf_release(&text);
}

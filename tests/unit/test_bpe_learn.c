/* What is learnt: SuperBPE's second stage and seed tokens against definitions done the slow way, vetoes, special tokens, samples, nested
 * vocabularies. */
#include "tests/unit/tokenizer_data.h"

#include "base/fs.h"
#include "base/hash.h"
#include "tokenizer/bpe_seed.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/bpe_veto.h"
#include "tokenizer/encode.h"
#include "tokenizer/text_sample.h"

static struct dp_tokenizer *train(struct dp_span text, const struct dp_bpe_train_options *o, int want)
{
    struct dp_bpe_counter *c = NULL;
    struct dp_tokenizer *t = NULL;
    CHECK_OK(dp_bpe_counter_open_for(&c, o, &err));
    CHECK_OK(dp_bpe_counter_add(c, text, &err));
    CHECK_INT(dp_bpe_train(&t, o, c, NULL, NULL, &err), want);
    dp_bpe_counter_close(c);
    return t;
}

/* --- the definition: pieces as arrays of ids, pairs counted anew for each merge --- */

enum { WORDS = 900, LEN = 400, PAIRS = 4096 };
struct naive {
    uint32_t w[WORDS][LEN];
    size_t len[WORDS], words;
};

/* Pieces of the split, in the tokens that the first `merges` merges of t give. Every piece counts once for each time it stands in the text. */
static void naive_pieces(struct naive *v, struct dp_span text, enum dp_split split, const struct dp_tokenizer *t, uint32_t merges)
{
    size_t pos = 0, from = 0, end;
    for (v->words = 0; dp_split_run(split, text, &pos, &end, 1); from = end) {
        if (v->words == WORDS || end - from > LEN) {
            DP_TEST_FAIL("the test's text is too long");
            return;
        }
        uint32_t *w = v->w[v->words];
        for (size_t i = from; i < end; i++) w[i - from] = (uint32_t)dp_tokenizer_id(t, dp_span(text.ptr + i, 1));
        v->len[v->words++] = end - from;
    }
    for (uint32_t m = 0; m < merges; m++) {
        uint32_t a, b, id;
        dp_tokenizer_merge(t, m, &a, &b, &id);
        for (size_t i = 0; i < v->words; i++) {
            size_t n = 0;
            for (size_t k = 0; k < v->len[i]; k++, n++) {
                bool here = k + 1 < v->len[i] && v->w[i][k] == a && v->w[i][k + 1] == b;
                v->w[i][n] = here ? id : v->w[i][k];
                k += here;
            }
            v->len[i] = n;
        }
    }
}

static struct dp_span joined(const struct dp_tokenizer *t, uint32_t a, uint32_t b, char buf[256])
{
    struct dp_span x = dp_tokenizer_bytes(t, a), y = dp_tokenizer_bytes(t, b);
    if (x.len + y.len > 256) return dp_span(buf, 0);
    memcpy(buf, x.ptr, x.len);
    memcpy(buf + x.len, y.ptr, y.len);
    return dp_span(buf, x.len + y.len);
}

static bool naive_best(const struct naive *v, const struct dp_tokenizer *t, const struct dp_bpe_veto *veto, uint32_t *left, uint32_t *right)
{
    static struct {
        uint64_t key, n;
    } pairs[PAIRS * 8];
    memset(pairs, 0, sizeof pairs);
    uint64_t best = 0, key = 0;
    for (size_t i = 0; i < v->words; i++)
        for (size_t k = 0; k + 1 < v->len[i]; k++) {
            uint64_t x = ((uint64_t)v->w[i][k] << 32 | v->w[i][k + 1]) + 1;
            size_t at = x * UINT64_C(0x9e3779b97f4a7c15) >> 49;
            while (pairs[at].key && pairs[at].key != x) at = (at + 1) % (PAIRS * 8);
            pairs[at].key = x;
            pairs[at].n++;
        }
    for (size_t i = 0; i < PAIRS * 8; i++) {
        char buf[256];
        uint64_t x = pairs[i].key - 1;
        if (!pairs[i].key || pairs[i].n < best || (pairs[i].n == best && x > key)) continue;
        if (dp_bpe_vetoed(veto, joined(t, (uint32_t)(x >> 32), (uint32_t)x, buf))) continue;
        best = pairs[i].n;
        key = x;
    }
    *left = (uint32_t)(key >> 32);
    *right = (uint32_t)key;
    return best > 1;
}

/* Some sentences over and over, with words of few letters for ties. */
static struct dp_buf prose(uint64_t seed, size_t bytes)
{
    static const char *const parts[] = {" of the", " by the way", ", and", ". The", " a b", " ab", " ba", ": ", "\n", " 1234", " in", " the end", "!!", "  x", "-", "\xC3\xA9t\xC3\xA9"};
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    while (b.len < bytes) dp_buf_add_str(&b, parts[dp_splitmix64(&seed) % (sizeof parts / sizeof *parts)]);
    return b;
}

TEST(super_merges_against_the_definition)
{
    static struct naive v;
    for (uint64_t round = 1; round <= 6; round++) {
        struct dp_buf text = prose(round, 2500);
        char veto_words[] = "colon,newline,sentence";
        struct dp_bpe_train_options o = {.vocab_size = 340, .min_count = 2, .tie = round % 2, .super_from = 256 + 12 * (int64_t)round, .super_bytes_max = 1 << 20,
                                         .super_words_max = round == 3 ? 0 : 2, .super_veto = round == 4 ? NULL : veto_words};
        struct dp_bpe_veto veto = {.super = true, .words_max = o.super_words_max};
        struct dp_tokenizer *t = train(dp_buf_span(&text), &o, DP_OK);
        REQUIRE(t);
        CHECK_INT(dp_tokenizer_split(t), DP_SPLIT_SUPERBPE);
        CHECK_OK(dp_bpe_veto_rules(o.super_veto, &veto.rules, &err));
        o.vocab_size = o.super_from; /* the first stage is plain BPE */
        o.super_from = 0;
        struct dp_tokenizer *plain = train(dp_buf_span(&text), &o, DP_OK);
        REQUIRE(plain);
        uint32_t total = dp_tokenizer_merges(t), m = dp_tokenizer_merges(plain), a, b;
        CHECK(total > m + 4);
        for (uint32_t i = 0; i < m; i++) {
            uint32_t x[3], y[3];
            dp_tokenizer_merge(t, i, &x[0], &x[1], &x[2]);
            dp_tokenizer_merge(plain, i, &y[0], &y[1], &y[2]);
            CHECK(memcmp(x, y, sizeof x) == 0);
        }
        for (; m <= total; m++) {
            naive_pieces(&v, dp_buf_span(&text), DP_SPLIT_SUPERBPE, t, m);
            if (m == 84 || !naive_best(&v, t, &veto, &a, &b)) break;
            uint32_t got[3];
            REQUIRE(m < total);
            dp_tokenizer_merge(t, m, &got[0], &got[1], &got[2]);
            if (got[0] != a || got[1] != b) DP_TEST_FAIL("round %d merge %u: (%u, %u), not (%u, %u)", (int)round, m, got[0], got[1], a, b);
        }
        CHECK_INT(m, total);
        dp_tokenizer_free(plain);
        dp_tokenizer_free(t);
        dp_buf_release(&text);
    }
}

TEST(vetoes)
{
    static const struct {
        const char *text;
        unsigned refused; /* by which single rule: bits, and 8 for more than two words */
    } cases[] = {
        {" of the", 0}, {" of the day", 8}, {"a\nb", DP_VETO_NEWLINE}, {"a\n ", 0}, {".\n", 0}, {"\n\nx", DP_VETO_NEWLINE}, {": ", DP_VETO_COLON},
        {" :", 0}, {"x: the", DP_VETO_COLON}, {" x:y", 0}, {"http:", 0}, {". The", DP_VETO_SENTENCE}, {"...", 0}, {" 3.5", 0}, {"?\n", 0}, {"!  b", DP_VETO_SENTENCE},
        {"\xE3\x80\x82\xE4\xB8\xAD", DP_VETO_SENTENCE}, {"\xE3\x80\x82 ", 0}, {"\x80 \xE4\xB8 z w", 8}, {" a\xC2\xA0z b", 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (unsigned rule = 1; rule <= 8; rule *= 2) {
            struct dp_bpe_veto v = {.super = true, .rules = rule & 7, .words_max = rule == 8 ? 2 : 0};
            if (dp_bpe_vetoed(&v, dp_span_str(cases[i].text)) != (cases[i].refused == rule)) DP_TEST_FAIL("%s by rule %u", cases[i].text, rule);
        }
    CHECK_INT(dp_bpe_chars(dp_span_str("a\xC3\xA9\xE4\xB8\xAD")), 3);
    CHECK_INT(dp_bpe_chars(dp_span_str("\x80\xADx")), 2);
    unsigned rules;
    char bad[] = "colon,comma";
    CHECK_INT(dp_bpe_veto_rules(bad, &rules, &err), DP_CONFIG);
    CHECK(strstr(err.msg, "'comma'") != NULL);
}

static size_t longest(const struct dp_tokenizer *t, bool chars)
{
    size_t most = 0;
    for (uint32_t i = 0; i < dp_tokenizer_size(t); i++) {
        size_t n = chars ? (size_t)dp_bpe_chars(dp_tokenizer_bytes(t, i)) : dp_tokenizer_bytes(t, i).len;
        if (n > most) most = n;
    }
    return most;
}

TEST(longest_tokens_hold)
{
    struct dp_buf text = read_data("corpus.txt");
    struct dp_span seeds[] = {dp_span_str(" alphabet"), dp_span_str("\xE4\xB8\xAD\xE6\x96\x87\xE5\xAD\x97")};
    for (int super = 0; super < 2; super++)
        for (int seeded = 0; seeded < 2; seeded++) {
            struct dp_bpe_train_options o = {.vocab_size = 900, .token_bytes_max = 9, .super_from = super ? 500 : 0, .super_bytes_max = 1 << 20,
                                             .seeds = seeds, .seed_count = seeded ? 2 : 0};
            struct dp_tokenizer *t = train(dp_buf_span(&text), &o, DP_OK);
            CHECK_INT(longest(t, false), 9);
            CHECK_INT(dp_tokenizer_size(t), 900);
            dp_tokenizer_free(t);
            o.token_bytes_max = 0;
            o.token_chars_max = 9;
            t = train(dp_buf_span(&text), &o, DP_OK);
            CHECK_INT(longest(t, true), 9);
            CHECK(longest(t, false) > 9 || !super);
            dp_tokenizer_free(t);
        }
    struct dp_bpe_train_options o = {.vocab_size = 900, .token_bytes_max = 8, .seeds = seeds, .seed_count = 2};
    CHECK(!train(dp_buf_span(&text), &o, DP_CONFIG));
    CHECK(strstr(err.msg, "\" alphabet\" has 9 bytes, more than token_bytes_max, 8") != NULL);
    dp_buf_release(&text);
}

TEST(special_tokens_are_not_learnt)
{
    struct dp_buf text = read_data("corpus.txt"), with;
    dp_buf_init(&with, 1 << 24);
    for (size_t i = 0; i < text.len; i++) {
        dp_buf_add_char(&with, text.ptr[i]);
        if (text.ptr[i] == '\n') dp_buf_add_str(&with, "PAD<|end|><|end|>more><|endless|>");
    }
    /* What is left when they are gone: the same text, each line by itself. */
    char list[] = "<|end|>,PAD,<|end|>more>,<|endless|>,x";
    char usual[] = "<|end|>,PAD,<|end|>more>,<|endless|>,xx";
    struct dp_bpe_train_options o = {.vocab_size = 700, .special_tokens = usual};
    struct dp_bpe_counter *lines;
    struct dp_tokenizer *a, *b = train(dp_buf_span(&with), &o, DP_OK);
    CHECK_OK(dp_bpe_counter_open(&lines, DP_SPLIT_GPT2, &err));
    for (size_t from = 0, i = 0; i <= text.len; i++) {
        if (i < text.len && text.ptr[i] != '\n') continue;
        if (i > from) CHECK_OK(dp_bpe_counter_add(lines, dp_span(text.ptr + from, i - from + (i < text.len)), &err));
        else if (i < text.len) CHECK_OK(dp_bpe_counter_add(lines, dp_span("\n", 1), &err));
        from = i + 1;
    }
    CHECK_OK(dp_bpe_train(&a, &o, lines, NULL, NULL, &err));
    CHECK(a && b && dp_hash128_eq(dp_tokenizer_digest(a), dp_tokenizer_digest(b)));
    dp_tokenizer_free(a);
    dp_tokenizer_free(b);
    dp_bpe_counter_close(lines);
    /* Text without them is counted as ever; with learn_special_text it always is, and a merge may spell one. */
    struct dp_bpe_train_options none = {.vocab_size = 700}, hf = {.vocab_size = 704, .special_tokens = usual, .learn_special_text = true};
    a = train(dp_buf_span(&with), &none, DP_OK);
    b = train(dp_buf_span(&with), &hf, DP_OK);
    CHECK_INT(dp_tokenizer_merges(a), 444);
    CHECK_INT(dp_tokenizer_id(a, dp_span_str("PAD")) >= 0, 1);
    bool spelt = false;
    for (uint32_t i = 0, x, y, id; i < dp_tokenizer_merges(b); i++) dp_tokenizer_merge(b, i, &x, &y, &id), spelt = spelt || id == 1;
    CHECK(spelt);
    dp_tokenizer_free(a);
    dp_tokenizer_free(b);
    o.special_tokens = list;
    CHECK(!train(dp_buf_span(&text), &o, DP_CONFIG)); /* a byte is no special token */
    /* From counts of words, where nothing can be cut out, no merge spells one either. */
    struct dp_bpe_counter *words;
    char word[] = "PAD";
    struct dp_bpe_train_options w = {.vocab_size = 400, .special_tokens = word, .tie = DP_BPE_TIE_BYTES};
    CHECK_OK(dp_bpe_counter_open(&words, DP_SPLIT_GPT2, &err));
    CHECK_OK(dp_bpe_counter_add_word(words, dp_span_str("PADS"), 9, &err));
    REQUIRE_OK(dp_bpe_train(&a, &w, words, NULL, NULL, &err));
    CHECK_INT(dp_tokenizer_size(a), 256 + 2 + 1); /* "PA", "DS"; neither "PAD" nor "PADS" */
    CHECK_INT(dp_tokenizer_special(a, dp_span_str("PAD")), 258);
    dp_tokenizer_free(a);
    dp_bpe_counter_close(words);
    dp_buf_release(&text);
    dp_buf_release(&with);
}

static uint32_t ids_of(const struct dp_tokenizer *t, struct dp_span text, uint32_t *first)
{
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    CHECK_OK(dp_encoder_open(&c, t, 1 << 16, DP_SPECIAL_NONE, &err));
    CHECK_OK(dp_encode(c, text, &ids, &err));
    uint32_t n = (uint32_t)ids.len;
    if (first) *first = n ? ids.ptr[0] : 0;
    dp_encoder_close(c);
    dp_ids_release(&ids);
    return n;
}

TEST(seed_tokens_are_there)
{
    struct dp_buf text = read_data("corpus.txt");
    static const char *const words[] = {" photosynthesis", "Donaudampfschifffahrt", " the", "\xE2\x9C\x93\xE2\x9C\x93", " photosynthetic", "abababab", "z", "aaaaaaa",
                                        " by the way", ", of course"};
    struct dp_span seeds[10];
    for (size_t i = 0; i < 10; i++) seeds[i] = dp_span_str(words[i]);
    for (int k = 0; k < 4; k++) {
        bool super = k & 1;
        struct dp_bpe_train_options o = {.vocab_size = 800, .tie = k / 2, .super_from = super ? 600 : 0, .super_bytes_max = 1 << 20, .super_words_max = 2,
                                         .seeds = seeds, .seed_count = super ? 10 : 8};
        struct dp_tokenizer *t = train(dp_buf_span(&text), &o, DP_OK), *plain;
        REQUIRE(t);
        CHECK_INT(dp_tokenizer_size(t), 800);
        for (size_t i = 0; i < o.seed_count; i++) {
            uint32_t id = 0, n = ids_of(t, seeds[i], &id);
            if (n != 1 || id != dp_tokenizer_id(t, seeds[i])) DP_TEST_FAIL("%s has %u ids", words[i], n);
        }
        /* Before the first of their merges all is as without them: most of the first stage. */
        o.seed_count = 0;
        plain = train(dp_buf_span(&text), &o, DP_OK);
        REQUIRE(plain);
        for (uint32_t m = 0; m < (super ? 250u : 450u); m++) {
            uint32_t x[3], y[3];
            dp_tokenizer_merge(t, m, &x[0], &x[1], &x[2]);
            dp_tokenizer_merge(plain, m, &y[0], &y[1], &y[2]);
            if (memcmp(x, y, sizeof x) != 0) DP_TEST_FAIL("merge %u", m);
        }
        dp_tokenizer_free(plain);
        dp_tokenizer_free(t);
    }
    struct dp_bpe_train_options o = {.vocab_size = 300, .seeds = seeds, .seed_count = 8};
    CHECK(!train(dp_buf_span(&text), &o, DP_CONFIG));
    CHECK(strstr(err.msg, "don't fit") != NULL);
    o.vocab_size = 800;
    o.seed_count = 9;
    CHECK(!train(dp_buf_span(&text), &o, DP_CONFIG));
    CHECK(strstr(err.msg, "\" by the way\" is cut by gpt2") != NULL);
    char list[] = "osyn";
    o.seed_count = 1;
    o.special_tokens = list;
    CHECK(!train(dp_buf_span(&text), &o, DP_CONFIG));
    CHECK(strstr(err.msg, "holds a special token") != NULL);
    dp_buf_release(&text);
}

TEST(seed_files)
{
    static const struct {
        const char *text, *said;
    } bad[] = {{"plain\n", "line 1: a line is a JSON string"}, {"\n\"a\n", "line 2: "}, {"base64:a\n", "line 1: base64 of 1 digits"}, {"\"a\"\r\n\"\"\n", "line 2: an empty token"},
               {"\"a\" \"b\"", "line 1: "}, {"base64:\n", "line 1: "}};
    struct dp_arena mem;
    struct dp_span *seeds;
    size_t n;
    dp_arena_init(&mem, 1 << 20);
    REQUIRE_OK(dp_bpe_seeds_read(dp_span_str("\" a\\u00e9\"\r\n\nbase64:gP8=\n\"\\u0000\""), "f", &mem, &seeds, &n, &err));
    CHECK_INT(n, 3);
    CHECK(dp_span_eq(seeds[0], dp_span_str(" a\xC3\xA9")));
    CHECK(dp_span_eq(seeds[1], dp_span_str("\x80\xFF")));
    CHECK(dp_span_eq(seeds[2], dp_span("", 1)));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_INT(dp_bpe_seeds_read(dp_span_str(bad[i].text), "f", &mem, &seeds, &n, &err), DP_CORRUPT);
        if (!strstr(err.msg, bad[i].said)) DP_TEST_FAIL("%s", err.msg);
    }
    dp_arena_release(&mem);
}

static int sum(void *ctx, struct dp_span text, struct dp_err *e)
{
    (void)e;
    *(uint64_t *)ctx += dp_hash64(text.ptr, text.len, 7);
    return DP_OK;
}

TEST(samples_depend_on_texts_only)
{
    enum { TEXTS = 3000 };
    struct dp_text_sample *s[4];
    uint64_t sums[4] = {0}, seed = 1;
    static char texts[TEXTS][120];
    for (int i = 0; i < TEXTS; i++) {
        int n = snprintf(texts[i], sizeof texts[i], "%c%d ", i % 3 ? 'a' : 'b', i);
        memset(texts[i] + n, 'x', dp_splitmix64(&seed) % 100);
    }
    for (int i = 0; i < 4; i++) REQUIRE_OK(dp_text_sample_open(&s[i], 40000, i == 3, &err));
    for (int i = 0; i < TEXTS; i++) {
        CHECK_OK(dp_text_sample_add(s[0], dp_span_str(texts[i]), 1, &err));
        CHECK_OK(dp_text_sample_add(s[1 + i % 2], dp_span_str(texts[TEXTS - 1 - i]), 1, &err));
        CHECK_OK(dp_text_sample_add(s[3], dp_span_str(texts[i]), 1, &err));
    }
    CHECK_OK(dp_text_sample_merge(s[1], s[2], &err));
    for (int i = 0; i < 4; i++) CHECK_OK(dp_text_sample_each(s[i], sum, &sums[i], &err));
    CHECK(sums[0] == sums[1] && sums[2] == 0 && sums[3] != sums[0]);
    CHECK_INT(dp_text_sample_bytes(s[0]), dp_text_sample_bytes(s[1]));
    CHECK(dp_text_sample_bytes(s[0]) > 15000 && dp_text_sample_bytes(s[0]) < 40000);
    for (int i = 0; i < 4; i++) dp_text_sample_close(s[i]);
}

static int slices(void *ctx, struct dp_span text, struct dp_err *e)
{
    (void)e;
    CHECK(text.len && text.len <= 65536);
    CHECK(((uint8_t)text.ptr[0] & 0xC0) != 0x80);
    ++*(int *)ctx;
    return DP_OK;
}

TEST(long_texts_are_sliced)
{
    struct dp_text_sample *s;
    size_t n = 300001;
    char *p = malloc(n);
    int count = 0;
    for (size_t i = 0; i < n; i++) p[i] = "\xE4\xB8\xAD"[i % 3];
    p[100000] = p[100001] = p[99999] = '\n';
    REQUIRE_OK(dp_text_sample_open(&s, 1 << 20, 0, &err));
    CHECK_OK(dp_text_sample_add(s, dp_span(p, n - 1), 1, &err));
    CHECK_INT(dp_text_sample_bytes(s), n - 1);
    CHECK_OK(dp_text_sample_each(s, slices, &count, &err));
    CHECK_INT(count, 6);
    dp_text_sample_close(s);
    free(p);
}

TEST(super_needs_texts)
{
    struct dp_bpe_counter *c;
    struct dp_tokenizer *t;
    struct dp_bpe_train_options o = {.vocab_size = 400, .super_from = 300, .super_bytes_max = 1 << 20};
    char veto[] = "no";
    REQUIRE_OK(dp_bpe_counter_open(&c, DP_SPLIT_GPT2, &err));
    CHECK_OK(dp_bpe_counter_add_word(c, dp_span_str("word"), 3, &err));
    CHECK_INT(dp_bpe_train(&t, &o, c, NULL, NULL, &err), DP_CONFIG);
    o.super_from = 401;
    CHECK_INT(dp_bpe_train(&t, &o, c, NULL, NULL, &err), DP_CONFIG);
    dp_bpe_counter_close(c);
    o.super_veto = veto;
    CHECK_INT(dp_bpe_counter_open_for(&c, &o, &err), DP_CONFIG);
}

TEST(vocabularies_are_nested)
{
    struct dp_buf text = read_data("corpus.txt");
    char specials[] = "<|endoftext|>,<|pad|>";
    for (int k = 0; k < 4; k++) {
        struct dp_bpe_train_options o = {.vocab_size = 1200, .tie = k & 1, .special_tokens = specials, .super_from = k & 2 ? 500 : 0, .super_bytes_max = 1 << 20};
        struct dp_tokenizer *large = train(dp_buf_span(&text), &o, DP_OK), *small;
        for (o.vocab_size = 501; o.vocab_size < 1200; o.vocab_size += 233) {
            small = train(dp_buf_span(&text), &o, DP_OK);
            REQUIRE(large && small);
            CHECK_INT(dp_tokenizer_merges(small), o.vocab_size - 258);
            for (uint32_t i = 0; i < dp_tokenizer_merges(small); i++) {
                uint32_t x[3], y[3];
                dp_tokenizer_merge(small, i, &x[0], &x[1], &x[2]);
                dp_tokenizer_merge(large, i, &y[0], &y[1], &y[2]);
                CHECK(memcmp(x, y, sizeof x) == 0);
            }
            dp_tokenizer_free(small);
        }
        dp_tokenizer_free(large);
    }
    dp_buf_release(&text);
}

/* Going on from a vocabulary is as if training had never stopped. */
TEST(extended_is_trained)
{
    struct dp_buf text = read_data("corpus.txt");
    char specials[] = "<|endoftext|>,<|pad|>";
    for (int k = 0; k < 4; k++) {
        bool hf = k < 2, super = k & 1;
        struct dp_bpe_train_options o = {.vocab_size = 600, .tie = !hf, .special_tokens = hf ? specials : NULL, .super_bytes_max = 1 << 20}, more = o;
        struct dp_tokenizer *first = train(dp_buf_span(&text), &o, DP_OK), *whole, *extended;
        o.vocab_size = more.vocab_size = 900;
        o.super_from = more.super_from = super ? 600 : 0;
        more.base = first;
        more.special_tokens = NULL;
        whole = train(dp_buf_span(&text), &o, DP_OK);
        extended = train(dp_buf_span(&text), &more, DP_OK);
        REQUIRE(whole && extended);
        CHECK(dp_hash128_eq(dp_tokenizer_digest(whole), dp_tokenizer_digest(extended)));
        dp_tokenizer_free(extended);
        more.vocab_size = 599;
        CHECK(!train(dp_buf_span(&text), &more, DP_CONFIG));
        dp_tokenizer_free(first);
        dp_tokenizer_free(whole);
    }
    dp_buf_release(&text);
}

TEST(ranks_are_extended)
{
    struct dp_buf text = read_data("corpus.txt"), file;
    struct dp_bpe_train_options o = {.vocab_size = 600, .tie = DP_BPE_TIE_BYTES};
    struct dp_tokenizer *t = train(dp_buf_span(&text), &o, DP_OK), *ranks, *more;
    struct dp_span seed = dp_span_str(" photosynthesis");
    dp_buf_init(&file, 1 << 20);
    REQUIRE(t);
    CHECK_OK(dp_tokenizer_save_tiktoken(t, &file, &err));
    REQUIRE_OK(dp_tokenizer_load(&ranks, dp_buf_span(&file), "t", "gpt2", &err));
    for (int super = 0; super < 2; super++) {
        struct dp_bpe_train_options x = {.vocab_size = 800, .base = ranks, .super_from = super ? 600 : 0, .super_bytes_max = 1 << 20, .seeds = &seed, .seed_count = 1};
        more = train(dp_buf_span(&text), &x, DP_OK);
        REQUIRE(more);
        CHECK_INT(dp_tokenizer_size(more), 800);
        CHECK(dp_tokenizer_ignore_merges(more));
        for (uint32_t i = 0; i < 600; i++) CHECK(dp_span_eq(dp_tokenizer_bytes(ranks, i), dp_tokenizer_bytes(more, i)));
        CHECK_INT(ids_of(more, seed, NULL), 1);
        CHECK(ids_of(more, dp_buf_span(&text), NULL) < ids_of(ranks, dp_buf_span(&text), NULL));
        dp_buf_clear(&file);
        CHECK_OK(dp_tokenizer_save_tiktoken(more, &file, &err));
        dp_tokenizer_free(more);
    }
    dp_tokenizer_free(ranks);
    dp_tokenizer_free(t);
    dp_buf_release(&file);
    dp_buf_release(&text);
}

/* Many lines at once are as one after the other, whatever special tokens stand in them. */
TEST(lines_with_special_tokens)
{
    struct dp_buf text = read_data("corpus.txt"), with;
    char usual[] = "<|end|>,word", over[] = "<|end|>,a\nb,word\n";
    dp_buf_init(&with, 1 << 24);
    for (size_t i = 0; i < text.len; i++) {
        dp_buf_add_char(&with, text.ptr[i]);
        if (i % 97 == 0) dp_buf_add_str(&with, i % 2 ? "<|end|>" : "word");
        if (i % 301 == 0) dp_buf_add_str(&with, "a\nb  <|end|>\n<|end|> word\n\n");
    }
    for (int k = 0; k < 3; k++) {
        struct dp_bpe_train_options o = {.vocab_size = 600, .special_tokens = k ? over : usual, .super_from = k == 2 ? 400 : 0, .super_bytes_max = 1 << 20};
        struct dp_bpe_counter *a, *b;
        struct dp_tokenizer *x, *y;
        REQUIRE_OK(dp_bpe_counter_open_for(&a, &o, &err));
        REQUIRE_OK(dp_bpe_counter_open_for(&b, &o, &err));
        uint64_t lines = 0;
        CHECK_OK(dp_bpe_counter_add_lines(a, dp_buf_span(&with), &lines, &err));
        for (size_t from = 0, to; from < with.len; from = to, lines--) {
            const char *nl = memchr(with.ptr + from, '\n', with.len - from);
            to = nl ? (size_t)(nl - with.ptr) + 1 : with.len;
            CHECK_OK(dp_bpe_counter_add(b, dp_span(with.ptr + from, to - from), &err));
        }
        CHECK_INT(lines, 0);
        CHECK_INT(dp_bpe_counter_total(a), dp_bpe_counter_total(b));
        CHECK_OK(dp_bpe_train(&x, &o, a, NULL, NULL, &err));
        CHECK_OK(dp_bpe_train(&y, &o, b, NULL, NULL, &err));
        CHECK(x && y && dp_hash128_eq(dp_tokenizer_digest(x), dp_tokenizer_digest(y)));
        dp_tokenizer_free(x);
        dp_tokenizer_free(y);
        dp_bpe_counter_close(a);
        dp_bpe_counter_close(b);
    }
    dp_buf_release(&text);
    dp_buf_release(&with);
}

TEST(special_tokens_are_not_cut)
{
    struct dp_special_find *f;
    static const struct {
        const char *text;
        size_t cut, want;
    } cases[] = {{"ab<|end|>cd", 5, 2}, {"ab<|end|>cd", 2, 2}, {"ab<|end|>cd", 9, 9}, {"ab<|end|>cd", 8, 2}, {"<|end|>cd", 3, 0}, {"abcd<|e", 6, 4}, {"abcd<|x", 6, 6},
                 {"ab<|<|end|>", 8, 2}, {"abend<|end|>", 7, 5}, {"abcde", 3, 3}, {"abcde", 0, 0}};
    REQUIRE_OK(dp_special_find_open(&f, "<|end|>,<|<|", &err));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) CHECK_INT(dp_special_find_cut(f, dp_span_str(cases[i].text), cases[i].cut), cases[i].want);
    CHECK_INT(dp_special_find_cut(NULL, dp_span_str("<|end|>"), 3), 3);
    dp_special_find_close(f);
    CHECK_OK(dp_special_find_open(&f, ",a,", &err));
    CHECK(!f);
}

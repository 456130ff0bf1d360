/* Words, and what tokens are to them; how a vocabulary was used. */
#include "tests/test.h"

#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"
#include "tokenizer/token_meter.h"

static struct dp_err err;

static void words(const char *text, size_t len, const char *want, size_t chars)
{
    struct dp_text_words w = {0};
    char got[512] = "";
    size_t n = 0;
    REQUIRE_OK(dp_text_words(&w, dp_span(text, len), &err));
    for (size_t i = 0; i < w.n; i++) n += (size_t)snprintf(got + n, sizeof got - n, "%s%.*s", i ? "|" : "", (int)(w.word[i].end - w.word[i].begin), text + w.word[i].begin);
    CHECK_STR(got, want);
    CHECK_INT(w.chars, chars);
    free(w.word);
}

TEST(words_of_texts)
{
#define W(text, want, chars) words(text, sizeof text - 1, want, chars)
    W("", "", 0);
    W("  the cat's 42nd, \n\n life!", "the|cat|s|42nd|life", 26);
    W("\xD0\xBC\xD0\xB8\xD1\x80 e\xCC\x81t\xC3\xA9", "\xD0\xBC\xD0\xB8\xD1\x80|e\xCC\x81t\xC3\xA9", 8);
    W("\xE4\xB8\xAD\xE6\x96\x87" "abc\xE3\x81\x8B\xE3\x82\x99", "\xE4\xB8\xAD|\xE6\x96\x87|abc|\xE3\x81\x8B\xE3\x82\x99", 7); /* Han, Latin, Kana with a mark */
    W("\xE0\xB8\x81\xE0\xB8\xB4\xE0\xB8\x99", "\xE0\xB8\x81\xE0\xB8\xB4|\xE0\xB8\x99", 3);                                      /* Thai: a letter with its vowel, a letter */
    W("\xED\x95\x9C\xEA\xB5\xAD \xEC\x96\xB4", "\xED\x95\x9C\xEA\xB5\xAD|\xEC\x96\xB4", 4);                                     /* Hangul has spaces */
    W("a\xFF" "b\xE4\xB8", "a|b", 5);
    W("\xCC\x81-\xF0\x9F\x98\x80", "\xCC\x81", 3);
}

/* Bytes only: a token a byte. */
static struct dp_tokenizer *bytes_only(void)
{
    struct dp_bpe_counter *k;
    struct dp_tokenizer *t = NULL;
    char list[] = "<|endoftext|>";
    struct dp_bpe_train_options o = {.vocab_size = 257, .special_tokens = list};
    CHECK_OK(dp_bpe_counter_open(&k, DP_SPLIT_GPT2, &err));
    CHECK_OK(dp_bpe_train(&t, &o, k, NULL, NULL, &err));
    dp_bpe_counter_close(k);
    return t;
}

TEST(tokens_of_words)
{
    struct dp_tokenizer *t = NULL, *b = bytes_only();
    struct dp_encoder *c;
    struct dp_token_meter *m, *mb;
    struct dp_token_count n = {0}, twice = {0};
    struct dp_text_words w = {0};
    struct dp_ids ids = {0};
    const char *text = " the the, \xE4\xB8\xAD i";
    uint64_t used[300] = {0};
    REQUIRE_OK(dp_tokenizer_load_file(&t, "tests/data/tokenizer/hf.json", NULL, &err));
    REQUIRE_OK(dp_token_meter_open(&m, t, &err));
    REQUIRE_OK(dp_token_meter_open(&mb, b, &err));
    REQUIRE_OK(dp_text_words(&w, dp_span_str(text), &err));
    CHECK_INT(w.n, 4);
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encode(c, dp_span_str(text), &ids, &err));
    dp_token_meter_add(m, &w, ids.ptr, ids.len, &n, NULL);
    /* " the" " the" "," and the rest in bytes or pairs, as the vocabulary has them */
    CHECK_INT(n.tokens, ids.len);
    CHECK_INT(n.words, 4);
    CHECK(n.whole_words >= 3 && n.word_tokens >= 4 && n.word_tokens <= 6);
    dp_encoder_close(c);
    ids.len = 0;
    REQUIRE_OK(dp_encoder_open(&c, b, 0, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encode(c, dp_span_str(text), &ids, &err));
    n = (struct dp_token_count){0};
    dp_token_meter_add(mb, &w, ids.ptr, ids.len, &n, used);
    CHECK_INT(n.tokens, strlen(text));
    CHECK_INT(n.byte_tokens, strlen(text));
    CHECK_INT(n.word_tokens, 3 + 3 + 3 + 1);
    CHECK_INT(n.whole_words, 1);
    CHECK_INT(n.part_tokens, 3);
    CHECK_INT(used[dp_tokenizer_id(b, dp_span_str("t"))], 2);
    dp_token_count_add(&twice, &n);
    dp_token_count_add(&twice, &n);
    CHECK(twice.tokens == 2 * n.tokens && twice.word_tokens == 20 && twice.words == 8 && twice.whole_words == 2 && twice.part_tokens == 6);
    /* A token over several words is a token of each: " the" of 4 bytes over "a b c". */
    uint32_t the = (uint32_t)dp_tokenizer_id(t, dp_span_str(" the")), one = (uint32_t)dp_tokenizer_id(t, dp_span_str("x"));
    REQUIRE(the < dp_tokenizer_size(t));
    uint32_t both[] = {the, one};
    REQUIRE_OK(dp_text_words(&w, dp_span_str("a b c"), &err));
    n = (struct dp_token_count){0};
    dp_token_meter_add(m, &w, both, 2, &n, NULL);
    CHECK_INT(n.word_tokens, 3);
    CHECK_INT(n.whole_words, 3);
    dp_encoder_close(c);
    dp_ids_release(&ids);
    dp_token_meter_close(m);
    dp_token_meter_close(mb);
    dp_tokenizer_free(t);
    dp_tokenizer_free(b);
    free(w.word);
}

/* A sentencepiece model's ids begin with a blank that isn't in the text: words are counted as if it weren't there. */
TEST(words_of_a_sentencepiece_model)
{
    struct dp_tokenizer *t = NULL;
    struct dp_encoder *c;
    struct dp_token_meter *m;
    struct dp_token_count n = {0};
    struct dp_text_words w = {0};
    struct dp_ids ids = {0};
    const char *text = "the pair, a thread of data";
    REQUIRE_OK(dp_tokenizer_load_file(&t, "tests/data/tokenizer/sp_bytes.model", NULL, &err));
    REQUIRE_OK(dp_token_meter_open(&m, t, &err));
    REQUIRE_OK(dp_text_words(&w, dp_span_str(text), &err));
    REQUIRE_OK(dp_encoder_open(&c, t, 0, DP_SPECIAL_NONE, &err));
    REQUIRE_OK(dp_encode(c, dp_span_str(text), &ids, &err));
    dp_token_meter_add(m, &w, ids.ptr, ids.len, &n, NULL);
    uint64_t touching = 0, whole = 0;
    for (size_t k = 0; k < w.n; k++) {
        uint64_t of_word = 0;
        for (size_t i = 0, at = 0; i < ids.len; i++) {
            size_t end = at + dp_tokenizer_bytes(t, ids.ptr[i]).len;
            of_word += at < w.word[k].end + 1 && end > w.word[k].begin + 1;
            at = end;
        }
        touching += of_word;
        whole += of_word == 1;
    }
    CHECK_INT(n.words, 6);
    CHECK_INT(n.word_tokens, touching);
    CHECK_INT(n.whole_words, whole);
    dp_encoder_close(c);
    dp_ids_release(&ids);
    dp_token_meter_close(m);
    dp_tokenizer_free(t);
    free(w.word);
}

TEST(use_of_a_vocabulary)
{
    struct dp_tokenizer *b = bytes_only();
    struct dp_vocabulary_use u;
    uint64_t used[300] = {0};
    REQUIRE(dp_tokenizer_size(b) == 257);
    dp_vocabulary_use(b, used, &u);
    CHECK(u.tokens == 256 && u.unused == 256 && u.entropy == 0 && u.efficiency == 0);
    for (uint32_t i = 0; i < 257; i++) used[i] = 7;
    dp_vocabulary_use(b, used, &u);
    CHECK_INT(u.unused, 0);
    CHECK_NEAR(u.entropy, 8, 1e-12);
    CHECK_NEAR(u.efficiency, 1, 1e-12);
    CHECK_NEAR(u.renyi_efficiency, 1, 1e-12);
    memset(used, 0, sizeof used);
    used[dp_tokenizer_id(b, dp_span_str("a"))] = 3;
    used[dp_tokenizer_id(b, dp_span_str("b"))] = 1;
    used[dp_tokenizer_eot(b)] = 1000; /* isn't looked at */
    dp_vocabulary_use(b, used, &u);
    CHECK_INT(u.unused, 254);
    CHECK_NEAR(u.entropy, 0.75 * log2(4.0 / 3) + 0.25 * 2, 1e-12);
    CHECK_NEAR(u.renyi_efficiency, log2(pow(0.75, 2.5) + pow(0.25, 2.5)) / -1.5 / 8, 1e-12);
    dp_tokenizer_free(b);
}

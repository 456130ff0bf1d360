/* The tokenizer's C API: what test_abi.c doesn't have: handles that share a vocabulary, offsets, counts, ids and text that come in pieces. */
#include "tests/test.h"

#include "base/err.h"
#include "base/fs.h"
#include "base/hash.h"
#include "tokenizer/tokenizer_abi.h"

#include <pthread.h>
#include <unistd.h>

static struct dp_err err;
static char msg[512];
#define FILE_NAME "tests/data/tokenizer/hf.json"
#define TEXT "one r\xC3\xADver,\n two houses \xF0\x9F\x98\x80 and a bridge; "

static struct dp_tokenizer_abi *open_abi(size_t cache)
{
    struct dp_tokenizer_abi *h = NULL;
    if (dp_tokenizer_abi_open(&h, FILE_NAME, NULL, 0, cache, msg, sizeof msg) < 0) DP_TEST_FAIL("%s", msg);
    return h;
}

/* The ids of a text, malloc'ed. */
static size_t ids_of(struct dp_tokenizer_abi *h, const char *text, uint32_t **out)
{
    const uint32_t *ids;
    uint64_t end = strlen(text), n = 0;
    CHECK_INT(dp_tokenizer_abi_encode(h, text, &end, 1, &ids, &n, msg, sizeof msg), DP_OK);
    *out = malloc((n + 1) * sizeof **out);
    if (n) memcpy(*out, ids, n * sizeof **out);
    return (size_t)n;
}

TEST(offsets_and_counts)
{
    struct dp_tokenizer_abi *h = open_abi(0);
    const char *text = TEXT "\xC3\xA9";
    size_t len = strlen(text);
    const uint64_t end[] = {0, len - 2, len}, falling[] = {3, 2};
    uint64_t id_end[3], count[3];
    const uint64_t *o;
    const uint32_t *ids;
    REQUIRE(h != NULL);
    CHECK_INT(dp_tokenizer_abi_version(), DP_TOKENIZER_ABI_VERSION);
    CHECK_INT(dp_tokenizer_abi_encode_offsets(h, text, end, 3, 0, &ids, id_end, &o, msg, sizeof msg), DP_OK);
    size_t at = 0;
    for (size_t i = 0; i < id_end[1]; i++) {
        const char *token;
        size_t bytes;
        CHECK_INT(o[2 * i], at);
        CHECK_INT(dp_tokenizer_abi_token(h, ids[i], &token, &bytes), 1);
        CHECK(bytes == o[2 * i + 1] - at && memcmp(token, text + at, bytes) == 0);
        at += bytes;
    }
    CHECK_INT(at, len - 2);
    CHECK_INT(o[2 * id_end[1]], 0); /* each text by itself */
    CHECK_INT(o[2 * id_end[2] - 1], 2);
    CHECK_INT(dp_tokenizer_abi_count(h, text, end, 3, count, msg, sizeof msg), DP_OK);
    CHECK(count[0] == 0 && count[1] == id_end[1] && count[2] == id_end[2] - id_end[1]);
    CHECK_INT(dp_tokenizer_abi_encode_offsets(h, text, end, 3, 1, &ids, id_end, &o, msg, sizeof msg), DP_OK);
    CHECK_INT(o[2 * id_end[1] - 1], len - 2 - 4); /* an i with an accent and a smile have 4 bytes that begin no character */
    CHECK_INT(o[2 * id_end[2] - 1], 1);
    CHECK_INT(dp_tokenizer_abi_encode_offsets(h, text, falling, 2, 1, &ids, id_end, &o, msg, sizeof msg), DP_USAGE);
    CHECK(ids == NULL && o == NULL);
    CHECK_INT(dp_tokenizer_abi_count(h, text, falling, 2, count, NULL, 0), DP_USAGE);
    CHECK_INT(dp_tokenizer_abi_encode_offsets(h, "", NULL, 0, 1, &ids, NULL, &o, msg, sizeof msg), DP_OK);
    const char *token;
    size_t bytes;
    uint32_t eot = (uint32_t)dp_tokenizer_abi_eot(h);
    CHECK_INT(dp_tokenizer_abi_token(h, eot, &token, &bytes), 2);
    CHECK_SPAN(((struct dp_span){token, bytes}), "<|endoftext|>");
    CHECK_INT(dp_tokenizer_abi_token(h, dp_tokenizer_abi_size(h), &token, &bytes), 0);
    dp_tokenizer_abi_close(h);
}

TEST(from_memory)
{
    struct dp_tokenizer_abi *h, *k = open_abi(0);
    struct dp_buf b;
    char a[33], c[33];
    dp_buf_init(&b, 1 << 24);
    REQUIRE_OK(dp_fs_read(FILE_NAME, &b, &err));
    CHECK_INT(dp_tokenizer_abi_open_memory(&h, b.ptr, b.len, "memory", NULL, 1, 1 << 20, msg, sizeof msg), DP_OK);
    REQUIRE(h && k);
    dp_tokenizer_abi_digest(h, a);
    dp_tokenizer_abi_digest(k, c);
    CHECK_STR(a, c);
    dp_tokenizer_abi_close(h);
    dp_tokenizer_abi_close(k);
    CHECK_INT(dp_tokenizer_abi_open_memory(&h, b.ptr, b.len / 2, "half of it", NULL, 1, 0, msg, sizeof msg), DP_CORRUPT);
    CHECK(h == NULL && strstr(msg, "half of it"));
    dp_buf_release(&b);
}

struct job {
    struct dp_tokenizer_abi *h;
    const uint32_t *want;
    size_t n;
    int wrong;
};

static void *encode_often(void *v)
{
    struct job *j = v;
    for (int i = 0; i < 200; i++) {
        const uint32_t *ids;
        uint64_t end = strlen(TEXT), n;
        if (dp_tokenizer_abi_encode(j->h, TEXT, &end, 1, &ids, &n, NULL, 0) < 0 || n != j->n || memcmp(ids, j->want, n * sizeof *ids) != 0) j->wrong++;
    }
    dp_tokenizer_abi_close(j->h);
    return NULL;
}

/* The first handle is closed while others work; a decoder outlives them all. */
TEST(handles_of_one_vocabulary_on_threads)
{
    enum { N = 3 };
    struct dp_tokenizer_abi *h = open_abi(4096);
    struct dp_tokenizer_abi_decoder *d;
    struct job job[N];
    pthread_t thread[N];
    uint32_t *want;
    REQUIRE(h != NULL);
    size_t n = ids_of(h, TEXT, &want);
    CHECK_INT(dp_tokenizer_abi_decoder_open(&d, h, 0, 0, msg, sizeof msg), DP_OK);
    for (int i = 0; i < N; i++) {
        job[i] = (struct job){.want = want, .n = n};
        CHECK_INT(dp_tokenizer_abi_clone(&job[i].h, h, 0, 4096, msg, sizeof msg), DP_OK);
        REQUIRE(pthread_create(&thread[i], NULL, encode_often, &job[i]) == 0);
    }
    dp_tokenizer_abi_close(h);
    for (int i = 0; i < N; i++) {
        pthread_join(thread[i], NULL);
        CHECK_INT(job[i].wrong, 0);
    }
    const char *text;
    size_t bytes;
    CHECK_INT(dp_tokenizer_abi_decoder_push(d, want, n, &text, &bytes, msg, sizeof msg), DP_OK);
    CHECK_SPAN(((struct dp_span){text, bytes}), TEXT);
    dp_tokenizer_abi_decoder_close(d);
    free(want);
}

TEST(ids_one_by_one)
{
    struct dp_tokenizer_abi *h = open_abi(0);
    struct dp_tokenizer_abi_decoder *d;
    struct dp_buf b;
    const char *text;
    size_t bytes;
    dp_buf_init(&b, 4096);
    REQUIRE(h != NULL);
    CHECK_INT(dp_tokenizer_abi_decoder_open(&d, h, 0, 1, msg, sizeof msg), DP_OK);
    for (int round = 0; round < 2; round++) {
        uint32_t smile[4], eot = (uint32_t)dp_tokenizer_abi_eot(h);
        dp_buf_clear(&b);
        for (int i = 0; i < 4; i++) smile[i] = (uint32_t)dp_tokenizer_abi_id(h, &"\xF0\x9F\x98\x80"[i], 1);
        for (int i = 0; i < 4; i++) {
            CHECK_INT(dp_tokenizer_abi_decoder_push(d, &smile[i], 1, &text, &bytes, msg, sizeof msg), DP_OK);
            CHECK_INT(bytes, i == 3 ? 4 : 0);
            dp_buf_add(&b, text, bytes);
        }
        CHECK_INT(dp_tokenizer_abi_decoder_push(d, &eot, 1, &text, &bytes, msg, sizeof msg), DP_OK);
        CHECK_INT(bytes, 0);
        CHECK_INT(dp_tokenizer_abi_decoder_push(d, smile, 2, &text, &bytes, msg, sizeof msg), DP_OK);
        CHECK_INT(bytes, 0);
        CHECK_INT(dp_tokenizer_abi_decoder_finish(d, &text, &bytes, msg, sizeof msg), DP_OK);
        dp_buf_add(&b, text, bytes);
        CHECK_SPAN(dp_buf_span(&b), "\xF0\x9F\x98\x80\xEF\xBF\xBD");
    }
    uint32_t none = dp_tokenizer_abi_size(h);
    CHECK_INT(dp_tokenizer_abi_decoder_push(d, &none, 1, &text, &bytes, msg, sizeof msg), DP_CORRUPT);
    CHECK_INT(bytes, 0);
    CHECK(strstr(msg, "no token") != NULL);
    dp_tokenizer_abi_decoder_close(d);
    dp_tokenizer_abi_close(h);
    dp_buf_release(&b);
}

TEST(text_in_pieces)
{
    struct dp_tokenizer_abi *h = open_abi(0);
    struct dp_tokenizer_abi_stream *s;
    uint32_t *want, got[256];
    const uint32_t *ids;
    size_t k, early = 0;
    REQUIRE(h != NULL);
    size_t n = ids_of(h, TEXT TEXT, &want);
    CHECK_INT(dp_tokenizer_abi_stream_open(&s, h, 64, msg, sizeof msg), DP_OK);
    for (int round = 0; round < 2; round++) {
        size_t len = 0;
        for (const char *p = TEXT TEXT; *p; p++) {
            CHECK_INT(dp_tokenizer_abi_stream_push(s, p, 1, &ids, &k, msg, sizeof msg), DP_OK);
            for (size_t i = 0; i < k && len < 256; i++) got[len++] = ids[i];
        }
        early = len;
        CHECK_INT(dp_tokenizer_abi_stream_finish(s, &ids, &k, msg, sizeof msg), DP_OK);
        for (size_t i = 0; i < k && len < 256; i++) got[len++] = ids[i];
        CHECK(early > n / 2 && len == n && memcmp(got, want, n * sizeof *got) == 0);
        /* A text that is too much for the stream; then the next. */
        char many[65];
        memset(many, 'x', sizeof many);
        CHECK_INT(dp_tokenizer_abi_stream_push(s, many, sizeof many, &ids, &k, msg, sizeof msg), DP_LIMIT);
        CHECK_INT(dp_tokenizer_abi_stream_finish(s, &ids, &k, msg, sizeof msg), DP_OK);
    }
    dp_tokenizer_abi_stream_close(s);
    dp_tokenizer_abi_close(h);
    free(want);
}

static size_t resident(void)
{
    long all = 0, here = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    if (fscanf(f, "%ld %ld", &all, &here) != 2) here = 0;
    fclose(f);
    return (size_t)here * (size_t)sysconf(_SC_PAGESIZE);
}

/* More different words than any of the caches holds: what the process has grown by is the budget, whatever the text; ids are the same. */
TEST(caches_keep_to_their_budget)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP("sanitizers have memory of their own");
#endif
    static const size_t budgets[] = {1 << 20, 4 << 20, 16 << 20};
    size_t n = 4 << 20;
    uint64_t seed = 9, end = n, count = 0;
    char *text = malloc(n);
    REQUIRE(text != NULL);
    for (size_t i = 0; i < n; i++) {
        uint64_t r = dp_splitmix64(&seed);
        text[i] = r % 9 == 0 ? ' ' : (char)('a' + r / 9 % 26);
    }
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        struct dp_tokenizer_abi *h = open_abi(4096), *c;
        uint64_t now = 0;
        REQUIRE(h != NULL);
        CHECK_INT(dp_tokenizer_abi_count(h, text, &end, 1, &now, msg, sizeof msg), DP_OK); /* what isn't the cache's is there now */
        size_t before = resident();
        CHECK_INT(dp_tokenizer_abi_clone(&c, h, 0, budgets[i], msg, sizeof msg), DP_OK);
        REQUIRE(c != NULL);
        CHECK_INT(dp_tokenizer_abi_count(c, text, &end, 1, &now, msg, sizeof msg), DP_OK);
        size_t after = resident(), grown = after > before ? after - before : 0;
        if (grown > budgets[i] + (1 << 20)) DP_TEST_FAIL("a cache of %zu bytes: %zu", budgets[i], grown);
        if (budgets[i] == 16 << 20 && grown < budgets[i] / 4) DP_TEST_FAIL("a cache of %zu bytes isn't used: %zu", budgets[i], grown); /* more than others left */
        if (!count) count = now;
        CHECK_INT(now, count);
        dp_tokenizer_abi_close(c);
        dp_tokenizer_abi_close(h);
    }
    free(text);
}

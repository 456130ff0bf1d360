/* Encoders of several threads over one cache: ids are those of one encoder alone, whatever the cache's size and who closes when. */
#include "tests/test.h"

#include "base/hash.h"
#include "tokenizer/encode.h"

#include <pthread.h>

enum { THREADS = 4, ROUNDS = 6, DOCS = 24, DOC = 3000 };

static struct dp_err err;

struct worker {
    struct dp_encoder *enc;
    const char *text;
    const struct dp_ids *want; /* by document */
    unsigned first;
    int wrong;
};

static void *encode_all(void *v)
{
    struct worker *w = v;
    struct dp_ids ids = {0};
    struct dp_err e;
    for (unsigned r = 0; r < ROUNDS; r++)
        for (unsigned i = 0; i < DOCS; i++) {
            unsigned d = (w->first + i) % DOCS;
            ids.len = 0;
            w->wrong += dp_encode(w->enc, dp_span(w->text + d * DOC, DOC), &ids, &e) < 0 || ids.len != w->want[d].len ||
                        memcmp(ids.ptr, w->want[d].ptr, ids.len * sizeof *ids.ptr) != 0;
        }
    dp_ids_release(&ids);
    dp_encoder_close(w->enc); /* others go on */
    return NULL;
}

static void share(const struct dp_tokenizer *t, const char *text, const struct dp_ids *want, size_t cache)
{
    pthread_t thread[THREADS];
    struct worker w[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.text = text, .want = want, .first = i * 5};
        if (i) REQUIRE_OK(dp_encoder_open_beside(&w[i].enc, w[0].enc, DP_SPECIAL_NONE, &err));
        else REQUIRE_OK(dp_encoder_open(&w[i].enc, t, cache, DP_SPECIAL_NONE, &err));
    }
    for (unsigned i = 0; i < THREADS; i++) REQUIRE(pthread_create(&thread[i], NULL, encode_all, &w[i]) == 0);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        CHECK_INT(w[i].wrong, 0);
    }
}

TEST(threads_share_a_cache)
{
    struct dp_tokenizer *t;
    struct dp_encoder *alone;
    struct dp_ids want[DOCS] = {{0}};
    char *text = malloc(DOCS * DOC);
    uint64_t seed = 11;
    REQUIRE(text != NULL);
    for (size_t i = 0; i < DOCS * DOC; i++) { /* few words often, many once, some long */
        uint64_t r = dp_splitmix64(&seed);
        text[i] = r % 7 == 0 && r % 100 > 3 ? ' ' : (char)('a' + r / 128 % (r % 5 ? 4 : 26));
    }
    REQUIRE_OK(dp_tokenizer_load_file(&t, "tests/data/tokenizer/hf.json", NULL, &err));
    REQUIRE_OK(dp_encoder_open(&alone, t, 1, DP_SPECIAL_NONE, &err));
    for (size_t d = 0; d < DOCS; d++) CHECK_OK(dp_encode(alone, dp_span(text + d * DOC, DOC), &want[d], &err));
    share(t, text, want, 1); /* tables that are full all the time */
    share(t, text, want, 1 << 17);
    share(t, text, want, 0);
    for (size_t d = 0; d < DOCS; d++) dp_ids_release(&want[d]);
    dp_encoder_close(alone);
    dp_tokenizer_free(t);
    free(text);
}


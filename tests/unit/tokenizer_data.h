/* tests/unit/tokenizer_data.h - the files of tests/data/tokenizer, for the tests of tokenizers. */
#ifndef DP_TESTS_TOKENIZER_DATA_H
#define DP_TESTS_TOKENIZER_DATA_H

#include "tests/test.h"

#include "base/fs.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

static struct dp_err err; /* what the checks print */

static inline struct dp_buf read_data(const char *name)
{
    char path[128];
    struct dp_buf b;
    snprintf(path, sizeof path, "tests/data/tokenizer/%s", name);
    dp_buf_init(&b, 1 << 24);
    if (dp_fs_read(path, &b, &err) < 0) DP_TEST_FAIL("%s", err.msg);
    return b;
}

static inline struct dp_tokenizer *load_data(const char *name, const char *split)
{
    char path[128];
    struct dp_tokenizer *t = NULL;
    snprintf(path, sizeof path, "tests/data/tokenizer/%s", name);
    if (dp_tokenizer_load_file(&t, path, split, &err) < 0) DP_TEST_FAIL("%s", err.msg);
    return t;
}

/* Both give the text the same ids. */
static inline void same_ids(const struct dp_tokenizer *t, const struct dp_tokenizer *u, struct dp_span text, enum dp_special_policy special)
{
    struct dp_ids a = {0}, b = {0};
    struct dp_encoder *c, *d;
    REQUIRE_OK(dp_encoder_open(&c, t, 0, special, &err));
    REQUIRE_OK(dp_encoder_open(&d, u, 0, special, &err));
    CHECK_OK(dp_encode(c, text, &a, &err));
    CHECK_OK(dp_encode(d, text, &b, &err));
    CHECK(a.len == b.len && memcmp(a.ptr, b.ptr, a.len * sizeof *a.ptr) == 0);
    dp_encoder_close(c);
    dp_encoder_close(d);
    dp_ids_release(&a);
    dp_ids_release(&b);
}

#endif

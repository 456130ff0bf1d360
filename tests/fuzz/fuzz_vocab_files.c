/* vocab.json, a NUL, merges.txt: an error, or a tokenizer that says the same when both were written and read again. */
#include "base/json.h"
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_int.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int load(struct dp_tokenizer **t, struct dp_span vocab, struct dp_span merges)
{
    struct dp_err e;
    struct dp_json *j;
    int rc = dp_json_parse(&j, vocab, "vocab.json", &e);
    if (rc < 0) return rc;
    struct dp_vocab_files f = {.vocab = j, .merges = merges, .vocab_name = "vocab.json", .merges_name = "merges.txt"};
    rc = dp_tokenizer_load_vocab(t, &f, &e);
    dp_json_free(j);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_tokenizer *t, *u;
    struct dp_buf vocab, merges;
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    if (!cut || size > 1 << 18) return 0;
    if (load(&t, dp_span(data, (size_t)(cut - data)), dp_span(cut + 1, size - (size_t)(cut - data) - 1)) < 0) return 0;
    dp_buf_init(&vocab, 1 << 24);
    dp_buf_init(&merges, 1 << 24);
    if (dp_tokenizer_save_vocab(t, &vocab, &e) < 0 || dp_tokenizer_save_merges(t, &merges, &e) < 0) abort();
    if (load(&u, dp_buf_span(&vocab), dp_buf_span(&merges)) < 0) abort();
    if (!dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u))) abort();
    dp_tokenizer_free(u);
    dp_tokenizer_free(t);
    dp_buf_release(&vocab);
    dp_buf_release(&merges);
    return 0;
}

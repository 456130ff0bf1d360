/* Any bytes: pieces add up to the text, ids decode to it, a small cache gives the ids of a large one, counting agrees. */
#include "tokenizer/bpe_train.h"
#include "tokenizer/encode.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Trained on the input's own first bytes, so that merges happen; the first byte chooses split and tie. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_bpe_counter *c;
    struct dp_tokenizer *t;
    struct dp_encoder *small, *large;
    struct dp_ids a = {0}, b = {0};
    struct dp_buf back;
    uint64_t count;
    if (!size || size > 1 << 16) return 0;
    enum dp_split split = (enum dp_split)(data[0] % DP_SPLIT_COUNT);
    char specials[] = "<|endoftext|>,<|x|>";
    struct dp_bpe_train_options o = {.vocab_size = 400, .split = split, .tie = data[0] >> 7, .special_tokens = specials};
    struct dp_span text = dp_span(data + 1, size - 1);
    if (dp_bpe_counter_open(&c, split, &e) < 0 || dp_bpe_counter_add(c, dp_span(text.ptr, text.len / 2), &e) < 0) abort();
    if (dp_bpe_train(&t, &o, c, NULL, NULL, &e) < 0) abort();
    if (dp_encoder_open(&small, t, 1, DP_SPECIAL_ALL, &e) < 0 || dp_encoder_open(&large, t, 1 << 18, DP_SPECIAL_ALL, &e) < 0) abort();
    if (dp_encode(small, text, &a, &e) < 0 || dp_encode(large, text, &b, &e) < 0) abort();
    if (a.len != b.len || (a.len && memcmp(a.ptr, b.ptr, a.len * sizeof *a.ptr) != 0)) abort();
    if (dp_encode_count(large, text, &count, &e) < 0 || count != a.len) abort();
    dp_buf_init(&back, 1 << 20);
    if (dp_decode(t, a.ptr, a.len, &back, &e) < 0 || !dp_span_eq(dp_buf_span(&back), text)) abort();
    dp_buf_release(&back);
    dp_ids_release(&a);
    dp_ids_release(&b);
    dp_encoder_close(small);
    dp_encoder_close(large);
    dp_tokenizer_free(t);
    dp_bpe_counter_close(c);
    return 0;
}

/* Text in any pieces gives the ids of the whole, its ids are at their places in it, and decoded one by one they give it back. The first
 * byte chooses the pre-tokenizer, the second special tokens and the sizes of the pieces. */
#include "tokenizer/bpe_train.h"
#include "tokenizer/decode_stream.h"
#include "tokenizer/encode_stream.h"
#include "tokenizer/offsets.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dp_tokenizer *of_split(enum dp_split split)
{
    struct dp_err e;
    struct dp_bpe_counter *k;
    struct dp_tokenizer *t;
    char list[] = "<|a|>,<|a|>b,<|,a b,\n\n!";
    struct dp_bpe_train_options o = {.vocab_size = 300, .split = (int)split, .special_tokens = list};
    if (dp_bpe_counter_open(&k, split, &e) < 0) abort();
    if (dp_bpe_counter_add(k, dp_span_str("the river and the house, \xC3\xA9t\xC3\xA9s; there 1234 's 's\n\n  the"), &e) < 0) abort();
    if (dp_bpe_train(&t, &o, k, NULL, NULL, &e) < 0) abort();
    dp_bpe_counter_close(k);
    return t;
}

static void same_back(const struct dp_tokenizer *t, struct dp_span text, const struct dp_ids *ids)
{
    struct dp_err e;
    struct dp_decode_stream s;
    struct dp_buf b;
    struct dp_offset *o = malloc((ids->len + 1) * sizeof *o);
    if (!o || dp_offsets(t, text, ids->ptr, ids->len, DP_OFFSET_CHARS, o, &e) < 0) abort();
    for (size_t i = 1; i < ids->len; i++)
        if (o[i].begin < o[i - 1].begin || o[i].begin > o[i - 1].end || o[i].end <= o[i].begin) abort();
    dp_buf_init(&b, text.len + 1);
    dp_decode_stream_init(&s, t, DP_BAD_KEEP, false);
    for (size_t i = 0; i < ids->len; i++)
        if (dp_decode_stream_push(&s, ids->ptr + i, 1, &b, &e) < 0) abort();
    if (dp_decode_stream_finish(&s, &b, &e) < 0 || !dp_span_eq(dp_buf_span(&b), text)) abort();
    dp_buf_release(&b);
    free(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dp_tokenizer *t[DP_SPLIT_COUNT];
    static struct dp_encoder *c[DP_SPLIT_COUNT][2];
    struct dp_err e;
    struct dp_encode_stream *s;
    struct dp_ids whole = {0}, parts = {0};
    if (size < 2 || size > 1 << 16) return 0;
    unsigned k = data[0] % DP_SPLIT_COUNT, special = data[1] & 1;
    size_t step = 1 + (data[1] >> 1);
    if (!t[k]) t[k] = of_split((enum dp_split)k);
    if (!c[k][special] && dp_encoder_open(&c[k][special], t[k], 4096, special ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, &e) < 0) abort();
    struct dp_span text = dp_span(data + 2, size - 2);
    if (dp_encode(c[k][special], text, &whole, &e) < 0 || dp_encode_stream_open(&s, c[k][special], 0, &e) < 0) abort();
    for (size_t i = 0; i < text.len; i += step)
        if (dp_encode_stream_push(s, dp_span(text.ptr + i, text.len - i < step ? text.len - i : step), &parts, &e) < 0) abort();
    if (dp_encode_stream_finish(s, &parts, &e) < 0 || parts.len != whole.len) abort();
    for (size_t i = 0; i < whole.len; i++)
        if (parts.ptr[i] != whole.ptr[i]) abort();
    same_back(t[k], text, &whole);
    dp_encode_stream_close(s);
    dp_ids_release(&whole);
    dp_ids_release(&parts);
    return 0;
}

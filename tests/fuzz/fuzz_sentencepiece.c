/* Any bytes as a sentencepiece model: an error or a tokenizer that saves, loads again equal, encodes its own file, and decodes any ids. */
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_tokenizer *t, *u;
    struct dp_encoder *c, *d;
    struct dp_ids ids = {0}, again = {0};
    struct dp_buf out;
    struct dp_span file = dp_span(data, size);
    if (size > 1 << 18 || dp_tokenizer_load(&t, file, "fuzz", NULL, &e) < 0) return 0;
    dp_buf_init(&out, 1 << 28);
    if (dp_tokenizer_is_sp(t)) {
        if (dp_tokenizer_save_sp(t, &out, &e) < 0 || dp_tokenizer_load(&u, dp_buf_span(&out), "saved", NULL, &e) < 0) abort();
        if (!dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u))) abort();
        /* What the cache holds never changes ids. */
        if (dp_encoder_open(&c, t, 1, DP_SPECIAL_ALL, &e) < 0 || dp_encoder_open(&d, u, 1 << 18, DP_SPECIAL_ALL, &e) < 0) abort();
        if (dp_encode(c, file, &ids, &e) < 0 || dp_encode(d, file, &again, &e) < 0) abort();
        if (ids.len != again.len || (ids.len && memcmp(ids.ptr, again.ptr, ids.len * sizeof *ids.ptr) != 0)) abort();
        for (size_t i = 0; i < ids.len; i++)
            if (ids.ptr[i] >= dp_tokenizer_size(t)) abort();
        for (size_t i = 0; i < again.len; i++) again.ptr[i] = data[i % size] % dp_tokenizer_size(t);
        dp_buf_clear(&out);
        if (dp_decode(t, ids.ptr, ids.len, &out, &e) < 0 || dp_decode(t, again.ptr, again.len, &out, &e) < 0) abort();
        dp_encoder_close(c);
        dp_encoder_close(d);
        dp_tokenizer_free(u);
    }
    dp_ids_release(&ids);
    dp_ids_release(&again);
    dp_tokenizer_free(t);
    dp_buf_release(&out);
    return 0;
}

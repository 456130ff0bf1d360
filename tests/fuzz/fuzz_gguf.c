/* Any bytes as a GGUF file: an error, or a tokenizer that encodes, and that is the same when it was written and read again. */
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_int.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_tokenizer *t, *u;
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    struct dp_buf out;
    struct dp_span file = dp_span(data, size);
    if (size > 1 << 18 || dp_tokenizer_load_gguf(&t, file, "fuzz", NULL, &e) < 0) return 0;
    dp_buf_init(&out, 1 << 28);
    if (dp_tokenizer_save_gguf(t, &out, &e) >= 0) {
        if (dp_tokenizer_load_gguf(&u, dp_buf_span(&out), "saved", NULL, &e) < 0) abort();
        /* An id without a token at the end is written as none, and ignore_merges is only what the pre-tokenizer's name says. */
        if (dp_tokenizer_tokens(t) != dp_tokenizer_tokens(u) || dp_tokenizer_merges(t) != dp_tokenizer_merges(u)) abort();
        dp_tokenizer_free(u);
    }
    for (int special = 0; special < 2; special++) {
        ids.len = 0;
        if (dp_encoder_open(&c, t, 4096, special ? DP_SPECIAL_ALL : DP_SPECIAL_NONE, &e) < 0 || dp_encode(c, file, &ids, &e) < 0) abort();
        dp_buf_clear(&out);
        if (dp_decode(t, ids.ptr, ids.len, &out, &e) < 0) abort();
        /* An added token may be the name of other bytes. */
        if (!special && !dp_tokenizer_is_sp(t) && !dp_span_eq(dp_buf_span(&out), file)) abort();
        dp_encoder_close(c);
    }
    dp_ids_release(&ids);
    dp_tokenizer_free(t);
    dp_buf_release(&out);
    return 0;
}

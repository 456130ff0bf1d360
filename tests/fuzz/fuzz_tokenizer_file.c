/* Any bytes as tokenizer.json: an error or a tokenizer that saves, loads again equal, and encodes; the text comes back where it isn't rewritten. */
#include "tokenizer/encode.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_tokenizer *t, *u;
    struct dp_encoder *c;
    struct dp_ids ids = {0};
    struct dp_buf file, out;
    if (size > 1 << 18) return 0;
    dp_buf_init(&file, 1 << 20);
    dp_buf_init(&out, 1 << 24);
    dp_buf_add(&file, data, size);
    if (dp_tokenizer_load(&t, dp_buf_span(&file), "fuzz", NULL, &e) >= 0) {
        if (dp_tokenizer_save_hf(t, &out, &e) >= 0) {
            if (dp_tokenizer_load(&u, dp_buf_span(&out), "saved", NULL, &e) < 0) abort();
            if (!dp_hash128_eq(dp_tokenizer_digest(t), dp_tokenizer_digest(u))) abort();
            dp_tokenizer_free(u);
        }
        if (dp_encoder_open(&c, t, 4096, DP_SPECIAL_NONE, &e) < 0) abort();
        int rc = dp_encode(c, dp_buf_span(&file), &ids, &e);
        if (rc < 0 && (rc != DP_LIMIT || !dp_tokenizer_splitter(t))) abort(); /* a pattern of the file's own may take too long */
        dp_buf_clear(&out);
        if (rc >= 0 && (dp_decode(t, ids.ptr, ids.len, &out, &e) < 0 || (!dp_tokenizer_rewrites(t) && !dp_span_eq(dp_buf_span(&out), dp_buf_span(&file))))) abort();
        dp_encoder_close(c);
        dp_ids_release(&ids);
        dp_tokenizer_free(t);
    }
    dp_buf_release(&file);
    dp_buf_release(&out);
    return 0;
}

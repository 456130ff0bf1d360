/* Any bytes, a declared label before the first newline: decoding gives valid UTF-8. */
#include "base/utf8.h"
#include "clean/charset.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
    struct dp_span label = dp_span(data, nl ? (size_t)(nl - data) : 0);
    struct dp_span text = nl ? dp_span(nl + 1, size - label.len - 1) : dp_span(data, size);
    struct dp_iconv ic = {0};
    struct dp_buf out, scratch;
    struct dp_charset_result r;
    struct dp_err e;
    dp_buf_init(&out, 1 << 26);
    dp_buf_init(&scratch, 1 << 20);
    for (int html = 0; html < 2; html++) {
        if (dp_charset_decode(&ic, text, label, html, &out, &scratch, &r, &e) < 0) abort();
        if (!dp_utf8_valid(r.text)) abort();
    }
    dp_iconv_release(&ic);
    dp_buf_release(&out);
    dp_buf_release(&scratch);
    return 0;
}

/* Arbitrary bytes as a safetensors file: what is accepted must lie inside the input and be found
 * again. */
#include "trainer/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err err = {0};
    struct dp_safetensors *s;
    if (dp_safetensors_parse(&s, dp_span(data, size), "fuzz", &err) < 0) return 0;
    uint64_t sum = 0, at = 0;
    for (size_t i = 0; i < dp_safetensors_count(s); i++) {
        const struct dp_safetensor *t = dp_safetensors_at(s, i);
        if (t->begin != at || dp_safetensors_find(s, t->name) == NULL) abort();
        at = t->end;
        for (uint64_t k = 0; k < t->end - t->begin; k++) sum += (unsigned char)t->data[k];
    }
    if (at != dp_safetensors_data(s).len || sum > at * 255) abort();
    (void)dp_safetensors_meta(s, "format");
    dp_safetensors_close(s);
    return 0;
}

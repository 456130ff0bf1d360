/* HTML through extract, both kinds of content: never crashes, always valid UTF-8. */
#include "clean/stages.h"
#include "clean/utf8.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_err e;
    struct dp_batch b;
    for (int content = 0; content < 2; content++) {
        void *ctx = calloc(1, dp_stage_extract.ctx_size), *w = calloc(1, dp_stage_extract.worker_size);
        if (!ctx || !w || dp_batch_init(&b, 1, 1 << 26, &e) < 0 || dp_opt_defaults(dp_stage_extract.opts, ctx, &e) < 0) abort();
        if (dp_opt_set(dp_opt_find(dp_stage_extract.opts, dp_span_str("content")), ctx, dp_span_str(content ? "all" : "main"), "fuzz", &e) < 0) abort();
        dp_stage_extract.worker_open(ctx, w, &e);
        dp_batch_add(&b);
        b.text[0] = dp_span(data, size);
        b.format[0] = DP_FORMAT_HTML;
        if (dp_stage_extract.run(ctx, w, &b, &e) < 0) abort();
        if (b.drop[0] == DP_DROP_KEEP && !dp_utf8_valid(b.text[0])) abort();
        dp_stage_extract.worker_close(ctx, w);
        dp_opt_release(dp_stage_extract.opts, ctx);
        dp_batch_release(&b);
        free(ctx);
        free(w);
    }
    return 0;
}

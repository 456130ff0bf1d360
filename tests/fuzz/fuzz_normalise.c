/* Any text, repaired, through normalise and then every rule: valid UTF-8 stays so, and normalising twice is normalising once. */
#include "base/utf8.h"
#include "clean/stages.h"

#include <stdlib.h>

static void run(const struct dp_stage_type *t, struct dp_batch *b)
{
    struct dp_err e;
    void *ctx = calloc(1, t->ctx_size), *w;
    if (!ctx || dp_opt_defaults(t->opts, ctx, &e) < 0 || dp_stage_workers_open(&t, &ctx, 1, &w, &e) < 0) abort();
    if (dp_stage_run(t, ctx, w, b, &e) < 0) abort();
    dp_stage_workers_close(&t, &ctx, 1, &w);
    dp_opt_release(t->opts, ctx);
    free(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct dp_stage_type *const rest[] = {&dp_stage_language, &dp_stage_gopher_repetition, &dp_stage_gopher_quality, &dp_stage_c4};
    struct dp_err e;
    struct dp_batch b;
    struct dp_buf s;
    dp_buf_init(&s, 1 << 26);
    dp_utf8_repair(dp_span(data, size), &s);
    if (s.full || dp_batch_init(&b, 1, 1 << 28, &e) < 0) abort();
    dp_batch_add(&b);
    b.text[0] = dp_buf_span(&s);
    run(&dp_stage_normalise, &b);
    if (b.drop[0] == DP_DROP_KEEP) {
        struct dp_span once = b.text[0];
        if (!dp_utf8_valid(once) || once.len == 0) abort();
        run(&dp_stage_normalise, &b);
        if (b.drop[0] != DP_DROP_KEEP || !dp_span_eq(once, b.text[0])) abort();
        for (int i = 0; i < 4; i++) {
            b.drop[0] = DP_DROP_KEEP;
            b.text[0] = once;
            run(rest[i], &b);
            if (!dp_utf8_valid(b.text[0])) abort();
        }
    }
    dp_batch_release(&b);
    dp_buf_release(&s);
    return 0;
}

/* base/pipeline.h - the executor: batches from a source, through stages, to a sink, in order.
 *
 * With one lane everything runs in the caller. With more, the caller's thread reads, `lanes` threads run the stages,
 * and finished batches reach the sink in their order again (one at a time, on any thread). The number of batches is fixed,
 * so a slow sink holds the source back. What the sink sees doesn't depend on the number of lanes. */
#ifndef DP_BASE_PIPELINE_H
#define DP_BASE_PIPELINE_H

#include "base/stage.h"

#include <stdatomic.h>

enum { DP_PIPELINE_STAGES_MAX = 16 };

/* What passed a stage. in = out + sum(drop) always, in documents and in bytes (as the text is before the stage). */
struct dp_stage_counts {
    uint64_t docs_in, docs_out, bytes_in, bytes_out, ns;
    uint64_t drop[DP_DROP_COUNT], drop_bytes[DP_DROP_COUNT];
};

/* Stages with their options; shared read-only by all lanes once opened. */
struct dp_pipeline {
    size_t count;
    const struct dp_stage_type *type[DP_PIPELINE_STAGES_MAX];
    void *ctx[DP_PIPELINE_STAGES_MAX]; /* options filled with defaults by dp_pipeline_init */
    bool opened;
};

/* Allocate contexts and set defaults; refuses an order in which a stage needs what nobody filled (`columns`: what the source fills). */
int dp_pipeline_init(struct dp_pipeline *p, const struct dp_stage_type *const *types, size_t n, uint32_t columns, struct dp_err *e);
/* After the options are set. */
int dp_pipeline_open(struct dp_pipeline *p, struct dp_err *e);
void dp_pipeline_release(struct dp_pipeline *p);

struct dp_pipeline_io {
    void *ctx;
    /* Fill a reset batch; DP_OK with rows or DP_EOF. Called from one thread at a time. */
    int (*next)(void *ctx, struct dp_batch *b, struct dp_err *e);
    /* Take a finished batch, in order. Called from one thread at a time. */
    int (*done)(void *ctx, struct dp_batch *b, struct dp_err *e);
    /* Asked between batches; true ends the run with DP_STOPPED. May be NULL. */
    bool (*stop)(void *ctx);
    /* Told before each stage of a batch, on the lane that runs it, and once behind the last (stage == count). It may drop rows: they
     * count as that stage's. May be NULL. */
    void (*enter)(void *ctx, int lane, size_t stage, struct dp_batch *b);
    /* true: the rows of this batch go through the stages one by one, as batches of one row. The result is the same. May be NULL. */
    bool (*one_by_one)(void *ctx, const struct dp_batch *b);
};
/* counts: p->count + 1 rows, [0] for the source, added to. DP_BROKEN when in != out + drops anywhere. */
int dp_pipeline_run(const struct dp_pipeline *p, const struct dp_pipeline_io *io, int lanes, uint32_t batch_rows,
                    size_t batch_bytes_max, struct dp_stage_counts *counts, struct dp_err *e);

#endif

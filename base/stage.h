/* base/stage.h - what a step over batches looks like, whoever runs it.
 *
 * A worker takes a batch through all consecutive pure stages before it touches the next batch. The executor
 * (base/pipeline.h) counts rows, bytes, drops and time for every stage; a stage only sets columns and drop[].
 * A stage must give the same result for a row whatever batch or worker it is in, and must treat bad documents as data: only
 * trouble of the environment is an error.
 *
 * A stage looks at a batch (`run`, which must skip rows with drop[i] != DP_DROP_KEEP) or at one live row (`row`). Consecutive row
 * stages run row by row: a text passes all of them while it is in cache, and they may share scratch about it (`shared`), which
 * is then of the size of one document. A stage that changes a text gives the row another span, never other bytes under the old one. A stage with an option `enabled` that is false is passed over. */
#ifndef DP_BASE_STAGE_H
#define DP_BASE_STAGE_H

#include "base/batch.h"
#include "base/err.h"
#include "base/opt.h"

#include <stddef.h>
#include <stdint.h>

/* Scratch that a worker's stages have together: one for all that name the same type. Zeroed before their worker_open. */
struct dp_stage_shared {
    size_t size;
    void (*row)(void *scratch);   /* the worker comes to another row; may be NULL */
    void (*close)(void *scratch); /* after their worker_close; may be NULL */
};

struct dp_stage_type {
    const char *name;      /* "rules" */
    const char *summary;   /* one line for --help */
    uint32_t version;      /* part of the artifact key: raise it when the output changes */
    uint32_t needs, fills; /* enum dp_column: a bad order is refused at start-up */
    const struct dp_opt *opts; /* rows, ended by a row with name NULL; offsets are into the ctx */
    size_t ctx_size;       /* options and shared read-only state, zeroed and filled from opts before open */
    size_t worker_size;    /* scratch of one worker, zeroed before worker_open */
    const struct dp_stage_shared *shared;         /* or NULL */
    size_t shared_at;      /* where in the worker the pointer to it goes */
    size_t row_bytes_max;  /* longer texts are dropped (TOO_LARGE) instead of passed to `row`; 0 for no limit */
    int (*open)(void *ctx, struct dp_err *e);   /* may be NULL, like every other but one of run and row */
    int (*worker_open)(const void *ctx, void *worker, struct dp_err *e);
    int (*run)(const void *ctx, void *worker, struct dp_batch *b, struct dp_err *e);
    int (*row)(const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e);
    void (*worker_close)(const void *ctx, void *worker); /* after a worker_open that failed, too */
    void (*close)(void *ctx);
};

/* True unless the stage has an option `enabled` and that is false. */
bool dp_stage_enabled(const struct dp_stage_type *t, const void *ctx);
/* Scratch of one worker for n stages, into worker[0..n) (which the call zeroes). On failure what was opened is closed again. */
int dp_stage_workers_open(const struct dp_stage_type *const *t, void *const *ctx, size_t n, void **worker, struct dp_err *e);
void dp_stage_workers_close(const struct dp_stage_type *const *t, void *const *ctx, size_t n, void **worker);
/* Tells the stage's shared scratch that another row comes: once a row before its first stage. */
void dp_stage_next_row(const struct dp_stage_type *t, void *worker);
/* One live row through an enabled row stage. */
static inline int dp_stage_row(const struct dp_stage_type *t, const void *ctx, void *worker, struct dp_batch *b, uint32_t i, struct dp_err *e)
{
    size_t n = b->text[i].len;
    if (!t->row_bytes_max || n <= t->row_bytes_max) return t->row(ctx, worker, b, i, e);
    dp_batch_drop(b, i, DP_DROP_TOO_LARGE, (double)n, (double)t->row_bytes_max);
    return DP_OK;
}
/* All live rows of a batch through one stage of either kind, if it is enabled. */
int dp_stage_run(const struct dp_stage_type *t, const void *ctx, void *worker, struct dp_batch *b, struct dp_err *e);

#endif

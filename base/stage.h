/* base/stage.h - what a step over batches looks like, whoever runs it.
 *
 * A worker takes a batch through all consecutive pure stages before it touches the next batch. The executor
 * (base/pipeline.h) counts rows, bytes, drops and time for every stage; a stage only sets columns and drop[].
 * A stage must skip rows with drop[i] != DP_DROP_KEEP, must give the same result for a row whatever batch or worker it is
 * in, and must treat bad documents as data: only trouble of the environment is an error. */
#ifndef DP_BASE_STAGE_H
#define DP_BASE_STAGE_H

#include "base/batch.h"
#include "base/err.h"
#include "base/opt.h"

#include <stddef.h>
#include <stdint.h>

struct dp_stage_type {
    const char *name;      /* "rules" */
    const char *summary;   /* one line for --help */
    uint32_t version;      /* part of the artifact key: raise it when the output changes */
    uint32_t needs, fills; /* enum dp_column: a bad order is refused at start-up */
    const struct dp_opt *opts; /* rows, ended by a row with name NULL; offsets are into the ctx */
    size_t ctx_size;       /* options and shared read-only state, zeroed and filled from opts before open */
    size_t worker_size;    /* scratch of one worker, zeroed before worker_open */
    int (*open)(void *ctx, struct dp_err *e);   /* may be NULL, like every other but run */
    int (*worker_open)(const void *ctx, void *worker, struct dp_err *e);
    int (*run)(const void *ctx, void *worker, struct dp_batch *b, struct dp_err *e);
    void (*worker_close)(const void *ctx, void *worker);
    void (*close)(void *ctx);
};

#endif

/* daemon/unit_worker.h - a unit in, documents and counts out. What `dpipe run` calls on a thread and the daemon in a sandboxed process.
 *
 * A worker gets descriptors, never paths: members are opened for it one after the other, outputs are open. It knows no catalog. */
#ifndef DP_DAEMON_UNIT_WORKER_H
#define DP_DAEMON_UNIT_WORKER_H

#include "base/docs.h"
#include "base/pipeline.h"
#include "daemon/unit_watch.h"
#include "ingest/reader.h"

#include <stdatomic.h>

enum { DP_OUT_RECORDS, DP_OUT_DOCS, DP_OUT_DROPS, DP_OUT_SIG, DP_OUTS };

struct dp_unit_job {
    const struct dp_ingest_options *ingest;
    const struct dp_pipeline *clean;
    bool sign;       /* member 0 is a finished docs file: only its signatures are wanted, because only their options changed */
    size_t stages;   /* how many stages of it to run: 0 for ingest alone, all with signatures */
    int lanes;
    const char *what; /* the unit's name, for people; may be NULL */
    size_t members;
    /* Open member i for reading, or a negative code. The worker closes it. */
    int (*open_member)(void *ctx, size_t i, const char **name, const char **prefix, const char **digest, struct dp_err *e);
    void (*progress)(void *ctx, uint64_t bytes, uint64_t docs);
    bool (*stop)(void *ctx);
    void *ctx;
    struct dp_watch *watch;            /* where to say what is at hand; NULL on a thread */
    const struct dp_unit_care *care;   /* what to leave out or take one by one; NULL: nothing */
    int out[DP_OUTS]; /* descriptors at offset 0, owned by the worker from now on; -1: not wanted */
};

struct dp_unit_result {
    struct dp_stage_counts counts[DP_PIPELINE_STAGES_MAX + 1]; /* [0]: reading */
    struct {
        char digest[DP_HEX256];
        uint64_t docs, payload; /* lines; bytes of text */
    } out[DP_OUTS];
    uint64_t damaged;
};

int dp_unit_run(const struct dp_unit_job *job, struct dp_unit_result *res, struct dp_err *e);

#endif

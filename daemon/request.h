/* daemon/request.h - one line of the control protocol, parsed. docs/daemon.md describes it.
 *
 * A request is one JSON object on one line of at most DP_REQUEST_MAX bytes: {"op":"jobs","state":"failed","limit":50}. Unknown
 * members and operations are errors: a mistyping must not look like success. Pure; owns nothing after the call. */
#ifndef DP_DAEMON_REQUEST_H
#define DP_DAEMON_REQUEST_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_REQUEST_MAX = 8192, DP_PAGE_MAX = 1000, DP_PAGE_DEFAULT = 100 };

#define DP_OPS(X)                                                                                  \
    X(STATUS, "status") X(PAUSE, "pause") X(RESUME, "resume") X(DRAIN, "drain") X(RELOAD, "reload") X(RESCAN, "rescan") \
    X(JOBS, "jobs") X(RETRY, "retry") X(LOGLEVEL, "loglevel") X(STOP, "stop") \
    X(QUARANTINE_RETRY, "quarantine.retry") X(QUARANTINE_DROP, "quarantine.drop") X(FIRST, "first") X(REDO, "redo")
enum dp_op {
#define X(id, name) DP_OP_##id,
    DP_OPS(X)
#undef X
        DP_OP_COUNT
};
const char *dp_op_name(enum dp_op op);

struct dp_request {
    enum dp_op op;
    int64_t id;                   /* jobs, retry, redo: this one; 0: none given */
    int64_t after, limit;         /* jobs: a page */
    char state[16], stage[32];    /* jobs: only these; "" all */
    char level[16];               /* loglevel */
    char name[64];                /* quarantine.*: the beginning of one name */
    char path[4096];              /* rescan: this source; first: a pattern */
    bool steps;                   /* rescan: and the steps over all documents */
    bool all;                     /* quarantine.*: every one; else a name is given */
};
/* DP_USAGE with what is wrong, for the one who asked. */
int dp_request_parse(struct dp_request *r, struct dp_span line, struct dp_err *e);

#endif

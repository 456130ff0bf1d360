/* daemon/query.h - questions to the catalog, answered on a thread of their own so that the event loop never waits for a disk.
 *
 * The loop submits, the thread answers in order, `ready` (called on the thread) tells the loop, which then calls
 * dp_query_deliver; callbacks run there. At most DP_QUERY_MAX questions wait; more are refused. */
#ifndef DP_DAEMON_QUERY_H
#define DP_DAEMON_QUERY_H

#include "base/workspace.h"
#include "daemon/view_store.h"

enum { DP_QUERY_MAX = 256, DP_ANSWER_MAX = 16 << 20 };

enum dp_query_kind {
    DP_QUERY_JOBS, DP_QUERY_SOURCES, DP_QUERY_ARTIFACTS, DP_QUERY_SAMPLES, DP_QUERY_TOTALS, /* daemon/view.h */
    DP_QUERY_LANGUAGES, DP_QUERY_ROOTS, DP_QUERY_SHARDS, DP_QUERY_TRAINING, DP_QUERY_QUARANTINE, /* daemon/view_store.h */
    DP_QUERY_CALL,
};

struct dp_ask {
    enum dp_query_kind kind;
    struct dp_page page;
    bool lines;             /* one row a line instead of an array */
    int (*call)(void *arg, struct dp_ask *a); /* of CALL, on the thread; what it returns is rc */
    void *arg;              /* given to `release` with the ask's end; NULL: free */
    void (*release)(void *arg);
    /* the answer */
    int rc;
    struct dp_err err;
    struct dp_buf out;
    int64_t next;
    struct dp_totals totals; /* of TOTALS */
    void (*done)(void *ctx, struct dp_ask *a);
    void *ctx;
    struct dp_ask *link;
};

struct dp_query;
/* The workspace stays open until dp_query_close. */
int dp_query_open(struct dp_query **out, struct dp_workspace *ws, void (*ready)(void *ctx), void *ctx, struct dp_err *e);
void dp_query_close(struct dp_query *q);
/* NULL when too many wait, or without memory. done(ctx, ask) is called once by dp_query_deliver; the ask is freed behind it. */
struct dp_ask *dp_query_submit(struct dp_query *q, enum dp_query_kind kind, const struct dp_page *p, bool lines, void (*done)(void *ctx, struct dp_ask *a),
                               void *ctx);
/* Anything else that may wait for a disk: call(arg, ask) on the thread. `arg` is malloc'ed and taken over, also on failure; release NULL: by free. */
struct dp_ask *dp_query_call(struct dp_query *q, int (*call)(void *arg, struct dp_ask *a), void *arg, void (*release)(void *arg),
                             void (*done)(void *ctx, struct dp_ask *a), void *ctx);
/* The one who asked is gone: `done` won't be called. On the loop's thread. */
void dp_ask_cancel(struct dp_ask *a);
void dp_query_deliver(struct dp_query *q);
/* The present state's units, malloc'ed, and the roots of its sources: both taken over. roots NULL: only the units behind cleaning. From any thread. */
void dp_query_plan(struct dp_query *q, struct dp_view_key *key, size_t n, struct dp_strings *roots);

#endif

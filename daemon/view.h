/* daemon/view.h - the catalog seen from outside: pages and sums as JSON, over a read-only connection of its own.
 *
 * Never a lock on the writer (WAL). A question that takes longer than DP_VIEW_MS is given up (DP_BUSY). Sums are over what makes
 * the present state: the units that dp_view_plan named last, so an older recipe's units don't count twice; each is taken in one
 * statement, hence at one moment: in = out + dropped holds in every answer.
 * Threads: one at a time. The only file of this layer that sees sqlite3. */
#ifndef DP_DAEMON_VIEW_H
#define DP_DAEMON_VIEW_H

#include "base/json.h"
#include "base/pipeline.h"

enum { DP_VIEW_MS = 5000, DP_VIEW_STAGES = 32 };

struct dp_view;
int dp_view_open(struct dp_view **out, const char *catalog_path, const char *store, struct dp_err *e);
void dp_view_close(struct dp_view *v);

/* What to choose from, and which page: rows with id > after, at most `limit`. "" chooses all. */
struct dp_page {
    int64_t id, after, limit;
    char state[16], stage[32], kind[32], reason[48];
    char after_name[64]; /* of lists that are in order of name */
    bool fresh;          /* sums: as of now, whatever they cost */
};

enum dp_view_list { DP_VIEW_JOBS, DP_VIEW_SOURCES, DP_VIEW_ARTIFACTS };
/* Writes one JSON object a row through `row` (called behind each), and sets *next to the last id when there may be more, else 0. */
int dp_view_list(struct dp_view *v, enum dp_view_list list, const struct dp_page *p, struct dp_jsonw *w, void (*row)(void *ctx), void *ctx, int64_t *next,
                 struct dp_err *e);

/* The present state's units: pairs (stage, key), n of them. Replaces those named before; with `later` only those behind cleaning. */
struct dp_view_key {
    char stage[12], key[33];
    int64_t source; /* of a unit of reading (stage clean): its first file, and how many it has; 0 */
    uint64_t files;
};
int dp_view_plan(struct dp_view *v, const struct dp_view_key *key, size_t n, bool later, struct dp_err *e);

struct dp_totals {
    struct {
        char name[32];
        struct dp_stage_counts c;
    } stage[DP_VIEW_STAGES];
    size_t stages;
    uint64_t units, ready, running, failed, done; /* all the catalog knows */
    uint64_t sources, source_bytes, artifacts, artifact_bytes;
    int64_t taken; /* Unix seconds */
};
/* Sums; kept until the catalog or the plan changes, and, but for `at_once`, for ten times as long as they took. */
int dp_view_totals(struct dp_view *v, struct dp_totals *t, bool at_once, struct dp_err *e);

/* Another number when the catalog or the plan has changed: what was made of them is out of date. */
int dp_view_stamp(struct dp_view *v, uint64_t *stamp, struct dp_err *e);

/* Walks. Strings live for the call; a negative code of fn ends the walk and is returned. */
struct dp_view_artifact {
    const char *key, *name, *digest;
    int64_t bytes, docs, payload;
};
/* What the present state's units of a stage made, of one kind. */
int dp_view_artifacts(struct dp_view *v, const char *stage, const char *kind, int (*fn)(void *ctx, const struct dp_view_artifact *a, struct dp_err *e), void *ctx,
                      struct dp_err *e);
struct dp_view_file {
    const char *path;
    int64_t bytes, modified; /* Unix seconds */
    bool again;              /* the content is that of another file, which is read instead */
    /* A unit of reading begins with this file and holds so many (the next ones that aren't `again`); 0: none begins */
    int64_t files;
    const char *state;       /* the unit's; "" before it was ever tried */
    int64_t documents, text_bytes, dropped;
};
/* Every registered file in the order of the units, so that a unit's stand together (dp_catalog_sources has the same order). */
int dp_view_files(struct dp_view *v, int (*fn)(void *ctx, const struct dp_view_file *f, struct dp_err *e), void *ctx, struct dp_err *e);
/* The newest loss log, of a finished run or of the last checkpoint of one that runs: its file and key. DP_EMPTY: there is none. */
int dp_view_loss(struct dp_view *v, char name[96], char key[64], bool *finished, struct dp_err *e);
/* A file of store/; malloc'ed, NULL without memory. */
char *dp_view_path(const struct dp_view *v, const char *name);

/* Dropped documents of the present state, some of each of the latest drops files, as a JSON array. */
int dp_view_samples(struct dp_view *v, const struct dp_page *p, struct dp_jsonw *w, struct dp_err *e);

#endif

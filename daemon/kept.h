/* daemon/kept.h - the kept documents of a unit: its docs file seen through its keep file. */
#ifndef DP_DAEMON_KEPT_H
#define DP_DAEMON_KEPT_H

#include "base/docs.h"
#include "daemon/road.h"
#include "dedup/keepfile.h"

struct dp_kept {
    struct dp_docs_reader *docs;
    struct dp_keepfile *keep;
    uint64_t row; /* of the document returned last */
    struct dp_keep_record decision;
};
/* Unit number u of the plan; needs the docs and the dedup steps. */
int dp_kept_open(struct dp_kept *k, struct dp_road *r, size_t u, struct dp_err *e);
/* The next document, kept or (with all) not; k->decision tells. DP_EOF at the end. */
int dp_kept_next(struct dp_kept *k, bool all, struct dp_doc *doc, struct dp_err *e);
void dp_kept_close(struct dp_kept *k);

#endif

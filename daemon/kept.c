#include "daemon/kept.h"

#include <stdlib.h>

int dp_kept_open(struct dp_kept *k, struct dp_road *r, size_t u, struct dp_err *e)
{
    char name[80];
    *k = (struct dp_kept){0};
    dp_keep_name(r, u, name);
    char *docs = dp_road_path(r, "clean", r->unit[u].docs.hex, "docs", 0, e), *keep = dp_workspace_store_path(&r->ws, name);
    int rc = docs && keep ? DP_OK : DP_NOTFOUND;
    if (rc >= 0) rc = dp_docs_open(&k->docs, docs, e);
    if (rc >= 0) rc = dp_keepfile_open(&k->keep, keep, e);
    free(docs);
    free(keep);
    if (rc < 0) dp_kept_close(k);
    return rc;
}

int dp_kept_next(struct dp_kept *k, bool all, struct dp_doc *doc, struct dp_err *e)
{
    for (;;) {
        int rc = dp_docs_next(k->docs, doc, e);
        if (rc != DP_OK) return rc;
        k->row = dp_docs_line_number(k->docs) - 1;
        rc = dp_keepfile_get(k->keep, k->row, &k->decision, e);
        if (rc < 0) return rc;
        if (all || k->decision.decision == DP_KEEP_KEPT) return DP_OK;
    }
}

void dp_kept_close(struct dp_kept *k)
{
    dp_docs_close(k->docs);
    dp_keepfile_close(k->keep);
    *k = (struct dp_kept){0};
}

/* daemon/view_store.h - what the API tells of the present state from files: languages, sources by root, shards, the loss of a training run, quarantine.
 *
 * As daemon/view.h: on the thread for questions, read-only, the store's and the quarantine's files opened by names from the catalog or the
 * folder itself, never from a request. Each function writes one JSON object. A file that is removed meanwhile is left out. */
#ifndef DP_DAEMON_VIEW_STORE_H
#define DP_DAEMON_VIEW_STORE_H

#include "base/recipe.h"
#include "base/workspace.h"
#include "daemon/view.h"

enum { DP_VIEW_ROOTS = 1000, DP_VIEW_POINTS = 600 };

/* Documents, bytes and tokens by language: the sums of tokens-K.json. */
int dp_view_languages(struct dp_view *v, struct dp_jsonw *w, struct dp_err *e);
/* Files, work left and lag of every root; files below none of them are under "". At most DP_VIEW_ROOTS, the largest. Units of small files may have some of
 * several roots: what came of these can't be told apart and stands under "across". */
int dp_view_roots(struct dp_view *v, const struct dp_strings *roots, struct dp_jsonw *w, struct dp_err *e);
/* The present manifest, and a page of its shards: `after` counts them. */
int dp_view_shards(struct dp_view *v, const struct dp_page *p, struct dp_jsonw *w, struct dp_err *e);
/* The newest run's loss, thinned to DP_VIEW_POINTS means. */
int dp_view_training(struct dp_view *v, struct dp_jsonw *w, struct dp_err *e);
/* A page of the quarantine: names behind `after_name`. */
int dp_view_quarantine(struct dp_workspace *ws, const struct dp_page *p, struct dp_jsonw *w, struct dp_err *e);

#endif

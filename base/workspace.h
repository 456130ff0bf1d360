/* base/workspace.h - the folder a road lives in: recipe.yaml, catalog.db, store/ (published artifacts), tmp/.
 *
 * A writer holds an exclusive lock on `lock`; opening as a writer sweeps what a broken run left: everything in tmp/ and every
 * file in store/ that the catalog doesn't name. Readers take no lock and change nothing. */
#ifndef DP_BASE_WORKSPACE_H
#define DP_BASE_WORKSPACE_H

#include "base/catalog.h"
#include "base/err.h"

#include <stdbool.h>

struct dp_workspace {
    char *dir, *recipe, *store, *tmp;
    struct dp_catalog *catalog;
    int lock_fd; /* -1 for readers */
    bool leftover; /* a file that should be gone couldn't be removed: sweep again */
    char owner[80];
};

/* Make the folders; write `recipe` as recipe.yaml unless there is one (DP_EMPTY then). */
int dp_workspace_init(const char *dir, struct dp_span recipe, struct dp_err *e);
/* A writer also forgets units whose files were removed or cut short, so that they are made again.
 * DP_CONFIG when dir is no workspace, or has a store but no catalog; DP_BUSY when another writer is at work. */
int dp_workspace_open(struct dp_workspace *w, const char *dir, bool write, struct dp_err *e);
/* The same as a writer, without the sweep, which takes time in proportion to what is there: dp_workspace_sweep does it later, before
 * anything is published. */
int dp_workspace_open_unswept(struct dp_workspace *w, const char *dir, struct dp_err *e);
int dp_workspace_sweep(struct dp_workspace *w, struct dp_err *e);
/* What the holder of the lock says about itself, one name=value a line (pid, socket, http): written into the lock file. */
int dp_workspace_note(struct dp_workspace *w, const char *text, struct dp_err *e);
/* One value of the note, malloc'ed; NULL when there is none. It may be of a dead holder. */
char *dp_workspace_noted(const char *dir, const char *name);
/* Empties tmp/ when writing. */
void dp_workspace_close(struct dp_workspace *w);
/* malloc'ed paths. */
char *dp_workspace_store_path(const struct dp_workspace *w, const char *name);
char *dp_workspace_tmp_path(const struct dp_workspace *w, const char *name);
/* Rename finished, fsynced files from tmp/ into store/ under the same names, then fsync store/ once. */
int dp_workspace_publish(struct dp_workspace *w, const char *const *names, size_t n, struct dp_err *e);
/* Unlink store/NAME of an artifact that the catalog has forgotten (rule 3 of base/catalog.h); ctx is the workspace. What can't be removed is no
 * error, since nobody looks for it any more, but takes space: `leftover` says that a sweep is due. */
void dp_workspace_unlink(void *workspace, const char *name);

#endif

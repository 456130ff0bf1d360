/* shards/shard_quarantine.h - damaged files of a data set, moved aside and back.
 *
 * A file whose bytes aren't what the manifest says goes from the manifest's folder into its folder quarantine/, under the same
 * name; quarantine/list.json says which and why. Nothing is deleted and the manifest stays as it is, so a feed stops at the missing
 * file or goes on without it, by its option; a workspace's next run makes it again. Restoring moves everything back.
 *
 * Crash safety: a file is in the list (fsynced) before it moves, and leaves the list after it moved back.
 * Thread-safety: one caller a folder. */
#ifndef DP_SHARDS_SHARD_QUARANTINE_H
#define DP_SHARDS_SHARD_QUARANTINE_H

#include "shards/manifest.h"

#include <stdbool.h>

/* A name in the quarantine of the manifest's folder, malloc'ed; NULL when out of memory. */
char *dp_quarantine_path(const char *manifest_path, const char *name);
/* Move one file of the manifest's folder, whatever it is; over an older one of its name. */
int dp_quarantine_file(const char *manifest_path, const char *name, const char *problem, struct dp_err *e);
/* Called for each file that moves; `moved` false: restoring, a file of its name is there again, and both stay. */
typedef void (*dp_quarantine_fn)(void *ctx, const char *name, const char *problem, bool moved);
/* Move those of shard i's two files that are there and haven't the digest that the manifest says. */
int dp_quarantine_shard(const struct dp_manifest *m, const char *manifest_path, size_t i, const char *problem, dp_quarantine_fn fn,
                        void *ctx, struct dp_err *e);
/* Move everything in the list back. */
int dp_quarantine_restore(const char *manifest_path, dp_quarantine_fn fn, void *ctx, struct dp_err *e);

#endif

/* daemon/inbox.h - which source files are new and complete: inotify, and a settling time.
 *
 * A file is complete when nothing holds it open for its first writing (created, not yet closed) and nothing of it changed for
 * settle_s: ctime, which every write, rename and chmod moves and nobody can set back. Files that aren't are put off, and come back
 * from dp_inbox_due when they may be. Inotify only shortens the wait: a rescan finds what it missed (more folders than
 * `watches_max`, an overflowing queue, network file systems).
 *
 * Memory: a path a watched folder, at most WATCH_PENDING_MAX put-off files; beyond that a rescan is asked for.
 * Threads: dp_inbox_read belongs to the event loop, the others to the work thread; a mutex stands between them. */
#ifndef DP_DAEMON_INBOX_H
#define DP_DAEMON_INBOX_H

#include "base/err.h"
#include "base/recipe.h"

#include <stdbool.h>
#include <sys/stat.h>

struct dp_inbox;
int dp_inbox_open(struct dp_inbox **out, struct dp_err *e);
void dp_inbox_close(struct dp_inbox *w);
void dp_inbox_set(struct dp_inbox *w, double settle_s, size_t watches_max);
/* The inotify descriptor, for the loop; -1 where there is no inotify. */
int dp_inbox_fd(const struct dp_inbox *w);
/* Take what is there to read. True when the work thread has something to wait for. */
bool dp_inbox_read(struct dp_inbox *w);
/* Watch these roots, folders below them included, and forget others. *folders and *beyond: watched, and above the limit. */
int dp_inbox_roots(struct dp_inbox *w, const struct dp_strings *roots, struct dp_err *e);
void dp_inbox_count(struct dp_inbox *w, size_t *folders, size_t *beyond);

/* struct dp_policy's accept: ctx is the dp_inbox. */
bool dp_inbox_accept(void *ctx, const char *path, const char *relative, const struct stat *st);
/* Seconds until the next put-off file is due (or the rescan that a new folder needs); negative: nothing is put off. */
double dp_inbox_wait(struct dp_inbox *w);
/* The next file that is due: malloc'ed path and relative path. False when there is none. */
bool dp_inbox_due(struct dp_inbox *w, char **path, char **relative);
/* Whether a rescan is due; asking clears it. */
bool dp_inbox_rescan(struct dp_inbox *w);

#endif

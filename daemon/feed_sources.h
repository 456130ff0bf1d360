/* daemon/feed_sources.h - opens the feed that `domains` mean where there is a workspace to ask.
 *
 * NAME=FILE is a manifest; NAME=FOLDER the manifest of another workspace, as its recipe has it now; NAME=source:GLOB the documents of
 * this workspace's source files whose path, or a part of it from some / on to its end, matches (fnmatch, * crosses /; A|B: one of them). A mixture
 * without domains names sources: NAME is the file or folder of this name, whatever its suffix. Shards number sources within
 * their group of units, so a name is asked of the plan that made them; a unit of several small files is one source, and must match
 * whole or not at all. */
#ifndef DP_DAEMON_FEED_SOURCES_H
#define DP_DAEMON_FEED_SOURCES_H

#include "daemon/road.h"

struct dp_feed_sources; /* what the feed asks while it is open */
/* `r`, surveyed, may be NULL when there is no workspace; it must stay open as long as the feed. `manifest` is read when o->domains is
 * NULL. Close the feed first. */
int dp_feed_sources_open(struct dp_feed_sources **out, struct dp_feed **feed, struct dp_road *r, const char *manifest,
                         const struct dp_feed_options *o, struct dp_err *e);
/* Ask the workspaces again (r is surveyed anew) and let the feed follow what their manifests are now, for dp_feed_reload or dp_feed_resume. A
 * workspace that has no complete manifest now changes nothing. DP_CONFIG when one doesn't go on behind what the feed reads: its lineage
 * ended (docs/daemon.md, Growth). As for threads, as dp_feed_reload. */
int dp_feed_sources_renew(struct dp_feed_sources *s, struct dp_feed *feed, struct dp_err *e);
void dp_feed_sources_close(struct dp_feed_sources *s); /* NULL is fine */

#endif

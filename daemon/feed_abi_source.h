/* daemon/feed_abi_source.h - what dp_feed_abi_open reads from. Two make it: daemon/feed_abi_source.c, which knows workspaces and so needs the whole
 * library, and python/portable_source.c, which reads manifests alone and is linked before it into the library of the Python wheel
 * (tools/make-wheel.sh). Internal to daemon/feed_abi.c. */
#ifndef DP_DAEMON_FEED_ABI_SOURCE_H
#define DP_DAEMON_FEED_ABI_SOURCE_H

#include "trainer_feed/feed.h"

struct dp_feed_abi_source;
/* *o are the options in force, the source's own. After a failure there is none of it. */
int dp_feed_abi_source_open(struct dp_feed_abi_source **out, struct dp_feed **feed, const struct dp_feed_options **o, const char *manifest,
                            const char *workspace, const char *options, struct dp_err *e);
/* The feed follows what workspaces have now (daemon/feed_sources.h); manifests alone have nothing to ask. */
int dp_feed_abi_source_renew(struct dp_feed_abi_source *s, struct dp_err *e);
/* Closes the feed too. NULL is fine. */
void dp_feed_abi_source_close(struct dp_feed_abi_source *s);

/* feed_abi.c: "name=value" lines over o. */
int dp_feed_abi_options(struct dp_feed_options *o, const char *text, struct dp_err *e);

#endif

/* daemon/serve_feed.h - `dpipe serve --feed`: the feeds of the workspace's data for trainers, while the work makes it grow.
 *
 * Who asks gets the newest complete manifest; who comes back with a state gets the data that it was reading, for as long as that is kept. What
 * somebody reads, or read less than serve.keep ago, isn't removed (daemon/retire.h): what made it is noted as superseded only now, in the catalog, so that
 * the service may be killed and come back without forgetting.
 * Threads: one of its own runs the server (trainer_feed/feed_server.h). open, stop and close from the loop's; print and metrics too; refresh from
 * the work thread. */
#ifndef DP_DAEMON_SERVE_FEED_H
#define DP_DAEMON_SERVE_FEED_H

#include "base/buf.h"
#include "base/json.h"
#include "daemon/road.h"

struct dp_serve_feed;
struct dp_serve_feed_config {
    struct dp_workspace *ws; /* open for as long as the feed */
    struct dp_options *options; /* as the service began with: copied where they are kept */
    dp_apply_fn apply; /* the command line's options over any recipe; and its ctx */
    void *ctx;
    const char *addr;
    int listener; /* -1, or a passed socket */
    const char *token_file, *cert, *key, *client_ca; /* paths, NULL: none */
};
int dp_serve_feed_open(struct dp_serve_feed **out, const struct dp_serve_feed_config *c, struct dp_err *e);
/* Clients are let go; dp_serve_feed_ended says when the last one is. */
void dp_serve_feed_stop(struct dp_serve_feed *f); /* NULL is fine, for all of these */
bool dp_serve_feed_ended(struct dp_serve_feed *f);
void dp_serve_feed_close(struct dp_serve_feed *f); /* waits for the end */
/* What is read, or was until lately, counts as superseded now. Whether superseded artifacts may be removed: not in the first minute (or keep_s, when that is
 * less), in which those that the service before this one served come back. Errors are reported as events. */
bool dp_serve_feed_refresh(struct dp_serve_feed *f, double keep_s);
/* "feed": {...} as a member of the object at hand; nothing without a feed. */
void dp_serve_feed_print(struct dp_serve_feed *f, struct dp_jsonw *w);
struct dp_feed_server_totals;
/* All zero without a feed. */
void dp_serve_feed_totals(struct dp_serve_feed *f, struct dp_feed_server_totals *out);

#endif

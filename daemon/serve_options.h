/* daemon/serve_options.h - the section `serve` of the recipe: what the long-running service may be told.
 *
 * Nothing of it is part of an artifact's key. All but `http`, `feed` and its own, `socket`, `group`, the tokens and the certificates follow a reload. */
#ifndef DP_DAEMON_SERVE_OPTIONS_H
#define DP_DAEMON_SERVE_OPTIONS_H

#include "base/opt.h"

struct dp_serve_options {
    char *until;
    double rescan_s, settle_s;
    bool spool;
    int64_t watches_max;
    uint64_t min_free_bytes;
    double retry_base_s, retry_max_s;
    int64_t tries;
    double drain_timeout_s, keep_s;
    double append_wait_s;
    uint64_t append_min_bytes;
    char *feed, *feed_token_file, *feed_client_ca;
    int64_t feed_clients_max;
    char *http, *http_token_file, *tls_cert, *tls_key, *tls_client_ca;
    char *socket, *group;
    char *rescan_at, *steps_at, *hours, *first; /* daemon/schedule.h; patterns, comma-separated */
    int64_t connections_max;
};
extern const struct dp_opt dp_serve_opts[];

#endif

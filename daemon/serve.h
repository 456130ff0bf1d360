/* daemon/serve.h - dpipe serve: the event loop that ties the service together.
 *
 * Threads: the loop (signals, timers, sockets), the work thread (daemon/work.h) with the road's own pool and the catalog's writer,
 * and the thread for questions (daemon/query.h). The loop waits for none of them.
 * docs/daemon.md is the operator's view: states, sockets, signals, failures. */
#ifndef DP_DAEMON_SERVE_H
#define DP_DAEMON_SERVE_H

#include "daemon/control.h"
#include "daemon/http.h"
#include "daemon/query.h"
#include "daemon/schedule.h"
#include "daemon/serve_feed.h"
#include "daemon/work.h"

struct dp_serve_config {
    const char *dir;
    int threads;
    uint64_t memory;
    dp_apply_fn apply; /* the command line's options, over any recipe */
    void *ctx;
};
/* Returns when the service was stopped; DP_OK for a stop that was asked for. */
int dp_serve(const struct dp_serve_config *config, struct dp_err *e);

enum dp_serve_state { DP_SERVE_STARTING, DP_SERVE_WORKING, DP_SERVE_IDLE, DP_SERVE_RETRYING, DP_SERVE_PAUSED, DP_SERVE_DISK, DP_SERVE_DRAINING, DP_SERVE_DRAINED,
                      DP_SERVE_HOURS, DP_SERVE_STOPPING };

struct event;
struct dp_streams; /* serve_stream.c */
struct dp_history;
struct dp_serve {
    struct dp_serve_config config;
    struct dp_road road; /* the work thread's, but for ws.dir, ws.recipe and ws.catalog */
    struct dp_serve_options o; /* numbers only, of the options in force; strings are the road's and not kept */
    bool road_open;
    struct event_base *base;
    struct event *tick, *changed, *answers, *inotify, *sig[4];
    struct dp_inbox *watch;
    struct dp_work *work;
    struct dp_query *query;
    struct dp_control *control;
    struct dp_http *http_unix, *http_tcp;
    struct dp_serve_feed *feed; /* NULL: none is asked for */
    char *control_path, *http_path, *http_addr, *token, *feed_path; /* paths to remove at the end: NULL when systemd made them */
    struct dp_streams *streams;
    struct dp_history *history;
    int64_t began; /* Unix seconds */
    int64_t run_counted; /* number of the last run whose documents were asked for */
    bool own_control, own_http, tls;
    double started, stop_at, disk_retry_at, watchdog_at, ticks_at, status_at; /* monotonic; 0: not set */
    uint64_t ticks, disk_free, disk_total;
    int disk_tries;
    atomic_bool again; /* there is something to plan anew: for the work thread, from the thread for questions */
    struct dp_hours hours; /* of work */
    bool paused, draining, off, disk_low, stopping, halted, stuck;
    enum dp_serve_state state; /* as last told */
    int stop_signals;
    uint64_t reloads, reloads_refused, requests;
};

/* dp_options_init with the defaults of a service. */
int dp_serve_defaults(struct dp_options *o, struct dp_err *e);
enum dp_serve_state dp_serve_state(struct dp_serve *s, struct dp_work_status *w);
const char *dp_serve_state_name(enum dp_serve_state st);
/* Whether work can be expected of the service; *why is a few words otherwise. */
bool dp_serve_ready(struct dp_serve *s, const char **why);
/* "state":..., and the rest of the live state as members of the object at hand. */
void dp_serve_print(struct dp_serve *s, struct dp_jsonw *w);
/* The two halves of it: what changes when something happens, and what changes all the time while work goes on. */
void dp_serve_print_still(struct dp_serve *s, struct dp_jsonw *w);
void dp_serve_print_moving(struct dp_serve *s, struct dp_jsonw *w);
/* The path of a configured file, or of the credential of that name when systemd passed one; malloc'ed, NULL: neither. */
char *dp_serve_secret(const char *configured, const char *credential);

/* serve.hours of the recipe in force. */
void dp_serve_hours(struct dp_serve *s, const char *hours);

/* daemon/serve_control.c */
void dp_serve_request(void *serve, struct dp_conn *c, const struct dp_request *r);
int dp_serve_load(struct dp_serve *s, struct dp_options *o, int pardon, struct dp_err *e);
/* Read the recipe again, for c (NULL: for a signal): it is answered when that is done. */
void dp_serve_reload(struct dp_serve *s, struct dp_conn *c);
void dp_serve_pause(struct dp_serve *s, bool on);
void dp_serve_drain(struct dp_serve *s);
void dp_serve_stop(struct dp_serve *s);
/* daemon/serve_routes.c */
void dp_serve_http(void *serve, struct dp_http_request *r, const char *path);

#endif

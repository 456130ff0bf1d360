/* daemon/http.h - HTTP/1.1 for the service, over libevent's bufferevents: who may ask, how much, and how answers leave.
 *
 * One server a listener. On a Unix socket the peer's credentials decide; on TCP a bearer token, compared in constant time, or,
 * without one, only a loopback address and a loopback Host (so that a web page can't ask through its visitor's browser). GET and HEAD
 * only. Limits: `connections_max` open connections (a further one pushes out the one that has been silent longest), 8 KiB of head, no bodies, DP_HTTP_AGE_S
 * for a request to arrive and for an answer to be read. A handler answers now or later, on the loop's thread, and never waits for a disk.
 *
 * Not evhttp: its 2.1 can neither count connections nor end one that sends a byte now and then. */
#ifndef DP_DAEMON_HTTP_H
#define DP_DAEMON_HTTP_H

#include "base/buf.h"
#include "base/tcp.h"

#include <stdbool.h>
#include <stddef.h>

enum { DP_HTTP_AGE_S = 20 };

struct event_base;
struct dp_http;

struct dp_http_request;
/* path: decoded, without the query. Answer by dp_http_reply, once. */
typedef void (*dp_http_fn)(void *ctx, struct dp_http_request *r, const char *path);

struct dp_http_config {
    struct event_base *base;
    int fd;                 /* listening, taken over */
    bool tcp;
    const char *group;      /* Unix socket: who else may */
    const char *token;      /* TCP; NULL: none */
    const char *cert, *key; /* TCP: PEM files; NULL: no TLS */
    int connections_max;
    dp_http_fn fn;
    void *ctx;
};
int dp_http_open(struct dp_http **out, const struct dp_http_config *config, struct dp_err *e);
void dp_http_close(struct dp_http *h);
int dp_http_connections(const struct dp_http *h);

/* One parameter of the query, NULL when it isn't there. */
const char *dp_http_param(const struct dp_http_request *r, const char *name);
/* For answers that come later: `gone` is called when the client left before; NULL to forget. */
void dp_http_pending(struct dp_http_request *r, void (*gone)(void *what), void *what);
/* type: "application/json". body may be empty. */
void dp_http_reply(struct dp_http_request *r, int status, const char *type, struct dp_span body);
/* {"error":...} */
void dp_http_error(struct dp_http_request *r, int status, const char *message);

#endif

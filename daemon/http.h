/* daemon/http.h - HTTP/1.1 for the service, over libevent's bufferevents: who may ask, how much, and how answers leave.
 *
 * One server a listener. On a Unix socket the peer's credentials decide; on TCP a bearer token, compared in constant time, or,
 * without one, only a loopback address and a loopback Host (so that a web page can't ask through its visitor's browser), or, with `client_ca`, whoever has
 * a certificate of it. GET, HEAD and POST, which is refused to pages of other origins. Limits: `connections_max` open connections (a further one pushes
 * out the one that has been silent longest), 8 KiB of head, no bodies, DP_HTTP_AGE_S for a request to arrive and for an answer to be read. A handler
 * answers now or later, on the loop's thread, and never waits for a disk.
 *
 * A stream is an answer without end: a quarter of the connections at most (and DP_HTTP_STREAMS), DP_HTTP_STREAM_BYTES wait for its reader; one who doesn't keep up
 * is cut off and may come again.
 *
 * Not evhttp: its 2.1 can neither count connections nor end one that sends a byte now and then. */
#ifndef DP_DAEMON_HTTP_H
#define DP_DAEMON_HTTP_H

#include "base/buf.h"
#include "base/tcp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DP_HTTP_AGE_S = 20, DP_HTTP_STREAMS = 64, DP_HTTP_STREAM_BYTES = 256 << 10 };

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
    const char *client_ca;  /* with TLS: only who has a certificate of these; NULL: everybody */
    /* TCP: pages without data, which need no token; NULL: none */
    bool (*open)(const char *path);
    int connections_max;
    dp_http_fn fn;
    void *ctx;
};
int dp_http_open(struct dp_http **out, const struct dp_http_config *config, struct dp_err *e);
void dp_http_close(struct dp_http *h);
int dp_http_connections(const struct dp_http *h);

int dp_http_streams(const struct dp_http *h);

bool dp_http_is_post(const struct dp_http_request *r);
/* Whether a page of another origin asks. What a browser sends of itself (from an address that is let in, with a client's certificate) proves nothing then;
 * so who has no token must send X-Dpipe-Action too, which no such page can without having asked first, and that is never allowed. To be
 * called before anything is done by request. */
bool dp_http_foreign(const struct dp_http_request *r);
/* The k-th parameter of the query; false when there are fewer. */
bool dp_http_param_at(const struct dp_http_request *r, int k, const char **name, const char **value);
/* One parameter of the query, NULL when it isn't there. */
const char *dp_http_param(const struct dp_http_request *r, const char *name);
/* For answers that come later: `gone` is called when the client left before; NULL to forget. */
void dp_http_pending(struct dp_http_request *r, void (*gone)(void *what), void *what);
/* type: "application/json". body may be empty. */
void dp_http_reply(struct dp_http_request *r, int status, const char *type, struct dp_span body);
/* {"error":...} */
void dp_http_error(struct dp_http_request *r, int status, const char *message);
/* 405; `allow` as in the field Allow. */
void dp_http_not_allowed(struct dp_http_request *r, const char *allow);
/* A file that is compiled in: 304 when the client has it (etag in its quotes). `csp` is the page's Content-Security-Policy. */
void dp_http_reply_file(struct dp_http_request *r, const char *type, struct dp_span body, const char *etag, const char *csp);

/* Begin an event stream; `gone` is called once when it ends. *after is Last-Event-ID, -1 without a good one. DP_BUSY: too many, and nothing was
 * answered; DP_EMPTY: it was answered (HEAD) and is no stream. */
int dp_http_stream(struct dp_http_request *r, void (*gone)(void *what), void *what, int64_t *after);
/* False when the client was too slow: it is cut off, `gone` was called, and r is no more. */
bool dp_http_stream_send(struct dp_http_request *r, struct dp_span bytes);

#endif

/* daemon/control.h - the Unix socket by which the CLI speaks to the service: lines of JSON, docs/daemon.md.
 *
 * A peer is the service's own user, root, or a member of the configured group (SO_PEERCRED); others are told so and closed. Nobody
 * can hold the loop up: a line has at most DP_REQUEST_MAX bytes, one request of a connection is answered at a time, idle
 * connections and those that don't read their answers are closed after DP_CONTROL_IDLE_S, and there are at most `max` of them.
 * On the event loop's thread. */
#ifndef DP_DAEMON_CONTROL_H
#define DP_DAEMON_CONTROL_H

#include "base/buf.h"
#include "daemon/request.h"

#include <stdbool.h>
#include <sys/types.h>

enum { DP_CONTROL_IDLE_S = 30 };

struct event_base;
struct dp_control;
struct dp_conn;
/* Answer with dp_conn_line any number of times, then dp_conn_end once; now or later. */
typedef void (*dp_control_fn)(void *ctx, struct dp_conn *c, const struct dp_request *r);
int dp_control_open(struct dp_control **out, struct event_base *base, int fd, const char *group, int max, dp_control_fn fn, void *ctx, struct dp_err *e);
void dp_control_close(struct dp_control *k);
void dp_conn_line(struct dp_conn *c, struct dp_span text); /* newline added unless there is one */
void dp_conn_end(struct dp_conn *c, int code, const char *message); /* {"ok":true} or {"ok":false,"code":...,"error":...} */
/* {"ok":true, and members (JSON, without braces) }*/
void dp_conn_end_with(struct dp_conn *c, struct dp_span members);
/* What `gone` is called with when the connection closes before the answer; NULL to forget. */
void dp_conn_pending(struct dp_conn *c, void (*gone)(void *what), void *what);

/* A listening Unix socket at `path`, which is removed first when nobody listens there. Mode 0600, or 0660 with `group`. Long paths
 * are fine. DP_BUSY when somebody does listen. */
int dp_unix_listen(const char *path, const char *group, struct dp_err *e);
int dp_unix_connect(const char *path, struct dp_err *e);
/* Whether the peer of a connected Unix socket is the owner, root, or in `group` (NULL: none). *uid is told. */
bool dp_unix_peer_allowed(int fd, const char *group, uid_t *uid);

#endif

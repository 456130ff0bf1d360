/* daemon/tls_accept.h - TLS for the HTTP listener: base/tls.h behind libevent's bufferevent. */
#ifndef DP_DAEMON_TLS_ACCEPT_H
#define DP_DAEMON_TLS_ACCEPT_H

#include "base/tls.h"

struct bufferevent;
struct event_base;
/* For an accepted connection. NULL without memory; the descriptor stays the caller's then. */
struct bufferevent *dp_tls_accept(struct dp_tls *t, struct event_base *base, int fd);

#endif

/* daemon/tls.h - TLS for the HTTP listener: OpenSSL behind libevent's bufferevent. TLS 1.2 and later, the library's own ciphers. */
#ifndef DP_DAEMON_TLS_H
#define DP_DAEMON_TLS_H

#include "base/err.h"

struct bufferevent;
struct event_base;
struct dp_tls;
/* PEM files; the key must belong to the certificate. */
int dp_tls_open(struct dp_tls **out, const char *cert, const char *key, struct dp_err *e);
void dp_tls_close(struct dp_tls *t);
/* For an accepted connection. NULL without memory; the descriptor stays the caller's then. */
struct bufferevent *dp_tls_accept(struct dp_tls *t, struct event_base *base, int fd);

#endif

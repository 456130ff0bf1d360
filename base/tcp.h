/* base/tcp.h - TCP addresses, listening and connecting, and the secrets that guard them. */
#ifndef DP_BASE_TCP_H
#define DP_BASE_TCP_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>

/* HOST:PORT, [HOST]:PORT, :PORT (loopback). A listening socket, not blocking; *loopback says whether only this machine reaches it.
 * `what` begins messages: "serve.http". */
int dp_tcp_listen(const char *addr, const char *what, bool *loopback, struct dp_err *e);
bool dp_tcp_is_loopback(int fd);
/* A connected socket, not blocking, without delays, with keep-alive: a peer that vanished is noticed within half a minute. Tries every address of the
 * host, timeout_ms each. DP_NOTFOUND when nobody listens there, DP_BUSY when nobody answers in time, DP_STOPPED when *stop was set. */
int dp_tcp_connect(const char *addr, const char *what, int timeout_ms, const atomic_bool *stop, struct dp_err *e);
/* The same for an accepted one. */
void dp_tcp_tune(int fd);
/* HOST of an address, without brackets; at most 255 bytes. DP_CONFIG when it is none. */
int dp_tcp_host(const char *addr, const char *what, char host[256], struct dp_err *e);
/* "192.0.2.1:4711" of the other side. */
void dp_tcp_peer(int fd, char *out, size_t n);

/* Equal in a time that depends on the lengths alone. */
bool dp_secret_equal(const char *a, const char *b);
/* A secret's first line, malloc'ed: 16 to 1,024 bytes. DP_CONFIG otherwise. */
int dp_secret_read(char **out, const char *path, struct dp_err *e);

#endif

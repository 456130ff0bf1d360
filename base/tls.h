/* base/tls.h - TLS over sockets that don't block (OpenSSL): TLS 1.2 and later, the library's own ciphers.
 *
 * A dp_tls is what one side is configured to be; a dp_tls_conn is one connection of it. Calls never wait: DP_EMPTY says what to poll for.
 * The descriptor stays the caller's; a peer that is gone raises no signal. Thread-safety: a dp_tls may be used by many threads, a connection by one at
 * a time. */
#ifndef DP_BASE_TLS_H
#define DP_BASE_TLS_H

#include "base/err.h"

#include <stdbool.h>

struct dp_tls_config {
    bool server;
    const char *cert, *key; /* PEM files; a server needs them, a client may have them; the key must belong to the certificate */
    const char *ca;         /* PEM file. Client: whom to trust (NULL: whom the system trusts). Server: NULL, or who must have signed every client's certificate */
};
struct dp_tls;
/* DP_CONFIG names the file. */
int dp_tls_open(struct dp_tls **out, const struct dp_tls_config *config, struct dp_err *e);
void dp_tls_close(struct dp_tls *t); /* NULL is fine; not before its connections */

struct dp_tls_conn;
/* host: a client's; a name or an address that the server's certificate must have. */
int dp_tls_conn_open(struct dp_tls_conn **out, struct dp_tls *t, int fd, const char *host, struct dp_err *e);
void dp_tls_conn_close(struct dp_tls_conn *c); /* says goodbye if that needs no waiting */
/* DP_OK when it is done; DP_EMPTY: poll for *events, and again; DP_EOF: the other side is gone; DP_CONFIG: who speaks isn't whom we trust, or no TLS. */
int dp_tls_handshake(struct dp_tls_conn *c, short *events, struct dp_err *e);
/* DP_OK: *done (over 0) bytes; DP_EMPTY, DP_EOF as above; DP_CORRUPT for a broken stream. A write that got DP_EMPTY must be tried again with the same
 * bytes (they may have moved). */
int dp_tls_read(struct dp_tls_conn *c, void *p, size_t n, size_t *done, short *events, struct dp_err *e);
int dp_tls_write(struct dp_tls_conn *c, const void *p, size_t n, size_t *done, short *events, struct dp_err *e);
/* Bytes that can be read without the socket: poll knows nothing of them. */
bool dp_tls_pending(const struct dp_tls_conn *c);

/* For other event loops: OpenSSL's SSL of a new connection, the caller's; NULL without memory. */
struct ssl_st *dp_tls_session(struct dp_tls *t);
void dp_tls_session_free(struct ssl_st *s);

#endif

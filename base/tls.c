/* OpenSSL's own socket BIO writes by write(), which raises SIGPIPE; a library must not have its user's process killed by a peer that went. So a BIO
 * of our own sends with MSG_NOSIGNAL. */
#include "base/tls.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct dp_tls {
    SSL_CTX *ctx;
    bool server;
};
struct dp_tls_conn {
    SSL *ssl;
    bool done, broken; /* shaken hands; nothing more can be said */
};

static int ssl_fail(enum dp_code code, const char *what, struct dp_err *e)
{
    char text[160] = "no reason given";
    unsigned long x = ERR_get_error();
    if (x) ERR_error_string_n(x, text, sizeof text);
    ERR_clear_error();
    return dp_err_set(e, code, 0, __FILE__, __LINE__, "%s: %s", what, text);
}

/* --- sockets --- */

static int sock_write(BIO *b, const char *p, int n)
{
    BIO_clear_retry_flags(b);
    ssize_t k = send((int)(intptr_t)BIO_get_data(b), p, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (k < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(b);
    return (int)k;
}
static int sock_read(BIO *b, char *p, int n)
{
    BIO_clear_retry_flags(b);
    ssize_t k = recv((int)(intptr_t)BIO_get_data(b), p, (size_t)n, MSG_DONTWAIT);
    if (k < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(b);
    return (int)k;
}
static long sock_ctrl(BIO *b, int what, long n, void *p)
{
    (void)b;
    (void)n;
    (void)p;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;
static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "dpipe socket");
    if (!method) return;
    BIO_meth_set_write(method, sock_write);
    BIO_meth_set_read(method, sock_read);
    BIO_meth_set_ctrl(method, sock_ctrl);
}

/* --- what one side is --- */

static int load(struct dp_tls *t, const struct dp_tls_config *c, struct dp_err *e)
{
    if (c->cert && !c->key) DP_FAIL(e, CONFIG, "%s: a certificate wants its key too", c->cert);
    if (c->server && !c->cert) DP_FAIL(e, CONFIG, "TLS: a server needs a certificate");
    if (c->cert && SSL_CTX_use_certificate_chain_file(t->ctx, c->cert) != 1) return ssl_fail(DP_CONFIG, c->cert, e);
    if (c->cert && (SSL_CTX_use_PrivateKey_file(t->ctx, c->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(t->ctx) != 1))
        return ssl_fail(DP_CONFIG, c->key, e);
    if (c->ca && SSL_CTX_load_verify_locations(t->ctx, c->ca, NULL) != 1) return ssl_fail(DP_CONFIG, c->ca, e);
    if (c->ca && c->server) SSL_CTX_set_client_CA_list(t->ctx, SSL_load_client_CA_file(c->ca));
    if (!c->ca && !c->server && SSL_CTX_set_default_verify_paths(t->ctx) != 1) return ssl_fail(DP_CONFIG, "the system's certificates", e);
    if (c->ca && c->server) { /* a resumed session isn't verified again, and its certificate may have expired meanwhile */
        SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(t->ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(t->ctx, 0);
    }
    if (c->ca || !c->server) SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return DP_OK;
}

int dp_tls_open(struct dp_tls **out, const struct dp_tls_config *config, struct dp_err *e)
{
    *out = NULL;
    struct dp_tls *t = calloc(1, sizeof *t);
    if (!t || !(t->ctx = SSL_CTX_new(config->server ? TLS_server_method() : TLS_client_method()))) {
        free(t);
        DP_FAIL(e, NOMEM, "TLS");
    }
    t->server = config->server;
    SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_id_context(t->ctx, (const unsigned char *)"dpipe", 5);
    int rc = load(t, config, e);
    if (rc < 0) dp_tls_close(t);
    else *out = t;
    return rc;
}

void dp_tls_close(struct dp_tls *t)
{
    if (!t) return;
    SSL_CTX_free(t->ctx);
    free(t);
}

struct ssl_st *dp_tls_session(struct dp_tls *t)
{
    return SSL_new(t->ctx);
}
void dp_tls_session_free(struct ssl_st *s)
{
    SSL_free(s);
}

/* --- a connection --- */

static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char addr[16];
    if (inet_pton(AF_INET, host, addr) == 1 || inet_pton(AF_INET6, host, addr) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

int dp_tls_conn_open(struct dp_tls_conn **out, struct dp_tls *t, int fd, const char *host, struct dp_err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    *out = NULL;
    struct dp_tls_conn *c = calloc(1, sizeof *c);
    BIO *b = method ? BIO_new(method) : NULL;
    if (c) c->ssl = SSL_new(t->ctx);
    if (!c || !b || !c->ssl || (host && !expect_host(c->ssl, host))) {
        BIO_free(b);
        if (c) SSL_free(c->ssl);
        free(c);
        DP_FAIL(e, NOMEM, "TLS connection");
    }
    BIO_set_data(b, (void *)(intptr_t)fd);
    BIO_set_init(b, 1);
    SSL_set_bio(c->ssl, b, b);
    if (t->server) SSL_set_accept_state(c->ssl);
    else SSL_set_connect_state(c->ssl);
    *out = c;
    return DP_OK;
}

void dp_tls_conn_close(struct dp_tls_conn *c)
{
    if (!c) return;
    ERR_clear_error();
    if (c->done && !c->broken) SSL_shutdown(c->ssl);
    ERR_clear_error();
    SSL_free(c->ssl);
    free(c);
}

/* What a call that gave n (not over 0) means. */
static int outcome(struct dp_tls_conn *c, int n, short *events, enum dp_code bad, struct dp_err *e)
{
    int why = SSL_get_error(c->ssl, n);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        *events = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return DP_EMPTY;
    }
    c->broken = true;
    if (why == SSL_ERROR_ZERO_RETURN || (why == SSL_ERROR_SYSCALL && !ERR_peek_error()) ||
        (why == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
        ERR_clear_error();
        return DP_EOF;
    }
    long verdict = SSL_get_verify_result(c->ssl);
    if (verdict != X509_V_OK && !c->done) {
        ERR_clear_error();
        return dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "TLS: the other side's certificate: %s", X509_verify_cert_error_string(verdict));
    }
    return ssl_fail(bad, "TLS", e);
}

int dp_tls_handshake(struct dp_tls_conn *c, short *events, struct dp_err *e)
{
    ERR_clear_error();
    int n = SSL_do_handshake(c->ssl);
    if (n != 1) return outcome(c, n, events, DP_CONFIG, e);
    c->done = true;
    return DP_OK;
}

int dp_tls_read(struct dp_tls_conn *c, void *p, size_t n, size_t *done, short *events, struct dp_err *e)
{
    ERR_clear_error();
    int k = SSL_read_ex(c->ssl, p, n, done);
    return k == 1 ? DP_OK : outcome(c, k, events, DP_CORRUPT, e);
}

int dp_tls_write(struct dp_tls_conn *c, const void *p, size_t n, size_t *done, short *events, struct dp_err *e)
{
    ERR_clear_error();
    int k = SSL_write_ex(c->ssl, p, n, done);
    return k == 1 ? DP_OK : outcome(c, k, events, DP_CORRUPT, e);
}

bool dp_tls_pending(const struct dp_tls_conn *c)
{
    return SSL_pending(c->ssl) > 0;
}

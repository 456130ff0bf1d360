#include "daemon/tls.h"

#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

struct dp_tls {
    SSL_CTX *ctx;
};

static int ssl_fail(const char *path, struct dp_err *e)
{
    char text[160];
    ERR_error_string_n(ERR_get_error(), text, sizeof text);
    ERR_clear_error();
    DP_FAIL(e, CONFIG, "%s: %s", path, text);
}

int dp_tls_open(struct dp_tls **out, const char *cert, const char *key, struct dp_err *e)
{
    *out = NULL;
    if (!key) DP_FAIL(e, CONFIG, "serve.tls_cert wants serve.tls_key too");
    struct dp_tls *t = calloc(1, sizeof *t);
    if (!t || !(t->ctx = SSL_CTX_new(TLS_server_method()))) {
        free(t);
        DP_FAIL(e, NOMEM, "TLS");
    }
    SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION);
    int rc = DP_OK;
    if (SSL_CTX_use_certificate_chain_file(t->ctx, cert) != 1) rc = ssl_fail(cert, e);
    else if (SSL_CTX_use_PrivateKey_file(t->ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(t->ctx) != 1) rc = ssl_fail(key, e);
    if (rc < 0) {
        dp_tls_close(t);
        return rc;
    }
    *out = t;
    return DP_OK;
}

void dp_tls_close(struct dp_tls *t)
{
    if (!t) return;
    SSL_CTX_free(t->ctx);
    free(t);
}

struct bufferevent *dp_tls_accept(struct dp_tls *t, struct event_base *base, int fd)
{
    SSL *ssl = SSL_new(t->ctx);
    if (!ssl) return NULL;
    struct bufferevent *b = bufferevent_openssl_socket_new(base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (!b) SSL_free(ssl);
    else bufferevent_openssl_set_allow_dirty_shutdown(b, 1);
    return b;
}

#include "daemon/tls_accept.h"

#include <event2/bufferevent_ssl.h>

struct bufferevent *dp_tls_accept(struct dp_tls *t, struct event_base *base, int fd)
{
    struct ssl_st *ssl = dp_tls_session(t);
    if (!ssl) return NULL;
    struct bufferevent *b = bufferevent_openssl_socket_new(base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (!b) dp_tls_session_free(ssl);
    else bufferevent_openssl_set_allow_dirty_shutdown(b, 1);
    return b;
}

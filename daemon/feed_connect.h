/* daemon/feed_connect.h - how to reach a feed server, as text: lines "name=value" that are rows of dp_feed_opts (but domains), which are asked of the
 * server, and
 *   slots=N  meta=cu_seqlens,positions,...|all  reconnect=TIME  compress=LEVEL
 *   token=TEXT  token_file=FILE  tls=true  tls_ca=FILE  tls_cert=FILE  tls_key=FILE  tls_host=NAME
 * with the meaning of trainer_feed/feed_client.h. Thread-safety: plain data. */
#ifndef DP_DAEMON_FEED_CONNECT_H
#define DP_DAEMON_FEED_CONNECT_H

#include "base/buf.h"
#include "trainer_feed/feed_client.h"

/* The next line "name=value" at *p, which moves behind it; empty lines are passed over. DP_EOF at the end; value.ptr NULL: the line has no =. */
int dp_feed_option_line(const char **p, struct dp_span *name, struct dp_span *value);

struct dp_feed_connect {
    struct dp_feed_client_options o; /* its strings are those below; start, state and stop are the caller's */
    char *addr, *token_read;
    struct dp_buf wants;
    struct dp_feed_settings {
        int64_t slots, compress;
        double reconnect;
        char *meta, *token_file, *token, *tls_ca, *tls_cert, *tls_key, *tls_host;
        bool tls;
    } s;
};
/* DP_USAGE names an option that there isn't. Free with dp_feed_connect_release, after a failure too. */
int dp_feed_connect_parse(struct dp_feed_connect *c, const char *addr, const char *options, struct dp_err *e);
void dp_feed_connect_release(struct dp_feed_connect *c);

#endif

/* daemon/http_head.h - the head of an HTTP/1.1 request, parsed strictly (RFC 9112). Pure; every string has a fixed limit.
 *
 * Refused rather than guessed: bare LF, folded lines, blanks before a colon, control characters, two Hosts or lengths, bodies of
 * unknown length. So there is nothing that a proxy in front could read in another way. */
#ifndef DP_DAEMON_HTTP_HEAD_H
#define DP_DAEMON_HTTP_HEAD_H

#include "base/span.h"

#include <stdint.h>

enum { DP_HTTP_HEAD_MAX = 8192, DP_HTTP_PARAMS = 8 };

enum dp_http_method { DP_HTTP_OTHER, DP_HTTP_GET, DP_HTTP_HEAD, DP_HTTP_POST };

struct dp_http_head {
    enum dp_http_method method;
    int minor;        /* HTTP/1.minor */
    char path[512];   /* decoded, begins with / */
    struct {
        char name[24], value[256];
    } param[DP_HTTP_PARAMS];
    int params;
    char host[256], authorization[1100], accept[256];
    char origin[256], fetch_site[24]; /* who asks, as a browser tells: Origin, Sec-Fetch-Site */
    char if_none_match[128];          /* "" also when it is longer */
    char last_event[24];              /* Last-Event-ID */
    bool action;                      /* X-Dpipe-Action is there: no web page elsewhere can send it unasked */
    bool keep_alive;
    uint64_t body_bytes;
};
/* `head` ends with the empty line. 0, or the status to refuse with: 400, 414, 431, 501, 505. The struct is zeroed first. */
int dp_http_head_parse(struct dp_http_head *h, struct dp_span head);

#endif

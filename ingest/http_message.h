/* ingest/http_message.h - an HTTP/1.x response as WARC records hold it (RFC 9112; header fields RFC 9110).
 *
 * Lenient where archives are: LF for CRLF, no reason phrase, headers that say chunked or gzip over a body that isn't.
 * Memory: decoded bodies go into the two buffers of struct dp_http, which are reused. Thread-safety: one owner. */
#ifndef DP_INGEST_HTTP_MESSAGE_H
#define DP_INGEST_HTTP_MESSAGE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_HTTP_HEADER_MAX = 64 * 1024, DP_MIME_MAX = 128 };

struct dp_http {
    int status;              /* 0: no status line, all bytes are the body */
    char mime[DP_MIME_MAX];  /* lower case, without parameters; "" when not given */
    char charset[64];
    struct dp_span body;     /* decoded; in the block or in a buffer below */
    const char *trouble;     /* NULL, or what could not be decoded as declared; the body is then what there is */
    bool unknown_coding;     /* a content coding that we don't have: the body is unusable */
    bool too_large;          /* decoded it is larger than the buffers' bytes_max */
    struct dp_buf chunk, plain;
};

void dp_http_init(struct dp_http *h, size_t body_bytes_max);
void dp_http_release(struct dp_http *h);
/* Parse a block. Only NOMEM is an error. */
int dp_http_parse(struct dp_http *h, struct dp_span block, struct dp_err *e);
/* "Text/HTML; charset=UTF-8" into mime (DP_MIME_MAX bytes) and charset (64 bytes); what doesn't fit becomes "". */
void dp_content_type(struct dp_span value, char *mime, char *charset);

#endif

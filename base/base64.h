/* base/base64.h - RFC 4648, the alphabet with + and /. Pure; any thread. */
#ifndef DP_BASE_BASE64_H
#define DP_BASE_BASE64_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

/* With padding or without; no white space; what an unpadded digit has too many of is ignored. `to` has room for in.len / 4 * 3 + 3; *n bytes come of it. DP_CORRUPT says
 * where it is none. */
int dp_base64_decode(struct dp_span in, char *to, size_t *n, struct dp_err *e);
/* Appended, with padding. */
void dp_base64_encode(struct dp_buf *out, struct dp_span bytes);

#endif

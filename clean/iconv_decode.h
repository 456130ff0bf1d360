/* clean/iconv_decode.h - the only door to iconv(3). A small cache of converters per worker; one owner at a time. */
#ifndef DP_CLEAN_ICONV_DECODE_H
#define DP_CLEAN_ICONV_DECODE_H

#include "base/buf.h"

enum { DP_ICONV_OPEN_MAX = 8 };
struct dp_iconv {
    struct dp_iconv_slot {
        const char *name; /* static string */
        void *cd;
    } slot[DP_ICONV_OPEN_MAX];
    unsigned next;
};
/* Append s as UTF-8 to out; what doesn't fit the charset becomes U+FFFD, one for each byte that had to be skipped. *bad counts them.
 * `name` is a static string that iconv_open knows. DP_CONFIG when this system's iconv lacks it. */
int dp_iconv_decode(struct dp_iconv *c, const char *name, struct dp_span s, struct dp_buf *out, size_t *bad, struct dp_err *e);
/* Load the converter for good: dp_iconv_decode finds it later without opening a file. */
void dp_iconv_preload(const char *name);
void dp_iconv_release(struct dp_iconv *c);

#endif

/* clean/charset.h - which charset bytes are in, and the bytes as UTF-8.
 *
 * Order (WHATWG Encoding and HTML 13.2.3.2): byte order mark; declared from outside (HTTP); <meta> or the XML declaration; valid UTF-8;
 * guess. Two departures, both for wrong declarations that are common: bytes that are valid UTF-8 with several non-ASCII characters are
 * UTF-8 whatever single-byte charset is declared, and bytes declared UTF-8 that mostly aren't are guessed.
 * Memory: scratch of the worker. Limits: DP_DOC_BYTES_MAX. */
#ifndef DP_CLEAN_CHARSET_H
#define DP_CLEAN_CHARSET_H

#include "base/buf.h"
#include "clean/iconv_decode.h"

/* A charset: `name` is WHATWG's, `iconv` glibc's. */
struct dp_charset {
    const char *name, *iconv, *labels;
};
/* By label, as WHATWG's "get an encoding": white space around and case don't matter; NULL when unknown. */
const struct dp_charset *dp_charset_find(struct dp_span label);
/* WHATWG's prescan for <meta>, or an XML declaration's encoding; NULL when there is none. Looks at the first 64 KiB: browsers look further than
 * the standard's 1 KiB by parsing again. */
const struct dp_charset *dp_charset_prescan(struct dp_span html);

/* Load every charset's converter, for a process that can't open files afterwards. Once a process: they stay. */
void dp_charset_preload(void);

struct dp_charset_result {
    const struct dp_charset *charset;
    struct dp_span text; /* valid UTF-8: the input itself, or in `out` */
    size_t replaced;     /* U+FFFD put in */
};
/* Decode `s`; `declared` may be empty; `html` says whether to look for <meta>. `out` and `scratch` are cleared. */
int dp_charset_decode(struct dp_iconv *ic, struct dp_span s, struct dp_span declared, bool html, struct dp_buf *out,
                      struct dp_buf *scratch, struct dp_charset_result *r, struct dp_err *e);

#endif

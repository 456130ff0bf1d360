/* clean/html_refs.h - raw bytes of HTML tokens made what the standard says: character references (WHATWG 13.2.5.72), NUL, line ends, case. */
#ifndef DP_CLEAN_HTML_REFS_H
#define DP_CLEAN_HTML_REFS_H

#include "base/span.h"

/* Named references of clean/html_ref_table.c, sorted by name. */
enum { DP_HTML_REFS = 2231 };
struct dp_html_ref {
    char name[33]; /* without "&", with ";" where it needs one */
    char utf8[7];
};
extern const struct dp_html_ref dp_html_ref[DP_HTML_REFS];

enum {
    DP_HTML_DECODE_REFS = 1,      /* character references */
    DP_HTML_DECODE_ATTRIBUTE = 2, /* ... as in attribute values: "&copy=" and "&copyx" stay */
    DP_HTML_DECODE_NUL = 4,       /* NUL becomes U+FFFD */
    DP_HTML_DECODE_LINES = 8,     /* CR LF and CR become LF */
    DP_HTML_DECODE_LOWER = 16,    /* ASCII capitals */
};
/* Decode valid UTF-8 into `out`, which has room for 3 * raw.len bytes; returns the bytes written. Pure. */
size_t dp_html_decode(struct dp_span raw, unsigned how, char *out);

#endif

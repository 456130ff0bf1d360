/* base/json_plain.h - how far a JSON string goes on without anything special: a quote, a backslash, a control character. Pure. */
#ifndef DP_BASE_JSON_PLAIN_H
#define DP_BASE_JSON_PLAIN_H

#include <stddef.h>

/* Plain bytes at p[0..n) before the first special one, or before the last n % 8 (n % 32) bytes, which aren't looked at. */
size_t dp_json_plain_scalar(const char *p, size_t n);
size_t dp_json_plain_avx2(const char *p, size_t n);

#endif

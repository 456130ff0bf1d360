/* clean/c4_phrases.h - may a line hold one of C4's phrases?
 *
 * Pure; any thread. The scalar function is the specification; AVX2 gives the same answers. */
#ifndef DP_CLEAN_C4_PHRASES_H
#define DP_CLEAN_C4_PHRASES_H

#include <stdbool.h>
#include <stddef.h>

/* False only when no phrase of c4.c stands in p[0..n), in whatever case. True when three bytes, bit 5 set, are "vas" (javascript), "vac"
 * (privacy policy), "oki" (cookie), "ms " (terms of use), "m i" (lorem ipsum), or when the last two bytes of the Kelvin sign are there. */
bool dp_c4_suspect(const char *p, size_t n);
bool dp_c4_suspect_scalar(const char *p, size_t n);
bool dp_c4_suspect_avx2(const char *p, size_t n);

#endif

/* clean/cld2_shim.h - the only door to libcld2 (C++). Thread-safe: CLD2's tables are read-only. */
#ifndef DP_CLEAN_CLD2_SHIM_H
#define DP_CLEAN_CLD2_SHIM_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
/* Detect the language of valid UTF-8 text. Writes CLD2's code ("en", "zh-Hant", "un") and the share of the text, 0..1, that is
 * in it. `n` must fit an int. */
void dp_cld2_detect(const char *text, size_t n, char code[16], float *share);
#ifdef __cplusplus
}
#endif

#endif

/* clean/stages.h - the cleaning stages, in the order in which a recipe runs them.
 *
 * extract:           BYTES -> TEXT  charset to UTF-8, HTML to text
 * normalise:         TEXT -> TEXT   line ends, controls, spaces, NFC
 * language:          TEXT -> LANG   CLD2 label and score; keeps the languages asked for
 * patterns:          TEXT -> TEXT, drops   regular expressions of one's own
 * gopher_repetition, gopher_quality: TEXT -> drops   datatrove 0.10.1's rules
 * c4:                TEXT -> TEXT, drops
 * fineweb:           TEXT -> drops  FineWeb's own rules; off unless the recipe says `enabled: true`
 * Each stage's options are its `opts`. A threshold of 0 switches its rule off, `enabled: false` the stage.
 * Documents over DP_DOC_BYTES_MAX are dropped (TOO_LARGE) by the first stage that sees them.
 * Memory: scratch of a worker grows to a small multiple of the largest document and is kept. Thread-safety: as base/stage.h. */
#ifndef DP_CLEAN_STAGES_H
#define DP_CLEAN_STAGES_H

#include "base/stage.h"

enum {
    DP_DOC_BYTES_MAX = 16 << 20,
    DP_SCRATCH_KEEP = 2 << 20, /* more scratch than this is given back when the next document comes */
};

extern const struct dp_stage_type dp_stage_extract, dp_stage_normalise, dp_stage_language, dp_stage_patterns, dp_stage_gopher_quality,
    dp_stage_gopher_repetition, dp_stage_c4, dp_stage_fineweb;

#endif

/* dedup/signature.h - the stage that gives every kept document its content hash and MinHash signature.
 *
 * Needs TEXT; fills HASH (XXH3-128 of the text's bytes) and SIG (bands * rows slots in the batch's arena; NULL for a text
 * without words). Options: bands, rows, shingle, seed, fold_digits. Pure: a row's result depends on its text only. */
#ifndef DP_DEDUP_SIGNATURE_H
#define DP_DEDUP_SIGNATURE_H

#include "base/stage.h"
#include "dedup/minhash.h"

extern const struct dp_stage_type dp_stage_signature;
/* The parameters that the options of an opened ctx of this stage mean; for dp_sigfile_writer_open. */
struct dp_sig_params dp_stage_signature_params(const void *ctx);

#endif

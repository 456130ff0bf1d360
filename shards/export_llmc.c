/* llm.c's data files (llmc/dataloader.h, dev/data/data_common.py): 256 int32 (magic, version, count
 * of ids, zeros), then the ids.
 *
 *   magic 20240520, version 1: uint16 ids
 *   magic 20240801, version 7: uint32 ids (llama-3; its Python trainer reads them)
 *
 * The count is an int32, and the C loader seeks with an int of bytes: a u16 file must stay below 2
 * GiB, header included. A data set is cut into the fewest files that obey this and file_tokens, all
 * of the same size within one id: llm.c refuses a data set that has one file smaller than a batch,
 * so a short last file would be a trap. */
#include "shards/export_file.h"

#include <stdio.h>

enum { HEADER_BYTES = 1024 };

static int write_file(const struct dp_export_set *set, uint64_t number, uint64_t first, uint64_t n,
                      struct dp_err *e)
{
    char suffix[32];
    int width = set->m->meta.dtype, rc = DP_OK;
    int32_t header[HEADER_BYTES / 4] = {width == 2 ? 20240520 : 20240801, width == 2 ? 1 : 7,
                                        (int32_t)n};
    struct dp_export_file f;
    snprintf(suffix, sizeof suffix, "_%06llu.bin", (unsigned long long)number);
    DP_TRY(dp_export_file_open(&f, set->prefix, suffix, e));
    DP_TRY_OUT(dp_out_add(f.out, header, sizeof header, e));
    DP_TRY_OUT(dp_export_ids(set, &f, first, n, width, e));
    DP_TRY_OUT(dp_export_file_publish(&f, e));
out:
    dp_export_file_close(&f);
    return rc;
}

int dp_export_llmc(const struct dp_export_set *set, struct dp_err *e)
{
    uint64_t most = set->m->meta.dtype == DP_SHARD_U16 ? (INT32_MAX - HEADER_BYTES) / 2 : INT32_MAX;
    if (set->file_tokens < most) most = set->file_tokens;
    uint64_t total = set->m->tokens, files = (total + most - 1) / most;
    for (uint64_t i = 0, first = 0; i < files; i++) {
        uint64_t n = total / files + (i < total % files);
        DP_TRY(write_file(set, i, first, n, e));
        first += n;
    }
    return DP_OK;
}

/* cli/bench_data.h - data for `dpipe bench feed`: made, or a compressed copy of what there is; in a folder that is removed again. */
#ifndef DP_CLI_BENCH_DATA_H
#define DP_CLI_BENCH_DATA_H

#include "base/err.h"

#include <stdint.h>

struct dp_bench_data {
    char dir[512], manifest[600], packed[600]; /* packed: of the same documents, as far as `ids`, compressed by level 3 */
    uint64_t packed_ids, packed_bytes;
};
/* Makes the folder under $TMPDIR. */
int dp_bench_data_open(struct dp_bench_data *d, struct dp_err *e);
/* d->manifest: `ids` ids of a vocabulary of 50,257 in documents of 200 to 3,400, frequencies as 1/rank and phrases that come again, so that zstd finds about what
 * it finds in web text. */
int dp_bench_data_make(struct dp_bench_data *d, uint64_t ids, struct dp_err *e);
/* d->packed, of the manifest's first documents. */
int dp_bench_data_pack(struct dp_bench_data *d, const char *manifest, uint64_t ids, struct dp_err *e);
void dp_bench_data_remove(struct dp_bench_data *d);

#endif

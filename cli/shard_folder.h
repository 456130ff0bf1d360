/* cli/shard_folder.h - a folder of shards and their manifest, which appears as a whole.
 *
 * Everything is made in FOLDER.partial, which one process at a time may have (flock), and becomes FOLDER by one rename once all is durable. What a process
 * that was killed left there is removed by the next. One owner. */
#ifndef DP_CLI_SHARD_FOLDER_H
#define DP_CLI_SHARD_FOLDER_H

#include "base/err.h"
#include "shards/manifest.h"

struct dp_shard_folder;
/* Shards end at the first document behind `bytes` of text. packing NULL: flat. DP_CONFIG when the folder is there already and not empty, DP_BUSY when another makes it. */
int dp_shard_folder_open(struct dp_shard_folder **out, const char *folder, const struct dp_shard_meta *m, const struct dp_shard_packing *packing, uint64_t bytes,
                         struct dp_err *e);
/* Before a document that comes in parts, of `bytes` of text. */
int dp_shard_folder_begin(struct dp_shard_folder *f, uint64_t bytes, struct dp_err *e);
int dp_shard_folder_part(struct dp_shard_folder *f, const uint32_t *ids, size_t n, struct dp_err *e);
/* A document of `bytes` of text, or the end of one in parts. */
int dp_shard_folder_add(struct dp_shard_folder *f, struct dp_hash128 id, struct dp_hash128 content, uint32_t source, const uint32_t *ids, size_t n, uint64_t bytes,
                        struct dp_err *e);
/* Publish. The manifest's numbers go to *m (its list doesn't); it is FOLDER/manifest.json. */
int dp_shard_folder_finish(struct dp_shard_folder *f, struct dp_manifest *m, struct dp_err *e);
/* Free; what wasn't finished is removed. NULL is fine. */
void dp_shard_folder_close(struct dp_shard_folder *f);

#endif

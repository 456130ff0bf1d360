/* shards/export_file.h - what the exporters share: an open data set, and files that appear whole.
 * Internal to shards/export*.c. */
#ifndef DP_SHARDS_EXPORT_FILE_H
#define DP_SHARDS_EXPORT_FILE_H

#include "base/buf.h"
#include "base/fs.h"
#include "shards/export.h"
#include "shards/manifest.h"

/* Where the last dp_export_ids stopped: documents are written one by one, and each frame is tested
 * once. */
struct dp_export_cursor {
    size_t shard;
    uint64_t start; /* ids before that shard */
    size_t checked_shard;
    uint64_t checked_frame; /* + 1; 0: none */
};

struct dp_export_set {
    const char *manifest_path;
    const char *prefix;
    struct dp_manifest *m;
    struct dp_shard **shard; /* [m->count] */
    uint64_t file_tokens;
    struct dp_export_cursor *cursor;
    struct dp_export_report *report; /* NULL: bodies are never linked */
    bool link;
    uint64_t mds_bytes;
    bool mds_zstd;
};
int dp_export_set_open(struct dp_export_set *set, const char *manifest_path, struct dp_err *e);
void dp_export_set_close(struct dp_export_set *set);

/* A file under construction: prefix + suffix + ".tmp<pid>"; or a buffer; or (out NULL) a link to a
 * finished one. */
struct dp_export_file {
    struct dp_out *out;
    struct dp_buf *buf;
    char *tmp, *path;
};
int dp_export_add(struct dp_export_file *f, const void *p, size_t n, struct dp_err *e);
int dp_export_file_open(struct dp_export_file *f, const char *prefix, const char *suffix,
                        struct dp_err *e);
/* fsync and rename into place; then nothing is left to close. */
int dp_export_file_publish(struct dp_export_file *f, struct dp_err *e);
/* Remove what wasn't published. */
void dp_export_file_close(struct dp_export_file *f);

/* Write ids [first, first + n) of the whole set in `width` bytes (the set's, or 4 for u16 ids),
 * checking frames on the way. */
int dp_export_ids(const struct dp_export_set *set, struct dp_export_file *f, uint64_t first,
                  uint64_t n, int width, struct dp_err *e);

/* prefix + suffix with all the set's ids in `width` bytes and nothing else: a hard link to the
 * shard's body where that has these bytes and may be linked, else a copy. */
int dp_export_body(const struct dp_export_set *set, struct dp_export_file *f, const char *suffix,
                   int width, struct dp_err *e);

/* Call fn for every document in order with its first id and id count in the whole set. */
typedef int (*dp_export_doc_fn)(void *ctx, uint64_t first, uint64_t n, struct dp_err *e);
int dp_export_documents(const struct dp_export_set *set, dp_export_doc_fn fn, void *ctx,
                        struct dp_err *e);

int dp_export_megatron(const struct dp_export_set *set, struct dp_err *e);
int dp_export_llmc(const struct dp_export_set *set, struct dp_err *e);
int dp_export_nanogpt(const struct dp_export_set *set, struct dp_err *e);
int dp_export_datatrove(const struct dp_export_set *set, struct dp_err *e);
int dp_export_olmo(const struct dp_export_set *set, struct dp_err *e);
/* Into the folder set->prefix, which must exist and be nobody's yet. */
int dp_export_mds(const struct dp_export_set *set, struct dp_err *e);

#endif

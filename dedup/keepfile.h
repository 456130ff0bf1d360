/* dedup/keepfile.h - keep files: what dedup decided for each document of one input, in its order.
 *
 * Byte table: docs/formats/keep.md. Header, fixed 16-byte records, footer with count and checksums; a file without its
 * footer was not finished and is refused. Memory O(1). Thread-safety: one owner; reads of one reader may run in parallel. */
#ifndef DP_DEDUP_KEEPFILE_H
#define DP_DEDUP_KEEPFILE_H

#include "base/fs.h"

enum dp_keep { DP_KEEP_KEPT = 0, DP_KEEP_EXACT = 1, DP_KEEP_NEAR = 2 };

struct dp_keep_record {
    enum dp_keep decision;
    float similarity;        /* to the representative: 1 for kept and exact, else the estimate */
    uint64_t representative; /* global number of the kept document; its own when kept */
};

struct dp_keepfile_writer;
/* `first` is the global number of the input's row 0. `out` stays the caller's. */
int dp_keepfile_writer_open(struct dp_keepfile_writer **w, struct dp_out *out, uint64_t first, struct dp_err *e);
int dp_keepfile_writer_add(struct dp_keepfile_writer *w, const struct dp_keep_record *r, struct dp_err *e);
int dp_keepfile_writer_finish(struct dp_keepfile_writer *w, struct dp_err *e);
void dp_keepfile_writer_close(struct dp_keepfile_writer *w);

struct dp_keepfile;
/* Reads and checks all of it once: header, footer, size, checksum, every record. */
int dp_keepfile_open(struct dp_keepfile **k, const char *path, struct dp_err *e);
void dp_keepfile_close(struct dp_keepfile *k);
uint64_t dp_keepfile_count(const struct dp_keepfile *k);
uint64_t dp_keepfile_first(const struct dp_keepfile *k);
/* Record of row i < count (a larger i is DP_LIMIT: the keep file belongs to another document file). */
int dp_keepfile_get(const struct dp_keepfile *k, uint64_t i, struct dp_keep_record *r, struct dp_err *e);

#endif

/* base/zstd.h - zstd streams (RFC 8878) over descriptors and memory. The only file that sees libzstd for dpipe's own files.
 * Memory: a writer holds one frame's window (<= 8 MiB at level 3), a reader the window that the frame asks for, 128 MiB at most. */
#ifndef DP_BASE_ZSTD_H
#define DP_BASE_ZSTD_H

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/span.h"

/* Compress `in` as one checksummed frame onto `out`. The same bytes for the same library version and level. */
struct dp_zstd_writer;
int dp_zstd_writer_open(struct dp_zstd_writer **w, int level, struct dp_err *e);
int dp_zstd_frame(struct dp_zstd_writer *w, struct dp_span in, struct dp_buf *out, struct dp_err *e);
/* Frames of this writer carry a checksum of their content unless it is switched off. */
void dp_zstd_writer_checksum(struct dp_zstd_writer *w, bool on);
void dp_zstd_writer_close(struct dp_zstd_writer *w);

/* Decompression of a frame in memory. One owner; no window is allocated, so it holds about 100 KiB whatever the frame asks for. */
struct dp_zstd_decoder;
int dp_zstd_decoder_open(struct dp_zstd_decoder **d, struct dp_err *e);
/* `in` must give exactly n bytes, else DP_CORRUPT; what stands in `out` then is undefined. */
int dp_zstd_decode(struct dp_zstd_decoder *d, struct dp_span in, void *out, size_t n, struct dp_err *e);
void dp_zstd_decoder_close(struct dp_zstd_decoder *d);

/* Streaming decompression of all frames of a file; skippable frames are skipped. Reads from fd's offset; doesn't own it. */
struct dp_zstd_reader;
int dp_zstd_reader_open(struct dp_zstd_reader **r, int fd, const char *name, struct dp_err *e);
/* Up to n bytes; *got is 0 only at the end. DP_CORRUPT names the compressed offset. */
int dp_zstd_read(struct dp_zstd_reader *r, void *p, size_t n, size_t *got, struct dp_err *e);
void dp_zstd_reader_close(struct dp_zstd_reader *r);

#endif

/* ingest/archive_src.h - members of an archive as streams (libarchive behind it).
 *
 * Only regular files are members; folders, links and devices are counted as skipped, encrypted or unreadable members are reported.
 * libarchive's own decompression, WARC, mtree and raw readers are not enabled: the first is ours, the second loses records.
 *
 * Memory: libarchive's own, plus 16 to 32 bytes a member for telling members of one name apart. Thread-safety: one owner. */
#ifndef DP_INGEST_ARCHIVE_SRC_H
#define DP_INGEST_ARCHIVE_SRC_H

#include "base/buf.h"
#include "ingest/stream.h"

enum dp_archive_kind { DP_ARCHIVE_NONE, DP_ARCHIVE_STREAMED, DP_ARCHIVE_SEEKING };
/* By magic; ISO images need 32 KiB + 6 bytes. whole: `first` is all there is, and a zip behind other bytes is looked for too. */
enum dp_archive_kind dp_archive_sniff(struct dp_span first, bool whole);

struct dp_archive;
/* Reads `source`, whose first bytes are at hand (dp_archive_sniff knew them), and which stays the caller's. */
int dp_archive_open(struct dp_archive **out, struct dp_stream *source, struct dp_err *e);
/* The next member: DP_OK, or DP_EOF. *member belongs to the archive and lives until the next call; *name (cleaned as ingest/reader.h says) too.
 * size: as declared, 0 when unknown. */
int dp_archive_next(struct dp_archive *a, struct dp_stream **member, struct dp_span *name, uint64_t *size, struct dp_err *e);
void dp_archive_close(struct dp_archive *a);

/* Append `name` to out as it stands in positions. */
void dp_clean_name(struct dp_buf *out, struct dp_span name);

#endif

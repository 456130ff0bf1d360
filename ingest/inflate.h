/* ingest/inflate.h - decompressors: as streams, and for one HTTP body.
 *
 * gzip (RFC 1952), zstd (RFC 8878, with the dictionary frame of the WARC-zstd draft), xz, bzip2, lz4 frames; members follow each other.
 * A member that is bad, truncated or expands past ratio_max is reported; the stream goes on at the next member's magic.
 *
 * Memory: see ingest/reader.h. Thread-safety: one owner. */
#ifndef DP_INGEST_INFLATE_H
#define DP_INGEST_INFLATE_H

#include "base/buf.h"
#include "ingest/stream.h"

enum dp_codec { DP_CODEC_NONE, DP_CODEC_GZIP, DP_CODEC_ZSTD, DP_CODEC_XZ, DP_CODEC_BZIP2, DP_CODEC_LZ4, DP_CODEC_COUNT };

/* By magic. */
enum dp_codec dp_codec_sniff(struct dp_span first);
/* Whether `name` ends with one of the codec's suffixes; *stem is the length without it, *tar whether it stands for .tar (".tgz"). */
bool dp_codec_suffix(enum dp_codec codec, struct dp_span name, size_t *stem, bool *tar);
const char *dp_codec_name(enum dp_codec codec);

/* A stream of what `source` decompresses to. On success owns source; on failure the caller still does. */
int dp_inflate_open(struct dp_stream **out, enum dp_codec codec, struct dp_stream *source, struct dp_err *e);

/* Content codings of HTTP. Appends to out, at most its bytes_max: DP_OK; DP_LIMIT past it; DP_EMPTY when the body ends early or
 * turns bad after some bytes (out has what came before); DP_CORRUPT when nothing could be decoded. "deflate" is zlib or raw; gzip may have
 * several members. Brotli (RFC 7932) has no magic: DP_CORRUPT also when bytes are left behind its end. */
enum dp_coding { DP_CODING_GZIP, DP_CODING_DEFLATE, DP_CODING_ZSTD, DP_CODING_BROTLI };
int dp_inflate_body(enum dp_coding coding, struct dp_span body, struct dp_buf *out, struct dp_err *e);

#endif

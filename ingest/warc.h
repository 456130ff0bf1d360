/* ingest/warc.h - WARC 1.0/1.1 (ISO 28500) and ARC 1 records out of a stream.
 *
 * Documents are `response` (HTTP parsed; other statuses than 200 are dropped rows), `resource` and `conversion`; other types count as
 * skipped. Headers: CRLF or LF, at most 64 KiB. After damage reading goes on at the next line that begins a record.
 * Memory: the record at hand, in the stream's window; decoded bodies up to twice doc_bytes_max. Thread-safety: one owner. */
#ifndef DP_INGEST_WARC_H
#define DP_INGEST_WARC_H

#include "ingest/record.h"
#include "ingest/stream.h"

struct dp_warc;
bool dp_warc_sniff(struct dp_span first);
/* `source` stays the caller's. */
int dp_warc_open(struct dp_warc **out, struct dp_stream *source, struct dp_err *e);
/* DP_OK and the record, or DP_EOF. */
int dp_warc_next(struct dp_warc *w, struct dp_record *rec, struct dp_err *e);
void dp_warc_close(struct dp_warc *w);

#endif

/* ingest/jsonl_reader.h - documents out of JSON lines.
 *
 * One object a line (RFC 8259); empty lines are nothing. A line that is no object, or whose text is no string, is damage with its byte offset.
 * Meta: the id field as "id", all other scalar members as they stand, and the members of an object "meta" or "metadata".
 * Memory: the line at hand and its decoded text, at most doc_bytes_max each. Thread-safety: one owner. */
#ifndef DP_INGEST_JSONL_READER_H
#define DP_INGEST_JSONL_READER_H

#include "ingest/record.h"
#include "ingest/stream.h"

struct dp_jsonl;
/* Whether `first` begins with a line that is an object (or with one longer than `first`). */
bool dp_jsonl_sniff(struct dp_span first);
/* `source` stays the caller's. */
int dp_jsonl_open(struct dp_jsonl **out, struct dp_stream *source, struct dp_err *e);
int dp_jsonl_next(struct dp_jsonl *j, struct dp_record *rec, struct dp_err *e);
void dp_jsonl_close(struct dp_jsonl *j);

#endif

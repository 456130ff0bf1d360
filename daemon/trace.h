/* daemon/trace.h - from a shard's document back to where it came from.
 *
 * A shard names each document by its id and the number of its unit in the shard's group; the unit's docs file has text, URL and
 * record position, its records file format and size, and the catalog its source files. The source file is the member whose digest
 * gives the id (ingest/reader.h: id = hash of digest and position), so the answer is checked, not guessed.
 *
 * Cost: one pass over the docs and records files of each unit that is asked about, whatever the number of documents.
 * Memory: what is found; texts when they are asked for. Thread-safety: one caller. */
#ifndef DP_DAEMON_TRACE_H
#define DP_DAEMON_TRACE_H

#include "daemon/road.h"

struct dp_trace {
    /* asked */
    const char *shard; /* body's name in the manifest */
    uint32_t source;
    struct dp_hash128 id;
    bool want_text;
    /* found: malloc'ed, "" when the document has none */
    char *path, *name, *digest; /* of the source file */
    char *pos, *url, *lang, *title, *format;
    uint64_t bytes; /* of the record */
    char *text;
    size_t text_len;
};
/* The road must be surveyed past the shard step. DP_NOTFOUND names the document that no unit has. */
int dp_trace_find(struct dp_road *r, struct dp_trace *t, size_t n, struct dp_err *e);
void dp_trace_release(struct dp_trace *t, size_t n);

#endif

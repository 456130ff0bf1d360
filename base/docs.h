/* base/docs.h - the document file: zstd-compressed JSON lines, one document a line.
 *
 *   {"id":"32 hex","text":"...","url":"...","lang":"en","lang_score":0.98,"score":0,"title":"...","pos":"...","meta":{...}}
 *
 * `id` and `text` are always there, the others when they are not empty. datatrove, dolma and `zstdcat | jq` read it as it is.
 * Lines are cut into frames of about 1 MiB, and a seek table (zstd's seekable format, a skippable frame) ends the file.
 * The same documents give the same bytes. The drop log uses the same container with other members. */
#ifndef DP_BASE_DOCS_H
#define DP_BASE_DOCS_H

#include "base/batch.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/json.h"

struct dp_lines; /* a writer of framed lines */
/* Onto an open descriptor at offset 0, which the writer then owns (closed on failure too); `name` is for messages. */
int dp_lines_fd(struct dp_lines **out, int fd, const char *name, int level, struct dp_err *e);
/* The buffer to append one line to, newline included; then call dp_lines_end. */
struct dp_buf *dp_lines_buf(struct dp_lines *l);
int dp_lines_end(struct dp_lines *l, struct dp_err *e);
/* Last frame, seek table, fsync; hex gets the file's SHA-256, *bytes its size. */
int dp_lines_finish(struct dp_lines *l, char hex[65], uint64_t *bytes, struct dp_err *e);
void dp_lines_close(struct dp_lines *l);

/* Append row i of b as a document line. */
void dp_docs_print(const struct dp_batch *b, uint32_t i, struct dp_buf *out);
/* Append row i of b as a drop-log line: id, pos, url, reason, value, limit, bytes, and the first bytes of its text. */
void dp_drops_print(const struct dp_batch *b, uint32_t i, size_t excerpt_bytes, struct dp_buf *out);

struct dp_doc { /* spans are valid until the next call */
    struct dp_hash128 id;
    struct dp_span text, url, lang, title, pos, meta;
    double score, lang_score;
};
struct dp_docs_reader;
int dp_docs_open(struct dp_docs_reader **out, const char *path, struct dp_err *e);
/* The same of an open descriptor, which the reader then owns (closed on failure too); `name` is for messages. */
int dp_docs_open_fd(struct dp_docs_reader **out, int fd, const char *name, struct dp_err *e);
/* DP_OK with a document, DP_EOF at the end. */
int dp_docs_next(struct dp_docs_reader *r, struct dp_doc *doc, struct dp_err *e);
/* The next raw line, without its newline. */
int dp_docs_next_line(struct dp_docs_reader *r, struct dp_span *line, struct dp_err *e);
uint64_t dp_docs_line_number(const struct dp_docs_reader *r);
void dp_docs_close(struct dp_docs_reader *r);

#endif

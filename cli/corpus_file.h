/* cli/corpus_file.h - one file of a corpus, read front to back in pieces. For cli/corpus.c.
 *
 * Thread-safety: one caller at a time. Memory: what was read behind the last piece, mostly less than a line. */
#ifndef DP_CLI_CORPUS_FILE_H
#define DP_CLI_CORPUS_FILE_H

#include "cli/corpus.h"
#include "ingest/inflate.h"

struct dp_corpus_file {
    char *path;
    struct dp_span domain; /* in the path that was given */
    uint64_t bytes, stamp; /* as stored; time of last change; 0 for standard input */
    uint64_t begin, end;   /* of a plain file: the records that begin in there; end 0: all */
    uint64_t offset;       /* of the next piece, in the decompressed content */
    bool done;
    /* Open: */
    int fd;
    bool open, at_end;
    char *rest; /* read and not in a piece yet */
    size_t rest_at, rest_len;
    bool in_line; /* the piece before ended inside a line */
    uint64_t text_hash;
    uint64_t raw, raw_told; /* bytes read of the file; of those, said in a piece */
    struct dp_ingest_run run;
    struct dp_ingest_options limits;
    struct dp_stream *stream; /* NULL: plain, and read as it is */
    char damage[256];
};

/* Open at f->offset, which may be 0 or any place that a piece ended at. */
int dp_corpus_file_open(struct dp_corpus_file *f, struct dp_err *e);
/* The next piece into p->ptr, len, offset, text_hash; DP_EOF at the end. */
int dp_corpus_file_next(struct dp_corpus_file *f, const struct dp_corpus_options *o, struct dp_piece *p, struct dp_err *e);
void dp_corpus_file_close(struct dp_corpus_file *f);

#endif

/* cli/corpus.h - a list of files as pieces of whole texts, for any number of threads.
 *
 * Files are plain or compressed (gzip, zstd, xz, bzip2, lz4: by their first bytes), "-" is standard input, a folder stands for the files below
 * it. A piece is about a mebibyte: whole lines, each a text or a JSON document; or with whole_file a part of the file's one text, cut where
 * pretokens begin (tokenizer/text_cut.h). A line of more than 16 MiB that is no JSON is cut in the same way. With a
 * split that allows no cuts a file or line is one piece, of 1 GiB at most. Where pieces begin and end depends on the
 * content alone; which thread gets which doesn't.
 *
 * Memory: a piece for each thread and one for each open file, at most as many as threads; 1 MiB each, or the longest line. A line of JSON may have 1 GiB.
 * Errors: name the file, and the offset in its (decompressed) content. Damage in a compressed file is an error: nothing is left out silently. */
#ifndef DP_CLI_CORPUS_H
#define DP_CLI_CORPUS_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/special_find.h"
#include "tokenizer/split.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_corpus_options {
    bool whole_file, jsonl;
    enum dp_split split; /* for cuts inside a text */
    const struct dp_special_find *specials; /* not to be cut; NULL: none */
    uint32_t part, parts; /* one of `parts` processes (0: one): its share is other files or other ranges of files than the others' */
};
struct dp_piece {
    char *ptr; /* its own */
    size_t len, cap;
    size_t file;
    uint64_t offset;    /* of its begin */
    uint64_t raw;       /* bytes of the stored file read for it */
    uint64_t text_hash; /* whole_file: of the first piece of this text */
    size_t home;        /* where the thread looks first; internal */
};
struct dp_corpus;

/* DP_NOTFOUND for a file that isn't there. `paths` stays the caller's and must outlive the corpus. */
int dp_corpus_open(struct dp_corpus **out, const struct dp_corpus_options *o, const char *const *paths, size_t n, struct dp_err *e);
void dp_corpus_close(struct dp_corpus *c);
/* The next piece, or DP_EOF. The piece is the caller's, zeroed at first. */
int dp_corpus_next(struct dp_corpus *c, struct dp_piece *p, struct dp_err *e);
void dp_piece_release(struct dp_piece *p);

size_t dp_corpus_files(const struct dp_corpus *c);
const char *dp_corpus_path(const struct dp_corpus *c, size_t file);
/* What was given: a file's name, or a folder's, without folders above and without what follows the first dot. */
struct dp_span dp_corpus_domain(const struct dp_corpus *c, size_t file);
uint64_t dp_corpus_bytes(const struct dp_corpus *c);  /* of all files of this part as they are stored; 0 with standard input */
bool dp_corpus_has_stdin(const struct dp_corpus *c);
/* From the begin again. Not with standard input. */
int dp_corpus_rewind(struct dp_corpus *c, struct dp_err *e);

/* How far it is, as JSON, while no piece is out; and go on from there. DP_CONFIG when files are others than they were. */
struct dp_json;
struct dp_jsonw;
void dp_corpus_save(const struct dp_corpus *c, struct dp_jsonw *w);
int dp_corpus_restore(struct dp_corpus *c, const struct dp_json *state, struct dp_err *e);

#endif

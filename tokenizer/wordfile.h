/* tokenizer/wordfile.h - files of words and their counts: what counting gives, and training can begin with. docs/formats/words.md.
 *
 * A counts file has all words in the order of their bytes, each once, and ends with a digest: so equal counts are equal files, and files of
 * parts of a corpus together are the file of the whole. A text list has a line `TEXT<TAB>COUNT` each, in any order, and may repeat
 * texts; its texts are split as text is (unless this program wrote it: it says so in its first line, its words stand escaped, and are as they are).
 *
 * Memory: 512 KiB, and the longest word twice. Thread-safety: one owner. Errors: DP_CORRUPT names file and offset. */
#ifndef DP_TOKENIZER_WORDFILE_H
#define DP_TOKENIZER_WORDFILE_H

#include "base/err.h"
#include "base/span.h"
#include "tokenizer/bpe_train.h"

#include <stdbool.h>
#include <stdint.h>

/* Writing (`split` as dp_splitter_text says it): path + ".part", renamed by finish. Words ascending, each once. With `text` a list that people read, else a counts file. */
struct dp_wordfile_writer;
int dp_wordfile_create(struct dp_wordfile_writer **out, const char *path, struct dp_span split, bool text, struct dp_err *e);
int dp_wordfile_add(struct dp_wordfile_writer *w, struct dp_span word, uint64_t count, struct dp_err *e);
int dp_wordfile_finish(struct dp_wordfile_writer *w, struct dp_err *e);
/* Frees; what isn't finished is removed. NULL is fine. */
void dp_wordfile_close(struct dp_wordfile_writer *w);

/* Reading, by the first bytes; `name` is for messages; fd stays the caller's and is read to its end. */
struct dp_wordfile_reader;
int dp_wordfile_open(struct dp_wordfile_reader **out, int fd, const char *name, struct dp_err *e);
/* What the words were split by, as dp_splitter_text says it; "": a list whose texts are to be split. */
struct dp_span dp_wordfile_split(const struct dp_wordfile_reader *r);
/* The next word, valid until the next call. DP_EOF at the end: not before that is the file known to be whole and undamaged. */
int dp_wordfile_next(struct dp_wordfile_reader *r, struct dp_span *word, uint64_t *count, struct dp_err *e);
void dp_wordfile_release(struct dp_wordfile_reader *r);

/* Add all of a file ("-": standard input) to a counter. DP_CONFIG when it was counted with another split. After a failure the counter can only be closed. */
int dp_wordfile_count(struct dp_bpe_counter *c, const char *path, struct dp_err *e);
/* Write all words of a counter, which can only be closed then. */
int dp_wordfile_save(struct dp_bpe_counter *c, const char *path, bool text, struct dp_err *e);
/* The counts files `paths` as one at `path`. */
int dp_wordfile_merge(const char *const *paths, size_t n, const char *path, struct dp_err *e);

#endif

/* cli/file_list.h - the files that a command's arguments stand for, in one way for all commands: a file itself, "-" standard input, and for a folder the files below it that
 * aren't empty, in the order of dp_walk (ingest/reader.h), which leaves hidden ones out. */
#ifndef DP_CLI_FILE_LIST_H
#define DP_CLI_FILE_LIST_H

#include "base/err.h"

#include <stddef.h>

/* Call fn for each file; `given` is the argument that stands for it. A file that isn't there is found out by who opens it. fn's failure ends it. */
int dp_each_file(const char *const *args, size_t n, int (*fn)(void *ctx, const char *path, const char *given, struct dp_err *e), void *ctx, struct dp_err *e);

/* The same as a list. All zero is empty. */
struct dp_file_list {
    char **path;        /* malloc'ed */
    const char **given; /* by file: the argument, which stays the caller's */
    size_t n, cap;
};
/* DP_NOTFOUND when the folders hold no file. */
int dp_file_list_open(struct dp_file_list *l, const char *const *args, size_t n, struct dp_err *e);
void dp_file_list_close(struct dp_file_list *l);

#endif

/* cli/line_filter.h - lines in, lines out, in order, by several threads.
 *
 * What is read is cut into blocks of whole lines; each goes through `line` on one thread, and what that wrote is written to standard output in the order of
 * the lines. When the input has nothing more at the moment, the lines that are there are answered first: a partner may write one line and wait for its answer. A
 * partner that writes much without reading meanwhile will wait for ever, as with any filter, once both pipes are full.
 *
 * A line ends with LF or with the input; LF isn't part of it, CR is. Lines of up to 1 GiB. Memory: 2 MiB of blocks a thread and what comes of them, or the longest
 * line that `line` is at and what comes of it. */
#ifndef DP_CLI_LINE_FILTER_H
#define DP_CLI_LINE_FILTER_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_line_filter {
    int threads;
    bool skip; /* a line that is bad data gives {"error":...,"line":N} instead of ending it all */
    void *ctx;
    /* Append to out what the line gives, with LF; on failure what was appended is taken back. worker in [0, threads): for scratch that one thread has to itself. */
    int (*line)(void *ctx, int worker, struct dp_span line, struct dp_buf *out, struct dp_err *e);
    uint64_t skipped; /* lines, after the run */
};
/* Files one after the other ("-", and none at all: standard input). Lines are numbered in each; errors name file and line, and what comes before is
 * written. DP_STOPPED once a signal asked for it. */
int dp_line_filter_run(struct dp_line_filter *f, const char *const *files, size_t n, struct dp_err *e);

#endif

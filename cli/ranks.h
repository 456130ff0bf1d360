/* cli/ranks.h - the processes that an MPI launcher (mpirun) started together; without MPI (make MPI=1) there is one, and nothing to do.
 *
 * Thread-safety: one thread, the one that began. A rank that fails while others wait for it must call dp_ranks_abort. */
#ifndef DP_CLI_RANKS_H
#define DP_CLI_RANKS_H

#include "base/buf.h"
#include "base/err.h"

struct dp_ranks {
    int rank, size;
};

/* Once a process. Without launcher: rank 0 of 1. */
int dp_ranks_begin(struct dp_ranks *r, struct dp_err *e);
void dp_ranks_end(const struct dp_ranks *r);
/* All ranks call it: rc when it is a failure, else DP_BROKEN when another rank's is one, naming it. */
int dp_ranks_agree(const struct dp_ranks *r, int rc, struct dp_err *e);
/* The file's bytes to another rank, and from one: received into `path`, replaced if it is there. 64 MiB of memory. */
int dp_ranks_send_file(const struct dp_ranks *r, int to, const char *path, struct dp_err *e);
int dp_ranks_receive_file(const struct dp_ranks *r, int from, const char *path, struct dp_err *e);
/* The same for bytes in memory; at most out->bytes_max. */
int dp_ranks_send(const struct dp_ranks *r, int to, struct dp_span bytes, struct dp_err *e);
int dp_ranks_receive(const struct dp_ranks *r, int from, struct dp_buf *out, struct dp_err *e);
/* Say why, end all ranks with this exit status. Returns where there is one rank. */
void dp_ranks_abort(const struct dp_ranks *r, const struct dp_err *e, int status);

#endif

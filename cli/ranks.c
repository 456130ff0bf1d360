#include "cli/ranks.h"

#ifdef DP_MPI

#include "base/fs.h"
#include "base/log.h"

#include <mpi.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK = 64 << 20, TAG = 1 };

/* Errors of MPI itself end the process (MPI_ERRORS_ARE_FATAL, its default): there is no going on after them. */
int dp_ranks_begin(struct dp_ranks *r, struct dp_err *e)
{
    int have;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &have) != MPI_SUCCESS) DP_FAIL(e, BROKEN, "MPI: cannot begin");
    MPI_Comm_rank(MPI_COMM_WORLD, &r->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &r->size);
    return DP_OK;
}

void dp_ranks_end(const struct dp_ranks *r)
{
    (void)r;
    MPI_Finalize();
}

int dp_ranks_agree(const struct dp_ranks *r, int rc, struct dp_err *e)
{
    struct {
        int value, rank;
    } mine = {rc < 0 ? rc : 0, r->rank}, worst;
    MPI_Allreduce(&mine, &worst, 1, MPI_2INT, MPI_MINLOC, MPI_COMM_WORLD);
    if (rc < 0 || worst.value >= 0) return rc;
    if (worst.value == DP_STOPPED) DP_FAIL(e, STOPPED, "stopped with rank %d", worst.rank);
    DP_FAIL(e, BROKEN, "rank %d failed", worst.rank);
}

int dp_ranks_send(const struct dp_ranks *r, int to, struct dp_span bytes, struct dp_err *e)
{
    unsigned long long n = bytes.len;
    (void)r;
    (void)e;
    MPI_Send(&n, 1, MPI_UNSIGNED_LONG_LONG, to, TAG, MPI_COMM_WORLD);
    for (size_t at = 0; at < bytes.len; at += BLOCK)
        MPI_Send(bytes.ptr + at, (int)(bytes.len - at < BLOCK ? bytes.len - at : BLOCK), MPI_BYTE, to, TAG, MPI_COMM_WORLD);
    return DP_OK;
}

int dp_ranks_receive(const struct dp_ranks *r, int from, struct dp_buf *out, struct dp_err *e)
{
    unsigned long long n;
    (void)r;
    MPI_Recv(&n, 1, MPI_UNSIGNED_LONG_LONG, from, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    dp_buf_clear(out);
    char *p = dp_buf_reserve(out, n);
    if (!p) return dp_buf_check(out, "what another rank sent", e);
    for (size_t at = 0; at < n; at += BLOCK) MPI_Recv(p + at, (int)(n - at < BLOCK ? n - at : BLOCK), MPI_BYTE, from, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    out->len += n;
    return DP_OK;
}

int dp_ranks_send_file(const struct dp_ranks *r, int to, const char *path, struct dp_err *e)
{
    struct dp_map m;
    DP_TRY(dp_map_open(&m, path, e));
    int rc = dp_ranks_send(r, to, dp_span(m.ptr, m.len), e);
    dp_map_close(&m);
    return rc;
}

int dp_ranks_receive_file(const struct dp_ranks *r, int from, const char *path, struct dp_err *e)
{
    unsigned long long n;
    (void)r;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), rc = DP_OK;
    char *block = malloc(BLOCK);
    if (fd < 0) DP_GOTO_SYS(e, "%s: cannot create", path);
    if (!block) DP_GOTO(e, NOMEM, "%s", path);
    MPI_Recv(&n, 1, MPI_UNSIGNED_LONG_LONG, from, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (unsigned long long at = 0; at < n; at += BLOCK) {
        size_t k = n - at < BLOCK ? (size_t)(n - at) : BLOCK;
        MPI_Recv(block, (int)k, MPI_BYTE, from, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        DP_TRY_OUT(dp_fs_write_all(fd, block, k, path, e));
    }
out:
    free(block);
    if (fd >= 0) close(fd);
    return rc;
}

void dp_ranks_abort(const struct dp_ranks *r, const struct dp_err *e, int status)
{
    if (r->size == 1) return;
    dp_log(ERROR, "train-bpe", "rank %d: %s", r->rank, e->msg);
    dp_log_flush(true);
    MPI_Abort(MPI_COMM_WORLD, status);
}

#else

int dp_ranks_begin(struct dp_ranks *r, struct dp_err *e)
{
    (void)e;
    *r = (struct dp_ranks){0, 1};
    return DP_OK;
}
void dp_ranks_end(const struct dp_ranks *r)
{
    (void)r;
}
int dp_ranks_agree(const struct dp_ranks *r, int rc, struct dp_err *e)
{
    (void)r;
    (void)e;
    return rc;
}
static int no_other(struct dp_err *e)
{
    DP_FAIL(e, BROKEN, "there is no other rank: this dpipe was built without MPI");
}
int dp_ranks_send_file(const struct dp_ranks *r, int to, const char *path, struct dp_err *e)
{
    (void)r, (void)to, (void)path;
    return no_other(e);
}
int dp_ranks_receive_file(const struct dp_ranks *r, int from, const char *path, struct dp_err *e)
{
    (void)r, (void)from, (void)path;
    return no_other(e);
}
int dp_ranks_send(const struct dp_ranks *r, int to, struct dp_span bytes, struct dp_err *e)
{
    (void)r, (void)to, (void)bytes;
    return no_other(e);
}
int dp_ranks_receive(const struct dp_ranks *r, int from, struct dp_buf *out, struct dp_err *e)
{
    (void)r, (void)from, (void)out;
    return no_other(e);
}
void dp_ranks_abort(const struct dp_ranks *r, const struct dp_err *e, int status)
{
    (void)r, (void)e, (void)status;
}

#endif

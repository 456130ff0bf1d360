/* MPI as carrier. Exchanges and gathers are plain sends and receives of parts: who adds what in which order is then ours
 * (parallel.c), not the library's, and as many bytes move as in its best reduce-scatter. One tag does: two ranks' messages don't overtake
 * each other, and all ranks make the same calls. MPI's errors end the job (MPI_ERRORS_ARE_FATAL, its default). */
#ifdef DP_MPI

#include "trainer/dist.h"

#include "base/cpu.h"

#include <mpi.h>

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { TAG = 7, BLOCK = 64 << 20 };

static int peers(const struct dp_dist *d)
{
    return 2 * (d->world - 1);
}

static void wait_for(struct dp_dist *d, MPI_Request *r)
{
    int done = 0;
    for (uint64_t turns = 0; MPI_Test(r, &done, MPI_STATUS_IGNORE), !done;) dp_dist_idle(d, &turns);
}

static void begin(struct dp_dist *d, struct dp_dist_op *op)
{
    const struct dp_dist_part *mine = &op->parts[d->rank];
    MPI_Request *q = op->requests;
    if (!q) {
        q = op->requests = calloc((size_t)peers(d), sizeof *q);
        DP_ASSERT(q);
    }
    for (int i = 1; i < d->world; i++) { /* not all to the same rank first */
        int r = (d->rank + i) % d->world;
        const struct dp_dist_part *in = op->gather ? &op->parts[r] : mine;
        float *into = op->gather ? op->whole + in->at : op->into + (uint64_t)r * mine->n;
        DP_ASSERT(in->n <= INT_MAX);
        MPI_Irecv(into, (int)in->n, MPI_FLOAT, r, TAG, MPI_COMM_WORLD, q++);
    }
    for (int i = 1; i < d->world; i++) {
        int r = (d->rank + d->world - i) % d->world;
        const struct dp_dist_part *out = op->gather ? mine : &op->parts[r];
        MPI_Isend(op->whole + out->at, (int)out->n, MPI_FLOAT, r, TAG, MPI_COMM_WORLD, q++);
    }
}

static bool test(struct dp_dist *d, struct dp_dist_op *op)
{
    int done;
    MPI_Testall(peers(d), op->requests, &done, MPI_STATUSES_IGNORE);
    return done;
}

static void broadcast(struct dp_dist *d, void *p, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += BLOCK) {
        MPI_Request r;
        MPI_Ibcast((char *)p + at, (int)(bytes - at < BLOCK ? bytes - at : BLOCK), MPI_BYTE, 0, MPI_COMM_WORLD, &r);
        wait_for(d, &r);
    }
}

static void sum(struct dp_dist *d, double *v, size_t n)
{
    MPI_Request r;
    DP_ASSERT(n <= INT_MAX);
    MPI_Iallreduce(MPI_IN_PLACE, v, (int)n, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, &r);
    wait_for(d, &r);
}

static void send_to(struct dp_dist *d, int to, const void *p, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += BLOCK) {
        MPI_Request r;
        MPI_Isend((const char *)p + at, (int)(bytes - at < BLOCK ? bytes - at : BLOCK), MPI_BYTE, to, TAG, MPI_COMM_WORLD, &r);
        wait_for(d, &r);
    }
}

static void receive_from(struct dp_dist *d, int from, void *p, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += BLOCK) {
        MPI_Request r;
        MPI_Irecv((char *)p + at, (int)(bytes - at < BLOCK ? bytes - at : BLOCK), MPI_BYTE, from, TAG, MPI_COMM_WORLD, &r);
        wait_for(d, &r);
    }
}

static void abort_all(struct dp_dist *d, int status)
{
    (void)d;
    MPI_Abort(MPI_COMM_WORLD, status);
}

static void close_all(struct dp_dist *d)
{
    free(d);
    MPI_Finalize();
}

/* Open MPI's way of copying between processes of a machine is the kernel's by default, which looks up pages for every
 * message; through its shared memory gradients went 1.7x as fast (docs/train-mpi.md). Whoever set it keeps it. */
int dp_dist_open(struct dp_dist **out, struct dp_err *e)
{
    static const struct dp_dist_type type = {begin, test, sum, broadcast, send_to, receive_from, abort_all, close_all};
    int have, world;
    *out = NULL;
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &have) != MPI_SUCCESS) DP_FAIL(e, BROKEN, "MPI: cannot begin");
    MPI_Comm_size(MPI_COMM_WORLD, &world);
    if (world == 1) {
        MPI_Finalize();
        return DP_OK;
    }
    struct dp_dist *d = calloc(1, sizeof *d);
    if (!d) DP_FAIL(e, NOMEM, "MPI");
    *d = (struct dp_dist){.world = world, .type = &type, .saved = -1, .patient = true};
    MPI_Comm_rank(MPI_COMM_WORLD, &d->rank);
    *out = d;
    return DP_OK;
}

int dp_dist_threads(struct dp_dist *d)
{
    if (!d) return dp_cpu_count();
    MPI_Comm here;
    cpu_set_t mine, *all;
    int n, threads = 0;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, d->rank, MPI_INFO_NULL, &here);
    MPI_Comm_size(here, &n);
    all = calloc((size_t)n, sizeof *all);
    DP_ASSERT(all);
    CPU_ZERO(&mine);
    sched_getaffinity(0, sizeof mine, &mine);
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, here);
    double share = 0;
    for (int c = 0; c < CPU_SETSIZE; c++) {
        int ranks = 0;
        for (int r = 0; CPU_ISSET(c, &mine) && r < n; r++) ranks += CPU_ISSET(c, &all[r]) != 0;
        if (ranks) share += 1.0 / ranks;
    }
    threads = (int)(share + 1e-6);
    free(all);
    MPI_Comm_free(&here);
    return threads > 0 ? threads : 1;
}

#else
extern int dp_dist_nothing_here; /* ISO C forbids an empty file */
#endif

/* /api/v1/workers: memory and CPU of the broker and of each worker process, and what it is at. */
#include "daemon/serve_internal.h"

#include "daemon/events.h"
#include "daemon/worker_board.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* From /proc, which is memory: no disk is waited for. */
uint64_t dp_process_rss(int pid)
{
    unsigned long long size = 0, rss = 0;
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%llu %llu", &size, &rss) != 2) rss = 0;
    fclose(f);
    return rss * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double cpu_s(int pid)
{
    clockid_t id;
    struct timespec t;
    if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &t) != 0) return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_process(int pid, int64_t begun, struct dp_jsonw *w)
{
    dp_jsonw_member_int(w, "pid", pid);
    dp_jsonw_member_int(w, "begun", begun);
    dp_jsonw_member_int(w, "rss_bytes", pid ? (int64_t)dp_process_rss(pid) : 0);
    dp_jsonw_key(w, "cpu_seconds");
    dp_jsonw_real(w, pid ? cpu_s(pid) : 0);
}

static void print_worker(const struct dp_board_note *n, struct dp_jsonw *w)
{
    dp_jsonw_begin(w, '{');
    print_process(n->pid, n->begun, w);
    dp_jsonw_member_int(w, "lanes", n->lanes);
    dp_jsonw_member_int(w, "units", n->units);
    dp_jsonw_member_int(w, "deaths", n->deaths);
    dp_jsonw_key(w, "unit");
    if (n->unit[0]) dp_jsonw_cstr(w, n->unit);
    else dp_jsonw_null(w);
    dp_jsonw_member_int(w, "unit_begun", n->unit_begun);
    dp_jsonw_member_int(w, "unit_documents", (int64_t)n->unit_documents);
    dp_jsonw_member_int(w, "unit_bytes", (int64_t)n->unit_bytes);
    dp_jsonw_end(w, '}');
}

void dp_serve_print_workers(struct dp_serve *s, const struct dp_page *p, struct dp_jsonw *w)
{
    struct dp_board_note *n = malloc(DP_BOARD_MAX * sizeof *n);
    size_t count = n ? dp_board_read(n, DP_BOARD_MAX) : 0;
    (void)p;
    dp_jsonw_key(w, "broker");
    dp_jsonw_begin(w, '{');
    print_process((int)getpid(), s->began, w);
    dp_jsonw_member_int(w, "threads", s->road.threads);
    dp_jsonw_end(w, '}');
    dp_jsonw_key(w, "workers");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < count; i++) print_worker(&n[i], w);
    dp_jsonw_end(w, ']');
    free(n);
}

/* bench/bench_feed_ring.c - the feed through a ring, two processes: permuted rows, B = 8, T = 2048, widened to int32. The consumer reads
 * every id where it lies ("read") or copies every batch to memory of its own ("copy"); beside them the feed in one process.
 *
 * usage: bench_feed_ring MANIFEST [SECONDS [ROUNDS [SLOTS]]]    JSON lines; rates are ids per second of time, and per CPU-second of the consumer and of the server (on a
 * busy machine the smaller of the two says what two cores of one's own would give), medians
 * of rounds that take turns. Without a manifest (-) data is made in $TMPDIR: 100 M ids of 16 bits. */
#include "base/fs.h"
#include "shards/manifest.h"
#include "trainer_feed/feed_client.h"
#include "trainer_feed/feed_server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { B = 8, T = 2048, ROUNDS_MAX = 64, READ = 0, COPY, ALONE, KINDS };
static const char *const kind_name[KINDS] = {"ring, read", "ring, copied", "one process, read"};
#define CLIENT_WANTS "seq_len=2048\nbatch=8\n"

static void die(const struct dp_err *e)
{
    fprintf(stderr, "bench_feed_ring: %s\n", e->msg);
    exit(1);
}

static double seconds(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void make_data(const char *dir, char *manifest, size_t n)
{
    static uint32_t doc[4096];
    struct dp_shard_meta meta = {.vocab_size = 50257, .eot = 50256};
    struct dp_shard_writer *w;
    struct dp_manifest *m = NULL;
    struct dp_err e;
    uint64_t x = 1;
    char *bin = dp_fs_join(dir, "s.bin"), *dpx = dp_fs_join(dir, "s.dpx");
    if (!bin || !dpx || dp_shard_writer_open(&w, bin, dpx, &meta, &e) < 0) die(&e);
    while (dp_shard_writer_tokens(w) < 100000000) {
        size_t len = 200 + dp_splitmix64(&x) % 3200;
        for (size_t k = 0; k < len; k++) doc[k] = (uint32_t)(dp_splitmix64(&x) % 50256);
        struct dp_hash128 h = dp_hash128(doc, len * 4);
        if (dp_shard_writer_add(w, h, h, 0, doc, len, &e) < 0) die(&e);
    }
    struct dp_manifest_shard row = {.name = "s.bin", .index = "s.dpx", .tokens = dp_shard_writer_tokens(w), .documents = dp_shard_writer_documents(w)};
    row.bytes = row.tokens * 2;
    snprintf(manifest, n, "%s/manifest.json", dir);
    if (dp_shard_writer_finish(w, row.sha256, row.index_sha256, &e) < 0 || dp_manifest_new(&m, &meta, &e) < 0 || dp_manifest_add(m, &row, &e) < 0 ||
        dp_manifest_write(m, manifest, &e) < 0)
        die(&e);
    dp_shard_writer_close(w);
    dp_manifest_free(m);
    free(bin);
    free(dpx);
}

static pid_t start_server(const char *manifest, const char *path)
{
    pid_t p = fork();
    if (p) return p;
    struct dp_feed_server_options o = {.addr = path, .manifest = manifest};
    struct dp_feed_server *s;
    struct dp_err e;
    dp_feed_options_init(&o.feed);
    if (dp_feed_server_open(&s, &o, &e) < 0 || dp_feed_server_run(s, &e) < 0) die(&e);
    _exit(0);
}

static uint32_t sum(const int32_t *ids)
{
    uint32_t x[16] = {0}, all = 0;
    for (size_t i = 0; i + 16 <= (size_t)B * (T + 1); i += 16)
        for (int k = 0; k < 16; k++) x[k] += (uint32_t)ids[i + (size_t)k];
    for (int k = 0; k < 16; k++) all += x[k];
    return all;
}

struct rate {
    double wall, cpu, server;
};
static uint32_t check;
static pid_t server;
static double server_seconds(void)
{
    clockid_t which;
    return clock_getcpuclockid(server, &which) == 0 ? seconds(which) : 0;
}
static struct rate measure(int kind, double time, struct dp_feed_client *c, struct dp_feed *f)
{
    static _Alignas(64) int32_t own[B * (T + 1)];
    struct dp_feed_batch b;
    struct dp_err e;
    uint64_t n = 0;
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), served = server_seconds();
    do {
        for (int k = 0; k < 64; k++, n += (uint64_t)B * T) {
            if ((kind == ALONE ? dp_feed_next(f, own, &e) : dp_feed_client_next(c, &b, &e)) < 0) die(&e);
            if (kind == COPY) memcpy(own, b.ids, sizeof own);
            check += kind == COPY ? (uint32_t)own[n & 1023] : sum(kind == ALONE ? own : b.ids);
        }
    } while (seconds(CLOCK_MONOTONIC) - wall < time);
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    served = server_seconds() - served;
    return (struct rate){1e-6 * (double)n / wall, 1e-6 * (double)n / cpu, kind == ALONE ? 0 : 1e-6 * (double)n / served};
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static void run(const char *manifest, const char *path, double time, int rounds, uint64_t slots)
{
    struct dp_feed_client_options co = {.addr = path, .wants = CLIENT_WANTS, .slots = slots};
    struct dp_feed_client *c[2];
    struct dp_feed_options o;
    struct dp_feed *f;
    struct dp_err e;
    static double wall[KINDS][ROUNDS_MAX], cpu[KINDS][ROUNDS_MAX], served[KINDS][ROUNDS_MAX];
    dp_feed_options_init(&o);
    o.seq_len = T;
    o.batch = B;
    for (int i = 0; i < 500 && access(path, F_OK) != 0; i++) nanosleep(&(struct timespec){0, 10000000}, NULL);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    for (int i = 0; i < 2; i++)
        if (dp_feed_client_open(&c[i], &co, &e) < 0) die(&e);
    if (dp_feed_open(&f, manifest, &o, &e) < 0) die(&e);
    for (int r = -1; r < rounds; r++) /* the first maps the pages */
        for (int k = 0; k < KINDS; k++) {
            struct rate x = measure(k, time, k == ALONE ? NULL : c[k], f);
            if (r >= 0) wall[k][r] = x.wall, cpu[k][r] = x.cpu, served[k][r] = x.server;
        }
    struct dp_feed_client_info info;
    dp_feed_client_info(c[0], &info);
    for (int k = 0; k < KINDS; k++) {
        qsort(wall[k], (size_t)rounds, sizeof **wall, by_value);
        qsort(cpu[k], (size_t)rounds, sizeof **cpu, by_value);
        qsort(served[k], (size_t)rounds, sizeof **served, by_value);
        printf("{\"bench\":\"feed_ring\",\"what\":\"%s\",\"batch\":%d,\"seq_len\":%d,\"slots\":%d,\"million_ids_per_s\":%.0f,\"best\":%.0f,"
               "\"million_ids_per_consumer_cpu_s\":%.0f,\"million_ids_per_server_cpu_s\":%.0f,\"check\":%u}\n",
               kind_name[k], B, T, k == ALONE ? 0 : (int)info.slots, wall[k][rounds / 2], wall[k][rounds - 1], cpu[k][rounds / 2], served[k][rounds / 2], check);
    }
    for (int i = 0; i < 2; i++) dp_feed_client_close(c[i]);
    dp_feed_close(f);
}

int main(int argc, char **argv)
{
    char dir[512], manifest[600], path[600];
    const char *given = argc > 1 && strcmp(argv[1], "-") != 0 ? argv[1] : NULL;
    double time = argc > 2 ? atof(argv[2]) : 0.3;
    int rounds = argc > 3 ? atoi(argv[3]) : 9;
    if (!(time > 0) || rounds < 1 || rounds > ROUNDS_MAX) return 64;
    snprintf(dir, sizeof dir, "%.60s/dpipe-bench-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir)) return 1;
    if (!given) make_data(dir, manifest, sizeof manifest);
    snprintf(path, sizeof path, "%s/s", dir);
    pid_t p = server = start_server(given ? given : manifest, path);
    run(given ? given : manifest, path, time, rounds, argc > 4 ? strtoull(argv[4], NULL, 10) : 0);
    kill(p, SIGKILL);
    waitpid(p, NULL, 0);
    for (int i = 0; i < 4; i++) {
        static const char *const name[] = {"s", "s.bin", "s.dpx", "manifest.json"};
        snprintf(manifest, sizeof manifest, "%s/%s", dir, name[i]);
        unlink(manifest);
    }
    rmdir(dir);
    return 0;
}

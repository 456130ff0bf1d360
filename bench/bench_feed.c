/* bench/bench_feed.c - ids per CPU-second of the feed: B = 8, T = 2048, permuted, widened to int32.
 * usage: bench_feed [MILLION_IDS [STEPS]]    one JSON line for u16 and one for u32; data is made in
 * $TMPDIR and removed. Documents are 200 to 3,400 ids long; 1 % of them in val, as by default. */
#include "base/fs.h"
#include "shards/manifest.h"
#include "trainer_feed/feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void die(const struct dp_err *e)
{
    fprintf(stderr, "bench_feed: %s\n", e->msg);
    exit(1);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void make_data(const char *dir, uint32_t vocab, uint64_t ids, struct dp_err *e)
{
    static uint32_t doc[4096];
    struct dp_shard_meta meta = {.vocab_size = vocab, .eot = 0};
    struct dp_manifest *m;
    struct dp_shard_writer *w;
    char *bin = dp_fs_join(dir, "s.bin"), *dpx = dp_fs_join(dir, "s.dpx"),
         *path = dp_fs_join(dir, "manifest.json");
    uint64_t state = 1;
    if (!bin || !dpx || !path) exit(1);
    if (dp_manifest_new(&m, &meta, e) < 0 || dp_shard_writer_open(&w, bin, dpx, &meta, e) < 0)
        die(e);
    while (dp_shard_writer_tokens(w) < ids) {
        size_t n = 200 + dp_splitmix64(&state) % 3200;
        for (size_t i = 0; i < n; i++) doc[i] = (uint32_t)(dp_splitmix64(&state) % vocab);
        struct dp_hash128 h = dp_hash128(doc, n * 4);
        if (dp_shard_writer_add(w, h, h, 0, doc, n, e) < 0) die(e);
    }
    struct dp_manifest_shard s = {.name = "s.bin",
                                  .index = "s.dpx",
                                  .tokens = dp_shard_writer_tokens(w),
                                  .documents = dp_shard_writer_documents(w)};
    s.bytes = s.tokens * (uint64_t)m->meta.dtype;
    if (dp_shard_writer_finish(w, s.sha256, s.index_sha256, e) < 0 ||
        dp_manifest_add(m, &s, e) < 0 || dp_manifest_write(m, path, e) < 0)
        die(e);
    dp_shard_writer_close(w);
    dp_manifest_free(m);
    free(bin);
    free(dpx);
    free(path);
}

static void run(uint32_t vocab, uint64_t ids, int steps)
{
    struct dp_err err;
    char dir[] = "/tmp/dpipe-bench-XXXXXX";
    const char *names[] = {"s.bin", "s.dpx", "manifest.json"};
    if (!mkdtemp(dir)) exit(1);
    make_data(dir, vocab, ids, &err);
    char *path = dp_fs_join(dir, "manifest.json");
    struct dp_feed_options o;
    dp_feed_options_init(&o);
    o.seq_len = 2048;
    struct dp_feed *f;
    double t0 = cpu_seconds();
    if (dp_feed_open(&f, path, &o, &err) < 0) die(&err);
    double open_ms = 1e3 * (cpu_seconds() - t0);
    int32_t *rows = malloc((size_t)(o.batch * (o.seq_len + 1)) * sizeof *rows);
    if (!rows) exit(1);
    double best = 0;
    uint32_t sum = 0;
    for (int round = 0; round < 4; round++) { /* the first maps the pages */
        t0 = cpu_seconds();
        for (int i = 0; i < steps; i++) {
            if (dp_feed_next(f, rows, &err) < 0) die(&err);
            sum += (uint32_t)rows[17];
        }
        double rate = 1e-6 * steps * (double)(o.batch * o.seq_len) / (cpu_seconds() - t0);
        if (round && rate > best) best = rate;
    }
    printf(
        "{\"bench\":\"feed\",\"id_bytes\":%d,\"batch\":8,\"seq_len\":2048,\"ids\":%llu,\"samples\":%llu,\"open_ms\":%.2f,"
        "\"million_ids_per_cpu_s\":%.0f,\"check\":%u}\n",
        vocab <= 65536 ? 2 : 4, (unsigned long long)ids, (unsigned long long)dp_feed_samples(f),
        open_ms, best, sum);
    dp_feed_close(f);
    free(rows);
    free(path);
    for (int i = 0; i < 3; i++) {
        char *p = dp_fs_join(dir, names[i]);
        if (p) unlink(p);
        free(p);
    }
    rmdir(dir);
}

int main(int argc, char **argv)
{
    uint64_t ids = (argc > 1 ? strtoull(argv[1], NULL, 10) : 200) * 1000000;
    int steps = argc > 2 ? atoi(argv[2]) : 12000;
    run(50257, ids, steps);
    run(200019, ids, steps);
    return 0;
}

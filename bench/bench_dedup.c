/* Speed of the signature stage and of the decision; one JSON line each.
 * usage: bench_dedup [FILE [DOCS]]   FILE: text, a document every 5,000 bytes (default: made-up English-like words);
 * DOCS: synthetic documents for the decision (default 200,000; 30 % near duplicates). CPU seconds of one thread. */
#include "base/cpu.h"
#include "base/fs.h"
#include "dedup/dedup.h"
#include "dedup/sigfile.h"
#include "dedup/signature.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const struct dp_err *e)
{
    fprintf(stderr, "bench_dedup: %s\n", e->msg);
    exit(1);
}

static void make_text(struct dp_buf *b, size_t n)
{
    uint64_t rng = 1;
    while (b->len < n) {
        uint64_t r = dp_splitmix64(&rng);
        unsigned len = 1 + (unsigned)(r % 5) + (unsigned)(r >> 8) % 5;
        for (unsigned i = 0; i < len; i++) dp_buf_add_char(b, (char)('a' + (r >> (16 + 4 * i)) % 16));
        dp_buf_add_str(b, r >> 60 ? " " : ".\n");
    }
}

static void bench_text(struct dp_span text)
{
    enum { DOC = 5000 };
    static struct dp_minhash m;
    static struct dp_minhash_scratch scratch;
    static uint32_t slots[DP_MINHASH_SLOTS_MAX];
    struct dp_sig_params p = {14, 8, 5, false, 1};
    struct dp_err e;
    if (dp_minhash_init(&m, &p, &e) < 0) die(&e);
    for (int pass = 0; pass < 3; pass++) {
        uint64_t words = 0;
        double start = cpu_s();
        for (size_t at = 0; at < text.len; at += DOC) {
            struct dp_span doc = dp_span(text.ptr + at, text.len - at < DOC ? text.len - at : DOC);
            slots[0] ^= (uint32_t)dp_hash128(doc.ptr, doc.len).lo;
            words += dp_minhash_text(&m, &scratch, doc, slots);
        }
        double s = cpu_s() - start;
        printf("{\"bench\":\"signature\",\"level\":\"%s\",\"mb\":%.1f,\"words\":%llu,\"cpu_s\":%.3f,\"mb_per_s\":%.0f}\n", dp_cpu_name(dp_cpu()),
               (double)text.len / 1e6, (unsigned long long)words, s, (double)text.len / 1e6 / s);
    }
}

static void bench_decision(uint32_t docs)
{
    char dir[] = "/tmp/bench-dedup-XXXXXX";
    struct dp_err e;
    struct dp_sig_params p = {14, 8, 5, false, 1};
    struct dp_out *out;
    struct dp_sigfile_writer *w;
    struct dp_dedup_options o;
    struct dp_dedup_totals t;
    uint32_t slots[112];
    uint64_t rng = 5;
    if (!mkdtemp(dir)) exit(1);
    char *sig = dp_fs_join(dir, "sig"), *keep = dp_fs_join(dir, "keep"), *report = dp_fs_join(dir, "report");
    if (!sig || !keep || !report || dp_out_open(&out, sig, false, &e) < 0 || dp_sigfile_writer_open(&w, out, &p, &e) < 0) die(&e);
    for (uint32_t i = 0; i < docs; i++) {
        if (i % 10 < 7)
            for (int j = 0; j < 112; j++) slots[j] = (uint32_t)(dp_splitmix64(&rng) >> 32);
        else
            for (int j = 0; j < 10; j++) slots[dp_splitmix64(&rng) % 112] = (uint32_t)dp_splitmix64(&rng);
        struct dp_sig_record r = {.hash = {dp_splitmix64(&rng), i}, .length = (uint32_t)(dp_splitmix64(&rng) % 10000), .slots = slots};
        if (dp_sigfile_writer_add(w, &r, &e) < 0) die(&e);
    }
    if (dp_sigfile_writer_finish(w, &e) < 0 || dp_out_finish(out, NULL, &e) < 0) die(&e);
    dp_sigfile_writer_close(w);
    dp_out_close(out);
    static const uint64_t memory[] = {256 << 20, 32 << 20};
    for (int i = 1; i >= 0; i--) { /* the small one first: the peak only grows */
        if (dp_opt_defaults(dp_dedup_opts, &o, &e) < 0) die(&e);
        o.memory_bytes = memory[i];
        double start = cpu_s();
        if (dp_dedup_run(&o, 1, (const char *const *)&sig, (const char *const *)&keep, report, dir, NULL, &t, &e) < 0) die(&e);
        double s = cpu_s() - start;
        struct rusage ru;
        getrusage(RUSAGE_SELF, &ru);
        printf("{\"bench\":\"decision\",\"docs\":%u,\"memory_mb\":%llu,\"near_dups\":%llu,\"cpu_s\":%.3f,\"docs_per_s\":%.0f,\"peak_rss_mb\":%ld}\n", docs,
               (unsigned long long)(o.memory_bytes >> 20), (unsigned long long)t.near_dups, s, docs / s, ru.ru_maxrss / 1024);
        unlink(keep);
        unlink(report);
    }
    unlink(sig);
    rmdir(dir);
    free(sig);
    free(keep);
    free(report);
}

int main(int argc, char **argv)
{
    struct dp_err e;
    struct dp_buf b;
    dp_buf_init(&b, 1u << 30);
    if (dp_cpu_init(&e) < 0) die(&e);
    if (argc > 1 && argv[1][0]) {
        if (dp_fs_read(argv[1], &b, &e) < 0) die(&e);
    } else make_text(&b, 32 << 20);
    bench_decision(argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 200000);
    bench_text(dp_buf_span(&b));
    dp_buf_release(&b);
    return 0;
}

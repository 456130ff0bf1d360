/* bench/bench_ingest.c - how fast sources are read: MB/s of payload and of file by CPU time, one JSON line a file.
 * usage: bench_ingest [-n RUNS] [-v] FILE...   -v also prints damage and one line a record, for comparing with other readers. */
#include "base/batch.h"
#include "ingest/reader.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool verbose;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void on_damage(void *ctx, const struct dp_damage *d)
{
    (void)ctx;
    if (verbose) printf("damage %s %" PRIu64 " %s\n", d->path, d->offset, d->msg);
}

static void print_rows(const struct dp_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        char hex[DP_HEX128];
        dp_hash128_hex(dp_hash128(b->text[i].ptr, b->text[i].len), hex);
        printf("row %.*s format %d bytes %u text %zu %s %s mime %.*s/%.*s url %.*s meta {%.*s}\n", DP_SPAN_FMT(b->pos[i]), b->format[i], b->bytes_in[i],
               b->text[i].len, hex, dp_drop_name(b->drop[i]), DP_SPAN_FMT(b->mime[i]), DP_SPAN_FMT(b->charset[i]), DP_SPAN_FMT(b->url[i]), DP_SPAN_FMT(b->meta[i]));
    }
}

static int one(const struct dp_ingest_options *o, struct dp_batch *b, const char *path, struct dp_reader_stats *st, struct dp_err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s", path);
    struct dp_reader *r;
    const char *slash = strrchr(path, '/');
    int rc = dp_reader_open(&r, o, fd, slash ? slash + 1 : path, "", "0", on_damage, NULL, e);
    close(fd);
    if (rc < 0) return rc;
    while ((rc = dp_reader_next(r, b, e)) == DP_OK)
        if (verbose) print_rows(b);
    dp_reader_stats(r, st);
    dp_reader_close(r);
    return rc < 0 ? rc : DP_OK;
}

int main(int argc, char **argv)
{
    struct dp_ingest_options o = {0};
    struct dp_batch b;
    struct dp_err e;
    int runs = 3, failed = 0, c;
    while ((c = getopt(argc, argv, "n:v")) != -1) {
        if (c == 'n') runs = atoi(optarg);
        else if (c == 'v') verbose = true;
        else return 64;
    }
    if (dp_opt_defaults(dp_ingest_opts, &o, &e) < 0 || dp_batch_init(&b, 4096, 64 << 20, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    for (int i = optind; i < argc; i++) {
        double best = 1e99;
        struct dp_reader_stats st;
        memset(&st, 0, sizeof st);
        for (int k = 0; k < runs; k++) {
            double t = cpu_seconds();
            if (one(&o, &b, argv[i], &st, &e) < 0) {
                fprintf(stderr, "%s\n", e.msg);
                failed = 1;
                break;
            }
            t = cpu_seconds() - t;
            if (t < best) best = t;
        }
        printf("{\"file\":\"%s\",\"cpu_s\":%.4f,\"payload_mb_s\":%.1f,\"file_mb_s\":%.1f,\"records\":%" PRIu64 ",\"skipped\":%" PRIu64 ",\"members\":%" PRIu64
               ",\"damaged\":%" PRIu64 ",\"bytes_out\":%" PRIu64 "}\n",
               argv[i], best, (double)st.bytes_out / best / 1e6, (double)st.bytes_raw / best / 1e6, st.records, st.skipped, st.members, st.damaged, st.bytes_out);
    }
    dp_batch_release(&b);
    dp_opt_release(dp_ingest_opts, &o);
    return failed;
}

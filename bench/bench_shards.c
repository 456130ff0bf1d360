/* bench/bench_shards.c - bytes an id and ids per CPU-second of compressed shards, by frame size.
 * usage: bench_shards [IDS.u16 | MILLION_IDS] [LEVEL]
 * IDS.u16: flat ids (a shard's .bin of a vocabulary of up to 65,536 ids). Without it, ids are made: words of a Zipf-like law with
 * repeated phrases, which compress about as prose does. One JSON line a frame size: writing, decoding in order, copying rows of
 * 2,049 ids at random places; a flat body beside them, and for each frame size zstd alone on the same frames, into one buffer, without
 * checksums, range checks and widening to int32. Best of 5 rounds, CPU time of one thread. */
#include "base/fs.h"
#include "shards/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

enum { ROW = 2049, DOC = 2000, ROWS = 20000, ROUNDS = 5 };

static void die(const struct dp_err *e)
{
    fprintf(stderr, "bench_shards: %s\n", e->msg);
    exit(1);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint16_t *make_ids(size_t n)
{
    uint16_t *ids = malloc(n * sizeof *ids);
    uint64_t rng = 7;
    if (!ids) exit(1);
    for (size_t i = 0; i < n;) {
        uint64_t r = dp_splitmix64(&rng);
        if (r % 100 < 6 && i > 100000) { /* a phrase again */
            size_t from = i - 1 - r / 100 % 60000, len = 4 + (r >> 40) % 20;
            for (; len && i < n; len--, i++) ids[i] = ids[from++];
        } else {
            double u = (double)(r >> 11) * 0x1p-53;
            ids[i++] = (uint16_t)(50257 * u * u * u * u * u * u);
        }
    }
    return ids;
}

static void write_shard(const char *bin, const char *dpx, const uint16_t *ids, size_t n,
                        const struct dp_shard_packing *how, struct dp_err *e)
{
    static uint32_t doc[DOC];
    struct dp_shard_meta meta = {.vocab_size = 65536, .eot = -1};
    struct dp_shard_writer *w;
    unlink(bin);
    unlink(dpx);
    if (dp_shard_writer_open_packed(&w, bin, dpx, &meta, how, e) < 0) die(e);
    for (size_t i = 0; i < n;) {
        size_t k = n - i < DOC ? n - i : DOC;
        for (size_t j = 0; j < k; j++) doc[j] = ids[i + j];
        struct dp_hash128 h = {i, 1};
        if (dp_shard_writer_add(w, h, h, 0, doc, k, e) < 0) die(e);
        i += k;
    }
    if (dp_shard_writer_finish(w, NULL, NULL, e) < 0) die(e);
    dp_shard_writer_close(w);
}

/* Million ids per CPU-second, in order or by random rows. */
static double read_shard(const struct dp_shard *s, bool in_order, struct dp_err *e)
{
    static int32_t out[DP_SHARD_FRAME_IDS];
    uint64_t rng = 3, tokens = dp_shard_tokens(s), step = in_order ? DP_SHARD_FRAME_IDS : ROW,
             steps = in_order ? tokens / step : ROWS / 10;
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double t0 = cpu_seconds();
        for (uint64_t k = 0; k < steps; k++) {
            uint64_t at = in_order ? k * step : dp_splitmix64(&rng) % (tokens - ROW);
            if (dp_shard_copy_ids(s, at, step, out, e) < 0) die(e);
        }
        double rate = 1e-6 * (double)(steps * step) / (cpu_seconds() - t0);
        if (rate > best) best = rate;
    }
    return best;
}

/* Million ids per CPU-second that zstd itself decodes. */
static double plain_zstd(const uint16_t *ids, size_t n, int level, size_t frame_ids)
{
    size_t frames = (n + frame_ids - 1) / frame_ids, room = ZSTD_compressBound(frame_ids * 2), *size = malloc(frames * sizeof *size);
    char *packed = malloc(frames * room), *out = malloc(frame_ids * 2);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_DCtx *d = ZSTD_createDCtx();
    double best = 0;
    if (!size || !packed || !out || !c || !d) exit(1);
    for (size_t k = 0; k < frames; k++) {
        size_t bytes = 2 * (k + 1 < frames ? frame_ids : n - k * frame_ids);
        size[k] = ZSTD_compressCCtx(c, packed + k * room, room, (const char *)ids + k * frame_ids * 2, bytes, level);
        if (ZSTD_isError(size[k])) exit(1);
    }
    for (int round = 0; round < ROUNDS; round++) {
        double t0 = cpu_seconds();
        for (size_t k = 0; k < frames; k++)
            if (ZSTD_isError(ZSTD_decompressDCtx(d, out, frame_ids * 2, packed + k * room, size[k]))) exit(1);
        double rate = 1e-6 * (double)n / (cpu_seconds() - t0);
        if (rate > best) best = rate;
    }
    ZSTD_freeCCtx(c);
    ZSTD_freeDCtx(d);
    free(size);
    free(packed);
    free(out);
    return best;
}

static void run(const char *dir, const uint16_t *ids, size_t n, int level, uint32_t frame_ids)
{
    struct dp_err e;
    struct dp_shard_packing how = {level, frame_ids};
    struct dp_shard *s;
    char *bin = dp_fs_join(dir, "s.zbin"), *dpx = dp_fs_join(dir, "s.dpx");
    if (!bin || !dpx) exit(1);
    double t0 = cpu_seconds();
    write_shard(bin, dpx, ids, n, frame_ids ? &how : NULL, &e);
    double write = 1e-6 * (double)n / (cpu_seconds() - t0);
    if (dp_shard_open(&s, bin, dpx, &e) < 0 || dp_shard_verify(s, NULL, NULL, &e) < 0) die(&e);
    double ordered = read_shard(s, true, &e), rows = read_shard(s, false, &e), zstd = frame_ids ? plain_zstd(ids, n, level, frame_ids) : 0;
    printf("{\"bench\":\"shards\",\"ids\":%zu,\"frame_ids\":%u,\"level\":%d,\"bytes_per_id\":%.4f,\"write_million_ids_per_cpu_s\":%.0f,"
           "\"decode_million_ids_per_cpu_s\":%.0f,\"zstd_alone\":%.0f,\"random_row_us\":%.1f}\n",
           n, frame_ids, frame_ids ? level : 0, (double)dp_shard_body_bytes(s) / (double)n, write, ordered, zstd, ROW / rows);
    fflush(stdout);
    dp_shard_close(s);
    unlink(bin);
    unlink(dpx);
    free(bin);
    free(dpx);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/dpipe-bench-XXXXXX", none = 0, *end = &none;
    static const uint32_t frames[] = {0, 4096, 16384, 65536, 131072, 262144, 524288, 1048576};
    double millions = argc > 1 ? strtod(argv[1], &end) : 30;
    struct dp_map map = {0};
    struct dp_err e;
    if (*end && dp_map_open(&map, argv[1], &e) < 0) die(&e);
    size_t n = *end ? map.len / 2 : (size_t)(millions * 1e6);
    if (n < 2 * DP_SHARD_FRAME_IDS || n > DP_SHARD_TOKENS_MAX || !mkdtemp(dir)) {
        fprintf(stderr, "bench_shards: between 131072 and 2^30 ids are wanted, not %zu\n", n);
        return 64;
    }
    uint16_t *ids = *end ? NULL : make_ids(n);
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++)
        run(dir, *end ? (const void *)map.ptr : ids, n, argc > 2 ? atoi(argv[2]) : 3, frames[i]);
    free(ids);
    dp_map_close(&map);
    rmdir(dir);
    return 0;
}

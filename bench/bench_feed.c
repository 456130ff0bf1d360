/* bench/bench_feed.c - ids per CPU-second of the feed: B = 8, T = 2048, permuted, widened to int32; one manifest and three
 * domains mixed by weight, rows cut from the stream and packed best-fit, with and without masks; beside them what the machine
 * copies: memcpy of the same ids in order, and of permuted rows.
 *
 * usage: bench_feed [MILLION_IDS [STEPS [ROUNDS]]]    one JSON line each, u16 ids, then u32; rates are medians of the rounds, which
 * take turns, so that a busy machine is busy for all. Data is made in $TMPDIR and removed. Documents are 200 to 3,400 ids long, 1 % of
 * them in val, as by default.
 *
 * For bench/bench_feed.py, which compares with others: bench_feed make DIR MILLION_IDS writes such data as DIR/manifest.json, and
 * bench_feed way rows|pairs|bestfit MANIFEST BATCH SEQ_LEN SEED draws batches, as bench/feed_ways.py does. */
#include "base/fs.h"
#include "shards/manifest.h"
#include "trainer_feed/feed.h"
#include "trainer_feed/feed_order.h"
#include "trainer_feed/feed_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { B = 8, T = 2048, SHARDS = 3, ROUNDS_MAX = 64 };
static const double share[SHARDS] = {0.6, 0.3, 0.1};
static const char *const names[SHARDS] = {"a", "b", "c"};

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

static double anon_mib(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    double kib = 0;
    while (f && fgets(line, sizeof line, f)) sscanf(line, "RssAnon: %lf", &kib);
    if (f) fclose(f);
    return kib / 1024;
}

/* --- data --- */

struct set {
    char dir[512], manifest[600], part[SHARDS][600];
    int width;
    uint64_t tokens;
};

static void write_manifest(const char *path, const struct dp_shard_meta *meta, const struct dp_manifest_shard *s, int n)
{
    struct dp_manifest *m;
    struct dp_err e;
    if (dp_manifest_new(&m, meta, &e) < 0) die(&e);
    for (int i = 0; i < n; i++)
        if (dp_manifest_add(m, &s[i], &e) < 0) die(&e);
    if (dp_manifest_write(m, path, &e) < 0) die(&e);
    dp_manifest_free(m);
}

static void make_shard(struct set *s, const struct dp_shard_meta *meta, int i, uint64_t ids, struct dp_manifest_shard *row, uint64_t *state)
{
    static uint32_t doc[4096];
    static char name[SHARDS][2][16];
    struct dp_shard_writer *w;
    struct dp_err e;
    snprintf(name[i][0], sizeof name[i][0], "s%d.bin", i);
    snprintf(name[i][1], sizeof name[i][1], "s%d.dpx", i);
    char *bin = dp_fs_join(s->dir, name[i][0]), *dpx = dp_fs_join(s->dir, name[i][1]);
    if (!bin || !dpx || dp_shard_writer_open(&w, bin, dpx, meta, &e) < 0) die(&e);
    while (dp_shard_writer_tokens(w) < ids) {
        size_t n = 200 + dp_splitmix64(state) % 3200;
        for (size_t k = 0; k + 1 < n; k++) doc[k] = (uint32_t)(dp_splitmix64(state) % meta->vocab_size);
        doc[n - 1] = (uint32_t)meta->eot;
        struct dp_hash128 h = dp_hash128(doc, n * 4);
        if (dp_shard_writer_add(w, h, h, 0, doc, n, &e) < 0) die(&e);
    }
    *row = (struct dp_manifest_shard){
        .name = name[i][0], .index = name[i][1], .tokens = dp_shard_writer_tokens(w), .documents = dp_shard_writer_documents(w)};
    row->bytes = row->tokens * (uint64_t)dp_shard_dtype_of(meta->vocab_size);
    if (dp_shard_writer_finish(w, row->sha256, row->index_sha256, &e) < 0) die(&e);
    dp_shard_writer_close(w);
    free(bin);
    free(dpx);
    s->tokens += row->tokens;
}

/* In s->dir. */
static void make_set(struct set *s, uint32_t vocab, uint64_t ids)
{
    struct dp_shard_meta meta = {.vocab_size = vocab, .eot = vocab - 1};
    struct dp_manifest_shard row[SHARDS];
    uint64_t state = 1;
    s->width = dp_shard_dtype_of(vocab);
    s->tokens = 0;
    for (int i = 0; i < SHARDS; i++) make_shard(s, &meta, i, (uint64_t)((double)ids * share[i]), &row[i], &state);
    snprintf(s->manifest, sizeof s->manifest, "%s/manifest.json", s->dir);
    write_manifest(s->manifest, &meta, row, SHARDS);
    for (int i = 0; i < SHARDS; i++) {
        snprintf(s->part[i], sizeof s->part[i], "%s/m%d.json", s->dir, i);
        write_manifest(s->part[i], &meta, &row[i], 1);
    }
}

static void remove_set(struct set *s)
{
    char path[700];
    for (int i = 0; i < SHARDS; i++) {
        snprintf(path, sizeof path, "%s/s%d.bin", s->dir, i);
        unlink(path);
        snprintf(path, sizeof path, "%s/s%d.dpx", s->dir, i);
        unlink(path);
        unlink(s->part[i]);
    }
    unlink(s->manifest);
    rmdir(s->dir);
}

/* --- what is measured --- */

enum { COPY, GATHER, PLAIN, CHECKED, MIXED, PACKED, PACKED_MIXED, PACKED_MASKS, KINDS };
static const char *const kind_name[KINDS] = {"memcpy in order", "memcpy of permuted rows", "concat", "concat, checksums",
                                             "concat, 3 domains", "bestfit", "bestfit, 3 domains", "bestfit, 3 domains, masks"};

struct bench {
    struct set set;
    struct dp_map body[SHARDS];
    struct dp_feed *feed[KINDS];
    struct dp_feed_meta meta;
    int32_t *rows;
    double rate[KINDS][ROUNDS_MAX], open_ms[KINDS], anon[KINDS];
    uint64_t samples[KINDS], padding[KINDS];
    uint32_t check[KINDS];
    int steps;
};

static void open_feed(struct bench *b, int kind)
{
    struct dp_feed_options o;
    struct dp_feed_domain d[SHARDS];
    struct dp_err e;
    char mixture[] = "a=0.5,b=0.3,c=0.2";
    bool mixed = kind == MIXED || kind >= PACKED_MIXED;
    dp_feed_options_init(&o);
    o.seq_len = T;
    o.batch = B;
    o.pack = kind >= PACKED ? DP_FEED_BESTFIT : DP_FEED_CONCAT;
    o.check = kind == CHECKED;
    o.mixture = mixed ? mixture : NULL;
    for (int i = 0; i < SHARDS; i++) d[i] = (struct dp_feed_domain){.name = names[i], .manifest = b->set.part[i]};
    double anon = anon_mib(), t0 = cpu_seconds();
    int rc = mixed ? dp_feed_open_domains(&b->feed[kind], d, SHARDS, &o, &e) : dp_feed_open(&b->feed[kind], b->set.manifest, &o, &e);
    if (rc < 0) die(&e);
    b->open_ms[kind] = 1e3 * (cpu_seconds() - t0);
    b->anon[kind] = anon_mib() - anon;
    b->samples[kind] = dp_feed_samples(b->feed[kind]);
    for (size_t i = 0; i < dp_feed_domains(b->feed[kind]); i++) {
        struct dp_feed_domain_info info;
        dp_feed_domain_info(b->feed[kind], i, &info);
        b->padding[kind] += info.padding;
    }
}

/* Bytes of ids [at, at + n) counted over all bodies; n is cut at a body's end. */
static const char *place(const struct bench *b, uint64_t at, uint64_t *n)
{
    for (int i = 0;; i++) {
        uint64_t ids = b->body[i].len / (uint64_t)b->set.width;
        if (at < ids) {
            if (*n > ids - at) *n = ids - at;
            return b->body[i].ptr + at * (uint64_t)b->set.width;
        }
        at -= ids;
    }
}

static double measure(struct bench *b, int kind)
{
    struct dp_err e;
    struct dp_feed_order order;
    uint64_t rows = b->set.tokens / T - 1, at = 0;
    if (kind == GATHER) dp_feed_order_init(&order, rows, 1, 0);
    double t0 = cpu_seconds();
    for (int i = 0; i < b->steps; i++) {
        for (int r = 0; r < B && kind < PLAIN; r++, at++) {
            uint64_t row = kind == GATHER ? dp_feed_order_at(&order, at % rows) : at % rows, n = T + 1;
            const char *from = place(b, row * T, &n);
            memcpy((char *)b->rows + (size_t)r * (T + 1) * (size_t)b->set.width, from, n * (uint64_t)b->set.width);
        }
        int rc = kind < PLAIN              ? DP_OK
                 : kind == PACKED_MASKS ? dp_feed_next_meta(b->feed[kind], b->rows, &b->meta, &e)
                                           : dp_feed_next(b->feed[kind], b->rows, &e);
        if (rc < 0) die(&e);
        b->check[kind] += (uint32_t)b->rows[17];
    }
    return 1e-6 * b->steps * (double)(B * T) / (cpu_seconds() - t0);
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static void run(uint32_t vocab, uint64_t ids, int steps, int rounds)
{
    static struct bench b;
    struct dp_err e;
    memset(&b, 0, sizeof b);
    b.steps = steps;
    snprintf(b.set.dir, sizeof b.set.dir, "%.400s/dpipe-bench-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(b.set.dir)) exit(1);
    make_set(&b.set, vocab, ids);
    for (int i = 0; i < SHARDS; i++) {
        char path[700];
        snprintf(path, sizeof path, "%s/s%d.bin", b.set.dir, i);
        if (dp_map_open(&b.body[i], path, &e) < 0) die(&e);
    }
    b.rows = malloc((size_t)B * (T + 1) * sizeof *b.rows);
    b.meta = (struct dp_feed_meta){.cu_seqlens = malloc((size_t)B * (T + 1) * 4), .segments = malloc(B * 4),
                                   .positions = malloc((size_t)B * T * 4), .loss_mask = malloc((size_t)B * T)};
    if (!b.rows || !b.meta.cu_seqlens || !b.meta.segments || !b.meta.positions || !b.meta.loss_mask) exit(1);
    for (int k = PLAIN; k < KINDS; k++) open_feed(&b, k);
    for (int round = -1; round < rounds; round++) /* the first maps the pages */
        for (int k = 0; k < KINDS; k++) {
            double rate = measure(&b, k);
            if (round >= 0) b.rate[k][round] = rate;
        }
    for (int k = 0; k < KINDS; k++) qsort(b.rate[k], (size_t)rounds, sizeof **b.rate, by_value);
    for (int k = 0; k < KINDS; k++)
        printf("{\"bench\":\"feed\",\"what\":\"%s\",\"id_bytes\":%d,\"batch\":%d,\"seq_len\":%d,\"ids\":%llu,\"samples\":%llu,\"padding\":%llu,"
               "\"open_ms\":%.2f,\"open_anon_mib\":%.2f,\"million_ids_per_cpu_s\":%.0f,\"best\":%.0f,\"of_memcpy\":%.3f,\"of_permuted\":%.3f,"
               "\"check\":%u}\n",
               kind_name[k], b.set.width, B, T, (unsigned long long)b.set.tokens, (unsigned long long)b.samples[k],
               (unsigned long long)b.padding[k], b.open_ms[k], b.anon[k], b.rate[k][rounds / 2], b.rate[k][rounds - 1],
               b.rate[k][rounds / 2] / b.rate[COPY][rounds / 2], b.rate[k][rounds / 2] / b.rate[GATHER][rounds / 2], b.check[k]);
    for (int k = PLAIN; k < KINDS; k++) dp_feed_close(b.feed[k]);
    for (int i = 0; i < SHARDS; i++) dp_map_close(&b.body[i]);
    free(b.rows);
    free(b.meta.cu_seqlens);
    free(b.meta.segments);
    free(b.meta.positions);
    free(b.meta.loss_mask);
    remove_set(&b.set);
}

/* --- one of several ways --- */

struct way {
    struct dp_feed *f;
    dp_feed_pair_fn pair; /* NULL: rows */
    size_t batch, seq_len;
    int32_t *rows;
    int64_t *pairs[2];
};

static double wall_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double rss_mib(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    double kib = 0;
    while (f && fgets(line, sizeof line, f)) sscanf(line, "VmRSS: %lf", &kib);
    if (f) fclose(f);
    return kib / 1024;
}

static void draw(struct way *w, int k)
{
    struct dp_err e;
    if (dp_feed_next(w->f, w->rows, &e) < 0) die(&e);
    for (size_t b = 0; w->pair && b < w->batch; b++) {
        int64_t *inputs = w->pairs[k % 2] + b * w->seq_len;
        w->pair(inputs, inputs + w->batch * w->seq_len, w->rows + b * (w->seq_len + 1), w->seq_len);
    }
}

static void round_of(struct way *w, double seconds)
{
    static double took[1000];
    double c0 = cpu_seconds(), t0 = wall_seconds();
    int n = 0, m = 0;
    do
        for (int i = 0; i < 8; i++) draw(w, n++);
    while (cpu_seconds() - c0 < seconds && wall_seconds() - t0 < 4 * seconds);
    double cpu = cpu_seconds() - c0, wall = wall_seconds() - t0;
    for (double end = wall_seconds() + seconds; m < 16 || (m < 1000 && wall_seconds() < end); m++) {
        double a = wall_seconds();
        draw(w, m);
        took[m] = 1e6 * (wall_seconds() - a);
    }
    qsort(took, (size_t)m, sizeof *took, by_value);
    printf("{\"ids\":%zu,\"cpu_s\":%.6f,\"wall_s\":%.6f,\"us\":[", (size_t)n * w->batch * w->seq_len, cpu, wall);
    for (int i = 0; i < m; i++) printf("%s%.2f", i ? "," : "", took[i]);
    printf("]}\n");
    fflush(stdout);
}

static int run_way(char **argv)
{
    struct dp_feed_options o;
    struct dp_err e;
    char line[64];
    double anon = anon_mib(), rss = rss_mib(), t0 = wall_seconds();
    dp_feed_options_init(&o);
    o.val_fraction = 0;
    o.batch = atoi(argv[2]);
    o.seq_len = atoi(argv[3]);
    o.seed = atoi(argv[4]);
    o.pack = strcmp(argv[0], "bestfit") == 0 ? DP_FEED_BESTFIT : DP_FEED_CONCAT;
    struct way w = {.pair = strcmp(argv[0], "pairs") == 0 ? dp_feed_pair() : NULL, .batch = (size_t)o.batch, .seq_len = (size_t)o.seq_len};
    if (dp_feed_open(&w.f, argv[1], &o, &e) < 0) die(&e);
    w.rows = malloc(w.batch * (w.seq_len + 1) * sizeof *w.rows);
    for (int i = 0; i < 2; i++)
        if (!(w.pairs[i] = malloc(2 * w.batch * w.seq_len * sizeof **w.pairs))) exit(1);
    if (!w.rows) exit(1);
    draw(&w, 0);
    printf("{\"import_ms\":0,\"first_ms\":%.3f,\"gives\":\"%s%zu, %zu]\"}\n", 1e3 * (wall_seconds() - t0), w.pair ? "int64[2, " : "int32[", w.batch,
           w.seq_len + !w.pair);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) round_of(&w, strtod(line, NULL));
    printf("{\"rss_mib\":%.2f,\"anon_mib\":%.2f}\n", rss_mib() - rss, anon_mib() - anon);
    dp_feed_close(w.f);
    free(w.rows);
    free(w.pairs[0]);
    free(w.pairs[1]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "make") == 0) {
        static struct set s;
        snprintf(s.dir, sizeof s.dir, "%.500s", argv[2]);
        make_set(&s, 50257, strtoull(argv[3], NULL, 10) * 1000000);
        return 0;
    }
    if (argc == 7 && strcmp(argv[1], "way") == 0) return run_way(argv + 2);
    uint64_t ids = (argc > 1 ? strtoull(argv[1], NULL, 10) : 200) * 1000000;
    int steps = argc > 2 ? atoi(argv[2]) : 4000, rounds = argc > 3 ? atoi(argv[3]) : 9;
    if (ids < 1000000 || steps < 1 || rounds < 1 || rounds > ROUNDS_MAX) return 64;
    run(50257, ids, steps, rounds);
    run(200019, ids, steps, rounds);
    return 0;
}

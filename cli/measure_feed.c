/* bench feed: how fast batches come, by every way that they may come, beside what the machine copies.
 *
 * Ways take turns, round after round, so that a busy machine is busy for all of them; what is printed are medians. Of two processes the one that takes
 * more CPU seconds for an id is the slower side when each has a core of its own: on a busy machine that says more than the time does. */
#include "base/ascending.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cli/bench_data.h"
#include "cli/measure.h"
#include "daemon/events.h"
#include "shards/manifest.h"
#include "trainer_feed/feed_client.h"
#include "trainer_feed/feed_order.h"
#include "trainer_feed/feed_server.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum way { COPY, GATHER, FEED, READ, PACKED, PACKED_ORDER, MASKED, RING, RING_COPIED, RING_MASKED, TCP, TCP_ZSTD, TCP_ZSTD3, WAYS };
static const char *const way_name[WAYS] = {"memcpy in order", "memcpy of permuted rows", "feed", "feed, read", "feed of compressed shards", "feed of compressed shards, in order",
    "feed, bestfit with masks", "ring", "ring, copied", "ring, bestfit with masks", "tcp", "tcp, zstd 1", "tcp, zstd 3"};

struct server {
    pid_t pid;
    char addr[700];
};
struct bench {
    const struct dp_measure_args *o;
    const atomic_bool *stop;
    struct dp_feed_options feed;
    struct dp_bench_data data;
    const char *manifest;
    bool made;
    struct server ring, tcp;
    struct dp_feed *f[WAYS];
    struct dp_feed_client *client[WAYS];
    struct dp_map body; /* of the first shard; len 0: it isn't flat */
    int id_bytes;
    int32_t *ids;
    struct dp_feed_meta meta;
    double wall[WAYS][DP_MEASURE_ROUNDS_MAX], cpu[WAYS][DP_MEASURE_ROUNDS_MAX], served[WAYS][DP_MEASURE_ROUNDS_MAX], first_ms;
    uint64_t copied, check;
};

static double process_seconds(pid_t p)
{
    clockid_t which;
    return p && clock_getcpuclockid(p, &which) == 0 ? dp_clock_seconds(which) : 0;
}

/* --- servers --- */

static void serve(const struct bench *b, const char *addr, int tell)
{
    const struct dp_feed_server_options o = {.addr = addr, .manifest = b->manifest, .feed = b->feed, .stop = b->stop};
    struct dp_feed_server *s;
    struct dp_err e;
    int port = -1;
    if (dp_feed_server_open(&s, &o, &e) >= 0) port = dp_feed_server_port(s);
    if (write(tell, &port, sizeof port) != sizeof port || port < 0) _exit(1);
    int rc = dp_feed_server_run(s, &e);
    dp_feed_server_close(s);
    _exit(rc < 0);
}

static int start(struct bench *b, struct server *s, const char *addr, struct dp_err *e)
{
    int tell[2], port = -1;
    if (pipe(tell) != 0) DP_FAIL_SYS(e, "bench: pipe");
    s->pid = fork();
    if (!s->pid) {
        close(tell[0]);
        serve(b, addr, tell[1]);
    }
    close(tell[1]);
    bool up = s->pid > 0 && read(tell[0], &port, sizeof port) == sizeof port && port >= 0;
    close(tell[0]);
    if (!up) DP_FAIL(e, IO, "bench: the server on %s didn't start", addr);
    if (port) snprintf(s->addr, sizeof s->addr, "127.0.0.1:%d", port);
    else snprintf(s->addr, sizeof s->addr, "%s", addr);
    return DP_OK;
}

static void end(struct server *s)
{
    if (s->pid <= 0) return;
    kill(s->pid, SIGTERM);
    waitpid(s->pid, NULL, 0);
}

/* --- measuring --- */

static uint64_t sum(const int32_t *ids, size_t n)
{
    uint32_t x[16] = {0};
    uint64_t all = 0;
    for (size_t i = 0; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) x[k] += (uint32_t)ids[i + (size_t)k];
    for (int k = 0; k < 16; k++) all += x[k];
    return all;
}

/* As many rows as a batch has, of the first shard's body. */
static void copy_rows(struct bench *b, enum way w)
{
    static struct dp_feed_order order;
    size_t row = ((size_t)b->feed.seq_len + 1) * (size_t)b->id_bytes, step = (size_t)b->feed.seq_len * (size_t)b->id_bytes;
    uint64_t n = (b->body.len - row) / step + 1;
    if (!b->copied) dp_feed_order_init(&order, n, 1, 0);
    for (int64_t k = 0; k < b->feed.batch; k++, b->copied++) {
        uint64_t at = w == GATHER ? dp_feed_order_at(&order, b->copied % n) : b->copied % n;
        memcpy((char *)b->ids + (size_t)k * row, b->body.ptr + at * step, row);
    }
}

static int one(struct bench *b, enum way w, struct dp_err *e)
{
    size_t n = (size_t)b->feed.batch * ((size_t)b->feed.seq_len + 1);
    struct dp_feed_batch batch;
    if (w <= GATHER) {
        copy_rows(b, w);
        return DP_OK;
    }
    if (b->client[w]) {
        DP_TRY(dp_feed_client_next(b->client[w], &batch, e));
        if (w == RING_COPIED) memcpy(b->ids, batch.ids, n * sizeof *batch.ids);
        else b->check += sum(batch.ids, n);
        return DP_OK;
    }
    DP_TRY(w == MASKED ? dp_feed_next_meta(b->f[w], b->ids, &b->meta, e) : dp_feed_next(b->f[w], b->ids, e));
    if (w == READ) b->check += sum(b->ids, n);
    return DP_OK;
}

static pid_t server_of(const struct bench *b, enum way w)
{
    return w >= TCP ? b->tcp.pid : w >= RING ? b->ring.pid : 0;
}

static int measure(struct bench *b, enum way w, int64_t round, struct dp_err *e)
{
    double t = dp_now(), cpu = dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID), served = process_seconds(server_of(b, w)), n = 0, now;
    do {
        for (int k = 0; k < 32; k++, n += (double)b->feed.batch * (double)b->feed.seq_len) DP_TRY(one(b, w, e));
        now = dp_now();
    } while (now - t < b->o->seconds);
    if (round < 0) return DP_OK; /* it maps the pages */
    served = process_seconds(server_of(b, w)) - served;
    b->wall[w][round] = 1e-6 * n / (now - t);
    b->cpu[w][round] = 1e-6 * n / (dp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    b->served[w][round] = served > 0 ? 1e-6 * n / served : 0;
    return DP_OK;
}

static bool measured(const struct bench *b, enum way w)
{
    return w <= GATHER ? b->body.len > 0 : b->f[w] || b->client[w];
}

/* --- setting up --- */

static int open_feeds(struct bench *b, struct dp_err *e)
{
    static const enum way way[] = {FEED, READ, PACKED, PACKED_ORDER, MASKED};
    for (size_t i = 0; i < sizeof way / sizeof *way; i++) {
        struct dp_feed_options o = b->feed;
        double t = dp_now();
        bool packed = way[i] == PACKED || way[i] == PACKED_ORDER;
        if (way[i] == MASKED) o.pack = DP_FEED_BESTFIT;
        if (way[i] == PACKED_ORDER) o.shuffle = false;
        DP_TRY(dp_feed_open(&b->f[way[i]], packed ? b->data.packed : b->manifest, &o, e));
        DP_TRY(dp_feed_next(b->f[way[i]], b->ids, e));
        if (way[i] == FEED) b->first_ms = 1e3 * (dp_now() - t);
    }
    return DP_OK;
}

static int open_clients(struct bench *b, struct dp_err *e)
{
    for (enum way w = RING; w < WAYS; w++) {
        const struct dp_feed_client_options o = {.addr = w >= TCP ? b->tcp.addr : b->ring.addr, .slots = (uint64_t)b->o->slots,
            .wants = w == RING_MASKED ? "pack=bestfit\n" : NULL, .meta = w == RING_MASKED ? DP_FEED_META_ALL : 0,
            .compress = w == TCP_ZSTD ? 1 : w == TCP_ZSTD3 ? 3 : 0};
        DP_TRY(dp_feed_client_open(&b->client[w], &o, e));
    }
    return DP_OK;
}

static int map_body(struct bench *b, struct dp_err *e)
{
    struct dp_manifest *m;
    DP_TRY(dp_manifest_read(&m, b->manifest, e));
    size_t row = ((size_t)b->feed.seq_len + 1) * (size_t)m->meta.dtype;
    b->id_bytes = m->meta.dtype;
    char *path = m->count && !m->shards[0].packed && m->shards[0].bytes >= row ? dp_manifest_path(b->manifest, m->shards[0].name) : NULL;
    int rc = path ? dp_map_open(&b->body, path, e) : DP_OK;
    free(path);
    dp_manifest_free(m);
    return rc;
}

static int buffers(struct bench *b, struct dp_err *e)
{
    size_t n = (size_t)b->feed.batch, t = (size_t)b->feed.seq_len;
    b->ids = malloc(n * (t + 1) * sizeof *b->ids);
    b->meta = (struct dp_feed_meta){malloc(n * (t + 1) * 4), malloc(n * 4), malloc(n * t * 4), malloc(n * t), malloc(n * 4), malloc(n * 8)};
    const struct dp_feed_meta *m = &b->meta;
    if (!b->ids || !m->cu_seqlens || !m->segments || !m->positions || !m->loss_mask || !m->domain || !m->sample) DP_FAIL(e, NOMEM, "bench: a batch");
    return DP_OK;
}

static int set_up(struct bench *b, struct dp_err *e)
{
    uint64_t ids = (uint64_t)b->o->million_ids * 1000000, most = 32000000;
    char path[600];
    DP_TRY(dp_bench_data_open(&b->data, e));
    if (b->made) DP_TRY(dp_bench_data_make(&b->data, ids, e));
    if (b->made) b->manifest = b->data.manifest;
    DP_TRY(dp_bench_data_pack(&b->data, b->manifest, ids < most ? ids : most, e));
    snprintf(path, sizeof path, "%s/s", b->data.dir);
    DP_TRY(start(b, &b->ring, path, e));
    DP_TRY(start(b, &b->tcp, "127.0.0.1:0", e));
    DP_TRY(buffers(b, e));
    DP_TRY(map_body(b, e));
    DP_TRY(open_feeds(b, e));
    return open_clients(b, e);
}

static void tear_down(struct bench *b)
{
    for (int w = 0; w < WAYS; w++) {
        dp_feed_close(b->f[w]);
        dp_feed_client_close(b->client[w]);
    }
    end(&b->ring);
    end(&b->tcp);
    if (b->body.len) dp_map_close(&b->body);
    free(b->ids);
    void *of[] = {b->meta.cu_seqlens, b->meta.segments, b->meta.positions, b->meta.loss_mask, b->meta.domain, b->meta.sample};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) free(of[i]);
    dp_bench_data_remove(&b->data);
}

/* --- telling --- */

static void print_way(struct bench *b, enum way k, struct dp_jsonw *w)
{
    size_t n = (size_t)b->o->rounds;
    if (!measured(b, k)) return;
    qsort(b->wall[k], n, sizeof **b->wall, dp_ascending_doubles);
    qsort(b->cpu[k], n, sizeof **b->cpu, dp_ascending_doubles);
    qsort(b->served[k], n, sizeof **b->served, dp_ascending_doubles);
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "way", way_name[k]);
    dp_measure_member(w, "million_ids_per_s", b->wall[k][n / 2], 10);
    dp_measure_member(w, "best", b->wall[k][n - 1], 10);
    dp_measure_member(w, "million_ids_per_cpu_s", b->cpu[k][n / 2], 10);
    if (server_of(b, k)) dp_measure_member(w, "million_ids_per_server_cpu_s", b->served[k][n / 2], 10);
    if (b->client[k]) {
        struct dp_feed_client_info i;
        dp_feed_client_info(b->client[k], &i);
        if (i.bytes) dp_measure_member(w, "bytes_per_id", (double)i.bytes / ((double)i.batches * (double)b->feed.batch * (double)b->feed.seq_len), 1000);
    }
    if (measured(b, GATHER) && k > GATHER && k < RING) dp_measure_member(w, "of_permuted_memcpy", b->cpu[k][n / 2] / b->cpu[GATHER][n / 2], 1000);
    dp_jsonw_end(w, '}');
}

static void print_data(const struct bench *b, struct dp_jsonw *w)
{
    dp_jsonw_key(w, "data");
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "from", b->made ? "made" : b->manifest);
    dp_jsonw_member_int(w, "ids", (int64_t)dp_feed_tokens(b->f[FEED]));
    dp_jsonw_member_int(w, "documents", (int64_t)dp_feed_documents(b->f[FEED]));
    dp_jsonw_member_int(w, "vocab_size", dp_feed_vocab_size(b->f[FEED]));
    dp_jsonw_member_int(w, "id_bytes", b->id_bytes);
    dp_jsonw_member_int(w, "compressed_ids", (int64_t)b->data.packed_ids);
    if (b->data.packed_ids) dp_measure_member(w, "compressed_bytes_per_id", (double)b->data.packed_bytes / (double)b->data.packed_ids, 1000);
    dp_jsonw_end(w, '}');
}

static int print(struct bench *b, struct dp_err *e)
{
    struct dp_buf out;
    struct dp_jsonw w;
    dp_buf_init(&out, 1 << 20);
    dp_jsonw_init(&w, &out, 2);
    dp_jsonw_begin(&w, '{');
    dp_measure_machine(&w, "feed");
    print_data(b, &w);
    dp_jsonw_member_int(&w, "batch", b->feed.batch);
    dp_jsonw_member_int(&w, "seq_len", b->feed.seq_len);
    dp_jsonw_member_int(&w, "rounds", b->o->rounds);
    dp_measure_member(&w, "seconds", b->o->seconds, 1000);
    dp_measure_member(&w, "first_batch_ms", b->first_ms, 1000);
    dp_measure_member(&w, "rss_mib", dp_measure_status_mib("VmRSS"), 10);
    dp_measure_member(&w, "rss_anon_mib", dp_measure_status_mib("RssAnon"), 10);
    dp_jsonw_key(&w, "ways");
    dp_jsonw_begin(&w, '[');
    for (enum way k = 0; k < WAYS; k++) print_way(b, k, &w);
    dp_jsonw_end(&w, ']');
    dp_jsonw_member_int(&w, "check", (int64_t)(b->check & INT64_MAX)); /* so that nothing is read in vain */
    return dp_measure_end(&w, &out, e);
}

/* --- */

static bool in_workspace(const struct dp_cli *c)
{
    char *p = dp_fs_join(c->global.workspace, "recipe.yaml");
    bool there = p && dp_fs_exists(p);
    free(p);
    return there;
}

static int bench_feed(struct dp_cli *c, struct bench *b, struct dp_err *e)
{
    DP_TRY(set_up(b, e));
    for (int64_t round = -1; round < b->o->rounds; round++)
        for (enum way w = 0; w < WAYS; w++) {
            if (c->stop && atomic_load(c->stop)) DP_FAIL(e, STOPPED, "bench: stopped");
            if (measured(b, w)) DP_TRY(measure(b, w, round, e));
        }
    return print(b, e);
}

int dp_measure_feed(struct dp_cli *c, const struct dp_measure_args *o, const char **args, size_t n, struct dp_err *e)
{
    char *manifest = NULL;
    if (n) DP_FAIL(e, USAGE, "bench feed: \"%s\" is one argument too many", args[0]);
    if (o->manifest || !in_workspace(c)) DP_TRY(dp_cli_options(c, e));
    else DP_TRY(dp_cli_manifest(c, NULL, &manifest, e));
    struct bench *b = calloc(1, sizeof *b);
    if (!b) {
        free(manifest);
        DP_FAIL(e, NOMEM, "bench");
    }
    b->o = o;
    b->stop = c->stop;
    b->feed = c->options.feed;
    b->feed.domains = b->feed.mixture = NULL; /* one manifest */
    b->manifest = o->manifest ? o->manifest : manifest;
    b->made = !b->manifest;
    int rc = bench_feed(c, b, e);
    tear_down(b);
    free(b);
    free(manifest);
    return rc;
}

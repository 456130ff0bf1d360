#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/tcp.h"
#include "cli/cli.h"
#include "daemon/feed_sources.h"
#include "trainer_feed/feed_client.h"
#include "trainer_feed/feed_server.h"

#include <stdlib.h>

struct own {
    char *manifest, *dump, *dump_meta, *serve, *connect;
    char *token_file, *tls_cert, *tls_key, *tls_ca, *tls_host;
    int64_t steps, start, compress, slots, clients;
    bool tls;
    double reconnect;
};
static const struct dp_opt rows[] = {
    {.name = "manifest", .type = DP_OPT_STRING, .offset = offsetof(struct own, manifest), .arg = "FILE", .help = "a manifest outside the workspace"},
    {.name = "dump", .type = DP_OPT_STRING, .offset = offsetof(struct own, dump), .arg = "FILE", .help = "write the batches' ids as little-endian int32 (- is stdout)"},
    {.name = "steps", .type = DP_OPT_INT, .offset = offsetof(struct own, steps), .preset = "1", .min = 0, .max = 1e15, .arg = "K", .help = "batches to draw"},
    {.name = "start", .type = DP_OPT_INT, .offset = offsetof(struct own, start), .preset = "0", .min = 0, .max = 1e18, .arg = "SAMPLE", .help = "the first global sample"},
    {.name = "dump_meta", .type = DP_OPT_STRING, .offset = offsetof(struct own, dump_meta), .arg = "FILE", .help = "write a JSON line a row: sample, domain, ends of its segments, targets that are masked"},
    {.name = "serve", .type = DP_OPT_STRING, .offset = offsetof(struct own, serve), .arg = "ADDR", .help = "serve others until SIGTERM: a path (with a slash) is a Unix socket, HOST:PORT, [HOST]:PORT or :PORT (loopback) TCP"},
    {.name = "connect", .type = DP_OPT_STRING, .offset = offsetof(struct own, connect), .arg = "ADDR", .help = "take the batches from the server there"},
    {.name = "reconnect", .type = DP_OPT_TIME, .offset = offsetof(struct own, reconnect), .preset = "60s", .min = 0, .max = 1e6, .arg = "TIME", .help = "how long to look for a server that is gone"},
    {.name = "slots", .type = DP_OPT_INT, .offset = offsetof(struct own, slots), .preset = "0", .min = 0, .max = 1024, .arg = "N", .help = "--connect: batches that may lie finished; 0: about 1 MiB"},
    {.name = "compress", .type = DP_OPT_INT, .offset = offsetof(struct own, compress), .preset = "0", .min = 0, .max = 9, .arg = "LEVEL", .help = "--connect over TCP: zstd level of what comes; 0: none"},
    {.name = "clients", .type = DP_OPT_INT, .offset = offsetof(struct own, clients), .preset = "64", .min = 1, .max = 1024, .arg = "N", .help = "--serve: clients at a time, at most"},
    {.name = "token_file", .type = DP_OPT_STRING, .offset = offsetof(struct own, token_file), .arg = "FILE", .help = "TCP: the token that clients must say, on both sides"},
    {.name = "tls", .type = DP_OPT_BOOL, .offset = offsetof(struct own, tls), .help = "--connect: TLS, also when a certificate is given"},
    {.name = "tls_cert", .type = DP_OPT_STRING, .offset = offsetof(struct own, tls_cert), .arg = "FILE", .help = "TCP: our certificate chain (PEM); with --serve: TLS"},
    {.name = "tls_key", .type = DP_OPT_STRING, .offset = offsetof(struct own, tls_key), .arg = "FILE", .help = "its private key (PEM)"},
    {.name = "tls_ca", .type = DP_OPT_STRING, .offset = offsetof(struct own, tls_ca), .arg = "FILE", .help = "whose signature the other side's certificate must have (PEM); --serve: clients must have one"},
    {.name = "tls_host", .type = DP_OPT_STRING, .offset = offsetof(struct own, tls_host), .arg = "NAME", .help = "--connect: whom the server's certificate must name; default: the host of ADDR"},
    DP_OPT_END,
};

/* Where a file's output goes; NULL without one. */
static int file_open(const char *path, FILE **out, struct dp_err *e)
{
    *out = !path ? NULL : strcmp(path, "-") == 0 ? stdout : fopen(path, "wbe");
    if (path && !*out) DP_FAIL_SYS(e, "%s: cannot create", path);
    return DP_OK;
}
static int file_close(const char *path, FILE *out, int rc, struct dp_err *e)
{
    bool bad = out && (out != stdout ? fclose(out) : fflush(out)) != 0;
    return bad && rc >= 0 ? dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: write", path) : rc;
}

struct dump {
    const struct own *o;
    FILE *ids, *meta;
    struct dp_buf line;
};
static int dump_open(struct dump *d, const struct own *o, struct dp_err *e)
{
    *d = (struct dump){.o = o};
    dp_buf_init(&d->line, 1 << 28);
    DP_TRY(file_open(o->dump, &d->ids, e));
    return file_open(o->dump_meta, &d->meta, e);
}
static int dump_close(struct dump *d, int rc, struct dp_err *e)
{
    rc = file_close(d->o->dump, d->ids, rc, e);
    rc = file_close(d->o->dump_meta, d->meta, rc, e);
    dp_buf_release(&d->line);
    return rc;
}

static void print_row(struct dp_buf *b, const struct dp_feed_meta *m, size_t row, size_t t)
{
    const int32_t *cu = m->cu_seqlens + row * (t + 1);
    const char *comma = "";
    dp_buf_printf(b, "{\"sample\":%llu,\"domain\":%u,\"ends\":[", (unsigned long long)m->sample[row], m->domain[row]);
    for (int32_t i = 1; i <= m->segments[row]; i++) dp_buf_printf(b, i > 1 ? ",%d" : "%d", cu[i]);
    dp_buf_add_str(b, "],\"masked\":[");
    for (size_t i = 0; i < t; i++) {
        if (m->loss_mask[row * t + i]) continue;
        dp_buf_printf(b, "%s%zu", comma, i);
        comma = ",";
    }
    dp_buf_add_str(b, "]}\n");
}

static int dump_batch(struct dump *d, const int32_t *ids, const struct dp_feed_meta *m, size_t batch, size_t t, struct dp_err *e)
{
    size_t n = batch * (t + 1);
    if (d->ids && fwrite(ids, sizeof *ids, n, d->ids) != n) return dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: write", d->o->dump);
    if (!d->meta) return DP_OK;
    dp_buf_clear(&d->line);
    for (size_t row = 0; row < batch; row++) print_row(&d->line, m, row, t);
    DP_TRY(dp_buf_check(&d->line, "masks", e));
    if (fwrite(d->line.ptr, 1, d->line.len, d->meta) != d->line.len) return dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: write", d->o->dump_meta);
    return DP_OK;
}

/* Whether stdout is taken by a dump. */
static bool dumps_to_stdout(const struct own *o)
{
    return (o->dump && strcmp(o->dump, "-") == 0) || (o->dump_meta && strcmp(o->dump_meta, "-") == 0);
}

static int draw(struct dp_cli *c, struct dp_feed *f, struct dp_err *e)
{
    const struct own *o = c->own;
    const struct dp_feed_options *fo = &c->options.feed;
    size_t batch = (size_t)fo->batch, t = (size_t)fo->seq_len;
    struct dp_feed_state s;
    struct dump d;
    dp_feed_state(f, &s);
    s.sample = (uint64_t)o->start;
    DP_TRY(dp_feed_resume(f, &s, e));
    int32_t *ids = malloc(batch * (t + 1) * sizeof *ids);
    struct dp_feed_meta m = {0};
    if (o->dump_meta)
        m = (struct dp_feed_meta){.cu_seqlens = malloc(batch * (t + 1) * 4), .segments = malloc(batch * 4), .loss_mask = malloc(batch * t),
                                  .domain = malloc(batch * 4), .sample = malloc(batch * 8)};
    bool good = ids && (!o->dump_meta || (m.cu_seqlens && m.segments && m.loss_mask && m.domain && m.sample));
    int rc = dump_open(&d, o, e);
    if (rc >= 0 && !good) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "batch");
    for (int64_t k = 0; rc >= 0 && k < o->steps; k++) {
        rc = o->dump_meta ? dp_feed_next_meta(f, ids, &m, e) : dp_feed_next(f, ids, e);
        if (rc >= 0) rc = dump_batch(&d, ids, &m, batch, t, e);
    }
    rc = dump_close(&d, rc, e);
    free(ids);
    free(m.cu_seqlens);
    free(m.segments);
    free(m.loss_mask);
    free(m.domain);
    free(m.sample);
    return rc;
}

static void print_domain(struct dp_jsonw *w, const struct dp_feed *f, size_t d)
{
    struct dp_feed_domain_info i;
    dp_feed_domain_info(f, d, &i);
    const struct {
        const char *key;
        uint64_t value;
    } row[] = {{"rows", i.rows},       {"tokens", i.tokens}, {"documents", i.documents}, {"padding", i.padding},
               {"cut", i.cut},         {"draws", i.draws},   {"shards", i.shards},       {"shards_absent", i.shards_absent},
               {"frames_bad", i.frames_bad}};
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "name");
    dp_jsonw_cstr(w, i.name);
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        dp_jsonw_key(w, row[k].key);
        dp_jsonw_uint(w, row[k].value);
    }
    dp_jsonw_end(w, '}');
}

static int print_result(const struct dp_feed *f, struct dp_err *e)
{
    struct dp_feed_state s;
    struct dp_jsonw w;
    struct dp_buf b;
    dp_feed_state(f, &s);
    dp_buf_init(&b, 1 << 20);
    dp_buf_printf(&b, "{\"samples\":%llu,\"tokens\":%llu,\"documents\":%llu,\"vocab_size\":%u,\"next_sample\":%llu,\"pad\":%d,\"domains\":",
                  (unsigned long long)dp_feed_samples(f), (unsigned long long)dp_feed_tokens(f), (unsigned long long)dp_feed_documents(f),
                  dp_feed_vocab_size(f), (unsigned long long)s.sample, dp_feed_pad(f));
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '[');
    for (size_t d = 0; d < dp_feed_domains(f); d++) print_domain(&w, f, d);
    dp_jsonw_end(&w, ']');
    dp_buf_add_str(&b, "}\n");
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

/* Whether --domains is given, and by files and folders alone: then this workspace needs no manifest, and need not be one. */
static bool only_files(const struct dp_cli *c)
{
    bool given = false;
    for (size_t i = 0; i < c->flags; i++)
        if (c->flag[i].section && strcmp(c->flag[i].section, "feed") == 0 && strcmp(c->flag[i].row->name, "domains") == 0)
            given = !strstr(c->flag[i].value, "=source:");
    return given;
}

static bool in_workspace(const struct dp_cli *c)
{
    char *p = dp_fs_join(c->global.workspace, "recipe.yaml");
    bool there = p && dp_fs_exists(p);
    free(p);
    return there;
}

/* --- serving --- */

struct serving {
    struct dp_cli *c;
    const char *manifest;
};

/* A workspace under `dpipe serve` grows: each client gets what is complete when it comes, and its state says how far that went. */
static int serve_open(void *ctx, struct dp_feed **f, void **own, const struct dp_feed_options *o, const struct dp_feed_state *state, struct dp_err *e)
{
    (void)state;
    const struct serving *s = ctx;
    struct dp_feed_sources *sources = NULL;
    struct dp_road *r = s->c->road_open ? &s->c->road : NULL;
    char *newest = NULL;
    if (r && *s->manifest) {
        DP_TRY(dp_road_manifest(r, &newest, e));
        if (!newest && (o->domains ? strstr(o->domains, "=source:") != NULL : o->mixture != NULL)) DP_FAIL(e, BUSY, "feed: everything in %s is being made anew; come again", r->ws.dir);
    }
    int rc = dp_feed_sources_open(&sources, f, r, newest ? newest : s->manifest, o, e);
    *own = sources;
    free(newest);
    return rc;
}
static void serve_close(void *ctx, void *own)
{
    (void)ctx;
    dp_feed_sources_close(own);
}

static int serve(struct dp_cli *c, const char *manifest, struct dp_err *e)
{
    const struct own *o = c->own;
    struct serving ctx = {c, manifest};
    char *token = NULL;
    struct dp_feed_server *s = NULL;
    if (o->token_file) DP_TRY(dp_secret_read(&token, o->token_file, e));
    struct dp_feed_server_options so = {.addr = o->serve, .manifest = manifest, .feed = c->options.feed, .clients_max = (int)o->clients, .stop = c->stop,
        .open = serve_open, .close = serve_close, .ctx = &ctx, .token = token, .cert = o->tls_cert, .key = o->tls_key, .client_ca = o->tls_ca};
    int rc = dp_feed_server_open(&s, &so, e);
    if (rc >= 0 && !c->global.quiet)
        dp_log(INFO, "feed", dp_feed_server_port(s) ? "serving %s on %s, port %d" : "serving %s on %s", *manifest ? manifest : c->options.feed.domains, o->serve,
               dp_feed_server_port(s));
    if (rc >= 0) rc = dp_feed_server_run(s, e);
    dp_feed_server_close(s);
    free(token);
    return rc;
}

/* --- being served --- */

/* What was said here in flags, for the server to lay over its own options. */
static int wants(struct dp_cli *c, struct dp_buf *b, struct dp_err *e)
{
    DP_TRY(dp_cli_options(c, e));
    for (size_t i = 0; i < c->flags; i++) {
        if (!c->flag[i].section || strcmp(c->flag[i].section, "feed") != 0) continue;
        dp_buf_printf(b, "%s=", c->flag[i].row->name);
        dp_opt_print(c->flag[i].row, &c->options.feed, b);
        dp_buf_add_char(b, '\n');
    }
    if (c->global.seed >= 0) dp_buf_printf(b, "seed=%lld\n", (long long)c->global.seed); /* a flag of every command, not of the section */
    return dp_buf_check(b, "options", e);
}

static int take(struct dp_feed_client *f, const struct own *o, struct dp_err *e)
{
    struct dp_feed_client_info info;
    struct dp_feed_batch b;
    struct dump d;
    int rc = dump_open(&d, o, e);
    dp_feed_client_info(f, &info);
    for (int64_t k = 0; rc >= 0 && k < o->steps; k++) {
        rc = dp_feed_client_next(f, &b, e);
        if (rc >= 0) rc = dump_batch(&d, b.ids, &b.meta, (size_t)info.batch, (size_t)info.seq_len, e);
    }
    return dump_close(&d, rc, e);
}

static int print_taken(const struct dp_feed_client *f, struct dp_err *e)
{
    struct dp_feed_client_info info;
    struct dp_feed_state s;
    struct dp_buf b;
    dp_feed_client_info(f, &info);
    dp_feed_client_state(f, &s);
    dp_buf_init(&b, 1 << 12);
    dp_buf_printf(&b, "{\"samples\":%llu,\"tokens\":%llu,\"documents\":%llu,\"vocab_size\":%u,\"next_sample\":%llu,\"pad\":%d,\"reconnects\":%llu}\n",
                  (unsigned long long)info.samples, (unsigned long long)info.tokens, (unsigned long long)info.documents, info.vocab_size,
                  (unsigned long long)s.sample, info.pad, (unsigned long long)info.reconnects);
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

static int connect_to(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_feed_client *f = NULL;
    struct dp_buf b;
    char *token = NULL;
    dp_buf_init(&b, 16 << 10);
    int rc = wants(c, &b, e);
    if (rc >= 0 && o->token_file) rc = dp_secret_read(&token, o->token_file, e);
    struct dp_feed_client_options co = {.addr = o->connect, .wants = b.ptr, .start = (uint64_t)o->start, .slots = (uint64_t)o->slots,
        .meta = o->dump_meta ? DP_FEED_META_ALL & ~(unsigned)DP_FEED_META_POSITIONS : 0, .reconnect_seconds = o->reconnect, .stop = c->stop,
        .compress = (int)o->compress, .token = token, .tls = o->tls, .ca = o->tls_ca, .cert = o->tls_cert, .key = o->tls_key, .host = o->tls_host};
    if (rc >= 0) rc = dp_feed_client_open(&f, &co, e);
    if (rc >= 0) rc = take(f, o, e);
    if (rc >= 0 && !dumps_to_stdout(o)) rc = print_taken(f, e);
    dp_feed_client_close(f);
    dp_buf_release(&b);
    free(token);
    return rc;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_feed *f = NULL;
    struct dp_feed_sources *sources = NULL;
    char *manifest = NULL;
    int rc;
    bool elsewhere = only_files(c);
    if (o->connect && (o->serve || o->manifest)) DP_FAIL(e, USAGE, "feed: --connect takes batches from a server, which has its own data; without --serve and --manifest");
    if (o->connect) return connect_to(c, e);
    if (o->manifest || (elsewhere && !in_workspace(c))) {
        DP_TRY(dp_cli_options(c, e));
        manifest = strdup(o->manifest ? o->manifest : "");
    } else if (elsewhere) {
        DP_TRY(dp_cli_road(c, false, e));
        manifest = strdup("");
    } else DP_TRY(dp_cli_manifest(c, NULL, &manifest, e));
    if (manifest && o->serve) {
        rc = serve(c, manifest, e);
        free(manifest);
        return rc;
    }
    rc = manifest ? dp_feed_sources_open(&sources, &f, c->road_open ? &c->road : NULL, manifest, &c->options.feed, e) : DP_NOMEM;
    if (rc >= 0) rc = draw(c, f, e);
    if (rc >= 0 && !dumps_to_stdout(o)) rc = print_result(f, e);
    dp_feed_close(f);
    dp_feed_sources_close(sources);
    free(manifest);
    return rc;
}

extern const struct dp_command dp_cmd_feed;
const struct dp_command dp_cmd_feed = {.name = "feed", .summary = "draw batches from the shards, as a trainer would", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .sections = "feed", .run = run,
    .about = "Writes rows of T + 1 ids. What comes is a function of shards, options and the sample's number alone: any number of ranks and any restart\n"
             "(--start) give the same global sequence. Domains are sets of documents, mixed by --mixture:\n\n"
             "  dpipe feed --domains web=A/manifest.json,code=B/manifest.json --mixture 'web=0.7,code=0.3; 100000:web=0.2,code=0.8'\n"
             "  dpipe feed -w W --mixture web=0.5,code=0.3,books=0.2     # sources of these names: web.jsonl.zst, code/, ...\n"
             "  dpipe feed -w W --domains 'pages=source:*.warc.gz,notes=source:*.jsonl' --mixture pages=1e,notes=3e --pack bestfit\n\n"
             "Other processes on the machine are served through a socket and a memory ring each, other machines over TCP (docs/formats/feed_wire.md). What a\n"
             "client doesn't say is as the server's; when either side is killed, the client goes on at the exact sample:\n\n"
             "  dpipe feed -w W --serve /run/user/1000/feed.sock\n"
             "  dpipe feed --connect /run/user/1000/feed.sock --seq-len 2048 --rank 1 --world 4 --steps 100 --dump batches.bin\n\n"
             "An address that other machines reach needs a token, or certificates of clients:\n\n"
             "  dpipe feed -w W --serve '*:7070' --token-file token --tls-cert server.pem --tls-key server.key\n"
             "  dpipe feed --connect data.example:7070 --token-file token --tls --tls-ca ca.pem --compress 1 --steps 100 --dump batches.bin\n\n"
             "The order is described in docs/formats/feed_order.md."};

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "daemon/feed_sources.h"
#include "trainer_feed/feed_client.h"
#include "trainer_feed/feed_server.h"

#include <stdlib.h>

struct own {
    char *manifest, *dump, *serve, *connect;
    int64_t steps, start;
    double reconnect;
};
static const struct dp_opt rows[] = {
    {.name = "manifest", .type = DP_OPT_STRING, .offset = offsetof(struct own, manifest), .arg = "FILE", .help = "a manifest outside the workspace"},
    {.name = "dump", .type = DP_OPT_STRING, .offset = offsetof(struct own, dump), .arg = "FILE", .help = "write the batches' ids as little-endian int32 (- is stdout)"},
    {.name = "steps", .type = DP_OPT_INT, .offset = offsetof(struct own, steps), .preset = "1", .min = 0, .max = 1e15, .arg = "K", .help = "batches to draw"},
    {.name = "start", .type = DP_OPT_INT, .offset = offsetof(struct own, start), .preset = "0", .min = 0, .max = 1e18, .arg = "SAMPLE", .help = "the first global sample"},
    {.name = "serve", .type = DP_OPT_STRING, .offset = offsetof(struct own, serve), .arg = "PATH", .help = "serve other processes on this Unix socket until SIGTERM"},
    {.name = "connect", .type = DP_OPT_STRING, .offset = offsetof(struct own, connect), .arg = "PATH", .help = "take the batches from the server on this socket"},
    {.name = "reconnect", .type = DP_OPT_TIME, .offset = offsetof(struct own, reconnect), .preset = "60s", .min = 0, .max = 1e6, .arg = "TIME", .help = "how long to look for a server that is gone"},
    DP_OPT_END,
};

/* Where a dump goes; NULL without one. */
static int dump_open(const struct own *o, FILE **out, struct dp_err *e)
{
    *out = !o->dump ? NULL : strcmp(o->dump, "-") == 0 ? stdout : fopen(o->dump, "wbe");
    if (o->dump && !*out) DP_FAIL_SYS(e, "%s: cannot create", o->dump);
    return DP_OK;
}
static int dump_close(const struct own *o, FILE *out, int rc, struct dp_err *e)
{
    bool bad = out && (out != stdout ? fclose(out) : fflush(out)) != 0;
    return bad && rc >= 0 ? dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: write", o->dump) : rc;
}

static int draw(struct dp_cli *c, struct dp_feed *f, struct dp_err *e)
{
    const struct own *o = c->own;
    const struct dp_feed_options *fo = &c->options.feed;
    size_t n = (size_t)fo->batch * ((size_t)fo->seq_len + 1);
    struct dp_feed_state s;
    dp_feed_state(f, &s);
    s.sample = (uint64_t)o->start;
    DP_TRY(dp_feed_resume(f, &s, e));
    int32_t *ids = malloc(n * sizeof *ids);
    FILE *out = NULL;
    int rc = ids ? dump_open(o, &out, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "batch");
    for (int64_t k = 0; rc >= 0 && k < o->steps; k++) {
        rc = dp_feed_next(f, ids, e);
        if (rc >= 0 && out && fwrite(ids, sizeof *ids, n, out) != n) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: write", o->dump);
    }
    rc = dump_close(o, out, rc, e);
    free(ids);
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

static int serve_open(void *ctx, struct dp_feed **f, void **own, const struct dp_feed_options *o, const struct dp_feed_state *state, struct dp_err *e)
{
    (void)state;
    const struct serving *s = ctx;
    struct dp_feed_sources *sources = NULL;
    int rc = dp_feed_sources_open(&sources, f, s->c->road_open ? &s->c->road : NULL, s->manifest, o, e);
    *own = sources;
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
    struct dp_feed_server_options so = {
        .addr = o->serve, .manifest = manifest, .feed = c->options.feed, .stop = c->stop, .open = serve_open, .close = serve_close, .ctx = &ctx};
    struct dp_feed_server *s;
    DP_TRY(dp_feed_server_open(&s, &so, e));
    if (!c->global.quiet) dp_log(INFO, "feed", "serving %s on %s", *manifest ? manifest : c->options.feed.domains, o->serve);
    int rc = dp_feed_server_run(s, e);
    dp_feed_server_close(s);
    return rc;
}

/* What was said here in flags, for the server to lay over its own options. */
static int connect_to(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_feed_client *f = NULL;
    struct dp_feed_batch b;
    struct dp_buf wants;
    FILE *out = NULL;
    dp_buf_init(&wants, 16 << 10);
    DP_TRY(dp_cli_options(c, e));
    for (size_t i = 0; i < c->flags; i++) {
        if (!c->flag[i].section || strcmp(c->flag[i].section, "feed") != 0) continue;
        dp_buf_printf(&wants, "%s=", c->flag[i].row->name);
        dp_opt_print(c->flag[i].row, &c->options.feed, &wants);
        dp_buf_add_char(&wants, '\n');
    }
    if (c->global.seed >= 0) dp_buf_printf(&wants, "seed=%lld\n", (long long)c->global.seed); /* a flag of every command, not of the section */
    int rc = dp_buf_check(&wants, "options", e);
    struct dp_feed_client_options co = {
        .addr = o->connect, .wants = wants.ptr, .start = (uint64_t)o->start, .reconnect_seconds = o->reconnect, .stop = c->stop};
    if (rc >= 0) rc = dp_feed_client_open(&f, &co, e);
    if (rc >= 0) rc = dump_open(o, &out, e);
    struct dp_feed_client_info info = {0};
    for (int64_t k = 0; rc >= 0 && k < o->steps; k++) {
        dp_feed_client_info(f, &info);
        size_t n = (size_t)info.batch * ((size_t)info.seq_len + 1);
        rc = dp_feed_client_next(f, &b, e);
        if (rc >= 0 && out && fwrite(b.ids, sizeof *b.ids, n, out) != n) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: write", o->dump);
    }
    rc = dump_close(o, out, rc, e);
    if (rc >= 0 && !(o->dump && strcmp(o->dump, "-") == 0)) {
        struct dp_feed_state s;
        dp_feed_client_info(f, &info);
        dp_feed_client_state(f, &s);
        dp_buf_clear(&wants);
        dp_buf_printf(&wants, "{\"samples\":%llu,\"tokens\":%llu,\"documents\":%llu,\"vocab_size\":%u,\"next_sample\":%llu,\"pad\":%d,\"reconnects\":%llu}\n",
                      (unsigned long long)info.samples, (unsigned long long)info.tokens, (unsigned long long)info.documents, info.vocab_size,
                      (unsigned long long)s.sample, info.pad, (unsigned long long)info.reconnects);
        rc = dp_cli_print(&wants, e);
    }
    dp_feed_client_close(f);
    dp_buf_release(&wants);
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
    } else DP_TRY(dp_cli_manifest(c, &manifest, e));
    if (manifest && o->serve) {
        rc = serve(c, manifest, e);
        free(manifest);
        return rc;
    }
    rc = manifest ? dp_feed_sources_open(&sources, &f, c->road_open ? &c->road : NULL, manifest, &c->options.feed, e) : DP_NOMEM;
    if (rc >= 0) rc = draw(c, f, e);
    if (rc >= 0 && !(o->dump && strcmp(o->dump, "-") == 0)) rc = print_result(f, e);
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
             "  dpipe feed -w W --domains 'pages=source:*.warc.gz,notes=source:*.jsonl' --mixture pages=1e,notes=3e --pack bestfit\n\n"
             "Other processes on the machine are served through a socket and a memory ring each (docs/formats/feed_wire.md). What a client doesn't say is as\n"
             "the server's; when either side is killed, the client goes on at the exact sample:\n\n"
             "  dpipe feed -w W --serve /run/user/1000/feed.sock\n"
             "  dpipe feed --connect /run/user/1000/feed.sock --seq-len 2048 --rank 1 --world 4 --steps 100 --dump batches.bin\n\n"
             "The order is described in docs/formats/feed_order.md."};

#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "cli/cli.h"
#include "shards/shard_quarantine.h"
#include "shards/shard_verify.h"

#include <stdlib.h>

struct own {
    bool sha256, quarantine, restore;
};
static const struct dp_opt rows[] = {
    {.name = "sha256", .type = DP_OPT_BOOL, .offset = offsetof(struct own, sha256), .preset = "true", .help = "compare the shards' digests too, not frame checksums alone"},
    {.name = "quarantine", .type = DP_OPT_BOOL, .offset = offsetof(struct own, quarantine), .help = "move damaged files to quarantine/ beside the manifest"},
    {.name = "restore", .type = DP_OPT_BOOL, .offset = offsetof(struct own, restore), .help = "move everything back from quarantine/ first"},
    DP_OPT_END,
};

/* What --quarantine moves: a shard of the manifest, by number, or a file. The first problem of each is kept as the reason. */
struct damaged {
    int64_t shard; /* -1: a file */
    char *name, *what;
};
struct problems {
    struct dp_buf *out;
    bool json, nomem;
    struct damaged *bad;
    size_t n;
};

static void keep(struct problems *k, int64_t shard, const struct dp_verify_problem *p)
{
    if (k->n && k->bad[k->n - 1].shard == shard && strcmp(k->bad[k->n - 1].name, p->shard) == 0) return;
    struct damaged *v = realloc(k->bad, (k->n + 1) * sizeof *v), d = {shard, strdup(p->shard), NULL};
    if (v) k->bad = v;
    size_t len = strlen(p->what) + 64;
    if ((d.what = malloc(len))) {
        if (p->frame >= 0) snprintf(d.what, len, "frame %lld: %s", (long long)p->frame, p->what);
        else snprintf(d.what, len, "%s", p->what);
    }
    if (!v || !d.name || !d.what) {
        k->nomem = true;
        free(d.name);
        free(d.what);
        return;
    }
    v[k->n++] = d;
}

static void print_problem(struct problems *k, const struct dp_verify_problem *p)
{
    if (k->json) {
        struct dp_jsonw w;
        dp_jsonw_init(&w, k->out, 0);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "shard");
        dp_jsonw_cstr(&w, p->shard);
        dp_jsonw_key(&w, "frame");
        dp_jsonw_int(&w, p->frame);
        dp_jsonw_key(&w, "first_id");
        dp_jsonw_uint(&w, p->first_id);
        dp_jsonw_key(&w, "problem");
        dp_jsonw_cstr(&w, p->what);
        dp_jsonw_end(&w, '}');
        dp_buf_add_char(k->out, '\n');
    } else if (p->frame >= 0) dp_buf_printf(k->out, "%s, frame %lld (ids from %llu): %s\n", p->shard, (long long)p->frame, (unsigned long long)p->first_id, p->what);
    else dp_buf_printf(k->out, "%s: %s\n", p->shard, p->what);
}

static void problem(void *ctx, const struct dp_verify_problem *p)
{
    struct problems *k = ctx;
    print_problem(k, p);
    keep(k, (int64_t)p->shard_number, p);
}

static void print_moved(struct problems *k, const char *name, const char *what)
{
    struct dp_jsonw w;
    if (!k->json) {
        dp_buf_printf(k->out, "%s: %s\n", name, what);
        return;
    }
    dp_jsonw_init(&w, k->out, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "file");
    dp_jsonw_cstr(&w, name);
    dp_jsonw_key(&w, "quarantine");
    dp_jsonw_cstr(&w, what);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(k->out, '\n');
}

static void restored(void *ctx, const char *name, const char *why, bool back)
{
    (void)why;
    print_moved(ctx, name, back ? "moved back" : "there again; its damaged copy stays in quarantine/");
}

static void moved(void *ctx, const char *name, const char *why, bool aside)
{
    (void)why;
    (void)aside;
    print_moved(ctx, name, "moved to quarantine/");
}

/* Files whose bytes aren't the manifest's or the catalog's. One that is missing, or stands in two lists, is moved once or not at all. */
static int move_aside(struct problems *k, const char *path, struct dp_err *e)
{
    struct dp_manifest *m = NULL;
    struct dp_err err;
    int rc = DP_OK;
    if (k->nomem) DP_FAIL(e, NOMEM, "verify --quarantine");
    if (dp_manifest_read(&m, path, &err) < 0) m = NULL; /* then it is itself among the damaged, or not there */
    for (size_t i = 0; rc >= 0 && i < k->n; i++) {
        const struct damaged *d = &k->bad[i];
        char *file = dp_manifest_path(path, d->name);
        if (!file) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", d->name);
        else if (d->shard >= 0 && m && (size_t)d->shard < m->count) rc = dp_shard_quarantine_move(m, path, (size_t)d->shard, d->what, moved, k, e);
        else if (d->shard < 0 && dp_fs_exists(file)) {
            rc = dp_shard_quarantine_file(path, d->name, d->what, e);
            if (rc >= 0) moved(k, d->name, d->what, true);
        }
        free(file);
    }
    dp_manifest_free(m);
    return rc;
}

struct artifacts {
    const struct dp_workspace *ws;
    struct problems *problems;
    uint64_t checked, bad;
    struct dp_err *e;
};

/* Everything in store/ but shards, which are checked frame by frame, against the catalog's digests. */
static int check_artifact(void *ctx, const struct dp_artifact *a)
{
    struct artifacts *k = ctx;
    struct dp_err err = {0};
    char hex[DP_HEX256] = "", *path;
    if (strcmp(a->kind, "shard") == 0) return DP_OK;
    if (!(path = dp_workspace_store_path(k->ws, a->name))) DP_FAIL(k->e, NOMEM, "verify");
    int rc = dp_fs_sha256(path, hex, &err);
    free(path);
    k->checked++;
    if (rc >= 0 && strcmp(hex, a->digest) == 0) return DP_OK;
    if (rc == DP_NOMEM) {
        *k->e = err;
        return rc;
    }
    k->bad++;
    struct dp_verify_problem p = {.shard = a->name, .frame = -1, .what = rc < 0 ? err.msg : "its SHA-256 is not the catalog's"};
    print_problem(k->problems, &p);
    keep(k->problems, -1, &p);
    return DP_OK;
}

static void print_totals(struct dp_buf *b, bool json, const struct dp_verify_totals *t, const struct artifacts *k, bool whole)
{
    if (json)
        dp_buf_printf(b, "{\"artifacts\":%llu,\"artifacts_bad\":%llu,\"shards\":%llu,\"bad\":%llu,\"problems\":%llu,\"frames\":%llu,\"tokens\":%llu,\"documents\":%llu}\n",
                      (unsigned long long)k->checked, (unsigned long long)k->bad, (unsigned long long)t->shards, (unsigned long long)t->shards_bad,
                      (unsigned long long)(t->problems + k->bad), (unsigned long long)t->frames, (unsigned long long)t->tokens, (unsigned long long)t->documents);
    else if (whole)
        dp_buf_printf(b, "%llu shards are whole: %llu frames, %llu documents, %llu tokens; %llu other artifacts too\n", (unsigned long long)t->shards,
                      (unsigned long long)t->frames, (unsigned long long)t->documents, (unsigned long long)t->tokens, (unsigned long long)k->checked);
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_verify_totals t = {0};
    struct artifacts all = {.ws = &c->road.ws, .e = e};
    struct dp_pool *pool = NULL;
    struct dp_buf b;
    char *path = NULL;
    int rc = DP_OK;
    dp_buf_init(&b, 256 << 20);
    struct problems ctx = {.out = &b, .json = c->global.json};
    all.problems = &ctx;
    DP_TRY_OUT(dp_cli_manifest(c, c->nargs ? c->args[0] : NULL, &path, e));
    DP_TRY_OUT(dp_pool_open(&pool, (int)c->global.threads, e));
    if (o->restore) DP_TRY_OUT(dp_shard_quarantine_restore(path, restored, &ctx, e));
    rc = dp_verify_manifest(path, pool, o->sha256, problem, &ctx, &t, e);
    if (c->road_open && (rc >= 0 || rc == DP_CORRUPT || rc == DP_NOTFOUND)) {
        struct dp_err err = {0};
        all.e = &err;
        int more = dp_catalog_all(c->road.ws.catalog, check_artifact, &all, &err);
        if (more < 0) {
            *e = err;
            rc = more;
        } else if (rc < 0 || all.bad)
            rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%llu artifacts and %llu of %llu shards are damaged; move their files out of %s (--quarantine does) and `dpipe run` makes them again",
                            (unsigned long long)all.bad, (unsigned long long)t.shards_bad, (unsigned long long)t.shards, c->road.ws.store);
    }
    if (o->quarantine && rc < 0) {
        struct dp_err err;
        int moved = move_aside(&ctx, path, &err);
        if (moved < 0) {
            rc = moved;
            *e = err;
        }
    }
    print_totals(&b, c->global.json, &t, &all, rc >= 0);
    if (b.len) {
        struct dp_err io;
        int pr = dp_cli_print(&b, &io);
        if (pr < 0 && rc >= 0) {
            rc = pr;
            *e = io;
        }
    }
out:
    for (size_t i = 0; i < ctx.n; i++) {
        free(ctx.bad[i].name);
        free(ctx.bad[i].what);
    }
    free(ctx.bad);
    dp_pool_close(pool);
    dp_buf_release(&b);
    free(path);
    return rc;
}

extern const struct dp_command dp_cmd_verify;
const struct dp_command dp_cmd_verify = {.name = "verify", .summary = "check shards and all other artifacts against their checksums", .args = "[MANIFEST]", .rows = rows,
    .own_size = sizeof(struct own), .args_max = 1, .run = run, .about = "Finds any flipped bit and names the file, of a shard the frame too; exit status 65 when something is wrong.\n"
             "A file that is removed from store/, or moved aside, is made again by `dpipe run`, with the same bytes. With MANIFEST: its shards only.\n"
             "--quarantine moves damaged files to the folder quarantine/ beside the manifest, with a list of why; a feed then stops or goes on without them, "
             "`dpipe run` makes them again, and --restore moves back what isn't there again."};

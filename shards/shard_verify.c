/* Shards are checked side by side in windows of 64, each into its own list, and reported in order:
 * what a user reads doesn't depend on the number of threads, and the memory for texts stays bounded
 * however much is broken. */
#include "shards/shard_verify.h"

#include "base/fs.h"
#include "shards/manifest.h"
#include "shards/shard_quarantine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOW = 64 };

struct problem {
    int64_t frame;
    uint64_t first_id;
    int code;
    char what[200];
};
struct result {
    struct problem *list;
    size_t count, cap;
    uint64_t frames, tokens, documents;
    bool nomem;
};
struct job {
    const struct dp_manifest *m;
    const char *path;
    size_t first;
    bool sha256;
    struct result result[WINDOW];
};

static void note(struct result *r, int64_t frame, uint64_t first_id, int code, const char *what)
{
    if (r->count == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 8;
        struct problem *p = realloc(r->list, cap * sizeof *p);
        if (!p) {
            r->nomem = true;
            return;
        }
        r->list = p;
        r->cap = cap;
    }
    struct problem *p = &r->list[r->count++];
    *p = (struct problem){.frame = frame, .first_id = first_id, .code = code};
    snprintf(p->what, sizeof p->what, "%s", what);
}

static void note_frame(void *ctx, uint64_t frame, uint64_t first_id, const char *what)
{
    note(ctx, (int64_t)frame, first_id, DP_CORRUPT, what);
}

static void check_digest(struct result *r, const char *path, const char *want, const char *file)
{
    struct dp_err err;
    char hex[DP_HEX256], what[200];
    int rc = dp_fs_sha256(path, hex, &err);
    if (rc == DP_NOMEM) r->nomem = true;
    if (rc < 0) {
        note(r, -1, 0, rc, err.msg);
    } else if (strcmp(hex, want) != 0) {
        snprintf(what, sizeof what, "SHA-256 of the %s is %.16s..., the manifest says %.16s...",
                 file, hex, want);
        note(r, -1, 0, DP_CORRUPT, what);
    }
}

/* A file of the shard is missing because dpipe verify --quarantine moved it. */
static bool in_quarantine(const char *path, const struct dp_manifest_shard *s)
{
    const char *names[2] = {s->name, s->index};
    bool found = false;
    for (int k = 0; k < 2; k++) {
        char *here = dp_manifest_path(path, names[k]), *there = dp_quarantine_path(path, names[k]);
        found = found || (here && there && !dp_fs_exists(here) && dp_fs_exists(there));
        free(here);
        free(there);
    }
    return found;
}

static void check_shard(void *ctx, size_t i, int worker)
{
    struct job *job = ctx;
    struct result *r = &job->result[i];
    const struct dp_manifest_shard *want = &job->m->shards[job->first + i];
    char *bin = dp_manifest_path(job->path, want->name),
         *dpx = dp_manifest_path(job->path, want->index);
    struct dp_err err;
    struct dp_shard *s = NULL;
    (void)worker;
    if (!bin || !dpx) {
        r->nomem = true;
        goto out;
    }
    int rc = dp_manifest_open_shard(job->m, job->path, job->first + i, &s, &err);
    if (rc == DP_NOMEM) r->nomem = true;
    if (rc < 0 && in_quarantine(job->path, want)) {
        note(r, -1, 0, rc, "in quarantine; `dpipe verify --restore` moves it back");
        goto out;
    }
    if (rc < 0) {
        note(r, -1, 0, rc, err.msg);
        /* Without its side file a body can't be checked by frames, but its digest still tells
         * whether it is whole. */
        if (dp_fs_exists(bin)) check_digest(r, bin, want->sha256, "body");
        goto out;
    }
    r->frames = dp_shard_frames(s);
    r->tokens = dp_shard_tokens(s);
    r->documents = dp_shard_documents(s);
    check_digest(r, dpx, want->index_sha256, "side file");
    dp_shard_verify(s, note_frame, r, &err);
    if (job->sha256) check_digest(r, bin, want->sha256, "body");
out:
    dp_shard_close(s);
    free(bin);
    free(dpx);
}

static void report_window(const struct job *job, size_t n, dp_verify_fn report, void *ctx,
                          struct dp_verify_totals *t)
{
    for (size_t i = 0; i < n; i++) {
        const struct result *r = &job->result[i];
        t->shards++;
        t->shards_bad += r->count != 0;
        t->problems += r->count;
        t->frames += r->frames;
        t->tokens += r->tokens;
        t->documents += r->documents;
        for (size_t k = 0; report && k < r->count; k++) {
            const struct problem *p = &r->list[k];
            report(ctx,
                   &(struct dp_verify_problem){job->m->shards[job->first + i].name, job->first + i,
                                               p->frame, p->first_id, p->code, p->what});
        }
    }
}

int dp_verify_manifest(const char *path, struct dp_pool *pool, bool sha256, dp_verify_fn report,
                       void *ctx, struct dp_verify_totals *totals, struct dp_err *e)
{
    struct dp_verify_totals mine;
    struct dp_manifest *m = NULL;
    struct job *job = NULL;
    int rc = DP_OK;
    if (!totals) totals = &mine;
    *totals = (struct dp_verify_totals){0};
    DP_TRY_OUT(dp_manifest_read(&m, path, e));
    job = calloc(1, sizeof *job);
    if (!job) DP_GOTO(e, NOMEM, "%s: verify", path);
    job->m = m;
    job->path = path;
    job->sha256 = sha256;
    for (job->first = 0; job->first < m->count && rc >= 0; job->first += WINDOW) {
        size_t n = m->count - job->first < WINDOW ? m->count - job->first : WINDOW;
        memset(job->result, 0, sizeof job->result);
        dp_pool_run(pool, n, check_shard, job);
        report_window(job, n, report, ctx, totals);
        bool nomem = false;
        for (size_t i = 0; i < n; i++) {
            nomem = nomem || job->result[i].nomem;
            free(job->result[i].list);
        }
        if (nomem) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s: verify", path);
    }
    if (rc >= 0 && totals->problems)
        DP_GOTO(e, CORRUPT, "%s: %" PRIu64 " problems in %" PRIu64 " of %" PRIu64 " shards", path,
                totals->problems, totals->shards_bad, totals->shards);
out:
    free(job);
    dp_manifest_free(m);
    return rc;
}

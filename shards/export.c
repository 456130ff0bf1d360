/* Common half of the exporters. Into a folder of one's own (export_folder.c) bodies are hard-linked
 * where the bytes agree; files beside others' (dp_export) are always copies. A frame is verified by
 * its CRC just before it is copied or linked, so that no flipped bit leaves with a fresh and
 * valid-looking file. */
#include "shards/export.h"

#include "shards/export_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FRAMES_TRIM = 16, DOCS_TRIM = 1 << 19 }; /* a few MiB */

#define OFF(field) offsetof(struct dp_export_options, field)
const struct dp_opt dp_export_opts[] = {
    {"file_tokens", DP_OPT_INT, OFF(file_tokens), "100000000", 1024, 2147483647, NULL, "N",
     "llmc: ids of one file at most.", 0, 0},
    DP_OPT_END,
};

static const char *const names[] = {"megatron", "llmc", "nanogpt", "datatrove", "olmo", "mds"};

int dp_export_format_parse(const char *name, enum dp_export_format *out, struct dp_err *e)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum dp_export_format)i;
            return DP_OK;
        }
    DP_FAIL(e, USAGE,
            "\"%s\" is no export format; there are megatron, llmc, nanogpt, datatrove, olmo and mds",
            name);
}

int dp_export_file_open(struct dp_export_file *f, const char *prefix, const char *suffix,
                        struct dp_err *e)
{
    size_t n = strlen(prefix) + strlen(suffix) + 32;
    *f = (struct dp_export_file){.tmp = malloc(n), .path = malloc(n)};
    int rc = DP_OK;
    if (!f->tmp || !f->path) DP_GOTO(e, NOMEM, "%s%s", prefix, suffix);
    snprintf(f->path, n, "%s%s", prefix, suffix);
    snprintf(f->tmp, n, "%s%s.tmp%d", prefix, suffix, (int)getpid());
    unlink(f->tmp); /* of a killed process that had our number */
    DP_TRY_OUT(dp_out_open(&f->out, f->tmp, false, e));
out:
    if (rc < 0) dp_export_file_close(f);
    return rc;
}

int dp_export_file_publish(struct dp_export_file *f, struct dp_err *e)
{
    if (f->out) {
        DP_TRY(dp_out_finish(f->out, NULL, e));
        DP_TRY(dp_fs_publish(dp_out_descriptor(f->out), f->tmp, f->path, e));
    } else if (rename(f->tmp, f->path) != 0) DP_FAIL_SYS(e, "%s: cannot rename to %s", f->tmp, f->path);
    free(f->tmp);
    f->tmp = NULL;
    dp_export_file_close(f);
    return DP_OK;
}

void dp_export_file_close(struct dp_export_file *f)
{
    if (f->tmp) unlink(f->tmp);
    dp_out_close(f->out);
    free(f->tmp);
    free(f->path);
    *f = (struct dp_export_file){0};
}

int dp_export_add(struct dp_export_file *f, const void *p, size_t n, struct dp_err *e)
{
    if (!f->buf) return dp_out_add(f->out, p, n, e);
    dp_buf_add(f->buf, p, n);
    return dp_buf_check(f->buf, "export", e);
}

/* Ids of a compressed shard, or of another width than the shard's. */
static int write_converted(const struct dp_shard *s, struct dp_export_file *f, uint64_t first,
                           uint64_t n, int width, struct dp_err *e)
{
    int32_t wide[4096];
    uint16_t narrow[4096];
    while (n) {
        size_t k = n < 4096 ? (size_t)n : 4096;
        DP_TRY(dp_shard_copy_ids(s, first, k, wide, e));
        if (width == 4) DP_TRY(dp_export_add(f, wide, k * 4, e));
        else {
            for (size_t i = 0; i < k; i++) narrow[i] = (uint16_t)wide[i];
            DP_TRY(dp_export_add(f, narrow, k * 2, e));
        }
        first += k;
        n -= k;
    }
    return DP_OK;
}

static int check_frame(const struct dp_export_set *set, size_t s, uint64_t frame, struct dp_err *e)
{
    struct dp_export_cursor *c = set->cursor;
    if (c->checked_shard == s && c->checked_frame == frame + 1) return DP_OK;
    if (frame % FRAMES_TRIM == 0) dp_shard_trim(set->shard[s]);
    int rc = dp_shard_verify_frame(set->shard[s], frame, e);
    if (rc < 0) {
        dp_err_prefix(e, "export stopped: %s", set->m->shards[s].name);
        return rc;
    }
    c->checked_shard = s;
    c->checked_frame = frame + 1;
    return DP_OK;
}

int dp_export_ids(const struct dp_export_set *set, struct dp_export_file *f, uint64_t first,
                  uint64_t n, int width, struct dp_err *e)
{
    struct dp_export_cursor *c = set->cursor;
    if (first < c->start) *c = (struct dp_export_cursor){0};
    while (n && c->shard < set->m->count) {
        const struct dp_shard *shard = set->shard[c->shard];
        const char *flat = dp_shard_ids(shard);
        int own = set->m->meta.dtype;
        while (n && first - c->start < dp_shard_tokens(shard)) {
            uint64_t at = first - c->start, k = DP_SHARD_FRAME_IDS - at % DP_SHARD_FRAME_IDS,
                     left = dp_shard_tokens(shard) - at;
            if (k > left) k = left;
            if (k > n) k = n;
            DP_TRY(check_frame(set, c->shard, at / DP_SHARD_FRAME_IDS, e));
            if (flat && width == own)
                DP_TRY(dp_export_add(f, flat + at * (uint64_t)own, (size_t)k * (size_t)own, e));
            else DP_TRY(write_converted(shard, f, at, k, width, e));
            first += k;
            n -= k;
        }
        if (n) {
            dp_shard_trim(shard);
            c->start += dp_shard_tokens(set->shard[c->shard++]);
        }
    }
    DP_ASSERT(n == 0);
    return DP_OK;
}

/* DP_EMPTY when the file system doesn't link (another one, no permission, too many links). */
static int link_body(const struct dp_export_set *set, struct dp_export_file *f, const char *suffix,
                     struct dp_err *e)
{
    char *from = dp_manifest_path(set->manifest_path, set->m->shards[0].name);
    size_t n = strlen(set->prefix) + strlen(suffix) + 32;
    *f = (struct dp_export_file){.tmp = malloc(n), .path = malloc(n)};
    int rc = DP_EMPTY;
    if (!from || !f->tmp || !f->path) DP_GOTO(e, NOMEM, "%s%s", set->prefix, suffix);
    snprintf(f->path, n, "%s%s", set->prefix, suffix);
    snprintf(f->tmp, n, "%s%s.tmp%d", set->prefix, suffix, (int)getpid());
    for (uint64_t k = 0; k < dp_shard_frames(set->shard[0]); k++)
        DP_TRY_OUT(check_frame(set, 0, k, e));
    rc = link(from, f->tmp) == 0 ? DP_OK : DP_EMPTY;
out:
    free(from);
    if (rc != DP_OK) {
        free(f->tmp);
        free(f->path);
        *f = (struct dp_export_file){0};
    }
    return rc;
}

int dp_export_body(const struct dp_export_set *set, struct dp_export_file *f, const char *suffix,
                   int width, struct dp_err *e)
{
    if (set->link && set->m->count == 1 && !set->m->shards[0].packed &&
        width == set->m->meta.dtype) {
        int rc = link_body(set, f, suffix, e);
        if (rc == DP_OK && set->report) set->report->linked++;
        if (rc != DP_EMPTY) return rc;
    }
    DP_TRY(dp_export_file_open(f, set->prefix, suffix, e));
    return dp_export_ids(set, f, 0, set->m->tokens, width, e);
}

int dp_export_documents(const struct dp_export_set *set, dp_export_doc_fn fn, void *ctx,
                        struct dp_err *e)
{
    uint64_t start = 0;
    for (size_t s = 0; s < set->m->count; s++) {
        const uint64_t *ends = dp_shard_ends(set->shard[s]);
        uint64_t from = 0;
        for (uint64_t d = 0; d < dp_shard_documents(set->shard[s]); from = ends[d++]) {
            DP_TRY(fn(ctx, start + from, ends[d] - from, e));
            if (d % DOCS_TRIM == DOCS_TRIM - 1) dp_shard_trim(set->shard[s]);
        }
        dp_shard_trim(set->shard[s]);
        start += dp_shard_tokens(set->shard[s]);
    }
    return DP_OK;
}

int dp_export_set_open(struct dp_export_set *set, const char *manifest_path, struct dp_err *e)
{
    int rc = DP_OK;
    set->manifest_path = manifest_path;
    DP_TRY(dp_manifest_read(&set->m, manifest_path, e));
    set->shard = calloc(set->m->count + 1, sizeof *set->shard);
    set->cursor = calloc(1, sizeof *set->cursor);
    if (!set->shard || !set->cursor)
        DP_GOTO(e, NOMEM, "%s: %zu shards", manifest_path, set->m->count);
    if (!set->m->tokens) DP_GOTO(e, CONFIG, "%s has no ids: nothing to export", manifest_path);
    for (size_t i = 0; i < set->m->count; i++)
        DP_TRY_OUT(dp_manifest_open_shard(set->m, manifest_path, i, &set->shard[i], e));
out:
    if (rc < 0) dp_export_set_close(set);
    return rc;
}

void dp_export_set_close(struct dp_export_set *set)
{
    for (size_t i = 0; set->shard && i < set->m->count; i++) dp_shard_close(set->shard[i]);
    free(set->shard);
    free(set->cursor);
    dp_manifest_free(set->m);
    set->shard = NULL;
    set->cursor = NULL;
    set->m = NULL;
}

int dp_export(enum dp_export_format format, const char *manifest_path, const char *out,
              const struct dp_export_options *o, struct dp_err *e)
{
    static int (*const fn[])(const struct dp_export_set *, struct dp_err *) = {
        dp_export_megatron, dp_export_llmc, dp_export_nanogpt, dp_export_datatrove, dp_export_olmo};
    struct dp_export_set set = {.prefix = out, .file_tokens = 100000000};
    if (format == DP_EXPORT_MDS)
        DP_FAIL(e, USAGE, "mds is a folder: `dpipe export-shards --format mds -o DIR`");
    if ((size_t)format >= sizeof fn / sizeof *fn)
        DP_FAIL(e, USAGE, "export format %d", (int)format);
    if (o) {
        if (o->file_tokens < 1024 || o->file_tokens > INT32_MAX)
            DP_FAIL(e, CONFIG, "file_tokens %" PRId64 " is outside 1024 to 2147483647",
                    o->file_tokens);
        set.file_tokens = (uint64_t)o->file_tokens;
    }
    DP_TRY(dp_export_set_open(&set, manifest_path, e));
    int rc = fn[format](&set, e);
    dp_export_set_close(&set);
    return rc;
}

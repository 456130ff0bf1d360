/* Common half of the exporters. Bodies are copied, not hard-linked: a link needs one shard and one
 * file system, and a shared inode lets another tool's write reach into the store. Copying runs at
 * the disk's speed. A frame is verified by its CRC just before it is copied, so that no flipped bit
 * leaves with a fresh and valid-looking file. */
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

static const char *const names[] = {"megatron", "llmc", "nanogpt", "datatrove", "olmo"};

int dp_export_format_parse(const char *name, enum dp_export_format *out, struct dp_err *e)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum dp_export_format)i;
            return DP_OK;
        }
    DP_FAIL(e, USAGE,
            "\"%s\" is no export format; there are megatron, llmc, nanogpt, datatrove and olmo",
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
    DP_TRY(dp_out_finish(f->out, NULL, e));
    DP_TRY(dp_fs_publish(dp_out_descriptor(f->out), f->tmp, f->path, e));
    free(f->tmp);
    f->tmp = NULL;
    dp_export_file_close(f);
    return DP_OK;
}

void dp_export_file_close(struct dp_export_file *f)
{
    if (f->out && f->tmp) unlink(f->tmp);
    dp_out_close(f->out);
    free(f->tmp);
    free(f->path);
    *f = (struct dp_export_file){0};
}

static int write_widened(struct dp_export_file *f, const uint16_t *ids, uint64_t n,
                         struct dp_err *e)
{
    uint32_t wide[4096];
    while (n) {
        size_t k = n < 4096 ? (size_t)n : 4096;
        for (size_t i = 0; i < k; i++) wide[i] = ids[i];
        DP_TRY(dp_out_add(f->out, wide, k * 4, e));
        ids += k;
        n -= k;
    }
    return DP_OK;
}

int dp_export_ids(const struct dp_export_set *set, struct dp_export_file *f, uint64_t first,
                  uint64_t n, int width, struct dp_err *e)
{
    uint64_t start = 0;
    for (size_t s = 0; s < set->m->count && n; start += dp_shard_tokens(set->shard[s]), s++) {
        const struct dp_shard *shard = set->shard[s];
        int own = set->m->meta.dtype;
        while (n && first - start < dp_shard_tokens(shard)) {
            uint64_t at = first - start, k = DP_SHARD_FRAME_IDS - at % DP_SHARD_FRAME_IDS,
                     left = dp_shard_tokens(shard) - at;
            if (k > left) k = left;
            if (k > n) k = n;
            if (dp_shard_verify_frame(shard, at / DP_SHARD_FRAME_IDS, e) < 0)
                return dp_err_prefix(e, "export stopped: %s", set->m->shards[s].name);
            const char *p = (const char *)dp_shard_ids(shard) + at * (uint64_t)own;
            if (width == own) DP_TRY(dp_out_add(f->out, p, (size_t)k * (size_t)own, e));
            else DP_TRY(write_widened(f, (const void *)p, k, e));
            first += k;
            n -= k;
            if ((at / DP_SHARD_FRAME_IDS) % FRAMES_TRIM == 0) dp_shard_trim(shard);
        }
        dp_shard_trim(shard);
    }
    DP_ASSERT(n == 0);
    return DP_OK;
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

int dp_export(enum dp_export_format format, const char *manifest_path, const char *out,
              const struct dp_export_options *o, struct dp_err *e)
{
    static int (*const fn[])(const struct dp_export_set *, struct dp_err *) = {
        dp_export_megatron, dp_export_llmc, dp_export_nanogpt, dp_export_datatrove, dp_export_olmo};
    struct dp_export_set set = {
        .manifest_path = manifest_path, .prefix = out, .file_tokens = 100000000};
    int rc = DP_OK;
    if ((size_t)format >= sizeof fn / sizeof *fn)
        DP_FAIL(e, USAGE, "export format %d", (int)format);
    if (o) {
        if (o->file_tokens < 1024 || o->file_tokens > INT32_MAX)
            DP_FAIL(e, CONFIG, "file_tokens %" PRId64 " is outside 1024 to 2147483647",
                    o->file_tokens);
        set.file_tokens = (uint64_t)o->file_tokens;
    }
    DP_TRY(dp_manifest_read(&set.m, manifest_path, e));
    set.shard = calloc(set.m->count + 1, sizeof *set.shard);
    if (!set.shard) DP_GOTO(e, NOMEM, "%s: %zu shards", manifest_path, set.m->count);
    if (!set.m->tokens) DP_GOTO(e, CONFIG, "%s has no ids: nothing to export", manifest_path);
    for (size_t i = 0; i < set.m->count; i++)
        DP_TRY_OUT(dp_manifest_open_shard(set.m, manifest_path, i, &set.shard[i], e));
    DP_TRY_OUT(fn[format](&set, e));
out:
    for (size_t i = 0; set.shard && i < set.m->count; i++) dp_shard_close(set.shard[i]);
    free(set.shard);
    dp_manifest_free(set.m);
    return rc;
}

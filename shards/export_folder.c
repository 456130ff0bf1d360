/* Exports as whole folders (base/out_folder.h): all the files of a format. */
#include "shards/export_file.h"

#include "base/json.h"
#include "base/out_folder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct receipt {
    const struct dp_export_set *set;
    const char *format;
};

static void receipt_facts(struct dp_jsonw *w, const void *ctx)
{
    const struct receipt *r = ctx;
    char hex[DP_HEX128];
    dp_hash128_hex(r->set->m->hash, hex);
    dp_jsonw_member(w, "format", r->format);
    dp_jsonw_member(w, "manifest", hex);
    dp_jsonw_member_uint(w, "tokens", r->set->m->tokens);
    dp_jsonw_member_uint(w, "documents", r->set->m->documents);
}

/* A set of files for each shard, from a set of that shard alone. */
static int each_shard(const struct dp_export_set *set, int (*fn)(const struct dp_export_set *, struct dp_err *),
                      const char *prefix, struct dp_err *e)
{
    size_t n = strlen(prefix) + 16;
    char *p = malloc(n);
    int rc = p ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "export");
    for (size_t i = 0; rc >= 0 && i < set->m->count; i++) {
        struct dp_manifest one = *set->m;
        struct dp_export_cursor cursor = {0};
        struct dp_export_set part = *set;
        if (!set->m->shards[i].tokens) continue;
        one.shards = set->m->shards + i;
        one.count = 1;
        one.tokens = one.shards->tokens;
        one.documents = one.shards->documents;
        part.m = &one;
        part.shard = set->shard + i;
        part.cursor = &cursor;
        part.prefix = p;
        snprintf(p, n, "%s_%05zu", prefix, i);
        rc = fn(&part, e);
    }
    free(p);
    return rc;
}

static int make(enum dp_export_format format, struct dp_export_set *set, const char *tmp, bool merge,
                struct dp_err *e)
{
    static int (*const fn[])(const struct dp_export_set *, struct dp_err *) = {
        dp_export_megatron, dp_export_llmc, dp_export_nanogpt,
        dp_export_datatrove, dp_export_olmo, dp_export_mds};
    bool parts = format == DP_EXPORT_MEGATRON || format == DP_EXPORT_DATATROVE || format == DP_EXPORT_OLMO;
    char *prefix = format == DP_EXPORT_MDS ? strdup(tmp) : dp_fs_join(tmp, format == DP_EXPORT_NANOGPT ? "train" : "tokens");
    if (!prefix) DP_FAIL(e, NOMEM, "%s", tmp);
    set->prefix = prefix;
    int rc = parts && !merge && set->m->count > 1 ? each_shard(set, fn[format], prefix, e) : fn[format](set, e);
    set->prefix = NULL;
    free(prefix);
    return rc;
}

int dp_export_folder(enum dp_export_format format, const char *manifest_path, const char *dir,
                     const struct dp_export_folder_options *o, struct dp_export_report *report,
                     struct dp_err *e)
{
    static const struct dp_export_folder_options presets = {.link = true, .file_tokens = 100000000, .mds_bytes = 1 << 26};
    static const char *const names[] = {"megatron", "llmc", "nanogpt", "datatrove", "olmo", "mds"};
    struct dp_export_report mine;
    struct dp_export_set set = {0};
    struct dp_out_folder d = DP_OUT_FOLDER_INIT;
    int rc = DP_OK;
    if (!o) o = &presets;
    if (!report) report = &mine;
    *report = (struct dp_export_report){0};
    if ((size_t)format >= sizeof names / sizeof *names) DP_FAIL(e, USAGE, "export format %d", (int)format);
    if (o->file_tokens < 1024 || o->file_tokens > INT32_MAX)
        DP_FAIL(e, CONFIG, "file_tokens %" PRId64 " is outside 1024 to 2147483647", o->file_tokens);
    if (o->mds_bytes < 1024 || o->mds_bytes > UINT32_MAX / 2)
        DP_FAIL(e, CONFIG, "mds_bytes %" PRIu64 " is outside 1024 to 2147483647", o->mds_bytes);
    set.file_tokens = (uint64_t)o->file_tokens;
    set.link = o->link;
    set.report = report;
    set.mds_bytes = o->mds_bytes;
    set.mds_zstd = o->mds_zstd;
    DP_TRY(dp_export_set_open(&set, manifest_path, e));
    report->tokens = set.m->tokens;
    report->documents = set.m->documents;
    DP_TRY_OUT(dp_out_folder_open(&d, dir, e));
    DP_TRY_OUT(make(format, &set, d.tmp, o->merge, e));
    DP_TRY_OUT(dp_out_folder_receipt(&d, receipt_facts, &(struct receipt){&set, names[format]}, e));
    report->files += d.files;
    report->bytes += d.bytes;
    DP_TRY_OUT(dp_out_folder_publish(&d, e));
out:
    dp_out_folder_close(&d, rc < 0);
    dp_export_set_close(&set);
    return rc;
}

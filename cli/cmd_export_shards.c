/* export-shards: the data set as a folder in another trainer's format, there at once or not at all. */
#include "base/log.h"
#include "cli/cli.h"
#include "shards/export.h"

#include <stdlib.h>

struct own {
    char *format, *output, *manifest;
    struct dp_export_folder_options folder;
};
#define O(f) offsetof(struct own, f)
static const struct dp_opt rows[] = {
    {.name = "format", .letter = 'f', .type = DP_OPT_STRING, .offset = O(format), .arg = "NAME", .help = "megatron, llmc, nanogpt, datatrove, olmo or mds"},
    {.name = "output", .letter = 'o', .type = DP_OPT_STRING, .offset = O(output), .arg = "DIR", .help = "the folder: new, empty, or an export to replace"},
    {.name = "manifest", .type = DP_OPT_STRING, .offset = O(manifest), .arg = "FILE", .help = "a manifest outside the workspace"},
    {.name = "link", .type = DP_OPT_BOOL, .offset = O(folder.link), .preset = "true",
     .help = "hard-link a shard whose bytes are the format's (writing into the export then changes the shard); --no-link copies"},
    {.name = "merge", .type = DP_OPT_BOOL, .offset = O(folder.merge), .help = "megatron, datatrove, olmo: one body for all shards, not one each"},
    {.name = "file_tokens", .type = DP_OPT_INT, .offset = O(folder.file_tokens), .preset = "100000000", .min = 1024, .max = 2147483647, .arg = "N",
     .help = "llmc: ids of one file at most"},
    {.name = "mds_bytes", .type = DP_OPT_SIZE, .offset = O(folder.mds_bytes), .preset = "64M", .min = 1024, .max = 2147483647, .arg = "SIZE",
     .help = "mds: bytes of one shard at most"},
    {.name = "mds_zstd", .type = DP_OPT_BOOL, .offset = O(folder.mds_zstd), .help = "mds: compress the shards"},
    DP_OPT_END,
};

static int run(struct dp_cli *c, struct dp_err *e)
{
    struct own *o = c->own;
    enum dp_export_format format;
    struct dp_export_report r;
    char *manifest = NULL;
    if (!o->format) DP_FAIL(e, USAGE, "export-shards: which format? add --format megatron, llmc, nanogpt, datatrove, olmo or mds");
    if (!o->output) DP_FAIL(e, USAGE, "export-shards: where to? add -o DIR");
    DP_TRY(dp_export_format_parse(o->format, &format, e));
    DP_TRY(dp_cli_manifest(c, o->manifest, &manifest, e));
    int rc = dp_export_folder(format, manifest, o->output, &o->folder, &r, e);
    free(manifest);
    DP_TRY(rc);
    if (!c->global.json)
        dp_log(INFO, "export", "%s: %llu %s files of %llu bytes, %llu of them hard links to shards", o->output, (unsigned long long)r.files, o->format,
               (unsigned long long)r.bytes, (unsigned long long)r.linked);
    return DP_SAY(c, e, {"format", o->format, 0}, {"output", o->output, 0}, {"files", NULL, r.files}, {"linked", NULL, r.linked}, {"bytes", NULL, r.bytes},
                  {"tokens", NULL, r.tokens}, {"documents", NULL, r.documents});
}

extern const struct dp_command dp_cmd_export_shards;
const struct dp_command dp_cmd_export_shards = {.name = "export-shards", .summary = "shards as a folder in another trainer's format", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .run = run,
    .about = "Megatron .bin/.idx, llm.c .bin, nanoGPT train.bin, OLMo .npy and .csv.gz, datatrove .ds, MosaicML MDS. The folder appears complete or not at "
             "all; bodies are hard links to the shards where the bytes agree and the file system allows."};

#include "base/fs.h"
#include "base/log.h"
#include "cli/cli.h"
#include "shards/export.h"

#include <stdlib.h>

struct own {
    char *format, *output, *manifest;
    struct dp_export_options export;
};
static const struct dp_opt rows[] = {
    {.name = "format", .letter = 'f', .type = DP_OPT_STRING, .offset = offsetof(struct own, format), .preset = "megatron", .arg = "NAME",
     .help = "megatron, llmc, nanogpt, datatrove or olmo"},
    {.name = "output", .letter = 'o', .type = DP_OPT_STRING, .offset = offsetof(struct own, output), .arg = "DIR", .help = "the folder to write into"},
    {.name = "manifest", .type = DP_OPT_STRING, .offset = offsetof(struct own, manifest), .arg = "FILE", .help = "a manifest outside the workspace"},
    DP_OPT_END,
};

static int run(struct dp_cli *c, struct dp_err *e)
{
    struct own *o = c->own;
    enum dp_export_format format;
    char *manifest = NULL, *prefix = NULL;
    int rc;
    if (!o->output) DP_FAIL(e, USAGE, "export: where to? add -o DIR");
    DP_TRY(dp_export_format_parse(o->format, &format, e));
    DP_TRY(dp_opt_defaults(dp_export_opts, &o->export, e));
    DP_TRY(dp_cli_manifest(c, o->manifest, &manifest, e));
    prefix = dp_fs_join(o->output, "tokens");
    rc = prefix ? dp_fs_mkdirs(o->output, e) : DP_NOMEM;
    if (rc >= 0) rc = dp_export(format, manifest, prefix, &o->export, e);
    if (rc >= 0) dp_log(INFO, "export", "wrote %s files, %s.*", o->format, prefix);
    if (rc >= 0) rc = DP_SAY(c, e, {"format", o->format, 0}, {"files", prefix, 0});
    free(manifest);
    free(prefix);
    return rc;
}

extern const struct dp_command dp_cmd_export;
const struct dp_command dp_cmd_export = {.name = "export", .summary = "all shards as one set of files in another trainer's format", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .run = run, .about = "Megatron .bin/.idx, llm.c .bin, nanoGPT .bin, datatrove .ds, OLMo .npy."};

#include "base/fs.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/model_export.h"
#include "shards/export.h"

#include <stdlib.h>

struct own {
    char *format, *output, *manifest;
    struct dp_export_options export;
    struct dp_model_export model;
};
static const struct dp_opt rows[] = {
    {.name = "format", .letter = 'f', .type = DP_OPT_STRING, .offset = offsetof(struct own, format), .preset = "megatron", .arg = "NAME",
     .help = "of shards: megatron, llmc, nanogpt, datatrove or olmo; of the model: hf or gguf"},
    {.name = "output", .letter = 'o', .type = DP_OPT_STRING, .offset = offsetof(struct own, output), .arg = "DIR", .help = "the folder to write into"},
    DP_MODEL_FILES_ROWS(struct own, model.in),
    {.name = "dtype", .type = DP_OPT_CHOICE, .offset = offsetof(struct own, model.dtype), .preset = "f32", .choices = "f32|f16|bf16", .help = "hf, gguf: the type of the weights"},
    {.name = "name", .type = DP_OPT_STRING, .offset = offsetof(struct own, model.name), .arg = "TEXT", .help = "gguf: what the model is called; default: as the output"},
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
    if (strcmp(o->format, "hf") == 0 || strcmp(o->format, "gguf") == 0) return dp_cli_export_model(c, &o->model, o->format[0] == 'g', o->output, e);
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
const struct dp_command dp_cmd_export = {.name = "export", .summary = "all shards, or the model, in the format of other software", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .run = run, .about = "All shards as one set of files: Megatron .bin/.idx, llm.c .bin, nanoGPT .bin, datatrove .ds, OLMo .npy.\n"
             "The model (the workspace's, or --model with --tokenizer): hf, a folder that transformers' AutoModelForCausalLM and AutoTokenizer load;\n"
             "gguf, which llama.cpp loads: a file where the output's name ends in .gguf, else model.gguf in a folder. docs/models.md."};

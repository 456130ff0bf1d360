#include "cli/cli.h"

struct own {
    bool register_only, forget;
};
static const struct dp_opt rows[] = {
    {.name = "register_only", .type = DP_OPT_BOOL, .offset = offsetof(struct own, register_only), .help = "note the sources and their digests, read nothing yet"},
    {.name = "forget", .type = DP_OPT_BOOL, .offset = offsetof(struct own, forget), .help = "take SRC off the registered sources; its documents leave the corpus"},
    DP_OPT_END,
};

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    struct dp_road_sources found = {0};
    if (o->forget && !c->nargs) DP_FAIL(e, USAGE, "dpipe ingest --forget wants the SRC to forget");
    DP_TRY(dp_cli_road(c, true, e));
    if (o->forget) DP_TRY(dp_road_forget(&c->road, c->args, c->nargs, e));
    else DP_TRY(dp_road_register(&c->road, c->args, c->nargs, &found, e));
    if (!o->register_only) DP_TRY(dp_road_plan(&c->road, true, e));
    if (!o->register_only && !o->forget) DP_TRY(dp_road_run(&c->road, DP_STEP_INGEST, e));
    return DP_SAY(c, e, {"files", NULL, found.files}, {"bytes", NULL, found.bytes}, {"new", NULL, found.fresh}, {"skipped", NULL, found.skipped},
                  {"units_made", NULL, c->road.made}, {"units_up_to_date", NULL, c->road.found});
}

extern const struct dp_command dp_cmd_ingest;
const struct dp_command dp_cmd_ingest = {.name = "ingest", .summary = "register sources and read what they hold", .args = "SRC...", .rows = rows,
    .own_size = sizeof(struct own), .sections = "ingest workers", .args_min = 0, .args_max = -1, .run = run,
    .about = "SRC is a file, an archive or a folder: HTML, text, Markdown, JSONL, WARC, in any nesting of tar, zip, 7z, ar/.deb, cpio, iso and gzip,\n"
             "bzip2, xz, zstd, lz4. Without SRC the sources that are known are looked at again. Damage is reported with path and offset, and the rest is read."};

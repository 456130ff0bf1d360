#include "cli/cli.h"

struct own {
    bool register_only;
};
static const struct dp_opt rows[] = {
    {.name = "register_only", .type = DP_OPT_BOOL, .offset = offsetof(struct own, register_only), .help = "note the sources and their digests, read nothing yet"},
    DP_OPT_END,
};

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    DP_TRY(dp_cli_road(c, true, e));
    DP_TRY(dp_road_register(&c->road, c->args, c->nargs, true, e));
    if (o->register_only) return DP_OK;
    DP_TRY(dp_road_plan(&c->road, true, e));
    return dp_road_run(&c->road, DP_STEP_INGEST, e);
}

extern const struct dp_command dp_cmd_ingest;
const struct dp_command dp_cmd_ingest = {.name = "ingest", .summary = "register sources and read what they hold", .args = "SRC...", .rows = rows,
    .own_size = sizeof(struct own), .sections = "ingest workers", .args_min = 0, .args_max = -1, .run = run,
    .about = "SRC is a file, an archive or a folder: HTML, text, Markdown, JSONL, WARC, in any nesting of tar, zip, 7z, ar/.deb, cpio, iso and gzip,\n"
             "bzip2, xz, zstd, lz4. Without SRC the sources that are known are looked at again. Damage is reported with path and offset, and the rest is read."};

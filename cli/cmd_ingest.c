#include "base/json.h"
#include "cli/cli.h"

struct own {
    bool register_only, forget;
};
static const struct dp_opt rows[] = {
    {.name = "register_only", .type = DP_OPT_BOOL, .offset = offsetof(struct own, register_only), .help = "note the sources and their digests, read nothing yet"},
    {.name = "forget", .type = DP_OPT_BOOL, .offset = offsetof(struct own, forget), .help = "take SRC off the registered sources; its documents leave the corpus"},
    DP_OPT_END,
};

static int report(struct dp_cli *c, const struct dp_road_sources *s, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    const char *const names[] = {"files", "bytes", "new", "skipped", "units_made", "units_up_to_date"};
    const uint64_t values[] = {s->files, s->bytes, s->fresh, s->skipped, c->road.made, c->road.found};
    if (!c->global.json) return DP_OK;
    dp_buf_init(&b, 4096);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        dp_jsonw_key(&w, names[i]);
        dp_jsonw_uint(&w, values[i]);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

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
    return report(c, &found, e);
}

extern const struct dp_command dp_cmd_ingest;
const struct dp_command dp_cmd_ingest = {.name = "ingest", .summary = "register sources and read what they hold", .args = "SRC...", .rows = rows,
    .own_size = sizeof(struct own), .sections = "ingest workers", .args_min = 0, .args_max = -1, .run = run,
    .about = "SRC is a file, an archive or a folder: HTML, text, Markdown, JSONL, WARC, in any nesting of tar, zip, 7z, ar/.deb, cpio, iso and gzip,\n"
             "bzip2, xz, zstd, lz4. Without SRC the sources that are known are looked at again. Damage is reported with path and offset, and the rest is read."};

#include "base/fs.h"
#include "base/log.h"
#include "cli/cli.h"

#include <stdlib.h>

static int run(struct dp_cli *c, struct dp_err *e)
{
    const char *dir = c->nargs ? c->args[0] : c->global.workspace;
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    dp_recipe_template(c->options.section, c->options.sections, &b);
    int rc = dp_buf_check(&b, "recipe.yaml", e);
    if (rc >= 0) rc = dp_workspace_init(dir, dp_buf_span(&b), e);
    dp_buf_release(&b);
    if (rc == DP_EMPTY) dp_log(INFO, "init", "%s is a workspace already; its recipe.yaml stays as it is", dir);
    else if (rc == DP_OK) dp_log(INFO, "init", "made %s; list sources in %s/recipe.yaml, or: dpipe ingest -w %s PATH", dir, dir, dir);
    return rc < 0 ? rc : DP_SAY(c, e, {"workspace", dir, 0}, {"recipe", rc == DP_EMPTY ? "kept" : "made", 0});
}

extern const struct dp_command dp_cmd_init;
const struct dp_command dp_cmd_init = {.name = "init", .summary = "make a workspace with a commented recipe", .args = "[DIR]", .args_max = 1, .run = run,
    .about = "Makes DIR (default: the folder of -w) with recipe.yaml, store/ and tmp/. An existing recipe is left as it is."};

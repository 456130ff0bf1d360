/* check-config: everything that is wrong with a recipe, or with this machine for it. */
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "daemon/check.h"
#include "daemon/serve.h"

#include <stdlib.h>

struct own {
    char *recipe;
    bool strict, recipe_only;
};
static const struct dp_opt rows[] = {
    {.name = "recipe", .type = DP_OPT_STRING, .offset = offsetof(struct own, recipe), .arg = "FILE", .help = "this recipe, instead of the workspace's"},
    {.name = "strict", .type = DP_OPT_BOOL, .offset = offsetof(struct own, strict), .help = "warnings count as errors"},
    {.name = "recipe_only", .type = DP_OPT_BOOL, .offset = offsetof(struct own, recipe_only), .help = "leave the machine out: what a reload looks at"},
    DP_OPT_END,
};

static void print_text(const struct dp_check *k, bool machine, struct dp_buf *out)
{
    for (size_t i = 0; i < k->n; i++) {
        const struct dp_problem *p = &k->problem[i];
        if (p->line) dp_buf_printf(out, "%s:%zu: ", p->file, p->line);
        else if (p->file[0]) dp_buf_printf(out, "%s: ", p->file);
        dp_buf_printf(out, "%s: %s\n", p->warning ? "warning" : "error", p->text);
    }
    if (machine)
        dp_buf_printf(out, "sources: %zu; worker processes: %s; patterns: %s; %.1f MB free\n", k->sources, k->sandbox, k->jit ? "compiled (JIT)" : "interpreted",
                      (double)k->disk_free / 1e6);
    if (!k->n) dp_buf_printf(out, "%s: nothing is wrong\n", k->recipe);
}

static void print_json(const struct dp_check *k, bool machine, struct dp_buf *out)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, out, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "ok");
    dp_jsonw_bool(&w, k->errors == 0);
    dp_jsonw_key(&w, "recipe");
    dp_jsonw_cstr(&w, k->recipe);
    dp_jsonw_key(&w, "problems");
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < k->n; i++) {
        const struct dp_problem *p = &k->problem[i];
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "severity");
        dp_jsonw_cstr(&w, p->warning ? "warning" : "error");
        if (p->file[0]) dp_jsonw_key(&w, "file"), dp_jsonw_cstr(&w, p->file);
        if (p->line) dp_jsonw_key(&w, "line"), dp_jsonw_uint(&w, p->line);
        dp_jsonw_key(&w, "text");
        dp_jsonw_cstr(&w, p->text);
        dp_jsonw_end(&w, '}');
    }
    dp_jsonw_end(&w, ']');
    if (machine) {
        dp_jsonw_key(&w, "sources");
        dp_jsonw_uint(&w, k->sources);
        dp_jsonw_key(&w, "sandbox");
        dp_jsonw_cstr(&w, k->sandbox);
        dp_jsonw_key(&w, "jit");
        dp_jsonw_bool(&w, k->jit);
        dp_jsonw_key(&w, "disk_free");
        dp_jsonw_uint(&w, k->disk_free);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(out, '\n');
}

/* Relative sources of a recipe begin at the workspace; of a lone recipe, where it lies. */
static int places(struct dp_cli *c, char **recipe, char **dir, struct dp_err *e)
{
    const struct own *o = c->own;
    char *in = dp_fs_join(c->global.workspace, "recipe.yaml");
    bool workspace = in && dp_fs_exists(in);
    *recipe = o->recipe ? strdup(o->recipe) : in ? strdup(in) : NULL;
    free(in);
    if (!o->recipe && !workspace) DP_FAIL(e, CONFIG, "%s is no workspace (no recipe.yaml in it); -w takes a workspace, --recipe a file", c->global.workspace);
    const char *slash = *recipe ? strrchr(*recipe, '/') : NULL;
    *dir = workspace || !slash ? strdup(workspace ? c->global.workspace : ".") : strndup(*recipe, (size_t)(slash - *recipe + (slash == *recipe)));
    if (!*recipe || !*dir) DP_FAIL(e, NOMEM, "check-config");
    return DP_OK;
}

static int check(struct dp_cli *c, struct dp_check *k, struct dp_buf *out, struct dp_err *e)
{
    const struct own *o = c->own;
    DP_TRY(dp_serve_defaults(k->options, e));
    DP_TRY(dp_check_recipe(k, e));
    if (!o->recipe_only) DP_TRY(dp_check_machine(k, e));
    if (c->global.json) print_json(k, !o->recipe_only, out);
    else if (k->n || !c->global.quiet) print_text(k, !o->recipe_only, out);
    DP_TRY(dp_cli_print(out, e));
    if (k->errors || (o->strict && k->n)) DP_FAIL(e, CONFIG, "%zu problem%s found", k->n, k->n == 1 ? "" : "s");
    return DP_OK;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    char *recipe = NULL, *dir = NULL;
    struct dp_options *o = calloc(1, sizeof *o);
    struct dp_buf out;
    dp_buf_init(&out, 1 << 20);
    int rc = o ? places(c, &recipe, &dir, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "check-config");
    struct dp_check k = {.recipe = recipe, .dir = dir, .apply = dp_cli_apply, .ctx = c, .options = o};
    if (rc >= 0) rc = check(c, &k, &out, e);
    dp_check_release(&k);
    if (o) dp_options_release(o);
    free(o);
    free(recipe);
    free(dir);
    dp_buf_release(&out);
    return rc;
}

extern const struct dp_command dp_cmd_check_config;
const struct dp_command dp_cmd_check_config = {.name = "check-config", .summary = "is the recipe valid, and the machine ready for it?", .args = "", .rows = rows,
    .own_size = sizeof(struct own), .sections = "serve ingest clean. dedup dedup. tokenizer train-bpe shards feed train workers", .args_max = 0, .run = run,
    .about = "Lists every problem with its place (FILE:LINE) and exits with 78; with 0 when there are none but warnings. Looked at are the recipe (keys, ranges,\n"
             "patterns, languages, times, the tokenizer file) and the machine: sources, addresses, token and certificate, disk space, what shuts worker\n"
             "processes in, PCRE2's JIT. A service refuses a recipe with problems of the first kind by itself, at its start and at `dpipe reload`;\n"
             "with those of the second it starts and waits, or says so."};

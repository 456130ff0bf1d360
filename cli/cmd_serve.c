/* serve: the long-running service. Everything of it is in daemon/serve.c; here is where systemd's folders come in. */
#include "base/fs.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/cli.h"
#include "daemon/serve.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char *first_directory(const char *variable)
{
    const char *list = getenv(variable);
    return list && *list == '/' ? strndup(list, strcspn(list, ":")) : NULL;
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Under systemd the workspace is the service's state folder; its recipe is the administrator's, or at first the defaults. */
static int make_workspace(struct dp_cli *c, const char *dir, struct dp_err *e)
{
    char *etc = first_directory("CONFIGURATION_DIRECTORY"), *conf = etc ? dp_fs_join(etc, "recipe.yaml") : NULL, *recipe = dp_fs_join(dir, "recipe.yaml");
    int rc = recipe ? DP_OK : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", dir);
    if (rc >= 0 && conf && dp_fs_exists(conf) && access(recipe, F_OK) != 0) {
        unlink(recipe); /* a link that leads nowhere */
        if (symlink(conf, recipe) != 0) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: cannot link to %s", recipe, conf);
    }
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    dp_recipe_template(c->options.section, c->options.sections, &b);
    if (rc >= 0) rc = dp_workspace_init(dir, dp_buf_span(&b), e);
    dp_buf_release(&b);
    free(etc);
    free(conf);
    free(recipe);
    return rc < 0 ? rc : DP_OK;
}

static int run(struct dp_cli *c, struct dp_err *e)
{
    char *state = first_directory("STATE_DIRECTORY");
    const char *dir = c->global.workspace;
    int rc = DP_OK;
    if (state && strcmp(dir, ".") == 0) dir = state;
    if (rc >= 0 && state && same_folder(dir, state)) rc = make_workspace(c, dir, e);
    if (rc >= 0) {
        struct dp_serve_config s = {.dir = dir, .threads = (int)c->global.threads, .memory = c->global.memory, .apply = dp_cli_apply, .ctx = c};
        if (!c->global.json) dp_progress_init(DP_PROGRESS_QUIET); /* a service has no terminal to redraw; `dpipe status` tells */
        rc = dp_serve(&s, e);
    }
    free(state);
    return rc;
}

extern const struct dp_command dp_cmd_serve;
const struct dp_command dp_cmd_serve = {.name = "serve", .summary = "keep everything up to date, as a service", .args = "",
    .sections = "serve ingest clean. dedup dedup. tokenizer train-bpe shards feed train", .args_max = 0, .run = run,
    .about = "Stays in the foreground, watches the recipe's sources, the remembered ones and the folder spool/ of the workspace, and makes what is missing, again and\n"
             "again, up to the stage of --until. A unit that fails is tried again later and the rest goes on; with little disk space work pauses. The workspace is the\n"
             "service's while it runs: ask it by `dpipe status|pause|resume|drain|rescan|reload|job|loglevel|stop -w DIR`, or by HTTP (http.sock in the workspace, or\n"
             "--http :8080, which has a dashboard at http://localhost:8080/ and an API described at /api/v1/openapi.json).\n"
             "With --feed it serves batches to trainers, of the newest complete manifest: `dpipe feed --connect ADDR`, trainer_feed/feed_client.h, or python/.\n"
             "SIGHUP reads the recipe again, an invalid one is refused. SIGTERM and SIGINT stop: running units get --drain-timeout, nothing is lost.\n"
             "Under systemd it speaks sd_notify, feeds the watchdog from its progress and takes passed sockets. docs/daemon.md tells the rest."};

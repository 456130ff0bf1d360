#include "cli/cli.h"

struct own {
    char *man, *completion;
    bool commands;
};
static const struct dp_opt rows[] = {
    {.name = "man", .type = DP_OPT_STRING, .offset = offsetof(struct own, man), .arg = "COMMAND", .help = "the man page of a command, as roff"},
    {.name = "completion", .type = DP_OPT_STRING, .offset = offsetof(struct own, completion), .arg = "SHELL", .help = "completions for bash, zsh or fish"},
    {.name = "commands", .type = DP_OPT_BOOL, .offset = offsetof(struct own, commands), .help = "the commands' names"},
    DP_OPT_END,
};

static int run(struct dp_cli *c, struct dp_err *e)
{
    const struct own *o = c->own;
    const char *name = o->man ? o->man : c->nargs ? c->args[0] : NULL;
    const struct dp_command *cmd = name ? dp_cli_find(name, e) : NULL;
    struct dp_buf b;
    if (name && !cmd) return DP_USAGE;
    dp_buf_init(&b, 1 << 20);
    if (o->commands)
        for (const struct dp_command *const *k = dp_commands; *k; k++) dp_buf_printf(&b, "%s\n", (*k)->name);
    else if (o->completion) dp_help_completion(o->completion, &b);
    else if (o->man) dp_help_man(cmd, &b);
    else if (cmd) dp_help_command(cmd, &b);
    else dp_help_all(&b);
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

extern const struct dp_command dp_cmd_help;
const struct dp_command dp_cmd_help = {.name = "help", .summary = "this help, man pages, completions", .args = "[COMMAND]", .rows = rows,
    .own_size = sizeof(struct own), .args_max = 1, .run = run};

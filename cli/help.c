/* --help, man pages and completions, all from the tables. */
#include "cli/cli.h"

#include <ctype.h>

static void flag_name(const struct dp_opt *r, struct dp_buf *out)
{
    for (const char *c = r->name; *c; c++) dp_buf_add_char(out, *c == '_' ? '-' : *c);
}

static void option_line(const struct dp_opt *r, struct dp_buf *out)
{
    size_t from = out->len;
    dp_buf_add_str(out, "  ");
    if (r->letter) dp_buf_printf(out, "-%c, ", r->letter);
    else dp_buf_add_str(out, "    ");
    dp_buf_add_str(out, "--");
    flag_name(r, out);
    if (r->type != DP_OPT_BOOL) dp_buf_printf(out, " %s", r->arg ? r->arg : r->type == DP_OPT_CHOICE ? "WORD" : "VALUE");
    size_t width = out->len - from;
    dp_buf_printf(out, "%*s%s", width < 32 ? (int)(32 - width) : 1, "", r->help ? r->help : "");
    if (r->choices) dp_buf_printf(out, " (%s)", r->choices);
    if (r->preset && *r->preset && strcmp(r->preset, "false") != 0 && strcmp(r->preset, "-1") != 0) dp_buf_printf(out, " [%s]", r->preset);
    dp_buf_add_char(out, '\n');
}

/* Every option table of a command, with a heading: fn(ctx, heading, rows). */
static void each_table(const struct dp_command *cmd, void (*fn)(void *ctx, const char *heading, const struct dp_opt *rows), void *ctx)
{
    static struct dp_options o;
    struct dp_err err;
    if (cmd->rows) fn(ctx, "options", cmd->rows);
    if (cmd->sections && dp_options_init(&o, &err) >= 0) {
        for (size_t i = 0; i < o.sections; i++) {
            char heading[96];
            snprintf(heading, sizeof heading, "recipe section %s", o.section[i].name);
            if (dp_command_takes(cmd, o.section[i].name)) fn(ctx, heading, o.section[i].rows);
        }
        dp_options_release(&o);
    }
    fn(ctx, "every command", dp_global_opts);
}

static void help_table(void *ctx, const char *heading, const struct dp_opt *rows)
{
    struct dp_buf *out = ctx;
    dp_buf_printf(out, "\n%s:\n", heading);
    for (; rows && rows->name; rows++) option_line(rows, out);
}

void dp_help_command(const struct dp_command *cmd, struct dp_buf *out)
{
    dp_buf_printf(out, "dpipe %s - %s\n\nusage: dpipe %s [options] %s\n", cmd->name, cmd->summary, cmd->name, cmd->args ? cmd->args : "");
    if (cmd->about) dp_buf_printf(out, "\n%s\n", cmd->about);
    each_table(cmd, help_table, out);
}

void dp_help_all(struct dp_buf *out)
{
    dp_buf_add_str(out, "dpipe - from folders of archives to a trained model: collect, clean, deduplicate, tokenize, shard, feed, train\n\n"
                        "usage: dpipe COMMAND [options] [arguments]\n\ncommands:\n");
    for (const struct dp_command *const *c = dp_commands; *c; c++) dp_buf_printf(out, "  %-12s %s\n", (*c)->name, (*c)->summary);
    dp_buf_add_str(out, "\nA first road:  dpipe init W && dpipe ingest -w W corpus/ && dpipe run -w W && dpipe status -w W\n");
    help_table(out, "every command", dp_global_opts);
    dp_buf_add_str(out, "\nexit status: 0 done, 64 usage, 65 bad data, 70 a broken invariant, 74 I/O or not found, 75 try again, 78 configuration\n");
}

/* --- man pages --- */

static void roff(struct dp_buf *out, const char *s)
{
    for (; *s; s++) {
        if (*s == '\\') dp_buf_add_str(out, "\\e");
        else if (*s == '-') dp_buf_add_str(out, "\\-");
        else if (*s == '.' && (out->len == 0 || out->ptr[out->len - 1] == '\n')) dp_buf_add_str(out, "\\&.");
        else dp_buf_add_char(out, *s);
    }
}

static void man_table(void *ctx, const char *heading, const struct dp_opt *rows)
{
    struct dp_buf *out = ctx;
    dp_buf_add_str(out, ".SS ");
    roff(out, heading);
    dp_buf_add_char(out, '\n');
    for (; rows && rows->name; rows++) {
        dp_buf_add_str(out, ".TP\n\\fB");
        if (rows->letter) dp_buf_printf(out, "\\-%c\\fR, \\fB", rows->letter);
        dp_buf_add_str(out, "\\-\\-");
        size_t from = out->len;
        flag_name(rows, out);
        (void)from;
        if (rows->type != DP_OPT_BOOL) dp_buf_printf(out, "\\fR \\fI%s", rows->arg ? rows->arg : "VALUE");
        dp_buf_add_str(out, "\\fR\n");
        roff(out, rows->help ? rows->help : "");
        if (rows->choices) dp_buf_printf(out, " (%s)", rows->choices);
        if (rows->preset && *rows->preset) {
            dp_buf_add_str(out, " Default: ");
            roff(out, rows->preset);
            dp_buf_add_char(out, '.');
        }
        dp_buf_add_char(out, '\n');
    }
}

void dp_help_man(const struct dp_command *cmd, struct dp_buf *out)
{
    char upper[64];
    snprintf(upper, sizeof upper, "DPIPE-%s", cmd->name);
    for (char *c = upper; *c; c++) *c = (char)toupper((unsigned char)*c);
    dp_buf_printf(out, ".TH %s 1 \"\" \"dpipe %s\"\n.SH NAME\ndpipe\\-%s \\- ", upper, DP_VERSION, cmd->name);
    roff(out, cmd->summary);
    dp_buf_printf(out, "\n.SH SYNOPSIS\n.B dpipe %s\n[options] ", cmd->name);
    roff(out, cmd->args ? cmd->args : "");
    dp_buf_add_char(out, '\n');
    if (cmd->about) {
        dp_buf_add_str(out, ".SH DESCRIPTION\n");
        roff(out, cmd->about);
        dp_buf_add_char(out, '\n');
    }
    dp_buf_add_str(out, ".SH OPTIONS\n");
    each_table(cmd, man_table, out);
    dp_buf_add_str(out, ".SH EXIT STATUS\n0 done, 64 usage, 65 bad data, 70 a broken invariant, 74 I/O or not found, 75 try again, 78 configuration.\n"
                        ".SH SEE ALSO\n.BR dpipe (1)\n");
}

/* --- completions --- */

static void word_table(void *ctx, const char *heading, const struct dp_opt *rows)
{
    struct dp_buf *out = ctx;
    (void)heading;
    for (; rows && rows->name; rows++) {
        dp_buf_add_str(out, " --");
        flag_name(rows, out);
    }
}

void dp_help_completion(const char *shell, struct dp_buf *out)
{
    bool zsh = strcmp(shell, "zsh") == 0;
    if (strcmp(shell, "fish") == 0) {
        for (const struct dp_command *const *c = dp_commands; *c; c++)
            dp_buf_printf(out, "complete -c dpipe -n __fish_use_subcommand -a %s -d '%s'\n", (*c)->name, (*c)->summary);
        return;
    }
    if (zsh) dp_buf_add_str(out, "#compdef dpipe\nautoload -U +X bashcompinit && bashcompinit\n");
    dp_buf_add_str(out, "_dpipe() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words=\n  case ${COMP_WORDS[1]} in\n");
    for (const struct dp_command *const *c = dp_commands; *c; c++) {
        dp_buf_printf(out, "    %s) words=\"", (*c)->name);
        each_table(*c, word_table, out);
        dp_buf_add_str(out, "\" ;;\n");
    }
    dp_buf_add_str(out, "  esac\n  if [ \"$COMP_CWORD\" = 1 ]; then words=\"");
    for (const struct dp_command *const *c = dp_commands; *c; c++) dp_buf_printf(out, "%s ", (*c)->name);
    dp_buf_add_str(out, "--help --version\"; fi\n"
                        "  if [ \"$COMP_CWORD\" = 1 ] || [ \"${cur#-}\" != \"$cur\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                        "  else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n}\ncomplete -o filenames -F _dpipe dpipe\n");
}

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

/* A line may end behind any of them. */
static void man_choices(struct dp_buf *out, const char *s)
{
    dp_buf_add_str(out, " (");
    for (; *s; s++) dp_buf_add_str(out, *s == '|' ? "|\\:" : *s == '-' ? "\\-" : (char[]){*s, 0});
    dp_buf_add_char(out, ')');
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
        if (rows->choices) man_choices(out, rows->choices);
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

/* dpipe(1): the commands, and what they share. */
void dp_help_man_all(struct dp_buf *out)
{
    dp_buf_printf(out, ".TH DPIPE 1 \"\" \"dpipe %s\"\n.SH NAME\ndpipe \\- from folders of archives to a trained model\n.SH SYNOPSIS\n.B dpipe\n\\fICOMMAND\\fR [options] [arguments]\n", DP_VERSION);
    dp_buf_add_str(out, ".SH DESCRIPTION\nCollects, cleans, deduplicates, tokenizes and shards documents, feeds them to trainers, and trains a small transformer.\n"
                        "A workspace (\\fB\\-w\\fR) holds the recipe, what was made, and the catalog that knows it. Every command has \\fB\\-\\-help\\fR.\n.SH COMMANDS\n");
    for (const struct dp_command *const *c = dp_commands; *c; c++) {
        dp_buf_printf(out, ".TP\n.BR dpipe\\-");
        roff(out, (*c)->name);
        dp_buf_add_str(out, " (1)\n");
        roff(out, (*c)->summary);
        dp_buf_add_char(out, '\n');
    }
    dp_buf_add_str(out, ".SH OPTIONS\n");
    man_table(out, "every command", dp_global_opts);
    dp_buf_add_str(out, ".SH EXIT STATUS\n0 done, 64 usage, 65 bad data, 70 a broken invariant, 74 I/O or not found, 75 try again, 78 configuration.\n"
                        ".SH FILES\n.TP\n\\fIrecipe.yaml\\fR\nin the workspace: sources, and a section of options a stage. \\fBdpipe init\\fR writes one with every option.\n");
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

/* Words that a command's first argument may be, from its usage: "[list | show NAME | drop NAME...]" are list, show and drop. */
static void verbs_of(const struct dp_command *cmd, struct dp_buf *out)
{
    const char *p = cmd->args && strchr(cmd->args, '|') ? cmd->args : "";
    size_t from = out->len;
    while (*p) {
        p += strspn(p, "[ ");
        size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz-");
        if (n) dp_buf_printf(out, "%s%.*s", out->len > from ? " " : "", (int)n, p);
        p += strcspn(p, "|");
        p += *p == '|';
    }
}

static void choices(const struct dp_opt *r, struct dp_buf *out)
{
    for (const char *c = r->choices; *c; c++) dp_buf_add_char(out, *c == '|' ? ' ' : *c);
}

/* bash: what may stand behind an option that has choices. */
static void choice_table(void *ctx, const char *heading, const struct dp_opt *rows)
{
    struct dp_buf *out = ctx;
    (void)heading;
    for (; rows && rows->name; rows++) {
        if (!rows->choices) continue;
        dp_buf_add_str(out, "        --");
        flag_name(rows, out);
        dp_buf_add_str(out, ") values=\"");
        choices(rows, out);
        dp_buf_add_str(out, "\" ;;\n");
    }
}

static void bash_completion(struct dp_buf *out)
{
    dp_buf_add_str(out, "_dpipe() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= verbs= values=\n  case ${COMP_WORDS[1]} in\n");
    for (const struct dp_command *const *c = dp_commands; *c; c++) {
        dp_buf_printf(out, "    %s)\n      words=\"", (*c)->name);
        each_table(*c, word_table, out);
        dp_buf_add_str(out, "\" verbs=\"");
        if (strcmp((*c)->name, "help") == 0)
            for (const struct dp_command *const *k = dp_commands; *k; k++) dp_buf_printf(out, "%s%s", k == dp_commands ? "" : " ", (*k)->name);
        else verbs_of(*c, out);
        dp_buf_add_str(out, "\"\n      case $prev in\n");
        each_table(*c, choice_table, out);
        dp_buf_add_str(out, "        *) ;;\n      esac ;;\n");
    }
    dp_buf_add_str(out, "    *) ;;\n  esac\n  if [ \"$COMP_CWORD\" = 1 ]; then words=\"");
    for (const struct dp_command *const *c = dp_commands; *c; c++) dp_buf_printf(out, "%s ", (*c)->name);
    dp_buf_add_str(out, "--help --version\"; fi\n"
                        "  if [ -n \"$values\" ]; then COMPREPLY=($(compgen -W \"$values\" -- \"$cur\"))\n"
                        "  elif [ \"$COMP_CWORD\" = 1 ] || [ \"${cur#-}\" != \"$cur\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                        "  elif [ \"$COMP_CWORD\" = 2 ] && [ -n \"$verbs\" ]; then COMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\"))\n"
                        "  else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n}\ncomplete -o filenames -F _dpipe dpipe\n");
}

static void fish_quoted(struct dp_buf *out, const char *s)
{
    for (; *s; s++) {
        if (*s == '\'' || *s == '\\') dp_buf_add_char(out, '\\');
        dp_buf_add_char(out, *s);
    }
}

struct fish {
    struct dp_buf *out;
    const struct dp_command *cmd;
};

static void fish_table(void *ctx, const char *heading, const struct dp_opt *rows)
{
    const struct fish *f = ctx;
    (void)heading;
    for (; rows && rows->name; rows++) {
        dp_buf_printf(f->out, "complete -c dpipe -n '__fish_seen_subcommand_from %s' -l ", f->cmd->name);
        flag_name(rows, f->out);
        if (rows->letter) dp_buf_printf(f->out, " -s %c", rows->letter);
        if (rows->choices) {
            dp_buf_add_str(f->out, " -x -a '");
            choices(rows, f->out);
            dp_buf_add_char(f->out, '\'');
        } else if (rows->type != DP_OPT_BOOL) dp_buf_add_str(f->out, " -r");
        dp_buf_add_str(f->out, " -d '");
        fish_quoted(f->out, rows->help ? rows->help : "");
        dp_buf_add_str(f->out, "'\n");
    }
}

static void fish_completion(struct dp_buf *out)
{
    for (const struct dp_command *const *c = dp_commands; *c; c++) {
        struct fish f = {out, *c};
        struct dp_buf verbs;
        dp_buf_printf(out, "complete -c dpipe -n __fish_use_subcommand -a %s -d '", (*c)->name);
        fish_quoted(out, (*c)->summary);
        dp_buf_add_str(out, "'\n");
        dp_buf_init(&verbs, 4096);
        verbs_of(*c, &verbs);
        if (verbs.len)
            dp_buf_printf(out, "complete -c dpipe -f -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from %.*s' -a '%.*s'\n", (*c)->name,
                          (int)verbs.len, verbs.ptr, (int)verbs.len, verbs.ptr);
        dp_buf_release(&verbs);
        each_table(*c, fish_table, &f);
    }
}

void dp_help_completion(const char *shell, struct dp_buf *out)
{
    if (strcmp(shell, "fish") == 0) {
        fish_completion(out);
        return;
    }
    if (strcmp(shell, "zsh") == 0) dp_buf_add_str(out, "#compdef dpipe\nautoload -U +X bashcompinit && bashcompinit\n");
    bash_completion(out);
}

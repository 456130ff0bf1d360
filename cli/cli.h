/* cli/cli.h - what every command gets, and the table of commands. Only this layer prints and exits.
 *
 * A command is a row: name, one line, arguments, own options, and the recipe sections whose options it takes as flags. --help, man
 * pages and completions come from the rows. stdout is data, stderr is talk. */
#ifndef DP_CLI_CLI_H
#define DP_CLI_CLI_H

#include "daemon/road.h"

#include <stdbool.h>
#include <stdio.h>

struct dp_global {
    char *workspace;
    int64_t threads;
    bool threads_given;
    uint64_t memory;
    bool json, quiet, help, version, verbose;
    int64_t seed; /* -1: not given */
    int log_level, log_format;
    int64_t log_burst;
    char *cpu;
};

struct dp_flag { /* a section's option given as a flag, applied over the recipe */
    const char *section;
    const struct dp_opt *row;
    const char *name, *value;
};

struct dp_cli {
    const struct dp_command *command;
    struct dp_global global;
    void *own; /* the command's own options */
    struct dp_flag *flag;
    size_t flags;
    const char **args; /* what is no option */
    size_t nargs;
    struct dp_options options;
    struct dp_road road;
    bool road_open;
    struct dp_dist *ranks; /* train: the processes that mpirun started together; NULL: one */
    atomic_bool *stop;
    int status; /* exit status of a command that succeeds: an answer, as diff gives it */
};

struct dp_command {
    const char *name, *summary, *args;
    const char *about;           /* paragraphs for --help and the man page */
    const struct dp_opt *rows;   /* own options; NULL: none */
    size_t own_size;
    const char *sections;        /* "ingest clean.": sections (a trailing dot: all below) whose options are flags */
    const char *first;           /* of these, the section whose option a name is that several have; NULL: the order of the road */
    int (*run)(struct dp_cli *c, struct dp_err *e);
    int args_min, args_max;      /* args_max -1: any number */
};
extern const struct dp_command *const dp_commands[]; /* ended by NULL */
extern const struct dp_opt dp_global_opts[];

/* Open the workspace with recipe and flags (c->road). Closed by main. */
int dp_cli_road(struct dp_cli *c, bool write, struct dp_err *e);
/* dp_apply_fn: the flags over a recipe; ctx is the dp_cli. */
int dp_cli_apply(void *ctx, struct dp_options *o, struct dp_err *e);
/* Apply environment and flags to c->options when there is no workspace. */
int dp_cli_options(struct dp_cli *c, struct dp_err *e);
/* Make everything up to `step`, then print a line that says so (or JSON). */
int dp_cli_run_until(struct dp_cli *c, enum dp_step step, struct dp_err *e);
/* The same up to the model; on the generations of `dpipe serve` when these are the present state, without making everything anew. */
int dp_cli_train(struct dp_cli *c, struct dp_err *e);
/* The command of this name; NULL (DP_USAGE, with a suggestion) when there is none. */
const struct dp_command *dp_cli_find(const char *name, struct dp_err *e);
/* The path of a manifest, malloc'ed: `given`, or with NULL that of the workspace, which is opened for reading. DP_NOTFOUND when there is none yet. */
int dp_cli_manifest(struct dp_cli *c, const char *given, char **path, struct dp_err *e);
/* A JSON document on stdout, with a newline. */
int dp_cli_print(const struct dp_buf *b, struct dp_err *e);

/* With --json: an object of these members on stdout; without, nothing. */
struct dp_fact {
    const char *key, *text; /* text NULL: the number */
    uint64_t number;
};
int dp_cli_say(struct dp_cli *c, const struct dp_fact *facts, size_t n, struct dp_err *e);
#define DP_SAY(c, e, ...) dp_cli_say((c), (const struct dp_fact[]){__VA_ARGS__}, sizeof((const struct dp_fact[]){__VA_ARGS__}) / sizeof(struct dp_fact), (e))

/* Whether options of the recipe section are flags of the command. */
bool dp_command_takes(const struct dp_command *cmd, const char *section);
/* --help of one command, or of all. */
void dp_help_command(const struct dp_command *cmd, struct dp_buf *out);
void dp_help_all(struct dp_buf *out);
/* For `dpipe help --man|--completion SHELL`. */
void dp_help_man(const struct dp_command *cmd, struct dp_buf *out);
void dp_help_man_all(struct dp_buf *out);
void dp_help_completion(const char *shell, struct dp_buf *out);


/* A request to the service of the workspace (cli/ask.c). `line` (may be NULL) gets every line but the last, without its newline; *end is
 * the last one, parsed, to be freed with dp_json_free. DP_NOTFOUND when no service runs; the service's own refusal is its code and
 * message. */
struct dp_json;
int dp_ask_service(const char *workspace, struct dp_span request, void (*line)(void *ctx, struct dp_span text), void *ctx, struct dp_json **end, struct dp_err *e);
/* Whether a service listens there. */
bool dp_service_runs(const char *workspace);

#endif

#include "cli/cli.h"

#include "base/cpu.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "daemon/worker_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_bool stopping;

static void on_signal(int sig)
{
    (void)sig;
    if (atomic_exchange(&stopping, true)) _exit(130); /* the second time: at once; what is published is safe anyway */
}

/* A mapped file that shrinks under its reader, or whose disk fails, ends here. */
static void on_bus_error(int sig)
{
    static const char msg[] = "dpipe: error: a file became shorter or unreadable while it was read; run again\n";
    (void)sig;
    ssize_t n = write(2, msg, sizeof msg - 1);
    (void)n;
    _exit(75);
}

/* A closed standard stream would give its number to the next file that is opened, and messages would go into an artifact. What stands in for it
 * is open the wrong way round, so that using it is still an error; only talk goes nowhere. */
static void occupy_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 1 ? O_RDONLY : O_WRONLY) != fd) _exit(74);
}

static void catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal};
    struct sigaction bus = {.sa_handler = on_bus_error};
    sigemptyset(&bus.sa_mask);
    sigaction(SIGBUS, &bus, NULL);
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is an error of that write */
}

#define G(field) offsetof(struct dp_global, field)
const struct dp_opt dp_global_opts[] = {
    {.name = "workspace", .letter = 'w', .type = DP_OPT_STRING, .offset = G(workspace), .preset = ".", .arg = "DIR", .help = "the workspace folder"},
    {.name = "threads", .letter = 'j', .type = DP_OPT_INT, .offset = G(threads), .preset = "0", .min = 0, .max = 1024, .arg = "N", .help = "worker threads; 0: one a processor"},
    {.name = "memory", .type = DP_OPT_SIZE, .offset = G(memory), .preset = "512M", .min = 16 << 20, .max = 1e15, .arg = "SIZE", .help = "budget for sorts and caches"},
    {.name = "json", .type = DP_OPT_BOOL, .offset = G(json), .help = "print results as JSON, progress as JSON lines"},
    {.name = "quiet", .letter = 'q', .type = DP_OPT_BOOL, .offset = G(quiet), .help = "no progress, warnings only"},
    {.name = "seed", .type = DP_OPT_INT, .offset = G(seed), .preset = "-1", .min = -1, .max = 9.2e18, .arg = "S", .help = "seed of the step at hand, over the recipe's"},
    {.name = "log_level", .type = DP_OPT_CHOICE, .offset = G(log_level), .preset = "info", .choices = "error|warning|info|debug", .arg = "LEVEL", .help = "what is logged"},
    {.name = "log_format", .type = DP_OPT_CHOICE, .offset = G(log_format), .preset = "auto", .choices = "auto|text|json|journal", .arg = "FORMAT", .help = "how it is logged"},
    {.name = "log_burst", .type = DP_OPT_INT, .offset = G(log_burst), .preset = "20", .min = 0, .max = 1e9, .arg = "N",
     .help = "messages of one kind in 10 s, errors five times as many; the rest is counted and summed up; 0: all"},
    {.name = "cpu", .type = DP_OPT_STRING, .offset = G(cpu), .arg = "LEVEL", .help = "scalar, avx2, avx512 or avx512bf16; also DPIPE_CPU"},
    {.name = "verbose", .letter = 'v', .type = DP_OPT_BOOL, .offset = G(verbose), .help = "log debug messages"},
    {.name = "help", .letter = 'h', .type = DP_OPT_BOOL, .offset = G(help), .help = "this text"},
    {.name = "version", .type = DP_OPT_BOOL, .offset = G(version), .help = "version and CPU level"},
    DP_OPT_END,
};

bool dp_command_takes(const struct dp_command *cmd, const char *section)
{
    for (const char *s = cmd->sections; s && *s;) {
        size_t n = strcspn(s, " ");
        if (n && (s[n - 1] == '.' ? strncmp(section, s, n) == 0 : strlen(section) == n && strncmp(section, s, n) == 0)) return true;
        s += n;
        while (*s == ' ') s++;
    }
    return false;
}

struct target {
    const struct dp_opt *row;
    void *base; /* NULL: a section's, to be applied after the recipe */
    const char *section;
};

/* An option of one section, as name or section.name. */
static bool find_in(struct dp_cli *c, const char *section, struct dp_span name, struct target *t)
{
    const struct dp_section *s = dp_options_section(&c->options, section);
    if (!s || !dp_command_takes(c->command, s->name)) return false;
    size_t n = strlen(s->name);
    if (name.len > n + 1 && strncmp(name.ptr, s->name, n) == 0 && name.ptr[n] == '.') name = dp_span(name.ptr + n + 1, name.len - n - 1);
    const struct dp_opt *r = dp_opt_find(s->rows, name);
    if (r) *t = (struct target){r, NULL, s->name};
    return r;
}

/* --name: the command's own options first, then global ones, then sections'. Section options may be spelt --section.name. */
static struct target find_flag(struct dp_cli *c, struct dp_span name)
{
    struct target t = {NULL, NULL, NULL};
    const struct dp_opt *r = dp_opt_find(c->command ? c->command->rows : NULL, name);
    if (r) return (struct target){r, c->own, NULL};
    if ((r = dp_opt_find(dp_global_opts, name))) return (struct target){r, &c->global, NULL};
    if (c->command && c->command->first && find_in(c, c->command->first, name, &t)) return t;
    for (size_t i = 0; c->command && i < c->options.sections; i++)
        if (find_in(c, c->options.section[i].name, name, &t)) return t;
    return t;
}

static int unknown_flag(struct dp_cli *c, const char *arg, struct dp_span name, struct dp_err *e)
{
    const char *words[512];
    size_t n = 0;
    const struct dp_opt *tables[2] = {dp_global_opts, c->command ? c->command->rows : NULL};
    for (int t = 0; t < 2; t++)
        for (const struct dp_opt *r = tables[t]; r && r->name && n < 512; r++) words[n++] = r->name;
    for (size_t i = 0; c->command && i < c->options.sections; i++)
        if (dp_command_takes(c->command, c->options.section[i].name))
            for (const struct dp_opt *r = c->options.section[i].rows; r && r->name && n < 512; r++) words[n++] = r->name;
    const char *near = dp_opt_nearest(name, words, n);
    char flag[64] = "";
    snprintf(flag, sizeof flag, "%s", near ? near : "");
    for (char *k = flag; *k; k++)
        if (*k == '_') *k = '-';
    if (near) DP_FAIL(e, USAGE, "unknown option %s; did you mean --%s?", arg, flag);
    DP_FAIL(e, USAGE, "unknown option %s; see `dpipe %s%s--help`", arg, c->command ? c->command->name : "", c->command ? " " : "");
}

static int give(struct dp_cli *c, struct target t, const char *arg, const char *value, struct dp_err *e)
{
    if (t.base) return dp_opt_set(t.row, t.base, dp_span_str(value), arg, e);
    struct dp_flag *f = realloc(c->flag, (c->flags + 1) * sizeof *f);
    if (!f) DP_FAIL(e, NOMEM, "%s", arg);
    c->flag = f;
    c->flag[c->flags++] = (struct dp_flag){t.section, t.row, arg, value};
    return DP_OK;
}

/* One option at argv[*i]; takes the next argument where a value is wanted. */
static int parse_option(struct dp_cli *c, int argc, char **argv, int *i, struct dp_err *e)
{
    const char *arg = argv[*i];
    struct target t = {NULL, NULL, NULL};
    if (arg[1] != '-') {
        const struct dp_opt *tables[2] = {c->command ? c->command->rows : NULL, dp_global_opts};
        for (int k = 0; k < 2 && !t.row; k++)
            for (const struct dp_opt *r = tables[k]; r && r->name && !t.row; r++)
                if (r->letter == arg[1]) t = (struct target){r, k ? (void *)&c->global : c->own, NULL};
        if (!t.row) return unknown_flag(c, arg, dp_span(arg + 1, strlen(arg) - 1), e);
        if (t.row->type == DP_OPT_BOOL) {
            if (arg[2]) return unknown_flag(c, arg, dp_span(arg + 1, strlen(arg) - 1), e);
            return give(c, t, arg, "true", e);
        }
        if (arg[2]) return give(c, t, arg, arg + 2, e);
    } else {
        const char *name = arg + 2, *eq = strchr(name, '=');
        struct dp_span s = dp_span(name, eq ? (size_t)(eq - name) : strlen(name));
        t = find_flag(c, s);
        bool negate = false;
        if (!t.row && s.len > 3 && strncmp(s.ptr, "no-", 3) == 0) {
            t = find_flag(c, dp_span(s.ptr + 3, s.len - 3));
            negate = t.row && t.row->type == DP_OPT_BOOL;
            if (!negate) t.row = NULL;
        }
        if (!t.row) return unknown_flag(c, arg, s, e);
        if (negate && eq) DP_FAIL(e, USAGE, "%s takes no value", arg);
        if (t.row->type == DP_OPT_BOOL && !eq) return give(c, t, arg, negate ? "false" : "true", e);
        if (eq) return give(c, t, arg, eq + 1, e);
    }
    if (*i + 1 >= argc) DP_FAIL(e, USAGE, "%s wants a value", arg);
    return give(c, t, arg, argv[++*i], e);
}

const struct dp_command *dp_cli_find(const char *name, struct dp_err *e)
{
    const char *words[64];
    size_t n = 0;
    for (const struct dp_command *const *k = dp_commands; *k; k++) {
        if (strcmp((*k)->name, name) == 0) return *k;
        if (n < 64) words[n++] = (*k)->name;
    }
    const char *near = dp_opt_nearest(dp_span_str(name), words, n);
    if (near) dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "there is no command \"%s\"; did you mean %s?", name, near);
    else dp_err_set(e, DP_USAGE, 0, __FILE__, __LINE__, "there is no command \"%s\"; `dpipe --help` lists them", name);
    return NULL;
}

static int parse(struct dp_cli *c, int argc, char **argv, struct dp_err *e)
{
    bool words_only = false;
    c->args = calloc((size_t)argc + 1, sizeof *c->args);
    if (!c->args) DP_FAIL(e, NOMEM, "arguments");
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (!words_only && strcmp(a, "--") == 0) words_only = true;
        else if (!words_only && a[0] == '-' && a[1]) DP_TRY(parse_option(c, argc, argv, &i, e));
        else if (!c->command) { /* the first word is the command */
            if (!(c->command = dp_cli_find(a, e))) return DP_USAGE;
            if (c->command->own_size && !(c->own = calloc(1, c->command->own_size))) DP_FAIL(e, NOMEM, "options");
            if (c->own) DP_TRY(dp_opt_defaults(c->command->rows, c->own, e));
        } else c->args[c->nargs++] = a;
    }
    return DP_OK;
}

int dp_cli_apply(void *ctx, struct dp_options *o, struct dp_err *e)
{
    struct dp_cli *c = ctx;
    for (size_t i = 0; i < c->flags; i++) {
        const struct dp_flag *f = &c->flag[i];
        DP_TRY(dp_opt_set(f->row, dp_options_section(o, f->section)->base, dp_span_str(f->value), f->name, e));
    }
    if (c->global.seed >= 0) { /* --seed goes to every section of the command that has one */
        char text[24];
        snprintf(text, sizeof text, "%lld", (long long)c->global.seed);
        for (size_t i = 0; i < o->sections; i++) {
            const struct dp_opt *r = dp_command_takes(c->command, o->section[i].name) ? dp_opt_find(o->section[i].rows, dp_span_str("seed")) : NULL;
            if (r) DP_TRY(dp_opt_set(r, o->section[i].base, dp_span_str(text), "--seed", e));
        }
    }
    return DP_OK;
}

int dp_cli_road(struct dp_cli *c, bool write, struct dp_err *e)
{
    DP_TRY(dp_road_open(&c->road, c->global.workspace, &c->options, (int)c->global.threads, c->global.memory, write, dp_cli_apply, c, e));
    c->road.stop = c->stop;
    c->road.ranks = c->ranks;
    c->road_open = true;
    return DP_OK;
}

int dp_cli_options(struct dp_cli *c, struct dp_err *e)
{
    DP_TRY(dp_recipe_environ(c->options.section, c->options.sections, e));
    return dp_cli_apply(c, &c->options, e);
}

int dp_cli_manifest(struct dp_cli *c, const char *given, char **path, struct dp_err *e)
{
    if (given) {
        if (!(*path = strdup(given))) DP_FAIL(e, NOMEM, "%s", given);
        return DP_OK;
    }
    DP_TRY(dp_cli_road(c, false, e));
    int rc = dp_road_manifest(&c->road, path, e);
    if (rc == DP_EMPTY) DP_FAIL(e, NOTFOUND, "no manifest yet: make it with `dpipe run --until shard`");
    return rc;
}

int dp_cli_print(const struct dp_buf *b, struct dp_err *e)
{
    DP_TRY(dp_buf_check(b, "output", e));
    if (fwrite(b->ptr ? b->ptr : "", 1, b->len, stdout) != b->len || fflush(stdout) != 0) DP_FAIL_SYS(e, "stdout");
    return DP_OK;
}

int dp_cli_say(struct dp_cli *c, const struct dp_fact *facts, size_t n, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    if (!c->global.json) return DP_OK;
    dp_buf_init(&b, 1 << 20);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    for (size_t i = 0; i < n; i++) {
        dp_jsonw_key(&w, facts[i].key);
        if (facts[i].text) dp_jsonw_cstr(&w, facts[i].text);
        else dp_jsonw_uint(&w, facts[i].number);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

static int say_made(struct dp_cli *c, enum dp_step step, struct dp_err *e)
{
    if (!c->global.json && !c->global.quiet)
        dp_log(INFO, "run", "%s is up to date: %llu units made, %llu were there", dp_step_name(step), (unsigned long long)c->road.made,
               (unsigned long long)c->road.found);
    return DP_SAY(c, e, {"until", dp_step_name(step), 0}, {"made", NULL, c->road.made}, {"up_to_date", NULL, c->road.found});
}

static int run_until(struct dp_cli *c, enum dp_step step, struct dp_err *e)
{
    int rc = DP_BUSY;
    c->road.append = c->options.shards.growth == DP_GROWTH_APPEND && step >= DP_STEP_SHARD;
    for (int tries = 0; rc == DP_BUSY && tries < 2; tries++) {
        c->road.disowned = tries > 0; /* its lineage turned out not to be what it was: once more, without it */
        DP_TRY(dp_road_plan(&c->road, !tries, e));
        if (c->road.ended[0]) dp_log(WARN, "shard", "shards can't be appended to those there are: %s; all are made anew", c->road.ended);
        rc = dp_road_run(&c->road, step, e);
        if (!c->road.ended[0]) break;
    }
    DP_TRY(rc);
    return say_made(c, step, e);
}

int dp_cli_run_until(struct dp_cli *c, enum dp_step step, struct dp_err *e)
{
    DP_TRY(dp_cli_road(c, true, e));
    return run_until(c, step, e);
}

int dp_cli_train(struct dp_cli *c, struct dp_err *e)
{
    DP_TRY(dp_cli_road(c, true, e));
    int done = dp_road_survey(&c->road, e);
    if (done < 0) return done;
    if (!c->road.lineage) return run_until(c, DP_STEP_TRAIN, e);
    DP_TRY(dp_road_train(&c->road, e));
    return say_made(c, DP_STEP_TRAIN, e);
}

static int set_up(struct dp_cli *c, struct dp_err *e)
{
    static const enum dp_log_level levels[] = {DP_LOG_ERROR, DP_LOG_WARN, DP_LOG_INFO, DP_LOG_DEBUG};
    struct dp_global *g = &c->global;
    dp_log_init(g->verbose ? DP_LOG_DEBUG : g->quiet && g->log_level > 1 ? DP_LOG_WARN : levels[g->log_level],
                g->json && g->log_format == DP_LOG_AUTO ? DP_LOG_JSON : (enum dp_log_format)g->log_format);
    dp_log_set_burst((int)g->log_burst);
    dp_progress_init(g->quiet ? DP_PROGRESS_QUIET : g->json ? DP_PROGRESS_JSON : DP_PROGRESS_AUTO);
    DP_TRY(dp_cpu_init(e));
    if (g->cpu) DP_TRY(dp_cpu_force(g->cpu, e));
    g->threads_given = g->threads != 0;
    if (g->threads == 0) g->threads = dp_cpu_count();
    const struct dp_command *cmd = c->command;
    if (!cmd) DP_FAIL(e, USAGE, "which command? `dpipe --help` lists them");
    if ((int)c->nargs < cmd->args_min) DP_FAIL(e, USAGE, "dpipe %s wants %s; see `dpipe %s --help`", cmd->name, cmd->args, cmd->name);
    if (cmd->args_max >= 0 && (int)c->nargs > cmd->args_max)
        DP_FAIL(e, USAGE, "dpipe %s: \"%s\" is one argument too many", cmd->name, c->args[cmd->args_max]);
    return DP_OK;
}

/* --help and --version need nothing else. */
static bool answered(struct dp_cli *c)
{
    struct dp_buf b;
    dp_buf_init(&b, 1 << 20);
    if (c->global.version)
        dp_buf_printf(&b, "dpipe %s (CPU level %s of %s)\n", DP_VERSION, dp_cpu_name(dp_cpu()), dp_cpu_name(dp_cpu_detected()));
    else if (c->global.help && c->command) dp_help_command(c->command, &b);
    else if (c->global.help) dp_help_all(&b);
    if (b.len) fwrite(b.ptr, 1, b.len, stdout);
    bool done = b.len > 0;
    dp_buf_release(&b);
    return done;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], DP_WORKER_COMMAND) == 0) {
        int code = dp_worker_main(3);
        if (code == DP_USAGE) fprintf(stderr, "dpipe %s is started by dpipe itself\n", DP_WORKER_COMMAND);
        _exit(dp_code_exit(code)); /* see daemon/worker_process.h */
    }
    static struct dp_cli c; /* sections point into its options */
    struct dp_err err = {0};
    c.stop = &stopping;
    c.road.ws.lock_fd = -1;
    occupy_streams();
    catch_signals();
    dp_progress_stop_by(&stopping);
    int rc = dp_opt_defaults(dp_global_opts, &c.global, &err);
    if (rc >= 0) rc = dp_opt_environ(dp_global_opts, &c.global, NULL, &err);
    if (rc >= 0) rc = dp_options_init(&c.options, &err);
    if (rc >= 0) rc = parse(&c, argc, argv, &err);
    if (rc >= 0 && !answered(&c)) {
        rc = set_up(&c, &err);
        if (rc >= 0) rc = c.command->run(&c, &err);
    }
    dp_log_flush(true);
    if (rc < 0 && err.sys != EPIPE) dp_log_write(DP_LOG_ERROR, c.command ? c.command->name : "", "%s", err.msg[0] ? err.msg : dp_code_name(rc)); /* `| head` has seen enough */
    if (c.road_open) dp_road_close(&c.road);
    dp_options_release(&c.options);
    if (c.own) dp_opt_release(c.command->rows, c.own);
    free(c.own);
    free(c.flag);
    free(c.args);
    dp_opt_release(dp_global_opts, &c.global);
    if (fflush(stdout) != 0 && rc >= 0) {
        rc = DP_IO;
        dp_log_write(DP_LOG_ERROR, "", "stdout: %s", strerror(errno));
    }
    return rc < 0 ? dp_code_exit(rc) : c.status;
}

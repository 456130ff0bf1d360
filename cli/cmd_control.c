/* The commands that speak to the service at work: pause, resume, drain, reload, rescan, stop, loglevel, job. */
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"

#include <stdlib.h>
#include <time.h>

static int print_end(struct dp_cli *c, struct dp_json *end, const char *said, struct dp_err *e)
{
    struct dp_buf b;
    dp_json_free(end);
    dp_buf_init(&b, 4096);
    if (c->global.json) dp_buf_add_str(&b, "{\"ok\":true}\n");
    else if (!c->global.quiet) dp_buf_printf(&b, "%s\n", said);
    int rc = dp_cli_print(&b, e);
    dp_buf_release(&b);
    return rc;
}

static int simple(struct dp_cli *c, const char *request, const char *said, struct dp_err *e)
{
    struct dp_json *end;
    DP_TRY(dp_ask_service(c->global.workspace, dp_span_str(request), NULL, NULL, &end, e));
    return print_end(c, end, said, e);
}

static int run_pause(struct dp_cli *c, struct dp_err *e)
{
    return simple(c, "{\"op\":\"pause\"}", "paused: units that run are finished, none is begun", e);
}
static int run_resume(struct dp_cli *c, struct dp_err *e)
{
    return simple(c, "{\"op\":\"resume\"}", "resumed", e);
}
static int run_reload(struct dp_cli *c, struct dp_err *e)
{
    return simple(c, "{\"op\":\"reload\"}", "the recipe was read again", e);
}
/* A request with words in it. */
static void begin(struct dp_buf *b, struct dp_jsonw *w, const char *op)
{
    dp_buf_init(b, 65536);
    dp_jsonw_init(w, b, 0);
    dp_jsonw_begin(w, '{');
    dp_jsonw_key(w, "op");
    dp_jsonw_cstr(w, op);
}

/* --- rescan --- */

struct rescan {
    char *source;
    bool steps;
};
static const struct dp_opt rescan_rows[] = {
    {.name = "source", .type = DP_OPT_STRING, .offset = offsetof(struct rescan, source), .arg = "PATH", .help = "read this file, or those below this folder, again, changed or not"},
    {.name = "steps", .type = DP_OPT_BOOL, .offset = offsetof(struct rescan, steps), .help = "and make the steps over all documents now, whatever serve.steps_at says"},
    DP_OPT_END,
};

/* Sources are known by the paths that they really have; one that is gone, as it is given. */
static char *real_path(const char *path)
{
    char *full = realpath(path, NULL);
    return full ? full : strdup(path);
}

static int run_rescan(struct dp_cli *c, struct dp_err *e)
{
    const struct rescan *o = c->own;
    struct dp_buf b;
    struct dp_jsonw w;
    struct dp_json *end;
    char *path = o->source ? real_path(o->source) : NULL, said[96];
    if (o->source && !path) DP_FAIL(e, NOMEM, "%s", o->source);
    begin(&b, &w, "rescan");
    if (path) dp_jsonw_key(&w, "path"), dp_jsonw_cstr(&w, path);
    if (o->steps) dp_jsonw_key(&w, "steps"), dp_jsonw_bool(&w, true);
    dp_jsonw_end(&w, '}');
    int rc = dp_ask_service(c->global.workspace, dp_buf_span(&b), NULL, NULL, &end, e);
    dp_buf_release(&b);
    free(path);
    DP_TRY(rc);
    snprintf(said, sizeof said, "%lld sources are read again", (long long)dp_json_int(dp_json_get(end, "sources"), 0));
    return print_end(c, end, o->source ? said : "every source is looked at again", e);
}

/* --- commands that wait --- */

struct waiting {
    int64_t timeout;
    bool no_wait;
};
static const struct dp_opt wait_rows[] = {
    {.name = "timeout", .type = DP_OPT_INT, .offset = offsetof(struct waiting, timeout), .preset = "600", .min = 1, .max = 1e9, .arg = "S", .help = "wait at most so many seconds"},
    {.name = "no_wait", .type = DP_OPT_BOOL, .offset = offsetof(struct waiting, no_wait), .help = "ask, and don't wait for the end"},
    DP_OPT_END,
};

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Until the service says `state`, or (NULL) is gone. */
static int wait_for(struct dp_cli *c, const char *state, struct dp_err *e)
{
    const struct waiting *o = c->own;
    for (int64_t ms = 0; ms < o->timeout * 1000; ms += 100) {
        struct dp_json *v;
        struct dp_err err = {0};
        int rc = dp_ask_service(c->global.workspace, dp_span_str("{\"op\":\"status\"}"), NULL, NULL, &v, &err);
        if (rc < 0 && !state) return DP_OK;
        if (rc < 0) {
            *e = err;
            return rc;
        }
        bool there = state && dp_span_is(dp_json_str(dp_json_get(v, "state")), state);
        dp_json_free(v);
        if (there) return DP_OK;
        if (atomic_load(c->stop)) DP_FAIL(e, STOPPED, "no longer waiting");
        pause_ms(100);
    }
    DP_FAIL(e, BUSY, "still not there after %lld s; the service goes on with it", (long long)o->timeout);
}

static int run_drain(struct dp_cli *c, struct dp_err *e)
{
    struct dp_json *end;
    DP_TRY(dp_ask_service(c->global.workspace, dp_span_str("{\"op\":\"drain\"}"), NULL, NULL, &end, e));
    int rc = ((const struct waiting *)c->own)->no_wait ? DP_OK : wait_for(c, "drained", e);
    if (rc >= 0) return print_end(c, end, "drained: nothing runs until `dpipe resume`", e);
    dp_json_free(end);
    return rc;
}

static int run_stop(struct dp_cli *c, struct dp_err *e)
{
    struct dp_json *end;
    DP_TRY(dp_ask_service(c->global.workspace, dp_span_str("{\"op\":\"stop\"}"), NULL, NULL, &end, e));
    int rc = ((const struct waiting *)c->own)->no_wait ? DP_OK : wait_for(c, NULL, e);
    if (rc >= 0) return print_end(c, end, "stopped", e);
    dp_json_free(end);
    return rc;
}

static int run_loglevel(struct dp_cli *c, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    struct dp_json *end;
    begin(&b, &w, "loglevel");
    dp_jsonw_key(&w, "level");
    dp_jsonw_cstr(&w, c->args[0]);
    dp_jsonw_end(&w, '}');
    int rc = dp_ask_service(c->global.workspace, dp_buf_span(&b), NULL, NULL, &end, e);
    dp_buf_release(&b);
    return rc < 0 ? rc : print_end(c, end, "done", e);
}

/* --- job --- */

struct job {
    char *state, *stage;
    int64_t limit;
    bool all;
};
static const struct dp_opt job_rows[] = {
    {.name = "state", .type = DP_OPT_STRING, .offset = offsetof(struct job, state), .arg = "STATE", .help = "list: ready, running, failed or done ones only"},
    {.name = "stage", .type = DP_OPT_STRING, .offset = offsetof(struct job, stage), .arg = "STAGE", .help = "list: those of one stage only"},
    {.name = "limit", .type = DP_OPT_INT, .offset = offsetof(struct job, limit), .preset = "100", .min = 1, .max = 1e9, .arg = "N", .help = "list: at most so many"},
    {.name = "all", .type = DP_OPT_BOOL, .offset = offsetof(struct job, all), .help = "retry: every failed job"},
    DP_OPT_END,
};

struct printing {
    struct dp_cli *c;
    struct dp_buf out;
    bool whole; /* every member, one a line */
    int64_t n;
};

static void print_job(void *ctx, struct dp_span line)
{
    struct printing *p = ctx;
    struct dp_json *v;
    struct dp_err ignored;
    p->n++;
    if (p->c->global.json) {
        dp_buf_add_span(&p->out, line);
        dp_buf_add_char(&p->out, '\n');
        return;
    }
    if (dp_json_parse(&v, line, "job", &ignored) < 0) return;
    static const char *const words[] = {"stage", "key", "what", "state", "owner", "error"}, *const numbers[] = {"id", "attempts", "failures", "retry_at"};
    for (int i = 0; p->whole && i < 4; i++) dp_buf_printf(&p->out, "%-9s %lld\n", numbers[i], (long long)dp_json_int(dp_json_get(v, numbers[i]), 0));
    for (int i = 0; p->whole && i < 6; i++)
        if (dp_json_get(v, words[i])) dp_buf_printf(&p->out, "%-9s %.*s\n", words[i], DP_SPAN_FMT(dp_json_str(dp_json_get(v, words[i]))));
    struct dp_span error = dp_json_str(dp_json_get(v, "error"));
    if (!p->whole)
        dp_buf_printf(&p->out, "%8lld  %-8.*s %-10.*s %2lld failures  %.*s%s%.*s\n", (long long)dp_json_int(dp_json_get(v, "id"), 0), DP_SPAN_FMT(dp_json_str(dp_json_get(v, "state"))),
                      DP_SPAN_FMT(dp_json_str(dp_json_get(v, "stage"))), (long long)dp_json_int(dp_json_get(v, "failures"), 0),
                      DP_SPAN_FMT(dp_json_str(dp_json_get(v, "what"))), error.len ? ": " : "", DP_SPAN_FMT(error));
    dp_json_free(v);
}

/* Pages, until there is no more or the limit is reached. */
static int list_jobs(struct dp_cli *c, struct printing *p, int64_t id, struct dp_err *e)
{
    const struct job *o = c->own;
    int64_t after = 0, left = id ? 1 : o->limit;
    do {
        struct dp_buf b;
        struct dp_jsonw w;
        struct dp_json *end;
        const struct {
            const char *k;
            int64_t v;
        } n[] = {{"after", after}, {"limit", left < 1000 ? left : 1000}, {"id", id}};
        begin(&b, &w, "jobs");
        for (int i = 0; i < 3; i++) {
            dp_jsonw_key(&w, n[i].k);
            dp_jsonw_int(&w, n[i].v);
        }
        if (o->state) dp_jsonw_key(&w, "state"), dp_jsonw_cstr(&w, o->state);
        if (o->stage) dp_jsonw_key(&w, "stage"), dp_jsonw_cstr(&w, o->stage);
        dp_jsonw_end(&w, '}');
        int64_t before = p->n;
        int rc = dp_ask_service(c->global.workspace, dp_buf_span(&b), print_job, p, &end, e);
        dp_buf_release(&b);
        DP_TRY(rc);
        after = dp_json_int(dp_json_get(end, "next"), 0);
        dp_json_free(end);
        left -= p->n - before;
        rc = dp_cli_print(&p->out, e);
        dp_buf_clear(&p->out);
        DP_TRY(rc);
    } while (after && left > 0);
    return DP_OK;
}

static int retry(struct dp_cli *c, int64_t id, struct dp_err *e)
{
    char request[64], said[64];
    struct dp_json *end;
    snprintf(request, sizeof request, "{\"op\":\"retry\",\"id\":%lld}", (long long)id);
    DP_TRY(dp_ask_service(c->global.workspace, dp_span_str(request), NULL, NULL, &end, e));
    snprintf(said, sizeof said, "%lld failed jobs are tried again", (long long)dp_json_int(dp_json_get(end, "retried"), 0));
    return print_end(c, end, said, e);
}

static int redo(struct dp_cli *c, int64_t id, struct dp_err *e)
{
    char request[64];
    struct dp_json *end;
    snprintf(request, sizeof request, "{\"op\":\"redo\",\"id\":%lld}", (long long)id);
    DP_TRY(dp_ask_service(c->global.workspace, dp_span_str(request), NULL, NULL, &end, e));
    return print_end(c, end, "its artifacts are made again", e);
}

static int first(struct dp_cli *c, const char *pattern, struct dp_err *e)
{
    struct dp_buf b;
    struct dp_jsonw w;
    struct dp_json *end;
    begin(&b, &w, "first");
    dp_jsonw_key(&w, "path");
    dp_jsonw_cstr(&w, pattern);
    dp_jsonw_end(&w, '}');
    int rc = dp_ask_service(c->global.workspace, dp_buf_span(&b), NULL, NULL, &end, e);
    dp_buf_release(&b);
    return rc < 0 ? rc : print_end(c, end, "sources that match go first", e);
}

static int run_job(struct dp_cli *c, struct dp_err *e)
{
    const struct job *o = c->own;
    const char *verb = c->args[0];
    int64_t id = 0;
    bool list = strcmp(verb, "list") == 0, show = strcmp(verb, "show") == 0, again = strcmp(verb, "retry") == 0, anew = strcmp(verb, "redo") == 0;
    if (strcmp(verb, "first") == 0) {
        if (c->nargs < 2) DP_FAIL(e, USAGE, "dpipe job first wants a pattern of source paths");
        return first(c, c->args[1], e);
    }
    if (!list && !show && !again && !anew) DP_FAIL(e, USAGE, "dpipe job: list, show ID, retry ID, redo ID or first PATTERN, not \"%s\"", verb);
    if (c->nargs > 1) {
        char *end;
        id = strtoll(c->args[1], &end, 10);
        if (list || *end || id <= 0) DP_FAIL(e, USAGE, "dpipe job %s: \"%s\" is no job's id", verb, c->args[1]);
    }
    if (again && !id && !o->all) DP_FAIL(e, USAGE, "dpipe job retry wants a job's id, or --all");
    if ((show || anew) && !id) DP_FAIL(e, USAGE, "dpipe job %s wants a job's id", verb);
    if (anew) return redo(c, id, e);
    if (again) return retry(c, id, e);
    struct printing p = {.c = c, .whole = show};
    dp_buf_init(&p.out, 64 << 20);
    int rc = list_jobs(c, &p, id, e);
    dp_buf_release(&p.out);
    if (rc >= 0 && show && !p.n) DP_FAIL(e, NOTFOUND, "there is no job %lld", (long long)id);
    return rc;
}

#define COMMAND(id) extern const struct dp_command dp_cmd_##id; const struct dp_command dp_cmd_##id
COMMAND(pause) = {.name = "pause", .summary = "let the service begin no further unit", .args = "", .args_max = 0, .run = run_pause,
    .about = "Units that run are finished. Until `dpipe resume`; a restart of the service resumes too."};
COMMAND(resume) = {.name = "resume", .summary = "let it go on", .args = "", .args_max = 0, .run = run_resume};
COMMAND(drain) = {.name = "drain", .summary = "pause, and wait until nothing runs", .args = "", .rows = wait_rows, .own_size = sizeof(struct waiting), .args_max = 0,
    .run = run_drain};
COMMAND(reload) = {.name = "reload", .summary = "let it read its recipe again", .args = "", .args_max = 0, .run = run_reload,
    .about = "An invalid recipe is refused with the reason (exit status 78) and the one before stays in force."};
COMMAND(rescan) = {.name = "rescan", .summary = "let it look at every source again, now", .args = "", .rows = rescan_rows, .own_size = sizeof(struct rescan),
    .args_max = 0, .run = run_rescan,
    .about = "Files are known by size, time and inode; one whose content changed without these is read again with --source. What is as it was gives the same\n"
             "documents as before, and nothing is made anew; to have artifacts made anew there is `dpipe job redo`."};
COMMAND(stop) = {.name = "stop", .summary = "end the service", .args = "", .rows = wait_rows, .own_size = sizeof(struct waiting), .args_max = 0, .run = run_stop};
COMMAND(loglevel) = {.name = "loglevel", .summary = "change what the service logs", .args = "error|warning|info|debug", .args_min = 1, .args_max = 1, .run = run_loglevel};
COMMAND(job) = {.name = "job", .summary = "list, show, retry, redo or put first the service's units of work", .args = "list | show ID | retry ID | redo ID | first PATTERN", .rows = job_rows, .own_size = sizeof(struct job),
    .args_min = 1, .args_max = 2, .run = run_job,
    .about = "retry forgets the failures of a job (--all: of every one) and tries it now. redo forgets a finished job with its artifacts, so that they are\n"
             "made again: the same bytes, in place of damaged ones. first: sources whose path, or its end from some / on, matches PATTERN (shell pattern,\n"
             "* crosses /) go before all others, until the service ends; for good there is the recipe's serve.first. No result depends on it."};

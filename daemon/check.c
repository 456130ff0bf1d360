#include "daemon/check.h"

#include "base/fs.h"
#include "base/re.h"
#include "base/sandbox.h"
#include "base/tcp.h"
#include "base/tls.h"
#include "daemon/control.h"
#include "daemon/http.h"
#include "daemon/schedule.h"
#include "daemon/serve.h"
#include "tokenizer/tokenizer.h"
#include "trainer_feed/feed_server.h"

#include <glob.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROBLEMS_MAX = 1000 };

void dp_check_release(struct dp_check *c)
{
    dp_recipe_places_release(&c->places);
    free(c->problem);
    c->problem = NULL;
    c->n = c->errors = 0;
}

/* "FILE:12:3: text" of the recipe's loader becomes file, line and text. */
static void take_place(struct dp_problem *p, const char *recipe, const char *msg)
{
    size_t n = strlen(recipe);
    const char *text = msg;
    if (strncmp(msg, recipe, n) == 0 && msg[n] == ':') {
        char *end;
        p->line = strtoul(msg + n + 1, &end, 10);
        if (*end == ':' && end[1] >= '0' && end[1] <= '9') strtoul(end + 1, &end, 10); /* the column */
        text = *end == ':' ? end + 1 + (end[1] == ' ') : msg;
        snprintf(p->file, sizeof p->file, "%s", recipe);
    }
    snprintf(p->text, sizeof p->text, "%s", text);
}

static void add(struct dp_check *c, bool warning, int code, const char *name, const char *msg)
{
    struct dp_problem *v = c->n < PROBLEMS_MAX ? realloc(c->problem, (c->n + 1) * sizeof *v) : NULL;
    c->errors += !warning;
    if (!v) return;
    c->problem = v;
    struct dp_problem *p = &v[c->n++];
    *p = (struct dp_problem){.warning = warning, .code = (enum dp_code)code};
    take_place(p, c->recipe, msg);
    size_t line = name ? dp_recipe_line(&c->places, name) : 0;
    if (!p->line && line) {
        p->line = line;
        snprintf(p->file, sizeof p->file, "%s", c->recipe);
    }
}

/* A problem of the option `name` ("section.key"; NULL: none's). Messages that don't begin with the name get it. */
static void problem(struct dp_check *c, bool warning, int code, const char *name, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static void problem(struct dp_check *c, bool warning, int code, const char *name, const char *fmt, ...)
{
    char msg[300];
    size_t n = 0;
    va_list ap;
    if (name && strncmp(fmt, name, strlen(name)) != 0 && strncmp(name, "sources.", 8) != 0) n = (size_t)snprintf(msg, sizeof msg, "%s: ", name);
    va_start(ap, fmt);
    vsnprintf(msg + n, sizeof msg - n, fmt, ap);
    va_end(ap);
    size_t twice = name ? strlen(name) : 0; /* what failed has said it already */
    const char *text = n && strncmp(msg + n, name, twice) == 0 && msg[n + twice] == ':' ? msg + n : msg;
    add(c, warning, code, name, text);
}

static void loader_problem(void *ctx, const struct dp_err *e)
{
    add(ctx, false, e->code, NULL, e->msg);
}

/* --- what the recipe says --- */

/* A stage's message begins with the option that it is about. */
static void stage_problem(struct dp_check *c, const char *section, const struct dp_opt *rows, const struct dp_err *e)
{
    char name[64];
    for (; rows && rows->name; rows++) {
        snprintf(name, sizeof name, "%s.%s", section, rows->name);
        size_t n = strlen(name);
        if (strncmp(e->msg, name, n) == 0 && e->msg[n] == ':') {
            problem(c, false, e->code, name, "%s", e->msg);
            return;
        }
    }
    problem(c, false, e->code, section, "%s", e->msg);
}

/* Each stage by itself, so that one that can't be opened doesn't hide the next; in a second set of options, since what was opened
 * is closed again. */
static int check_stages(struct dp_check *c, struct dp_err *e)
{
    struct dp_pipeline *p = &c->options->clean;
    (void)e;
    for (size_t i = 0; i < p->count; i++) {
        struct dp_err err = {0};
        char section[64];
        bool signature = i + 1 == p->count;
        snprintf(section, sizeof section, "%s.%s", signature ? "dedup" : "clean", p->type[i]->name);
        if (!p->type[i]->open) continue;
        int rc = p->type[i]->open(p->ctx[i], &err);
        if (rc == DP_NOMEM) return dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", err.msg);
        if (rc < 0) stage_problem(c, section, p->type[i]->opts, &err);
        if (p->type[i]->close) p->type[i]->close(p->ctx[i]); /* what a failed one had opened, too */
    }
    return DP_OK;
}

/* Codes as the detector gives them: two or three small letters. "English" would keep nothing, and say nothing. */
static void check_languages(struct dp_check *c)
{
    for (size_t i = 0; i < c->options->sections; i++) {
        const struct dp_section *s = &c->options->section[i];
        const struct dp_opt *row = dp_opt_find(s->rows, dp_span_str("languages"));
        const char *list = row && row->type == DP_OPT_LIST ? *(char **)((char *)s->base + row->offset) : NULL;
        char name[64];
        snprintf(name, sizeof name, "%s.languages", s->name);
        while (list && *list) {
            size_t n = strcspn(list, ","), from = strspn(list, " "), len = from < n ? n - from : 0;
            while (len && list[from + len - 1] == ' ') len--;
            if (len && (len < 2 || len > 3 || strspn(list + from, "abcdefghijklmnopqrstuvwxyz") < len))
                problem(c, false, DP_CONFIG, name, "\"%.*s\" is no language code; write ISO 639 codes, as en, de, zh", (int)len, list + from);
            list += n + (list[n] == ',');
        }
    }
}

/* What training would find only after hours. */
static void check_split(struct dp_check *c)
{
    const struct dp_bpe_train_options *o = &c->options->bpe;
    struct dp_splitter *s = NULL;
    enum dp_split split = (enum dp_split)o->split;
    struct dp_err err = {0};
    int rc = dp_splitter_choose(&s, &split, o->split_pattern, (int)o->split_digits, o->split_scripts, &err);
    if (rc < 0) problem(c, false, rc, "train-bpe.split_pattern", "%s", err.msg);
    rc = dp_bpe_train_check(o, &err);
    if (rc < 0) problem(c, false, rc, strstr(err.msg, "super_veto") ? "train-bpe.super_veto" : strstr(err.msg, "super_from") ? "train-bpe.super_from" : "train-bpe.vocab_size", "%s", err.msg);
    dp_splitter_close(s);
}

static void check_tokenizer(struct dp_check *c)
{
    struct dp_tokenizer *t = NULL;
    struct dp_err err = {0};
    const char *file = c->options->tokenizer.file;
    struct stat st;
    if (!file || !*file) return;
    if (stat(file, &st) == 0 && !S_ISREG(st.st_mode)) { /* a FIFO would be waited for */
        problem(c, false, DP_CONFIG, "tokenizer.file", "%s is no ordinary file", file);
        return;
    }
    int rc = dp_tokenizer_load_alone(&t, file, &err);
    if (rc < 0) problem(c, false, rc, "tokenizer.file", "%s", err.msg);
    dp_tokenizer_free(t);
}

static void check_steps(struct dp_check *c)
{
    const struct dp_serve_options *o = &c->options->serve;
    if (o->until && dp_step_parse(o->until) == DP_STEPS)
        problem(c, false, DP_CONFIG, "serve.until", "there is no stage \"%s\"; stages are ingest, clean, dedup, train-bpe, tokenize, shard and train", o->until);
    struct dp_times t;
    struct dp_hours h;
    struct dp_err err = {0};
    if (dp_times_parse(&t, o->rescan_at, &err) < 0) problem(c, false, err.code, "serve.rescan_at", "%s", err.msg);
    if (dp_times_parse(&t, o->steps_at, &err) < 0) problem(c, false, err.code, "serve.steps_at", "%s", err.msg);
    if (dp_hours_parse(&h, o->hours, &err) < 0) problem(c, false, err.code, "serve.hours", "%s", err.msg);
}

int dp_check_recipe(struct dp_check *c, struct dp_err *e)
{
    struct dp_recipe_look look = {&c->places, loader_problem, c};
    struct dp_options *o = c->options;
    struct dp_err err = {0};
    int rc = dp_recipe_look_into(c->recipe, o->section, o->sections, &o->sources, &look, &err);
    if (rc == DP_NOMEM) DP_FAIL(e, NOMEM, "%s", err.msg);
    if (rc < 0) add(c, false, rc, NULL, err.msg);
    rc = c->apply ? c->apply(c->ctx, o, &err) : DP_OK;
    if (rc < 0) add(c, false, rc, NULL, err.msg);
    check_steps(c);
    check_languages(c);
    check_split(c);
    check_tokenizer(c);
    DP_TRY(check_stages(c, e));
    return c->errors ? DP_OK : dp_options_open(o, e);
}

/* --- what the machine has --- */

static void check_path(struct dp_check *c, const char *name, const char *path)
{
    struct stat st;
    c->sources++;
    if (stat(path, &st) != 0) problem(c, false, DP_NOTFOUND, name, "%s: %s", path, strerror(errno));
    else if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) problem(c, false, DP_CONFIG, name, "%s is neither a file nor a folder", path);
    else if (access(path, S_ISDIR(st.st_mode) ? R_OK | X_OK : R_OK) != 0) problem(c, false, DP_IO, name, "%s: %s", path, strerror(errno));
}

static void check_sources(struct dp_check *c)
{
    for (size_t i = 0; i < c->options->sources.n; i++) {
        const char *s = c->options->sources.v[i];
        char name[32], *path = *s == '/' ? strdup(s) : dp_fs_join(c->dir, s);
        glob_t g = {0};
        struct stat st;
        snprintf(name, sizeof name, "sources.%zu", i);
        if (!path) continue;
        if (!strpbrk(path, "*?[") || lstat(path, &st) == 0) check_path(c, name, path);
        else if (glob(path, 0, NULL, &g) != 0) problem(c, false, DP_NOTFOUND, name, "%s: nothing matches this pattern", path);
        for (size_t k = 0; k < g.gl_pathc; k++) check_path(c, name, g.gl_pathv[k]);
        globfree(&g);
        free(path);
    }
}

/* What `dpipe ingest` was given earlier; a workspace that can't be opened is a problem of its own. */
static void check_workspace(struct dp_check *c)
{
    struct dp_options none = {.sections = 0};
    struct dp_road r = {.options = &none, .ws.lock_fd = -1};
    struct dp_strings roots = {0};
    struct dp_err err = {0};
    char *recipe = dp_fs_join(c->dir, "recipe.yaml");
    bool is_one = recipe && dp_fs_exists(recipe);
    free(recipe);
    if (!is_one) return;
    int rc = dp_workspace_open(&r.ws, c->dir, false, &err);
    if (rc >= 0) rc = dp_road_roots(&r, &roots, &err);
    if (rc < 0) problem(c, false, rc, NULL, "%s", err.msg);
    for (size_t i = 0; i < roots.n; i++) check_path(c, NULL, roots.v[i]);
    dp_strings_release(&roots);
    dp_workspace_close(&r.ws);
}

/* `remedy`: what to set when nothing guards it. */
static void check_address(struct dp_check *c, const char *option, const char *addr, bool guarded, const char *remedy)
{
    bool loopback = false;
    struct dp_err err = {0};
    if (!addr || !*addr) return;
    int fd = dp_tcp_listen(addr, option, &loopback, &err);
    if (fd >= 0) close(fd);
    if (fd < 0 && err.sys != EADDRINUSE) problem(c, false, fd, option, "%s", err.msg); /* in use: by the service at work, as a rule */
    else if (fd < 0) problem(c, true, fd, option, "%s (well, if the service of this workspace is at work)", err.msg);
    if (!guarded && !loopback && (fd >= 0 || err.sys == EADDRINUSE)) problem(c, false, DP_CONFIG, option, "%s is reached from other machines: set %s", addr, remedy);
}

static void check_feed_path(struct dp_check *c, const char *path)
{
    struct stat st;
    if (strlen(path) > 107) problem(c, false, DP_CONFIG, "serve.feed", "%s: a socket's name has at most 107 bytes", path);
    else if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) problem(c, false, DP_CONFIG, "serve.feed", "%s: is there already, and no socket", path);
}

static void check_feed(struct dp_check *c)
{
    const struct dp_serve_options *o = &c->options->serve;
    if (!o->feed || !*o->feed) return;
    if (dp_feed_addr_is_path(o->feed)) {
        check_feed_path(c, o->feed);
        return;
    }
    char *token = dp_serve_secret(o->feed_token_file, "feed-token"), *ca = dp_serve_secret(o->feed_client_ca, "feed-client-ca"), *text = NULL;
    char *cert = dp_serve_secret(o->tls_cert, "tls-cert"), *key = dp_serve_secret(o->tls_key, "tls-key");
    struct dp_tls *tls = NULL;
    struct dp_err err = {0};
    int rc = token ? dp_secret_read(&text, token, &err) : DP_OK;
    if (rc < 0) problem(c, false, rc, "serve.feed_token_file", "%s", err.msg);
    rc = ca ? dp_tls_open(&tls, &(struct dp_tls_config){.server = true, .cert = cert, .key = key, .ca = ca}, &err) : DP_OK;
    if (rc < 0) problem(c, false, rc, "serve.feed_client_ca", "%s", err.msg);
    check_address(c, "serve.feed", o->feed, token || ca, "serve.feed_token_file (or the credential feed-token), or serve.feed_client_ca");
    dp_tls_close(tls);
    free(text);
    free(token);
    free(ca);
    free(cert);
    free(key);
}

static void check_serve(struct dp_check *c)
{
    const struct dp_serve_options *o = &c->options->serve;
    char *token = dp_serve_secret(o->http_token_file, "http-token"), *cert = dp_serve_secret(o->tls_cert, "tls-cert"), *key = dp_serve_secret(o->tls_key, "tls-key"), *text = NULL;
    char *ca = dp_serve_secret(o->tls_client_ca, "tls-client-ca");
    struct dp_tls *tls = NULL;
    struct dp_err err = {0};
    int rc = token ? dp_secret_read(&text, token, &err) : DP_OK;
    if (rc < 0) problem(c, false, rc, "serve.http_token_file", "%s", err.msg);
    check_address(c, "serve.http", o->http, token || ca, "serve.http_token_file (or the credential http-token), or serve.tls_client_ca");
    check_feed(c);
    if (ca && !cert) problem(c, false, DP_CONFIG, "serve.tls_client_ca", "wants serve.tls_cert and serve.tls_key too");
    rc = cert ? dp_tls_open(&tls, &(struct dp_tls_config){.server = true, .cert = cert, .key = key, .ca = ca}, &err) : DP_OK;
    if (rc < 0)
        problem(c, false, rc, key && strncmp(err.msg, key, strlen(key)) == 0 ? "serve.tls_key" : ca && strncmp(err.msg, ca, strlen(ca)) == 0 ? "serve.tls_client_ca" : "serve.tls_cert",
                "%s", err.msg);
    dp_tls_close(tls);
    if (o->group && *o->group && !getgrnam(o->group)) problem(c, false, DP_CONFIG, "serve.group", "there is no group \"%s\"", o->group);
    free(text);
    free(token);
    free(cert);
    free(key);
    free(ca);
}

static void check_disk(struct dp_check *c)
{
    uint64_t low = c->options->serve.min_free_bytes;
    c->disk_free = dp_fs_free_bytes(c->dir);
    if (c->disk_free < low)
        problem(c, true, DP_NOSPACE, "serve.min_free", "%.1f MB are free on the disk of %s: a service pauses below %.1f MB", (double)c->disk_free / 1e6, c->dir, (double)low / 1e6);
}

/* In a child: it can't be left again. What it says comes through a pipe: 'y' or 'n', and the report or the reason. */
static void try_sandbox(const struct dp_check *c, int to)
{
    struct dp_sandbox_options o = {.memory_bytes = c->options->workers.memory_bytes, .files = 64, .optional = c->options->workers.sandbox == DP_SANDBOX_OPTIONAL};
    struct dp_sandbox_report r = {0};
    struct dp_err err = {0};
    struct dp_buf b;
    dp_buf_init(&b, 4096);
    int rc = dp_sandbox_enter(&o, &r, &err);
    dp_buf_add_char(&b, rc < 0 ? 'n' : 'y');
    if (rc < 0) dp_buf_add_str(&b, err.msg);
    else dp_sandbox_print(&r, &b);
    ssize_t n = write(to, b.ptr, b.len);
    _exit(n < 0);
}

static int check_sandbox(struct dp_check *c, struct dp_err *e)
{
    int fd[2];
    char said[sizeof c->sandbox + 1] = "n";
    const struct dp_workers_options *o = &c->options->workers;
    bool wanted = o->isolate == DP_ISOLATE_PROCESS && o->sandbox == DP_SANDBOX_REQUIRED;
    if (pipe(fd) != 0) DP_FAIL_SYS(e, "pipe");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        close(fd[0]);
        try_sandbox(c, fd[1]);
    }
    close(fd[1]);
    ssize_t n = pid > 0 ? read(fd[0], said, sizeof said - 1) : -1;
    close(fd[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    said[n > 0 ? n : 0] = 0;
    if (pid < 0) DP_FAIL_SYS(e, "fork");
    snprintf(c->sandbox, sizeof c->sandbox, "%s", said[0] ? said + 1 : "it dies in it");
    if (said[0] != 'y') problem(c, !wanted, DP_CONFIG, "workers.sandbox", "worker processes can't be shut in here: %s", c->sandbox);
    return DP_OK;
}

int dp_check_machine(struct dp_check *c, struct dp_err *e)
{
    DP_TRY(check_sandbox(c, e)); /* first: before there are threads */
    check_sources(c);
    check_workspace(c);
    check_serve(c);
    check_disk(c);
    c->jit = dp_re_jit();
    if (!c->jit) problem(c, true, DP_CONFIG, NULL, "patterns are interpreted, not compiled: memory may not be made executable here (MemoryDenyWriteExecute=?)");
    return DP_OK;
}

int dp_check_verdict(const struct dp_check *c, int pardon, struct dp_err *e)
{
    const struct dp_problem *first = NULL;
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct dp_problem *p = &c->problem[i];
        if (p->warning || (pardon && (int)p->code == pardon)) continue;
        if (!n++) first = p;
    }
    if (!first) return DP_OK;
    char place[300] = "", more[64] = "";
    if (first->line) snprintf(place, sizeof place, "%s:%zu: ", first->file, first->line);
    if (n > 1) snprintf(more, sizeof more, " (and %zu more: dpipe check-config)", n - 1);
    DP_FAIL(e, CONFIG, "%s%.*s%s", place, (int)(sizeof first->text - 1), first->text, more);
}

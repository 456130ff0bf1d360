#include "daemon/worker_process.h"

#include "base/channel.h"
#include "base/cpu.h"
#include "base/log.h"
#include "base/progress.h"
#include "daemon/worker_board.h"
#include "daemon/worker_message.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CHILD_FD = 3,
    STARTS_MAX = 10,   /* of one that is killed from outside meanwhile */
    START_MS = 120000, /* a machine that swaps */
    TICK_MS = 100,     /* how often limits are looked at */
    SEND_MS = 60000,
    LOGGED_MAX = 200,  /* messages of a unit */
    STOP_MS = 5000,    /* from the request to stop until the worker is killed */
    READ_BYTES_PER_S = 16 << 20,
};

struct seen { /* a slot's turn, and the clocks when it was first seen */
    uint64_t turn;
    int64_t cpu_ms, wall_ms;
};

struct dp_worker {
    const struct dp_options *options;
    char *program;
    pid_t pid;
    int fd, watch_fd, lanes;
    int place; /* daemon/worker_board.h */
    struct dp_watch *watch;
    struct dp_message *m;
    int64_t units; /* of this process */
    struct dp_sandbox_report sandbox;
    /* the unit at hand */
    uint64_t member_bytes;
    struct seen seen[DP_WATCH_SLOTS];
    int64_t ticked_ms, stop_ms;
    uint64_t bytes, docs; /* progress told */
    int logged;
    bool killed; /* by us */
    bool busy;   /* it has a unit and hasn't told its end */
    uint64_t peak_bytes; /* resident, of the process that ended last */
    struct dp_death death;
    struct dp_watch_slot suspect[DP_WATCH_SLOTS];
};

const char *dp_death_name(enum dp_death_reason r)
{
    static const char *const names[] = {"crash", "cpu", "time", "memory", "sandbox", "protocol", "killed"};
    return names[r];
}

int dp_worker_open(struct dp_worker **out, const struct dp_options *o, const char *program, struct dp_err *e)
{
    struct dp_worker *w = calloc(1, sizeof *w);
    *out = NULL;
    if (w) {
        w->fd = w->watch_fd = -1;
        w->place = dp_board_take();
        w->options = o;
        w->program = strdup(program ? program : "/proc/self/exe");
        w->m = malloc(sizeof *w->m);
    }
    if (!w || !w->program || !w->m) {
        dp_worker_close(w);
        DP_FAIL(e, NOMEM, "worker process");
    }
    *out = w;
    return DP_OK;
}

static int64_t clock_ms(clockid_t id)
{
    struct timespec t = {0, 0};
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* CPU time of the process, all threads; what was last known once it is gone. */
static int64_t cpu_ms(const struct dp_worker *w)
{
    clockid_t id;
    return clock_getcpuclockid(w->pid, &id) == 0 ? clock_ms(id) : 0;
}

/* --- start and end --- */

static int end_process(struct dp_worker *w, int patience_ms)
{
    int status = 0;
    struct rusage used = {0};
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
    if (!w->pid) return 0;
    int64_t end = clock_ms(CLOCK_MONOTONIC) + patience_ms;
    for (;;) {
        pid_t got = wait4(w->pid, &status, patience_ms ? WNOHANG : 0, &used);
        if (got == w->pid || (got < 0 && errno != EINTR)) break;
        if (got == 0 && clock_ms(CLOCK_MONOTONIC) >= end) {
            kill(w->pid, SIGKILL);
            w->killed = true;
            patience_ms = 0;
        } else if (got == 0) nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    w->pid = 0;
    dp_board_process(w->place, 0, 0);
    w->peak_bytes = (uint64_t)used.ru_maxrss << 10;
    return status;
}

static void stop_process(struct dp_worker *w)
{
    if (w->pid) kill(w->pid, SIGKILL);
    end_process(w, 0);
    dp_watch_unmap(w->watch);
    w->watch = NULL;
    if (w->watch_fd >= 0) close(w->watch_fd);
    w->watch_fd = -1;
}

void dp_worker_close(struct dp_worker *w)
{
    if (!w) return;
    stop_process(w);
    dp_board_leave(w->place);
    free(w->program);
    free(w->m);
    free(w);
}

/* Of the broker's environment a worker gets what loaders, sanitizers and locales need: no tokens, no options. */
static void environment(char *out[], size_t max)
{
    static const char *const keep[] = {"LANG=", "LC_ALL=", "LC_CTYPE=", "LD_LIBRARY_PATH=", "LD_PRELOAD=", "GCONV_PATH=", "GLIBC_TUNABLES=",
                                       "MALLOC_ARENA_MAX=", "ASAN_OPTIONS=", "LSAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS=", "DPIPE_TEST_FAULT="};
    size_t n = 0;
    for (char **v = environ; v && *v; v++)
        for (size_t k = 0; k < sizeof keep / sizeof *keep && n + 1 < max; k++)
            if (strncmp(*v, keep[k], strlen(keep[k])) == 0) out[n++] = *v;
    out[n] = NULL;
}

static int spawn(struct dp_worker *w, int child_end, struct dp_err *e)
{
    char *argv[] = {(char[]){"dpipe"}, (char[]){DP_WORKER_COMMAND}, NULL}, *envp[32];
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none, all;
    environment(envp, sizeof envp / sizeof *envp);
    sigemptyset(&none);
    sigfillset(&all);
    if (posix_spawn_file_actions_init(&fa) != 0) DP_FAIL(e, NOMEM, "worker process");
    posix_spawnattr_init(&attr);
    /* A group of its own: Ctrl-C on a terminal is for the broker. */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    int sys = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    if (!sys) sys = posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    if (!sys) sys = posix_spawn_file_actions_adddup2(&fa, child_end, CHILD_FD);
    if (!sys) sys = posix_spawn(&w->pid, w->program, &fa, &attr, argv, envp);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&fa);
    if (!sys) {
        dp_board_process(w->place, (int)w->pid, w->lanes);
        return DP_OK;
    }
    w->pid = 0;
    return dp_err_set(e, DP_CONFIG, sys, __FILE__, __LINE__, "cannot start a worker process (%s); --isolate=thread works without", w->program);
}

static void add_section(const struct dp_section *s, struct dp_buf *b)
{
    for (const struct dp_opt *r = s->rows; r && r->name; r++) {
        size_t from = b->len;
        dp_buf_printf(b, "%s.%s", s->name, r->name);
        dp_buf_add_char(b, 0);
        size_t value = b->len;
        dp_opt_print(r, s->base, b);
        if (b->len == value && !r->preset) b->len = from; /* not set */
        else dp_buf_add_char(b, 0);
    }
}

static int greet(struct dp_worker *w, struct dp_err *e)
{
    const struct dp_options *o = w->options;
    struct dp_msg_hello h = {.log_debug = dp_log_wanted(DP_LOG_DEBUG), .memory_bytes = o->workers.memory_bytes * (uint64_t)w->lanes,
                             .unsafe = o->workers.sandbox == DP_SANDBOX_OPTIONAL};
    snprintf(h.cpu, sizeof h.cpu, "%s", dp_cpu_name(dp_cpu()));
    struct dp_buf b;
    dp_buf_init(&b, DP_CHANNEL_BYTES_MAX);
    dp_buf_add(&b, &h, sizeof h);
    for (size_t i = 0; i < o->sections; i++) {
        const char *name = o->section[i].name;
        if (strcmp(name, "ingest") == 0 || strncmp(name, "clean.", 6) == 0 || strcmp(name, "dedup.signature") == 0) add_section(&o->section[i], &b);
    }
    int rc = dp_buf_check(&b, "options for a worker process", e);
    if (rc >= 0) rc = dp_channel_send(w->fd, DP_MSG_HELLO, b.ptr, b.len, &w->watch_fd, 1, SEND_MS, e);
    dp_buf_release(&b);
    return rc;
}

static int await_ready(struct dp_worker *w, struct dp_err *e)
{
    struct dp_message *m = w->m;
    int rc;
    while ((rc = dp_channel_receive(w->fd, m, START_MS, e)) == DP_OK && m->kind == DP_MSG_LOG) dp_message_close(m); /* of its start: in `msg` */
    if (rc < 0) return rc;
    dp_message_close(m);
    struct dp_msg_ready r;
    w->sandbox = (struct dp_sandbox_report){0};
    if (rc != DP_OK || m->kind != DP_MSG_READY || m->len != sizeof r) {
        w->killed = false;
        int status = end_process(w, 1000);
        if (!w->killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) DP_FAIL(e, BUSY, "worker processes are killed from outside while they start; run again");
        DP_FAIL(e, CONFIG, "a worker process didn't start (wait status 0x%x); --isolate=thread works without", (unsigned)status);
    }
    memcpy(&r, m->bytes, sizeof r);
    r.msg[sizeof r.msg - 1] = 0;
    if (r.code < 0) DP_FAIL(e, CONFIG, "a worker process didn't start: %s", r.msg);
    w->sandbox = r.sandbox;
    struct dp_buf b;
    dp_buf_init(&b, 1024);
    dp_sandbox_print(&r.sandbox, &b);
    dp_log(DEBUG, "worker", "process %d: %s", (int)w->pid, b.ptr ? b.ptr : "");
    dp_buf_release(&b);
    return DP_OK;
}

static int start_once(struct dp_worker *w, int lanes, struct dp_err *e)
{
    int fd[2];
    stop_process(w);
    w->lanes = lanes;
    w->units = 0;
    DP_TRY(dp_watch_create(&w->watch_fd, &w->watch, e));
    int rc = dp_channel_pair(fd, e);
    if (rc >= 0) {
        w->fd = fd[0];
        rc = spawn(w, fd[1], e);
        close(fd[1]);
    }
    if (rc >= 0) rc = greet(w, e);
    if (rc >= 0 || (rc == DP_IO && w->fd >= 0)) rc = await_ready(w, e); /* who can't be greeted is gone: ask how */
    if (rc != DP_OK) stop_process(w);
    return rc > 0 ? dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "a worker process ended while it started") : rc;
}

static int start_process(struct dp_worker *w, int lanes, struct dp_err *e)
{
    int rc = start_once(w, lanes, e);
    for (int tries = 1; rc == DP_BUSY && tries < STARTS_MAX; tries++) rc = start_once(w, lanes, e);
    return rc;
}

/* --- death --- */

static int died(struct dp_worker *w, enum dp_death_reason reason, const char *what)
{
    struct dp_death *d = &w->death;
    d->reason = reason;
    snprintf(d->what, sizeof d->what, "%s", what);
    d->suspect = w->suspect;
    d->suspects = 0;
    d->text = dp_span("", 0);
    for (int i = 0; i < DP_WATCH_SLOTS; i++) {
        struct dp_watch_slot *s = &w->suspect[d->suspects];
        if (!dp_watch_read(w->watch, i, s)) continue;
        if (s->exact) d->text = dp_span(w->watch->text, s->bytes < DP_WATCH_TEXT_MAX ? s->bytes : DP_WATCH_TEXT_MAX);
        d->suspects++;
    }
    return DP_EMPTY;
}

/* Killed by us for `reason`; the slots are read when it can't change them any more. */
static int put_down(struct dp_worker *w, enum dp_death_reason reason, const char *what)
{
    if (w->pid) kill(w->pid, SIGKILL);
    end_process(w, 0);
    return died(w, reason, what);
}

/* The channel ended: ask the kernel how. */
static int found_dead(struct dp_worker *w)
{
    char what[160];
    w->killed = false;
    int status = end_process(w, 1000);
    if (w->killed) return died(w, DP_DEATH_LIED, "it closed its channel and went on");
    if (!WIFSIGNALED(status)) {
        snprintf(what, sizeof what, "it ended by itself with status %d", WEXITSTATUS(status));
        return died(w, DP_DEATH_CRASH, what);
    }
    int sig = WTERMSIG(status);
    const char *name = sigabbrev_np(sig);
    snprintf(what, sizeof what, "signal %d (SIG%s)", sig, name ? name : "?");
    /* Libraries abort, or fall over a null pointer, where memory is refused. */
    uint64_t limit = w->options->workers.memory_bytes * (uint64_t)w->lanes;
    if (sig != SIGKILL && sig != SIGSYS && w->peak_bytes > limit / 10 * 9) return died(w, DP_DEATH_MEMORY, what);
    return died(w, sig == SIGKILL ? DP_DEATH_KILLED : sig == SIGSYS ? DP_DEATH_SANDBOX : DP_DEATH_CRASH, what);
}

/* --- a unit --- */

/* Somebody stopped it (SIGSTOP, a debugger): that it takes long is no document's fault. */
static bool is_stopped(const struct dp_worker *w)
{
    char path[48], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)w->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *s = strrchr(text, ')'); /* behind the name, which may hold anything */
    return s && s[1] == ' ' && (s[2] == 'T' || s[2] == 't');
}

/* DP_EMPTY when a slot has been at the same thing for too long. */
static int check_limits(struct dp_worker *w, const struct dp_unit_job *job)
{
    int64_t now = clock_ms(CLOCK_MONOTONIC), limit = w->options->workers.doc_seconds * 1000;
    if (now - w->ticked_ms < TICK_MS) return DP_OK;
    /* A broker that was stopped itself (Ctrl-Z, a debugger) didn't hear the worker meanwhile. */
    bool slept = now - w->ticked_ms > 50 * TICK_MS;
    w->ticked_ms = now;
    int64_t cpu = cpu_ms(w);
    for (int i = 0; i < DP_WATCH_SLOTS; i++) {
        struct dp_watch_slot s;
        struct seen *k = &w->seen[i];
        if (!dp_watch_read(w->watch, i, &s)) {
            k->turn = 0;
            continue;
        }
        uint64_t turn = atomic_load_explicit(&s.turn, memory_order_relaxed);
        if (k->turn != turn) {
            *k = (struct seen){turn, cpu, now};
            continue;
        }
        if (slept) k->wall_ms = now;
        int64_t allowed = limit + (s.phase == DP_WATCH_READ ? (int64_t)(w->member_bytes / (READ_BYTES_PER_S / 1000)) : 0);
        char what[160];
        snprintf(what, sizeof what, "more than %lld s", (long long)(allowed / 1000));
        /* The clock counts all threads: with several lanes each is allowed its share. Alone, in a second run, it is exact. */
        if (cpu - k->cpu_ms > allowed * job->lanes) return put_down(w, DP_DEATH_CPU, what);
        snprintf(what, sizeof what, "more than %lld s of wall-clock time", (long long)(allowed / 100));
        if (now - k->wall_ms > allowed * 10) return is_stopped(w) ? put_down(w, DP_DEATH_KILLED, "it was stopped") : put_down(w, DP_DEATH_WALL, what);
    }
    return DP_OK;
}

static int answer_member(struct dp_worker *w, const struct dp_unit_job *job, struct dp_err *e)
{
    struct dp_msg_ask a;
    struct dp_msg_member h = {0};
    const char *name, *prefix, *digest;
    struct stat st;
    struct dp_buf b;
    memcpy(&a, w->m->bytes, sizeof a);
    if (a.member >= job->members) return put_down(w, DP_DEATH_LIED, "it asked for a file that isn't in its unit");
    struct dp_err why = {0};
    int fd = job->open_member(job->ctx, (size_t)a.member, &name, &prefix, &digest, &why);
    h.code = fd < 0 ? fd : 0;
    w->member_bytes = fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    dp_buf_init(&b, DP_CHANNEL_BYTES_MAX);
    dp_buf_add(&b, &h, sizeof h);
    const char *text[] = {fd < 0 ? why.msg : name, prefix, digest};
    for (int i = 0; i < (fd < 0 ? 1 : 3); i++) dp_buf_add(&b, text[i], strlen(text[i]) + 1);
    int rc = dp_buf_check(&b, "a file's names for a worker process", e);
    if (rc >= 0) rc = dp_channel_send(w->fd, DP_MSG_MEMBER, b.ptr, b.len, &fd, fd >= 0, SEND_MS, e);
    if (fd >= 0) close(fd);
    dp_buf_release(&b);
    if (rc == DP_EOF) return found_dead(w);
    return rc == DP_BUSY ? DP_OK : rc; /* the limits know what to do with one that doesn't hear */
}

static int take_result(struct dp_worker *w, const struct dp_unit_job *job, struct dp_unit_result *res)
{
    memcpy(res, w->m->bytes, sizeof *res);
    for (int i = 0; i < DP_OUTS; i++) {
        res->out[i].digest[DP_HEX256 - 1] = 0;
        if (job->out[i] >= 0 && strspn(res->out[i].digest, "0123456789abcdef") != DP_HEX256 - 1)
            return put_down(w, DP_DEATH_LIED, "its digest is none");
    }
    w->units++;
    w->busy = false;
    return DP_OK;
}

static int take_failure(struct dp_worker *w, struct dp_err *e)
{
    struct dp_msg_failed f;
    memcpy(&f, w->m->bytes, sizeof f);
    f.msg[sizeof f.msg - 1] = 0;
    /* Its heap is in an unknown state, and others of its allocations may have failed quietly. */
    if (f.code == DP_NOMEM) return put_down(w, DP_DEATH_MEMORY, f.msg);
    if (f.code >= 0 || strcmp(dp_code_name(f.code), dp_code_name(INT_MIN)) == 0) return put_down(w, DP_DEATH_LIED, "its error is none");
    w->busy = false;
    return dp_err_set(e, (enum dp_code)f.code, 0, __FILE__, __LINE__, "%s", f.msg);
}

static void pass_on(struct dp_worker *w, const struct dp_unit_job *job)
{
    const struct dp_message *m = w->m;
    if (m->kind == DP_MSG_PROGRESS) {
        struct dp_msg_progress p;
        memcpy(&p, m->bytes, sizeof p);
        w->bytes += p.bytes;
        w->docs += p.docs;
        dp_board_progress(w->place, p.bytes, p.docs);
        if (job->progress) job->progress(job->ctx, p.bytes, p.docs);
        return;
    }
    struct dp_msg_log l;
    size_t at = sizeof l;
    memcpy(&l, m->bytes, sizeof l);
    const char *part[5] = {NULL}; /* module, message, unit, path, record */
    for (int i = 0; i < 5 && (!i || part[i - 1]); i++) part[i] = dp_msg_string(m->bytes, m->len, &at);
    if (!part[4] || w->logged++ >= LOGGED_MAX) return;
    enum dp_log_level level = l.level >= DP_LOG_DEBUG ? DP_LOG_DEBUG : l.level > DP_LOG_WARN ? DP_LOG_INFO
                            : l.level == DP_LOG_WARN ? DP_LOG_WARN : DP_LOG_ERROR;
    for (int i = 2; i < 5; i++)
        if (!*part[i]) part[i] = NULL;
    struct dp_log_where where = {.unit = part[2], .path = part[3], .record = part[4], .offset = l.offset, .said = true};
    char name[32];
    snprintf(name, sizeof name, "%s", part[0]);
    static struct dp_log_site site; /* one for all: a worker that was taken over may say what it likes, but not fill the journal */
    if (dp_log_wanted(level)) dp_log_limited(&site, level, name, l.place ? &where : NULL, "%s", part[1]);
}

/* One message; *over says whether the unit ended with it. */
static int handle(struct dp_worker *w, const struct dp_unit_job *job, struct dp_unit_result *res, bool *over, struct dp_err *e)
{
    const struct dp_message *m = w->m;
    size_t least = m->kind == DP_MSG_ASK ? sizeof(struct dp_msg_ask) : m->kind == DP_MSG_PROGRESS ? sizeof(struct dp_msg_progress)
                 : m->kind == DP_MSG_LOG ? sizeof(struct dp_msg_log) : m->kind == DP_MSG_DONE ? sizeof *res
                 : m->kind == DP_MSG_FAILED ? sizeof(struct dp_msg_failed) : SIZE_MAX;
    int rc = DP_OK;
    *over = true;
    if (m->len < least || (m->kind != DP_MSG_LOG && m->len != least) || m->fds) return put_down(w, DP_DEATH_LIED, "it sent what is no message");
    if (m->kind == DP_MSG_DONE) return take_result(w, job, res);
    if (m->kind == DP_MSG_FAILED) return take_failure(w, e);
    if (m->kind == DP_MSG_ASK) rc = answer_member(w, job, e);
    else pass_on(w, job);
    *over = rc != DP_OK;
    return rc;
}

/* Tell it once; kill it when it doesn't hear. */
static int check_stop(struct dp_worker *w, const struct dp_unit_job *job, struct dp_err *e)
{
    if (!job->stop || !job->stop(job->ctx)) return DP_OK;
    int64_t now = clock_ms(CLOCK_MONOTONIC);
    if (!w->stop_ms) {
        w->stop_ms = now;
        dp_channel_send(w->fd, DP_MSG_STOP, NULL, 0, NULL, 0, 0, NULL);
    }
    if (now - w->stop_ms < STOP_MS) return DP_OK;
    stop_process(w);
    DP_FAIL(e, STOPPED, "stopped; what is published stays, run again to go on");
}

static int send_unit(struct dp_worker *w, const struct dp_unit_job *job, struct dp_err *e)
{
    const struct dp_unit_care none = {0}, *care = job->care ? job->care : &none;
    struct dp_msg_unit u = {.stages = (uint32_t)job->stages, .lanes = (uint32_t)job->lanes, .members = job->members, .skips = (uint32_t)care->skips,
                            .carefuls = (uint32_t)care->carefuls, .sign = job->sign};
    struct dp_buf b;
    int fds[DP_OUTS], n = 0;
    for (int i = 0; i < DP_OUTS; i++) {
        u.out[i] = job->out[i] >= 0;
        if (u.out[i]) fds[n++] = job->out[i];
    }
    dp_buf_init(&b, DP_CHANNEL_BYTES_MAX);
    dp_buf_add(&b, &u, sizeof u);
    dp_buf_add(&b, care->skip, care->skips * sizeof *care->skip);
    dp_buf_add(&b, care->careful, care->carefuls * sizeof *care->careful);
    int rc = dp_buf_check(&b, "a unit for a worker process", e);
    if (rc >= 0) rc = dp_channel_send(w->fd, DP_MSG_UNIT, b.ptr, b.len, fds, n, SEND_MS, e);
    dp_buf_release(&b);
    return rc;
}

static int converse(struct dp_worker *w, const struct dp_unit_job *job, struct dp_unit_result *res, struct dp_err *e)
{
    for (;;) {
        int rc = dp_channel_receive(w->fd, w->m, TICK_MS, e);
        bool over = false;
        if (rc == DP_EOF) return found_dead(w);
        if (rc == DP_CORRUPT) return put_down(w, DP_DEATH_LIED, "it sent what is no message");
        if (rc < 0) return rc;
        if (rc == DP_OK) {
            rc = handle(w, job, res, &over, e);
            dp_message_close(w->m);
            if (over) return rc;
        }
        rc = check_limits(w, job);
        if (rc != DP_OK) return rc;
        dp_progress_tick(); /* a document may take its time: its own limits end it, not the service's watchdog */
        DP_TRY(check_stop(w, job, e));
    }
}

int dp_worker_run(struct dp_worker *w, const struct dp_unit_job *job, struct dp_unit_result *res, struct dp_err *e)
{
    DP_ASSERT(job->lanes >= 1 && job->lanes <= DP_WATCH_LANES_MAX);
    /* Between units a worker may have been killed from outside: that is nobody's fault and costs a start. */
    bool gone = w->pid && waitpid(w->pid, NULL, WNOHANG) == w->pid;
    if (gone) w->pid = 0;
    if (!w->pid || w->lanes != job->lanes || w->units >= w->options->workers.units_max) DP_TRY(start_process(w, job->lanes, e));
    memset(w->seen, 0, sizeof w->seen);
    w->member_bytes = w->bytes = w->docs = 0;
    w->stop_ms = w->logged = 0;
    w->busy = true;
    dp_board_begin(w->place, job->what);
    int rc = send_unit(w, job, e);
    if (rc == DP_EOF || rc == DP_BUSY) rc = found_dead(w);
    else if (rc >= 0) rc = converse(w, job, res, e);
    /* Our own trouble in the middle of it (no memory for a message): whoever comes next must not be answered with the rest of this unit. */
    if (rc < 0 && w->busy) stop_process(w);
    dp_board_end(w->place, rc == DP_EMPTY);
    /* What a lost attempt told is taken back. */
    if (rc != DP_OK && job->progress) job->progress(job->ctx, 0 - w->bytes, 0 - w->docs);
    return rc;
}

const struct dp_death *dp_worker_death(const struct dp_worker *w)
{
    return &w->death;
}

const struct dp_sandbox_report *dp_worker_sandbox(const struct dp_worker *w)
{
    return &w->sandbox;
}

int dp_worker_pid(const struct dp_worker *w)
{
    return (int)w->pid;
}

/* The worker process: the same dp_unit_run that a thread calls, behind a sandbox.
 *
 * The main thread waits for messages while a second one works, so that a worker whose broker is gone ends at once, even in a document that
 * never ends, and a request to stop gets through. */
#include "daemon/worker_process.h"

#include "base/channel.h"
#include "base/cpu.h"
#include "base/log.h"
#include "clean/charset.h"
#include "daemon/worker_message.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (UINT64_C(1) << 40) /* of one artifact */
enum { FILES_MAX = 64 };

struct child {
    int fd;
    struct dp_options options;
    struct dp_watch *watch;
    pthread_mutex_t send_mu, mu;
    pthread_cond_t answered;
    atomic_bool stop;
    bool working;
    pthread_t worker;
    /* the unit at hand */
    struct dp_unit_job job;
    struct dp_unit_care care;
    struct dp_skip *skip;
    struct dp_careful *careful;
    struct dp_unit_result result;
    /* the answer to ASK, under mu */
    bool have_member;
    int member_fd, member_code;
    char *member; /* name, prefix, digest, one behind the other; or a message */
    size_t member_len;
    char *names; /* the same of the member at hand; the working thread's */
};

static struct child *the_child; /* for the log's sink */

static int say(struct child *c, enum dp_worker_kind kind, const void *bytes, size_t len, struct dp_err *e)
{
    pthread_mutex_lock(&c->send_mu);
    int rc = dp_channel_send(c->fd, kind, bytes, len, NULL, 0, -1, e);
    pthread_mutex_unlock(&c->send_mu);
    if (rc == DP_EOF) _exit(1); /* nobody is left to work for */
    return rc;
}

static void log_to_broker(enum dp_log_level level, const char *module, const struct dp_log_where *at, const char *msg)
{
    struct {
        struct dp_msg_log head;
        char text[2600];
    } m = {.head = {at ? at->offset : -1, (int32_t)level, at != NULL}};
    const struct {
        const char *text;
        size_t max;
    } part[] = {{module, 63}, {msg, 1100}, {at ? at->unit : NULL, 300}, {at ? at->path : NULL, 900}, {at ? at->record : NULL, 200}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        size_t k = part[i].text ? strnlen(part[i].text, part[i].max) : 0;
        if (k) memcpy(m.text + n, part[i].text, k);
        m.text[n + k] = 0;
        n += k + 1;
    }
    say(the_child, DP_MSG_LOG, &m, sizeof m.head + n, NULL);
}

static void on_progress(void *ctx, uint64_t bytes, uint64_t docs)
{
    struct dp_msg_progress p = {bytes, docs};
    say(ctx, DP_MSG_PROGRESS, &p, sizeof p, NULL);
}

static bool asked_to_stop(void *ctx)
{
    struct child *c = ctx;
    return atomic_load_explicit(&c->stop, memory_order_relaxed);
}

static int ask_member(void *ctx, size_t i, const char **name, const char **prefix, const char **digest, struct dp_err *e)
{
    struct child *c = ctx;
    struct dp_msg_ask a = {i};
    DP_TRY(say(c, DP_MSG_ASK, &a, sizeof a, e));
    pthread_mutex_lock(&c->mu);
    while (!c->have_member) pthread_cond_wait(&c->answered, &c->mu);
    c->have_member = false;
    int code = c->member_code, fd = c->member_fd;
    size_t len = c->member_len, at = 0;
    free(c->names);
    c->names = c->member;
    c->member = NULL;
    pthread_mutex_unlock(&c->mu);
    if (code < 0) {
        const char *why = dp_msg_string(c->names, len, &at);
        return dp_err_set(e, (enum dp_code)code, 0, __FILE__, __LINE__, "%s", why ? why : "");
    }
    *name = dp_msg_string(c->names, len, &at);
    *prefix = dp_msg_string(c->names, len, &at);
    *digest = dp_msg_string(c->names, len, &at);
    if (fd < 0 || !*name || !*prefix || !*digest) DP_FAIL(e, BROKEN, "worker: member %zu came without descriptor or names", i);
    return fd;
}

static void *work(void *v)
{
    struct child *c = v;
    struct dp_err err = {0};
    for (int i = 0; i < DP_WATCH_SLOTS; i++) c->watch->slot[i].phase = DP_WATCH_IDLE;
    int rc = dp_unit_run(&c->job, &c->result, &err);
    if (rc >= 0) rc = say(c, DP_MSG_DONE, &c->result, sizeof c->result, &err);
    if (rc < 0) {
        struct dp_msg_failed f = {.code = rc};
        snprintf(f.msg, sizeof f.msg, "%s", err.msg);
        say(c, DP_MSG_FAILED, &f, sizeof f, NULL);
    }
    return NULL;
}

static int start_unit(struct child *c, struct dp_message *m, struct dp_err *e)
{
    struct dp_msg_unit u;
    if (c->working) pthread_join(c->worker, NULL);
    c->working = false;
    if (m->len < sizeof u) DP_FAIL(e, BROKEN, "worker: a short message");
    memcpy(&u, m->bytes, sizeof u);
    size_t skip_bytes = u.skips * sizeof *c->skip, careful_bytes = u.carefuls * sizeof *c->careful;
    if (m->len != sizeof u + skip_bytes + careful_bytes) DP_FAIL(e, BROKEN, "worker: a short message");
    free(c->skip);
    free(c->careful);
    c->skip = malloc(skip_bytes + 1);
    c->careful = malloc(careful_bytes + 1);
    if (!c->skip || !c->careful) DP_FAIL(e, NOMEM, "worker: a skip list");
    memcpy(c->skip, m->bytes + sizeof u, skip_bytes);
    memcpy(c->careful, m->bytes + sizeof u + skip_bytes, careful_bytes);
    c->care = (struct dp_unit_care){c->skip, u.skips, c->careful, u.carefuls};
    c->job = (struct dp_unit_job){.ingest = &c->options.ingest, .clean = &c->options.clean, .sign = u.sign, .stages = u.stages,
                                  .lanes = (int)u.lanes, .members = u.members, .open_member = ask_member, .progress = on_progress,
                                  .stop = asked_to_stop, .ctx = c, .watch = c->watch, .care = &c->care};
    for (int i = 0, k = 0; i < DP_OUTS; i++) {
        c->job.out[i] = -1;
        if (!u.out[i]) continue;
        if (k == m->fds) DP_FAIL(e, BROKEN, "worker: an output is missing");
        c->job.out[i] = m->fd[k];
        m->fd[k++] = -1;
    }
    atomic_store(&c->stop, false);
    c->have_member = false;
    int sys = pthread_create(&c->worker, NULL, work, c);
    if (sys) return dp_err_set(e, DP_NOMEM, sys, __FILE__, __LINE__, "worker: cannot start a thread");
    c->working = true;
    return DP_OK;
}

static int take_member(struct child *c, struct dp_message *m, struct dp_err *e)
{
    struct dp_msg_member h;
    if (m->len < sizeof h) DP_FAIL(e, BROKEN, "worker: a short message");
    memcpy(&h, m->bytes, sizeof h);
    pthread_mutex_lock(&c->mu);
    free(c->member);
    c->member_len = m->len - sizeof h;
    c->member = malloc(c->member_len + 1);
    if (c->member) memcpy(c->member, m->bytes + sizeof h, c->member_len);
    else c->member_len = 0;
    c->member_code = c->member ? h.code : DP_NOMEM;
    c->member_fd = c->member && m->fds ? m->fd[0] : -1;
    if (c->member_fd >= 0) m->fd[0] = -1; /* else it is closed with the message */
    c->have_member = true;
    pthread_cond_signal(&c->answered);
    pthread_mutex_unlock(&c->mu);
    return DP_OK;
}

static int set_option(struct child *c, const char *name, const char *value, struct dp_err *e)
{
    const char *dot = strrchr(name, '.');
    char section[64];
    snprintf(section, sizeof section, "%.*s", dot ? (int)(dot - name) : 0, name);
    const struct dp_section *s = dp_options_section(&c->options, section);
    const struct dp_opt *row = s ? dp_opt_find(s->rows, dp_span_str(dot + 1)) : NULL;
    if (!row) DP_FAIL(e, BROKEN, "worker: there is no option %s", name);
    return dp_opt_set(row, s->base, dp_span_str(value), name, e);
}

/* Everything that opens files: before the sandbox. */
static int prepare(struct child *c, struct dp_message *m, struct dp_msg_hello *h, struct dp_err *e)
{
    int rc = dp_channel_receive(c->fd, m, -1, e);
    if (rc != DP_OK) return rc < 0 ? rc : DP_IO;
    if (m->kind != DP_MSG_HELLO || m->len < sizeof *h || m->fds != 1) DP_FAIL(e, BROKEN, "worker: the first message is no greeting");
    memcpy(h, m->bytes, sizeof *h);
    h->cpu[sizeof h->cpu - 1] = 0;
    dp_log_init(h->log_debug ? DP_LOG_DEBUG : DP_LOG_INFO, DP_LOG_TEXT);
    dp_log_set_sink(log_to_broker);
    DP_TRY(dp_cpu_force(h->cpu, e));
    DP_TRY(dp_watch_map(m->fd[0], &c->watch, e));
    DP_TRY(dp_options_init(&c->options, e));
    const char *name, *value;
    for (size_t at = sizeof *h; (name = dp_msg_string(m->bytes, m->len, &at)) && (value = dp_msg_string(m->bytes, m->len, &at));)
        DP_TRY(set_option(c, name, value, e));
    DP_TRY(dp_options_open(&c->options, e));
    dp_charset_preload();
    char hex[DP_HEX256];
    return dp_sha256_span(dp_span("", 0), hex, e); /* OpenSSL reads its configuration at first use */
}

/* Where memory runs out, the kernel should take a worker before the broker. */
static void take_me_first(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, "500", 3) < 0) { /* a wish */
    }
    close(fd);
}

static int serve(struct child *c, struct dp_message *m, struct dp_err *e)
{
    for (;;) {
        int rc = dp_channel_receive(c->fd, m, -1, e);
        if (rc == DP_EMPTY) continue;
        if (rc != DP_OK) return rc;
        switch (m->kind) {
        case DP_MSG_UNIT: rc = start_unit(c, m, e); break;
        case DP_MSG_MEMBER: rc = take_member(c, m, e); break;
        case DP_MSG_STOP: atomic_store(&c->stop, true); break;
        default: rc = dp_err_set(e, DP_BROKEN, 0, __FILE__, __LINE__, "worker: message %u is unknown", m->kind);
        }
        dp_message_close(m);
        if (rc < 0) return rc;
    }
}

int dp_worker_main(int fd)
{
    static struct child c; /* sections point into its options */
    static struct dp_message m;
    struct dp_err err = {0};
    struct dp_msg_hello h = {0};
    struct dp_msg_ready r = {0};
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode)) return DP_USAGE; /* somebody typed the command */
    prctl(PR_SET_NAME, "dpipe-worker");
    /* The channel's end tells a worker that its broker is gone; one that was stopped (SIGSTOP) would hear it never. The thread that started us
     * lives as long as the worker does: a thread of the road's pool, or the one that owns it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the broker says when to stop */
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    close_range((unsigned)fd + 1, ~0u, 0); /* what the broker's parent left open: a shell's files, systemd's sockets */
    c.fd = fd;
    the_child = &c;
    pthread_mutex_init(&c.mu, NULL);
    pthread_mutex_init(&c.send_mu, NULL);
    pthread_cond_init(&c.answered, NULL);
    take_me_first();
    dp_fault_init();
    int rc = prepare(&c, &m, &h, &err);
    dp_message_close(&m);
    if (rc >= 0) {
        struct dp_sandbox_options o = {.memory_bytes = h.memory_bytes, .file_bytes = FILE_BYTES_MAX, .files = FILES_MAX, .optional = h.unsafe};
        rc = dp_sandbox_enter(&o, &r.sandbox, &err);
    }
    r.code = rc;
    snprintf(r.msg, sizeof r.msg, "%s", err.msg);
    say(&c, DP_MSG_READY, &r, sizeof r, NULL);
    if (rc >= 0) rc = serve(&c, &m, &err);
    if (rc < 0 && rc != DP_IO) log_to_broker(DP_LOG_ERROR, "worker", NULL, err.msg);
    return rc < 0 ? rc : DP_OK;
}

/* The order at start: workspace and recipe, sockets, the note in the lock file, READY, then the work thread; so that a million
 * finished jobs delay nothing. The order at the end: STOPPING, no new unit, wait for those that run, abandon them, wait a moment more, and
 * leave: what isn't published by then was never there, so leaving in the middle is as safe as kill -9. */
#include "daemon/serve.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/progress.h"
#include "base/re.h"
#include "daemon/events.h"
#include "daemon/history.h"
#include "daemon/notify.h"
#include "daemon/serve_internal.h"
#include "trainer_feed/feed_server.h"

#include <event2/event.h>
#include <event2/thread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* Behind drain_timeout units are told to stop, and have so long to come to a batch's end; then the process leaves without them. */
static const double abandon_s = 2.5;

/* --- state --- */

const char *dp_serve_state_name(enum dp_serve_state st)
{
    static const char *const names[] = {"starting", "working", "idle", "retrying", "paused", "paused: disk", "draining", "drained", "off hours", "stopping"};
    return names[st];
}

enum dp_serve_state dp_serve_state(struct dp_serve *s, struct dp_work_status *w)
{
    if (s->work) dp_work_status(s->work, w);
    else *w = (struct dp_work_status){0};
    if (s->stopping) return DP_SERVE_STOPPING;
    if (s->disk_low || w->disk_full) return DP_SERVE_DISK;
    if (s->draining) return w->busy ? DP_SERVE_DRAINING : DP_SERVE_DRAINED;
    if (s->paused) return DP_SERVE_PAUSED;
    if (!w->started) return DP_SERVE_STARTING;
    if (w->busy || w->units_gathering) return DP_SERVE_WORKING;
    if (s->off) return DP_SERVE_HOURS;
    return w->step_failures || w->left.waiting ? DP_SERVE_RETRYING : DP_SERVE_IDLE;
}

bool dp_serve_ready(struct dp_serve *s, const char **why)
{
    struct dp_work_status w;
    enum dp_serve_state st = dp_serve_state(s, &w);
    *why = s->stuck ? "stuck: the step at hand makes no progress" : dp_serve_state_name(st);
    return !s->stuck && (st == DP_SERVE_WORKING || st == DP_SERVE_IDLE || st == DP_SERVE_RETRYING || st == DP_SERVE_HOURS);
}

static void print_progress(struct dp_jsonw *w)
{
    struct dp_progress_view p;
    dp_progress_read(&p);
    if (!p.active) return;
    dp_jsonw_key(w, "progress");
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "step", p.label);
    dp_jsonw_member(w, "unit", p.unit);
    dp_jsonw_member_int(w, "done", (int64_t)p.done);
    dp_jsonw_member_int(w, "total", (int64_t)p.total);
    dp_jsonw_member_int(w, "documents", (int64_t)p.docs);
    dp_jsonw_key(w, "seconds");
    dp_jsonw_real(w, p.seconds);
    dp_jsonw_end(w, '}');
}

static void print_work(const struct dp_work_status *t, struct dp_jsonw *w)
{
    const struct {
        const char *k;
        uint64_t v;
    } n[] = {{"passes", t->passes}, {"units", t->units}, {"units_made", t->made}, {"units_up_to_date", t->found}, {"units_waiting", t->left.waiting},
             {"units_given_up", t->left.given_up}, {"step_failures", t->step_failures}};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) dp_jsonw_member_int(w, n[i].k, (int64_t)n[i].v);
    dp_jsonw_member_int(w, "generation", (int64_t)t->generation);
    dp_jsonw_member_int(w, "units_gathering", (int64_t)t->units_gathering);
    dp_jsonw_member_int(w, "pass_begun", t->pass_begun);
    dp_jsonw_member_int(w, "pass_ended", t->pass_ended);
    dp_jsonw_member_int(w, "behind_since", t->behind_since);
    dp_jsonw_member_int(w, "retry_at", t->retry_at);
    dp_jsonw_member_int(w, "next_rescan", t->next_rescan);
    dp_jsonw_member_int(w, "next_steps", t->next_steps);
    if (t->error[0]) dp_jsonw_member(w, "error", t->error);
}

void dp_serve_print_still(struct dp_serve *s, struct dp_jsonw *w)
{
    struct dp_work_status t;
    const char *why;
    size_t folders = 0, beyond = 0;
    enum dp_serve_state st = dp_serve_state(s, &t);
    if (s->watch) dp_inbox_count(s->watch, &folders, &beyond);
    dp_jsonw_member(w, "state", dp_serve_state_name(st));
    dp_jsonw_key(w, "ready");
    dp_jsonw_bool(w, dp_serve_ready(s, &why));
    dp_jsonw_member(w, "why", why);
    dp_jsonw_member(w, "version", DP_VERSION);
    dp_jsonw_member_int(w, "pid", (int64_t)getpid());
    dp_jsonw_member_int(w, "began", s->began);
    dp_jsonw_member(w, "workspace", s->road.ws.dir);
    if (s->http_addr) dp_jsonw_member(w, "http", s->http_addr);
    print_work(&t, w);
    dp_jsonw_member_int(w, "disk_low_mark", (int64_t)s->o.min_free_bytes);
    dp_jsonw_member_int(w, "watched_folders", (int64_t)folders);
    dp_jsonw_member_int(w, "unwatched_folders", (int64_t)beyond);
    dp_jsonw_member_int(w, "reloads", (int64_t)s->reloads);
    dp_jsonw_member_int(w, "reloads_refused", (int64_t)s->reloads_refused);
}

void dp_serve_print_moving(struct dp_serve *s, struct dp_jsonw *w)
{
    print_progress(w);
    dp_jsonw_member_int(w, "disk_free", (int64_t)s->disk_free);
    dp_jsonw_member_int(w, "disk_total", (int64_t)s->disk_total);
}

void dp_serve_print(struct dp_serve *s, struct dp_jsonw *w)
{
    dp_serve_print_still(s, w);
    dp_jsonw_member_int(w, "uptime_s", (int64_t)(dp_now() - s->started));
    dp_serve_print_moving(s, w);
    dp_jsonw_member_int(w, "last_event", (int64_t)dp_events_last());
    dp_serve_feed_print(s->feed, w);
}

static void tell_state(struct dp_serve *s)
{
    struct dp_work_status w;
    struct dp_progress_view p;
    enum dp_serve_state st = dp_serve_state(s, &w);
    double t = dp_now();
    if (st == s->state && t - s->status_at < 5) return;
    if (st != s->state) dp_event(DP_LOG_DEBUG, "state", "%s", dp_serve_state_name(st));
    s->state = st;
    s->status_at = t;
    if (!dp_notify_wanted()) return;
    char step[96] = "", bad[96] = "";
    dp_progress_read(&p);
    if (p.active && p.total) snprintf(step, sizeof step, " (%.40s, %.0f%%)", p.label, 100.0 * (double)p.done / (double)p.total);
    else if (p.active) snprintf(step, sizeof step, " (%.40s)", p.label);
    if (w.left.waiting || w.left.given_up)
        snprintf(bad, sizeof bad, "; %llu units wait for a retry, %llu are given up", (unsigned long long)w.left.waiting, (unsigned long long)w.left.given_up);
    dp_notify("STATUS=%s%s%s", dp_serve_state_name(st), step, bad);
}

/* --- disk --- */

static void look_at_disk(struct dp_serve *s)
{
    struct statvfs v;
    struct dp_work_status w;
    double t = dp_now();
    if (statvfs(s->road.ws.dir, &v) != 0) return;
    s->disk_free = (uint64_t)v.f_bavail * v.f_frsize;
    s->disk_total = (uint64_t)v.f_blocks * v.f_frsize;
    dp_work_status(s->work, &w);
    uint64_t low = s->o.min_free_bytes, high = low + low / 10;
    if (!s->disk_low && (s->disk_free < low || w.disk_full)) {
        struct dp_catalog_retry r = {s->o.retry_base_s, s->o.retry_max_s, 0.5};
        s->disk_low = true;
        /* Space that ran out above the mark (a quota, one large file) gives no sign when it is back: try again, ever more rarely. */
        s->disk_retry_at = w.disk_full ? t + (double)dp_catalog_delay_s(&r, s->disk_tries++) : 0;
        dp_work_halt(s->work, true);
        dp_event(DP_LOG_WARN, "disk", "paused: %s; %.1f MB are free, the low mark is %.1f MB", w.disk_full ? "the disk is full" : "little space", (double)s->disk_free / 1e6,
                 (double)low / 1e6);
    } else if (s->disk_low && s->disk_free >= high && t >= s->disk_retry_at) {
        s->disk_low = false;
        if (!s->halted) dp_work_halt(s->work, false);
        dp_event(DP_LOG_INFO, "disk", "resumed: %.1f MB are free", (double)s->disk_free / 1e6);
    } else if (!s->disk_low && !w.busy) s->disk_tries = 0;
}

/* --- hours of work --- */

static void look_at_clock(struct dp_serve *s)
{
    bool off = !dp_hours_now(&s->hours, time(NULL));
    if (off == s->off) return;
    s->off = off;
    dp_work_off(s->work, off);
    dp_event(DP_LOG_INFO, "hours", "%s", off ? "outside of serve.hours: running units are finished, none is begun" : "serve.hours: work goes on");
}

void dp_serve_hours(struct dp_serve *s, const char *hours)
{
    struct dp_err ignored; /* looked at when the recipe was read */
    dp_hours_parse(&s->hours, hours, &ignored);
}

/* --- stopping --- */

void dp_serve_stop(struct dp_serve *s)
{
    if (s->stopping) {
        s->stop_at = dp_now(); /* asked twice: abandon at once */
        return;
    }
    s->stopping = true;
    s->stop_at = dp_now() + s->o.drain_timeout_s;
    dp_notify("STOPPING=1\nSTATUS=stopping");
    dp_event(DP_LOG_INFO, "state", "stopping: running units have %.0f s to end", s->o.drain_timeout_s);
    dp_work_quit(s->work);
    dp_serve_feed_stop(s->feed);
    event_active(s->changed, 0, 0);
}

/* What a kill -9 would leave is what a stop may leave: the catalog is durable, tmp/ is swept at the next start. */
static void leave_now(struct dp_serve *s)
{
    struct dp_progress_view p;
    dp_progress_read(&p);
    dp_log(WARN, "serve", "%s didn't come to an end in time; what it had at hand is abandoned and begins again at the next start", p.active ? p.label : "work");
    dp_log_flush(true);
    if (s->own_control) unlink(s->control_path);
    if (s->own_http) unlink(s->http_path);
    if (s->feed_path) unlink(s->feed_path);
    dp_history_close(s->history);
    _exit(0);
}

static void go_on_stopping(struct dp_serve *s)
{
    struct dp_work_status w;
    double t = dp_now();
    dp_work_status(s->work, &w);
    if (w.ended && dp_serve_feed_ended(s->feed)) {
        const struct timeval a_moment = {0, 50000}; /* for answers to leave */
        event_base_loopexit(s->base, &a_moment);
        return;
    }
    dp_notify("EXTEND_TIMEOUT_USEC=%lld", (long long)((s->o.drain_timeout_s + abandon_s + 1) * 1e6));
    if (t >= s->stop_at && !s->halted) {
        s->halted = true;
        dp_work_halt(s->work, true);
    }
    if (t >= s->stop_at + abandon_s) leave_now(s);
}

/* --- watchdog --- */

/* The manager is told that we live as long as work moves, or there is none. A pipeline that stands still gets no ping and is restarted. */
static void feed_watchdog(struct dp_serve *s)
{
    struct dp_work_status w;
    double t = dp_now(), limit = dp_notify_watchdog_s();
    uint64_t ticks = dp_progress_ticks();
    dp_work_status(s->work, &w);
    if (ticks != s->ticks || !w.busy) {
        s->ticks = ticks;
        s->ticks_at = t;
    }
    if (limit <= 0) return;
    bool stuck = t - s->ticks_at > limit / 2;
    if (stuck && !s->stuck) dp_event(DP_LOG_ERROR, "stuck", "no progress for %.0f s; the watchdog isn't fed until there is", t - s->ticks_at);
    s->stuck = stuck;
    if (stuck || t - s->watchdog_at < limit / 4) return;
    s->watchdog_at = t;
    dp_notify("WATCHDOG=1");
}

/* --- the loop's events --- */

static void on_tick(evutil_socket_t fd, short what, void *v)
{
    struct dp_serve *s = v;
    const struct timeval next = {s->stopping ? 0 : 1, s->stopping ? 100000 : 0};
    double watchdog = dp_notify_watchdog_s();
    const struct timeval soon = {0, 100000};
    (void)fd;
    (void)what;
    feed_watchdog(s);
    look_at_disk(s);
    look_at_clock(s);
    if (s->stopping) go_on_stopping(s);
    tell_state(s);
    dp_log_flush(false);
    event_add(s->tick, watchdog > 0 && watchdog < 4 ? &soon : &next);
}

static void counted(void *v, struct dp_ask *a)
{
    const struct dp_totals *t = &a->totals;
    uint64_t kept = 0, dropped = 0, tokens = 0;
    if (a->rc < 0 || !t->stages) return;
    for (size_t i = 0; i < t->stages; i++) {
        const struct dp_stage_counts *c = &t->stage[i].c;
        bool tokenize = strcmp(t->stage[i].name, "tokenize") == 0; /* it counts tokens, and drops nothing */
        if (tokenize) tokens = c->bytes_out;
        else kept = c->docs_out;
        for (int d = 1; d < DP_DROP_COUNT; d++) dropped += c->drop[d];
    }
    dp_runs_count((int64_t)(intptr_t)v, t->stage[0].c.docs_in, kept, dropped, tokens);
}

/* Behind a pass that did something: how many documents there are now. */
static void count_run(struct dp_serve *s)
{
    int64_t last = dp_runs_last();
    if (last == s->run_counted) return;
    s->run_counted = last;
    dp_query_submit(s->query, DP_QUERY_TOTALS, &(struct dp_page){.fresh = true}, false, counted, (void *)(intptr_t)last);
}

static void on_changed(evutil_socket_t fd, short what, void *v)
{
    struct dp_serve *s = v;
    (void)fd;
    (void)what;
    if (atomic_exchange(&s->again, false)) dp_work_wake(s->work, true);
    look_at_disk(s);
    if (s->stopping) go_on_stopping(s);
    tell_state(s);
    count_run(s);
    dp_streams_poke(s->streams);
}

static void on_answers(evutil_socket_t fd, short what, void *v)
{
    (void)fd;
    (void)what;
    dp_query_deliver(((struct dp_serve *)v)->query);
}

static void on_inotify(evutil_socket_t fd, short what, void *v)
{
    struct dp_serve *s = v;
    (void)fd;
    (void)what;
    if (dp_inbox_read(s->watch)) dp_work_wake(s->work, false);
}

static void on_stop(evutil_socket_t sig, short what, void *v)
{
    (void)sig;
    (void)what;
    dp_serve_stop(v);
}

static void on_hup(evutil_socket_t sig, short what, void *v)
{
    struct dp_serve *s = v;
    (void)sig;
    (void)what;
    if (!s->stopping) dp_serve_reload(s, NULL);
}

/* From the work thread and the thread for questions. */
static void wake_loop(void *v)
{
    event_active(((struct dp_serve *)v)->changed, 0, 0);
}

static void wake_answers(void *v)
{
    event_active(((struct dp_serve *)v)->answers, 0, 0);
}

static void add_key(struct dp_view_key *k, size_t *n, const char *stage, const struct dp_key *key)
{
    if (!key->hex[0]) return;
    k[*n] = (struct dp_view_key){0};
    snprintf(k[*n].stage, sizeof k->stage, "%s", stage);
    snprintf(k[(*n)++].key, sizeof k->key, "%s", key->hex);
}

static void add_later(struct dp_view_key *k, size_t *n, const struct dp_road *r)
{
    for (size_t i = 0; i < r->gens; i++) add_key(k, n, "dedup", &r->gen[i].dedup);
    add_key(k, n, "train-bpe", &r->bpe);
    for (size_t i = 0; i < r->groups; i++) add_key(k, n, "tokenize", &r->group[i].key);
    add_key(k, n, "shard", &r->shard);
}

/* From the work thread, behind a plan: which units make the present state. */
static void planned(void *v, const struct dp_road *r)
{
    struct dp_serve *s = v;
    struct dp_view_key *k = malloc((r->units * 2 + r->groups + r->gens + 8) * sizeof *k);
    struct dp_strings roots = {0};
    struct dp_err err;
    size_t n = 0;
    if (!k) return;
    for (size_t i = 0; i < r->units; i++) {
        add_key(k, &n, "ingest", &r->unit[i].ingest);
        add_key(k, &n, "clean", &r->unit[i].docs);
        if (!r->unit[i].docs.hex[0]) continue;
        k[n - 1].source = r->unit[i].first;
        k[n - 1].files = r->unit[i].members;
    }
    add_later(k, &n, r);
    if (dp_road_roots((struct dp_road *)(uintptr_t)r, &roots, &err) < 0) dp_log(DEBUG, "serve", "roots of the sources: %s", err.msg);
    dp_query_plan(s->query, k, n, &roots);
}

/* And behind every step from dedup on, whose keys aren't known before. */
static void step_done(void *v, const struct dp_road *r)
{
    struct dp_view_key *k = malloc((r->groups + r->gens + 8) * sizeof *k);
    size_t n = 0;
    if (!k) return;
    add_later(k, &n, r);
    dp_query_plan(((struct dp_serve *)v)->query, k, n, NULL);
}

/* --- start --- */

static char *in_directory(const char *variable, const char *name, const char *otherwise)
{
    const char *list = getenv(variable); /* systemd: colon-separated, the first is the service's own */
    char first[4096];
    if (!list || *list != '/') return otherwise ? dp_fs_join(otherwise, name) : NULL;
    snprintf(first, sizeof first, "%.*s", (int)strcspn(list, ":"), list);
    return dp_fs_join(first, name);
}

static void raise_files(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return;
    rlim_t want = r.rlim_max < 65536 ? r.rlim_max : 65536;
    if (r.rlim_cur < want) {
        r.rlim_cur = want;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

/* Of each of the three kinds (control, HTTP here and there), so many that the work keeps enough descriptors however many clients come. */
static int connections(const struct dp_serve_options *o)
{
    enum { OWN = 64, KINDS = 4, LEAST = 4 };
    struct rlimit r;
    int64_t most = o->connections_max;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && (int64_t)r.rlim_cur < OWN + KINDS * most) most = ((int64_t)r.rlim_cur - OWN) / KINDS;
    return (int)(most < LEAST ? LEAST : most);
}

static int open_control(struct dp_serve *s, const struct dp_serve_options *o, struct dp_err *e)
{
    int fd = dp_listen_take("control", true);
    if (fd < 0) {
        s->control_path = o->socket && *o->socket ? strdup(o->socket) : in_directory("RUNTIME_DIRECTORY", "control.sock", s->road.ws.dir);
        if (!s->control_path) DP_FAIL(e, NOMEM, "control socket");
        DP_TRY(fd = dp_unix_listen(s->control_path, o->group, e));
        s->own_control = true;
    } else s->control_path = dp_listen_path(fd); /* the CLI finds it by the note in the lock file */
    return dp_control_open(&s->control, s->base, fd, o->group, connections(o), dp_serve_request, s, e);
}

static int open_http_unix(struct dp_serve *s, const struct dp_serve_options *o, struct dp_err *e)
{
    int fd = dp_listen_take("http-unix", true);
    if (fd < 0) {
        s->http_path = in_directory("RUNTIME_DIRECTORY", "http.sock", s->road.ws.dir);
        if (!s->http_path) DP_FAIL(e, NOMEM, "HTTP socket");
        DP_TRY(fd = dp_unix_listen(s->http_path, o->group, e));
        s->own_http = true;
    }
    struct dp_http_config c = {.base = s->base, .fd = fd, .group = o->group, .connections_max = connections(o), .fn = dp_serve_http, .ctx = s};
    return dp_http_open(&s->http_unix, &c, e);
}

char *dp_serve_secret(const char *configured, const char *credential)
{
    if (configured && *configured) return strdup(configured);
    char *p = in_directory("CREDENTIALS_DIRECTORY", credential, NULL);
    if (p && access(p, R_OK) == 0) return p;
    free(p);
    return NULL;
}

static int open_http_tcp(struct dp_serve *s, const struct dp_serve_options *o, struct dp_err *e)
{
    bool loopback = false, passed = false;
    char *token = dp_serve_secret(o->http_token_file, "http-token"), *cert = dp_serve_secret(o->tls_cert, "tls-cert"), *key = dp_serve_secret(o->tls_key, "tls-key");
    char *ca = dp_serve_secret(o->tls_client_ca, "tls-client-ca");
    int fd = dp_listen_take("http", false), rc = DP_OK;
    passed = fd >= 0;
    loopback = passed && dp_tcp_is_loopback(fd);
    if (token) DP_TRY_OUT(dp_secret_read(&s->token, token, e));
    if (!passed && o->http && *o->http) DP_TRY_OUT(fd = dp_tcp_listen(o->http, "serve.http", &loopback, e));
    if (fd < 0) goto out;
    if (ca && !cert) DP_GOTO(e, CONFIG, "serve.tls_client_ca wants serve.tls_cert and serve.tls_key too");
    if (!loopback && !s->token && !ca)
        DP_GOTO(e, CONFIG, "serve.http: %s is reached from other machines: set serve.http_token_file (or the credential http-token), or serve.tls_client_ca, first",
                passed ? "the passed socket" : o->http);
    if (!loopback && !cert) dp_event(DP_LOG_WARN, "http", "HTTP without TLS on an address that other machines reach: the token travels in clear text");
    s->http_addr = strdup(passed ? "passed socket" : o->http);
    s->tls = cert != NULL;
    struct dp_http_config c = {.base = s->base, .fd = fd, .tcp = true, .token = s->token, .cert = cert, .key = key, .client_ca = ca,
                               .open = dp_route_is_open, .connections_max = connections(o), .fn = dp_serve_http, .ctx = s};
    fd = -1;
    rc = dp_http_open(&s->http_tcp, &c, e);
out:
    if (fd >= 0) close(fd);
    free(token);
    free(cert);
    free(key);
    free(ca);
    return rc;
}

/* TLS is HTTP's; who may come in is the feed's own matter. */
static int open_feed(struct dp_serve *s, const struct dp_serve_options *o, struct dp_err *e)
{
    const char *addr = o->feed && *o->feed ? o->feed : NULL;
    int fd = dp_listen_take("feed", true), rc;
    if (fd >= 0) addr = "passed/socket";
    else if ((fd = dp_listen_take("feed", false)) >= 0) addr = "passed:0";
    if (!addr) return DP_OK;
    bool path = dp_feed_addr_is_path(addr);
    char *token = dp_serve_secret(o->feed_token_file, "feed-token"), *ca = dp_serve_secret(o->feed_client_ca, "feed-client-ca");
    char *cert = dp_serve_secret(o->tls_cert, "tls-cert"), *key = dp_serve_secret(o->tls_key, "tls-key");
    const struct dp_serve_feed_config c = {.ws = &s->road.ws, .options = s->road.options, .apply = s->config.apply, .ctx = s->config.ctx, .addr = addr,
        .listener = fd, .token_file = path ? NULL : token, .cert = path ? NULL : cert, .key = path ? NULL : key, .client_ca = path ? NULL : ca};
    rc = dp_serve_feed_open(&s->feed, &c, e);
    if (rc >= 0 && path && fd < 0) s->feed_path = strdup(addr);
    free(token);
    free(ca);
    free(cert);
    free(key);
    return rc;
}

/* From the work thread: what trainers read stays. */
static bool retiring(void *v, const struct dp_road *r)
{
    struct dp_serve *s = v;
    return dp_serve_feed_refresh(s->feed, r->options->serve.keep_s);
}

static int add_events(struct dp_serve *s, struct dp_err *e)
{
    static const struct timeval first = {0, 50000};
    s->tick = evtimer_new(s->base, on_tick, s);
    s->changed = event_new(s->base, -1, EV_PERSIST, on_changed, s);
    s->answers = event_new(s->base, -1, EV_PERSIST, on_answers, s);
    s->sig[0] = evsignal_new(s->base, SIGTERM, on_stop, s);
    s->sig[1] = evsignal_new(s->base, SIGINT, on_stop, s);
    s->sig[2] = evsignal_new(s->base, SIGHUP, on_hup, s);
    if (!s->tick || !s->changed || !s->answers || !s->sig[0] || !s->sig[1] || !s->sig[2]) DP_FAIL(e, NOMEM, "event loop");
    for (int i = 0; i < 3; i++) event_add(s->sig[i], NULL);
    event_add(s->tick, &first);
    if (dp_inbox_fd(s->watch) < 0) return DP_OK;
    s->inotify = event_new(s->base, dp_inbox_fd(s->watch), EV_READ | EV_PERSIST, on_inotify, s);
    if (!s->inotify || event_add(s->inotify, NULL) != 0) DP_FAIL(e, NOMEM, "event loop");
    return DP_OK;
}

int dp_serve_defaults(struct dp_options *o, struct dp_err *e)
{
    DP_TRY(dp_options_init(o, e));
    o->workers.isolate = DP_ISOLATE_PROCESS; /* a service reads what others send it; recipe and flags may say otherwise */
    return DP_OK;
}

/* What a reload would refuse; but a tokenizer that isn't there yet may come, with its disk: the step that wants it is tried again. */
static int check_recipe(struct dp_serve *s, struct dp_err *e)
{
    struct dp_options *o = calloc(1, sizeof *o);
    int rc = o ? dp_serve_load(s, o, DP_NOTFOUND, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "options");
    if (o) dp_options_release(o);
    free(o);
    return rc;
}

static int open_road(struct dp_serve *s, struct dp_err *e)
{
    struct dp_options *o = calloc(1, sizeof *o);
    int rc = o ? dp_serve_defaults(o, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "options");
    if (rc >= 0) {
        rc = dp_road_open_unswept(&s->road, s->config.dir, o, s->config.threads, s->config.memory, s->config.apply, s->config.ctx, e);
        s->road_open = rc >= 0;
        if (rc >= 0) rc = check_recipe(s, e);
        if (rc < 0 && !s->road_open) dp_options_release(o);
    }
    if (s->road_open) { /* units say who made them: daemon/retire.h */
        char owner[sizeof s->road.ws.owner];
        memcpy(owner, s->road.ws.owner, sizeof owner);
        snprintf(s->road.ws.owner, sizeof s->road.ws.owner, "serve:%.70s", owner);
    }
    if (s->road_open) dp_serve_hours(s, o->serve.hours);
    if (s->road_open) s->o = o->serve;
    else free(o);
    return rc;
}

static int write_note(struct dp_serve *s, struct dp_err *e)
{
    char text[1000];
    char *full = s->control_path ? realpath(s->control_path, NULL) : NULL;
    snprintf(text, sizeof text, "pid=%ld\nsocket=%.800s\n", (long)getpid(), full ? full : "");
    free(full);
    return dp_workspace_note(&s->road.ws, text, e);
}

static void tell_addresses(const struct dp_serve *s)
{
    char http[300] = "";
    const char *addr = s->http_addr, *scheme = s->tls ? "https" : "http";
    if (addr && strchr(addr, ':')) snprintf(http, sizeof http, ", dashboard and API on %s://%s%.200s/", scheme, *addr == ':' ? "localhost" : "", addr);
    else if (addr) snprintf(http, sizeof http, ", dashboard and API (%s) on the %s", scheme, addr);
    dp_event(DP_LOG_INFO, "state", "serving %s: control on %s%s", s->road.ws.dir, s->control_path ? s->control_path : "the passed socket", http);
}

static int start(struct dp_serve *s, struct dp_err *e)
{
    DP_TRY(open_road(s, e));
    DP_TRY(dp_history_open(&s->history, s->road.ws.dir, e));
    s->run_counted = dp_runs_last();
    const struct dp_serve_options *o = &s->road.options->serve;
    DP_TRY(dp_query_open(&s->query, &s->road.ws, wake_answers, s, e));
    DP_TRY(dp_inbox_open(&s->watch, e));
    if (!(s->base = event_base_new())) DP_FAIL(e, NOMEM, "event loop");
    DP_TRY(add_events(s, e));
    DP_TRY(dp_streams_open(&s->streams, s, e));
    DP_TRY(open_control(s, o, e));
    DP_TRY(open_http_unix(s, o, e));
    DP_TRY(open_http_tcp(s, o, e));
    DP_TRY(open_feed(s, o, e));
    DP_TRY(write_note(s, e));
    struct dp_work_config c = {.road = &s->road, .watch = s->watch, .changed = wake_loop, .ctx = s, .planned = planned, .step_done = step_done, .retiring = retiring};
    DP_TRY(dp_work_open(&s->work, &c, e));
    if (!dp_re_jit()) dp_event(DP_LOG_WARN, "jit", "patterns are interpreted, not compiled: is MemoryDenyWriteExecute= on?");
    if (s->feed) dp_event(DP_LOG_INFO, "feed", "feeds on %s", s->feed_path ? s->feed_path : o->feed ? o->feed : "the passed socket");
    tell_addresses(s);
    dp_notify("READY=1\nSTATUS=starting");
    return DP_OK;
}

static void free_events(struct dp_serve *s)
{
    struct event **all[] = {&s->tick, &s->changed, &s->answers, &s->inotify, &s->sig[0], &s->sig[1], &s->sig[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (*all[i]) event_free(*all[i]);
}

static void finish(struct dp_serve *s)
{
    if (s->work) dp_work_quit(s->work);
    dp_work_close(s->work);
    dp_serve_feed_close(s->feed);
    dp_control_close(s->control);
    dp_http_close(s->http_unix);
    dp_http_close(s->http_tcp);
    dp_streams_close(s->streams);
    dp_query_close(s->query);
    dp_inbox_close(s->watch);
    free_events(s);
    if (s->base) event_base_free(s->base);
    if (s->own_control) unlink(s->control_path);
    if (s->own_http) unlink(s->http_path);
    dp_history_close(s->history);
    if (s->road_open) {
        struct dp_options *o = s->road.options;
        struct dp_err ignored;
        dp_workspace_note(&s->road.ws, "", &ignored);
        dp_road_close(&s->road);
        dp_options_release(o);
        free(o);
    }
    free(s->control_path);
    free(s->http_path);
    free(s->http_addr);
    free(s->token);
    free(s->feed_path);
}

int dp_serve(const struct dp_serve_config *config, struct dp_err *e)
{
    static struct dp_serve s;
    sigset_t all, before;
    memset(&s, 0, sizeof s);
    s.config = *config;
    s.road.ws.lock_fd = -1;
    s.started = s.ticks_at = dp_now();
    s.began = (int64_t)time(NULL);
    raise_files();
    dp_notify_init();
    dp_listen_init();
    evthread_use_pthreads();
    /* Threads inherit the mask: signals come to the loop alone. */
    sigemptyset(&all);
    sigaddset(&all, SIGTERM);
    sigaddset(&all, SIGINT);
    sigaddset(&all, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = start(&s, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc >= 0 && event_base_dispatch(s.base) < 0) rc = dp_err_set(e, DP_IO, 0, __FILE__, __LINE__, "the event loop failed");
    finish(&s);
    if (rc >= 0) dp_log(INFO, "serve", "stopped; everything published stays");
    return rc < 0 ? rc : DP_OK;
}

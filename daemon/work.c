#include "daemon/work.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/progress.h"
#include "daemon/events.h"
#include "daemon/isolate.h"
#include "daemon/quarantine.h"
#include "daemon/retire.h"
#include "daemon/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct dp_work {
    struct dp_work_config c;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t wake;
    bool thread_up, quit;
    bool want_rescan, want_pass, paused, unclean; /* unclean: a failed publication may have left files in store/ */
    atomic_bool hold, halt; /* what the road sees: paused or a reload at hand; halted */
    struct dp_options *next;
    bool reorder, off;            /* off: outside of the hours of work */
    struct dp_strings first, order; /* asked for; with the recipe's behind them, as the pass at hand has it */
    struct dp_strings reread;     /* paths */
    struct dp_strings redo;       /* "stage key" */
    struct dp_times rescan_times, step_times;
    bool steps_due, steps_behind; /* behind: documents came that the steps haven't seen */
    struct dp_retire retire;
    bool more_to_remove;
    double rescan_at, step_retry_at; /* monotonic; 0: none */
    double gathering_since, gathered_at; /* the same: since when new units wait for a generation, and until when */
    uint64_t outgrown; /* by how many times the text had outgrown its tokenizer when that was logged; 0: it wasn't */
    char said[400]; /* the last reason for a lineage's end that was logged */
    uint64_t fresh_sources;
    int64_t changes; /* passes in a row in which a source changed or was gone */
    struct dp_work_status s;
};

static const struct dp_serve_options *options(const struct dp_work *w)
{
    return &w->c.road->options->serve;
}

static void unit_failed(void *ctx, const char *what, const struct dp_err *why)
{
    (void)ctx;
    (void)what;
    dp_event(DP_LOG_ERROR, "unit-failed", "%s", why->msg);
}

/* In the catalog, so that a restart in the middle of the steps goes on with them. */
static const char steps_setting[] = "serve.steps_due";

static void set_steps_due(struct dp_work *w, bool due)
{
    struct dp_err err = {0};
    if (due != w->steps_due && w->step_times.n && dp_catalog_set(w->c.road->ws.catalog, steps_setting, due ? "1" : "0", &err) < 0)
        dp_event(DP_LOG_WARN, "steps", "%s", err.msg);
    w->steps_due = due;
}

/* Times were looked at when the recipe was read. */
static void set_times(struct dp_work *w)
{
    struct dp_err ignored;
    time_t t = time(NULL);
    dp_times_parse(&w->rescan_times, options(w)->rescan_at, &ignored);
    dp_times_parse(&w->step_times, options(w)->steps_at, &ignored);
    w->s.next_rescan = (int64_t)dp_times_next(&w->rescan_times, t);
    w->s.next_steps = (int64_t)dp_times_next(&w->step_times, t);
}

static void add_word(struct dp_strings *s, struct dp_span word)
{
    char text[4096];
    snprintf(text, sizeof text, "%.*s", DP_SPAN_FMT(word));
    dp_strings_add(s, text, NULL); /* without memory the order is another one, and nothing else */
}

/* Under the mutex. */
static void set_order(struct dp_work *w)
{
    dp_strings_release(&w->order);
    for (size_t i = w->first.n; i-- > 0;) add_word(&w->order, dp_span_str(w->first.v[i])); /* what was asked for last goes first */
    for (const char *p = options(w)->first; p && *p;) {
        size_t n = strcspn(p, ","), blank = strspn(p, " ");
        if (n > blank) add_word(&w->order, dp_span(p + blank, n - blank));
        p += n + (p[n] == ',');
    }
}

static void set_policy(struct dp_work *w)
{
    const struct dp_serve_options *o = options(w);
    w->c.road->policy = (struct dp_policy){.go_on = true, .tries = (int)o->tries, .retry = {o->retry_base_s, o->retry_max_s, 0.5}, .hold = &w->hold,
                                           .accept = w->c.watch ? dp_inbox_accept : NULL, .accept_ctx = w->c.watch, .failed = unit_failed,
                                           .step_done = w->c.step_done, .step_ctx = w->c.ctx};
    w->c.road->policy.first = &w->order;
    w->c.road->stop = &w->halt;
    set_times(w);
    dp_progress_stop_by(&w->halt);
    if (w->c.watch) dp_inbox_set(w->c.watch, o->settle_s, (size_t)o->watches_max);
}

/* --- one pass --- */

/* The spool is a root like others; its folder is made here so that something can be dropped into it. */
static int make_spool(struct dp_work *w, struct dp_err *e)
{
    if (!options(w)->spool) return DP_OK;
    char *path = dp_fs_join(w->c.road->ws.dir, "spool");
    int rc = path ? dp_fs_mkdirs(path, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "spool");
    free(path);
    return rc;
}

/* Before a look through the sources: a file that comes in between is seen by one of the two. */
static int watch(struct dp_work *w, struct dp_err *e)
{
    struct dp_strings roots = {0};
    int rc = make_spool(w, e);
    if (rc >= 0) rc = dp_road_roots(w->c.road, &roots, e);
    if (rc >= 0 && w->c.watch) rc = dp_inbox_roots(w->c.watch, &roots, e);
    dp_strings_release(&roots);
    return rc;
}

static int take_due(struct dp_work *w, struct dp_err *e)
{
    char *path, *relative;
    int rc = DP_OK;
    while (rc >= 0 && w->c.watch && dp_inbox_due(w->c.watch, &path, &relative)) {
        rc = dp_road_register_file(w->c.road, path, relative, e);
        w->fresh_sources++;
        free(path);
        free(relative);
    }
    return rc;
}

static enum dp_step until(const struct dp_work *w)
{
    enum dp_step s = options(w)->until ? dp_step_parse(options(w)->until) : DP_STEP_SHARD;
    return s < DP_STEPS ? s : DP_STEP_SHARD;
}

/* Behind a complete pass. Nothing of it is worth failing for: it is done again behind the next. */
static void retire(struct dp_work *w)
{
    enum { AT_ONCE = 1000 }; /* then work looks for what is new first */
    struct dp_err err = {0};
    size_t removed = 0;
    int rc = dp_retire_note(&w->retire, w->c.road, until(w), &err);
    bool may = !w->c.retiring || w->c.retiring(w->c.ctx, w->c.road);
    if (rc >= 0 && may) rc = dp_retire_remove(w->c.road, options(w)->keep_s, AT_ONCE, &removed, &err);
    w->more_to_remove = rc >= 0 && removed == AT_ONCE;
    if (rc < 0) dp_event(DP_LOG_WARN, "retire", "removing what is superseded: %s", err.msg);
    else if (removed) dp_event(DP_LOG_INFO, "retire", "%zu superseded units removed, and their artifacts", removed);
}

/* --- growth: daemon/lineage.h --- */

/* Whether what came since makes the next generation now; if not it waits for more, so that few documents don't get a shard of their own. The
 * wait grows with the generations, so that their number grows with the root of time until it is an hour; a start waits for nothing. */
static bool gathered(struct dp_work *w)
{
    const struct dp_road *r = w->c.road;
    const struct dp_generation *last = &r->gen[r->lineage - 1];
    uint64_t bytes = 0;
    for (size_t i = last->first + last->units; i < r->units; i++) bytes += r->unit[i].bytes;
    double wait = options(w)->append_wait_s * (double)r->lineage, most = options(w)->append_wait_s > 3600 ? options(w)->append_wait_s : 3600;
    if (w->step_times.n) return true; /* documents alone are made at once, and the large steps have their times */
    if (w->gathering_since <= 0) w->gathering_since = dp_now();
    w->gathered_at = w->gathering_since + (wait < most ? wait : most);
    return w->s.passes == 0 || bytes >= options(w)->append_min_bytes || dp_now() >= w->gathered_at;
}

/* A first generation is what the tokenizer is trained on, so it isn't begun on half of what just comes in. */
static bool settling(struct dp_work *w)
{
    double most = options(w)->settle_s * 10 > 30 ? options(w)->settle_s * 10 : 30;
    if (w->c.road->lineage || w->c.road->policy.documents_only || !w->c.watch || dp_inbox_wait(w->c.watch) < 0) return false;
    if (w->gathering_since <= 0) w->gathering_since = dp_now();
    w->gathered_at = w->gathering_since + most;
    return dp_now() < w->gathered_at;
}

/* The tokenizer knows the first generation alone: said when there is ten times its text, and again at a hundred times. */
static void look_at_tokenizer(struct dp_work *w)
{
    const struct dp_road *r = w->c.road;
    const char *file = r->options->tokenizer.file;
    uint64_t first = 0, all = 0, times = 10;
    for (size_t i = 0; i < r->units; i++) all += r->unit[i].bytes;
    for (size_t i = 0; i < r->gen[0].units; i++) first += r->unit[i].bytes;
    if (r->lineage == 1) w->outgrown = 0;
    if (first && all / first >= 100) times = 100;
    if ((file && *file) || !first || all / first < times || w->outgrown >= times) return;
    w->outgrown = times;
    dp_event(DP_LOG_WARN, "tokenizer", "the tokenizer was trained on %.1f MB of sources, there are %.1f MB now; to train it anew, and make all shards anew, run `dpipe run --until shard`",
             (double)first / 1e6, (double)all / 1e6);
}

static int plan(struct dp_work *w, bool look_again, struct dp_err *e)
{
    struct dp_road *r = w->c.road;
    int64_t had;
    r->append = r->options->shards.growth != DP_GROWTH_REBUILD && until(w) >= DP_STEP_SHARD;
    DP_TRY(dp_road_plan(r, look_again, e));
    if (r->ended[0] && strcmp(w->said, r->ended) != 0) dp_event(DP_LOG_WARN, "lineage", "shards can't be appended to those there are: %s; all are made anew", r->ended);
    snprintf(w->said, sizeof w->said, "%s", r->ended);
    if (r->ended[0] && !r->units) DP_TRY(dp_catalog_lineage_end(r->ws.catalog, &had, e)); /* nothing will take its place */
    size_t all = r->units;
    w->gathered_at = 0;
    if (r->append && all && settling(w)) dp_road_plan_release(r);
    else if (r->lineage && r->gens > r->lineage && !gathered(w)) dp_road_drop_fresh(r);
    else w->gathered_at = 0;
    pthread_mutex_lock(&w->mu);
    w->s.units = r->units;
    w->s.generation = r->lineage;
    w->s.units_gathering = all - r->units;
    pthread_mutex_unlock(&w->mu);
    return DP_OK;
}

static int pass(struct dp_work *w, bool look_again, struct dp_err *e)
{
    struct dp_road *r = w->c.road;
    int rc = DP_BUSY;
    r->made = r->found = 0;
    DP_TRY(take_due(w, e));
    if (look_again) DP_TRY(watch(w, e));
    /* A lineage may turn out on the way not to be what it was: then once more, without it. */
    for (int tries = 0; rc == DP_BUSY && tries < 2; tries++) {
        r->left = (struct dp_left){0};
        r->disowned = tries > 0;
        DP_TRY(plan(w, look_again && !tries, e));
        size_t generation = r->lineage;
        if (!r->units) return DP_EMPTY;
        if (w->c.planned) w->c.planned(w->c.ctx, r);
        rc = dp_road_run(r, until(w), e);
        if (rc == DP_OK && r->policy.documents_only) return rc; /* the present state stays what the steps made last */
        if (rc == DP_BUSY && !r->ended[0]) break;
        if (rc >= 0 && r->append && r->lineage != generation) {
            dp_event(DP_LOG_INFO, "generation", "generation %zu is complete: %zu units more", r->lineage, r->gen[r->lineage - 1].units);
            look_at_tokenizer(w);
        }
    }
    if (rc >= 0 && w->gathered_at <= 0) w->gathering_since = 0;
    pthread_mutex_lock(&w->mu);
    w->s.generation = r->lineage;
    pthread_mutex_unlock(&w->mu);
    if (rc == DP_OK) retire(w);
    else dp_retire_broken(&w->retire);
    return rc;
}

/* --- the thread --- */

static void after_failure(struct dp_work *w, int rc, const struct dp_err *e)
{
    struct dp_catalog_retry retry = {options(w)->retry_base_s, options(w)->retry_max_s, 0.5};
    snprintf(w->s.error, sizeof w->s.error, "%s", e->msg);
    w->s.step_failures++;
    double s = (double)dp_catalog_delay_s(&retry, (int64_t)w->s.step_failures - 1);
    w->step_retry_at = dp_now() + s;
    dp_event(DP_LOG_ERROR, "step-failed", "%s; next try in %.0f s (%s)", e->msg, s, dp_code_name(rc));
}

static void log_run(struct dp_work *w, int rc, const struct dp_err *e, bool looked)
{
    const struct dp_road *r = w->c.road;
    struct dp_run run = {.begun = w->s.pass_begun, .ended = w->s.pass_ended, .made = r->made, .found = r->found, .failed = r->left.failed, .sources = w->fresh_sources};
    if (!r->made && !r->left.failed && (rc >= 0 || rc == DP_STOPPED) && !(looked && w->s.passes <= 1)) return; /* nothing was to do */
    snprintf(run.result, sizeof run.result, "%s", rc >= 0 ? "done" : rc == DP_STOPPED ? "stopped" : rc == DP_NOSPACE ? "disk full" : "failed");
    if (rc < 0 && rc != DP_STOPPED) snprintf(run.error, sizeof run.error, "%.239s", e->msg);
    dp_runs_add(&run);
    dp_event(DP_LOG_INFO, "run", "pass %lld: %s, %llu units made, %llu up to date, %llu failed, %lld s", (long long)run.number, run.result,
             (unsigned long long)run.made, (unsigned long long)run.found, (unsigned long long)run.failed, (long long)(run.ended - run.begun));
}

/* Under the mutex, the pass over: what it leaves to do. */
static void finish_pass(struct dp_work *w, int rc, const struct dp_err *e, bool looked)
{
    struct dp_road *r = w->c.road;
    w->s.busy = false;
    w->s.passes++;
    w->s.pass_ended = (int64_t)time(NULL);
    w->s.made += r->made;
    w->s.found = r->found;
    w->s.left = r->left;
    w->step_retry_at = 0;
    w->s.disk_full = rc == DP_NOSPACE;
    w->unclean = (rc < 0 && rc != DP_STOPPED) || r->left.failed || r->ws.leftover;
    if (looked && rc != DP_NOSPACE) {
        w->rescan_at = dp_now() + options(w)->rescan_s;
        w->s.next_rescan = (int64_t)dp_times_next(&w->rescan_times, time(NULL));
    }
    if (r->policy.documents_only) w->steps_behind = w->steps_behind || r->made > 0;
    else if (rc >= 0) {
        w->steps_behind = false;
        set_steps_due(w, false);
        w->s.next_steps = (int64_t)dp_times_next(&w->step_times, time(NULL));
    }
    w->changes = r->left.changed ? w->changes + 1 : 0;
    if (r->left.changed) { /* look again soon; less soon when it goes on changing, or is gone */
        struct dp_catalog_retry retry = {options(w)->retry_base_s, options(w)->retry_max_s, 0.5};
        double at = dp_now() + (double)dp_catalog_delay_s(&retry, w->changes - 1);
        if (at < w->rescan_at) w->rescan_at = at;
    }
    if (rc == DP_STOPPED || rc == DP_NOSPACE) {
        w->want_pass = true; /* go on where it was stopped */
        if (looked) w->want_rescan = true;
        if (rc == DP_NOSPACE) {
            snprintf(w->s.error, sizeof w->s.error, "%s", e->msg);
            atomic_store(&w->halt, true); /* until the loop sees room again */
        }
    } else if (rc < 0) after_failure(w, rc, e);
    else {
        w->s.step_failures = 0;
        w->s.error[0] = 0;
    }
    if (rc >= 0 && !r->left.waiting && !w->want_rescan && !w->want_pass && !w->steps_behind && w->gathered_at <= 0) w->s.behind_since = 0;
    if (w->more_to_remove) w->want_pass = true;
    w->s.retry_at = r->left.retry_at;
    if (w->step_retry_at > 0) {
        int64_t at = (int64_t)time(NULL) + (int64_t)(w->step_retry_at - dp_now() + 0.5);
        if (!w->s.retry_at || at < w->s.retry_at) w->s.retry_at = at;
    }
    log_run(w, rc, e, looked);
    w->fresh_sources = 0;
}

static void swap_options(struct dp_work *w)
{
    struct dp_options *old = w->c.road->options;
    if (!w->next) return;
    dp_isolate_close(w->c.road->isolate); /* workers hold the options they began with */
    w->c.road->isolate = NULL;
    w->c.road->options = w->next;
    w->next = NULL;
    dp_options_release(old);
    free(old);
    set_policy(w);
    w->want_rescan = true;
}

/* Seconds until there is something to do of itself; 0: now. Under the mutex. */
static double wait_s(struct dp_work *w)
{
    double t = dp_now(), s = w->rescan_at > t ? w->rescan_at - t : 0;
    if (w->paused || w->off || atomic_load(&w->halt)) return 3600;
    if (w->reread.n || w->redo.n || w->want_rescan || w->want_pass || w->next) return 0;
    if (w->step_retry_at > 0 && w->step_retry_at - t < s) s = w->step_retry_at > t ? w->step_retry_at - t : 0;
    if (w->s.left.retry_at) {
        double k = difftime((time_t)w->s.left.retry_at, time(NULL));
        if (k > (double)(int64_t)options(w)->retry_max_s + 1) k = 0; /* the clock went back: not_due() in step_documents.c knows */
        if (k < s) s = k > 0 ? k : 0;
    }
    if (w->gathered_at > 0 && w->gathered_at - t < s) s = w->gathered_at > t ? w->gathered_at - t : 0;
    const int64_t times[2] = {w->s.next_rescan, w->steps_due ? 0 : w->s.next_steps};
    for (int i = 0; i < 2; i++) {
        double left = times[i] ? difftime((time_t)times[i], time(NULL)) : s;
        if (times[i] && s > 60) s = 60; /* the clock may jump */
        if (left < s) s = left > 0 ? left : 0;
    }
    double k = w->c.watch ? dp_inbox_wait(w->c.watch) : -1;
    if (k >= 0 && k < s) s = k;
    return s;
}

static void sleep_s(struct dp_work *w, double s)
{
    struct timespec t;
    if (s > 3600) s = 3600;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double at = (double)t.tv_nsec + s * 1e9;
    t.tv_sec += (time_t)(at / 1e9);
    t.tv_nsec = (long)(at - 1e9 * (double)(time_t)(at / 1e9));
    pthread_cond_timedwait(&w->wake, &w->mu, &t);
}

/* What people asked for that isn't to happen in the middle of a pass: on the work thread, its lists taken. */
static int do_requests(struct dp_work *w, struct dp_strings *reread, struct dp_strings *redo, struct dp_err *e)
{
    struct dp_workspace *ws = &w->c.road->ws;
    int rc = DP_OK;
    for (size_t i = 0; rc >= 0 && i < reread->n; i++) {
        size_t n = 0;
        rc = dp_catalog_sources_doubt(ws->catalog, reread->v[i], false, &n, e);
        if (rc >= 0) dp_event(DP_LOG_INFO, "reread", "%zu sources are read again, by request: %s", n, reread->v[i]);
    }
    for (size_t i = 0; rc >= 0 && i < redo->n; i++) {
        char stage[16] = "", key[40] = "";
        sscanf(redo->v[i], "%15s %39s", stage, key);
        rc = dp_catalog_forget(ws->catalog, stage, key, dp_workspace_unlink, ws, e);
        if (rc >= 0) dp_event(DP_LOG_INFO, "redo", "job %s is made again, by request", redo->v[i]);
    }
    dp_strings_release(reread);
    dp_strings_release(redo);
    return rc;
}

static void one_pass(struct dp_work *w)
{
    struct dp_err err = {0};
    struct dp_strings reread = w->reread, redo = w->redo;
    time_t t = time(NULL);
    bool look = w->want_rescan || reread.n || dp_now() >= w->rescan_at || (w->s.next_rescan && t >= (time_t)w->s.next_rescan) ||
                (w->c.watch && dp_inbox_rescan(w->c.watch));
    bool first = w->s.passes == 0;
    w->reread = w->redo = (struct dp_strings){0};
    w->want_rescan = w->want_pass = w->reorder = false;
    w->s.busy = true;
    w->s.pass_begun = (int64_t)t;
    if (!w->s.behind_since) {
        w->s.behind_since = w->s.pass_begun;
        w->s.behind_at = dp_now();
    }
    if (w->s.next_steps && t >= (time_t)w->s.next_steps) set_steps_due(w, true);
    w->c.road->policy.documents_only = w->step_times.n && !w->steps_due;
    set_order(w);
    atomic_store(&w->hold, w->paused || w->off);
    bool sweep = w->unclean;
    pthread_mutex_unlock(&w->mu);
    w->c.changed(w->c.ctx);
    int rc = do_requests(w, &reread, &redo, &err);
    if (rc >= 0 && sweep) rc = dp_workspace_sweep(&w->c.road->ws, &err);
    if (rc >= 0) rc = pass(w, look || first, &err);
    pthread_mutex_lock(&w->mu);
    finish_pass(w, rc, &err, look || first);
    pthread_mutex_unlock(&w->mu);
    w->c.changed(w->c.ctx);
    pthread_mutex_lock(&w->mu);
}

static void *work_main(void *v)
{
    struct dp_work *w = v;
    struct dp_err err = {0};
    int rc = dp_workspace_sweep(&w->c.road->ws, &err);
    if (rc >= 0) rc = dp_quarantine_migrate(&w->c.road->ws, &err);
    if (rc < 0 && rc != DP_STOPPED) dp_event(DP_LOG_ERROR, "sweep", "%s", err.msg);
    char *due = dp_catalog_get(w->c.road->ws.catalog, steps_setting);
    pthread_mutex_lock(&w->mu);
    w->steps_due = due && strcmp(due, "1") == 0;
    free(due);
    w->s.started = true;
    while (!w->quit) {
        double s = wait_s(w);
        if (s > 0) {
            sleep_s(w, s);
            continue;
        }
        swap_options(w);
        one_pass(w);
    }
    w->s.ended = true;
    pthread_mutex_unlock(&w->mu);
    w->c.changed(w->c.ctx);
    return NULL;
}

int dp_work_open(struct dp_work **out, const struct dp_work_config *config, struct dp_err *e)
{
    pthread_condattr_t attr;
    struct dp_work *w = calloc(1, sizeof *w);
    if (!w) DP_FAIL(e, NOMEM, "work thread");
    w->c = *config;
    w->want_rescan = true;
    pthread_mutex_init(&w->mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attr);
    pthread_condattr_destroy(&attr);
    set_policy(w);
    int sys = pthread_create(&w->thread, NULL, work_main, w);
    w->thread_up = sys == 0;
    *out = w;
    if (sys) return dp_err_set(e, DP_NOMEM, sys, __FILE__, __LINE__, "cannot start the work thread");
    return DP_OK;
}

void dp_work_close(struct dp_work *w)
{
    if (!w) return;
    if (w->thread_up) pthread_join(w->thread, NULL);
    dp_progress_stop_by(NULL);
    if (w->next) {
        dp_options_release(w->next);
        free(w->next);
    }
    dp_retire_release(&w->retire);
    struct dp_strings *const lists[] = {&w->first, &w->order, &w->reread, &w->redo};
    for (int i = 0; i < 4; i++) dp_strings_release(lists[i]);
    w->c.road->policy.first = NULL;
    pthread_mutex_destroy(&w->mu);
    pthread_cond_destroy(&w->wake);
    free(w);
}

/* Under the mutex. */
static void poke(struct dp_work *w)
{
    atomic_store(&w->hold, w->paused || w->off || w->reorder || w->next || w->quit);
    pthread_cond_signal(&w->wake);
}

#define LOCKED(w, statement)                                                                       \
    do {                                                                                           \
        pthread_mutex_lock(&(w)->mu);                                                              \
        statement;                                                                                 \
        poke(w);                                                                                   \
        pthread_mutex_unlock(&(w)->mu);                                                            \
    } while (0)

void dp_work_hold(struct dp_work *w, bool on)
{
    LOCKED(w, w->paused = on);
}

void dp_work_halt(struct dp_work *w, bool on)
{
    LOCKED(w, (atomic_store(&w->halt, on), w->s.disk_full = w->s.disk_full && on));
}

void dp_work_rescan(struct dp_work *w)
{
    LOCKED(w, w->want_rescan = true);
}

void dp_work_wake(struct dp_work *w, bool again)
{
    LOCKED(w, w->want_pass = w->want_pass || again);
}

void dp_work_off(struct dp_work *w, bool off)
{
    LOCKED(w, w->off = off);
}

void dp_work_steps(struct dp_work *w)
{
    LOCKED(w, (set_steps_due(w, true), w->want_pass = true));
}

static int ask(struct dp_work *w, struct dp_strings *list, const char *text, bool reorder, struct dp_err *e)
{
    int rc;
    LOCKED(w, (rc = dp_strings_add(list, text, e), w->reorder = w->reorder || (reorder && rc >= 0 && w->s.busy)));
    return rc;
}

int dp_work_first(struct dp_work *w, const char *pattern, struct dp_err *e)
{
    return ask(w, &w->first, pattern, true, e);
}

int dp_work_reread(struct dp_work *w, const char *path, struct dp_err *e)
{
    return ask(w, &w->reread, path, false, e);
}

int dp_work_redo(struct dp_work *w, const char *stage, const char *key, struct dp_err *e)
{
    char text[64];
    snprintf(text, sizeof text, "%.15s %.39s", stage, key);
    return ask(w, &w->redo, text, false, e);
}

void dp_work_quit(struct dp_work *w)
{
    LOCKED(w, w->quit = true);
}

void dp_work_reload(struct dp_work *w, struct dp_options *o)
{
    pthread_mutex_lock(&w->mu);
    if (w->next) { /* a second reload before the first took hold */
        dp_options_release(w->next);
        free(w->next);
    }
    w->next = o;
    poke(w);
    pthread_mutex_unlock(&w->mu);
}

void dp_work_status(struct dp_work *w, struct dp_work_status *s)
{
    pthread_mutex_lock(&w->mu);
    *s = w->s;
    /* A pass that is due and only waits for the thread to wake: who looks in between must not take that for idleness. */
    if (w->s.started && !w->quit && !w->paused && !atomic_load(&w->halt)) s->busy = s->busy || w->want_rescan || w->want_pass || w->next;
    pthread_mutex_unlock(&w->mu);
}

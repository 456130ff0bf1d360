/* What the control socket is asked: each answer comes at once, but for pages of jobs. */
#include "daemon/serve.h"

#include "base/fs.h"
#include "daemon/check.h"
#include "daemon/events.h"
#include "daemon/notify.h"
#include "daemon/quarantine.h"

#include <event2/event.h>
#include <stdlib.h>

static void answer_status(struct dp_serve *s, struct dp_conn *c)
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, 1 << 20);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_serve_print(s, &w);
    dp_jsonw_end(&w, '}');
    if (b.len > 2) dp_conn_end_with(c, dp_span(b.ptr + 1, b.len - 2));
    else dp_conn_end(c, DP_NOMEM, "no memory");
    dp_buf_release(&b);
}

static void jobs_done(void *ctx, struct dp_ask *a)
{
    struct dp_conn *c = ctx;
    char next[40];
    if (a->rc < 0) {
        dp_conn_end(c, a->rc, a->err.msg);
        return;
    }
    dp_conn_line(c, dp_buf_span(&a->out));
    snprintf(next, sizeof next, "\"next\":%lld", (long long)a->next);
    dp_conn_end_with(c, dp_span_str(a->next ? next : "\"next\":null"));
}

static void cancel(void *ask)
{
    dp_ask_cancel(ask);
}

static void answer_jobs(struct dp_serve *s, struct dp_conn *c, const struct dp_request *r)
{
    struct dp_page p = {.id = r->id, .after = r->after, .limit = r->limit ? r->limit : DP_PAGE_DEFAULT};
    snprintf(p.state, sizeof p.state, "%s", r->state);
    snprintf(p.stage, sizeof p.stage, "%s", r->stage);
    struct dp_ask *a = dp_query_submit(s->query, DP_QUERY_JOBS, &p, true, jobs_done, c);
    if (a) dp_conn_pending(c, cancel, a);
    else dp_conn_end(c, DP_BUSY, "too many questions wait; try again");
}

static void answer_retry(struct dp_serve *s, struct dp_conn *c, const struct dp_request *r)
{
    struct dp_err err = {0};
    int changed = 0;
    char text[64];
    if (dp_catalog_retry(s->road.ws.catalog, r->id, &changed, &err) < 0) {
        dp_conn_end(c, err.code, err.msg);
        return;
    }
    if (r->id && !changed) {
        dp_conn_end(c, DP_NOTFOUND, "no failed job has this id");
        return;
    }
    dp_work_wake(s->work, true);
    dp_event(DP_LOG_INFO, "retry", "%d failed jobs are tried again, by request", changed);
    snprintf(text, sizeof text, "\"retried\":%d", changed);
    dp_conn_end_with(c, dp_span_str(text));
}

/* Folders of any size are read, and the catalog written: on the thread for questions. */
struct quarantine_call {
    struct dp_serve *serve;
    bool retry, all;
    char name[64];
};

static int run_quarantine(void *arg, struct dp_ask *a)
{
    struct quarantine_call *k = arg;
    struct dp_workspace *ws = &k->serve->road.ws;
    char name[DP_QUARANTINE_NAME];
    const char *const names[] = {name};
    size_t n = 0;
    if (!k->all) DP_TRY(dp_quarantine_find(ws, k->name, name, &a->err));
    DP_TRY(k->retry ? dp_quarantine_retry(ws, k->all ? NULL : names, 1, &n, &a->err) : dp_quarantine_drop(ws, k->all ? NULL : names, 1, &n, &a->err));
    a->next = (int64_t)n;
    if (n && k->retry) {
        atomic_store(&k->serve->again, true);
        event_active(k->serve->changed, 0, 0);
    }
    if (n) dp_event(DP_LOG_INFO, "quarantine", "%zu documents of the quarantine %s, by request", n, k->retry ? "are tried again" : "are dropped");
    return DP_OK;
}

static void quarantine_done(void *ctx, struct dp_ask *a)
{
    char text[48];
    if (a->rc < 0) {
        dp_conn_end(ctx, a->rc, a->err.msg);
        return;
    }
    snprintf(text, sizeof text, "\"documents\":%lld", (long long)a->next);
    dp_conn_end_with(ctx, dp_span_str(text));
}

static void answer_quarantine(struct dp_serve *s, struct dp_conn *c, const struct dp_request *r)
{
    struct quarantine_call *k = calloc(1, sizeof *k);
    if (k) {
        *k = (struct quarantine_call){.serve = s, .retry = r->op == DP_OP_QUARANTINE_RETRY, .all = r->all};
        memcpy(k->name, r->name, sizeof k->name);
    }
    struct dp_ask *a = k ? dp_query_call(s->query, run_quarantine, k, NULL, quarantine_done, c) : NULL;
    if (a) dp_conn_pending(c, cancel, a);
    else dp_conn_end(c, DP_BUSY, "too many questions wait; try again");
}

static void answer_level(struct dp_conn *c, const char *level)
{
    static const struct {
        const char *name;
        enum dp_log_level level;
    } levels[] = {{"error", DP_LOG_ERROR}, {"warning", DP_LOG_WARN}, {"info", DP_LOG_INFO}, {"debug", DP_LOG_DEBUG}};
    for (int i = 0; i < 4; i++) {
        if (strcmp(level, levels[i].name) != 0) continue;
        dp_log_set_level(levels[i].level);
        dp_conn_end(c, DP_OK, NULL);
        return;
    }
    dp_conn_end(c, DP_USAGE, "levels are error, warning, info and debug");
}

void dp_serve_pause(struct dp_serve *s, bool on)
{
    s->paused = on;
    s->draining = false;
    dp_work_hold(s->work, on);
    dp_event(DP_LOG_INFO, "state", "%s by request", on ? "paused" : "resumed");
    event_active(s->changed, 0, 0);
}

void dp_serve_drain(struct dp_serve *s)
{
    s->draining = true;
    dp_work_hold(s->work, true);
    dp_event(DP_LOG_INFO, "state", "draining by request: running units are finished, none is begun");
    event_active(s->changed, 0, 0);
}

/* Everything about a recipe that a service refuses; on success *o is open. */
int dp_serve_load(struct dp_serve *s, struct dp_options *o, int pardon, struct dp_err *e)
{
    struct dp_check c = {.recipe = s->road.ws.recipe, .dir = s->road.ws.dir, .apply = s->config.apply, .ctx = s->config.ctx, .options = o};
    int rc = dp_serve_defaults(o, e);
    if (rc >= 0) rc = dp_check_recipe(&c, e);
    if (rc >= 0) rc = dp_check_verdict(&c, pardon, e);
    dp_check_release(&c);
    return rc;
}

/* Reading and looking at a recipe may take a while (a tokenizer is loaded), so it is done on the thread for questions. */
struct reload {
    struct dp_serve *serve;
    struct dp_conn *conn; /* who asked; NULL: a signal, or it is gone */
    struct dp_options *options; /* NULL once they are the road's */
};

static void release_reload(void *arg)
{
    struct reload *k = arg;
    if (k->options) dp_options_release(k->options);
    free(k->options);
    free(k);
}

static int run_reload(void *arg, struct dp_ask *a)
{
    struct reload *k = arg;
    k->options = calloc(1, sizeof *k->options);
    if (!k->options) return dp_err_set(&a->err, DP_NOMEM, 0, __FILE__, __LINE__, "reload");
    return dp_serve_load(k->serve, k->options, 0, &a->err);
}

static void reload_done(void *ctx, struct dp_ask *a)
{
    struct reload *k = a->arg;
    struct dp_serve *s = ctx;
    if (a->rc < 0) {
        s->reloads_refused++;
        dp_event(DP_LOG_ERROR, "reload", "the recipe is refused, the one before stays in force: %s", a->err.msg);
    } else {
        s->o = k->options->serve;
        dp_serve_hours(s, s->o.hours);
        dp_work_reload(s->work, k->options);
        k->options = NULL;
        s->reloads++;
        dp_event(DP_LOG_INFO, "reload", "the recipe was read again");
    }
    dp_notify("READY=1");
    event_active(s->changed, 0, 0);
    if (k->conn) dp_conn_end(k->conn, a->rc, a->rc < 0 ? a->err.msg : NULL);
}

static void nobody_waits(void *arg)
{
    ((struct reload *)arg)->conn = NULL;
}

void dp_serve_reload(struct dp_serve *s, struct dp_conn *c)
{
    struct reload *k = calloc(1, sizeof *k);
    if (k) *k = (struct reload){.serve = s, .conn = c};
    if (k && dp_query_call(s->query, run_reload, k, release_reload, reload_done, s)) {
        dp_notify_reloading();
        if (c) dp_conn_pending(c, nobody_waits, k);
    } else if (c) dp_conn_end(c, DP_BUSY, "too many questions wait; try again");
}

static void end(struct dp_conn *c, int rc, const struct dp_err *e)
{
    dp_conn_end(c, rc, rc < 0 ? e->msg : NULL);
}

/* One source, or a folder of them, is looked for first: a mistyping must not look like success. Millions of paths may be looked through. */
struct rescan_call {
    struct dp_serve *serve;
    char path[4096];
};

static int run_rescan(void *arg, struct dp_ask *a)
{
    struct rescan_call *k = arg;
    size_t n = 0;
    DP_TRY(dp_catalog_sources_doubt(k->serve->road.ws.catalog, k->path, true, &n, &a->err));
    a->next = (int64_t)n;
    if (!n) DP_FAIL(&a->err, NOTFOUND, "%.180s is no source, nor a folder of sources", k->path);
    return DP_OK;
}

static void rescan_done(void *ctx, struct dp_ask *a)
{
    struct rescan_call *k = a->arg;
    int rc = a->rc;
    char text[48];
    if (rc >= 0) rc = dp_work_reread(k->serve->work, k->path, &a->err);
    snprintf(text, sizeof text, "\"sources\":%lld", (long long)a->next);
    if (rc < 0) end(ctx, rc, &a->err);
    else dp_conn_end_with(ctx, dp_span_str(text));
}

static void answer_rescan(struct dp_serve *s, struct dp_conn *c, const struct dp_request *r)
{
    if (r->steps) dp_work_steps(s->work);
    if (!r->path[0]) {
        dp_work_rescan(s->work);
        dp_conn_end(c, DP_OK, NULL);
        return;
    }
    struct rescan_call *k = calloc(1, sizeof *k);
    if (k) {
        k->serve = s;
        memcpy(k->path, r->path, sizeof k->path);
    }
    struct dp_ask *a = k ? dp_query_call(s->query, run_rescan, k, NULL, rescan_done, c) : NULL;
    if (a) dp_conn_pending(c, cancel, a);
    else dp_conn_end(c, DP_BUSY, "too many questions wait; try again");
}

/* The job's row came, or there is none. */
struct redo {
    struct dp_serve *serve;
    struct dp_conn *conn;
};

static void redo_done(void *ctx, struct dp_ask *a)
{
    struct redo *k = ctx;
    struct dp_json *row = NULL;
    struct dp_err err = a->err;
    char stage[16], key[40];
    int rc = a->rc;
    if (rc >= 0 && !a->out.len) rc = dp_err_set(&err, DP_NOTFOUND, 0, __FILE__, __LINE__, "there is no job %lld", (long long)a->page.id);
    if (rc >= 0) rc = dp_json_parse(&row, dp_buf_span(&a->out), "job", &err);
    snprintf(stage, sizeof stage, "%.*s", DP_SPAN_FMT(dp_json_str(dp_json_get(row, "stage"))));
    snprintf(key, sizeof key, "%.*s", DP_SPAN_FMT(dp_json_str(dp_json_get(row, "key"))));
    if (rc >= 0) rc = dp_work_redo(k->serve->work, stage, key, &err);
    dp_json_free(row);
    if (k->conn) end(k->conn, rc, &err);
    free(k);
}

static void redo_gone(void *redo)
{
    ((struct redo *)redo)->conn = NULL;
}

static void answer_redo(struct dp_serve *s, struct dp_conn *c, const struct dp_request *r)
{
    struct dp_page p = {.id = r->id, .limit = 1};
    struct redo *k = calloc(1, sizeof *k);
    if (k) *k = (struct redo){s, c};
    if (k && dp_query_submit(s->query, DP_QUERY_JOBS, &p, true, redo_done, k)) dp_conn_pending(c, redo_gone, k);
    else {
        free(k);
        dp_conn_end(c, DP_BUSY, "too many questions wait; try again");
    }
}

void dp_serve_request(void *serve, struct dp_conn *c, const struct dp_request *r)
{
    struct dp_serve *s = serve;
    struct dp_err err = {0};
    s->requests++;
    if (s->stopping && r->op != DP_OP_STATUS && r->op != DP_OP_STOP) {
        dp_conn_end(c, DP_BUSY, "the service is stopping");
        return;
    }
    switch (r->op) {
    case DP_OP_STATUS: answer_status(s, c); break;
    case DP_OP_PAUSE:
    case DP_OP_RESUME:
        dp_serve_pause(s, r->op == DP_OP_PAUSE);
        dp_conn_end(c, DP_OK, NULL);
        break;
    case DP_OP_DRAIN:
        dp_serve_drain(s);
        dp_conn_end(c, DP_OK, NULL);
        break;
    case DP_OP_RELOAD: dp_serve_reload(s, c); break;
    case DP_OP_RESCAN: answer_rescan(s, c, r); break;
    case DP_OP_FIRST: end(c, dp_work_first(s->work, r->path, &err), &err); break;
    case DP_OP_REDO: answer_redo(s, c, r); break;
    case DP_OP_JOBS: answer_jobs(s, c, r); break;
    case DP_OP_RETRY: answer_retry(s, c, r); break;
    case DP_OP_QUARANTINE_RETRY:
    case DP_OP_QUARANTINE_DROP: answer_quarantine(s, c, r); break;
    case DP_OP_LOGLEVEL: answer_level(c, r->level); break;
    case DP_OP_STOP:
        dp_conn_end(c, DP_OK, NULL);
        dp_serve_stop(s);
        break;
    case DP_OP_COUNT: break;
    }
}

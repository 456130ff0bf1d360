/* Which paths HTTP has: one table, which daemon/dashboard/openapi.json describes (tests/unit/test_openapi.c compares them). */
#include "daemon/serve_internal.h"

#include "daemon/events.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

/* --- answers from memory --- */

static void get_live(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)
{
    (void)s;
    (void)p;
    dp_http_reply(r, 200, "text/plain; charset=utf-8", dp_span_str("ok\n"));
}

static void get_ready(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)
{
    const char *why = "";
    char text[128];
    bool good = dp_serve_ready(s, &why);
    (void)p;
    snprintf(text, sizeof text, good ? "ok\n" : "not ready: %s\n", why);
    dp_http_reply(r, good ? 200 : 503, "text/plain; charset=utf-8", dp_span_str(text));
}

static void print_status(struct dp_serve *s, const struct dp_page *p, struct dp_jsonw *w)
{
    (void)p;
    dp_serve_print(s, w);
}

static void print_runs(struct dp_serve *s, const struct dp_page *p, struct dp_jsonw *w)
{
    (void)s;
    dp_jsonw_key(w, "runs");
    dp_runs_print(w, (size_t)p->limit);
}

static void print_events(struct dp_serve *s, const struct dp_page *p, struct dp_jsonw *w)
{
    (void)s;
    dp_jsonw_key(w, "events");
    uint64_t last = dp_events_print(w, (uint64_t)p->after, p->kind, (size_t)p->limit);
    dp_jsonw_member_int(w, "next", (int64_t)last);
}

static void print_feed(struct dp_serve *s, const struct dp_page *p, struct dp_jsonw *w)
{
    (void)p;
    dp_jsonw_key(w, "serving");
    dp_jsonw_bool(w, s->feed != NULL);
    dp_serve_feed_print(s->feed, w);
}

#define FROM_MEMORY(name, print)                                                                   \
    static void name(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)       \
    {                                                                                              \
        dp_serve_now_json(s, r, p, print);                                                         \
    }
FROM_MEMORY(get_status, print_status)
FROM_MEMORY(get_runs, print_runs)
FROM_MEMORY(get_events, print_events)
FROM_MEMORY(get_workers, dp_serve_print_workers)
FROM_MEMORY(get_feed, print_feed)

static void get_stream(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)
{
    dp_streams_add(s->streams, r, dp_http_param(r, "after") ? p->after : -1);
}

static void get_file(struct dp_serve *s, struct dp_http_request *r, const char *path)
{
    const struct dp_page_file *f = dp_page_file(path);
    (void)s;
    dp_http_reply_file(r, f->type, f->body, f->etag, dp_page_csp);
}
#define COMPILED_IN(name, path)                                                                    \
    static void name(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)       \
    {                                                                                              \
        (void)p;                                                                                   \
        get_file(s, r, path);                                                                      \
    }
COMPILED_IN(get_index, "/")
COMPILED_IN(get_style, "/dashboard.css")
COMPILED_IN(get_script, "/dashboard.js")
COMPILED_IN(get_icon, "/icon.svg")
COMPILED_IN(get_openapi, "/api/v1/openapi.json")

/* --- answers from the catalog --- */

#define FROM_CATALOG(name, kind, type, print)                                                      \
    static void name(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)       \
    {                                                                                              \
        dp_serve_ask(s, r, kind, p, type, print);                                                  \
    }
FROM_CATALOG(get_metrics, DP_QUERY_TOTALS, "text/plain; version=0.0.4; charset=utf-8", dp_serve_metrics)
FROM_CATALOG(get_stages, DP_QUERY_TOTALS, NULL, dp_serve_stages)
FROM_CATALOG(get_drops, DP_QUERY_TOTALS, NULL, dp_serve_drops)
FROM_CATALOG(get_jobs, DP_QUERY_JOBS, NULL, NULL)
FROM_CATALOG(get_sources, DP_QUERY_SOURCES, NULL, NULL)
FROM_CATALOG(get_artifacts, DP_QUERY_ARTIFACTS, NULL, NULL)
FROM_CATALOG(get_samples, DP_QUERY_SAMPLES, NULL, NULL)
FROM_CATALOG(get_languages, DP_QUERY_LANGUAGES, NULL, NULL)
FROM_CATALOG(get_roots, DP_QUERY_ROOTS, NULL, NULL)
FROM_CATALOG(get_shards, DP_QUERY_SHARDS, NULL, NULL)
FROM_CATALOG(get_training, DP_QUERY_TRAINING, NULL, NULL)
FROM_CATALOG(get_quarantine, DP_QUERY_QUARANTINE, NULL, NULL)

/* --- actions --- */

static void print_ok(struct dp_serve *s, const struct dp_page *p, struct dp_jsonw *w)
{
    (void)s;
    (void)p;
    dp_jsonw_key(w, "ok");
    dp_jsonw_bool(w, true);
}

static void post_pause(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)
{
    dp_serve_pause(s, true);
    dp_serve_now_json(s, r, p, print_ok);
}

static void post_resume(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)
{
    dp_serve_pause(s, false);
    dp_serve_now_json(s, r, p, print_ok);
}

static void post_rescan(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)
{
    dp_work_rescan(s->work);
    dp_serve_now_json(s, r, p, print_ok);
}

struct retry {
    struct dp_serve *serve;
    struct dp_http_request *request; /* NULL: gone; the jobs are retried all the same */
    int64_t id;                      /* 0: all */
    int changed;
};

static void asker_gone(void *v)
{
    ((struct retry *)v)->request = NULL;
}

static int retry(void *v, struct dp_ask *a)
{
    struct retry *y = v;
    return dp_catalog_retry(y->serve->road.ws.catalog, y->id, &y->changed, &a->err);
}

static void retried(void *v, struct dp_ask *a)
{
    struct retry *y = v;
    char text[64];
    if (a->rc >= 0 && y->changed) {
        dp_work_wake(y->serve->work, true);
        dp_event(DP_LOG_INFO, "retry", "%d failed jobs are tried again, by request", y->changed);
    }
    if (!y->request) return;
    snprintf(text, sizeof text, "{\"ok\":true,\"retried\":%d}\n", y->changed);
    if (a->rc < 0) dp_http_error(y->request, a->rc == DP_BUSY ? 503 : 500, a->err.msg);
    else if (y->id && !y->changed) dp_http_error(y->request, 404, "no failed job has this id");
    else dp_http_reply(y->request, 200, "application/json", dp_span_str(text));
}

static void post_retry(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p)
{
    struct retry *y = malloc(sizeof *y);
    if (y) *y = (struct retry){s, r, p->id, 0};
    if (y && dp_query_call(s->query, retry, y, NULL, retried, y)) dp_http_pending(r, asker_gone, y);
    else dp_http_error(r, 503, "too many questions wait; try again");
}

/* --- the table --- */

const struct dp_route dp_routes[] = {
    {"/", "", false, get_index, false},
    {"/dashboard.css", "", false, get_style, false},
    {"/dashboard.js", "", false, get_script, false},
    {"/icon.svg", "", false, get_icon, false},
    {"/livez", "", false, get_live, false},
    {"/readyz", "", false, get_ready, false},
    {"/metrics", "", false, get_metrics, false},
    {"/api/v1/openapi.json", "", false, get_openapi, false},
    {"/api/v1/status", "", false, get_status, false},
    {"/api/v1/stream", "after", false, get_stream, false},
    {"/api/v1/stages", "", false, get_stages, false},
    {"/api/v1/drops", "", false, get_drops, false},
    {"/api/v1/samples", "reason limit", false, get_samples, false},
    {"/api/v1/languages", "", false, get_languages, false},
    {"/api/v1/roots", "", false, get_roots, false},
    {"/api/v1/sources", "id after limit", false, get_sources, false},
    {"/api/v1/jobs", "state stage id after limit", false, get_jobs, false},
    {"/api/v1/artifacts", "kind id after limit", false, get_artifacts, false},
    {"/api/v1/shards", "after limit", false, get_shards, false},
    {"/api/v1/feed", "", false, get_feed, false},
    {"/api/v1/training", "", false, get_training, false},
    {"/api/v1/quarantine", "after limit", false, get_quarantine, true},
    {"/api/v1/workers", "", false, get_workers, false},
    {"/api/v1/runs", "limit", false, get_runs, false},
    {"/api/v1/events", "kind after limit", false, get_events, false},
    {"/api/v1/jobs/retry", "", true, post_retry, false},
    {"/api/v1/jobs/{id}/retry", "", true, post_retry, false},
    {"/api/v1/pause", "", true, post_pause, false},
    {"/api/v1/resume", "", true, post_resume, false},
    {"/api/v1/rescan", "", true, post_rescan, false},
};
const size_t dp_routes_count = sizeof dp_routes / sizeof *dp_routes;

bool dp_route_is_open(const char *path)
{
    return dp_page_file(path) != NULL;
}

/* --- paths and parameters --- */

static bool number(const char *t, int64_t max, int64_t *out)
{
    char *end;
    if (*t < '0' || *t > '9') return false;
    errno = 0;
    long long v = strtoll(t, &end, 10);
    if (*end || errno || v > max) return false;
    *out = v;
    return true;
}

static bool word(const char *t, char *out, size_t cap)
{
    size_t n = strlen(t);
    if (!n || n >= cap || strspn(t, "abcdefghijklmnopqrstuvwxyz0123456789_-.") != n) return false;
    memcpy(out, t, n + 1);
    return true;
}

static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; n && (p = strstr(p, name)); p += n)
        if ((p == list || p[-1] == ' ') && (!p[n] || p[n] == ' ')) return true;
    return false;
}

static bool param(const struct dp_route *route, struct dp_page *p, const char *name, const char *value)
{
    if (strcmp(name, "after") == 0 && route->by_name) return word(value, p->after_name, sizeof p->after_name);
    if (strcmp(name, "after") == 0) return number(value, INT64_MAX, &p->after);
    if (strcmp(name, "id") == 0) return number(value, INT64_MAX, &p->id);
    if (strcmp(name, "limit") == 0) return number(value, DP_PAGE_MAX, &p->limit) && p->limit > 0;
    if (strcmp(name, "state") == 0) return word(value, p->state, sizeof p->state);
    if (strcmp(name, "stage") == 0) return word(value, p->stage, sizeof p->stage);
    if (strcmp(name, "kind") == 0) return word(value, p->kind, sizeof p->kind);
    return word(value, p->reason, sizeof p->reason);
}

static bool page(const struct dp_route *route, struct dp_http_request *r, struct dp_page *p)
{
    const char *name, *value;
    for (int i = 0; dp_http_param_at(r, i, &name, &value); i++)
        if (!listed(route->params, name) || !param(route, p, name, value)) return false;
    return true;
}

static bool fits(const char *pattern, const char *path, struct dp_page *p)
{
    const char *brace = strstr(pattern, "{id}");
    char id[24];
    if (!brace) return strcmp(pattern, path) == 0;
    size_t n = (size_t)(brace - pattern), digits;
    if (strncmp(pattern, path, n) != 0) return false;
    digits = strspn(path + n, "0123456789");
    if (!digits || digits >= sizeof id || strcmp(path + n + digits, brace + 4) != 0) return false;
    memcpy(id, path + n, digits);
    id[digits] = 0;
    return number(id, INT64_MAX, &p->id) && p->id > 0;
}

void dp_serve_http(void *serve, struct dp_http_request *r, const char *path)
{
    struct dp_serve *s = serve;
    struct dp_page p = {.limit = DP_PAGE_DEFAULT};
    const struct dp_route *route = dp_routes, *end = dp_routes + dp_routes_count;
    s->requests++;
    while (route < end && !fits(route->path, path, &p)) route++;
    if (route == end) dp_http_error(r, 404, "there is no such page");
    else if (dp_http_is_post(r) != route->post) dp_http_not_allowed(r, route->post ? "POST" : "GET, HEAD");
    else if (route->post && dp_http_foreign(r))
        dp_http_error(r, 403, "only pages of this address may ask for that; without a token the field X-Dpipe-Action is wanted too");
    else if (!page(route, r, &p)) dp_http_error(r, 400, "a parameter of the query isn't known here, or is out of its range");
    else if (route->post && s->stopping) dp_http_error(r, 503, "the service is stopping");
    else route->fn(s, r, &p);
}

/* What HTTP is asked: health, metrics (docs/metrics.md), and the API as JSON. */
#include "daemon/serve_internal.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/progress.h"
#include "daemon/events.h"
#include "trainer_feed/feed_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void reply_buf(struct dp_http_request *r, const char *type, struct dp_buf *b)
{
    if (b->full) dp_http_error(r, 500, "the answer is too large, or memory is short");
    else dp_http_reply(r, 200, type, dp_buf_span(b));
}

/* --- metrics --- */

static void metric(struct dp_buf *b, const char *name, const char *type, const char *help)
{
    dp_buf_printf(b, "# HELP dpipe_%s %s\n# TYPE dpipe_%s %s\n", name, help, name, type);
}

static void gauge(struct dp_buf *b, const char *name, const char *help, double v)
{
    metric(b, name, "gauge", help);
    dp_buf_printf(b, "dpipe_%s %.17g\n", name, v);
}

static void counter(struct dp_buf *b, const char *name, const char *help, uint64_t v)
{
    metric(b, name, "counter", help);
    dp_buf_printf(b, "dpipe_%s %llu\n", name, (unsigned long long)v);
}

/* Sums over the present state go down when the recipe changes, so they are gauges. */
static void by_stage(struct dp_buf *b, const struct dp_totals *t)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } rows[] = {{"documents_in", "documents that came into the stage, of the present state", offsetof(struct dp_stage_counts, docs_in)},
                {"documents_out", "documents that left it", offsetof(struct dp_stage_counts, docs_out)},
                {"bytes_in", "bytes that came into the stage", offsetof(struct dp_stage_counts, bytes_in)},
                {"bytes_out", "bytes that left it", offsetof(struct dp_stage_counts, bytes_out)}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        metric(b, rows[k].name, "gauge", rows[k].help);
        for (size_t i = 0; i < t->stages; i++)
            dp_buf_printf(b, "dpipe_%s{stage=\"%s\"} %llu\n", rows[k].name, t->stage[i].name,
                          (unsigned long long)*(const uint64_t *)(const void *)((const char *)&t->stage[i].c + rows[k].offset));
    }
    metric(b, "stage_seconds", "gauge", "processor seconds the stage took");
    for (size_t i = 0; i < t->stages; i++) dp_buf_printf(b, "dpipe_stage_seconds{stage=\"%s\"} %.6f\n", t->stage[i].name, (double)t->stage[i].c.ns * 1e-9);
    metric(b, "documents_dropped", "gauge", "documents dropped by the stage for the reason; documents_in = documents_out + their sum");
    for (size_t i = 0; i < t->stages; i++)
        for (int d = 1; d < DP_DROP_COUNT; d++)
            if (t->stage[i].c.drop[d])
                dp_buf_printf(b, "dpipe_documents_dropped{stage=\"%s\",reason=\"%s\"} %llu\n", t->stage[i].name, dp_drop_name((enum dp_drop)d),
                              (unsigned long long)t->stage[i].c.drop[d]);
}

static void live(struct dp_serve *s, struct dp_buf *b)
{
    struct dp_work_status w;
    struct dp_progress_view p;
    const char *why = "";
    size_t folders = 0, beyond = 0;
    enum dp_serve_state st = dp_serve_state(s, &w);
    dp_progress_read(&p);
    if (s->watch) dp_inbox_count(s->watch, &folders, &beyond);
    metric(b, "info", "gauge", "version, as a label");
    dp_buf_printf(b, "dpipe_info{version=\"%s\"} 1\n", DP_VERSION);
    metric(b, "state", "gauge", "1 for the state the service is in");
    for (int i = 0; i <= DP_SERVE_STOPPING; i++) dp_buf_printf(b, "dpipe_state{state=\"%s\"} %d\n", dp_serve_state_name((enum dp_serve_state)i), i == (int)st);
    gauge(b, "ready", "1 when /readyz says 200", dp_serve_ready(s, &why));
    gauge(b, "uptime_seconds", "since the service began", dp_now() - s->started);
    gauge(b, "resident_memory_bytes", "resident memory of the process", (double)dp_process_rss(getpid()));
    gauge(b, "disk_free_bytes", "free space of the workspace's file system", (double)s->disk_free);
    gauge(b, "disk_low_mark_bytes", "below this work pauses", (double)s->o.min_free_bytes);
    gauge(b, "queue_age_seconds", "since when something is out of date; 0: nothing is", w.behind_since ? dp_now() - w.behind_at : 0);
    counter(b, "passes_total", "passes over the road", w.passes);
    counter(b, "units_made_total", "units made since the service began", w.made);
    gauge(b, "units_waiting", "failed units that will be tried again", (double)w.left.waiting);
    gauge(b, "generation", "generations of the present lineage; 0: there is none", (double)w.generation);
    gauge(b, "units_gathering", "new units that wait to become the next generation", (double)w.units_gathering);
    gauge(b, "units_given_up", "units that failed for good", (double)w.left.given_up);
    gauge(b, "progress_done", "of the step at hand, in its own unit", p.active ? (double)p.done : 0);
    gauge(b, "progress_total", "of the step at hand; 0: unknown", p.active ? (double)p.total : 0);
    gauge(b, "watched_folders", "folders that inotify watches", (double)folders);
    gauge(b, "unwatched_folders", "folders beyond the limit, found by rescans only", (double)beyond);
    counter(b, "reloads_total", "recipes taken over", s->reloads);
    counter(b, "reloads_refused_total", "invalid recipes refused", s->reloads_refused);
    counter(b, "events_total", "events reported", dp_events_count());
    metric(b, "http_connections", "gauge", "open HTTP connections");
    dp_buf_printf(b, "dpipe_http_connections{listener=\"unix\"} %d\ndpipe_http_connections{listener=\"tcp\"} %d\n", dp_http_connections(s->http_unix),
                  dp_http_connections(s->http_tcp));
    metric(b, "http_streams", "gauge", "those of them that are event streams");
    dp_buf_printf(b, "dpipe_http_streams{listener=\"unix\"} %d\ndpipe_http_streams{listener=\"tcp\"} %d\n", dp_http_streams(s->http_unix),
                  dp_http_streams(s->http_tcp));
}

static void feed(struct dp_serve *s, struct dp_buf *b)
{
    struct dp_feed_server_totals t;
    if (!s->feed) return;
    dp_serve_feed_totals(s->feed, &t);
    gauge(b, "feed_clients", "trainers being served", (double)t.clients);
    counter(b, "feed_accepted_total", "requests of trainers that were accepted", t.accepted);
    counter(b, "feed_refused_total", "connections of trainers that were refused, or let go for a fault", t.refused);
    counter(b, "feed_batches_total", "batches made for trainers", t.batches);
    counter(b, "feed_ids_total", "ids in them that are trained on", t.ids);
    counter(b, "feed_bytes_total", "bytes sent to trainers over TCP", t.bytes);
}

void dp_serve_metrics(struct dp_serve *s, const struct dp_totals *t, struct dp_buf *b)
{
    live(s, b);
    feed(s, b);
    metric(b, "units", "gauge", "units the catalog knows, by state");
    dp_buf_printf(b, "dpipe_units{state=\"ready\"} %llu\ndpipe_units{state=\"running\"} %llu\ndpipe_units{state=\"done\"} %llu\ndpipe_units{state=\"failed\"} %llu\n",
                  (unsigned long long)t->ready, (unsigned long long)t->running, (unsigned long long)t->done, (unsigned long long)t->failed);
    gauge(b, "sources", "registered source files", (double)t->sources);
    gauge(b, "source_bytes", "their bytes", (double)t->source_bytes);
    gauge(b, "artifacts", "published artifacts", (double)t->artifacts);
    gauge(b, "artifact_bytes", "their bytes", (double)t->artifact_bytes);
    by_stage(b, t);
}

/* --- answers that come from the catalog --- */

static const char *const json = "application/json";

struct later {
    struct dp_serve *serve;
    struct dp_http_request *request;
    void (*print)(struct dp_serve *s, const struct dp_totals *t, struct dp_buf *b);
    const char *type;
    struct dp_ask *ask;
};

static void gone(void *v)
{
    struct later *l = v;
    dp_ask_cancel(l->ask);
    free(l);
}

static void answered(void *v, struct dp_ask *a)
{
    struct later *l = v;
    struct dp_http_request *r = l->request;
    if (a->rc < 0) dp_http_error(r, a->rc == DP_BUSY ? 503 : 500, a->err.msg);
    else if (l->print) {
        struct dp_buf b;
        dp_buf_init(&b, DP_ANSWER_MAX);
        l->print(l->serve, &a->totals, &b);
        reply_buf(r, l->type, &b);
        dp_buf_release(&b);
    } else {
        dp_buf_add_char(&a->out, '\n');
        reply_buf(r, l->type, &a->out);
    }
    free(l);
}

void dp_serve_ask(struct dp_serve *s, struct dp_http_request *r, enum dp_query_kind kind, const struct dp_page *p, const char *type,
                  void (*print)(struct dp_serve *, const struct dp_totals *, struct dp_buf *))
{
    struct later *l = calloc(1, sizeof *l);
    if (l) *l = (struct later){s, r, print, type ? type : json, dp_query_submit(s->query, kind, p, false, answered, l)};
    if (l && l->ask) {
        dp_http_pending(r, gone, l);
        return;
    }
    free(l);
    dp_http_error(r, 503, "too many questions wait; try again");
}

static void print_stage(struct dp_jsonw *w, const char *name, const struct dp_stage_counts *c)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_member(w, "stage", name);
    dp_jsonw_member_int(w, "documents_in", (int64_t)c->docs_in);
    dp_jsonw_member_int(w, "documents_out", (int64_t)c->docs_out);
    dp_jsonw_member_int(w, "bytes_in", (int64_t)c->bytes_in);
    dp_jsonw_member_int(w, "bytes_out", (int64_t)c->bytes_out);
    dp_jsonw_member_int(w, "ns", (int64_t)c->ns);
    dp_jsonw_key(w, "dropped");
    dp_jsonw_begin(w, '{');
    for (int d = 1; d < DP_DROP_COUNT; d++)
        if (c->drop[d]) dp_jsonw_member_int(w, dp_drop_name((enum dp_drop)d), (int64_t)c->drop[d]);
    dp_jsonw_end(w, '}');
    dp_jsonw_key(w, "dropped_bytes");
    dp_jsonw_begin(w, '{');
    for (int d = 1; d < DP_DROP_COUNT; d++)
        if (c->drop[d]) dp_jsonw_member_int(w, dp_drop_name((enum dp_drop)d), (int64_t)c->drop_bytes[d]);
    dp_jsonw_end(w, '}');
    dp_jsonw_end(w, '}');
}

void dp_serve_print_stages(const struct dp_totals *t, struct dp_jsonw *w)
{
    dp_jsonw_key(w, "stages");
    dp_jsonw_begin(w, '[');
    for (size_t i = 0; i < t->stages; i++) print_stage(w, t->stage[i].name, &t->stage[i].c);
    dp_jsonw_end(w, ']');
}

void dp_serve_stages(struct dp_serve *s, const struct dp_totals *t, struct dp_buf *b)
{
    struct dp_jsonw w;
    (void)s;
    dp_jsonw_init(&w, b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_int(&w, "taken", t->taken);
    dp_serve_print_stages(t, &w);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(b, '\n');
}

void dp_serve_drops(struct dp_serve *s, const struct dp_totals *t, struct dp_buf *b)
{
    struct dp_jsonw w;
    (void)s;
    dp_jsonw_init(&w, b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_int(&w, "taken", t->taken);
    dp_jsonw_key(&w, "drops");
    dp_jsonw_begin(&w, '[');
    for (size_t i = 0; i < t->stages; i++)
        for (int d = 1; d < DP_DROP_COUNT; d++) {
            if (!t->stage[i].c.drop[d]) continue;
            dp_jsonw_begin(&w, '{');
            dp_jsonw_member(&w, "stage", t->stage[i].name);
            dp_jsonw_member(&w, "reason", dp_drop_name((enum dp_drop)d));
            dp_jsonw_member_int(&w, "documents", (int64_t)t->stage[i].c.drop[d]);
            dp_jsonw_member_int(&w, "bytes", (int64_t)t->stage[i].c.drop_bytes[d]);
            dp_jsonw_member(&w, "help", dp_drop_help((enum dp_drop)d));
            dp_jsonw_end(&w, '}');
        }
    dp_jsonw_end(&w, ']');
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(b, '\n');
}

/* --- answers from memory --- */

void dp_serve_now_json(struct dp_serve *s, struct dp_http_request *r, const struct dp_page *p, void (*print)(struct dp_serve *, const struct dp_page *, struct dp_jsonw *))
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, 4 << 20);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    print(s, p, &w);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    reply_buf(r, json, &b);
    dp_buf_release(&b);
}

/* /api/v1/stream: the live state as server-sent events (WHATWG HTML, 9.2).
 *
 *   state      the service's status, when anything in it changed that doesn't change all the time
 *   progress   of the step at hand, free space; once a second at most, when it moved
 *   stages     the funnel, when it changed
 *   event      what /api/v1/events has, with its number as id: Last-Event-ID goes on behind it, as far as the ring reaches
 *
 * and a comment when nothing was said for BEAT_S, so that a dead connection shows. What is sent is made once for all clients. One
 * question for the sums is on its way at most. Without clients nothing runs. */
#include "daemon/serve_internal.h"

#include "base/clock.h"
#include "daemon/events.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

enum { BEAT_S = 15, STAGES_S = 2, BURST = 256 };
static const double least_s = 0.2; /* between two states */

struct stream {
    struct dp_streams *all;
    struct dp_http_request *request;
    uint64_t event; /* told up to */
    struct stream *next, **link;
};

struct dp_streams {
    struct dp_serve *serve;
    struct event *timer;
    struct stream *first;
    struct dp_buf state, progress, stages; /* as told last */
    struct dp_ask *ask;
    double told_at, state_at, stages_at;
    bool afresh; /* someone came who knows nothing yet */
};

static void gone(void *v)
{
    struct stream *c = v;
    struct dp_streams *t = c->all;
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    free(c);
    if (!t->first && t->timer) event_del(t->timer);
}

static void tell_all(struct dp_streams *t, struct dp_span frame)
{
    for (struct stream *c = t->first, *next; c; c = next) {
        next = c->next;
        dp_http_stream_send(c->request, frame);
    }
    t->told_at = dp_now();
}

/* A frame "event: NAME, data: {...}" unless the same was told last. */
static void tell(struct dp_streams *t, struct dp_buf *last, const char *name, void (*print)(struct dp_streams *, const void *, struct dp_jsonw *), const void *what)
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, DP_HTTP_STREAM_BYTES / 2);
    dp_buf_printf(&b, "event: %s\ndata: ", name);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    print(t, what, &w);
    dp_jsonw_end(&w, '}');
    dp_buf_add_str(&b, "\n\n");
    bool same = b.len == last->len && memcmp(b.ptr, last->ptr, b.len) == 0;
    if (b.full || (same && !t->afresh)) {
        dp_buf_release(&b);
        return;
    }
    tell_all(t, dp_buf_span(&b));
    dp_buf_release(last);
    *last = b;
}

static void print_state(struct dp_streams *t, const void *what, struct dp_jsonw *w)
{
    (void)what;
    dp_serve_print_still(t->serve, w);
}

static void print_progress(struct dp_streams *t, const void *what, struct dp_jsonw *w)
{
    (void)what;
    dp_serve_print_moving(t->serve, w);
}

static void print_stages(struct dp_streams *t, const void *totals, struct dp_jsonw *w)
{
    (void)t;
    dp_serve_print_stages(totals, w);
}

static void tell_events(struct dp_streams *t)
{
    struct dp_event_row v;
    struct dp_buf b;
    dp_buf_init(&b, DP_HTTP_STREAM_BYTES / 2);
    for (struct stream *c = t->first, *next; c; c = next) {
        next = c->next;
        dp_buf_clear(&b);
        for (int n = 0; n < BURST && dp_events_next(c->event, &v); n++) {
            struct dp_jsonw w;
            size_t from = b.len;
            dp_buf_printf(&b, "id: %llu\nevent: event\ndata: ", (unsigned long long)v.number);
            dp_jsonw_init(&w, &b, 0);
            dp_event_print(&w, &v);
            dp_buf_add_str(&b, "\n\n");
            if (b.full) {
                b.len = from;
                break;
            }
            c->event = v.number;
        }
        if (b.len) dp_http_stream_send(c->request, dp_buf_span(&b));
    }
    dp_buf_release(&b);
}

static void summed(void *v, struct dp_ask *a)
{
    struct dp_streams *t = v;
    t->ask = NULL;
    if (a->rc >= 0 && t->first) tell(t, &t->stages, "stages", print_stages, &a->totals);
}

static void tell_state(struct dp_streams *t)
{
    t->state_at = dp_now();
    tell(t, &t->state, "state", print_state, NULL);
    tell_events(t);
}

static void on_second(evutil_socket_t fd, short what, void *v)
{
    struct dp_streams *t = v;
    double now = dp_now();
    (void)fd;
    (void)what;
    tell_state(t);
    tell(t, &t->progress, "progress", print_progress, NULL);
    if (!t->ask && (t->afresh || now - t->stages_at >= STAGES_S)) {
        t->stages_at = now;
        if (t->afresh) dp_buf_clear(&t->stages);
        t->ask = dp_query_submit(t->serve->query, DP_QUERY_TOTALS, NULL, false, summed, t);
    }
    t->afresh = false;
    if (now - t->told_at >= BEAT_S) tell_all(t, dp_span_str(": still here\n\n"));
}

void dp_streams_poke(struct dp_streams *t)
{
    if (t && t->first && dp_now() - t->state_at >= least_s) tell_state(t);
}

void dp_streams_add(struct dp_streams *t, struct dp_http_request *r, int64_t after)
{
    const struct timeval second = {1, 0};
    struct stream *c = calloc(1, sizeof *c);
    int64_t from;
    if (!c) {
        dp_http_error(r, 503, "no memory");
        return;
    }
    int rc = dp_http_stream(r, gone, c, &from);
    if (rc != DP_OK) {
        free(c);
        if (rc == DP_BUSY) dp_http_error(r, 503, "too many streams are open; ask /api/v1/status and /api/v1/events instead");
        return;
    }
    if (from < 0) from = after;
    *c = (struct stream){t, r, from < 0 ? dp_events_last() : (uint64_t)from, t->first, &t->first};
    if (c->next) c->next->link = &c->next;
    t->first = c;
    t->afresh = true;
    event_add(t->timer, &second);
    if (dp_http_stream_send(r, dp_span_str("retry: 3000\n\n"))) event_active(t->timer, EV_TIMEOUT, 0);
}

int dp_streams_open(struct dp_streams **out, struct dp_serve *s, struct dp_err *e)
{
    struct dp_streams *t = calloc(1, sizeof *t);
    *out = t;
    if (t) {
        t->serve = s;
        t->timer = event_new(s->base, -1, EV_PERSIST, on_second, t);
    }
    if (!t || !t->timer) DP_FAIL(e, NOMEM, "event streams");
    return DP_OK;
}

void dp_streams_close(struct dp_streams *t)
{
    if (!t) return;
    if (t->ask) dp_ask_cancel(t->ask);
    if (t->timer) event_free(t->timer);
    dp_buf_release(&t->state);
    dp_buf_release(&t->progress);
    dp_buf_release(&t->stages);
    free(t);
}

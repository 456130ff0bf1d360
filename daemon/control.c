#include "daemon/control.h"

#include "base/json.h"
#include "base/log.h"
#include "daemon/events.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct dp_conn {
    struct dp_control *control;
    struct bufferevent *bev;
    bool answering, last; /* a request waits for its end; the peer said no more, or is refused */
    void (*gone)(void *what);
    void *what;
    struct dp_conn *next, **link;
};

struct dp_control {
    struct event_base *base;
    struct evconnlistener *listener;
    struct event *accept_again;
    char *group;
    int max, count;
    dp_control_fn fn;
    void *ctx;
    struct dp_conn *first;
};

static void free_conn(struct dp_conn *c)
{
    struct dp_control *k = c->control;
    if (c->gone) c->gone(c->what);
    bufferevent_free(c->bev);
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    free(c);
    if (--k->count == k->max - 1) evconnlistener_enable(k->listener);
}

/* The next line, if the last one is answered and its answer has left. May free the connection. */
static void serve_next(struct dp_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    while (!c->answering && !c->last && evbuffer_get_length(bufferevent_get_output(c->bev)) == 0) {
        size_t n;
        char *line = evbuffer_readln(in, &n, EVBUFFER_EOL_LF);
        if (!line && evbuffer_get_length(in) <= DP_REQUEST_MAX) return;
        struct dp_request r;
        struct dp_err err = {0};
        c->answering = true;
        if (!line) {
            dp_conn_end(c, DP_USAGE, "the request line is too long");
            c->last = true;
        } else if (dp_request_parse(&r, dp_span(line, n), &err) < 0) dp_conn_end(c, err.code, err.msg);
        else c->control->fn(c->control->ctx, c, &r);
        free(line);
    }
}

static void on_read(struct bufferevent *bev, void *v)
{
    (void)bev;
    serve_next(v);
}

static void on_written(struct bufferevent *bev, void *v)
{
    struct dp_conn *c = v;
    (void)bev;
    if (c->last && !c->answering) free_conn(c);
    else serve_next(c);
}

static void on_event(struct bufferevent *bev, short what, void *v)
{
    struct dp_conn *c = v;
    if (what & BEV_EVENT_EOF && !(what & BEV_EVENT_ERROR)) { /* `printf ... | nc`: no more requests, but answers are read */
        serve_next(c);
        if (c->answering || evbuffer_get_length(bufferevent_get_output(bev)) > 0) {
            c->last = true;
            return;
        }
    }
    if (what & BEV_EVENT_TIMEOUT && what & BEV_EVENT_READING && c->answering) {
        bufferevent_enable(bev, EV_READ); /* it waits for us */
        return;
    }
    free_conn(c);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *a, int len, void *v)
{
    struct dp_control *k = v;
    const struct timeval idle = {DP_CONTROL_IDLE_S, 0};
    uid_t uid;
    (void)a;
    (void)len;
    bool allowed = dp_unix_peer_allowed(fd, k->group, &uid);
    struct dp_conn *c = calloc(1, sizeof *c);
    if (c) c->bev = bufferevent_socket_new(k->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!c || !c->bev) {
        free(c);
        close(fd);
        return;
    }
    c->control = k;
    c->link = &k->first;
    if ((c->next = k->first)) c->next->link = &c->next;
    k->first = c;
    if (++k->count >= k->max) evconnlistener_disable(l); /* others wait in the kernel's queue */
    bufferevent_setcb(c->bev, on_read, on_written, on_event, c);
    bufferevent_set_timeouts(c->bev, &idle, &idle);
    bufferevent_setwatermark(c->bev, EV_READ, 0, DP_REQUEST_MAX + 2);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    if (!allowed) {
        dp_event(DP_LOG_WARN, "refused", "control socket: user %ld is neither the owner nor root nor in the group; refused", (long)uid);
        c->answering = c->last = true;
        dp_conn_end(c, DP_USAGE, "this user may not speak to the service");
    }
}

static void on_accept_error(struct evconnlistener *l, void *v)
{
    struct dp_control *k = v;
    const struct timeval pause = {1, 0};
    dp_event(DP_LOG_WARN, "accept", "control socket: %s; trying again in a second", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    evconnlistener_disable(l);
    event_add(k->accept_again, &pause);
}

static void accept_again(evutil_socket_t fd, short what, void *v)
{
    struct dp_control *k = v;
    (void)fd;
    (void)what;
    if (k->count < k->max) evconnlistener_enable(k->listener);
}

int dp_control_open(struct dp_control **out, struct event_base *base, int fd, const char *group, int max, dp_control_fn fn, void *ctx, struct dp_err *e)
{
    struct dp_control *k = calloc(1, sizeof *k);
    if (!k) {
        close(fd);
        DP_FAIL(e, NOMEM, "control socket");
    }
    k->base = base;
    k->max = max;
    k->fn = fn;
    k->ctx = ctx;
    k->group = group && *group ? strdup(group) : NULL;
    k->accept_again = evtimer_new(base, accept_again, k);
    k->listener = evconnlistener_new(base, on_accept, k, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (!k->listener || !k->accept_again) {
        if (!k->listener) close(fd);
        dp_control_close(k);
        DP_FAIL(e, NOMEM, "control socket");
    }
    evconnlistener_set_error_cb(k->listener, on_accept_error);
    *out = k;
    return DP_OK;
}

void dp_control_close(struct dp_control *k)
{
    if (!k) return;
    k->max = k->count + 2; /* no listener to switch on again */
    while (k->first) free_conn(k->first);
    if (k->listener) evconnlistener_free(k->listener);
    if (k->accept_again) event_free(k->accept_again);
    free(k->group);
    free(k);
}

void dp_conn_line(struct dp_conn *c, struct dp_span text)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    if (!text.len) return;
    evbuffer_add(out, text.ptr, text.len);
    if (text.ptr[text.len - 1] != '\n') evbuffer_add(out, "\n", 1);
}

void dp_conn_end_with(struct dp_conn *c, struct dp_span members)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    evbuffer_add_printf(out, "{\"ok\":true%s", members.len ? "," : "");
    evbuffer_add(out, members.ptr, members.len);
    evbuffer_add(out, "}\n", 2);
    c->answering = false;
    c->gone = NULL;
}

void dp_conn_end(struct dp_conn *c, int code, const char *message)
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, 1 << 16);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "ok");
    dp_jsonw_bool(&w, code >= 0);
    if (code < 0) dp_jsonw_member_int(&w, "code", code);
    if (message && *message) dp_jsonw_member(&w, code < 0 ? "error" : "message", message);
    dp_jsonw_end(&w, '}');
    dp_conn_line(c, dp_buf_span(&b));
    dp_buf_release(&b);
    c->answering = false;
    c->gone = NULL;
}

void dp_conn_pending(struct dp_conn *c, void (*gone)(void *what), void *what)
{
    c->gone = gone;
    c->what = what;
}

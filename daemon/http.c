/* A connection is: a head arrives, is judged and handed on; then nothing more is read until its answer has left. So a connection
 * holds one head and one answer at most, and one timer bounds either phase as a whole, however slowly bytes drip. */
#include "daemon/http.h"

#include "base/hash.h"
#include "base/json.h"
#include "daemon/control.h"
#include "daemon/events.h"
#include "daemon/http_head.h"
#include "daemon/tls_accept.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct dp_http_request {
    struct dp_http *http;
    struct bufferevent *bev;
    struct event *age;
    struct dp_http_head head;
    bool answering; /* handed on, not answered yet */
    bool closing;   /* ends when the answer has left */
    void (*gone)(void *what);
    void *what;
    struct dp_http_request *next, **link;
};

struct dp_http {
    struct dp_http_config c;
    struct evconnlistener *listener;
    struct event *accept_again;
    struct dp_tls *tls;
    char *token, *group;
    struct dp_http_request *first;
    int count;
};

/* --- connections --- */

static void free_conn(struct dp_http_request *r)
{
    struct dp_http *h = r->http;
    if (r->gone) r->gone(r->what);
    bufferevent_free(r->bev);
    event_free(r->age);
    *r->link = r->next;
    if (r->next) r->next->link = r->link;
    free(r);
    h->count--;
}

static void arm(struct dp_http_request *r)
{
    const struct timeval t = {DP_HTTP_AGE_S, 0};
    event_add(r->age, &t);
}

static void on_age(evutil_socket_t fd, short what, void *v)
{
    (void)fd;
    (void)what;
    free_conn(v);
}

/* --- answers --- */

const char *dp_http_param(const struct dp_http_request *r, const char *name)
{
    for (int i = 0; i < r->head.params; i++)
        if (strcmp(r->head.param[i].name, name) == 0) return r->head.param[i].value;
    return NULL;
}

void dp_http_pending(struct dp_http_request *r, void (*gone)(void *what), void *what)
{
    r->gone = gone;
    r->what = what;
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } r[] = {{200, "OK"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {413, "Content Too Large"},
             {414, "URI Too Long"}, {421, "Misdirected Request"}, {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"}, {501, "Not Implemented"},
             {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof r / sizeof *r; i++)
        if (r[i].status == status) return r[i].text;
    return "Status";
}

void dp_http_reply(struct dp_http_request *r, int status, const char *type, struct dp_span body)
{
    struct evbuffer *out = bufferevent_get_output(r->bev);
    r->closing = r->closing || !r->head.keep_alive;
    evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n", status, reason(status), type, body.len);
    evbuffer_add_printf(out, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n"
                             "Content-Security-Policy: default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'\r\n");
    if (status == 401) evbuffer_add_printf(out, "WWW-Authenticate: Bearer realm=\"dpipe\"\r\n");
    if (status == 405) evbuffer_add_printf(out, "Allow: GET, HEAD\r\n");
    if (status == 503) evbuffer_add_printf(out, "Retry-After: 5\r\n");
    evbuffer_add_printf(out, "Connection: %s\r\n\r\n", r->closing ? "close" : "keep-alive");
    if (r->head.method != DP_HTTP_HEAD) evbuffer_add(out, body.ptr, body.len);
    r->answering = false;
    r->gone = NULL;
    arm(r); /* for the reader's side */
}

void dp_http_error(struct dp_http_request *r, int status, const char *message)
{
    struct dp_buf b;
    struct dp_jsonw w;
    dp_buf_init(&b, 1 << 16);
    dp_jsonw_init(&w, &b, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_member_int(&w, "status", status);
    dp_jsonw_member(&w, "error", message);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b, '\n');
    dp_http_reply(r, status, "application/json", dp_buf_span(&b));
    dp_buf_release(&b);
}

/* --- requests --- */

static bool loopback_host(const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(names[i]);
        if (strncasecmp(host, names[i], n) == 0 && (!host[n] || host[n] == ':')) return true;
    }
    return false;
}

/* 0, or the status to refuse with. Probes of health need no secret: they say nothing but whether. */
static int refused(const struct dp_http *h, const struct dp_http_head *head)
{
    if (!h->c.tcp) return 0;
    if (!h->token) return loopback_host(head->host) ? 0 : 421;
    if (strcmp(head->path, "/livez") == 0 || strcmp(head->path, "/readyz") == 0) return 0;
    if (strncasecmp(head->authorization, "Bearer ", 7) != 0) return 401;
    return dp_secret_equal(head->authorization + 7, h->token) ? 0 : 401;
}

static void judge(struct dp_http_request *r, int status)
{
    struct dp_http *h = r->http;
    if (status) {
        r->closing = true;
        dp_http_error(r, status, "the request can't be read");
    } else if (r->head.method != DP_HTTP_GET && r->head.method != DP_HTTP_HEAD) {
        r->closing = r->closing || r->head.body_bytes > 0;
        dp_http_error(r, 405, "GET and HEAD only");
    } else if (r->head.body_bytes) {
        r->closing = true;
        dp_http_error(r, 413, "no request here has a body");
    } else if ((status = refused(h, &r->head)) != 0)
        dp_http_error(r, status, status == 401 ? "a bearer token is wanted" : "this address answers to localhost only; set a token to use another name");
    else h->c.fn(h->c.ctx, r, r->head.path);
}

/* The next head, when the last answer has left. */
static void serve_next(struct dp_http_request *r)
{
    struct evbuffer *in = bufferevent_get_input(r->bev);
    while (!r->answering && !r->closing && evbuffer_get_length(bufferevent_get_output(r->bev)) == 0) {
        char head[DP_HTTP_HEAD_MAX];
        struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
        size_t n = end.pos < 0 ? evbuffer_get_length(in) : (size_t)end.pos + 4;
        if (end.pos < 0 && n < sizeof head) return;
        r->answering = true;
        event_del(r->age);
        if (n > sizeof head || end.pos < 0) {
            memset(&r->head, 0, sizeof r->head);
            judge(r, 431);
            continue;
        }
        evbuffer_remove(in, head, n);
        judge(r, dp_http_head_parse(&r->head, dp_span(head, n)));
    }
}

static void on_read(struct bufferevent *bev, void *v)
{
    (void)bev;
    serve_next(v);
}

static void on_written(struct bufferevent *bev, void *v)
{
    struct dp_http_request *r = v;
    (void)bev;
    if (r->answering) return;
    if (r->closing) {
        /* What the client still sends would turn a close into a reset that takes the answer with it. */
        shutdown(bufferevent_getfd(r->bev), SHUT_WR);
        struct evbuffer *in = bufferevent_get_input(r->bev);
        evbuffer_drain(in, evbuffer_get_length(in));
        free_conn(r);
        return;
    }
    arm(r);
    serve_next(r);
}

static void on_event(struct bufferevent *bev, short what, void *v)
{
    struct dp_http_request *r = v;
    (void)bev;
    if (what & BEV_EVENT_CONNECTED) return; /* the TLS handshake is over */
    if (what & BEV_EVENT_EOF && !(what & BEV_EVENT_ERROR) && (r->answering || evbuffer_get_length(bufferevent_get_output(r->bev)) > 0)) {
        r->closing = true; /* a client that only shut its sending side still reads */
        return;
    }
    free_conn(r);
}

/* Room for one more: the connection that has waited longest without a whole request goes. A thousand clients that send nothing, or a
 * byte now and then, thus push out each other and not those who ask. */
static bool make_room(struct dp_http *h)
{
    struct dp_http_request *oldest = NULL;
    if (h->count < h->c.connections_max) return true;
    for (struct dp_http_request *r = h->first; r; r = r->next)
        if (!r->answering && evbuffer_get_length(bufferevent_get_output(r->bev)) == 0) oldest = r; /* the newest stands first */
    if (oldest) free_conn(oldest);
    return oldest != NULL;
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *a, int len, void *v)
{
    struct dp_http *h = v;
    uid_t uid;
    (void)l;
    (void)a;
    (void)len;
    struct dp_http_request *r = !make_room(h) ? NULL : h->c.tcp || dp_unix_peer_allowed(fd, h->group, &uid) ? calloc(1, sizeof *r) : NULL;
    if (!r) {
        close(fd);
        return;
    }
    r->bev = h->tls ? dp_tls_accept(h->tls, h->c.base, fd) : bufferevent_socket_new(h->c.base, fd, BEV_OPT_CLOSE_ON_FREE);
    r->age = evtimer_new(h->c.base, on_age, r);
    if (!r->bev || !r->age) {
        if (r->bev) bufferevent_free(r->bev);
        else close(fd);
        if (r->age) event_free(r->age);
        free(r);
        return;
    }
    r->http = h;
    r->link = &h->first;
    if ((r->next = h->first)) r->next->link = &r->next;
    h->first = r;
    h->count++;
    bufferevent_setcb(r->bev, on_read, on_written, on_event, r);
    bufferevent_setwatermark(r->bev, EV_READ, 0, DP_HTTP_HEAD_MAX + 4);
    arm(r);
    bufferevent_enable(r->bev, EV_READ | EV_WRITE);
}

/* --- opening --- */

static void on_accept_error(struct evconnlistener *l, void *v)
{
    struct dp_http *h = v;
    const struct timeval pause = {1, 0};
    dp_event(DP_LOG_WARN, "accept", "http: %s; trying again in a second", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    evconnlistener_disable(l);
    event_add(h->accept_again, &pause);
}

static void accept_again(evutil_socket_t fd, short what, void *v)
{
    struct dp_http *h = v;
    (void)fd;
    (void)what;
    evconnlistener_enable(h->listener);
}

int dp_http_open(struct dp_http **out, const struct dp_http_config *config, struct dp_err *e)
{
    struct dp_http *h = calloc(1, sizeof *h);
    if (!h) {
        close(config->fd);
        DP_FAIL(e, NOMEM, "http");
    }
    h->c = *config;
    h->token = config->token ? strdup(config->token) : NULL;
    h->group = config->group && *config->group ? strdup(config->group) : NULL;
    const struct dp_tls_config tls = {.server = true, .cert = config->cert, .key = config->key};
    int rc = config->tcp && config->cert ? dp_tls_open(&h->tls, &tls, e) : DP_OK;
    h->listener = evconnlistener_new(config->base, on_accept, h, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, config->fd);
    h->accept_again = evtimer_new(config->base, accept_again, h);
    if (!h->listener) close(config->fd);
    if (rc >= 0 && (!h->listener || !h->accept_again || (config->token && !h->token))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "http");
    if (rc < 0) {
        dp_http_close(h);
        return rc;
    }
    evconnlistener_set_error_cb(h->listener, on_accept_error);
    *out = h;
    return DP_OK;
}

void dp_http_close(struct dp_http *h)
{
    if (!h) return;
    while (h->first) free_conn(h->first);
    if (h->listener) evconnlistener_free(h->listener);
    if (h->accept_again) event_free(h->accept_again);
    dp_tls_close(h->tls);
    free(h->token);
    free(h->group);
    free(h);
}

int dp_http_connections(const struct dp_http *h)
{
    return h ? h->count : 0;
}

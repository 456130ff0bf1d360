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
#include <netinet/in.h>
#include <netinet/tcp.h>
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
    bool answering; /* handed on, not answered yet; a stream always is */
    bool stream;
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
    bool tls_client; /* every client has shown a certificate */
    struct dp_http_request *first;
    int count, streams;
};

/* --- connections --- */

static void free_conn(struct dp_http_request *r)
{
    struct dp_http *h = r->http;
    if (r->gone) r->gone(r->what);
    h->streams -= r->stream;
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

bool dp_http_param_at(const struct dp_http_request *r, int k, const char **name, const char **value)
{
    if (k >= r->head.params) return false;
    *name = r->head.param[k].name;
    *value = r->head.param[k].value;
    return true;
}

bool dp_http_is_post(const struct dp_http_request *r)
{
    return r->head.method == DP_HTTP_POST;
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } r[] = {{200, "OK"}, {304, "Not Modified"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
             {406, "Not Acceptable"}, {409, "Conflict"}, {413, "Content Too Large"}, {414, "URI Too Long"}, {421, "Misdirected Request"},
             {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"}, {501, "Not Implemented"}, {503, "Service Unavailable"},
             {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof r / sizeof *r; i++)
        if (r[i].status == status) return r[i].text;
    return "Status";
}

/* Whether the list Accept names this type, its family or everything, weight 0 aside. Empty: everything is welcome. */
static bool accepts(const char *list, const char *type)
{
    size_t n = strcspn(type, ";"), family = strcspn(type, "/") + 1;
    if (!*list) return true;
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',') {
        p += strspn(p, " \t");
        size_t k = strcspn(p, ",; \t"), all = strcspn(p, ",");
        const char *q = memmem(p, all, ";q=0", 4);
        bool never = q && strspn(q + 4, ".0") == (size_t)(p + all - q - 4);
        bool fits = (k == n && strncasecmp(p, type, n) == 0) || (k == 3 && memcmp(p, "*/*", 3) == 0) ||
                    (k == family + 1 && p[family] == '*' && strncasecmp(p, type, family) == 0);
        if (fits && !never) return true;
    }
    return false;
}

static const char no_content_csp[] = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/* The head up to what is special to an answer. */
static struct evbuffer *begin(struct dp_http_request *r, int status, const char *type, const char *csp)
{
    struct evbuffer *out = bufferevent_get_output(r->bev);
    evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\n", status, reason(status));
    if (type) evbuffer_add_printf(out, "Content-Type: %s\r\n", type);
    evbuffer_add_printf(out, "X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n"
                             "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\nContent-Security-Policy: %s\r\n", csp);
    return out;
}

static void end(struct dp_http_request *r, struct evbuffer *out, struct dp_span body)
{
    evbuffer_add_printf(out, "Connection: %s\r\n\r\n", r->closing ? "close" : "keep-alive");
    if (r->head.method != DP_HTTP_HEAD) evbuffer_add(out, body.ptr, body.len);
    r->answering = false;
    r->gone = NULL;
    arm(r); /* for the reader's side */
}

static void reply(struct dp_http_request *r, int status, const char *type, struct dp_span body, const char *allow)
{
    r->closing = r->closing || !r->head.keep_alive;
    struct evbuffer *out = begin(r, status, type, no_content_csp);
    evbuffer_add_printf(out, "Content-Length: %zu\r\nCache-Control: no-store\r\n", body.len);
    if (status == 401) evbuffer_add_printf(out, "WWW-Authenticate: Bearer realm=\"dpipe\"\r\n");
    if (allow) evbuffer_add_printf(out, "Allow: %s\r\n", allow);
    if (status == 503) evbuffer_add_printf(out, "Retry-After: 5\r\n");
    end(r, out, body);
}

void dp_http_reply(struct dp_http_request *r, int status, const char *type, struct dp_span body)
{
    if (status == 200 && !accepts(r->head.accept, type)) dp_http_error(r, 406, "this page is given in one type only, and Accept doesn't name it");
    else reply(r, status, type, body, NULL);
}

/* If-None-Match: a list of tags, weak or not, or *. */
static bool has_tag(const char *list, const char *etag)
{
    size_t n = strlen(etag);
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',') {
        p += strspn(p, " \t");
        if (strncmp(p, "W/", 2) == 0) p += 2;
        if (*p == '*' || (strncmp(p, etag, n) == 0 && strchr(", \t", p[n]))) return true;
    }
    return false;
}

void dp_http_reply_file(struct dp_http_request *r, const char *type, struct dp_span body, const char *etag, const char *csp)
{
    bool same = has_tag(r->head.if_none_match, etag);
    if (!accepts(r->head.accept, type)) {
        dp_http_error(r, 406, "this file is given in one type only, and Accept doesn't name it");
        return;
    }
    r->closing = r->closing || !r->head.keep_alive;
    struct evbuffer *out = begin(r, same ? 304 : 200, same ? NULL : type, csp);
    if (!same) evbuffer_add_printf(out, "Content-Length: %zu\r\n", body.len);
    evbuffer_add_printf(out, "ETag: %s\r\nCache-Control: no-cache\r\n", etag); /* kept, but asked for each time: another dpipe may answer */
    end(r, out, same ? dp_span("", 0) : body);
}

static void fail(struct dp_http_request *r, int status, const char *message, const char *allow)
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
    reply(r, status, "application/json", dp_buf_span(&b), allow);
    dp_buf_release(&b);
}

void dp_http_error(struct dp_http_request *r, int status, const char *message)
{
    fail(r, status, message, NULL);
}

void dp_http_not_allowed(struct dp_http_request *r, const char *allow)
{
    char text[64];
    snprintf(text, sizeof text, "%s only", allow);
    fail(r, 405, text, allow);
}

/* --- streams --- */

static const char stream_type[] = "text/event-stream";

int dp_http_stream(struct dp_http_request *r, void (*gone)(void *what), void *what, int64_t *after)
{
    struct dp_http *h = r->http;
    const char *id = r->head.last_event;
    size_t digits = strspn(id, "0123456789");
    *after = digits && digits < 18 && !id[digits] ? (int64_t)strtoll(id, NULL, 10) : -1;
    if (!accepts(r->head.accept, stream_type)) {
        dp_http_error(r, 406, "this is a stream of events, and Accept doesn't name text/event-stream");
        return DP_EMPTY;
    }
    if (h->streams >= DP_HTTP_STREAMS || h->streams >= (h->c.connections_max + 3) / 4) return DP_BUSY;
    r->closing = true;
    struct evbuffer *out = begin(r, 200, stream_type, no_content_csp);
    evbuffer_add_printf(out, "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n");
    bool ends = r->head.method == DP_HTTP_HEAD;
    end(r, out, dp_span("", 0));
    if (ends) return DP_EMPTY;
    const unsigned vanished_ms = 30000; /* of a reader whose machine is gone */
    if (h->c.tcp) setsockopt(bufferevent_getfd(r->bev), IPPROTO_TCP, TCP_USER_TIMEOUT, &vanished_ms, sizeof vanished_ms);
    r->answering = r->stream = true;
    r->gone = gone;
    r->what = what;
    h->streams++;
    return DP_OK;
}

bool dp_http_stream_send(struct dp_http_request *r, struct dp_span bytes)
{
    struct evbuffer *out = bufferevent_get_output(r->bev);
    size_t waiting = evbuffer_get_length(out);
    if (waiting + bytes.len > DP_HTTP_STREAM_BYTES || evbuffer_add(out, bytes.ptr, bytes.len) != 0) {
        free_conn(r);
        return false;
    }
    if (!waiting) arm(r); /* until all of it has left */
    return true;
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

bool dp_http_foreign(const struct dp_http_request *r)
{
    const struct dp_http *h = r->http;
    const struct dp_http_head *head = &r->head;
    const char *site = head->fetch_site, *at = strstr(head->origin, "://");
    /* A browser's own word, where it gives one, is right behind a proxy too; it gives none to plain HTTP elsewhere. */
    if (*site ? strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0 : *head->origin && (!at || strcasecmp(at + 3, head->host) != 0)) return true;
    return !(h->c.tcp && h->token) && !head->action;
}

/* 0, or the status to refuse with. Probes of health need no secret: they say nothing but whether. */
static int refused(const struct dp_http *h, const struct dp_http_head *head)
{
    if (!h->c.tcp) return 0;
    if (!h->token) return h->tls_client || loopback_host(head->host) ? 0 : 421;
    if (strcmp(head->path, "/livez") == 0 || strcmp(head->path, "/readyz") == 0) return 0;
    if (head->method != DP_HTTP_POST && h->c.open && h->c.open(head->path)) return 0;
    if (strncasecmp(head->authorization, "Bearer ", 7) != 0) return 401;
    return dp_secret_equal(head->authorization + 7, h->token) ? 0 : 401;
}

static void judge(struct dp_http_request *r, int status)
{
    struct dp_http *h = r->http;
    if (status) {
        r->closing = true;
        dp_http_error(r, status, "the request can't be read");
    } else if (r->head.method == DP_HTTP_OTHER) {
        r->closing = r->closing || r->head.body_bytes > 0;
        dp_http_not_allowed(r, "GET, HEAD, POST");
    } else if (r->head.body_bytes) {
        r->closing = true;
        dp_http_error(r, 413, "no request here has a body");
    } else if ((status = refused(h, &r->head)) != 0) dp_http_error(r, status, status == 401 ? "a bearer token is wanted" : "this address answers to localhost only; set a token to use another name");
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
    if (r->stream) event_del(r->age);
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
    if (!r->stream && what & BEV_EVENT_EOF && !(what & BEV_EVENT_ERROR) && (r->answering || evbuffer_get_length(bufferevent_get_output(r->bev)) > 0)) {
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
    const struct dp_tls_config tls = {.server = true, .cert = config->cert, .key = config->key, .ca = config->client_ca};
    int rc = config->tcp && config->cert ? dp_tls_open(&h->tls, &tls, e) : DP_OK;
    h->tls_client = h->tls && config->client_ca;
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

int dp_http_streams(const struct dp_http *h)
{
    return h ? h->streams : 0;
}

int dp_http_connections(const struct dp_http *h)
{
    return h ? h->count : 0;
}

/* Event streams of a service at work: resumed, limited, and not in others' way, nor others in theirs. */
#include "tests/unit/http_service.h"

#include <sys/resource.h>

/* A stream on a connection of its own; -1 without one. */
static int open_stream(const struct service *s, const char *fields)
{
    struct dp_err err = {0};
    char request[300];
    const struct timeval wait = {20, 0};
    int fd = dp_unix_connect(s->socket, &err);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    snprintf(request, sizeof request, "GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n%s\r\n", fields);
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request)) return fd;
    close(fd);
    return -1;
}

/* Read on until `text` was seen; what was read is in `got`. */
static bool hear(int fd, const char *text, char *got, size_t cap)
{
    size_t n = 0;
    for (;;) {
        ssize_t k = n < cap - 1 ? recv(fd, got + n, cap - 1 - n, 0) : 0;
        if (k <= 0) return false;
        n += (size_t)k;
        got[n] = 0;
        if (strstr(got, text)) return true;
    }
}

static void make(struct service *s)
{
    struct dp_err err = {0};
    snprintf(s->dir, sizeof s->dir, "%s/w", dp_test_tmpdir());
    snprintf(s->socket, sizeof s->socket, "%s/http.sock", s->dir);
    if (dp_fs_mkdirs(s->dir, &err) < 0) abort();
    dp_test_write(s->dir, "recipe.yaml", "serve: {settle: 0, rescan: 1h, min_free: 0, drain_timeout: 1s}\n");
}

static char got[1 << 20], body[1 << 20];

TEST(a_stream_tells_and_is_resumed)
{
    struct service s;
    make(&s);
    start(&s);
    REQUIRE(wait_for(&s, "/api/v1/status", "\"state\":\"idle\"", 30));
    int fd = open_stream(&s, "Accept: text/event-stream\r\n");
    REQUIRE(hear(fd, "event: stages\n", got, sizeof got));
    CHECK(strncmp(got, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n", 47) == 0);
    CHECK(strstr(got, "event: state\ndata: {\"state\":\"idle\"") && strstr(got, "event: progress\ndata: {"));
    CHECK(!strstr(got, "event: event\n")); /* only what happens from now on */
    CHECK_INT(ask(&s, "POST", "/api/v1/pause", body, sizeof body), 200);
    REQUIRE(hear(fd, "paused by request", got, sizeof got));
    CHECK(strstr(got, "\nevent: event\ndata: {\"number\":") != NULL);
    close(fd);
    /* Behind the second event: not that one again, and nothing of the first. */
    fd = open_stream(&s, "Last-Event-ID: 2\r\n");
    REQUIRE(hear(fd, "paused by request", got, sizeof got));
    CHECK(strstr(got, "id: 3\n") && !strstr(got, "id: 2\n") && !strstr(got, "id: 1\n"));
    /* A client that ends its half is gone. */
    shutdown(fd, SHUT_WR);
    CHECK(!hear(fd, "never", got, sizeof got));
    close(fd);
    fd = open_stream(&s, "Accept: text/html\r\n");
    CHECK(hear(fd, "HTTP/1.1 406", got, sizeof got));
    close(fd);
    CHECK_INT(ask(&s, "HEAD", "/api/v1/stream", body, sizeof body), 200);
    CHECK_INT(ask(&s, "POST", "/api/v1/stream", body, sizeof body), 405);
    CHECK(wait_for(&s, "/metrics", "dpipe_http_streams{listener=\"unix\"} 0\n", 5));
    stop(&s);
}

/* A quarter of the connections; the others go on, and a flood of silent clients pushes no stream out. */
TEST(streams_are_limited_and_starve_nobody)
{
    enum { STREAMS = 64, FLOOD = 400 };
    static int stream[STREAMS], silent[FLOOD];
    struct service s;
    struct dp_err err = {0};
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make(&s);
    start(&s);
    REQUIRE(wait_for(&s, "/api/v1/status", "\"state\":\"idle\"", 30));
    for (int i = 0; i < STREAMS; i++) {
        stream[i] = open_stream(&s, "");
        REQUIRE(hear(stream[i], "retry: 3000\n", got, sizeof got));
    }
    int more = open_stream(&s, "");
    CHECK(hear(more, "HTTP/1.1 503", got, sizeof got));
    close(more);
    for (int i = 0; i < FLOOD; i++) silent[i] = dp_unix_connect(s.socket, &err);
    CHECK_INT(ask(&s, "GET", "/api/v1/jobs", body, sizeof body), 200);
    CHECK(wait_for(&s, "/metrics", "dpipe_http_streams{listener=\"unix\"} 64\n", 5));
    CHECK_INT(ask(&s, "POST", "/api/v1/pause", body, sizeof body), 200);
    for (int i = 0; i < STREAMS; i++) {
        CHECK(hear(stream[i], "paused by request", got, sizeof got));
        close(stream[i]);
    }
    for (int i = 0; i < FLOOD; i++)
        if (silent[i] >= 0) close(silent[i]);
    CHECK(wait_for(&s, "/metrics", "dpipe_http_streams{listener=\"unix\"} 0\n", 5));
    more = open_stream(&s, "");
    CHECK(hear(more, "HTTP/1.1 200", got, sizeof got));
    stop(&s); /* with a stream open */
    close(more);
}

/* Half a megabyte of events waits for a client that never reads: it is cut off, and a second one that reads gets them all. */
TEST(a_deaf_client_is_cut_off)
{
    struct service s;
    char path[700], line[600];
    make(&s);
    snprintf(path, sizeof path, "%s/history.jsonl", s.dir);
    FILE *f = fopen(path, "w");
    REQUIRE(f);
    memset(line, 'x', sizeof line);
    for (int i = 1; i <= 1024; i++) fprintf(f, "{\"event\":{\"number\":%d,\"time_ms\":%d,\"level\":\"info\",\"kind\":\"test\",\"text\":\"%.390s\"}}\n", i, i, line);
    fclose(f);
    start(&s);
    REQUIRE(wait_for(&s, "/api/v1/status", "\"state\":\"idle\"", 30));
    int deaf = open_stream(&s, "Last-Event-ID: 0\r\n");
    REQUIRE(deaf >= 0);
    CHECK(wait_for(&s, "/metrics", "dpipe_http_streams{listener=\"unix\"} 1\n", 5));
    CHECK(wait_for(&s, "/metrics", "dpipe_http_streams{listener=\"unix\"} 0\n", 15));
    close(deaf);
    int fd = open_stream(&s, "Last-Event-ID: 100\r\n");
    CHECK(hear(fd, "id: 1000001\n", got, sizeof got));
    CHECK(strstr(got, "id: 101\n") && strstr(got, "id: 1024\n") && !strstr(got, "id: 100\n"));
    close(fd);
    stop(&s);
}

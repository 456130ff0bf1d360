#include "base/tcp.h"

#include "base/fs.h"
#include "base/hash.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

bool dp_tcp_is_loopback(int fd)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    return getsockname(fd, (struct sockaddr *)&a, &n) == 0 && is_loopback((const struct sockaddr *)&a);
}

static int split(const char *addr, const char *what, char host[256], char port[8], struct dp_err *e)
{
    const char *colon = strrchr(addr, ':'), *from = addr;
    size_t n = colon ? (size_t)(colon - addr) : 0;
    if (colon && n >= 2 && addr[0] == '[' && colon[-1] == ']') {
        from++;
        n -= 2;
    }
    long p = colon ? strtol(colon + 1, NULL, 10) : -1;
    if (!colon || n > 255 || p < 0 || p > 65535 || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        DP_FAIL(e, CONFIG, "%s: \"%s\" is no HOST:PORT, [HOST]:PORT or :PORT", what, addr);
    snprintf(host, 256, "%.*s", (int)n, from);
    if (!n) snprintf(host, 256, "127.0.0.1");
    snprintf(port, 8, "%ld", p);
    return DP_OK;
}

int dp_tcp_listen(const char *addr, const char *what, bool *loopback, struct dp_err *e)
{
    char host[256], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL;
    int fd = -1, on = 1;
    DP_TRY(split(addr, what, host, port, e));
    int bad = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, &list);
    if (bad) DP_FAIL(e, CONFIG, "%s: %s: %s", what, host, gai_strerror(bad));
    int sys = 0;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        *loopback = is_loopback(a->ai_addr);
        if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 128) == 0) break;
        sys = errno;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd < 0) return dp_err_set(e, DP_IO, sys, __FILE__, __LINE__, "%s: cannot listen on %s", what, addr);
    return fd;
}

int dp_tcp_host(const char *addr, const char *what, char host[256], struct dp_err *e)
{
    char port[8];
    return split(addr, what, host, port, e);
}

void dp_tcp_peer(int fd, char *out, size_t n)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    char host[64] = "?", port[8] = "?";
    if (getpeername(fd, (struct sockaddr *)&a, &len) == 0)
        getnameinfo((struct sockaddr *)&a, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(out, n, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

void dp_tcp_tune(int fd)
{
    int on = 1, idle_s = 10, interval_s = 5, count = 4;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

/* Wait until a connection that was begun is there: 0 or its errno; ETIMEDOUT, or ECANCELED when we are to stop. */
static int await(int fd, int timeout_ms, const atomic_bool *stop)
{
    enum { TICK_MS = 100 };
    struct pollfd p = {fd, POLLOUT, 0};
    int sys = 0;
    socklen_t n = sizeof sys;
    for (int ms = 0; ms < timeout_ms; ms += TICK_MS) {
        if (stop && atomic_load(stop)) return ECANCELED;
        int ready = poll(&p, 1, TICK_MS);
        if (ready < 0 && errno != EINTR) return errno;
        if (ready > 0) return getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &n) == 0 ? sys : errno;
    }
    return ETIMEDOUT;
}

int dp_tcp_connect(const char *addr, const char *what, int timeout_ms, const atomic_bool *stop, struct dp_err *e)
{
    char host[256], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
    int fd = -1, sys = 0;
    DP_TRY(split(addr, what, host, port, e));
    int bad = getaddrinfo(host, port, &hints, &list);
    if (bad) DP_FAIL(e, NOTFOUND, "%s: %s: %s", what, host, gai_strerror(bad));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) continue;
        sys = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno == EINPROGRESS ? await(fd, timeout_ms, stop) : errno;
        if (!sys) break;
        close(fd);
        fd = -1;
        if (sys == ECANCELED) break;
    }
    freeaddrinfo(list);
    if (sys == ECANCELED) DP_FAIL(e, STOPPED, "%s: stopped while connecting to %s", what, addr);
    if (fd < 0)
        return dp_err_set(e, sys == ETIMEDOUT ? DP_BUSY : DP_NOTFOUND, sys, __FILE__, __LINE__, "%s: %s: no server is there", what, addr);
    dp_tcp_tune(fd);
    return fd;
}

/* --- secrets --- */

bool dp_secret_equal(const char *a, const char *b)
{
    /* Digests have one length, and where they differ says nothing about where the secrets do. */
    char x[DP_HEX256], y[DP_HEX256];
    struct dp_err ignored;
    volatile unsigned char diff = 0;
    if (dp_sha256_span(dp_span_str(a), x, &ignored) < 0 || dp_sha256_span(dp_span_str(b), y, &ignored) < 0) return false;
    for (size_t i = 0; i < DP_HEX256; i++) diff = (unsigned char)(diff | (x[i] ^ y[i]));
    return diff == 0;
}

int dp_secret_read(char **out, const char *path, struct dp_err *e)
{
    struct dp_buf b;
    dp_buf_init(&b, 4096);
    int rc = dp_fs_read(path, &b, e);
    size_t n = rc >= 0 && b.ptr ? strcspn(b.ptr, "\r\n") : 0;
    if (rc >= 0 && (n < 16 || n > 1024)) rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "%s: a token has 16 to 1,024 bytes, on the first line", path);
    for (size_t i = 0; rc >= 0 && i < n; i++)
        if ((unsigned char)b.ptr[i] < 0x21 || (unsigned char)b.ptr[i] > 0x7e) rc = dp_err_set(e, DP_CONFIG, 0, __FILE__, __LINE__, "%s: a token is printable ASCII without blanks", path);
    if (rc >= 0 && !(*out = strndup(b.ptr, n))) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s", path);
    dp_buf_release(&b);
    return rc;
}

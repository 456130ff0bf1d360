/* TCP addresses and secrets' files. */
#include "daemon/http.h"

#include "base/fs.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

static int split(const char *addr, char host[256], char port[8], struct dp_err *e)
{
    const char *colon = strrchr(addr, ':'), *from = addr;
    size_t n = colon ? (size_t)(colon - addr) : 0;
    if (colon && n >= 2 && addr[0] == '[' && colon[-1] == ']') {
        from++;
        n -= 2;
    }
    long p = colon ? strtol(colon + 1, NULL, 10) : -1;
    if (!colon || n > 255 || p < 0 || p > 65535 || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        DP_FAIL(e, CONFIG, "serve.http: \"%s\" is no HOST:PORT, [HOST]:PORT or :PORT", addr);
    snprintf(host, 256, "%.*s", (int)n, from);
    if (!n) snprintf(host, 256, "127.0.0.1");
    snprintf(port, 8, "%ld", p);
    return DP_OK;
}

int dp_tcp_listen(const char *addr, bool *loopback, struct dp_err *e)
{
    char host[256], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL;
    int fd = -1, on = 1;
    DP_TRY(split(addr, host, port, e));
    int bad = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, &list);
    if (bad) DP_FAIL(e, CONFIG, "serve.http: %s: %s", host, gai_strerror(bad));
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
    if (fd < 0) return dp_err_set(e, DP_IO, sys, __FILE__, __LINE__, "serve.http: cannot listen on %s", addr);
    return fd;
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

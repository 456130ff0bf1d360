#include "daemon/notify.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { FDS_FIRST = 3, FDS_MAX = 16 };

static struct {
    int fd; /* -1: nobody listens */
    struct sockaddr_un to;
    socklen_t to_len;
    double watchdog_s;
} N = {.fd = -1};

static struct {
    int n;
    char name[FDS_MAX][32];
    bool taken[FDS_MAX];
} L;

static void take_watchdog(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    char *end;
    N.watchdog_s = 0;
    if (usec && (!pid || !*pid || strtoll(pid, NULL, 10) == (long long)getpid())) {
        double v = strtod(usec, &end);
        if (end != usec && !*end && v > 0) N.watchdog_s = v / 1e6;
    }
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void dp_notify_init(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (N.fd >= 0) close(N.fd);
    N.fd = -1;
    if (path && (*path == '/' || *path == '@') && path[1] && strlen(path) < sizeof N.to.sun_path) {
        size_t n = strlen(path);
        memset(&N.to, 0, sizeof N.to);
        N.to.sun_family = AF_UNIX;
        memcpy(N.to.sun_path, path, n);
        if (*path == '@') N.to.sun_path[0] = 0; /* abstract: its length counts, there is no NUL at the end */
        N.to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (*path == '/'));
        N.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    unsetenv("NOTIFY_SOCKET");
    take_watchdog();
}

bool dp_notify_wanted(void)
{
    return N.fd >= 0;
}

double dp_notify_watchdog_s(void)
{
    return N.watchdog_s;
}

void dp_notify(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (N.fd < 0) return;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    size_t len = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    while (sendto(N.fd, text, len, MSG_NOSIGNAL, (const struct sockaddr *)&N.to, N.to_len) < 0 && errno == EINTR) {
    }
}

void dp_notify_reloading(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    dp_notify("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000);
}

int dp_listen_parse(const char *pid, const char *fds, const char *names, int64_t self)
{
    char *end;
    memset(&L, 0, sizeof L);
    if (!pid || !fds || strtoll(pid, NULL, 10) != self) return 0;
    long n = strtol(fds, &end, 10);
    if (end == fds || *end || n < 0) return 0;
    L.n = n > FDS_MAX ? FDS_MAX : (int)n;
    for (int i = 0; names && *names && i < L.n; i++) {
        size_t len = strcspn(names, ":");
        snprintf(L.name[i], sizeof L.name[i], "%.*s", (int)(len < sizeof L.name[i] ? len : sizeof L.name[i] - 1), names);
        names += len + (names[len] == ':');
    }
    return L.n;
}

void dp_listen_init(void)
{
    dp_listen_parse(getenv("LISTEN_PID"), getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES"), (int64_t)getpid());
    for (int i = 0; i < L.n; i++) fcntl(FDS_FIRST + i, F_SETFD, FD_CLOEXEC);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

static bool listens(int fd, bool unix_socket, bool seqpacket)
{
    int on = 0, type = 0;
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof on, m = sizeof a, k = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &k) == 0 && type == (seqpacket ? SOCK_SEQPACKET : SOCK_STREAM) &&
           getsockname(fd, (struct sockaddr *)&a, &m) == 0 && (a.ss_family == AF_UNIX) == unix_socket;
}

/* systemd names a socket after its unit ("dpipe.socket") unless FileDescriptorName= says otherwise. */
static bool ours(const char *name)
{
    return strcmp(name, "control") == 0 || strcmp(name, "http") == 0 || strcmp(name, "http-unix") == 0 || strcmp(name, "feed") == 0;
}

int dp_listen_take(const char *name, bool unix_socket)
{
    bool feed = strcmp(name, "feed") == 0; /* its packets are no stream, and nobody else's socket is taken for it */
    for (int pass = 0; pass < (feed ? 1 : 2); pass++)
        for (int i = 0; i < L.n; i++) {
            int fd = FDS_FIRST + i;
            if (L.taken[i] || (pass == 0 ? strcmp(L.name[i], name) != 0 : ours(L.name[i])) || !listens(fd, unix_socket, feed && unix_socket)) continue;
            L.taken[i] = true;
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
            return fd;
        }
    return -1;
}

char *dp_listen_path(int fd)
{
    struct sockaddr_un a = {0};
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0 || a.sun_family != AF_UNIX || !a.sun_path[0]) return NULL;
    return strndup(a.sun_path, sizeof a.sun_path);
}

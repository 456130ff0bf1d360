#include "base/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x43506470 /* "dpPC" */ };
struct header {
    uint32_t magic, kind, len, fds;
};

union control { /* aligned for its header */
    struct cmsghdr h;
    char room[CMSG_SPACE(sizeof(int) * (DP_CHANNEL_FDS_MAX + 8))]; /* a few more, to see and close what is too many */
};

int dp_channel_pair(int fd[2], struct dp_err *e)
{
    fd[0] = fd[1] = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0) DP_FAIL_SYS(e, "channel to a worker");
    return DP_OK;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* 1 ready, 0 not in time. */
static int wait_for(int fd, short what, int timeout_ms, struct dp_err *e)
{
    int64_t end = now_ms() + timeout_ms;
    struct pollfd p = {fd, what, 0};
    for (int left = timeout_ms;; left = timeout_ms < 0 ? -1 : end > now_ms() ? (int)(end - now_ms()) : 0) {
        int n = poll(&p, 1, left);
        if (n >= 0) return n;
        if (errno != EINTR) DP_FAIL_SYS(e, "channel: poll");
        if (timeout_ms >= 0 && now_ms() >= end) return 0;
    }
}

int dp_channel_send(int fd, uint32_t kind, const void *bytes, size_t len, const int *fds, int nfds, int timeout_ms, struct dp_err *e)
{
    if (len > DP_CHANNEL_BYTES_MAX || nfds > DP_CHANNEL_FDS_MAX) DP_FAIL(e, LIMIT, "channel: a message of %zu bytes and %d descriptors", len, nfds);
    struct header h = {MAGIC, kind, (uint32_t)len, (uint32_t)nfds};
    struct iovec v[2] = {{&h, sizeof h}, {(void *)(uintptr_t)bytes, len}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = len ? 2 : 1};
    union control c;
    if (nfds) {
        memset(&c, 0, sizeof c);
        m.msg_control = c.room;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        struct cmsghdr *k = CMSG_FIRSTHDR(&m);
        k->cmsg_level = SOL_SOCKET;
        k->cmsg_type = SCM_RIGHTS;
        k->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(k), fds, sizeof(int) * (size_t)nfds);
    }
    for (;;) {
        int ready = wait_for(fd, POLLOUT, timeout_ms, e);
        if (ready < 0) return ready;
        if (!ready) DP_FAIL(e, BUSY, "channel: the other side took no message for %d ms", timeout_ms);
        ssize_t n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) return DP_OK;
        if (errno == EPIPE || errno == ECONNRESET) return DP_EOF;
        if (errno != EINTR && errno != EAGAIN && errno != ENOBUFS) DP_FAIL_SYS(e, "channel: send");
    }
}

static void take_descriptors(struct msghdr *h, struct dp_message *m, int *too_many)
{
    for (struct cmsghdr *k = CMSG_FIRSTHDR(h); k; k = CMSG_NXTHDR(h, k)) {
        if (k->cmsg_level != SOL_SOCKET || k->cmsg_type != SCM_RIGHTS) continue;
        size_t n = (k->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int one;
            memcpy(&one, CMSG_DATA(k) + i * sizeof one, sizeof one);
            if (m->fds < DP_CHANNEL_FDS_MAX) m->fd[m->fds++] = one;
            else {
                close(one);
                ++*too_many;
            }
        }
    }
}

int dp_channel_receive(int fd, struct dp_message *m, int timeout_ms, struct dp_err *e)
{
    struct header h = {0};
    struct iovec v[2] = {{&h, sizeof h}, {m->bytes, DP_CHANNEL_BYTES_MAX}};
    union control c;
    m->kind = m->len = 0;
    m->fds = 0;
    m->bytes[0] = 0;
    int ready = wait_for(fd, POLLIN, timeout_ms, e);
    if (ready < 0) return ready;
    if (!ready) return DP_EMPTY;
    struct msghdr s = {.msg_iov = v, .msg_iovlen = 2, .msg_control = c.room, .msg_controllen = sizeof c.room};
    ssize_t n = recvmsg(fd, &s, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return DP_EMPTY;
    if (n < 0 && errno == ECONNRESET) return DP_EOF;
    if (n < 0) DP_FAIL_SYS(e, "channel: receive");
    int too_many = 0;
    take_descriptors(&s, m, &too_many);
    if (n == 0 && !m->fds && !too_many) return DP_EOF;
    bool whole = (size_t)n >= sizeof h && !(s.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && !too_many;
    if (!whole || h.magic != MAGIC || h.len != (size_t)n - sizeof h || h.fds != (uint32_t)m->fds) {
        dp_message_close(m);
        DP_FAIL(e, CORRUPT, "channel: %zd bytes that are no message", n);
    }
    m->kind = h.kind;
    m->len = h.len;
    m->bytes[m->len] = 0;
    return DP_OK;
}

void dp_message_close(struct dp_message *m)
{
    for (int i = 0; i < m->fds; i++)
        if (m->fd[i] >= 0) close(m->fd[i]);
    m->fds = 0;
}

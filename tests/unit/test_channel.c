#include "base/channel.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static struct dp_err err;

static int descriptors(void)
{
    int n = 0;
    for (int i = 0; i < 256; i++) n += fcntl(i, F_GETFD) >= 0;
    return n;
}

TEST(messages_keep_their_bounds)
{
    static struct dp_message m;
    static char large[DP_CHANNEL_BYTES_MAX];
    int fd[2];
    REQUIRE_OK(dp_channel_pair(fd, &err));
    memset(large, 'x', sizeof large);
    CHECK_INT(dp_channel_receive(fd[1], &m, 0, &err), DP_EMPTY);
    CHECK_OK(dp_channel_send(fd[0], 7, "hello", 5, NULL, 0, 1000, &err));
    CHECK_OK(dp_channel_send(fd[0], 8, NULL, 0, NULL, 0, 1000, &err));
    CHECK_OK(dp_channel_send(fd[0], 9, large, sizeof large, NULL, 0, 1000, &err));
    CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_OK);
    CHECK_INT(m.kind, 7);
    CHECK_STR(m.bytes, "hello");
    CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_OK);
    CHECK(m.kind == 8 && m.len == 0);
    CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_OK);
    CHECK(m.kind == 9 && m.len == sizeof large && memcmp(m.bytes, large, sizeof large) == 0 && !m.bytes[m.len]);
    CHECK_INT(dp_channel_send(fd[0], 1, large, sizeof large + 1, NULL, 0, 0, &err), DP_LIMIT);
    close(fd[0]);
    CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_EOF);
    CHECK_INT(dp_channel_send(fd[1], 1, "x", 1, NULL, 0, 1000, &err), DP_EOF);
    close(fd[1]);
}

TEST(descriptors_travel)
{
    static struct dp_message m;
    int fd[2], p[2], sent[DP_CHANNEL_FDS_MAX], before = descriptors();
    char c = 0;
    REQUIRE_OK(dp_channel_pair(fd, &err));
    REQUIRE(pipe(p) == 0);
    for (int i = 0; i < DP_CHANNEL_FDS_MAX; i++) sent[i] = p[1];
    CHECK_OK(dp_channel_send(fd[0], 1, NULL, 0, sent, DP_CHANNEL_FDS_MAX, 1000, &err));
    CHECK_INT(dp_channel_send(fd[0], 1, NULL, 0, sent, DP_CHANNEL_FDS_MAX + 1, 1000, &err), DP_LIMIT);
    CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_OK);
    CHECK_INT(m.fds, DP_CHANNEL_FDS_MAX);
    CHECK(fcntl(m.fd[0], F_GETFD) & FD_CLOEXEC);
    CHECK(write(m.fd[3], "y", 1) == 1 && read(p[0], &c, 1) == 1 && c == 'y');
    dp_message_close(&m);
    close(p[0]);
    close(p[1]);
    close(fd[0]);
    close(fd[1]);
    CHECK_INT(descriptors(), before);
}

/* What a hostile other side may send: no header, a wrong one, lengths that lie, too many descriptors. Nothing leaks. */
TEST(what_is_no_message_is_refused)
{
    static struct dp_message m;
    static char junk[DP_CHANNEL_BYTES_MAX + 4096];
    int fd[2], before = descriptors();
    REQUIRE_OK(dp_channel_pair(fd, &err));
    const uint32_t lies[][4] = {{1, 2, 3, 4}, {0x43506470, 1, 5, 0}, {0x43506470, 1, 0, 1}, {0x43506470, 1, UINT32_MAX, 0}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        REQUIRE(send(fd[0], lies[i], sizeof lies[i], 0) == (ssize_t)sizeof lies[i]);
        CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_CORRUPT);
    }
    REQUIRE(send(fd[0], junk, 3, 0) == 3);
    CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_CORRUPT);
    uint32_t *h = (uint32_t *)(void *)junk;
    h[0] = 0x43506470;
    h[2] = sizeof junk - 16;
    REQUIRE(send(fd[0], junk, sizeof junk, 0) == (ssize_t)sizeof junk);
    CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_CORRUPT);
    for (int n = DP_CHANNEL_FDS_MAX + 1; n <= DP_CHANNEL_FDS_MAX + 60; n += 7) {
        char room[CMSG_SPACE(sizeof(int) * 100)] = {0};
        uint32_t head[4] = {0x43506470, 1, 0, (uint32_t)n};
        struct iovec v = {head, sizeof head};
        struct msghdr s = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n)};
        struct cmsghdr *k = CMSG_FIRSTHDR(&s);
        k->cmsg_level = SOL_SOCKET;
        k->cmsg_type = SCM_RIGHTS;
        k->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
        for (int i = 0; i < n; i++) memcpy(CMSG_DATA(k) + (size_t)i * sizeof(int), &fd[0], sizeof(int));
        REQUIRE(sendmsg(fd[0], &s, 0) == (ssize_t)sizeof head);
        CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_CORRUPT);
        CHECK_INT(descriptors(), before + 2);
    }
    CHECK_OK(dp_channel_send(fd[0], 3, "go on", 5, NULL, 0, 1000, &err));
    CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_OK);
    CHECK_STR(m.bytes, "go on");
    close(fd[0]);
    close(fd[1]);
}

static void *echo(void *v)
{
    struct dp_message *m = malloc(sizeof *m);
    struct dp_err mine;
    int fd = *(int *)v, rc = DP_OK;
    while (m && (rc = dp_channel_receive(fd, m, -1, &mine)) == DP_OK) {
        if (dp_channel_send(fd, m->kind + 1, m->bytes, m->len, m->fd, m->fds, -1, &mine) != DP_OK) break;
        dp_message_close(m);
    }
    free(m);
    return NULL;
}

TEST(a_full_channel_waits_and_gives_up)
{
    static struct dp_message m;
    static char large[DP_CHANNEL_BYTES_MAX];
    int fd[2], rc = DP_OK, n = 0;
    REQUIRE_OK(dp_channel_pair(fd, &err));
    while (n < 1000 && (rc = dp_channel_send(fd[0], 1, large, sizeof large, NULL, 0, 20, &err)) == DP_OK) n++;
    CHECK_INT(rc, DP_BUSY);
    CHECK(n > 0);
    for (int i = 0; i < n; i++) CHECK_INT(dp_channel_receive(fd[1], &m, 1000, &err), DP_OK);
    pthread_t t;
    REQUIRE(pthread_create(&t, NULL, echo, &fd[1]) == 0);
    for (uint32_t i = 0; i < 500; i++) {
        CHECK_OK(dp_channel_send(fd[0], i, large, i * 100, fd, 1, -1, &err));
        CHECK_INT(dp_channel_receive(fd[0], &m, 10000, &err), DP_OK);
        CHECK(m.kind == i + 1 && m.len == i * 100 && m.fds == 1);
        dp_message_close(&m);
    }
    shutdown(fd[0], SHUT_RDWR);
    close(fd[0]);
    pthread_join(t, NULL);
    close(fd[1]);
}

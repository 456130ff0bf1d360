/* For tests of `dpipe serve` over its HTTP socket: a workspace below dp_test_tmpdir, the program (DPIPE names it), questions. */
#ifndef DP_TESTS_HTTP_SERVICE_H
#define DP_TESTS_HTTP_SERVICE_H

#include "base/fs.h"
#include "daemon/control.h"
#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct service {
    char dir[512], socket[600];
    pid_t pid;
};

__attribute__((unused)) static void start(struct service *s)
{
    const char *program = getenv("DPIPE");
    if (!program) program = "build/release/dpipe";
    s->pid = fork();
    if (s->pid) return;
    char log[600];
    snprintf(log, sizeof log, "%s/../log", s->dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execl(program, program, "serve", "-w", s->dir, (char *)NULL);
    _exit(127);
}

__attribute__((unused)) static void stop(struct service *s)
{
    int status = 0;
    kill(s->pid, SIGTERM);
    waitpid(s->pid, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The answer's status, 0 without one; its body. */
static int ask(const struct service *s, const char *method, const char *path, char *body, size_t cap)
{
    struct dp_err err = {0};
    char request[600];
    static char answer[1 << 20];
    size_t n = 0;
    const struct timeval wait = {20, 0};
    int fd = dp_unix_connect(s->socket, &err), status = 0;
    if (fd < 0) return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\nX-Dpipe-Action: test\r\nConnection: close\r\n\r\n", method, path);
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request))
        for (ssize_t k; n < sizeof answer - 1 && (k = recv(fd, answer + n, sizeof answer - 1 - n, 0)) > 0;) n += (size_t)k;
    close(fd);
    answer[n] = 0;
    const char *text = strstr(answer, "\r\n\r\n");
    if (n > 12 && text) status = atoi(answer + 9);
    snprintf(body, cap, "%s", text ? text + 4 : "");
    return status;
}

__attribute__((unused)) static bool wait_for(const struct service *s, const char *path, const char *text, double seconds)
{
    static char body[1 << 20];
    for (double i = 0; i < seconds * 20; i++) {
        const struct timespec t = {0, 50000000};
        if (ask(s, "GET", path, body, sizeof body) == 200 && strstr(body, text)) return true;
        nanosleep(&t, NULL);
    }
    fprintf(stderr, "%s: no %s in %s\n", path, text, body);
    return false;
}

#endif

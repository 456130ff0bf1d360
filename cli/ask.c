/* The CLI's side of the control socket: where it is, asking, and reading the answer. */
#include "base/json.h"
#include "base/workspace.h"
#include "cli/cli.h"
#include "daemon/control.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 30000, ANSWER_MAX = 64 << 20 };

/* The lock file names the socket; a dead service's note is seen by the connect that fails. */
static int connect_service(const char *workspace, struct dp_err *e)
{
    struct dp_err why;
    char *path = dp_workspace_noted(workspace, "socket");
    int fd = path && *path ? dp_unix_connect(path, &why) : -1;
    free(path);
    if (fd < 0) DP_FAIL(e, NOTFOUND, "%s: no service is at work here (dpipe serve -w %s)", workspace, workspace);
    return fd;
}

bool dp_service_runs(const char *workspace)
{
    struct dp_err ignored;
    int fd = connect_service(workspace, &ignored);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

static int send_all(int fd, struct dp_span s, struct dp_err *e)
{
    while (s.len) {
        ssize_t n = send(fd, s.ptr, s.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) DP_FAIL_SYS(e, "service: send");
        s = dp_span(s.ptr + n, s.len - (size_t)n);
    }
    return DP_OK;
}

static int receive(int fd, struct dp_buf *b, struct dp_err *e)
{
    struct pollfd p = {fd, POLLIN, 0};
    int ready = poll(&p, 1, WAIT_MS);
    if (ready == 0) DP_FAIL(e, BUSY, "the service doesn't answer within %d s", WAIT_MS / 1000);
    char *at = dp_buf_reserve(b, 65536);
    if (!at) return dp_buf_check(b, "the service's answer", e);
    ssize_t n = recv(fd, at, 65536, 0);
    if (n < 0 && errno != EINTR) DP_FAIL_SYS(e, "service: receive");
    if (n == 0) DP_FAIL(e, BUSY, "the service closed the connection");
    b->len += n > 0 ? (size_t)n : 0;
    return DP_OK;
}

/* The last line is the one that begins with {"ok": */
static int take_line(struct dp_span text, void (*line)(void *ctx, struct dp_span text), void *ctx, struct dp_json **end, struct dp_err *e)
{
    if (text.len < 6 || memcmp(text.ptr, "{\"ok\":", 6) != 0) {
        if (line) line(ctx, text);
        return DP_EMPTY;
    }
    DP_TRY(dp_json_parse(end, text, "the service's answer", e));
    if (dp_json_bool(dp_json_get(*end, "ok"), false)) return DP_OK;
    struct dp_span why = dp_json_str(dp_json_get(*end, "error"));
    int code = (int)dp_json_int(dp_json_get(*end, "code"), DP_BROKEN);
    dp_err_set(e, code < 0 ? (enum dp_code)code : DP_BROKEN, 0, __FILE__, __LINE__, "the service says: %.*s", DP_SPAN_FMT(why));
    dp_json_free(*end);
    *end = NULL;
    return code < 0 ? code : DP_BROKEN;
}

int dp_ask_service(const char *workspace, struct dp_span request, void (*line)(void *ctx, struct dp_span text), void *ctx, struct dp_json **end, struct dp_err *e)
{
    struct dp_buf b;
    size_t from = 0;
    *end = NULL;
    int fd = connect_service(workspace, e);
    if (fd < 0) return fd;
    dp_buf_init(&b, ANSWER_MAX);
    int rc = send_all(fd, request, e);
    if (rc >= 0) rc = send_all(fd, dp_span_str("\n"), e);
    if (rc >= 0) rc = DP_EMPTY;
    while (rc == DP_EMPTY) {
        const char *nl = b.len > from ? memchr(b.ptr + from, '\n', b.len - from) : NULL;
        if (!nl) {
            int got = receive(fd, &b, e);
            if (got < 0) rc = got;
            continue;
        }
        size_t n = (size_t)(nl - (b.ptr + from));
        rc = take_line(dp_span(b.ptr + from, n), line, ctx, end, e);
        from += n + 1;
    }
    dp_buf_release(&b);
    close(fd);
    return rc;
}

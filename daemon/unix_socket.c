/* Unix sockets with long paths and checked peers. A path longer than sun_path is reached through /proc/self/fd of its folder. */
#include "daemon/control.h"

#include "base/fs.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* The address of `path`; *dir is a descriptor to close behind its use, or -1. */
static int address(struct sockaddr_un *a, const char *path, int *dir, struct dp_err *e)
{
    *dir = -1;
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    size_t n = strlen(path);
    if (n < sizeof a->sun_path) {
        memcpy(a->sun_path, path, n + 1);
        return DP_OK;
    }
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path + 1)) : strdup(".");
    const char *name = slash ? slash + 1 : path;
    if (folder) *dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (*dir < 0) DP_FAIL_SYS(e, "%s: socket", path);
    if ((size_t)snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%s", *dir, name) >= sizeof a->sun_path) {
        close(*dir);
        *dir = -1;
        DP_FAIL(e, CONFIG, "%s: the socket's name is too long", path);
    }
    return DP_OK;
}

int dp_unix_connect(const char *path, struct dp_err *e)
{
    struct sockaddr_un a;
    int dir, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) DP_FAIL_SYS(e, "socket");
    int rc = address(&a, path, &dir, e);
    if (rc >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof a) != 0) rc = dp_err_set(e, DP_NOTFOUND, errno, __FILE__, __LINE__, "%s: cannot connect", path);
    if (dir >= 0) close(dir);
    if (rc >= 0) return fd;
    close(fd);
    return rc;
}

static int own_by_group(const char *path, const char *group, struct dp_err *e)
{
    const struct group *g = getgrnam(group);
    if (!g) DP_FAIL(e, CONFIG, "serve.group: there is no group \"%s\"", group);
    if (chown(path, (uid_t)-1, g->gr_gid) != 0 || chmod(path, 0660) != 0) DP_FAIL_SYS(e, "%s: cannot give it to group %s", path, group);
    return DP_OK;
}

int dp_unix_listen(const char *path, const char *group, struct dp_err *e)
{
    struct sockaddr_un a;
    struct dp_err ignored;
    struct stat st;
    int dir;
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) DP_FAIL(e, CONFIG, "%s is there and no socket; move it away", path);
        int other = dp_unix_connect(path, &ignored);
        if (other >= 0) {
            close(other);
            DP_FAIL(e, BUSY, "%s: another process listens there", path);
        }
        unlink(path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) DP_FAIL_SYS(e, "socket");
    int rc = address(&a, path, &dir, e);
    mode_t mask = umask(0177); /* never open to others, not even for a moment */
    if (rc >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof a) != 0) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: cannot bind", path);
    umask(mask);
    if (rc >= 0 && group && *group) rc = own_by_group(path, group, e);
    if (rc >= 0 && listen(fd, 64) != 0) rc = dp_err_set(e, DP_IO, errno, __FILE__, __LINE__, "%s: cannot listen", path);
    if (dir >= 0) close(dir);
    if (rc >= 0) return fd;
    close(fd);
    return rc;
}

bool dp_unix_peer_allowed(int fd, const char *group, uid_t *uid)
{
    struct ucred c;
    socklen_t n = sizeof c;
    *uid = (uid_t)-1;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) != 0) return false;
    *uid = c.uid;
    if (c.uid == 0 || c.uid == geteuid()) return true;
    const struct group *g = group && *group ? getgrnam(group) : NULL;
    if (!g) return false;
    gid_t want = g->gr_gid, list[256];
    int count = 256;
    const struct passwd *p = getpwuid(c.uid);
    if (c.gid == want) return true;
    if (!p || getgrouplist(p->pw_name, p->pw_gid, list, &count) < 0) return false;
    for (int i = 0; i < count; i++)
        if (list[i] == want) return true;
    return false;
}

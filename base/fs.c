#include "base/fs.h"

#include "base/hash.h"
#include "base/progress.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int dp_fs_read_fd(int fd, const char *name, struct dp_buf *buf, struct dp_err *e)
{
    dp_buf_clear(buf);
    for (;;) {
        size_t want = 64 * 1024;
        if (buf->bytes_max - buf->len < want) want = buf->bytes_max - buf->len;
        char probe;
        char *to = want ? dp_buf_reserve(buf, want) : &probe;
        if (!to) return dp_buf_check(buf, name, e);
        ssize_t n = read(fd, to, want ? want : 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) DP_FAIL_SYS(e, "%s: read at %zu", name, buf->len);
        if (n == 0) break;
        if (!want) DP_FAIL(e, LIMIT, "%s is larger than its limit of %zu bytes", name, buf->bytes_max);
        buf->len += (size_t)n;
    }
    if (buf->ptr) buf->ptr[buf->len] = 0;
    else dp_buf_add(buf, "", 0);
    return DP_OK;
}

int dp_fs_read(const char *path, struct dp_buf *buf, struct dp_err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open", path);
    int rc = dp_fs_read_fd(fd, path, buf, e);
    close(fd);
    return rc;
}

int dp_fs_write_all(int fd, const void *p, size_t n, const char *name, struct dp_err *e)
{
    const char *c = p;
    while (n) {
        ssize_t w = write(fd, c, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) DP_FAIL_SYS(e, "%s: write", name);
        c += w;
        n -= (size_t)w;
    }
    return DP_OK;
}

int dp_fs_pread_all(int fd, void *p, size_t n, uint64_t off, size_t *got, const char *name, struct dp_err *e)
{
    *got = 0;
    while (*got < n) {
        ssize_t r = pread(fd, (char *)p + *got, n - *got, (off_t)(off + *got));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) DP_FAIL_SYS(e, "%s: read at %llu", name, (unsigned long long)(off + *got));
        if (r == 0) break;
        *got += (size_t)r;
    }
    return DP_OK;
}

int dp_fs_fsync(int fd, const char *name, struct dp_err *e)
{
    if (fsync(fd) != 0) DP_FAIL_SYS(e, "%s: fsync", name);
    return DP_OK;
}

int dp_fs_fsync_dir(const char *dir, struct dp_err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open folder", dir);
    int rc = dp_fs_fsync(fd, dir, e);
    close(fd);
    return rc;
}

int dp_fs_mkdirs(const char *path, struct dp_err *e)
{
    char *p = strdup(path);
    if (!p) DP_FAIL(e, NOMEM, "%s", path);
    int rc = DP_OK;
    for (char *c = p + 1;; c++) {
        if (*c != '/' && *c) continue;
        char was = *c;
        *c = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            struct stat st; /* a read-only or automounted parent may refuse mkdir though it exists */
            int sys = errno;
            if (stat(p, &st) != 0 || !S_ISDIR(st.st_mode)) {
                rc = dp_err_set(e, dp_code_of_errno(sys), sys, __FILE__, __LINE__, "%s: cannot make folder", p);
                break;
            }
        }
        *c = was;
        if (!was) break;
    }
    free(p);
    return rc;
}

bool dp_fs_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool dp_fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int fsync_parent(const char *path, struct dp_err *e)
{
    char *dir = strdup(path);
    if (!dir) DP_FAIL(e, NOMEM, "%s", path);
    char *slash = strrchr(dir, '/');
    int rc;
    if (!slash) rc = dp_fs_fsync_dir(".", e);
    else {
        slash[slash == dir] = 0;
        rc = dp_fs_fsync_dir(dir, e);
    }
    free(dir);
    return rc;
}

int dp_fs_publish(int fd, const char *tmp_path, const char *path, struct dp_err *e)
{
    DP_TRY(dp_fs_fsync(fd, tmp_path, e));
    if (rename(tmp_path, path) != 0) DP_FAIL_SYS(e, "%s: cannot rename to %s", tmp_path, path);
    return fsync_parent(path, e);
}

int dp_fs_write_atomic(const char *path, struct dp_span content, struct dp_err *e)
{
    size_t n = strlen(path) + 16;
    char *tmp = malloc(n);
    if (!tmp) DP_FAIL(e, NOMEM, "%s", path);
    snprintf(tmp, n, "%s.tmp%d", path, (int)getpid());
    int rc = DP_OK;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) DP_GOTO_SYS(e, "%s: cannot create", tmp);
    DP_TRY_OUT(dp_fs_write_all(fd, content.ptr, content.len, tmp, e));
    DP_TRY_OUT(dp_fs_publish(fd, tmp, path, e));
out:
    if (fd >= 0) close(fd);
    if (rc < 0) unlink(tmp);
    free(tmp);
    return rc;
}

char *dp_fs_join(const char *dir, const char *name)
{
    size_t a = strlen(dir), b = strlen(name);
    char *p = malloc(a + b + 2);
    if (!p) return NULL;
    memcpy(p, dir, a);
    size_t at = a;
    if (a && dir[a - 1] != '/') p[at++] = '/';
    memcpy(p + at, name, b + 1);
    return p;
}

uint64_t dp_fs_free_bytes(const char *path)
{
    struct statvfs v;
    return statvfs(path, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;
}

int dp_fs_sha256(const char *path, char hex[65], struct dp_err *e)
{
    enum { BLOCK = 1 << 20 };
    struct dp_sha256 *s = NULL;
    int rc = DP_OK, fd = open(path, O_RDONLY | O_CLOEXEC);
    char *buf = malloc(BLOCK);
    if (fd < 0) DP_GOTO_SYS(e, "%s: cannot open", path);
    if (!buf) DP_GOTO(e, NOMEM, "%s: digest", path);
    DP_TRY_OUT(dp_sha256_open(&s, e));
    for (;;) {
        ssize_t n = read(fd, buf, BLOCK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) DP_GOTO_SYS(e, "%s: read", path);
        if (n == 0) break;
        DP_TRY_OUT(dp_progress_go_on(e));
        dp_sha256_add(s, buf, (size_t)n);
    }
    dp_sha256_finish(s, hex);
    s = NULL;
out:
    dp_sha256_close(s);
    if (fd >= 0) close(fd);
    free(buf);
    return rc;
}

int dp_fs_unlinked(const char *dir, const char *what, int *fd, struct dp_err *e)
{
    char *path = dp_fs_join(dir, "spill-XXXXXX");
    if (!path) DP_FAIL(e, NOMEM, "%s", dir);
    int f = mkostemp(path, O_CLOEXEC), sys = errno;
    if (f >= 0) unlink(path);
    free(path);
    if (f < 0) return dp_err_set(e, dp_code_of_errno(sys), sys, __FILE__, __LINE__, "%s: cannot make a temporary file for %s", dir, what);
    *fd = f;
    return DP_OK;
}

int dp_map_fd(struct dp_map *m, int fd, const char *name, struct dp_err *e)
{
    struct stat st;
    *m = (struct dp_map){NULL, 0};
    if (fstat(fd, &st) != 0) DP_FAIL_SYS(e, "%s: stat", name);
    if (!S_ISREG(st.st_mode)) DP_FAIL(e, USAGE, "%s is not a regular file", name);
    if (st.st_size == 0) {
        m->ptr = "";
        return DP_OK;
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED && errno == ENOMEM)
        DP_FAIL_SYS(e, "%s: cannot map %lld bytes: too much address space, or more maps than vm.max_map_count allows a process; make fewer, larger files or raise it",
                    name, (long long)st.st_size);
    if (p == MAP_FAILED) DP_FAIL_SYS(e, "%s: cannot map %lld bytes", name, (long long)st.st_size);
    *m = (struct dp_map){p, (size_t)st.st_size};
    return DP_OK;
}

int dp_map_open(struct dp_map *m, const char *path, struct dp_err *e)
{
    *m = (struct dp_map){NULL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open", path);
    int rc = dp_map_fd(m, fd, path, e);
    close(fd);
    return rc;
}

void dp_map_close(struct dp_map *m)
{
    if (m->len) munmap((void *)(uintptr_t)m->ptr, m->len);
    *m = (struct dp_map){NULL, 0};
}

void dp_map_trim(const struct dp_map *m)
{
    if (m->len) madvise((void *)(uintptr_t)m->ptr, m->len, MADV_DONTNEED);
}

enum { OUT_CAP = 256 * 1024 };

struct dp_out {
    int fd;
    char *name;
    char *buf;
    size_t fill;
    uint64_t bytes;
    struct dp_sha256 *sha;
    bool failed;
};

int dp_out_fd(struct dp_out **out, int fd, const char *name, bool hash, struct dp_err *e)
{
    *out = NULL;
    struct dp_out *o = calloc(1, sizeof *o);
    if (!o) goto nomem;
    o->fd = -1;
    o->name = strdup(name);
    o->buf = malloc(OUT_CAP);
    if (!o->name || !o->buf) goto nomem;
    if (hash) {
        int rc = dp_sha256_open(&o->sha, e);
        if (rc < 0) {
            dp_out_close(o);
            return rc;
        }
    }
    o->fd = fd;
    *out = o;
    return DP_OK;
nomem:
    dp_out_close(o);
    DP_FAIL(e, NOMEM, "%s: writer", name);
}

int dp_out_open(struct dp_out **out, const char *path, bool hash, struct dp_err *e)
{
    *out = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot create", path);
    int rc = dp_out_fd(out, fd, path, hash, e);
    if (rc < 0) {
        close(fd);
        unlink(path);
    }
    return rc;
}

static int out_write(struct dp_out *o, const void *p, size_t n, struct dp_err *e)
{
    if (o->sha) dp_sha256_add(o->sha, p, n);
    int rc = dp_fs_write_all(o->fd, p, n, o->name, e);
    if (rc < 0) o->failed = true;
    return rc;
}

int dp_out_add(struct dp_out *o, const void *p, size_t n, struct dp_err *e)
{
    if (o->failed) DP_FAIL(e, IO, "%s: an earlier write failed", o->name);
    o->bytes += n;
    if (n >= OUT_CAP - o->fill) {
        if (o->fill) {
            size_t fill = o->fill;
            o->fill = 0;
            DP_TRY(out_write(o, o->buf, fill, e));
        }
        if (n >= OUT_CAP) return out_write(o, p, n, e);
    }
    if (n) memcpy(o->buf + o->fill, p, n);
    o->fill += n;
    return DP_OK;
}

uint64_t dp_out_bytes(const struct dp_out *o)
{
    return o->bytes;
}

int dp_out_finish(struct dp_out *o, char hex[65], struct dp_err *e)
{
    if (o->failed) DP_FAIL(e, IO, "%s: an earlier write failed", o->name);
    size_t fill = o->fill;
    o->fill = 0;
    DP_TRY(out_write(o, o->buf, fill, e));
    if (o->sha) {
        char mine[DP_HEX256];
        dp_sha256_finish(o->sha, hex ? hex : mine);
        o->sha = NULL;
    }
    return dp_fs_fsync(o->fd, o->name, e);
}

int dp_out_descriptor(const struct dp_out *o)
{
    return o->fd;
}

void dp_out_close(struct dp_out *o)
{
    if (!o) return;
    if (o->fd >= 0) close(o->fd);
    dp_sha256_close(o->sha);
    free(o->name);
    free(o->buf);
    free(o);
}

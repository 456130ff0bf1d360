/* tests/fault/shim_fail.c - preloaded: makes the N-th call of one function fail, and all later ones too if asked.
 * DP_FAIL=write:ENOSPC:12 or fsync:EIO:3+ (from the third on). DP_FAIL_MARK=FILE is created when it fires: proof that it did.
 * Functions: write (write, pwrite, pwrite64, writev), fsync (fsync, fdatasync), rename, malloc (malloc, calloc, realloc). */
#undef _FILE_OFFSET_BITS /* else pwrite is pwrite64 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static char want[16];
static int error_code;
static long nth;
static int on;
static _Atomic long calls;
static char mark[512];

__attribute__((constructor)) static void init(void)
{
    const char *s = getenv("DP_FAIL"), *m = getenv("DP_FAIL_MARK");
    char name[16] = "";
    if (!s || sscanf(s, "%15[^:]:%15[^:]:%ld", want, name, &nth) != 3) return;
    on = s[strlen(s) - 1] == '+';
    error_code = strcmp(name, "ENOSPC") == 0 ? ENOSPC : strcmp(name, "ENOMEM") == 0 ? ENOMEM : EIO;
    if (m) snprintf(mark, sizeof mark, "%s", m);
}

static int fires(const char *fn)
{
    if (!nth || strcmp(fn, want) != 0) return 0;
    long k = ++calls;
    if (k != nth && !(on && k > nth)) return 0;
    if (k == nth && mark[0]) close(open(mark, O_CREAT | O_WRONLY, 0666));
    errno = error_code;
    return 1;
}

#define REAL(type, name, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *p, size_t n)
{
    REAL(ssize_t, write, int, const void *, size_t);
    return fd > 2 && fires("write") ? -1 : real(fd, p, n);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return fires("write") ? -1 : real(fd, p, n, at);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return fires("write") ? -1 : real(fd, p, n, at);
}
int fsync(int fd)
{
    REAL(int, fsync, int);
    return fires("fsync") ? -1 : real(fd);
}
int fdatasync(int fd)
{
    REAL(int, fdatasync, int);
    return fires("fsync") ? -1 : real(fd);
}
int rename(const char *a, const char *b)
{
    REAL(int, rename, const char *, const char *);
    return fires("rename") ? -1 : real(a, b);
}

/* glibc's own entry points: dlsym itself allocates, so the real ones can't be looked up. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *malloc(size_t n)
{
    return fires("malloc") ? NULL : __libc_malloc(n);
}
void *calloc(size_t a, size_t b)
{
    return fires("malloc") ? NULL : __libc_calloc(a, b);
}
void *realloc(void *p, size_t n)
{
    return fires("malloc") ? NULL : __libc_realloc(p, n);
}

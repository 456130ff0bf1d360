/* tests/fault/shim_fail.c - preloaded: makes the N-th call of one point fail, and all later ones too if asked.
 *   DP_FAIL=write:ENOSPC:12     the twelfth write; fsync:EIO:3+ from the third on; read:short:4 the fourth gives one byte
 *   DP_FAIL_IN=worker           in worker processes (and not in the process that starts them, which is the default)
 *   DP_FAIL_COUNT=FILE          calls and failures by point (probe counts): proof that it fired, and how far a sweep must go
 *   DP_FAIL_PATH=TEXT           of reads, writes, syncs and stats those of files with TEXT in their path count alone
 *   DP_FAIL_WHILE=FILE          from the N-th on, each call for as long as the first of the 8 bytes in FILE isn't 0 (probe clock)
 *   DP_FAIL_MARK=FILE           is created when it fires; read:hang:1 stays in the call for as long as FILE exists
 * Points are the names in `points` below. Counters lie in memory that all processes share, since a sandboxed one can't write a file. */
#undef _FILE_OFFSET_BITS /* else pwrite is pwrite64 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum point { WRITE, READ, FSYNC, RENAME, UNLINK, OPEN, TRUNCATE, MMAP, MALLOC, SEND, RECV, WRITEV, READV, SOCKET, ACCEPT, SPAWN, THREAD, MEMFD, EPOLL, EVENTFD, INOTIFY, OPENDIR, STAT, POINTS };
static const char *const points[POINTS] = {"write", "read", "fsync", "rename", "unlink", "open", "truncate", "mmap", "malloc", "send", "recv", "writev", "readv",
                                           "socket", "accept", "spawn", "thread", "memfd", "epoll", "eventfd", "inotify", "opendir", "stat"};
struct counts {
    _Atomic long calls[POINTS], fired[POINTS];
};

static struct counts own, *counts = &own;
static enum point want = POINTS;
static int error_code, on, hang, wanted_here = 1, is_worker;
static long nth;
static char mark[512], path_has[128];
static const volatile char *during;

/* A worker gets few variables of its parent's; the rest is read where the kernel keeps it. */
static const char *setting(const char *name)
{
    static char text[65536];
    static ssize_t n = -1;
    const char *v = getenv(name);
    if (v || !is_worker) return v;
    if (n < 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/environ", (int)getppid());
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        n = 0;
        for (ssize_t k = 1; fd >= 0 && k > 0 && n < (ssize_t)sizeof text - 1; n += k > 0 ? k : 0) k = syscall(SYS_read, fd, text + n, sizeof text - 1 - (size_t)n);
        if (fd >= 0) syscall(SYS_close, fd);
    }
    for (char *p = text; p < text + n; p += strlen(p) + 1)
        if (strncmp(p, name, strlen(name)) == 0 && p[strlen(name)] == '=') return p + strlen(name) + 1;
    return NULL;
}

static const int codes[] = {EIO, ENOSPC, ENOMEM, EMFILE, EAGAIN, EINTR, EACCES, EROFS, EDQUOT, ECONNRESET, EPERM, ENFILE};
static int code_of(const char *name)
{
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(name, strerrorname_np(codes[i])) == 0) return codes[i];
    return strcmp(name, "short") == 0 || strcmp(name, "hang") == 0 ? 0 : EIO;
}

__attribute__((constructor)) static void init(void)
{
    char point[16] = "", name[16] = "", line[64] = "";
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = syscall(SYS_read, fd, line, sizeof line - 1);
        is_worker = got > 6 && memmem(line, (size_t)got, "worker-process", 14) != NULL;
        syscall(SYS_close, fd);
    }
    const char *s = setting("DP_FAIL"), *m = setting("DP_FAIL_MARK"), *in = setting("DP_FAIL_IN"), *c = setting("DP_FAIL_COUNT");
    wanted_here = (in && strcmp(in, "worker") == 0) == is_worker;
    if (c && (fd = (int)syscall(SYS_openat, AT_FDCWD, c, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) >= 0) {
        if (syscall(SYS_ftruncate, fd, sizeof own) == 0) {
            void *p = (void *)syscall(SYS_mmap, NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (p != MAP_FAILED) counts = p;
        }
        syscall(SYS_close, fd);
    }
    if (!s || sscanf(s, "%15[^:]:%15[^:]:%ld", point, name, &nth) != 3) return;
    for (int i = 0; i < POINTS; i++)
        if (strcmp(point, points[i]) == 0) want = (enum point)i;
    on = s[strlen(s) - 1] == '+';
    error_code = code_of(name);
    hang = strcmp(name, "hang") == 0;
    if (m) snprintf(mark, sizeof mark, "%s", m);
    const char *path = setting("DP_FAIL_PATH"), *w = setting("DP_FAIL_WHILE");
    on = on || w;
    if (w && (fd = (int)syscall(SYS_openat, AT_FDCWD, w, O_RDONLY | O_CLOEXEC)) >= 0) {
        void *p = (void *)syscall(SYS_mmap, NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
        if (p != MAP_FAILED) during = p;
        syscall(SYS_close, fd);
    }
    if (path) snprintf(path_has, sizeof path_has, "%s", path);
}

/* 0, or 1 when it is to fail with errno set, or 2 when it is to do less than asked. */
static int fires(enum point p)
{
    if (!wanted_here) return 0;
    long k = atomic_fetch_add(&counts->calls[p], 1) + 1;
    if (p != want || k < nth || (k != nth && !on)) return 0;
    if (during && !*during) return 0;
    atomic_fetch_add(&counts->fired[p], 1);
    if (k == nth && mark[0] && !is_worker) syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
    while (hang && mark[0] && syscall(SYS_faccessat, AT_FDCWD, mark, F_OK) == 0) usleep(20000);
    if (hang) return 0;
    if (!error_code) return 2;
    errno = error_code;
    return 1;
}

#define REAL(type, name, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)
#define WRAP(type, name, point, bad, params, args)                                                 \
    type name params;                                                                              \
    type name params                                                                               \
    {                                                                                              \
        static type(*real) params;                                                                 \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                                      \
        return fires(point) == 1 ? (bad) : real args;                                              \
    }

/* An eventfd or a terminal has no full disk. */
static int is_file(int fd)
{
    struct stat st;
    char link[64], path[4096];
    if (syscall(SYS_fstat, fd, &st) != 0 || !S_ISREG(st.st_mode)) return 0;
    if (!path_has[0]) return 1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return strstr(path, path_has) != NULL;
}

ssize_t write(int fd, const void *p, size_t n)
{
    REAL(ssize_t, write, int, const void *, size_t);
    int f = fd > 2 && wanted_here && is_file(fd) ? fires(WRITE) : 0;
    return f == 1 ? -1 : real(fd, p, f && n ? 1 : n);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    int f = wanted_here && is_file(fd) ? fires(WRITE) : 0;
    return f == 1 ? -1 : real(fd, p, f && n ? 1 : n, at);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    int f = wanted_here && is_file(fd) ? fires(WRITE) : 0;
    return f == 1 ? -1 : real(fd, p, f && n ? 1 : n, at);
}
ssize_t read(int fd, void *p, size_t n)
{
    REAL(ssize_t, read, int, void *, size_t);
    int f = wanted_here && is_file(fd) ? fires(READ) : 0;
    return f == 1 ? -1 : real(fd, p, f && n ? 1 : n);
}
ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    int f = wanted_here && is_file(fd) ? fires(READ) : 0;
    return f == 1 ? -1 : real(fd, p, f && n ? 1 : n, at);
}
ssize_t pread64(int fd, void *p, size_t n, off64_t at)
{
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    int f = wanted_here && is_file(fd) ? fires(READ) : 0;
    return f == 1 ? -1 : real(fd, p, f && n ? 1 : n, at);
}
static int opened(int flags, va_list ap)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
}
#define OPENS(name)                                                                                \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        REAL(int, name, const char *, int, ...);                                                   \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        int mode = opened(flags, ap);                                                              \
        va_end(ap);                                                                                \
        return fires(OPEN) == 1 ? -1 : real(path, flags, mode);                                    \
    }
OPENS(open)
OPENS(open64)
int openat(int at, const char *path, int flags, ...)
{
    REAL(int, openat, int, const char *, int, ...);
    va_list ap;
    va_start(ap, flags);
    int mode = opened(flags, ap);
    va_end(ap);
    return fires(OPEN) == 1 ? -1 : real(at, path, flags, mode);
}
WRAP(FILE *, fopen, OPEN, NULL, (const char *path, const char *mode), (path, mode))
WRAP(FILE *, fopen64, OPEN, NULL, (const char *path, const char *mode), (path, mode))
WRAP(int, mkostemp, OPEN, -1, (char *path, int flags), (path, flags))
WRAP(int, mkostemp64, OPEN, -1, (char *path, int flags), (path, flags))
int fsync(int fd)
{
    REAL(int, fsync, int);
    return (!path_has[0] || is_file(fd)) && fires(FSYNC) == 1 ? -1 : real(fd);
}
int fdatasync(int fd)
{
    REAL(int, fdatasync, int);
    return (!path_has[0] || is_file(fd)) && fires(FSYNC) == 1 ? -1 : real(fd);
}
WRAP(int, rename, RENAME, -1, (const char *a, const char *b), (a, b))
WRAP(int, unlink, UNLINK, -1, (const char *path), (path))
WRAP(int, ftruncate, TRUNCATE, -1, (int fd, off_t n), (fd, n))
WRAP(int, ftruncate64, TRUNCATE, -1, (int fd, off64_t n), (fd, n))
WRAP(int, fallocate, TRUNCATE, -1, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP(int, fallocate64, TRUNCATE, -1, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))
WRAP(void *, mmap, MMAP, MAP_FAILED, (void *p, size_t n, int prot, int flags, int fd, off_t at), (p, n, prot, flags, fd, at))
WRAP(void *, mmap64, MMAP, MAP_FAILED, (void *p, size_t n, int prot, int flags, int fd, off64_t at), (p, n, prot, flags, fd, at))
WRAP(ssize_t, send, SEND, -1, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))
WRAP(ssize_t, sendto, SEND, -1, (int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t len), (fd, p, n, flags, to, len))
WRAP(ssize_t, sendmsg, SEND, -1, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
WRAP(ssize_t, writev, WRITEV, -1, (int fd, const struct iovec *v, int n), (fd, v, n))
WRAP(ssize_t, recv, RECV, -1, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))
WRAP(ssize_t, recvmsg, RECV, -1, (int fd, struct msghdr *m, int flags), (fd, m, flags))
WRAP(ssize_t, readv, READV, -1, (int fd, const struct iovec *v, int n), (fd, v, n))
WRAP(int, socket, SOCKET, -1, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, socketpair, SOCKET, -1, (int domain, int type, int protocol, int fd[2]), (domain, type, protocol, fd))
WRAP(int, bind, SOCKET, -1, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
WRAP(int, listen, SOCKET, -1, (int fd, int n), (fd, n))
WRAP(int, connect, SOCKET, -1, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
WRAP(int, accept4, ACCEPT, -1, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags))
WRAP(int, posix_spawn, SPAWN, error_code, (pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa, const posix_spawnattr_t *at, char *const argv[], char *const env[]),
     (pid, path, fa, at, argv, env))
WRAP(int, pthread_create, THREAD, error_code, (pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg), (t, a, fn, arg))
WRAP(int, memfd_create, MEMFD, -1, (const char *name, unsigned flags), (name, flags))
WRAP(int, epoll_create1, EPOLL, -1, (int flags), (flags))
WRAP(int, epoll_ctl, EPOLL, -1, (int fd, int op, int to, struct epoll_event *v), (fd, op, to, v))
WRAP(int, eventfd, EVENTFD, -1, (unsigned n, int flags), (n, flags))
WRAP(int, inotify_init1, INOTIFY, -1, (int flags), (flags))
WRAP(int, inotify_add_watch, INOTIFY, -1, (int fd, const char *path, uint32_t mask), (fd, path, mask))
WRAP(DIR *, opendir, OPENDIR, NULL, (const char *path), (path))
#define STATS(name, type)                                                                          \
    int name(const char *path, type *st)                                                           \
    {                                                                                              \
        REAL(int, name, const char *, type *);                                                     \
        return (!path_has[0] || strstr(path, path_has)) && fires(STAT) == 1 ? -1 : real(path, st); \
    }
STATS(stat, struct stat)
STATS(stat64, struct stat64)
STATS(lstat, struct stat)
STATS(lstat64, struct stat64)
int fstat(int fd, struct stat *st)
{
    REAL(int, fstat, int, struct stat *);
    return (!path_has[0] || is_file(fd)) && fires(STAT) == 1 ? -1 : real(fd, st);
}
int fstat64(int fd, struct stat64 *st)
{
    REAL(int, fstat64, int, struct stat64 *);
    return (!path_has[0] || is_file(fd)) && fires(STAT) == 1 ? -1 : real(fd, st);
}

/* glibc's own entry points: dlsym itself allocates, so the real ones can't be looked up. OpenSSL's calls aren't counted: version 3.0 doesn't survive
 * one that fails in its first use (a null lock in EVP_MD_fetch), which nobody above it can help. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static uintptr_t crypto_from, crypto_to;
static int find_crypto(struct dl_phdr_info *k, size_t size, void *ctx)
{
    (void)size, (void)ctx;
    if (!strstr(k->dlpi_name, "libcrypto")) return 0;
    for (int i = 0; i < k->dlpi_phnum; i++)
        if (k->dlpi_phdr[i].p_type == PT_LOAD && k->dlpi_phdr[i].p_flags & PF_X) {
            crypto_from = k->dlpi_addr + k->dlpi_phdr[i].p_vaddr;
            crypto_to = crypto_from + k->dlpi_phdr[i].p_memsz;
        }
    return 1;
}
__attribute__((constructor)) static void init_crypto_range(void)
{
    dl_iterate_phdr(find_crypto, NULL);
}
#define MALLOC_FIRES() ((uintptr_t)__builtin_return_address(0) - crypto_from >= crypto_to - crypto_from && fires(MALLOC) == 1)
void *malloc(size_t n)
{
    return MALLOC_FIRES() ? NULL : __libc_malloc(n);
}
void *calloc(size_t a, size_t b)
{
    return MALLOC_FIRES() ? NULL : __libc_calloc(a, b);
}
void *realloc(void *p, size_t n)
{
    return MALLOC_FIRES() ? NULL : __libc_realloc(p, n);
}

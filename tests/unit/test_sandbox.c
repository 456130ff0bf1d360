/* Each case runs in a child that enters the sandbox; its exit status says what it saw. */
#include "base/re.h"
#include "base/sandbox.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FINE = 0, WENT_THROUGH = 1, OTHER_ERROR = 2, NO_SANDBOX = 3 };

static struct dp_sandbox_options options = {.memory_bytes = UINT64_C(256) << 20, .file_bytes = 1 << 20, .files = 32};
static struct dp_sandbox_report report;
static int pair[2];

/* The wait status of a child that runs fn behind the sandbox. */
static int inside(int (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        struct dp_err err;
        int rc = dp_sandbox_enter(&options, &report, &err);
        if (rc < 0) fprintf(stderr, "%s\n", err.msg);
        _exit(rc < 0 ? NO_SANDBOX : fn());
    }
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

static int refused(long rc)
{
    return rc >= 0 ? WENT_THROUGH : errno == EPERM || errno == EACCES ? FINE : OTHER_ERROR;
}
#define CALL(name, expr)                                                                           \
    static int call_##name(void)                                                                   \
    {                                                                                              \
        return refused((long)(expr));                                                              \
    }
CALL(open, open("/etc/passwd", O_RDONLY))
CALL(openat, syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY))
CALL(openat2, syscall(437, AT_FDCWD, "/etc/passwd", NULL, 0))
CALL(creat, creat("/tmp/dpipe-sandbox", 0600))
CALL(unlink, unlink("/tmp/dpipe-none"))
CALL(rename, rename("/tmp/dpipe-none", "/tmp/dpipe-none2"))
CALL(mkdir, mkdir("/tmp/dpipe-none", 0700))
CALL(link, link("/etc/passwd", "/tmp/dpipe-none"))
CALL(symlink, symlink("/etc/passwd", "/tmp/dpipe-none"))
CALL(chmod, chmod("/tmp", 0777))
CALL(stat, syscall(SYS_stat, "/etc/passwd", NULL))
CALL(fstatat, syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", NULL, 0))
CALL(readlink, syscall(SYS_readlink, "/proc/self/exe", NULL, 0))
CALL(chdir, chdir("/"))
CALL(socket, socket(AF_INET, SOCK_STREAM, 0))
CALL(socket_unix, socket(AF_UNIX, SOCK_STREAM, 0))
CALL(connect, connect(pair[0], NULL, 0))
CALL(bind, bind(pair[0], NULL, 0))
CALL(listen, listen(pair[0], 1))
CALL(sendto, syscall(SYS_sendto, pair[0], "x", 1, 0, NULL, 0))
CALL(memfd, syscall(SYS_memfd_create, "x", 0))
CALL(kill_parent, kill(getppid(), 0))
CALL(kill_group, kill(0, 0))
CALL(setrlimit, setrlimit(RLIMIT_NOFILE, &(struct rlimit){8, 8}))
CALL(setuid, setuid(0))
CALL(prctl, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
CALL(seccomp, syscall(SYS_seccomp, 0, 0, NULL))
CALL(ioctl, syscall(SYS_ioctl, pair[0], 0x5401, NULL))
CALL(fcntl_lock, fcntl(pair[0], F_SETOWN, getpid()))
CALL(sched, syscall(SYS_sched_setaffinity, 0, 0, NULL))
CALL(shmget, syscall(SYS_shmget, 0, 4096, 0600))
static int call_mmap_shared(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED ? WENT_THROUGH : refused(-1);
}

TEST(forbidden_calls_give_eperm)
{
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    static const struct {
        const char *name;
        int (*fn)(void);
    } calls[] = {
        {"open", call_open}, {"openat", call_openat}, {"openat2", call_openat2}, {"creat", call_creat}, {"unlink", call_unlink}, {"rename", call_rename},
        {"mkdir", call_mkdir}, {"link", call_link}, {"symlink", call_symlink}, {"chmod", call_chmod}, {"stat", call_stat}, {"fstatat", call_fstatat},
        {"readlink", call_readlink}, {"chdir", call_chdir}, {"socket inet", call_socket}, {"socket unix", call_socket_unix}, {"connect", call_connect},
        {"bind", call_bind}, {"listen", call_listen}, {"sendto", call_sendto}, {"memfd_create", call_memfd}, {"kill parent", call_kill_parent},
        {"kill group", call_kill_group}, {"setrlimit", call_setrlimit}, {"setuid", call_setuid}, {"prctl", call_prctl}, {"seccomp", call_seccomp},
        {"ioctl", call_ioctl}, {"F_SETOWN", call_fcntl_lock}, {"sched_setaffinity", call_sched}, {"shmget", call_shmget}, {"shared mmap", call_mmap_shared},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int s = inside(calls[i].fn);
        if (s != 0) fprintf(stderr, "  %s: wait status 0x%x\n", calls[i].name, (unsigned)s);
        CHECK_INT(s, 0);
    }
    close(pair[0]);
    close(pair[1]);
}

static int do_exec(void)
{
    char *argv[] = {(char[]){"true"}, NULL};
    execv("/bin/true", argv);
    return WENT_THROUGH;
}
static int do_fork(void)
{
    return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0 ? 0 : WENT_THROUGH;
}
static int do_vfork(void)
{
    return syscall(SYS_fork) == 0 ? 0 : WENT_THROUGH;
}
static int do_ptrace(void)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    return WENT_THROUGH;
}
static int do_peek(void)
{
    struct iovec v = {&v, sizeof v};
    process_vm_readv(getppid(), &v, 1, &v, 1, 0);
    return WENT_THROUGH;
}
static int do_uring(void)
{
    syscall(SYS_io_uring_setup, 1, NULL);
    return WENT_THROUGH;
}
static int do_int80(void)
{
    long rc;
    __asm__ volatile("int $0x80" : "=a"(rc) : "0"(20L) : "memory"); /* i386 getpid */
    return WENT_THROUGH;
}
static int do_x32(void)
{
    syscall(0x40000000 | SYS_getpid);
    return WENT_THROUGH;
}

TEST(what_only_an_intruder_does_kills)
{
    int (*const fns[])(void) = {do_exec, do_fork, do_vfork, do_ptrace, do_peek, do_uring, do_int80, do_x32};
    for (size_t i = 0; i < sizeof fns / sizeof *fns; i++) {
        int s = inside(fns[i]);
        if (i == 6 && WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV) continue; /* a kernel without 32-bit calls */
        if (!(WIFSIGNALED(s) && WTERMSIG(s) == SIGSYS)) DP_TEST_FAIL("call %zu: wait status 0x%x, not death by SIGSYS", i, (unsigned)s);
    }
}

static void *thread_main(void *v)
{
    char *p = malloc(1 << 20);
    if (p) memset(p, 1, 1 << 20);
    free(p);
    *(int *)v = p != NULL;
    return NULL;
}
static int file_fd;
static int do_work(void)
{
    char b[64];
    struct stat st;
    struct timespec t;
    pthread_t tid[4];
    int seen[4] = {0};
    if (pwrite(file_fd, "hello world", 11, 0) != 11 || pread(file_fd, b, 11, 0) != 11 || memcmp(b, "hello world", 11) != 0) return 10;
    if (fstat(file_fd, &st) != 0 || st.st_size != 11 || fsync(file_fd) != 0 || ftruncate(file_fd, 5) != 0) return 11;
    void *m = mmap(NULL, 5, PROT_READ, MAP_SHARED, file_fd, 0);
    if (m == MAP_FAILED || memcmp(m, "hello", 5) != 0 || munmap(m, 5) != 0) return 12;
    if (mmap(NULL, 5, PROT_READ | PROT_WRITE, MAP_SHARED, file_fd, 0) != MAP_FAILED || errno != EPERM) return 18;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&tid[i], NULL, thread_main, &seen[i]) != 0) return 13;
    for (int i = 0; i < 4; i++) pthread_join(tid[i], NULL);
    for (int i = 0; i < 4; i++)
        if (!seen[i]) return 14;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0 || nanosleep(&(struct timespec){0, 1000}, NULL) != 0) return 15;
    char *p = malloc(32 << 20), *q = p ? realloc(p, 64 << 20) : NULL;
    if (!q) return 16;
    q[(64 << 20) - 1] = 1;
    free(q);
    int copy = fcntl(file_fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0 || close(copy) != 0) return 17;
    return 0;
}
TEST(work_goes_on)
{
    FILE *f = tmpfile();
    REQUIRE(f);
    file_fd = fileno(f);
    CHECK_INT(inside(do_work), 0);
    fclose(f);
}

/* A pattern compiled and run inside, and a page of code made by hand, which is all that a JIT is. */
static int do_jit(void)
{
    struct dp_err err;
    struct dp_re *re;
    struct dp_re_scratch *s;
    size_t at, end;
    if (dp_re_open(&re, "(\\w+)@(\\w+)\\.(com|org)\\b", true, "test", &err) < 0 || dp_re_scratch_open(&s, &err) < 0) return 20;
    struct dp_span t = dp_span_str("write to someone@Example.ORG today");
    for (int i = 0; i < 1000; i++)
        if (dp_re_search(re, s, t, 0, &at, &end) != DP_RE_YES || at != 9 || end != 28) return 21;
    void *x = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (x == MAP_FAILED) return 22;
    memcpy(x, "\xb8\x2a\0\0\0\xc3", 6); /* mov $42, %eax; ret */
    int (*fn)(void);
    memcpy(&fn, &x, sizeof fn);
    if (fn() != 42) return 23;
    dp_re_scratch_close(s);
    dp_re_close(re);
    return 0;
}
TEST(jit_works_inside)
{
    CHECK_INT(inside(do_jit), 0);
}

__attribute__((unused)) static int do_abort(void) /* sanitizers have no limits on memory, and their own end */
{
    abort();
}
static int do_large_file(void)
{
    static char b[4096];
    signal(SIGXFSZ, SIG_IGN);
    if (pwrite(file_fd, b, sizeof b, (1 << 20) - 4096) != 4096) return 30;
    return pwrite(file_fd, b, sizeof b, 1 << 20) < 0 && errno == EFBIG ? 0 : 31;
}
static int do_many_files(void)
{
    int n = 0;
    while (n < 64 && dup(0) < 0 && fcntl(0, F_DUPFD, 3) >= 0) n++;
    return n > 8 && n < 32 && errno == EMFILE ? 0 : 32;
}
__attribute__((unused)) static int do_eat(void)
{
    size_t total = 0;
    for (; total < (size_t)1 << 30; total += 8 << 20) {
        char *p = malloc(8 << 20);
        if (!p) break;
        memset(p, 1, 8 << 20);
    }
    return total >= 128 << 20 && total < 256 << 20 ? 0 : 33;
}
static int landlock_abi; /* of this kernel, as seen from outside */
static int do_report(void)
{
    bool shadow = !report.memory;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    shadow = !shadow;
#endif
    if (report.landlock != landlock_abi || (landlock_abi >= 3 && report.landlock_fs < 0x7fff)) return 42;
    if (!report.no_new_privs || !report.rlimits || !report.seccomp || shadow || report.calls < 40) return 40;
    struct dp_buf b;
    dp_buf_init(&b, 1000);
    dp_sandbox_print(&report, &b);
    return strstr(b.ptr, "no_new_privs, limits") && strstr(b.ptr, "seccomp (") ? 0 : 41;
}
TEST(limits_hold)
{
    FILE *f = tmpfile();
    REQUIRE(f);
    file_fd = fileno(f);
    CHECK_INT(inside(do_large_file), 0);
    CHECK_INT(inside(do_many_files), 0);
    landlock_abi = (int)syscall(444, NULL, 0, 1);
    if (landlock_abi < 0) landlock_abi = 0;
    CHECK_INT(inside(do_report), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK_INT(inside(do_eat), 0);
    int s = inside(do_abort);
    CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGABRT && !WCOREDUMP(s));
#endif
    fclose(f);
}

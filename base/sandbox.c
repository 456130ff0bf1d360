/* The filter is written by hand: some hundred instructions from two lists and four rules on arguments, with nothing to link. Since Linux
 * 5.11 the kernel caches the answer for calls that are allowed whatever their arguments, so the length of the list costs nothing. */
#include "base/sandbox.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOW_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SHADOW_MEMORY 1
#endif
#endif
#ifndef SHADOW_MEMORY
#define SHADOW_MEMORY 0
#endif

/* --- limits --- */

static int limit(int what, uint64_t value, const char *name, const struct dp_sandbox_options *o, struct dp_sandbox_report *r, struct dp_err *e)
{
    struct rlimit now, want = {value, value};
    if (getrlimit((__rlimit_resource_t)what, &now) == 0 && now.rlim_max < want.rlim_max) want = (struct rlimit){now.rlim_max, now.rlim_max};
    if (setrlimit((__rlimit_resource_t)what, &want) == 0) return DP_OK;
    r->rlimits = false;
    if (o->optional) return DP_OK;
    return dp_err_set(e, DP_CONFIG, errno, __FILE__, __LINE__, "sandbox: cannot set %s to %llu", name, (unsigned long long)value);
}

static int limits(const struct dp_sandbox_options *o, struct dp_sandbox_report *r, struct dp_err *e)
{
    r->rlimits = true;
    DP_TRY(limit(RLIMIT_CORE, 0, "RLIMIT_CORE", o, r, e));
    if (o->files) DP_TRY(limit(RLIMIT_NOFILE, o->files, "RLIMIT_NOFILE", o, r, e));
    if (o->file_bytes) DP_TRY(limit(RLIMIT_FSIZE, o->file_bytes, "RLIMIT_FSIZE", o, r, e));
    if (o->cpu_s) DP_TRY(limit(RLIMIT_CPU, o->cpu_s, "RLIMIT_CPU", o, r, e));
    if (SHADOW_MEMORY) return DP_OK;
    if (o->memory_bytes) DP_TRY(limit(RLIMIT_DATA, o->memory_bytes, "RLIMIT_DATA", o, r, e));
    if (o->address_bytes) DP_TRY(limit(RLIMIT_AS, o->address_bytes, "RLIMIT_AS", o, r, e));
    r->memory = r->rlimits && (o->memory_bytes || o->address_bytes);
    return DP_OK;
}

/* --- Landlock (Documentation/userspace-api/landlock.rst) --- */

/* Debian 12's headers end at ABI 2, so the numbers are ours. */
enum { LL_CREATE = 444, LL_RESTRICT = 446, LL_VERSION = 1 };
struct landlock_rights {
    uint64_t fs, net, scoped;
};

static void landlock(struct dp_sandbox_report *r)
{
    long abi = syscall(LL_CREATE, NULL, 0, LL_VERSION);
    if (abi <= 0) return;
    struct landlock_rights all = {.fs = (UINT64_C(1) << 13) - 1};
    if (abi >= 2) all.fs |= UINT64_C(1) << 13; /* refer */
    if (abi >= 3) all.fs |= UINT64_C(1) << 14; /* truncate */
    if (abi >= 5) all.fs |= UINT64_C(1) << 15; /* ioctl on devices */
    if (abi >= 4) all.net = 3;                 /* bind, connect */
    if (abi >= 6) all.scoped = 3;              /* abstract Unix sockets, signals */
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    long fd = syscall(LL_CREATE, &all, size, 0);
    if (fd < 0) return;
    if (syscall(LL_RESTRICT, (int)fd, 0) == 0) {
        r->landlock = (int)abi;
        r->landlock_fs = all.fs;
        r->landlock_net = all.net;
        r->landlock_scoped = all.scoped;
    }
    close((int)fd);
}

/* --- seccomp --- */

/* Whatever their arguments. Everything here works on what is already open, or on the process itself. */
static const int allowed[] = {
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_fstat, SYS_close,
    SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fallocate, SYS_fadvise64, SYS_sendmsg, SYS_recvmsg, SYS_poll, SYS_ppoll,
    SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_brk, SYS_futex, SYS_set_robust_list, SYS_rseq, SYS_membarrier,
    SYS_sched_yield, SYS_sched_getaffinity, SYS_getcpu, SYS_gettid, SYS_getpid, SYS_getrusage, SYS_sysinfo,
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_time, SYS_getrandom,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall, SYS_exit, SYS_exit_group,
};
/* No code of ours makes these: the process has been taken over. */
static const int fatal[] = {
    SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_mount, SYS_umount2,
    SYS_pivot_root, SYS_chroot, SYS_setns, SYS_unshare, SYS_bpf, SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module,
    SYS_open_by_handle_at, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_userfaultfd, SYS_perf_event_open, SYS_io_uring_setup, SYS_reboot,
};
enum { ALLOWED = sizeof allowed / sizeof *allowed, FATAL = sizeof fatal / sizeof *fatal, BY_ARGUMENT = 8 };

struct program {
    struct sock_filter op[2 * (ALLOWED + FATAL) + 96];
    unsigned short n;
};

static void add(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    DP_ASSERT(p->n < sizeof p->op / sizeof *p->op);
    p->op[p->n++] = (struct sock_filter){code, yes, no, k};
}
static void answer(struct program *p, uint32_t action)
{
    add(p, BPF_RET | BPF_K, action, 0, 0);
}
static void load(struct program *p, size_t offset)
{
    add(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}
/* Arguments are looked at through their low halves: flags and pids fit. */
static void load_arg(struct program *p, int i)
{
    load(p, offsetof(struct seccomp_data, args) + 8 * (size_t)i);
}
static void when_call(struct program *p, int nr, uint32_t action)
{
    add(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1);
    answer(p, action);
}

enum { EPERM_ANSWER = SECCOMP_RET_ERRNO | EPERM };

/* fcntl: duplicates and flags, no leases, locks or signals. */
static void rule_fcntl(struct program *p)
{
    static const int commands[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL};
    enum { N = sizeof commands / sizeof *commands };
    add(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 2 * N + 2);
    load_arg(p, 1);
    for (int i = 0; i < N; i++) when_call(p, commands[i], SECCOMP_RET_ALLOW);
    answer(p, EPERM_ANSWER);
}

/* A call that is allowed when `test` (BPF_JEQ, BPF_JSET) of its argument against `value` holds, and answered with `otherwise` when not. */
static void when_arg(struct program *p, long call, int arg, unsigned test, uint32_t value, uint32_t otherwise)
{
    add(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    load_arg(p, arg);
    add(p, (uint16_t)(BPF_JMP | test | BPF_K), value, 0, 1);
    answer(p, SECCOMP_RET_ALLOW);
    answer(p, otherwise);
}

static void rules(struct program *p, uint32_t pid)
{
    /* glibc falls back to clone, whose flags can be seen. */
    when_call(p, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
    when_arg(p, SYS_clone, 0, BPF_JSET, CLONE_THREAD, SECCOMP_RET_KILL_PROCESS);
    /* mmap: shared maps only of files and only for reading, see the header. */
    add(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 7);
    load_arg(p, 3);
    add(p, BPF_JMP | BPF_JSET | BPF_K, MAP_SHARED, 0, 3);
    add(p, BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 3, 0);
    load_arg(p, 2);
    add(p, BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 1, 0);
    answer(p, SECCOMP_RET_ALLOW);
    answer(p, EPERM_ANSWER);
    /* kill, tgkill: itself alone (abort does). */
    when_arg(p, SYS_kill, 0, BPF_JEQ, pid, EPERM_ANSWER);
    when_arg(p, SYS_tgkill, 0, BPF_JEQ, pid, EPERM_ANSWER);
    /* newfstatat: glibc's fstat, recognised by its flag; a path beside the flag could at worst be asked for its size. */
    when_arg(p, SYS_newfstatat, 3, BPF_JSET, AT_EMPTY_PATH, EPERM_ANSWER);
    /* prctl: names of threads. */
    when_arg(p, SYS_prctl, 0, BPF_JEQ, PR_SET_NAME, EPERM_ANSWER);
    rule_fcntl(p);
}

static int seccomp(const struct dp_sandbox_options *o, struct dp_sandbox_report *r, struct dp_err *e)
{
    struct program p = {.n = 0};
    load(&p, offsetof(struct seccomp_data, arch));
    add(&p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    answer(&p, SECCOMP_RET_KILL_PROCESS);
    load(&p, offsetof(struct seccomp_data, nr));
    add(&p, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1); /* x32 */
    answer(&p, SECCOMP_RET_KILL_PROCESS);
    for (int i = 0; i < ALLOWED; i++) when_call(&p, allowed[i], SECCOMP_RET_ALLOW);
    for (int i = 0; i < FATAL; i++) when_call(&p, fatal[i], SECCOMP_RET_KILL_PROCESS);
    rules(&p, (uint32_t)getpid());
    answer(&p, EPERM_ANSWER);
    struct sock_fprog prog = {p.n, p.op};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) == 0) {
        r->seccomp = true;
        r->calls = ALLOWED + BY_ARGUMENT - 1; /* clone3 is refused */
        return DP_OK;
    }
    if (o->optional) return DP_OK;
    return dp_err_set(e, DP_CONFIG, errno, __FILE__, __LINE__, "sandbox: the kernel takes no seccomp filter; run with --isolate=thread, or allow seccomp");
}

int dp_sandbox_enter(const struct dp_sandbox_options *o, struct dp_sandbox_report *r, struct dp_err *e)
{
    *r = (struct dp_sandbox_report){0};
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    r->no_new_privs = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    DP_TRY(limits(o, r, e));
    landlock(r);
    return seccomp(o, r, e);
}

void dp_sandbox_print(const struct dp_sandbox_report *r, struct dp_buf *out)
{
    dp_buf_printf(out, "%s, %s%s, ", r->no_new_privs ? "no_new_privs" : "privileges could be gained", r->rlimits ? "limits" : "not all limits",
                  r->memory ? "" : " (none on memory)");
    if (r->landlock) dp_buf_printf(out, "Landlock ABI %d, ", r->landlock);
    else dp_buf_add_str(out, "no Landlock, ");
    if (r->seccomp) dp_buf_printf(out, "seccomp (%d calls)", r->calls);
    else dp_buf_add_str(out, "no seccomp");
}

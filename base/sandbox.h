/* base/sandbox.h - take from the calling process everything that reading hostile bytes doesn't need.
 *
 * In this order: not dumpable, no_new_privs, resource limits, Landlock (every right of the running kernel's version, and no exception:
 * no path can be opened), a seccomp allow-list. What stays: reading, writing and mapping descriptors that are already open, memory
 * (executable too: PCRE2's JIT), threads, clocks, randomness, messages on the inherited socket. A forbidden call gives EPERM, since
 * libraries probe for files and cope; what no library of ours ever does (exec, fork, ptrace, mount, other architectures' calls...)
 * kills the process with SIGSYS.
 *
 * Memory is limited by RLIMIT_DATA: private writable pages, which is what decoders and parsers allocate. RLIMIT_AS counts the maps of
 * source files too, and those may be larger than any budget; it is there for callers that map nothing. So that nothing writable escapes
 * RLIMIT_DATA, shared writable maps are refused. AddressSanitizer and ThreadSanitizer reserve terabytes: under them both limits are left out,
 * and the report says so.
 *
 * seccomp and the limits are required; Landlock is best effort (kernels before 5.13 lack it, and it may be switched off).
 * Thread-safety: call it once, while the process has one thread; threads made later inherit it. It can't be undone.
 * x86-64 Linux only, like the rest of dpipe. */
#ifndef DP_BASE_SANDBOX_H
#define DP_BASE_SANDBOX_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_sandbox_options {
    uint64_t memory_bytes;  /* RLIMIT_DATA; 0: none */
    uint64_t address_bytes; /* RLIMIT_AS; 0: none */
    uint64_t file_bytes;    /* RLIMIT_FSIZE: the largest offset it may write at; 0: none */
    uint64_t cpu_s;         /* RLIMIT_CPU of the whole process; 0: none */
    uint64_t files;         /* RLIMIT_NOFILE: descriptors, those already open included; 0: none */
    bool optional;          /* go on without seccomp or a limit where the kernel refuses them; the report says what is missing */
};

struct dp_sandbox_report {
    bool no_new_privs, rlimits, memory, seccomp;
    int landlock; /* the kernel's ABI version, 0 without Landlock */
    uint64_t landlock_fs, landlock_net, landlock_scoped; /* rights taken away */
    int calls;    /* system calls that the filter lets through */
};

/* DP_CONFIG when something required is missing; the process may be partly restricted then and should end. */
int dp_sandbox_enter(const struct dp_sandbox_options *o, struct dp_sandbox_report *r, struct dp_err *e);
/* One line for logs: "no_new_privs, limits, Landlock ABI 7, seccomp (72 calls)". */
void dp_sandbox_print(const struct dp_sandbox_report *r, struct dp_buf *out);

#endif

/* base/err.h - the three kinds of trouble, kept apart.
 *
 * 1. A bad document is not an error: the batch records a drop reason (base/batch.h).
 * 2. The environment (full disk, corrupt archive, wrong option): a function returns a negative
 *    `enum dp_code` and fills the caller's `struct dp_err`, always its last parameter.
 * 3. A bug: DP_ASSERT, on in release builds too; the process stops and resumes from the last commit.
 *
 * A code is 0 for success, positive for a normal outcome that isn't success (end of input),
 * negative for failure. Messages say what, where (path, offset, record) and the next step.
 * Thread-safety: a struct dp_err belongs to one caller; nothing here is shared. */
#ifndef DP_BASE_ERR_H
#define DP_BASE_ERR_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>

/* name, value, exit status of the command that fails with it, text */
#define DP_CODES(X)                                                                                \
    X(OK, 0, 0, "success")                                                                         \
    X(EOF, 1, 0, "end of input")                                                                   \
    X(EMPTY, 2, 0, "nothing there yet")                                                            \
    X(NOMEM, -1, 75, "out of memory")                                                              \
    X(IO, -2, 74, "I/O error")                                                                     \
    X(NOSPACE, -3, 74, "no space left")                                                            \
    X(CORRUPT, -4, 65, "bad data")                                                                 \
    X(LIMIT, -5, 65, "limit exceeded")                                                             \
    X(USAGE, -6, 64, "usage")                                                                      \
    X(CONFIG, -7, 78, "configuration")                                                             \
    X(NOTFOUND, -8, 74, "not found")                                                               \
    X(BUSY, -9, 75, "busy, try again")                                                             \
    X(STOPPED, -10, 75, "stopped by a signal")                                                     \
    X(BROKEN, -11, 70, "an invariant does not hold")

enum dp_code {
#define X(name, value, exit, text) DP_##name = (value),
    DP_CODES(X)
#undef X
};

struct dp_err {
    enum dp_code code;
    int sys;          /* errno at the time, or 0 */
    int line;
    const char *file; /* source position that failed, for debug logs */
    char msg[480];
};

/* Fill `e` (may be NULL) and return `code`. `sys` is an errno or 0; when not 0 its text is appended. */
int dp_err_set(struct dp_err *e, enum dp_code code, int sys, const char *file, int line,
               const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* Put "context: " before the message already in `e`; returns e->code. */
int dp_err_prefix(struct dp_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void dp_err_clear(struct dp_err *e);
const char *dp_code_name(int code);
int dp_code_exit(int code);
/* The code for an errno: ENOSPC and EDQUOT are NOSPACE, ENOMEM is NOMEM, ENOENT is NOTFOUND, others IO. */
enum dp_code dp_code_of_errno(int sys);

#define DP_FAIL(e, name, ...) return dp_err_set((e), DP_##name, 0, __FILE__, __LINE__, __VA_ARGS__)
/* For a failed system call: the code follows errno. */
#define DP_FAIL_SYS(e, ...)                                                                        \
    do {                                                                                           \
        int dp_sys_ = errno;                                                                       \
        return dp_err_set((e), dp_code_of_errno(dp_sys_), dp_sys_, __FILE__, __LINE__, __VA_ARGS__); \
    } while (0)
/* The same two for functions with one `out:` label and an `int rc`. */
#define DP_GOTO(e, name, ...)                                                                      \
    do {                                                                                           \
        rc = dp_err_set((e), DP_##name, 0, __FILE__, __LINE__, __VA_ARGS__);                       \
        goto out;                                                                                  \
    } while (0)
#define DP_GOTO_SYS(e, ...)                                                                        \
    do {                                                                                           \
        int dp_sys_ = errno;                                                                       \
        rc = dp_err_set((e), dp_code_of_errno(dp_sys_), dp_sys_, __FILE__, __LINE__, __VA_ARGS__); \
        goto out;                                                                                  \
    } while (0)
/* Return at once when `call` failed (negative); a positive outcome passes through to no one. */
#define DP_TRY(call)                                                                               \
    do {                                                                                           \
        int dp_rc_ = (call);                                                                       \
        if (dp_rc_ < 0) return dp_rc_;                                                             \
    } while (0)
#define DP_TRY_OUT(call)                                                                           \
    do {                                                                                           \
        rc = (call);                                                                               \
        if (rc < 0) goto out;                                                                      \
    } while (0)

_Noreturn void dp_assert_fail(const char *what, const char *file, int line);
#define DP_ASSERT(cond) ((cond) ? (void)0 : dp_assert_fail(#cond, __FILE__, __LINE__))

#endif

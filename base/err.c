#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int dp_err_set(struct dp_err *e, enum dp_code code, int sys, const char *file, int line,
               const char *fmt, ...)
{
    if (!e) return code;
    char msg[sizeof e->msg]; /* not in place: an argument may be e->msg itself */
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (n < 0) n = 0;
    if (sys && (size_t)n < sizeof msg) snprintf(msg + n, sizeof msg - (size_t)n, ": %s", strerror(sys));
    memcpy(e->msg, msg, sizeof msg);
    e->code = code;
    e->sys = sys;
    e->file = file;
    e->line = line;
    return code;
}

int dp_err_prefix(struct dp_err *e, const char *fmt, ...)
{
    if (!e) return DP_BROKEN;
    char msg[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (n < 0) n = 0;
    if ((size_t)n < sizeof msg) snprintf(msg + n, sizeof msg - (size_t)n, ": %s", e->msg);
    memcpy(e->msg, msg, sizeof msg);
    return e->code;
}

void dp_err_clear(struct dp_err *e)
{
    memset(e, 0, sizeof *e);
}

const char *dp_code_name(int code)
{
    switch (code) {
#define X(name, value, exit, text)                                                                 \
    case value: return text;
        DP_CODES(X)
#undef X
    default: return "unknown code";
    }
}

int dp_code_exit(int code)
{
    switch (code) {
#define X(name, value, exit, text)                                                                 \
    case value: return exit;
        DP_CODES(X)
#undef X
    default: return 70;
    }
}

enum dp_code dp_code_of_errno(int sys)
{
    switch (sys) {
    case ENOSPC:
    case EDQUOT: return DP_NOSPACE;
    case ENOMEM: return DP_NOMEM;
    case ENOENT: return DP_NOTFOUND;
    default: return DP_IO;
    }
}

void dp_assert_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "dpipe: bug: %s does not hold at %s:%d; please report it. Published work is safe.\n",
            what, file, line);
    abort();
}

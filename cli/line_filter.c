#include "cli/line_filter.h"

#include "base/json.h"
#include "base/ordered.h"
#include "base/progress.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 256 << 10, PIPE_BYTES = 1 << 20, KEEP = 1 << 20 };
#define LINE_MAX_BYTES ((size_t)1 << 30)
#define OUT_MAX_BYTES ((size_t)1 << 36)

/* A block of whole lines and what comes of it. */
struct block {
    char *text;
    size_t len, cap;
    const char *name; /* of its file */
    uint64_t first;   /* number of its first line, from 1 */
    struct dp_buf out;
    uint64_t skipped;
    int rc;
    struct dp_err err;
};

struct run {
    struct dp_line_filter *f;
    struct dp_ordered *jobs;
    int out; /* standard output; where it is a pipe, opened again so that a reader who doesn't read can't keep us from stopping */
};

static struct block *get_block(struct run *r, struct dp_err *e)
{
    struct block *b = dp_ordered_spare(r->jobs);
    if (!b) {
        b = calloc(1, sizeof *b);
        char *text = b ? malloc(BLOCK) : NULL;
        if (!text) {
            free(b);
            return dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "a block of lines"), NULL;
        }
        b->text = text;
        b->cap = BLOCK;
        dp_buf_init(&b->out, OUT_MAX_BYTES);
    }
    b->len = 0;
    b->skipped = 0;
    b->rc = DP_OK;
    dp_buf_clear(&b->out);
    return b;
}

static void free_block(void *job)
{
    struct block *b = job;
    dp_buf_release(&b->out);
    free(b->text);
    free(b);
}

/* What a long line took is given back. */
static bool drop_block(void *ctx, void *job)
{
    const struct block *b = job;
    (void)ctx;
    return b->cap <= BLOCK && b->out.cap <= 4 * KEEP;
}

/* --- a block's lines --- */

static bool bad_data(int rc)
{
    return rc == DP_CORRUPT || rc == DP_LIMIT;
}

static void say_error(struct block *b, uint64_t number, const struct dp_err *e)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, &b->out, 0);
    dp_jsonw_begin(&w, '{');
    dp_jsonw_key(&w, "error");
    dp_jsonw_cstr(&w, e->msg);
    dp_jsonw_key(&w, "line");
    dp_jsonw_uint(&w, number);
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(&b->out, '\n');
    b->skipped++;
}

static void do_block(void *ctx, void *job, int worker)
{
    struct run *r = ctx;
    struct block *b = job;
    uint64_t number = b->first;
    for (const char *p = b->text, *end = p + b->len; p < end && b->rc >= 0; number++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct dp_span line = dp_span(p, (size_t)((nl ? nl : end) - p));
        size_t before = b->out.len;
        p = nl ? nl + 1 : end;
        b->rc = line.len > LINE_MAX_BYTES ? dp_err_set(&b->err, DP_LIMIT, 0, __FILE__, __LINE__, "a line of %zu bytes, more than 1 GiB", line.len)
                                          : r->f->line(r->f->ctx, worker, line, &b->out, &b->err);
        if (b->rc >= 0) b->rc = dp_buf_check(&b->out, "output", &b->err);
        if (b->rc >= 0) continue;
        b->out.len = before;
        b->out.full = b->out.no_memory = false;
        if (!r->f->skip || !bad_data(b->rc)) {
            dp_err_prefix(&b->err, "%s line %llu", b->name, (unsigned long long)number);
            return;
        }
        say_error(b, number, &b->err);
        b->rc = dp_buf_check(&b->out, "output", &b->err);
    }
}

static int write_out(int fd, const char *p, size_t n, struct dp_err *e)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w >= 0) {
            p += w;
            n -= (size_t)w;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR) DP_FAIL_SYS(e, "standard output: write");
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        if (errno == EAGAIN) poll(&wait, 1, 200);
        DP_TRY(dp_progress_go_on(e));
    }
    return DP_OK;
}

static int write_block(void *ctx, void *job, struct dp_err *e)
{
    struct run *r = ctx;
    struct block *b = job;
    r->f->skipped += b->skipped;
    DP_TRY(write_out(r->out, b->out.ptr, b->out.len, e));
    if (b->rc < 0) *e = b->err;
    return b->rc;
}

/* --- reading --- */

struct input {
    struct run *r;
    int fd;
    const char *name;
    struct block *b;  /* being filled */
    size_t lines_end; /* in it: behind the last newline */
    uint64_t line;    /* number of its first line */
};

static uint64_t count_lines(const char *p, size_t n)
{
    uint64_t lines = 0;
    for (const char *end = p + n, *nl; p < end && (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) lines++;
    return lines;
}

/* The whole lines go on their way; what is behind them begins the next block. */
static int send_lines(struct input *in, struct dp_err *e)
{
    struct block *b = in->b, *next = get_block(in->r, e);
    if (!next) return DP_NOMEM;
    size_t rest = b->len - in->lines_end;
    if (rest > next->cap) {
        char *p = realloc(next->text, b->cap);
        if (!p) {
            free_block(next);
            DP_FAIL(e, NOMEM, "%s: a line of more than %zu bytes", in->name, rest);
        }
        next->text = p;
        next->cap = b->cap;
    }
    memcpy(next->text, b->text + in->lines_end, rest);
    next->len = rest;
    b->len = in->lines_end;
    b->name = in->name;
    b->first = in->line;
    in->line += count_lines(b->text, b->len);
    in->b = next;
    in->lines_end = 0;
    return dp_ordered_add(in->r->jobs, b, b->len, e);
}

/* Until there is something to read, or nothing any more; what is there already is answered meanwhile. */
static int wait_for_more(struct input *in, struct dp_err *e)
{
    struct pollfd p = {.fd = in->fd, .events = POLLIN};
    for (int wait = 0;; wait = 200) {
        int n = poll(&p, 1, wait);
        if (n < 0 && errno != EINTR) DP_FAIL_SYS(e, "%s: wait", in->name);
        DP_TRY(dp_progress_go_on(e));
        if (n > 0) return DP_OK;
        if (in->lines_end) DP_TRY(send_lines(in, e));
    }
}

static int make_room(struct input *in, struct dp_err *e)
{
    struct block *b = in->b;
    if (b->len < b->cap) return DP_OK;
    if (b->len > LINE_MAX_BYTES) DP_FAIL(e, LIMIT, "%s line %llu: a line of more than 1 GiB", in->name, (unsigned long long)in->line);
    char *p = realloc(b->text, b->cap * 2);
    if (!p) DP_FAIL(e, NOMEM, "%s line %llu: a line of more than %zu bytes", in->name, (unsigned long long)in->line, b->len);
    b->text = p;
    b->cap *= 2;
    return DP_OK;
}

static int read_some(struct input *in, bool *end, struct dp_err *e)
{
    struct block *b = in->b;
    DP_TRY(wait_for_more(in, e));
    b = in->b;
    DP_TRY(make_room(in, e));
    ssize_t n = read(in->fd, b->text + b->len, b->cap - b->len);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return DP_OK;
    if (n < 0) DP_FAIL_SYS(e, "%s: read", in->name);
    *end = n == 0;
    const char *nl = n ? memrchr(b->text + b->len, '\n', (size_t)n) : NULL;
    if (nl) in->lines_end = (size_t)(nl - b->text) + 1;
    b->len += (size_t)n;
    return DP_OK;
}

static int read_file(struct run *r, const char *path, struct dp_err *e)
{
    bool std = strcmp(path, "-") == 0, end = false;
    struct input in = {.r = r, .fd = std ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), .name = std ? "standard input" : path, .line = 1};
    if (in.fd < 0) DP_FAIL_SYS(e, "%s: cannot open", path);
    fcntl(in.fd, F_SETPIPE_SZ, PIPE_BYTES); /* fewer, larger reads where it is a pipe */
    in.b = get_block(r, e);
    int rc = in.b ? DP_OK : DP_NOMEM;
    while (rc >= 0 && !end) {
        rc = read_some(&in, &end, e);
        if (rc >= 0 && in.lines_end >= BLOCK / 2) rc = send_lines(&in, e);
    }
    if (rc >= 0 && in.b->len) { /* the last line may have no newline */
        in.lines_end = in.b->len;
        rc = send_lines(&in, e);
    }
    if (in.b) free_block(in.b);
    if (!std) close(in.fd);
    return rc;
}

/* A description of its own: not blocking is no business of others who have the pipe too. */
static int open_out(void)
{
    struct stat st;
    int fd = fstat(STDOUT_FILENO, &st) == 0 && S_ISFIFO(st.st_mode) ? open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    fcntl(STDOUT_FILENO, F_SETPIPE_SZ, PIPE_BYTES);
    return fd >= 0 ? fd : STDOUT_FILENO;
}

int dp_line_filter_run(struct dp_line_filter *f, const char *const *files, size_t n, struct dp_err *e)
{
    static const struct dp_ordered_type type = {do_block, write_block, drop_block, free_block};
    static const char *const std = "-";
    struct run r = {.f = f};
    f->skipped = 0;
    DP_TRY(dp_ordered_open(&r.jobs, f->threads, (size_t)f->threads * (8 * BLOCK), &type, &r, e));
    r.out = open_out();
    int rc = DP_OK;
    for (size_t i = 0; rc >= 0 && i < (n ? n : 1); i++) rc = read_file(&r, n ? files[i] : std, e);
    if (rc >= 0) rc = dp_ordered_finish(r.jobs, e);
    else if (rc != DP_STOPPED) dp_ordered_finish(r.jobs, NULL); /* what came before the trouble is written */
    dp_ordered_close(r.jobs);
    if (r.out != STDOUT_FILENO) close(r.out);
    return rc;
}

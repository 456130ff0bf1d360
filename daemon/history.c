#include "daemon/history.h"

#include "base/fs.h"
#include "base/log.h"
#include "daemon/events.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_MS = 500 };

struct dp_history {
    char *path, *older;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t wake;
    bool up, news, quit;
    /* the thread's alone */
    uint64_t event; /* written up to */
    int64_t run;
    bool failing;
};

/* --- reading --- */

static void copy(char *out, size_t cap, struct dp_span s)
{
    snprintf(out, cap, "%.*s", s.ptr ? (int)(s.len < cap ? s.len : cap) : 0, s.ptr ? s.ptr : "");
}

static void take_event(const struct dp_json *v)
{
    struct dp_event_row r = {.number = (uint64_t)dp_json_int(dp_json_get(v, "number"), 0), .ms = dp_json_int(dp_json_get(v, "time_ms"), 0),
                             .level = (int)dp_event_level(dp_json_str(dp_json_get(v, "level")))};
    copy(r.kind, sizeof r.kind, dp_json_str(dp_json_get(v, "kind")));
    copy(r.text, sizeof r.text, dp_json_str(dp_json_get(v, "text")));
    if (r.number < (uint64_t)1 << 52) dp_events_restore(&r);
}

static uint64_t count(const struct dp_json *v, const char *key)
{
    return (uint64_t)dp_json_int(dp_json_get(v, key), 0);
}

static void take_run(const struct dp_json *v)
{
    struct dp_run r = {.number = dp_json_int(dp_json_get(v, "number"), 0), .begun = dp_json_int(dp_json_get(v, "begun"), 0), .ended = dp_json_int(dp_json_get(v, "ended"), 0),
                       .made = count(v, "made"), .found = count(v, "found"), .failed = count(v, "failed"), .sources = count(v, "sources")};
    if ((r.counted = dp_json_get(v, "documents_read") != NULL)) {
        r.read = count(v, "documents_read");
        r.kept = count(v, "documents_kept");
        r.dropped = count(v, "documents_dropped");
        r.tokens = count(v, "tokens");
    }
    copy(r.result, sizeof r.result, dp_json_str(dp_json_get(v, "result")));
    copy(r.error, sizeof r.error, dp_json_str(dp_json_get(v, "error")));
    if (r.number < (int64_t)1 << 52) dp_runs_restore(&r);
}

static void read_back(const char *path)
{
    struct dp_buf b;
    struct dp_err ignored;
    struct dp_span line;
    dp_buf_init(&b, 2 * DP_HISTORY_BYTES);
    if (access(path, F_OK) == 0 && dp_fs_read(path, &b, &ignored) >= 0)
        for (const char *p = b.ptr, *end = p + b.len; p < end; p = line.ptr + line.len + 1) {
            const char *nl = memchr(p, '\n', (size_t)(end - p));
            struct dp_json *v = NULL;
            line = dp_span(p, nl ? (size_t)(nl - p) : (size_t)(end - p));
            if (dp_json_parse(&v, line, path, &ignored) >= 0) {
                if (dp_json_get(v, "event")) take_event(dp_json_get(v, "event"));
                if (dp_json_get(v, "run")) take_run(dp_json_get(v, "run"));
            }
            dp_json_free(v);
        }
    dp_buf_release(&b);
}

/* --- writing --- */

static void add_run(struct dp_buf *b, const struct dp_run *r)
{
    struct dp_jsonw w;
    dp_jsonw_init(&w, b, 0);
    dp_buf_add_str(b, "{\"run\":");
    dp_run_print(&w, r);
    dp_buf_add_str(b, "}\n");
}

static void collect(struct dp_history *h, struct dp_buf *b)
{
    struct dp_event_row v;
    struct dp_run r;
    struct dp_jsonw w;
    for (; dp_runs_next(h->run, &r); h->run = r.number) add_run(b, &r);
    while (dp_runs_next_counted(&r)) add_run(b, &r); /* once more, with its numbers */
    for (; dp_events_next(h->event, &v); h->event = v.number) {
        dp_jsonw_init(&w, b, 0);
        dp_buf_add_str(b, "{\"event\":");
        dp_event_print(&w, &v);
        dp_buf_add_str(b, "}\n");
    }
}

static int append(struct dp_history *h, struct dp_span text, struct dp_err *e)
{
    struct stat st;
    char last = '\n';
    off_t at = 0;
    if (stat(h->path, &st) == 0 && st.st_size > 0 && (size_t)st.st_size + text.len > DP_HISTORY_BYTES && rename(h->path, h->older) != 0)
        DP_FAIL_SYS(e, "%s: cannot be set aside", h->path);
    int fd = open(h->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), rc = DP_OK;
    if (fd < 0) DP_FAIL_SYS(e, "%s: cannot open", h->path);
    if (fstat(fd, &st) != 0) DP_GOTO_SYS(e, "%s", h->path);
    if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) != 1) DP_GOTO_SYS(e, "%s: read", h->path);
    at = st.st_size;
    if (last != '\n') { /* what a kill or a full disk tore stays a line of its own */
        if (pwrite(fd, "\n", 1, at) != 1) DP_GOTO_SYS(e, "%s: write", h->path);
        at++;
    }
    for (size_t done = 0; done < text.len;) {
        ssize_t n = pwrite(fd, text.ptr + done, text.len - done, at + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) DP_GOTO_SYS(e, "%s: write", h->path);
        done += (size_t)n;
    }
out:
    if (rc < 0 && at > 0 && ftruncate(fd, at) != 0) dp_log(DEBUG, "history", "%s: a torn line stays", h->path);
    close(fd);
    return rc;
}

static void write_news(struct dp_history *h)
{
    struct dp_buf b;
    struct dp_err err = {0};
    dp_buf_init(&b, DP_HISTORY_BYTES);
    collect(h, &b);
    int rc = b.len ? append(h, dp_buf_span(&b), &err) : DP_OK;
    /* Told once: on a full disk each further event would be one more. Not by dp_event, which would be news again. */
    if (rc < 0 && !h->failing) dp_log(WARN, "history", "events aren't kept: %s", err.msg);
    h->failing = rc < 0;
    dp_buf_release(&b);
}

static void *history_main(void *v)
{
    struct dp_history *h = v;
    pthread_mutex_lock(&h->mu);
    while (!h->quit) {
        struct timespec t;
        if (!h->news) {
            pthread_cond_wait(&h->wake, &h->mu);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &t); /* what comes together is written together */
        t.tv_nsec += PAUSE_MS * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        while (!h->quit && pthread_cond_timedwait(&h->wake, &h->mu, &t) == 0) { }
        h->news = false;
        pthread_mutex_unlock(&h->mu);
        write_news(h);
        pthread_mutex_lock(&h->mu);
    }
    pthread_mutex_unlock(&h->mu);
    write_news(h);
    return NULL;
}

static void on_news(void *v)
{
    struct dp_history *h = v;
    pthread_mutex_lock(&h->mu);
    if (!h->news) pthread_cond_signal(&h->wake);
    h->news = true;
    pthread_mutex_unlock(&h->mu);
}

int dp_history_open(struct dp_history **out, const char *dir, struct dp_err *e)
{
    struct dp_history *h = calloc(1, sizeof *h);
    pthread_condattr_t attr;
    *out = NULL;
    if (h) {
        h->path = dp_fs_join(dir, "history.jsonl");
        h->older = dp_fs_join(dir, "history.1.jsonl");
    }
    if (!h || !h->path || !h->older) {
        if (h) free(h->path);
        free(h);
        DP_FAIL(e, NOMEM, "history");
    }
    read_back(h->older);
    read_back(h->path);
    h->event = dp_events_last();
    struct dp_run r;
    while (dp_runs_next(h->run, &r)) h->run = r.number;
    dp_events_restored();
    pthread_mutex_init(&h->mu, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->wake, &attr);
    pthread_condattr_destroy(&attr);
    h->up = pthread_create(&h->thread, NULL, history_main, h) == 0;
    if (h->up) dp_events_tell(on_news, h);
    else dp_log(WARN, "history", "events aren't kept: no thread can be started");
    *out = h;
    return DP_OK;
}

void dp_history_close(struct dp_history *h)
{
    if (!h) return;
    dp_events_tell(NULL, NULL);
    pthread_mutex_lock(&h->mu);
    h->quit = true;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->mu);
    if (h->up) pthread_join(h->thread, NULL);
    pthread_mutex_destroy(&h->mu);
    pthread_cond_destroy(&h->wake);
    free(h->path);
    free(h->older);
    free(h);
}

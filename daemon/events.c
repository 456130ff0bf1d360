#include "daemon/events.h"

#include "base/hash.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct event {
    uint64_t number;
    int64_t ms; /* Unix time */
    int level;
    char kind[20], text[400];
};

static struct {
    pthread_mutex_t mu;
    struct event ring[DP_EVENTS];
    uint64_t last;
    struct dp_run run[DP_RUNS];
    int64_t runs;
} E = {.mu = PTHREAD_MUTEX_INITIALIZER};

/* The log's limit goes by kind. */
static struct dp_log_site *site_of(const char *kind)
{
    enum { SITES = 64 };
    static struct dp_log_site site[SITES];
    return &site[dp_hash64(kind, strlen(kind), 0) % SITES];
}

void dp_event(enum dp_log_level level, const char *kind, const char *fmt, ...)
{
    char text[400];
    struct timespec t;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    clock_gettime(CLOCK_REALTIME, &t);
    pthread_mutex_lock(&E.mu);
    struct event *v = &E.ring[E.last++ % DP_EVENTS];
    v->number = E.last;
    v->ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    v->level = (int)level;
    snprintf(v->kind, sizeof v->kind, "%s", kind);
    memcpy(v->text, text, sizeof text);
    pthread_mutex_unlock(&E.mu);
    if (dp_log_wanted(level)) dp_log_limited(site_of(kind), level, "serve", NULL, "%s", text);
}

uint64_t dp_events_last(void)
{
    pthread_mutex_lock(&E.mu);
    uint64_t n = E.last;
    pthread_mutex_unlock(&E.mu);
    return n;
}

static const char *level_name(int level)
{
    return level <= DP_LOG_ERROR ? "error" : level == DP_LOG_WARN ? "warning" : level == DP_LOG_INFO ? "info" : "debug";
}

uint64_t dp_events_print(struct dp_jsonw *w, uint64_t after, size_t limit)
{
    pthread_mutex_lock(&E.mu);
    uint64_t i = E.last > DP_EVENTS ? E.last - DP_EVENTS : 0;
    if (after > i) i = after;
    uint64_t last = after;
    dp_jsonw_begin(w, '[');
    for (; i < E.last && limit > 0; i++, limit--) {
        const struct event *v = &E.ring[i % DP_EVENTS];
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_int(w, "number", (int64_t)v->number);
        dp_jsonw_member_int(w, "time_ms", v->ms);
        dp_jsonw_member(w, "level", level_name(v->level));
        dp_jsonw_member(w, "kind", v->kind);
        dp_jsonw_member(w, "text", v->text);
        dp_jsonw_end(w, '}');
        last = v->number;
    }
    dp_jsonw_end(w, ']');
    pthread_mutex_unlock(&E.mu);
    return last;
}

void dp_runs_add(struct dp_run *r)
{
    pthread_mutex_lock(&E.mu);
    r->number = ++E.runs;
    E.run[(r->number - 1) % DP_RUNS] = *r;
    pthread_mutex_unlock(&E.mu);
}

void dp_runs_print(struct dp_jsonw *w, size_t limit)
{
    pthread_mutex_lock(&E.mu);
    dp_jsonw_begin(w, '[');
    for (int64_t n = E.runs; n > 0 && n > E.runs - DP_RUNS && limit > 0; n--, limit--) {
        const struct dp_run *r = &E.run[(n - 1) % DP_RUNS];
        dp_jsonw_begin(w, '{');
        dp_jsonw_member_int(w, "number", r->number);
        dp_jsonw_member_int(w, "begun", r->begun);
        dp_jsonw_member_int(w, "ended", r->ended);
        dp_jsonw_member_int(w, "sources", (int64_t)r->sources);
        dp_jsonw_member_int(w, "made", (int64_t)r->made);
        dp_jsonw_member_int(w, "found", (int64_t)r->found);
        dp_jsonw_member_int(w, "failed", (int64_t)r->failed);
        dp_jsonw_member(w, "result", r->result);
        if (r->error[0]) dp_jsonw_member(w, "error", r->error);
        dp_jsonw_end(w, '}');
    }
    dp_jsonw_end(w, ']');
    pthread_mutex_unlock(&E.mu);
}

void dp_jsonw_member(struct dp_jsonw *w, const char *key, const char *text)
{
    dp_jsonw_key(w, key);
    dp_jsonw_cstr(w, text);
}

void dp_jsonw_member_int(struct dp_jsonw *w, const char *key, int64_t v)
{
    dp_jsonw_key(w, key);
    dp_jsonw_int(w, v);
}

#include "daemon/events.h"

#include "base/hash.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct {
    pthread_mutex_t mu;
    struct dp_event_row ring[DP_EVENTS];
    uint64_t n, last, before; /* events in the ring so far; the last one's number; how many of them are of earlier processes */
    struct dp_run run[DP_RUNS];
    bool fresh_count[DP_RUNS]; /* counted, and not asked for by the history */
    int64_t runs; /* the last one's number */
    size_t n_runs;
    void (*tell)(void *ctx);
    void *ctx;
} E = {.mu = PTHREAD_MUTEX_INITIALIZER};

/* The log's limit goes by kind. */
static struct dp_log_site *site_of(const char *kind)
{
    enum { SITES = 64 };
    static struct dp_log_site site[SITES];
    return &site[dp_hash64(kind, strlen(kind), 0) % SITES];
}

/* Under the lock. */
static void tell(void)
{
    if (E.tell) E.tell(E.ctx);
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
    struct dp_event_row *v = &E.ring[E.n++ % DP_EVENTS];
    v->number = ++E.last;
    v->ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    v->level = (int)level;
    snprintf(v->kind, sizeof v->kind, "%s", kind);
    memcpy(v->text, text, sizeof text);
    if (level < DP_LOG_DEBUG) tell();
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

uint64_t dp_events_count(void)
{
    pthread_mutex_lock(&E.mu);
    uint64_t n = E.n - E.before;
    pthread_mutex_unlock(&E.mu);
    return n;
}

static const struct {
    enum dp_log_level level;
    const char *name;
} levels[] = {{DP_LOG_ERROR, "error"}, {DP_LOG_WARN, "warning"}, {DP_LOG_INFO, "info"}, {DP_LOG_DEBUG, "debug"}};

static const char *level_name(int level)
{
    return levels[level <= DP_LOG_ERROR ? 0 : level == DP_LOG_WARN ? 1 : level == DP_LOG_INFO ? 2 : 3].name;
}

enum dp_log_level dp_event_level(struct dp_span name)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (dp_span_is(name, levels[i].name)) return levels[i].level;
    return DP_LOG_DEBUG;
}

bool dp_events_next(uint64_t after, struct dp_event_row *out)
{
    pthread_mutex_lock(&E.mu);
    uint64_t lo = E.n > DP_EVENTS ? E.n - DP_EVENTS : 0, hi = E.n; /* numbers go up along the ring */
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (E.ring[mid % DP_EVENTS].number > after) hi = mid;
        else lo = mid + 1;
    }
    bool found = lo < E.n;
    if (found) *out = E.ring[lo % DP_EVENTS];
    pthread_mutex_unlock(&E.mu);
    return found;
}

void dp_event_print(struct dp_jsonw *w, const struct dp_event_row *v)
{
    dp_jsonw_begin(w, '{');
    dp_jsonw_member_int(w, "number", (int64_t)v->number);
    dp_jsonw_member_int(w, "time_ms", v->ms);
    dp_jsonw_member(w, "level", level_name(v->level));
    dp_jsonw_member(w, "kind", v->kind);
    dp_jsonw_member(w, "text", v->text);
    dp_jsonw_end(w, '}');
}

uint64_t dp_events_print(struct dp_jsonw *w, uint64_t after, const char *kind, size_t limit)
{
    struct dp_event_row v;
    dp_jsonw_begin(w, '[');
    while (limit > 0 && dp_events_next(after, &v)) {
        after = v.number;
        if (*kind && strcmp(kind, v.kind) != 0) continue;
        dp_event_print(w, &v);
        limit--;
    }
    dp_jsonw_end(w, ']');
    return after;
}

/* --- runs --- */

static void add_run(const struct dp_run *r)
{
    E.runs = r->number;
    E.fresh_count[E.n_runs % DP_RUNS] = false;
    E.run[E.n_runs++ % DP_RUNS] = *r;
}

static struct dp_run *find_run(int64_t number)
{
    for (size_t i = E.n_runs > DP_RUNS ? E.n_runs - DP_RUNS : 0; i < E.n_runs; i++)
        if (E.run[i % DP_RUNS].number == number) return &E.run[i % DP_RUNS];
    return NULL;
}

int64_t dp_runs_last(void)
{
    pthread_mutex_lock(&E.mu);
    int64_t n = E.runs;
    pthread_mutex_unlock(&E.mu);
    return n;
}

void dp_runs_count(int64_t number, uint64_t read, uint64_t kept, uint64_t dropped, uint64_t tokens)
{
    pthread_mutex_lock(&E.mu);
    struct dp_run *r = find_run(number);
    if (r) {
        r->counted = true;
        r->read = read;
        r->kept = kept;
        r->dropped = dropped;
        r->tokens = tokens;
        E.fresh_count[r - E.run] = true;
        tell();
    }
    pthread_mutex_unlock(&E.mu);
}

bool dp_runs_next_counted(struct dp_run *out)
{
    bool found = false;
    pthread_mutex_lock(&E.mu);
    for (size_t i = E.n_runs > DP_RUNS ? E.n_runs - DP_RUNS : 0; i < E.n_runs && !found; i++) {
        found = E.fresh_count[i % DP_RUNS];
        E.fresh_count[i % DP_RUNS] = false;
        if (found) *out = E.run[i % DP_RUNS];
    }
    pthread_mutex_unlock(&E.mu);
    return found;
}

void dp_runs_add(struct dp_run *r)
{
    pthread_mutex_lock(&E.mu);
    r->number = E.runs + 1;
    add_run(r);
    tell();
    pthread_mutex_unlock(&E.mu);
}

bool dp_runs_next(int64_t after, struct dp_run *out)
{
    bool found = false;
    pthread_mutex_lock(&E.mu);
    for (size_t i = E.n_runs > DP_RUNS ? E.n_runs - DP_RUNS : 0; i < E.n_runs && !found; i++) {
        found = E.run[i % DP_RUNS].number > after;
        if (found) *out = E.run[i % DP_RUNS];
    }
    pthread_mutex_unlock(&E.mu);
    return found;
}

void dp_run_print(struct dp_jsonw *w, const struct dp_run *r)
{
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
    if (r->counted) {
        dp_jsonw_member_int(w, "documents_read", (int64_t)r->read);
        dp_jsonw_member_int(w, "documents_kept", (int64_t)r->kept);
        dp_jsonw_member_int(w, "documents_dropped", (int64_t)r->dropped);
        dp_jsonw_member_int(w, "tokens", (int64_t)r->tokens);
    }
    dp_jsonw_end(w, '}');
}

void dp_runs_print(struct dp_jsonw *w, size_t limit)
{
    pthread_mutex_lock(&E.mu);
    dp_jsonw_begin(w, '[');
    for (size_t i = E.n_runs; i > 0 && E.n_runs - i < DP_RUNS && limit > 0; i--, limit--) dp_run_print(w, &E.run[(i - 1) % DP_RUNS]);
    dp_jsonw_end(w, ']');
    pthread_mutex_unlock(&E.mu);
}

/* --- what earlier processes kept --- */

void dp_events_restore(const struct dp_event_row *v)
{
    pthread_mutex_lock(&E.mu);
    if (v->number > E.last) {
        E.ring[E.n++ % DP_EVENTS] = *v;
        E.last = v->number;
        E.before++;
    }
    pthread_mutex_unlock(&E.mu);
}

void dp_runs_restore(const struct dp_run *r)
{
    pthread_mutex_lock(&E.mu);
    struct dp_run *same = find_run(r->number); /* written again when it was counted */
    if (same) *same = *r;
    else if (r->number > E.runs) add_run(r);
    pthread_mutex_unlock(&E.mu);
}

void dp_events_restored(void)
{
    pthread_mutex_lock(&E.mu);
    if (E.last) E.last = (E.last / DP_EVENTS_EACH + 1) * DP_EVENTS_EACH;
    pthread_mutex_unlock(&E.mu);
}

void dp_events_tell(void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&E.mu);
    E.tell = fn;
    E.ctx = ctx;
    pthread_mutex_unlock(&E.mu);
}

#include "base/clock.h"
#include "base/log.h"

#include "base/json.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static _Atomic int log_level = DP_LOG_INFO;
static enum dp_log_format log_format = DP_LOG_TEXT;
static bool journal; /* priorities are read there, whatever the format */
static _Atomic int log_burst = DP_LOG_BURST;
static pthread_mutex_t log_mu = PTHREAD_MUTEX_INITIALIZER;
static void (*log_clear)(void);
static void (*log_sink)(enum dp_log_level level, const char *module, const struct dp_log_where *where, const char *msg);

/* systemd names the stream that it connected; stderr may have been led elsewhere since. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long dev, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &dev, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == inode;
}

void dp_log_init(enum dp_log_level level, enum dp_log_format format)
{
    log_level = level;
    journal = is_journal();
    if (format == DP_LOG_AUTO) format = journal ? DP_LOG_JOURNAL : DP_LOG_TEXT;
    log_format = format;
}

bool dp_log_wanted(enum dp_log_level level)
{
    return (int)level <= log_level;
}

void dp_log_set_level(enum dp_log_level level)
{
    log_level = (int)level;
}

enum dp_log_level dp_log_level_now(void)
{
    return (enum dp_log_level)log_level;
}

void dp_log_set_clear(void (*clear)(void))
{
    pthread_mutex_lock(&log_mu);
    log_clear = clear;
    pthread_mutex_unlock(&log_mu);
}

void dp_log_set_sink(void (*sink)(enum dp_log_level level, const char *module, const struct dp_log_where *where, const char *msg))
{
    log_sink = sink;
}

static const char *level_name(enum dp_log_level level)
{
    switch (level) {
    case DP_LOG_ERROR: return "error";
    case DP_LOG_WARN: return "warning";
    case DP_LOG_INFO: return "info";
    default: return "debug";
    }
}

void dp_log_set_burst(int burst)
{
    log_burst = burst;
}

/* --- lines --- */

static void plain(char *msg)
{
    for (char *c = msg; *c; c++) /* a message is one line, whatever a document put into it */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
}

static void print_json(struct dp_buf *line, enum dp_log_level level, const char *module, const struct dp_log_where *at, const char *msg)
{
    struct timespec ts;
    struct tm tm;
    char when[32];
    struct dp_jsonw w;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof when - n, ".%03ldZ", ts.tv_nsec / 1000000);
    dp_jsonw_init(&w, line, 0);
    dp_jsonw_begin(&w, '{');
    const char *const words[][2] = {{"time", when}, {"level", level_name(level)}, {"module", module}, {"msg", msg}, {"unit", at ? at->unit : NULL},
                                    {"path", at ? at->path : NULL}, {"record", at ? at->record : NULL}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!words[i][1]) continue;
        dp_jsonw_key(&w, words[i][0]);
        dp_jsonw_cstr(&w, words[i][1]);
    }
    if (at && at->offset >= 0) {
        dp_jsonw_key(&w, "offset");
        dp_jsonw_int(&w, at->offset);
    }
    dp_jsonw_end(&w, '}');
    dp_buf_add_char(line, '\n');
}

static void write_line(enum dp_log_level level, const char *module, const struct dp_log_where *at, const char *msg)
{
    struct dp_buf line;
    if (log_sink) {
        log_sink(level, module, at, msg);
        return;
    }
    dp_buf_init(&line, 16384);
    if (journal || log_format == DP_LOG_JOURNAL) dp_buf_printf(&line, "<%d>", (int)level);
    if (log_format == DP_LOG_JSON) print_json(&line, level, module, at, msg);
    else {
        dp_buf_printf(&line, "dpipe%s%s: ", *module ? " " : "", module);
        if (level != DP_LOG_INFO) dp_buf_printf(&line, "%s: ", level_name(level));
        dp_buf_printf(&line, "%s\n", msg);
    }
    pthread_mutex_lock(&log_mu);
    if (log_clear) log_clear();
    if (line.len && write(STDERR_FILENO, line.ptr, line.len) < 0) { /* nobody is left to tell */
    }
    pthread_mutex_unlock(&log_mu);
    dp_buf_release(&line);
}

void dp_log_write(enum dp_log_level level, const char *module, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    plain(msg);
    write_line(level, module, NULL, msg);
}

/* --- limits --- */

static pthread_mutex_t site_mu = PTHREAD_MUTEX_INITIALIZER;
static struct dp_log_site *sites; /* with something left out */

struct summary {
    uint64_t n;
    double seconds;
    enum dp_log_level level;
    char module[32];
    char *last;
};

/* Under site_mu: a new period begins; *s is what is to be told of the last one. */
static void turn(struct dp_log_site *k, double t, struct summary *s)
{
    *s = (struct summary){.n = k->left_out, .seconds = t - k->since, .level = k->level, .last = k->last};
    memcpy(s->module, k->module, sizeof s->module);
    k->since = t;
    k->written = 0;
    k->left_out = 0;
    k->last = NULL;
}

static void tell(struct summary *s)
{
    char msg[1200];
    if (s->n) {
        snprintf(msg, sizeof msg, "%llu similar messages suppressed in %.0f s, the last: %s", (unsigned long long)s->n, s->seconds, s->last ? s->last : "?");
        write_line(s->level, s->module, NULL, msg);
    }
    free(s->last);
}

/* Whether the message is to be written; otherwise it is kept as the last one. */
static bool admit(struct dp_log_site *k, enum dp_log_level level, const char *module, const char *msg)
{
    struct summary s = {0};
    int burst = log_burst * (level <= DP_LOG_ERROR ? 5 : 1);
    if (level >= DP_LOG_DEBUG || burst <= 0) return true;
    double t = dp_now();
    pthread_mutex_lock(&site_mu);
    if (k->since == 0 || t - k->since >= DP_LOG_PERIOD_S) turn(k, t, &s);
    k->level = level;
    snprintf(k->module, sizeof k->module, "%s", module);
    bool ok = k->written < (uint32_t)burst;
    if (ok) k->written++;
    else {
        k->left_out++;
        free(k->last);
        k->last = strdup(msg);
        if (!k->listed) {
            k->listed = true;
            k->next = sites;
            sites = k;
        }
    }
    pthread_mutex_unlock(&site_mu);
    tell(&s);
    return ok;
}

/* "unit U: PATH, offset N, record R: " */
static size_t print_where(char *out, size_t cap, const struct dp_log_where *at)
{
    struct dp_buf b;
    dp_buf_init(&b, 4096);
    if (at->unit) dp_buf_printf(&b, "unit %.300s: ", at->unit);
    if (at->path) dp_buf_printf(&b, "%.600s%s", at->path, strlen(at->path) > 600 ? "..." : "");
    if (at->offset >= 0) dp_buf_printf(&b, "%soffset %lld", at->path ? ", " : "", (long long)at->offset);
    if (at->record && *at->record) dp_buf_printf(&b, "%srecord %.100s", at->path || at->offset >= 0 ? ", " : "", at->record);
    if (at->path || at->offset >= 0 || (at->record && *at->record)) dp_buf_add_str(&b, ": ");
    size_t n = b.len < cap ? b.len : cap - 1;
    memcpy(out, b.ptr ? b.ptr : "", n);
    out[n] = 0;
    dp_buf_release(&b);
    return n;
}

void dp_log_limited(struct dp_log_site *site, enum dp_log_level level, const char *module, const struct dp_log_where *where, const char *fmt, ...)
{
    char msg[1024];
    size_t n = where && !where->said ? print_where(msg, sizeof msg, where) : 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg + n, sizeof msg - n, fmt, ap);
    va_end(ap);
    plain(msg);
    if (admit(site, level, module, msg)) write_line(level, module, where, msg);
}

void dp_log_flush(bool all)
{
    for (;;) {
        struct summary s = {0};
        double t = dp_now();
        pthread_mutex_lock(&site_mu);
        struct dp_log_site **k = &sites;
        while (*k && !all && t - (*k)->since < DP_LOG_PERIOD_S) k = &(*k)->next;
        struct dp_log_site *site = *k;
        if (site) {
            *k = site->next;
            site->listed = false;
            turn(site, t, &s);
        }
        pthread_mutex_unlock(&site_mu);
        if (!site) return;
        tell(&s);
    }
}

#include "base/log.h"

#include "base/json.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static enum dp_log_level log_level = DP_LOG_INFO;
static enum dp_log_format log_format = DP_LOG_TEXT;
static pthread_mutex_t log_mu = PTHREAD_MUTEX_INITIALIZER;
static void (*log_clear)(void);
static void (*log_sink)(enum dp_log_level level, const char *module, const char *msg);

void dp_log_init(enum dp_log_level level, enum dp_log_format format)
{
    log_level = level;
    if (format == DP_LOG_AUTO) format = getenv("JOURNAL_STREAM") ? DP_LOG_JOURNAL : DP_LOG_TEXT;
    log_format = format;
}

bool dp_log_wanted(enum dp_log_level level)
{
    return level <= log_level;
}

void dp_log_set_clear(void (*clear)(void))
{
    pthread_mutex_lock(&log_mu);
    log_clear = clear;
    pthread_mutex_unlock(&log_mu);
}

void dp_log_set_sink(void (*sink)(enum dp_log_level level, const char *module, const char *msg))
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

void dp_log_write(enum dp_log_level level, const char *module, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    for (char *c = msg; *c; c++) /* a message is one line, whatever a document put into it */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
    if (log_sink) {
        log_sink(level, module, msg);
        return;
    }
    struct dp_buf line;
    dp_buf_init(&line, 8192);
    if (log_format == DP_LOG_JSON) {
        struct timespec ts;
        struct tm tm;
        char when[32];
        clock_gettime(CLOCK_REALTIME, &ts);
        gmtime_r(&ts.tv_sec, &tm);
        size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(when + n, sizeof when - n, ".%03ldZ", ts.tv_nsec / 1000000);
        struct dp_jsonw w;
        dp_jsonw_init(&w, &line, 0);
        dp_jsonw_begin(&w, '{');
        dp_jsonw_key(&w, "time");
        dp_jsonw_cstr(&w, when);
        dp_jsonw_key(&w, "level");
        dp_jsonw_cstr(&w, level_name(level));
        dp_jsonw_key(&w, "module");
        dp_jsonw_cstr(&w, module);
        dp_jsonw_key(&w, "msg");
        dp_jsonw_cstr(&w, msg);
        dp_jsonw_end(&w, '}');
        dp_buf_add_char(&line, '\n');
    } else {
        if (log_format == DP_LOG_JOURNAL) dp_buf_printf(&line, "<%d>", (int)level);
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

/* base/log.h - talk on stderr: text, JSON lines, or journald priorities.
 *
 * One line a message: text `level module: message`, or with format json {"time","level","module","msg"} and, where a message is about one place, "unit",
 * "path", "offset" and "record"; when stderr is the journal lines begin with <N>, its priority. stdout is for data and never written here.
 *
 * A call site that says the same again and again is limited: of its messages DP_LOG_BURST in DP_LOG_PERIOD_S are written (errors: five times as many), the
 * others are counted, and one line of the same priority tells how many there were and what the last one said. What is left out of the log is never
 * the only record: failed units are in the catalog, dropped and damaged documents in their files. Debug messages aren't limited.
 *
 * Thread-safe: lines don't mix. */
#ifndef DP_BASE_LOG_H
#define DP_BASE_LOG_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum dp_log_level { DP_LOG_ERROR = 3, DP_LOG_WARN = 4, DP_LOG_INFO = 6, DP_LOG_DEBUG = 7 }; /* syslog numbers */
enum dp_log_format { DP_LOG_AUTO, DP_LOG_TEXT, DP_LOG_JSON, DP_LOG_JOURNAL };

void dp_log_init(enum dp_log_level level, enum dp_log_format format);
/* Change the level while running; from any thread. */
void dp_log_set_level(enum dp_log_level level);
enum dp_log_level dp_log_level_now(void);
bool dp_log_wanted(enum dp_log_level level);
/* Messages of a site in DP_LOG_PERIOD_S; 0: no limit. The default is DP_LOG_BURST. */
enum { DP_LOG_BURST = 20, DP_LOG_PERIOD_S = 10 };
void dp_log_set_burst(int burst);

/* What a message is about. What isn't known is NULL, offset -1. */
struct dp_log_where {
    const char *unit, *path, *record;
    int64_t offset; /* in bytes */
    bool said;      /* the message begins with it already */
};
#define DP_LOG_PATH(p) (&(struct dp_log_where){.path = (p), .offset = -1})

/* A place in the program that logs; zero at first. */
struct dp_log_site {
    double since;      /* monotonic begin of the period at hand */
    uint32_t written;
    uint64_t left_out;
    enum dp_log_level level;
    char module[32];
    char *last;        /* what the latest of those left out said */
    struct dp_log_site *next; /* of those with something left out */
    bool listed;
};
/* As dp_log_write for the site; `where` may be NULL: otherwise the line begins with it. */
void dp_log_limited(struct dp_log_site *site, enum dp_log_level level, const char *module, const struct dp_log_where *where, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Tell what was left out by sites whose period is over, or by all. For an idle loop, and before the end. */
void dp_log_flush(bool all);
/* Without any limit. */
void dp_log_write(enum dp_log_level level, const char *module, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Give messages to `sink` instead of writing them: a worker process sends them to its broker. */
void dp_log_set_sink(void (*sink)(enum dp_log_level level, const char *module, const struct dp_log_where *where, const char *msg));
/* A line that progress display drew and that must be cleared before a message; set by base/progress.c. */
void dp_log_set_clear(void (*clear)(void));

#define dp_log(level, module, ...) dp_log_at(level, module, NULL, __VA_ARGS__)
/* The same about a place; `where` is evaluated when the message is wanted. */
#define dp_log_at(level, module, where, ...)                                                       \
    do {                                                                                           \
        static struct dp_log_site site_;                                                           \
        if (dp_log_wanted(DP_LOG_##level)) dp_log_limited(&site_, DP_LOG_##level, (module), (where), __VA_ARGS__); \
    } while (0)

#endif

/* base/log.h - talk on stderr: text, JSON lines, or journald priorities.
 *
 * One line a message: text `level module: message`, or with format json {"level","module","msg","time"}; under systemd
 * (JOURNAL_STREAM set) lines begin with <N>. stdout is for data and never written here. Thread-safe: lines don't mix. */
#ifndef DP_BASE_LOG_H
#define DP_BASE_LOG_H

#include "base/err.h"

#include <stdbool.h>

enum dp_log_level { DP_LOG_ERROR = 3, DP_LOG_WARN = 4, DP_LOG_INFO = 6, DP_LOG_DEBUG = 7 }; /* syslog numbers */
enum dp_log_format { DP_LOG_AUTO, DP_LOG_TEXT, DP_LOG_JSON, DP_LOG_JOURNAL };

void dp_log_init(enum dp_log_level level, enum dp_log_format format);
bool dp_log_wanted(enum dp_log_level level);
void dp_log_write(enum dp_log_level level, const char *module, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Give messages to `sink` instead of writing them: a worker process sends them to its broker. */
void dp_log_set_sink(void (*sink)(enum dp_log_level level, const char *module, const char *msg));
/* A line that progress display drew and that must be cleared before a message; set by base/progress.c. */
void dp_log_set_clear(void (*clear)(void));

#define dp_log(level, module, ...)                                                                 \
    (dp_log_wanted(DP_LOG_##level) ? dp_log_write(DP_LOG_##level, (module), __VA_ARGS__) : (void)0)

#endif

/* daemon/worker_board.h - which worker processes there are and what each is at: written by the threads that lead them, read by the API.
 *
 * One board in a process. Thread-safe; a note costs an uncontended lock, a few a unit and one for each progress message. */
#ifndef DP_DAEMON_WORKER_BOARD_H
#define DP_DAEMON_WORKER_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DP_BOARD_MAX = 256 };

struct dp_board_note {
    int pid, lanes;             /* 0: no process at the moment */
    int64_t begun;              /* of the process, Unix seconds */
    int64_t units, deaths;      /* finished, and died of, by all processes in this place */
    char unit[160];             /* at hand; "" at rest */
    int64_t unit_begun;         /* Unix seconds */
    uint64_t unit_documents, unit_bytes; /* of it so far */
};

/* A place; -1 when all are taken, which every call below takes for nobody. */
int dp_board_take(void);
void dp_board_leave(int place);
void dp_board_process(int place, int pid, int lanes);
void dp_board_begin(int place, const char *unit);
void dp_board_progress(int place, uint64_t bytes, uint64_t documents);
void dp_board_end(int place, bool died);
/* Places in use, at most `max`; returns how many were written. */
size_t dp_board_read(struct dp_board_note *out, size_t max);

#endif

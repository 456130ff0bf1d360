/* daemon/unit_watch.h - where a worker process is, in memory that it shares with its broker, and what a unit must leave out.
 *
 * Nothing is written for each record of a normal run: a slot says which batch is at which stage. When a worker dies, the batches in its slots
 * are suspects; the unit is run again with these taken row by row (`careful`), and the second death names the record. It then
 * stands in the skip list, and the third run goes past it. So records cost nothing until one of them kills, and no stage knows of this.
 *
 * A record is (member of the unit, number of the row in that member): the same whatever the batches. When reading itself dies, the rest of that
 * member is left out and reported as damage: what stands behind a record that can't be parsed can't be found.
 *
 * The worker may have been taken over: the broker copies a slot before it looks (dp_watch_read), and the file is sealed, so that the worker can't
 * shrink it under the broker. Thread-safety: a slot is written by one thread of the worker; the broker reads while that goes on. */
#ifndef DP_DAEMON_UNIT_WATCH_H
#define DP_DAEMON_UNIT_WATCH_H

#include "base/batch.h"
#include "base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>

enum dp_watch_phase { DP_WATCH_IDLE, DP_WATCH_READ, DP_WATCH_STAGE, DP_WATCH_WRITE };
enum {
    DP_WATCH_LANES_MAX = 62,
    DP_WATCH_SLOTS = DP_WATCH_LANES_MAX + 2,   /* reading, writing, lanes */
    DP_WATCH_TEXT_MAX = 16 << 20,              /* of a document's bytes that are kept; more is cut */
    DP_SKIP_REST = UINT32_MAX,                 /* a stage in the skip list: nothing more of the member is read */
};

struct dp_watch_slot {
    _Atomic uint64_t turn;  /* another number each time that the slot changes; odd while it does */
    uint32_t phase;         /* enum dp_watch_phase */
    uint32_t member, stage; /* stage: from 0, in DP_WATCH_STAGE */
    uint32_t exact;         /* the slot names one record, below */
    uint64_t first, count;  /* rows of the member; while reading: the rows read so far, 0 */
    struct dp_hash128 id;
    uint64_t bytes;         /* of the record; min(bytes, DP_WATCH_TEXT_MAX) of them are in the text area */
    char pos[1024], url[1024];
};
struct dp_watch {
    struct dp_watch_slot slot[DP_WATCH_SLOTS];
    char text[DP_WATCH_TEXT_MAX]; /* the record that is taken by itself at the moment: its bytes as read */
};

/* A record to leave out at a stage: 0 is the source, s + 1 stage s of the pipeline, so that it is counted where it failed. */
struct dp_skip {
    uint32_t member, stage;
    uint64_t row;
};
/* Rows to take one by one: while reading, or in the stages and while writing. */
struct dp_careful {
    uint32_t member, reading;
    uint64_t first, end;
};
struct dp_unit_care {
    const struct dp_skip *skip;
    size_t skips;
    const struct dp_careful *careful;
    size_t carefuls;
};

/* A sealed memory file for a struct dp_watch, and its map (one for each process). */
int dp_watch_create(int *fd, struct dp_watch **w, struct dp_err *e);
int dp_watch_map(int fd, struct dp_watch **w, struct dp_err *e);
void dp_watch_unmap(struct dp_watch *w);

/* --- worker; w and care may be NULL --- */
void dp_watch_reading(struct dp_watch *w, uint32_t member, uint64_t rows, bool exact);
void dp_watch_stage(struct dp_watch *w, int lane, uint32_t stage, const struct dp_batch *b, bool exact);
void dp_watch_writing(struct dp_watch *w, const struct dp_batch *b, uint32_t i, bool exact);
/* Which of the three it was: the slot is empty. */
void dp_watch_read_done(struct dp_watch *w);
void dp_watch_stage_done(struct dp_watch *w, int lane);
void dp_watch_write_done(struct dp_watch *w);
/* Drop the rows of b whose turn it is at `stage` (as in struct dp_skip). */
void dp_care_drop(const struct dp_unit_care *c, struct dp_batch *b, uint32_t stage);
/* Whether nothing of the member is to be read behind `rows` rows. */
bool dp_care_ends(const struct dp_unit_care *c, uint32_t member, uint64_t rows);
/* Whether rows [first, first + count) of the member are to be taken one by one: they are suspects, or one of them is left out at some stage. */
bool dp_care_wanted(const struct dp_unit_care *c, uint32_t member, uint64_t first, uint64_t count, bool reading);

/* For tests: with DPIPE_TEST_FAULT=WORD in the environment, a document holding WORD-KIND-S dies at stage S (0: reading) the way KIND says:
 * segv, abort, stack, eat (memory), spin, sleep, open (a call the sandbox kills for). dp_fault_init is called before the sandbox. */
void dp_fault_init(void);
void dp_fault_check(const struct dp_batch *b, uint32_t stage);

/* --- broker --- */
/* A copy of slot i with texts ended; false when it is idle or changing. */
bool dp_watch_read(const struct dp_watch *w, int i, struct dp_watch_slot *out);

#endif

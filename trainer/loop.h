/* trainer/loop.h - a training run: rows in, lines of a log out, checkpoints at their times.
 *
 * Rows are functions of their numbers, so a run is resumed by the trainer's checkpoint and one number.
 * The log is JSON lines, one an update:
 *
 *   step      updates done (0: before the first; a line of validation alone)
 *   loss      mean over the targets of the batch, nats; norm: of the gradient before clipping; lr
 *   tokens_per_s, mfu    with timed: targets a second of wall time, and the step's operations
 *             (dp_trainer_flops) a second over `peak`; time of validation and saving is not in them
 *   val_loss, bits_per_byte    behind updates with validation
 *   spike     the median and deviation it was judged by, worst rows and their documents; skipped
 *
 * Nothing but the timed members depends on time, machine, threads or restarts. One owner. */
#ifndef DP_TRAINER_LOOP_H
#define DP_TRAINER_LOOP_H

#include "trainer/run_folder.h"
#include "trainer/source.h"
#include "trainer/train.h"

struct dp_loop_hooks {
    void *ctx;
    int (*line)(void *ctx, struct dp_span json, struct dp_err *e); /* with its newline; NULL: none */
    /* Save the state behind the update just done; `best`: its validation loss is the lowest so far, and
     * that is all it is saved for. NULL: nothing is kept. */
    int (*save)(void *ctx, bool best, struct dp_err *e);
    bool (*stopped)(void *ctx); /* asked behind every update; NULL: never */
};

struct dp_loop {
    const struct dp_train_options *o;
    struct dp_trainer *trainer;
    const struct dp_source *train, *val; /* val NULL: no validation */
    struct dp_loop_hooks hooks;
    bool timed;
    bool save_last;              /* save behind the last update as well */
    double peak;                 /* operations a second of all threads; 0: unknown */
    const uint32_t *token_bytes; /* [vocab]; NULL: unknown */
    int64_t stop_at;             /* as if stopped behind this update, without an error; 0: no */
    /* Results; best_val and next_row come from a checkpoint when a run goes on. */
    uint64_t next_row;
    double val_loss, bits_per_byte, best_val; /* NaN: none yet */
    double loss, seconds;                     /* of the last update; of all updates of this process */
    double rate, mfu;                         /* over the updates of this process */
    int64_t updates, spikes, skipped;         /* of this process */
};
/* Fill a zeroed loop's results with "none yet". */
void dp_loop_init(struct dp_loop *l);
/* From the trainer's step to o->steps. DP_STOPPED when a hook said so (saved before). A loss that is not
 * finite: DP_CORRUPT, nothing is saved. */
int dp_loop_run(struct dp_loop *l, struct dp_err *e);
/* Sum up validation now. */
int dp_loop_validate(struct dp_loop *l, struct dp_err *e);

/* What this machine can do: operations a second of so many threads, in fp32 or by products of bf16.
 * Measured in about 0.1 s, once a process. Not from several threads. */
double dp_loop_peak(int threads, bool bf16);

/* A run in a folder. The extras of its checkpoints: data, next row, best validation loss, options. */
struct dp_loop_folder {
    struct dp_loop *loop;
    struct dp_run_folder *folder;
};
/* What hooks.save of such a run does. */
int dp_loop_folder_save(struct dp_loop_folder *f, bool best, struct dp_err *e);
/* model.safetensors, of the state that was saved last. */
int dp_loop_folder_finish(struct dp_loop_folder *f, struct dp_err *e);
/* Load the newest checkpoint into the trainer and the loop. DP_EMPTY: there is none. DP_CONFIG and
 * DP_CORRUPT name the file and what to do. *changed gets lines on options that differ ("lr 0.001,
 * before 0.01"), which is allowed; train is resumed too. */
int dp_loop_folder_resume(struct dp_loop_folder *f, struct dp_source *train, struct dp_buf *changed, struct dp_err *e);

#endif

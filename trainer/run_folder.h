/* trainer/run_folder.h - the checkpoints of a training run in a folder.
 *
 *   checkpoint-0000000500.safetensors   after update 500; the newest `keep` stay
 *   best.safetensors                    of the lowest validation loss
 *   model.safetensors                   when the run is done
 *   .partial*                           being written
 *
 * Each appears by a rename once it is durable; the older ones go behind that. So whatever ends the
 * process, the newest checkpoint is whole. One process at a time has the folder (flock). One owner. */
#ifndef DP_TRAINER_RUN_FOLDER_H
#define DP_TRAINER_RUN_FOLDER_H

#include "base/err.h"
#include "trainer/train.h"

struct dp_run_folder;
/* Makes the folder where there is none, removes what a broken run left half written. DP_BUSY when
 * another process trains there. */
int dp_run_folder_open(struct dp_run_folder **out, const char *dir, struct dp_err *e);
void dp_run_folder_close(struct dp_run_folder *f); /* NULL is fine */
const char *dp_run_folder_path(const struct dp_run_folder *f);
/* The newest checkpoint: its path (lives until the next call) and step. NULL: there is none. */
const char *dp_run_folder_newest(struct dp_run_folder *f, int64_t *step, struct dp_err *e);
/* Save a checkpoint and remove all but the newest `keep`. A failure says what stays and what to do. */
int dp_run_folder_save(struct dp_run_folder *f, struct dp_trainer *t, const struct dp_safetensors_kv *extra,
                       size_t extras, int64_t keep, struct dp_err *e);
/* Make best.safetensors or model.safetensors ("best", "model") of the trainer's state: a second name of
 * its checkpoint where there is one of this step, else a file of its own. */
int dp_run_folder_name(struct dp_run_folder *f, struct dp_trainer *t, const char *name,
                       const struct dp_safetensors_kv *extra, size_t extras, struct dp_err *e);
/* `e` holds why `path` couldn't be loaded: adds what to do about it. */
void dp_run_folder_advise(struct dp_run_folder *f, const char *path, struct dp_err *e);

#endif

/* base/out_folder.h - a folder of files that others read, published by one rename: absent, or whole.
 *
 * Write files into `tmp`, then the receipt (dpipe-export.json, which lists them), then publish. A target
 * that exists must be empty or an earlier export with nothing else in it; that is replaced. Thread-safety:
 * one owner; two processes with one target: DP_BUSY. */
#ifndef DP_BASE_OUT_FOLDER_H
#define DP_BASE_OUT_FOLDER_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

enum dp_folder_target { DP_FOLDER_ABSENT, DP_FOLDER_EMPTY, DP_FOLDER_OURS };

struct dp_out_folder {
    char *dir, *parent, *tmp; /* tmp: where to write */
    int lock;                 /* descriptor of tmp */
    enum dp_folder_target target;
    uint64_t files, bytes; /* of the receipt */
};
#define DP_OUT_FOLDER_INIT {.lock = -1}

int dp_out_folder_open(struct dp_out_folder *d, const char *dir, struct dp_err *e);
/* `facts` writes the members of the receipt that stand before its list of files. */
int dp_out_folder_receipt(struct dp_out_folder *d, void (*facts)(struct dp_jsonw *w, const void *ctx), const void *ctx, struct dp_err *e);
/* The files must be fsynced; the folder is. */
int dp_out_folder_publish(struct dp_out_folder *d, struct dp_err *e);
/* After any of these, or none (DP_OUT_FOLDER_INIT). `failed`: what was written is removed. */
void dp_out_folder_close(struct dp_out_folder *d, bool failed);

#endif

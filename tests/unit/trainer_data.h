/* tests/unit/trainer_data.h - a small training run's options and batches, for the trainer's tests. */
#ifndef DP_TESTS_TRAINER_DATA_H
#define DP_TESTS_TRAINER_DATA_H

#include "base/hash.h"
#include "trainer/train.h"

#include <stdlib.h>

enum { VOCAB = 61, WIDTH = 17 };

static inline struct dp_train_options small_run(int arch)
{
    struct dp_train_options o = {0};
    struct dp_err err = {0};
    if (dp_opt_defaults(dp_train_opts, &o, &err) < 0) abort();
    o.arch = arch;
    o.layers = 2;
    o.dim = 24;
    o.heads = 4;
    o.kv_heads = arch == DP_ARCH_LLAMA ? 2 : 0;
    o.seq_len = WIDTH - 1;
    o.batch = 2;
    o.accum = 2;
    o.steps = 20;
    o.warmup = 3;
    return o;
}

/* ids[rows][WIDTH] of a step. */
static inline void small_batch(int64_t step, int rows, int32_t *ids)
{
    uint64_t s = 1000 + (uint64_t)step;
    for (int i = 0; i < rows * WIDTH; i++) {
        ids[i] = (int32_t)(dp_splitmix64(&s) % VOCAB);
        if (i % 11 == 4) ids[i] = ~ids[i]; /* no loss here */
    }
}

#endif

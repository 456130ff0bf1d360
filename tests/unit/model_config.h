/* A model's config on one line: architecture, layers, dim, heads, kv_heads, ffn, seq_len, vocab,
 * tied, and then any designated members. */
#ifndef DP_TESTS_MODEL_CONFIG_H
#define DP_TESTS_MODEL_CONFIG_H

#include "trainer/model.h"

#define CONFIG(a, l, d, h, kv, f, t, v, tie, ...)                                                  \
    {.arch = (a),                                                                                  \
     .layers = (l),                                                                                \
     .dim = (d),                                                                                   \
     .heads = (h),                                                                                 \
     .kv_heads = (kv),                                                                             \
     .ffn = (f),                                                                                   \
     .seq_len = (t),                                                                               \
     .vocab = (v),                                                                                 \
     .tied = (tie),                                                                                \
     __VA_ARGS__}

#endif

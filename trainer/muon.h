/* trainer/muon.h - Muon: momentum, orthogonalised by Newton-Schulz, for one matrix.
 *
 *   m += (g - m)(1 - momentum);  u = nesterov ? g + momentum (m - g) : m;
 *   X = u / max(|u|, 1e-7), transposed when it has more rows than columns;
 *   five times  A = X X^T;  X = (3.4445 I - 4.7750 A + 2.0315 A A) X;
 *   w = w (1 - lr decay) - lr f X,   f = sqrt(max(1, rows/cols)), or with rms 0.2 sqrt(max(rows, cols))
 *
 * as torch.optim.Muon does ("original", "match_rms_adamw"), but in fp32 where torch rounds X to
 * bf16; tests/data/trainer/muon.safetensors compares. A tensor is taken as it stands: GPT-2's c_attn
 * is one matrix. Memory: 2 rows cols + 2 min(rows, cols)^2 floats of the largest matrix, and gemm's.
 * Bits: as gemm.h promises. Thread-safety: one caller. */
#ifndef DP_TRAINER_MUON_H
#define DP_TRAINER_MUON_H

#include "base/err.h"
#include "base/thread.h"

#include <stdbool.h>
#include <stdint.h>

struct dp_muon;
/* Room for matrices of at most `elements` elements and `side` = min(rows, cols). */
int dp_muon_open(struct dp_muon **out, int64_t elements, int64_t side, struct dp_err *e);
void dp_muon_close(struct dp_muon *u);

struct dp_muon_rates {
    double lr, decay, momentum; /* decay: w loses lr * decay of itself */
    float grad_scale;
    bool nesterov, rms;
};
void dp_muon_step(struct dp_muon *u, struct dp_pool *pool, const struct dp_muon_rates *r, int64_t rows,
                  int64_t cols, const float *g, float *w, float *m);

#endif

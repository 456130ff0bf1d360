/* dedup/minhash.h - MinHash signatures of word shingles.
 *
 * Slot j of a document is min over its shingles s of a[j] * x(s) + b[j] mod 2^32 (a odd; Broder 1997 with multiply-add hashing),
 * so that P(slot equal) is close to the Jaccard similarity of two documents' shingle sets. The first half of the slots takes x from
 * the high, the second half from the low 32 bits of the shingle's 64-bit hash: documents with one or two shingles
 * would otherwise be equal by accident after some 65,000 of them; so the whole signature needs a 64-bit collision.
 *
 * Kernels (scalar, AVX2, AVX-512) give identical bytes. Memory: 8.5 KB of constants, no allocation. Thread-safety: a struct
 * dp_minhash is read-only after init; scratch belongs to one worker. Limits: bands * rows <= DP_MINHASH_SLOTS_MAX. */
#ifndef DP_DEDUP_MINHASH_H
#define DP_DEDUP_MINHASH_H

#include "base/err.h"
#include "base/span.h"
#include "dedup/shingle.h"

#include <stdbool.h>
#include <stdint.h>

enum { DP_MINHASH_SLOTS_MAX = 1024, DP_MINHASH_PAD = 16 };

/* What makes two signatures comparable; written into every signature file. */
struct dp_sig_params {
    uint32_t bands, rows, shingle;
    bool fold_digits;
    uint64_t seed;
};
/* DP_CONFIG unless 1 <= bands * rows <= 1024 and 1 <= shingle <= 64. */
int dp_sig_params_check(const struct dp_sig_params *p, struct dp_err *e);

/* slots[j] = min(slots[j], a[j] * x[2 * i] + b[j]) for i in [0, n), j in [0, k rounded up to 16); all arrays have that room. */
typedef void (*dp_minhash_fn)(uint32_t *slots, const uint32_t *a, const uint32_t *b, size_t k, const uint32_t *x, size_t n);
/* Positions where p and q are equal, of k. */
typedef uint32_t (*dp_agree_fn)(const uint16_t *p, const uint16_t *q, size_t k);

#define DP_MINHASH_KERNELS(X) X(scalar) X(avx2) X(avx512)
#define X(level)                                                                                   \
    void dp_minhash_##level(uint32_t *slots, const uint32_t *a, const uint32_t *b, size_t k, const uint32_t *x, size_t n); \
    uint32_t dp_agree_##level(const uint16_t *p, const uint16_t *q, size_t k);
DP_MINHASH_KERNELS(X)
#undef X

struct dp_minhash_dsp {
    dp_minhash_fn update;
    dp_agree_fn agree;
};
/* The kernels of the CPU level in force. */
void dp_minhash_dsp_init(struct dp_minhash_dsp *d);

struct dp_minhash {
    struct dp_sig_params params;
    uint32_t slots; /* bands * rows */
    uint32_t half;  /* slots that take the high bits */
    struct dp_minhash_dsp dsp;
    uint32_t a[2][DP_MINHASH_SLOTS_MAX / 2 + DP_MINHASH_PAD];
    uint32_t b[2][DP_MINHASH_SLOTS_MAX / 2 + DP_MINHASH_PAD];
};
struct dp_minhash_scratch {
    struct dp_shingler shingler;
    uint32_t slots[2][DP_MINHASH_SLOTS_MAX / 2 + DP_MINHASH_PAD];
};
int dp_minhash_init(struct dp_minhash *m, const struct dp_sig_params *p, struct dp_err *e);
/* Fills out[0, m->slots); returns the document's words. 0: no words, and out is untouched (never a near duplicate). */
uint64_t dp_minhash_text(const struct dp_minhash *m, struct dp_minhash_scratch *s, struct dp_span text, uint32_t *out);
/* Key of band `band`, 64 bits over its rows and its number. Little endian machines only, as all of dpipe. */
uint64_t dp_minhash_band(const uint32_t *slots, uint32_t rows, uint32_t band);

#endif

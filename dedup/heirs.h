/* dedup/heirs.h - who stands in for a dropped document: kept documents that are similar to it, but not to its representative.
 *
 * A map from document to a short list, in the order of adding. At most DP_HEIRS_MAX a document; more are forgotten.
 * Memory: 8 bytes an entry, 8 to 16 a document that has any. Thread-safety: one owner. */
#ifndef DP_DEDUP_HEIRS_H
#define DP_DEDUP_HEIRS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { DP_HEIRS_MAX = 32 };

struct dp_heirs {
    struct dp_heirs_entry *table; /* open addressing; a power of two */
    size_t cap, used;
    struct dp_heirs_node *nodes;
    size_t n_nodes, nodes_cap;
};
/* A zeroed struct is an empty map. */
void dp_heirs_release(struct dp_heirs *h);
int dp_heirs_add(struct dp_heirs *h, uint32_t of, uint32_t heir, struct dp_err *e);
/* Into out[DP_HEIRS_MAX], the latest first; returns how many. */
size_t dp_heirs_get(const struct dp_heirs *h, uint32_t of, uint32_t *out);

#endif

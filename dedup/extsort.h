/* dedup/extsort.h - sort more 16-byte records than memory holds.
 *
 * Records come back ascending by (key, val), equal ones as often as they were added; the order of adding and the
 * memory don't show. Use: open, add..., finish, then (rewind, next...) as often as wanted, close.
 * Memory: `bytes` at most for records, aux space and merge buffers, allocated as needed (64 KB at least).
 * Disk: 16 bytes a record in one unlinked file in `dir`, once more for each further merge pass (one a ~bytes / 16 KB fold).
 * Thread-safety: one owner; different sorters may work in parallel. */
#ifndef DP_DEDUP_EXTSORT_H
#define DP_DEDUP_EXTSORT_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct dp_rec {
    uint64_t key, val;
};
struct dp_extsort;
/* `what` names the content in errors; a string that lives as long as the sorter, as must `dir`. */
int dp_extsort_open(struct dp_extsort **out, const char *dir, const char *what, size_t bytes, struct dp_err *e);
int dp_extsort_add(struct dp_extsort *s, uint64_t key, uint64_t val, struct dp_err *e);
int dp_extsort_finish(struct dp_extsort *s, struct dp_err *e);
int dp_extsort_rewind(struct dp_extsort *s, struct dp_err *e);
/* DP_OK, or DP_EOF after the last. */
int dp_extsort_next(struct dp_extsort *s, struct dp_rec *r, struct dp_err *e);
uint64_t dp_extsort_count(const struct dp_extsort *s);
void dp_extsort_close(struct dp_extsort *s);

/* The sort of one block, in RAM: MSD radix with `aux` of the same size. O(16 n) whatever the keys. */
/* Returns early, unsorted, when work is to stop (dp_progress_stopped). */
void dp_rec_sort(struct dp_rec *a, struct dp_rec *aux, size_t n);

#endif

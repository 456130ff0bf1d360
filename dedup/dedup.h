/* dedup/dedup.h - which documents of a set of signature files stay.
 *
 * Documents have global numbers: row 0 of input 0 is 0, inputs follow one another in the order given.
 * 1. Exact: of documents with the same 128-bit content hash the best stays (`keep` policy, ties by number).
 * 2. Near, without `closure`: a document is a duplicate when a kept document shares a band with it and the share of equal signature
 *    slots is >= similarity; the most similar such stands for it. Better documents decide first. No chains: A~B~C doesn't
 *    drop C for A.
 *    With `closure` (the FineWeb behaviour): documents that share a band, and what they share bands with, are one cluster; the best stays.
 * Documents without signature (no words) are only ever exact duplicates.
 *
 * Limits of step 2, which keep it near-linear on hostile input: within one band bucket a document is compared with at most 96
 * others: 64 that aren't similar to each other (the 32 best and the 32 latest), and when it is similar to none, the 32 latest of the
 * rest. So in a bucket with more mutually dissimilar documents a pair can be missed, unless another band joins it. Documents similar
 * to dropped ones only are compared with what stands for those (cluster.c), also without a shared band.
 *
 * Growth: inputs that were decided before stay as decided. Of the new documents one that has the text of an old one, kept or dropped, is
 * dropped for what stands for that; one that is similar to old kept ones is dropped for the most similar kept one, old or new; the rest is
 * decided among itself as above. Dropped old ones drop nobody by similarity (no chains over growth either); with `closure` they do. In a bucket
 * of step 2 all kept old ones are compared with as if they weren't similar to each other: the 32 lowest numbers and the 32 latest.
 *
 * Output is the same whatever the threads and the memory. With keep=longest or best the order of the inputs
 * matters only between documents that the policy holds for equal.
 * Memory: memory_bytes, and 13 bytes a document (a mapped temporary file where that is over a sixteenth of memory_bytes), and up to
 * 100 bytes for each kept document that is similar to dropped ones only (few).
 * Disk in tmp_dir: 16 * bands + 2 * bands * rows + 50 bytes a document and 16 bytes a similar pair (twice when memory is short: further merge passes),
 * unlinked at birth. Of old documents only those that share a key with a new one count (and a false one in 16, by a filter of memory_bytes/16), with
 * `closure` all kept ones.
 * Limits: 2^32 - 2 documents a run. */
#ifndef DP_DEDUP_DEDUP_H
#define DP_DEDUP_DEDUP_H

#include "base/opt.h"
#include "base/thread.h"

#include <stdbool.h>
#include <stdint.h>

enum dp_dedup_keep { DP_DEDUP_LONGEST, DP_DEDUP_FIRST, DP_DEDUP_BEST };

struct dp_dedup_options {
    double similarity;
    bool closure, exact, near;
    int keep; /* enum dp_dedup_keep */
    uint64_t memory_bytes;
};
/* Rows over struct dp_dedup_options. Bands, rows, shingle and seed are the signature files' own. */
extern const struct dp_opt dp_dedup_opts[];

struct dp_dedup_totals {
    uint64_t docs, exact_dups, near_dups;
    uint64_t clusters, largest; /* clusters of two and more; documents of the largest */
};

/* sig_paths[i]: signature files, each in document order, all of the same parameters (else DP_CONFIG).
 * keep_paths[i]: created, one keep file (keepfile.h) for each input, fsynced. report_path (may be NULL): created, a JSON line for each
 * cluster, the largest first, then by number: {"cluster":N,"input":I,"row":R,"size":S,"members":[{"doc","input","row","similarity",
 * "exact"}...]}; members are the dropped documents by number, 1000 at most ("size" counts all and the representative).
 * tmp_dir: an existing folder, left as it was. On failure no output file is left. pool may be NULL. */
int dp_dedup_run(const struct dp_dedup_options *o, size_t n, const char *const *sig_paths, const char *const *keep_paths,
                 const char *report_path, const char *tmp_dir, struct dp_pool *pool, struct dp_dedup_totals *t, struct dp_err *e);
/* The same behind earlier inputs: the first `frozen` of the n are decided, and keep_paths[i < frozen] are their keep files, which are read. They must
 * be what this function gave for those inputs in this order (else DP_CORRUPT). Totals, report and new keep files are of the other inputs'
 * documents; representatives may be old ones. */
int dp_dedup_append(const struct dp_dedup_options *o, size_t frozen, size_t n, const char *const *sig_paths, const char *const *keep_paths,
                    const char *report_path, const char *tmp_dir, struct dp_pool *pool, struct dp_dedup_totals *t, struct dp_err *e);

#endif

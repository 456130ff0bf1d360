/* dedup/dedup_impl.h - the state that the steps of one dp_dedup_run share. Private to dedup/.
 *
 * Work is cut into DP_LANES by the top bits of a record's key, never by threads; each lane has its own sorters, so that
 * lanes run in parallel without locks, and a run's result doesn't depend on who ran them. */
#ifndef DP_DEDUP_DEDUP_IMPL_H
#define DP_DEDUP_DEDUP_IMPL_H

#include "base/hash.h"
#include "dedup/dedup.h"
#include "dedup/extsort.h"
#include "dedup/minhash.h"

enum { DP_LANES = 16, DP_LANE_SHIFT = 60, DP_LOOK_DOCS = 1 << 18 /* documents between looks whether to stop */ };
#define DP_SKETCH_NONE UINT32_MAX

/* What is decided of a document; one byte each. */
enum dp_state {
    DP_ST_KEPT = 0, /* so far */
    DP_ST_EXACT = 1,
    DP_ST_NEAR = 2,
};

/* A document's sketch: content hash, then the low 16 bits of each slot (two unequal slots agree there once in 65,536). */
struct dp_sketch {
    struct dp_hash128 hash;
    uint16_t slots[];
};

struct dp_dedup_lane {
    struct dp_extsort *exact; /* hash key -> prio:doc */
    struct dp_extsort *bands; /* band key -> prio:doc */
    struct dp_extsort *edges; /* prio:doc of the worse -> the better:agreeing slots */
    int rc;
    struct dp_err err;
};

struct dp_dedup_state {
    const struct dp_dedup_options *o;
    const char *tmp_dir;
    struct dp_pool *pool;
    size_t n_inputs, frozen_inputs;
    uint64_t *first; /* n_inputs + 1: global number of each input's row 0 */
    uint32_t docs;
    uint32_t frozen; /* documents of the frozen inputs: numbers below this are decided */
    struct dp_sig_params params;
    uint32_t slots, agree_min;
    struct dp_minhash_dsp dsp;
    /* 13 bytes a document, in one block */
    uint32_t *prio; /* smaller is better; of a frozen document: where its sketch is, or DP_SKETCH_NONE */
    uint32_t *rep;  /* representative of a dropped one */
    float *sim;
    uint8_t *state;
    void *block;
    size_t block_bytes;
    bool block_mapped;
    /* sketches of the new documents, then of frozen ones that may matter: in RAM or in a temporary file */
    char *sketch_ram;
    int sketch_fd;
    uint32_t sketch_bytes;
    uint64_t sketches, sketch_cap; /* there are; fit into sketch_ram */
    uint64_t *filter, filter_mask; /* the new documents' keys; NULL when nothing is frozen */
    struct dp_dedup_lane lane[DP_LANES];
};

/* Frozen documents are better than all others, in the order of their numbers. */
static inline uint64_t dp_rank(const struct dp_dedup_state *s, uint32_t doc)
{
    return doc < s->frozen ? doc : (uint64_t)s->prio[doc] << 32 | doc;
}
/* The sketch of doc: a pointer into RAM, or `buf` (sketch_bytes) filled from the file. NULL with e set on failure. */
const struct dp_sketch *dp_sketch_get(const struct dp_dedup_state *s, uint32_t doc, void *buf, struct dp_err *e);

/* dedup/frozen.c: decisions of the frozen inputs, and which of their keys a new document has. Adding is safe from several threads for keys of
 * different lanes. */
int dp_frozen_load(struct dp_dedup_state *s, const char *const *keep_paths, struct dp_err *e);
int dp_filter_open(struct dp_dedup_state *s, struct dp_err *e);
void dp_filter_add(struct dp_dedup_state *s, uint64_t key);
bool dp_filter_has(const struct dp_dedup_state *s, uint64_t key);

/* dedup/cluster.c: settle s->state, rep and sim of all documents. */
int dp_cluster_exact(struct dp_dedup_state *s, struct dp_err *e);
int dp_cluster_near(struct dp_dedup_state *s, struct dp_err *e);
/* Run fn for every lane on the pool; the first lane's failure, if any. */
int dp_lanes_run(struct dp_dedup_state *s, int (*fn)(struct dp_dedup_state *s, size_t lane, struct dp_err *e), struct dp_err *e);

/* dedup/dedup_report.c: of the new documents alone */
int dp_dedup_write_keep(const struct dp_dedup_state *s, const char *const *keep_paths, struct dp_err *e);
int dp_dedup_write_report(struct dp_dedup_state *s, const char *path, struct dp_dedup_totals *t, struct dp_err *e);

#endif

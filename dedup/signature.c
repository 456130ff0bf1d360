#include "dedup/signature.h"

#include "base/hash.h"

struct signature {
    int64_t bands, rows, shingle, seed;
    bool fold_digits;
    struct dp_minhash mh;
};

static const struct dp_opt opts[] = {
    {"bands", DP_OPT_INT, offsetof(struct signature, bands), "14", 1, DP_MINHASH_SLOTS_MAX, NULL, "N",
     "LSH bands: more find less similar pairs.", 0, 0},
    {"rows", DP_OPT_INT, offsetof(struct signature, rows), "8", 1, DP_MINHASH_SLOTS_MAX, NULL, "N",
     "Signature slots a band: more ask for more similar pairs.", 0, 0},
    {"shingle", DP_OPT_INT, offsetof(struct signature, shingle), "5", 1, DP_SHINGLE_MAX, NULL, "N", "Words of a shingle.", 0, 0},
    {"seed", DP_OPT_INT, offsetof(struct signature, seed), "1", 0, 0, NULL, "N", "Seed of the hash functions.", 0, 0},
    {"fold_digits", DP_OPT_BOOL, offsetof(struct signature, fold_digits), "false", 0, 0, NULL, NULL,
     "Take every number for the same number.", 0, 0},
    DP_OPT_END,
};

struct dp_sig_params dp_stage_signature_params(const void *ctx)
{
    const struct signature *s = ctx;
    return (struct dp_sig_params){.bands = (uint32_t)s->bands, .rows = (uint32_t)s->rows, .shingle = (uint32_t)s->shingle,
                                  .fold_digits = s->fold_digits, .seed = (uint64_t)s->seed};
}

static int signature_open(void *ctx, struct dp_err *e)
{
    struct signature *s = ctx;
    struct dp_sig_params p = dp_stage_signature_params(ctx);
    return dp_minhash_init(&s->mh, &p, e);
}

static int signature_run(const void *ctx, void *worker, struct dp_batch *b, struct dp_err *e)
{
    const struct signature *s = ctx;
    const size_t bytes = s->mh.slots * sizeof(uint32_t);
    uint32_t *slots = NULL; /* room for the next signature: a text without words leaves it to the row after */
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->drop[i] != DP_DROP_KEEP) continue;
        b->hash[i] = dp_hash128(b->text[i].ptr, b->text[i].len);
        if (!slots) slots = dp_arena_alloc(&b->mem, bytes);
        if (!slots) DP_FAIL(e, NOMEM, "signature of row %u: %zu bytes more than the batch's arena of %zu has", i, bytes, b->mem.bytes_max);
        b->sig[i] = NULL;
        if (dp_minhash_text(&s->mh, worker, b->text[i], slots)) {
            b->sig[i] = slots;
            slots = NULL;
        }
    }
    return DP_OK;
}

const struct dp_stage_type dp_stage_signature = {
    .name = "signature",
    .summary = "Content hash and MinHash signature of every document, for dedup.",
    .version = 1,
    .needs = DP_COL_TEXT,
    .fills = DP_COL_HASH | DP_COL_SIG,
    .opts = opts,
    .ctx_size = sizeof(struct signature),
    .worker_size = sizeof(struct dp_minhash_scratch),
    .open = signature_open,
    .run = signature_run,
};

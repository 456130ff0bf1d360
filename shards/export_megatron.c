/* Megatron-LM's IndexedDataset, version 1 (megatron/core/datasets/indexed_dataset.py):
 *
 *   P.idx  "MMIDIDX\0\0" (9 bytes) | u64 version 1 | u8 type (8: uint16, 4: int32)
 *          | u64 sequences | u64 documents + 1 | int32 length[sequences]
 *          | int64 byte offset[sequences] | int64 document_index[documents + 1]
 *   P.bin  the ids.
 *
 * One document is one sequence. Readers take uint16 when the vocabulary is below 65,500, else int32
 * (there is no uint32 code): a vocabulary of 65,500 to 65,536 is therefore widened. Documents
 * without ids (only possible without an EOT) are left out, since Megatron's own preprocessing
 * writes none. Arrays follow a header of 34 bytes and are unaligned, as the format has them. */
#include "shards/export_file.h"

#include <inttypes.h>

enum { IDX_LENGTHS, IDX_OFFSETS };
struct idx {
    struct dp_export_file f;
    uint64_t sequences, width;
    int pass;
};

static int count(void *ctx, uint64_t first, uint64_t n, struct dp_err *e)
{
    struct idx *x = ctx;
    (void)first;
    (void)e;
    x->sequences += n != 0;
    return DP_OK;
}

static int put(void *ctx, uint64_t first, uint64_t n, struct dp_err *e)
{
    struct idx *x = ctx;
    int32_t length = (int32_t)n; /* a shard, and so a document, has at most 2^30 ids */
    int64_t offset = (int64_t)(first * x->width);
    if (!n) return DP_OK;
    return x->pass == IDX_LENGTHS ? dp_out_add(x->f.out, &length, 4, e)
                                  : dp_out_add(x->f.out, &offset, 8, e);
}

static int write_idx(const struct dp_export_set *set, struct idx *x, struct dp_err *e)
{
    DP_TRY(dp_export_documents(set, count, x, e));
    uint64_t version = 1, documents = x->sequences + 1;
    uint8_t type = x->width == 2 ? 8 : 4;
    DP_TRY(dp_out_add(x->f.out, "MMIDIDX\0", 9, e));
    DP_TRY(dp_out_add(x->f.out, &version, 8, e));
    DP_TRY(dp_out_add(x->f.out, &type, 1, e));
    DP_TRY(dp_out_add(x->f.out, &x->sequences, 8, e));
    DP_TRY(dp_out_add(x->f.out, &documents, 8, e));
    for (x->pass = IDX_LENGTHS; x->pass <= IDX_OFFSETS; x->pass++)
        DP_TRY(dp_export_documents(set, put, x, e));
    for (int64_t d = 0; d <= (int64_t)x->sequences; d++) DP_TRY(dp_out_add(x->f.out, &d, 8, e));
    return DP_OK;
}

int dp_export_megatron(const struct dp_export_set *set, struct dp_err *e)
{
    struct idx x = {.width = set->m->meta.vocab_size < 65500 ? 2 : 4};
    struct dp_export_file bin = {0};
    int rc = DP_OK;
    DP_TRY_OUT(dp_export_body(set, &bin, ".bin", (int)x.width, e));
    DP_TRY_OUT(dp_export_file_open(&x.f, set->prefix, ".idx", e));
    DP_TRY_OUT(write_idx(set, &x, e));
    DP_TRY_OUT(dp_export_file_publish(&bin, e));
    DP_TRY_OUT(dp_export_file_publish(&x.f, e));
out:
    dp_export_file_close(&bin);
    dp_export_file_close(&x.f);
    return rc;
}

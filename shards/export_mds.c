/* MosaicML's StreamingDataset, index version 2 (streaming/base/format/mds/writer.py):
 *
 *   shard.NNNNN.mds  u32 samples | u32 offset[samples + 1], from the file's start | JSON of the
 *                    columns | samples
 *   a sample         u32 bytes of the value | value; one column, "tokens"
 *   the value        "ndarray:uint16" or ":uint32" of one dimension: u8 1 << 2 | width of the
 *                    length (0: u8, 1: u16, 2: u32) | length | ids
 *   index.json       each shard's columns, sizes, SHA-256, samples
 *
 * One document is one sample; those without ids are left out, since the format has no empty array.
 * Shards are cut where MDSWriter cuts them, and the JSON has its spelling, so that the files are
 * those that it would write for these arrays (the compressed ones but for zstd's version). Offsets
 * are u32: a document of 4 GiB doesn't fit.
 * Memory: 4 bytes a document of one shard; compressing also holds the shard twice. */
#include "shards/export_file.h"

#include "base/zstd.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLE_EXTRA = 4 }; /* its offset */

struct mds {
    const struct dp_export_set *set;
    struct dp_zstd_writer *zstd;
    struct dp_buf raw, packed, index;
    char columns[160], rest[160]; /* members of the config before and behind the shard's own */
    char config[320];
    uint64_t first, next; /* ids of the shard being gathered: [first, next) */
    uint32_t *n;          /* ids of each of its documents */
    size_t docs, cap;
    uint64_t size; /* as MDSWriter counts it */
    uint64_t shards;
};

static size_t value_head(uint64_t n, uint8_t head[5])
{
    int width = n < 256 ? 1 : n < 65536 ? 2 : 4;
    uint32_t v = (uint32_t)n;
    head[0] = (uint8_t)(1 << 2 | (width == 1 ? 0 : width == 2 ? 1 : 2));
    memcpy(head + 1, &v, (size_t)width);
    return (size_t)width + 1;
}

static uint64_t value_bytes(const struct mds *x, uint64_t n)
{
    uint8_t head[5];
    return value_head(n, head) + n * (uint64_t)x->set->m->meta.dtype;
}

static int put_shard(const struct mds *x, struct dp_export_file *f, struct dp_err *e)
{
    uint32_t count = (uint32_t)x->docs;
    uint64_t at = 4 + 4 * ((uint64_t)count + 1) + strlen(x->config), first = x->first;
    uint32_t offset = (uint32_t)at;
    DP_TRY(dp_export_add(f, &count, 4, e));
    DP_TRY(dp_export_add(f, &offset, 4, e));
    for (size_t d = 0; d < x->docs; d++) {
        at += 4 + value_bytes(x, x->n[d]);
        if (at > UINT32_MAX)
            DP_FAIL(e, LIMIT, "mds: documents of %" PRIu64 " bytes in one shard; its offsets end at 4 GiB", at);
        offset = (uint32_t)at;
        DP_TRY(dp_export_add(f, &offset, 4, e));
    }
    DP_TRY(dp_export_add(f, x->config, strlen(x->config), e));
    for (size_t d = 0; d < x->docs; d++) {
        uint8_t head[5];
        uint32_t bytes = (uint32_t)value_bytes(x, x->n[d]);
        DP_TRY(dp_export_add(f, &bytes, 4, e));
        DP_TRY(dp_export_add(f, head, value_head(x->n[d], head), e));
        DP_TRY(dp_export_ids(x->set, f, first, x->n[d], x->set->m->meta.dtype, e));
        first += x->n[d];
    }
    return DP_OK;
}

static void index_file(struct mds *x, const char *member, const char *name, uint64_t bytes,
                       const char *sha256)
{
    dp_buf_printf(&x->index,
                  "\"%s\": {\"basename\": \"%s\", \"bytes\": %" PRIu64
                  ", \"hashes\": {\"sha256\": \"%s\"}}",
                  member, name, bytes, sha256);
}

static int write_file(const struct mds *x, const char *name, struct dp_span content, char hex[65],
                      struct dp_err *e)
{
    char *path = dp_fs_join(x->set->prefix, name);
    struct dp_out *out = NULL;
    int rc = path ? dp_out_open(&out, path, true, e) : DP_NOMEM;
    if (rc >= 0 && !content.ptr) {
        struct dp_export_file f = {.out = out};
        rc = put_shard(x, &f, e);
    } else if (rc >= 0) rc = dp_out_add(out, content.ptr, content.len, e);
    if (rc >= 0) rc = dp_out_finish(out, hex, e);
    dp_out_close(out);
    free(path);
    return rc;
}

static uint64_t raw_bytes(const struct mds *x)
{
    uint64_t bytes = 4 + 4 * ((uint64_t)x->docs + 1) + strlen(x->config);
    for (size_t d = 0; d < x->docs; d++) bytes += 4 + value_bytes(x, x->n[d]);
    return bytes;
}

static int flush(struct mds *x, struct dp_err *e)
{
    char name[32], zip[40], hex[DP_HEX256], zip_hex[DP_HEX256];
    uint64_t bytes = raw_bytes(x);
    if (!x->docs) return DP_OK;
    snprintf(name, sizeof name, "shard.%05" PRIu64 ".mds", x->shards);
    snprintf(zip, sizeof zip, "%s.zstd", name);
    if (x->zstd) {
        struct dp_export_file f = {.buf = &x->raw};
        dp_buf_clear(&x->raw);
        dp_buf_clear(&x->packed);
        DP_TRY(put_shard(x, &f, e));
        DP_TRY(dp_sha256_span(dp_buf_span(&x->raw), hex, e));
        DP_TRY(dp_zstd_frame(x->zstd, dp_buf_span(&x->raw), &x->packed, e));
        DP_TRY(write_file(x, zip, dp_buf_span(&x->packed), zip_hex, e));
    } else DP_TRY(write_file(x, name, (struct dp_span){NULL, 0}, hex, e));
    dp_buf_printf(&x->index, "%s{%s, ", x->shards ? ", " : "", x->columns);
    index_file(x, "raw_data", name, bytes, hex);
    dp_buf_printf(&x->index, ", \"samples\": %zu, %s", x->docs, x->rest);
    if (x->zstd) index_file(x, "zip_data", zip, x->packed.len, zip_hex);
    else dp_buf_add_str(&x->index, "\"zip_data\": null");
    dp_buf_add_char(&x->index, '}');
    x->shards++;
    x->docs = 0;
    return dp_buf_check(&x->index, "index.json", e);
}

static int gather(void *ctx, uint64_t first, uint64_t n, struct dp_err *e)
{
    struct mds *x = ctx;
    uint64_t own = 8 + strlen(x->config), more = SAMPLE_EXTRA + 4 + value_bytes(x, n);
    if (!n) return DP_OK;
    if (x->docs && x->set->mds_bytes < x->size + more) DP_TRY(flush(x, e));
    if (!x->docs) {
        x->first = first;
        x->size = own;
    }
    if (x->docs == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 4096;
        uint32_t *p = realloc(x->n, cap * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "mds: %zu documents of a shard", cap);
        x->n = p;
        x->cap = cap;
    }
    x->n[x->docs++] = (uint32_t)n;
    x->size += more;
    return DP_OK;
}

int dp_export_mds(const struct dp_export_set *set, struct dp_err *e)
{
    struct mds x = {.set = set};
    char hex[DP_HEX256];
    int rc = DP_OK;
    snprintf(x.columns, sizeof x.columns,
             "\"column_encodings\": [\"ndarray:uint%d\"], \"column_names\": [\"tokens\"], "
             "\"column_sizes\": [null], \"compression\": %s, \"format\": \"mds\", "
             "\"hashes\": [\"sha256\"]",
             set->m->meta.dtype * 8, set->mds_zstd ? "\"zstd\"" : "null");
    snprintf(x.rest, sizeof x.rest, "\"size_limit\": %" PRIu64 ", \"version\": 2, ", set->mds_bytes);
    snprintf(x.config, sizeof x.config, "{%s, \"size_limit\": %" PRIu64 ", \"version\": 2}",
             x.columns, set->mds_bytes);
    dp_buf_init(&x.raw, (size_t)UINT32_MAX + 1);
    dp_buf_init(&x.packed, (size_t)UINT32_MAX + ((size_t)64 << 20));
    dp_buf_init(&x.index, (size_t)1 << 30);
    if (set->mds_zstd) DP_TRY_OUT(dp_zstd_writer_open(&x.zstd, 3, e));
    dp_buf_add_str(&x.index, "{\"shards\": [");
    DP_TRY_OUT(dp_export_documents(set, gather, &x, e));
    DP_TRY_OUT(flush(&x, e));
    dp_buf_add_str(&x.index, "], \"version\": 2}");
    DP_TRY_OUT(dp_buf_check(&x.index, "index.json", e));
    DP_TRY_OUT(write_file(&x, "index.json", dp_buf_span(&x.index), hex, e));
out:
    dp_zstd_writer_close(x.zstd);
    dp_buf_release(&x.raw);
    dp_buf_release(&x.packed);
    dp_buf_release(&x.index);
    free(x.n);
    return rc;
}

/* The formats whose body is the bare ids: nanoGPT, datatrove, OLMo-core.
 *
 * nanoGPT (train.py): headerless uint16.
 * datatrove (pipeline/tokens/tokenizer.py): P.ds ids; P.ds.index u64 document ends in ids;
 *   P.ds.metadata text: "TOKENIZER|BYTES PER ID", count of ids, the count for people.
 * OLMo-core (data/utils.py): P.npy is a headerless memory map; P.csv.gz has a line "start,end" for
 *   each document, in ids. The gzip is made of stored blocks (RFC 1951, 3.2.4), which needs no
 *   compressor; lines are small beside the ids they describe. */
#include "shards/export_file.h"

#include <inttypes.h>
#include <stdio.h>

int dp_export_nanogpt(const struct dp_export_set *set, struct dp_err *e)
{
    struct dp_export_file f = {0};
    int rc = DP_OK;
    if (set->m->meta.dtype != DP_SHARD_U16)
        DP_FAIL(e, CONFIG, "%s: a vocabulary of %" PRIu32 "; nanoGPT reads 16-bit ids only",
                set->manifest_path, set->m->meta.vocab_size);
    DP_TRY_OUT(dp_export_body(set, &f, ".bin", DP_SHARD_U16, e));
    DP_TRY_OUT(dp_export_file_publish(&f, e));
out:
    dp_export_file_close(&f);
    return rc;
}

static int put_end(void *ctx, uint64_t first, uint64_t n, struct dp_err *e)
{
    struct dp_export_file *f = ctx;
    uint64_t end = first + n;
    return dp_out_add(f->out, &end, 8, e);
}

static int put_metadata(const struct dp_export_set *set, struct dp_export_file *f, struct dp_err *e)
{
    static const char units[] = " KMGTPE";
    char hex[DP_HEX128], text[160];
    double people = (double)set->m->tokens;
    int u = 0;
    while (people >= 1000 && units[u + 1]) {
        people /= 1000;
        u++;
    }
    dp_hash128_hex(set->m->meta.tokenizer, hex);
    int n = snprintf(text, sizeof text, "dpipe-%s|%d\n%" PRIu64 "\n%.3g %.*sT", hex,
                     set->m->meta.dtype, set->m->tokens, people, u > 0, &units[u]);
    return dp_out_add(f->out, text, (size_t)n, e);
}

int dp_export_datatrove(const struct dp_export_set *set, struct dp_err *e)
{
    struct dp_export_file ds = {0}, index = {0}, meta = {0};
    int rc = DP_OK;
    DP_TRY_OUT(dp_export_body(set, &ds, ".ds", set->m->meta.dtype, e));
    DP_TRY_OUT(dp_export_file_open(&index, set->prefix, ".ds.index", e));
    DP_TRY_OUT(dp_export_documents(set, put_end, &index, e));
    DP_TRY_OUT(dp_export_file_open(&meta, set->prefix, ".ds.metadata", e));
    DP_TRY_OUT(put_metadata(set, &meta, e));
    DP_TRY_OUT(dp_export_file_publish(&index, e));
    DP_TRY_OUT(dp_export_file_publish(&meta, e));
    DP_TRY_OUT(dp_export_file_publish(&ds, e));
out:
    dp_export_file_close(&ds);
    dp_export_file_close(&index);
    dp_export_file_close(&meta);
    return rc;
}

struct gz {
    struct dp_export_file f;
    uint32_t crc, size;
    uint16_t fill;
    char block[65535];
};

/* CRC-32 of gzip (RFC 1952, 8), four bits a step: the texts are small. */
static uint32_t crc32_add(uint32_t crc, const char *p, size_t n)
{
    static const uint32_t t[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                   0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                   0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                   0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned char)p[i];
        crc = crc >> 4 ^ t[crc & 15];
        crc = crc >> 4 ^ t[crc & 15];
    }
    return ~crc;
}

static int gz_flush(struct gz *g, bool last, struct dp_err *e)
{
    uint8_t head[5] = {last, (uint8_t)g->fill, (uint8_t)(g->fill >> 8), (uint8_t)~g->fill,
                       (uint8_t)(~g->fill >> 8)};
    DP_TRY(dp_out_add(g->f.out, head, sizeof head, e));
    DP_TRY(dp_out_add(g->f.out, g->block, g->fill, e));
    g->fill = 0;
    return DP_OK;
}

static int put_line(void *ctx, uint64_t first, uint64_t n, struct dp_err *e)
{
    struct gz *g = ctx;
    char line[64];
    int k = snprintf(line, sizeof line, "%" PRIu64 ",%" PRIu64 "\n", first, first + n);
    if (!n) return DP_OK; /* no ids, no document for its reader */
    if (g->fill + (size_t)k > sizeof g->block) DP_TRY(gz_flush(g, false, e));
    memcpy(g->block + g->fill, line, (size_t)k);
    g->fill = (uint16_t)(g->fill + k);
    g->crc = crc32_add(g->crc, line, (size_t)k);
    g->size += (uint32_t)k;
    return DP_OK;
}

int dp_export_olmo(const struct dp_export_set *set, struct dp_err *e)
{
    static const uint8_t head[10] = {
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}; /* no name, no time: equal input, equal bytes */
    struct dp_export_file npy = {0};
    struct gz g;
    int rc = DP_OK;
    memset(&g, 0, sizeof g);
    DP_TRY_OUT(dp_export_body(set, &npy, ".npy", set->m->meta.dtype, e));
    DP_TRY_OUT(dp_export_file_open(&g.f, set->prefix, ".csv.gz", e));
    DP_TRY_OUT(dp_out_add(g.f.out, head, sizeof head, e));
    DP_TRY_OUT(dp_export_documents(set, put_line, &g, e));
    DP_TRY_OUT(gz_flush(&g, true, e));
    DP_TRY_OUT(dp_out_add(g.f.out, &g.crc, 4, e));
    DP_TRY_OUT(dp_out_add(g.f.out, &g.size, 4, e));
    DP_TRY_OUT(dp_export_file_publish(&g.f, e));
    DP_TRY_OUT(dp_export_file_publish(&npy, e));
out:
    dp_export_file_close(&npy);
    dp_export_file_close(&g.f);
    return rc;
}

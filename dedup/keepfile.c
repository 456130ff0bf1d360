/* Design. One byte would do for the decision; 16 bytes keep similarity and representative beside it, so that a dropped
 * document can be traced to the one that stands for it. Mapped for reading: consumers walk it once, in row order. */
#include "dedup/keepfile.h"

#include "base/hash.h"

#include <math.h>
#include <stdlib.h>

static const char magic[8] = "DPIPEKEP", end_magic[8] = "DPKEPEND";
enum { KEEP_VERSION = 1, TRIM_RECORDS = DP_MAP_TRIM / 16 };

struct header {
    char magic[8];
    uint32_t version, record_bytes;
    uint64_t first;
    uint32_t reserved;
    uint32_t crc; /* of the 28 bytes before */
};
struct footer {
    char magic[8];
    uint64_t count;
    uint32_t reserved[2];
    uint32_t records_crc;
    uint32_t crc; /* of the 28 bytes before */
};
struct record {
    uint8_t decision, reserved[3];
    float similarity;
    uint64_t representative;
};
_Static_assert(sizeof(struct header) == 32 && sizeof(struct footer) == 32 && sizeof(struct record) == 16, "keep file layout");

struct dp_keepfile_writer {
    struct dp_out *out;
    uint64_t count;
    uint32_t crc;
};

int dp_keepfile_writer_open(struct dp_keepfile_writer **out, struct dp_out *o, uint64_t first, struct dp_err *e)
{
    *out = NULL;
    struct dp_keepfile_writer *w = calloc(1, sizeof *w);
    if (!w) DP_FAIL(e, NOMEM, "keep file writer");
    w->out = o;
    struct header h = {.version = KEEP_VERSION, .record_bytes = sizeof(struct record), .first = first};
    memcpy(h.magic, magic, sizeof magic);
    h.crc = dp_crc32c(0, &h, offsetof(struct header, crc));
    int rc = dp_out_add(o, &h, sizeof h, e);
    if (rc < 0) {
        free(w);
        return rc;
    }
    *out = w;
    return DP_OK;
}

int dp_keepfile_writer_add(struct dp_keepfile_writer *w, const struct dp_keep_record *r, struct dp_err *e)
{
    struct record f = {.decision = (uint8_t)r->decision, .similarity = r->similarity, .representative = r->representative};
    DP_TRY(dp_out_add(w->out, &f, sizeof f, e));
    w->crc = dp_crc32c(w->crc, &f, sizeof f);
    w->count++;
    return DP_OK;
}

int dp_keepfile_writer_finish(struct dp_keepfile_writer *w, struct dp_err *e)
{
    struct footer f = {.count = w->count, .records_crc = w->crc};
    memcpy(f.magic, end_magic, sizeof end_magic);
    f.crc = dp_crc32c(0, &f, offsetof(struct footer, crc));
    return dp_out_add(w->out, &f, sizeof f, e);
}

void dp_keepfile_writer_close(struct dp_keepfile_writer *w)
{
    free(w);
}

struct dp_keepfile {
    struct dp_map map;
    char *name;
    uint64_t count, first;
};

static void record_at(const struct dp_keepfile *k, uint64_t i, struct record *r)
{
    memcpy(r, k->map.ptr + sizeof(struct header) + i * sizeof *r, sizeof *r);
}

static int check(struct dp_keepfile *k, struct dp_err *e)
{
    struct header h;
    struct footer f;
    if (k->map.len < sizeof h + sizeof f)
        DP_FAIL(e, CORRUPT, "%s: %zu bytes are too few for a keep file (64 at least)", k->name, k->map.len);
    memcpy(&h, k->map.ptr, sizeof h);
    memcpy(&f, k->map.ptr + k->map.len - sizeof f, sizeof f);
    if (memcmp(h.magic, magic, sizeof magic) != 0) DP_FAIL(e, CORRUPT, "%s: no keep file (magic at byte 0)", k->name);
    if (dp_crc32c(0, &h, offsetof(struct header, crc)) != h.crc)
        DP_FAIL(e, CORRUPT, "%s: the checksum of the header (bytes 0-31) is wrong: run dedup again", k->name);
    if (h.version != KEEP_VERSION || h.record_bytes != sizeof(struct record))
        DP_FAIL(e, CONFIG, "%s: keep file version %u, this dpipe reads %d: run dedup again", k->name, h.version, KEEP_VERSION);
    size_t bytes = k->map.len - sizeof h - sizeof f;
    if (memcmp(f.magic, end_magic, sizeof end_magic) != 0 || dp_crc32c(0, &f, offsetof(struct footer, crc)) != f.crc)
        DP_FAIL(e, CORRUPT, "%s: no footer at byte %zu: the file is cut short or was never finished; run dedup again", k->name,
                k->map.len - sizeof f);
    if (bytes % sizeof(struct record) || bytes / sizeof(struct record) != f.count)
        DP_FAIL(e, CORRUPT, "%s: %zu bytes of records, but the footer counts %llu", k->name, bytes, (unsigned long long)f.count);
    uint32_t crc = 0;
    for (size_t at = 0; at < bytes; at += DP_MAP_TRIM) {
        crc = dp_crc32c(crc, k->map.ptr + sizeof h + at, bytes - at < DP_MAP_TRIM ? bytes - at : DP_MAP_TRIM);
        dp_map_trim(&k->map);
    }
    if (crc != f.records_crc) DP_FAIL(e, CORRUPT, "%s: the checksum of the records is wrong: run dedup again", k->name);
    k->count = f.count;
    k->first = h.first;
    for (uint64_t i = 0; i < k->count; i++) {
        struct record r;
        record_at(k, i, &r);
        if (i % TRIM_RECORDS == TRIM_RECORDS - 1) dp_map_trim(&k->map);
        if (r.decision > DP_KEEP_NEAR || !isfinite(r.similarity))
            DP_FAIL(e, CORRUPT, "%s: record %llu has decision %u", k->name, (unsigned long long)i, r.decision);
    }
    return DP_OK;
}

int dp_keepfile_open(struct dp_keepfile **out, const char *path, struct dp_err *e)
{
    int rc = DP_OK;
    *out = NULL;
    struct dp_keepfile *k = calloc(1, sizeof *k);
    if (!k) DP_FAIL(e, NOMEM, "%s: keep file reader", path);
    k->name = strdup(path);
    if (!k->name) DP_GOTO(e, NOMEM, "%s: keep file reader", path);
    DP_TRY_OUT(dp_map_open(&k->map, path, e));
    DP_TRY_OUT(check(k, e));
    *out = k;
    return DP_OK;
out:
    dp_keepfile_close(k);
    return rc;
}

void dp_keepfile_close(struct dp_keepfile *k)
{
    if (!k) return;
    dp_map_close(&k->map);
    free(k->name);
    free(k);
}

uint64_t dp_keepfile_count(const struct dp_keepfile *k)
{
    return k->count;
}
uint64_t dp_keepfile_first(const struct dp_keepfile *k)
{
    return k->first;
}

int dp_keepfile_get(const struct dp_keepfile *k, uint64_t i, struct dp_keep_record *r, struct dp_err *e)
{
    if (i >= k->count)
        DP_FAIL(e, LIMIT, "%s: row %llu asked for, but it has %llu: it belongs to another document file", k->name,
                (unsigned long long)i, (unsigned long long)k->count);
    struct record f;
    record_at(k, i, &f);
    if (i % TRIM_RECORDS == TRIM_RECORDS - 1) dp_map_trim(&k->map);
    *r = (struct dp_keep_record){(enum dp_keep)f.decision, f.similarity, f.representative};
    return DP_OK;
}

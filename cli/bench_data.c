#include "cli/bench_data.h"

#include "base/fs.h"
#include "shards/manifest.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { VOCAB = 50257, DOC_MAX = 4096, PAST = 1 << 16 };
static const char *const names[] = {"flat.bin", "flat.dpx", "manifest.json", "packed.bin", "packed.dpx", "packed.json", "s" /* the ring's socket, of a server that was killed */};

int dp_bench_data_open(struct dp_bench_data *d, struct dp_err *e)
{
    const char *tmp = getenv("TMPDIR");
    *d = (struct dp_bench_data){.packed_ids = 0};
    snprintf(d->dir, sizeof d->dir, "%.400s/dpipe-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(d->dir)) {
        d->dir[0] = 0;
        DP_FAIL_SYS(e, "%s: a folder for the bench", tmp && *tmp ? tmp : "/tmp");
    }
    snprintf(d->manifest, sizeof d->manifest, "%s/manifest.json", d->dir);
    snprintf(d->packed, sizeof d->packed, "%s/packed.json", d->dir);
    return DP_OK;
}

void dp_bench_data_remove(struct dp_bench_data *d)
{
    char path[700];
    if (!d->dir[0]) return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", d->dir, names[i]);
        unlink(path);
    }
    rmdir(d->dir);
    d->dir[0] = 0;
}

/* --- one shard and its manifest --- */

struct output {
    struct dp_shard_writer *w;
    struct dp_shard_meta meta;
    const char *bin, *dpx; /* names */
    bool packed;
};

static int output_open(struct output *o, const struct dp_bench_data *d, const struct dp_shard_meta *meta, bool packed, struct dp_err *e)
{
    const struct dp_shard_packing packing = {.level = 3, .frame_ids = DP_SHARD_FRAME_IDS};
    *o = (struct output){.meta = *meta, .bin = names[packed ? 3 : 0], .dpx = names[packed ? 4 : 1], .packed = packed};
    char *bin = dp_fs_join(d->dir, o->bin), *dpx = dp_fs_join(d->dir, o->dpx);
    int rc = bin && dpx ? dp_shard_writer_open_packed(&o->w, bin, dpx, meta, packed ? &packing : NULL, e) : DP_NOMEM;
    free(bin);
    free(dpx);
    return rc;
}

static int output_finish(struct output *o, const struct dp_bench_data *d, const char *manifest, uint64_t *bytes, struct dp_err *e)
{
    struct dp_manifest_shard row = {.name = o->bin, .index = o->dpx, .tokens = dp_shard_writer_tokens(o->w), .documents = dp_shard_writer_documents(o->w),
                                    .packed = o->packed};
    struct dp_manifest *m = NULL;
    DP_TRY(dp_shard_writer_finish(o->w, row.sha256, row.index_sha256, e));
    char *bin = dp_fs_join(d->dir, o->bin);
    struct dp_map map;
    int rc = bin ? dp_map_open(&map, bin, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "bench");
    if (rc >= 0) {
        *bytes = row.bytes = map.len;
        dp_map_close(&map);
        rc = dp_manifest_new(&m, &o->meta, e);
    }
    if (rc >= 0) rc = dp_manifest_add(m, &row, e);
    if (rc >= 0) rc = dp_manifest_write(m, manifest, e);
    dp_manifest_free(m);
    free(bin);
    return rc;
}

/* --- made data --- */

/* Zipf's law by its inverse: rank x of the vocabulary has density 1/x. */
static uint32_t zipf(uint64_t *state)
{
    double u = (double)(dp_splitmix64(state) >> 11) * 0x1p-53;
    return (uint32_t)(exp(u * log(VOCAB - 1)) - 1);
}

/* Ids, of which two thirds are phrases of 4 to 35 that were said before, as in pages of one site. */
static void say(uint32_t *doc, size_t n, uint32_t *past, uint64_t *said, uint64_t *state)
{
    for (size_t k = 0; k < n;) {
        size_t run = 4 + dp_splitmix64(state) % 32;
        bool again = *said > PAST && dp_splitmix64(state) % 3 != 0;
        uint64_t from = again ? dp_splitmix64(state) % PAST : 0;
        for (; run && k < n; run--, k++, from++) {
            doc[k] = again ? past[from % PAST] : zipf(state);
            past[(*said)++ % PAST] = doc[k];
        }
    }
}

int dp_bench_data_make(struct dp_bench_data *d, uint64_t ids, struct dp_err *e)
{
    const struct dp_shard_meta meta = {.vocab_size = VOCAB, .eot = VOCAB - 1};
    struct output o = {0};
    uint64_t state = 1, said = 0, bytes;
    uint32_t *past = calloc(PAST, sizeof *past), *doc = malloc(DOC_MAX * sizeof *doc);
    int rc = past && doc ? output_open(&o, d, &meta, false, e) : dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "bench");
    while (rc >= 0 && dp_shard_writer_tokens(o.w) < ids) {
        size_t n = 200 + dp_splitmix64(&state) % 3200;
        say(doc, n, past, &said, &state);
        struct dp_hash128 h = dp_hash128(doc, n * sizeof *doc);
        rc = dp_shard_writer_add(o.w, h, h, 0, doc, n, e);
    }
    if (rc >= 0) rc = output_finish(&o, d, d->manifest, &bytes, e);
    dp_shard_writer_close(o.w);
    free(past);
    free(doc);
    return rc;
}

/* --- a compressed copy --- */

static int copy_doc(struct output *o, const struct dp_shard *s, uint64_t doc, uint64_t first, uint64_t n, uint32_t **room, size_t *cap, struct dp_err *e)
{
    if (n > *cap) {
        uint32_t *p = realloc(*room, n * sizeof *p);
        if (!p) DP_FAIL(e, NOMEM, "bench: a document of %llu ids", (unsigned long long)n);
        *room = p;
        *cap = n;
    }
    if (n) DP_TRY(dp_shard_copy_ids(s, first, n, (int32_t *)*room, e));
    return dp_shard_writer_add(o->w, dp_shard_doc_ids(s)[doc], dp_shard_contents(s)[doc], dp_shard_sources(s)[doc], *room, n, e);
}

static int copy_shard(struct output *o, const struct dp_shard *s, uint64_t ids, struct dp_err *e)
{
    const uint64_t *ends = dp_shard_ends(s);
    uint32_t *room = NULL;
    size_t cap = 0;
    int rc = DP_OK;
    for (uint64_t k = 0; rc >= 0 && k < dp_shard_documents(s) && dp_shard_writer_tokens(o->w) < ids; k++) {
        uint64_t first = k ? ends[k - 1] : 0, n = ends[k] - first;
        if (o->meta.eot >= 0 && n) n--; /* the writer's own doing */
        if (dp_shard_writer_fits(o->w, n)) rc = copy_doc(o, s, k, first, n, &room, &cap, e);
    }
    free(room);
    return rc;
}

int dp_bench_data_pack(struct dp_bench_data *d, const char *manifest, uint64_t ids, struct dp_err *e)
{
    struct dp_manifest *m;
    struct output o = {0};
    DP_TRY(dp_manifest_read(&m, manifest, e));
    int rc = output_open(&o, d, &m->meta, true, e);
    for (size_t i = 0; rc >= 0 && i < m->count && dp_shard_writer_tokens(o.w) < ids; i++) {
        struct dp_shard *s;
        rc = dp_manifest_open_shard(m, manifest, i, &s, e);
        if (rc < 0) break;
        rc = copy_shard(&o, s, ids, e);
        dp_shard_close(s);
    }
    if (rc >= 0) {
        d->packed_ids = dp_shard_writer_tokens(o.w);
        rc = output_finish(&o, d, d->packed, &d->packed_bytes, e);
    }
    dp_shard_writer_close(o.w);
    dp_manifest_free(m);
    return rc;
}

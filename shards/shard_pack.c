/* One frame on demand.
 *
 * A row of a trainer lies in one frame or two, and rows that follow each other in the stream share
 * frames, so each thread keeps the few it decoded last. They are the thread's, not the shard's: no
 * lock is taken, an open shard stays immutable, and memory follows from threads, not from shards.
 * Shards have numbers that are never used twice, so what a closed shard left can't be taken for
 * another's.
 *
 * The compressed bytes' CRC is tested before they are decoded, each time: 46 KB at 10 GB/s are
 * lost beside the 90 us that zstd takes for 65,536 ids, and remote storage is why frames exist. */
#include "shards/shard_pack.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* --- writing --- */

int dp_packer_open(struct dp_packer *p, const struct dp_shard_packing *how, int width,
                   struct dp_err *e)
{
    *p = (struct dp_packer){.cap = (size_t)how->frame_ids * (size_t)width};
    if (how->level < 1 || how->level > 19)
        DP_FAIL(e, CONFIG, "zstd level %d is outside 1 to 19", how->level);
    if (!dpx_pack_ids_ok(how->frame_ids))
        DP_FAIL(e, CONFIG, "zstd frames of %" PRIu32 " ids; a multiple of %u to %u is wanted, or %u, %u, %u or %u", how->frame_ids,
                DP_SHARD_FRAME_IDS, DP_SHARD_PACK_IDS_MAX, DP_SHARD_FRAME_IDS / 2, DP_SHARD_FRAME_IDS / 4, DP_SHARD_FRAME_IDS / 8,
                DP_SHARD_PACK_IDS_MIN);
    dp_buf_init(&p->packed, p->cap * 2 + 4096);
    p->ids = malloc(p->cap);
    if (!p->ids) DP_FAIL(e, NOMEM, "zstd frame of %zu bytes", p->cap);
    DP_TRY(dp_zstd_writer_open(&p->z, how->level, e));
    dp_zstd_writer_checksum(p->z, false);
    return DP_OK;
}

static int emit(struct dp_packer *p, struct dp_out *out, struct dp_err *e)
{
    if (p->frames == p->frames_cap) {
        uint64_t cap = p->frames_cap ? p->frames_cap * 2 : 64;
        struct dpx_pack *t = realloc(p->table, (size_t)cap * sizeof *t);
        if (!t) DP_FAIL(e, NOMEM, "table of %" PRIu64 " zstd frames", cap);
        p->table = t;
        p->frames_cap = cap;
    }
    dp_buf_clear(&p->packed);
    DP_TRY(dp_zstd_frame(p->z, dp_span(p->ids, p->fill), &p->packed, e));
    p->table[p->frames++] = (struct dpx_pack){(uint32_t)p->packed.len,
                                              dp_crc32c(0, p->packed.ptr, p->packed.len)};
    p->bytes += p->packed.len;
    p->fill = 0;
    return dp_out_add(out, p->packed.ptr, p->packed.len, e);
}

int dp_packer_add(struct dp_packer *p, const void *ids, size_t n, struct dp_out *out,
                  struct dp_err *e)
{
    const char *from = ids;
    while (n) {
        size_t k = p->cap - p->fill < n ? p->cap - p->fill : n;
        memcpy(p->ids + p->fill, from, k);
        p->fill += k;
        from += k;
        n -= k;
        if (p->fill == p->cap) DP_TRY(emit(p, out, e));
    }
    return DP_OK;
}

int dp_packer_finish(struct dp_packer *p, struct dp_out *out, struct dp_err *e)
{
    return p->fill ? emit(p, out, e) : DP_OK;
}

void dp_packer_close(struct dp_packer *p)
{
    dp_zstd_writer_close(p->z);
    dp_buf_release(&p->packed);
    free(p->ids);
    free(p->table);
    *p = (struct dp_packer){0};
}

/* --- reading --- */

int dp_packs_open(struct dp_packs *p, struct dp_span body, const struct dpx_pack *table,
                  uint64_t tokens, uint32_t ids, int width, const char *name, struct dp_err *e)
{
    static _Atomic uint64_t uid = 1;
    uint64_t frames = dpx_frames_of(tokens, ids), at = 0;
    *p = (struct dp_packs){.body = body.ptr, .table = table, .frames = frames, .tokens = tokens,
                           .uid = atomic_fetch_add(&uid, 1), .ids = ids, .width = width};
    p->offset = malloc(((size_t)frames + 1) * sizeof *p->offset);
    if (!p->offset) DP_FAIL(e, NOMEM, "%s: %" PRIu64 " zstd frames", name, frames);
    for (uint64_t k = 0; k < frames; k++) {
        p->offset[k] = at;
        at += table[k].bytes;
    }
    p->offset[frames] = at;
    if (at != body.len)
        DP_FAIL(e, CORRUPT, "%s: the body has %zu bytes, its zstd frames take %" PRIu64, name,
                body.len, at);
    return DP_OK;
}

void dp_packs_close(struct dp_packs *p)
{
    free(p->offset);
    p->offset = NULL;
}

struct slot {
    uint64_t uid, frame, used;
    char *ids;
    size_t cap;
};
struct cache {
    struct dp_zstd_decoder *decoder;
    uint64_t tick;
    struct slot slot[DP_PACK_SLOTS];
};

static pthread_key_t cache_key;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;
static bool cache_works;

static void cache_free(void *p)
{
    struct cache *c = p;
    for (int i = 0; i < DP_PACK_SLOTS; i++) free(c->slot[i].ids);
    dp_zstd_decoder_close(c->decoder);
    free(c);
}

static void cache_begin(void) { cache_works = pthread_key_create(&cache_key, cache_free) == 0; }

static struct cache *cache_get(void)
{
    pthread_once(&cache_once, cache_begin);
    struct cache *c = cache_works ? pthread_getspecific(cache_key) : NULL;
    if (c || !cache_works) return c;
    c = calloc(1, sizeof *c);
    if (c && (dp_zstd_decoder_open(&c->decoder, NULL) < 0 || pthread_setspecific(cache_key, c))) {
        cache_free(c);
        c = NULL;
    }
    return c;
}

static int decode(const struct dp_packs *p, uint64_t k, struct cache *c, struct slot *s,
                  char what[160])
{
    uint64_t left = p->tokens - k * p->ids;
    size_t n = (size_t)(left < p->ids ? left : p->ids) * (size_t)p->width;
    struct dp_span in = {p->body + p->offset[k], p->table[k].bytes};
    struct dp_err err;
    uint32_t crc = dp_crc32c(0, in.ptr, in.len);
    if (crc != p->table[k].crc) {
        snprintf(what, 160, "compressed bytes' checksum %08" PRIx32 ", %08" PRIx32
                 " when they were written", crc, p->table[k].crc);
        return DP_CORRUPT;
    }
    s->uid = 0;
    if (s->cap < n) {
        free(s->ids);
        s->ids = malloc(n);
        s->cap = s->ids ? n : 0;
        if (!s->ids) {
            snprintf(what, 160, "out of memory for a frame of %zu bytes", n);
            return DP_NOMEM;
        }
    }
    int rc = dp_zstd_decode(c->decoder, in, s->ids, n, &err);
    if (rc < 0) {
        snprintf(what, 160, "%.150s", err.msg);
        return rc;
    }
    s->uid = p->uid;
    s->frame = k;
    return DP_OK;
}

int dp_packs_get(const struct dp_packs *p, uint64_t k, const void **ids, char what[160])
{
    struct cache *c = cache_get();
    *ids = NULL;
    if (!c) {
        snprintf(what, 160, "out of memory for a decoder");
        return DP_NOMEM;
    }
    struct slot *oldest = c->slot;
    for (int i = 0; i < DP_PACK_SLOTS; i++) {
        struct slot *s = &c->slot[i];
        if (s->uid == p->uid && s->frame == k) {
            s->used = ++c->tick;
            *ids = s->ids;
            return DP_OK;
        }
        if (s->used < oldest->used) oldest = s;
    }
    int rc = decode(p, k, c, oldest, what);
    if (rc < 0) return rc;
    oldest->used = ++c->tick;
    *ids = oldest->ids;
    return DP_OK;
}

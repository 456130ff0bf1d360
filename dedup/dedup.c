/* Design. One pass over the signature files (read) emits a record for each document and band, (band key, priority, document),
 * into sorters that spill; equal keys come back together and best document first, however large the bucket is. What
 * must be at hand for every document is 13 bytes; sketches for comparing are in RAM while they fit a quarter of the
 * budget, else in a temporary file read with pread (a map would count as memory that grows with the corpus).
 *
 * Growth: new inputs are read first, then the decided ones, which give records only for keys that a new document has (frozen.c).
 *
 * Shares of memory_bytes: sketches 1/4, band sorters 3/8, edges 1/8, exact 1/16, reading 1/16, filter 1/16. */
#include "dedup/dedup.h"

#include "base/fs.h"
#include "base/progress.h"
#include "dedup/dedup_impl.h"
#include "dedup/sigfile.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

const struct dp_opt dp_dedup_opts[] = {
    {"similarity", DP_OPT_REAL, offsetof(struct dp_dedup_options, similarity), "0.75", 0, 1, NULL, "S",
     "Share of equal signature slots from which a document is a near duplicate of a kept one.", 0, 0},
    {"closure", DP_OPT_BOOL, offsetof(struct dp_dedup_options, closure), "false", 0, 0, NULL, NULL,
     "Join whatever shares a band, transitively and unchecked, as FineWeb's pipeline does.", 0, 0},
    {"exact", DP_OPT_BOOL, offsetof(struct dp_dedup_options, exact), "true", 0, 0, NULL, NULL, "Drop documents of equal text.", 0, 0},
    {"near", DP_OPT_BOOL, offsetof(struct dp_dedup_options, near), "true", 0, 0, NULL, NULL, "Drop near duplicates.", 0, 0},
    {"keep", DP_OPT_CHOICE, offsetof(struct dp_dedup_options, keep), "longest", 0, 0, "longest|first|best", NULL,
     "Which document of a cluster stays: the longest text, the first, or the best score.", 0, 0},
    {"memory", DP_OPT_SIZE, offsetof(struct dp_dedup_options, memory_bytes), "256M", 4 << 20, 1e15, NULL, "SIZE",
     "Working memory; more data goes through temporary files.", 0, DP_OPT_NOKEY},
    DP_OPT_END,
};

enum { READ_BLOCK = 2048, KEYS_TASK = 128 };

const struct dp_sketch *dp_sketch_get(const struct dp_dedup_state *s, uint32_t doc, void *buf, struct dp_err *e)
{
    uint32_t place = doc < s->frozen ? s->prio[doc] : doc - s->frozen;
    uint64_t at = (uint64_t)place * s->sketch_bytes;
    DP_ASSERT(place != DP_SKETCH_NONE);
    if (s->sketch_ram) return (const struct dp_sketch *)(const void *)(s->sketch_ram + at);
    size_t got;
    if (dp_fs_pread_all(s->sketch_fd, buf, s->sketch_bytes, at, &got, "temporary file of sketches", e) < 0) return NULL;
    if (got == s->sketch_bytes) return buf;
    dp_err_set(e, DP_IO, 0, __FILE__, __LINE__, "temporary file of sketches in %s lost its end", s->tmp_dir);
    return NULL;
}

struct lanes_call {
    struct dp_dedup_state *s;
    int (*fn)(struct dp_dedup_state *s, size_t lane, struct dp_err *e);
};
static void lane_task(void *v, size_t i, int worker)
{
    struct lanes_call *c = v;
    (void)worker;
    c->s->lane[i].rc = c->fn(c->s, i, &c->s->lane[i].err);
}
int dp_lanes_run(struct dp_dedup_state *s, int (*fn)(struct dp_dedup_state *, size_t, struct dp_err *), struct dp_err *e)
{
    struct lanes_call c = {s, fn};
    dp_pool_run(s->pool, DP_LANES, lane_task, &c);
    for (size_t i = 0; i < DP_LANES; i++)
        if (s->lane[i].rc < 0) {
            if (e) *e = s->lane[i].err;
            return s->lane[i].rc;
        }
    return DP_OK;
}

/* Smaller is better. NaN scores are the worst. */
static uint32_t priority(const struct dp_dedup_options *o, const struct dp_sig_record *r)
{
    if (o->keep == DP_DEDUP_FIRST) return 0;
    if (o->keep == DP_DEDUP_LONGEST) return UINT32_MAX - r->length;
    if (isnan(r->score)) return UINT32_MAX;
    float f = r->score + 0.0f; /* -0 and 0 are the same score */
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return ~(u & 0x80000000u ? ~u : u | 0x80000000u); /* floats in order as unsigned, reversed */
}

/* ---- reading ---- */

struct reading {
    struct dp_dedup_state *s;
    const struct dp_sigfile *f;
    char *raw;
    char *sketch;   /* READ_BLOCK sketches */
    uint64_t *keys; /* [doc][bands + 1], the last is the content hash */
    uint8_t *role;  /* what it takes part in */
    uint32_t base;  /* document of raw[0] */
    size_t n;
    bool frozen;
};
enum { ROLE_EXACT = 1, ROLE_NEAR = 2, ROLE_HELD = 4 }; /* held: its sketch may be asked for */

/* A decided document takes part where it may meet a new one. One of the text of another is spoken for by that. */
static uint8_t frozen_role(const struct dp_dedup_state *s, uint32_t doc, const uint64_t *keys, bool signed_)
{
    const uint32_t bands = s->params.bands;
    uint8_t role = 0;
    if (s->state[doc] == DP_ST_EXACT) return 0;
    if (s->o->exact && dp_filter_has(s, keys[bands])) role = ROLE_EXACT | ROLE_HELD;
    if (!signed_ || !s->o->near || (s->state[doc] == DP_ST_NEAR && !s->o->closure)) return role;
    for (uint32_t b = 0; b < bands; b++)
        if (dp_filter_has(s, keys[b])) role |= ROLE_NEAR | ROLE_HELD;
    if (s->o->closure && s->state[doc] == DP_ST_KEPT) role |= ROLE_HELD; /* similarity to it may be asked for over any number of others */
    return role;
}

static void keys_task(void *v, size_t task, int worker)
{
    struct reading *r = v;
    const struct dp_dedup_state *s = r->s;
    const uint32_t bands = s->params.bands, bytes = dp_sigfile_record_bytes(r->f);
    size_t end = (task + 1) * KEYS_TASK < r->n ? (task + 1) * KEYS_TASK : r->n;
    (void)worker;
    for (size_t i = task * KEYS_TASK; i < end; i++) {
        struct dp_sig_record rec;
        dp_sigfile_decode(r->f, r->raw + i * bytes, &rec);
        struct dp_sketch *k = (struct dp_sketch *)(void *)(r->sketch + i * s->sketch_bytes);
        uint64_t *keys = r->keys + i * (bands + 1);
        memset(k, 0, s->sketch_bytes);
        k->hash = rec.hash;
        keys[bands] = dp_mix64(rec.hash.lo ^ dp_mix64(rec.hash.hi));
        r->role[i] = ROLE_HELD | (s->o->exact ? ROLE_EXACT : 0) | (s->o->near && rec.slots ? ROLE_NEAR : 0);
        if (rec.slots) {
            for (uint32_t j = 0; j < s->slots; j++) k->slots[j] = (uint16_t)rec.slots[j];
            for (uint32_t b = 0; b < bands; b++) keys[b] = dp_minhash_band(rec.slots, s->params.rows, b);
        }
        if (r->frozen) r->role[i] = frozen_role(s, r->base + (uint32_t)i, keys, rec.slots != NULL);
        else s->prio[r->base + i] = priority(s->o, &rec);
    }
}

/* Of a frozen document the keys that new ones have, of a new one all: they are what frozen ones are asked for. */
static int emit(struct reading *r, struct dp_extsort *x, uint64_t key, uint64_t rank, struct dp_err *e)
{
    if (!r->frozen) dp_filter_add(r->s, key);
    else if (!dp_filter_has(r->s, key)) return DP_OK;
    return dp_extsort_add(x, key, rank, e);
}

static void emit_task(void *v, size_t lane, int worker)
{
    struct reading *r = v;
    struct dp_dedup_state *s = r->s;
    struct dp_dedup_lane *l = &s->lane[lane];
    const uint32_t bands = s->params.bands;
    (void)worker;
    for (size_t i = 0; i < r->n && l->rc >= 0; i++) {
        const uint64_t *keys = r->keys + i * (bands + 1), rank = dp_rank(s, r->base + (uint32_t)i);
        if (r->role[i] & ROLE_EXACT && keys[bands] >> DP_LANE_SHIFT == lane) l->rc = emit(r, l->exact, keys[bands], rank, &l->err);
        if (!(r->role[i] & ROLE_NEAR)) continue;
        for (uint32_t b = 0; b < bands && l->rc >= 0; b++)
            if (keys[b] >> DP_LANE_SHIFT == lane) l->rc = emit(r, l->bands, keys[b], rank, &l->err);
    }
}

static int write_sketches(struct dp_dedup_state *s, const char *p, size_t bytes, struct dp_err *e)
{
    if (dp_fs_write_all(s->sketch_fd, p, bytes, "sketches", e) >= 0) return DP_OK;
    return dp_err_prefix(e, "temporary file of dedup in %s (give it more space, or another folder)", s->tmp_dir);
}

/* More than the new documents' come when there are frozen ones: RAM grows up to its share, then all goes to the file. */
static int more_sketches(struct dp_dedup_state *s, size_t n, struct dp_err *e)
{
    uint64_t want = s->sketches + n, most = s->o->memory_bytes / 4 / s->sketch_bytes;
    if (!s->sketch_ram || want <= s->sketch_cap) return DP_OK;
    if (want <= most) {
        uint64_t cap = want * 2 < most ? want * 2 : most;
        char *p = realloc(s->sketch_ram, cap * s->sketch_bytes);
        if (!p) DP_FAIL(e, NOMEM, "dedup: %llu bytes for sketches", (unsigned long long)(cap * s->sketch_bytes));
        s->sketch_ram = p;
        s->sketch_cap = cap;
        return DP_OK;
    }
    DP_TRY(dp_fs_unlinked(s->tmp_dir, "sketches", &s->sketch_fd, e));
    DP_TRY(write_sketches(s, s->sketch_ram, s->sketches * s->sketch_bytes, e));
    free(s->sketch_ram);
    s->sketch_ram = NULL;
    return DP_OK;
}

/* Those of the block that are held, one behind the other. */
static int put_sketches(struct dp_dedup_state *s, struct reading *r, struct dp_err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (!(r->role[i] & ROLE_HELD)) continue;
        if (r->frozen) s->prio[r->base + i] = (uint32_t)(s->sketches + n);
        if (n != i) memcpy(r->sketch + n * s->sketch_bytes, r->sketch + i * s->sketch_bytes, s->sketch_bytes);
        n++;
    }
    DP_TRY(more_sketches(s, n, e));
    if (s->sketch_ram) memcpy(s->sketch_ram + s->sketches * s->sketch_bytes, r->sketch, n * s->sketch_bytes);
    else DP_TRY(write_sketches(s, r->sketch, n * s->sketch_bytes, e));
    s->sketches += n;
    return DP_OK;
}

static int read_input(struct reading *r, const char *path, struct dp_err *e)
{
    struct dp_dedup_state *s = r->s;
    uint32_t crc = 0;
    (void)path;
    uint64_t count = dp_sigfile_count(r->f);
    for (uint64_t at = 0; at < count; at += r->n) {
        r->n = count - at < READ_BLOCK ? (size_t)(count - at) : READ_BLOCK;
        DP_TRY(dp_sigfile_read(r->f, at, r->n, r->raw, e));
        crc = dp_crc32c(crc, r->raw, r->n * dp_sigfile_record_bytes(r->f));
        dp_pool_run(s->pool, (r->n + KEYS_TASK - 1) / KEYS_TASK, keys_task, r);
        DP_TRY(put_sketches(s, r, e));
        dp_pool_run(s->pool, DP_LANES, emit_task, r);
        for (size_t i = 0; i < DP_LANES; i++)
            if (s->lane[i].rc < 0) {
                if (e) *e = s->lane[i].err;
                return s->lane[i].rc;
            }
        r->base += (uint32_t)r->n;
        DP_TRY(dp_progress_go_on(e));
    }
    if (crc != dp_sigfile_crc(r->f)) DP_FAIL(e, CORRUPT, "%s: the checksum of the records is wrong: make the signatures again", path);
    return DP_OK;
}

static int same_params(const struct dp_sig_params *a, const struct dp_sig_params *b)
{
    return a->bands == b->bands && a->rows == b->rows && a->shingle == b->shingle && a->fold_digits == b->fold_digits && a->seed == b->seed;
}

/* Inputs from `i` to `end`. */
static int read_inputs(struct reading *r, const char *const *paths, size_t i, size_t end, struct dp_err *e)
{
    struct dp_dedup_state *s = r->s;
    struct dp_sigfile *f = NULL;
    int rc = DP_OK;
    for (; i < end; i++) {
        DP_TRY_OUT(dp_sigfile_open(&f, paths[i], e));
        if (dp_sigfile_count(f) != s->first[i + 1] - s->first[i] || !same_params(dp_sigfile_params(f), &s->params))
            DP_GOTO(e, BUSY, "%s changed while dedup ran", paths[i]);
        r->f = f;
        r->base = (uint32_t)s->first[i];
        DP_TRY_OUT(read_input(r, paths[i], e));
        dp_sigfile_close(f);
        f = NULL;
    }
out:
    dp_sigfile_close(f);
    return rc;
}

static int read_all(struct dp_dedup_state *s, const char *const *paths, struct dp_err *e)
{
    struct reading r = {.s = s};
    int rc = DP_OK;
    r.raw = malloc((size_t)READ_BLOCK * (DP_SIGFILE_FIXED + 4 * s->slots));
    r.sketch = malloc((size_t)READ_BLOCK * s->sketch_bytes);
    r.keys = malloc((size_t)READ_BLOCK * (s->params.bands + 1) * sizeof *r.keys);
    r.role = malloc(READ_BLOCK);
    if (!r.raw || !r.sketch || !r.keys || !r.role) DP_GOTO(e, NOMEM, "dedup: buffers of %d documents", READ_BLOCK);
    DP_TRY_OUT(read_inputs(&r, paths, s->frozen_inputs, s->n_inputs, e));
    r.frozen = true;
    DP_TRY_OUT(read_inputs(&r, paths, 0, s->frozen_inputs, e));
out:
    free(r.raw);
    free(r.sketch);
    free(r.keys);
    free(r.role);
    return rc;
}

/* ---- set-up ---- */

static int scan_headers(struct dp_dedup_state *s, const char *const *paths, struct dp_err *e)
{
    s->first = calloc(s->n_inputs + 1, sizeof *s->first);
    if (!s->first) DP_FAIL(e, NOMEM, "dedup: %zu inputs", s->n_inputs);
    s->params = (struct dp_sig_params){1, 1, 1, false, 0};
    for (size_t i = 0; i < s->n_inputs; i++) {
        struct dp_sigfile *f;
        DP_TRY(dp_sigfile_open(&f, paths[i], e));
        struct dp_sig_params p = *dp_sigfile_params(f);
        s->first[i + 1] = s->first[i] + dp_sigfile_count(f);
        dp_sigfile_close(f);
        if (i == 0) s->params = p;
        if (!same_params(&p, &s->params))
            DP_FAIL(e, CONFIG,
                    "%s has bands %u, rows %u, shingle %u, seed %llu, fold_digits %d, but %s has %u, %u, %u, %llu, %d: make all signatures "
                    "with the same options",
                    paths[i], p.bands, p.rows, p.shingle, (unsigned long long)p.seed, p.fold_digits, paths[0], s->params.bands,
                    s->params.rows, s->params.shingle, (unsigned long long)s->params.seed, s->params.fold_digits);
    }
    if (s->first[s->n_inputs] > UINT32_MAX - 1)
        DP_FAIL(e, LIMIT, "%llu documents: one dedup takes 2^32 - 2 at most; split the inputs", (unsigned long long)s->first[s->n_inputs]);
    s->docs = (uint32_t)s->first[s->n_inputs];
    s->frozen = (uint32_t)s->first[s->frozen_inputs];
    s->slots = s->params.bands * s->params.rows;
    s->agree_min = (uint32_t)ceil(s->o->similarity * s->slots - 1e-9);
    s->sketch_bytes = ((uint32_t)sizeof(struct dp_sketch) + 2 * s->slots + 7) & ~7u;
    return DP_OK;
}

static int doc_block(struct dp_dedup_state *s, struct dp_err *e)
{
    size_t n = s->docs ? s->docs : 1;
    s->block_bytes = n * (3 * sizeof(uint32_t) + 1);
    s->block_mapped = s->block_bytes > s->o->memory_bytes / 16;
    if (!s->block_mapped) s->block = calloc(1, s->block_bytes);
    else {
        int fd, sys;
        DP_TRY(dp_fs_unlinked(s->tmp_dir, "document states", &fd, e));
        /* Reserved now: a full disk must be an error here, not a SIGBUS at a later store. */
        if ((sys = posix_fallocate(fd, 0, (off_t)s->block_bytes)) != 0) {
            close(fd);
            return dp_err_set(e, dp_code_of_errno(sys), sys, __FILE__, __LINE__, "%s: %zu bytes for document states (give it more space, or another folder)",
                              s->tmp_dir, s->block_bytes);
        }
        s->block = mmap(NULL, s->block_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (s->block == MAP_FAILED) s->block = NULL;
    }
    if (!s->block) DP_FAIL(e, NOMEM, "dedup: %zu bytes for the states of %u documents", s->block_bytes, s->docs);
    s->prio = s->block;
    s->rep = s->prio + n;
    s->sim = (float *)(void *)(s->rep + n);
    s->state = (uint8_t *)(s->sim + n);
    return DP_OK;
}

static int set_up(struct dp_dedup_state *s, const char *const *sig_paths, struct dp_err *e)
{
    const uint64_t m = s->o->memory_bytes;
    DP_TRY(scan_headers(s, sig_paths, e));
    dp_minhash_dsp_init(&s->dsp);
    DP_TRY(doc_block(s, e));
    uint64_t sketches = (uint64_t)(s->docs - s->frozen) * s->sketch_bytes;
    if (sketches <= m / 4) {
        s->sketch_ram = malloc(sketches ? (size_t)sketches : 1);
        s->sketch_cap = s->docs - s->frozen;
        if (!s->sketch_ram) DP_FAIL(e, NOMEM, "dedup: %llu bytes for sketches", (unsigned long long)sketches);
    } else DP_TRY(dp_fs_unlinked(s->tmp_dir, "sketches", &s->sketch_fd, e));
    for (size_t i = 0; i < DP_LANES; i++) {
        struct dp_dedup_lane *l = &s->lane[i];
        DP_TRY(dp_extsort_open(&l->exact, s->tmp_dir, "content hashes", m / 16 / DP_LANES, e));
        DP_TRY(dp_extsort_open(&l->bands, s->tmp_dir, "band keys", m / 8 * 3 / DP_LANES, e));
    }
    return dp_filter_open(s, e);
}

static void release(struct dp_dedup_state *s)
{
    for (size_t i = 0; i < DP_LANES; i++) {
        dp_extsort_close(s->lane[i].exact);
        dp_extsort_close(s->lane[i].bands);
        dp_extsort_close(s->lane[i].edges);
    }
    if (s->sketch_fd >= 0) close(s->sketch_fd);
    free(s->sketch_ram);
    free(s->filter);
    if (s->block && s->block_mapped) munmap(s->block, s->block_bytes);
    else free(s->block);
    free(s->first);
}

int dp_dedup_run(const struct dp_dedup_options *o, size_t n, const char *const *sig_paths, const char *const *keep_paths,
                 const char *report_path, const char *tmp_dir, struct dp_pool *pool, struct dp_dedup_totals *t, struct dp_err *e)
{
    return dp_dedup_append(o, 0, n, sig_paths, keep_paths, report_path, tmp_dir, pool, t, e);
}

int dp_dedup_append(const struct dp_dedup_options *o, size_t frozen, size_t n, const char *const *sig_paths, const char *const *keep_paths,
                    const char *report_path, const char *tmp_dir, struct dp_pool *pool, struct dp_dedup_totals *t, struct dp_err *e)
{
    struct dp_dedup_state s = {.o = o, .tmp_dir = tmp_dir, .pool = pool, .n_inputs = n, .frozen_inputs = frozen, .sketch_fd = -1};
    int rc = DP_OK;
    DP_ASSERT(frozen <= n);
    *t = (struct dp_dedup_totals){0};
    if (!(o->similarity >= 0 && o->similarity <= 1)) DP_GOTO(e, CONFIG, "dedup: similarity %g is not between 0 and 1", o->similarity);
    DP_TRY_OUT(set_up(&s, sig_paths, e));
    DP_TRY_OUT(dp_frozen_load(&s, keep_paths, e));
    DP_TRY_OUT(read_all(&s, sig_paths, e));
    if (o->exact) DP_TRY_OUT(dp_cluster_exact(&s, e));
    if (o->near) DP_TRY_OUT(dp_cluster_near(&s, e));
    for (uint32_t d = s.frozen; d < s.docs; d++) {
        if (d % DP_LOOK_DOCS == 0) DP_TRY_OUT(dp_progress_go_on(e));
        if (s.state[d] != DP_ST_EXACT || s.state[s.rep[d]] != DP_ST_NEAR) continue;
        uint32_t r = s.rep[d]; /* the same text as a near duplicate: follows it to what is kept */
        s.state[d] = DP_ST_NEAR;
        s.sim[d] = s.sim[r];
        s.rep[d] = s.rep[r];
    }
    for (uint32_t d = s.frozen; d < s.docs; d++) {
        if (d % DP_LOOK_DOCS == 0) DP_TRY_OUT(dp_progress_go_on(e));
        if (s.state[d] == DP_ST_EXACT || s.state[d] == DP_ST_NEAR) DP_ASSERT(s.state[s.rep[d]] == DP_ST_KEPT);
        t->exact_dups += s.state[d] == DP_ST_EXACT;
        t->near_dups += s.state[d] == DP_ST_NEAR;
    }
    t->docs = s.docs - s.frozen;
    DP_TRY_OUT(dp_dedup_write_keep(&s, keep_paths, e));
    rc = dp_dedup_write_report(&s, report_path, t, e);
    for (size_t i = frozen; rc < 0 && i < n; i++) unlink(keep_paths[i]);
out:
    release(&s);
    return rc;
}

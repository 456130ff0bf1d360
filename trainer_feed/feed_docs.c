#include "trainer_feed/feed_docs.h"

#include "base/log.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FRAME_GOOD = 1, FRAME_BAD = 2, FRAMES_A_WORD = 16 };

/* --- which side a document is on --- */

static uint64_t below_of(double fraction)
{
    return fraction <= 0 ? 0 : fraction >= 1 ? UINT64_MAX : (uint64_t)ldexp(fraction, 64);
}

static int side(struct dp_hash128 content, uint64_t val_below, uint64_t test_below)
{
    uint64_t h = dp_mix64(content.lo ^ UINT64_C(0x9e3779b97f4a7c15));
    return h < val_below ? DP_FEED_VAL : ~h < test_below ? DP_FEED_TEST : DP_FEED_TRAIN;
}

int dp_feed_split_of(struct dp_hash128 content, double val_fraction, double test_fraction)
{
    if (val_fraction >= 1) return DP_FEED_VAL;
    if (test_fraction >= 1) return DP_FEED_TEST;
    return side(content, below_of(val_fraction), below_of(test_fraction));
}

bool dp_feed_docs_takes(const struct dp_feed_docs *s, struct dp_feed_asker *a, size_t shard, uint64_t document)
{
    if (s->none) return false;
    if (s->select.takes) {
        uint32_t source = dp_shard_sources(s->shard[shard])[document];
        uint64_t key = ((uint64_t)shard << 32 | source) + 1;
        if (a->key != key) {
            a->key = key;
            a->taken = s->select.takes(s->select.ctx, s->m->shards[shard].name, source);
        }
        if (!a->taken) return false;
    }
    double val = s->select.val_fraction, test = s->select.test_fraction;
    if (val <= 0 && test <= 0) return true; /* `none` is the other sides */
    if (val >= 1 || test >= 1) return true;
    return side(dp_shard_contents(s->shard[shard])[document], s->val_below, s->test_below) == s->select.split;
}

static void set_select(struct dp_feed_docs *s, const struct dp_feed_select *x)
{
    s->select = *x;
    s->val_below = below_of(x->val_fraction);
    s->test_below = below_of(x->test_fraction);
    int only = x->val_fraction >= 1                               ? DP_FEED_VAL
               : x->test_fraction >= 1                            ? DP_FEED_TEST
               : x->val_fraction <= 0 && x->test_fraction <= 0    ? DP_FEED_TRAIN
                                                                  : -1;
    s->none = only >= 0 && only != x->split;
    s->all = only == x->split && !x->takes;
}

/* --- hashes --- */

struct link {
    struct dp_hash128 before;
    uint64_t tokens, documents;
    char sha256[64], index_sha256[64];
};

static struct dp_hash128 chain(struct dp_hash128 h, const struct dp_manifest_shard *s)
{
    struct link l = {.before = h, .tokens = s->tokens, .documents = s->documents};
    memcpy(l.sha256, s->sha256, sizeof l.sha256);
    memcpy(l.index_sha256, s->index_sha256, sizeof l.index_sha256);
    return dp_hash128(&l, sizeof l);
}

struct dp_hash128 dp_feed_docs_prefix(const struct dp_manifest *m, size_t n)
{
    struct {
        struct dp_hash128 tokenizer;
        int64_t eot;
        uint64_t vocab_size;
    } kind = {m->meta.tokenizer, m->meta.eot, m->meta.vocab_size};
    struct dp_hash128 h = dp_hash128(&kind, sizeof kind);
    for (size_t i = 0; i < n; i++) h = chain(h, &m->shards[i]);
    return h;
}

static struct dp_hash128 fold(struct dp_hash128 h, uint64_t a, uint64_t b)
{
    uint64_t x[4] = {h.lo, h.hi, a, b};
    return dp_hash128(x, sizeof x);
}

/* The answers about sources, and which shards are absent: two feeds that differ there have other documents. */
static void add_selection(struct dp_feed_docs *s)
{
    for (size_t i = 0; i < s->shards; i++) {
        if (!s->shard[i]) s->hash = fold(s->hash, i, UINT64_MAX);
        if (!s->shard[i] || !s->select.takes) continue;
        const uint32_t *source = dp_shard_sources(s->shard[i]);
        for (uint64_t d = 0, n = dp_feed_docs_count(s, i); d < n; d++)
            if (d == 0 || source[d] != source[d - 1])
                s->hash = fold(s->hash, s->doc_start[i] + d, s->select.takes(s->select.ctx, s->m->shards[i].name, source[d]));
    }
}

/* --- opening --- */

/* The side file over a body of zeros, which no one will read. */
static int open_bodiless(struct dp_feed_docs *s, const char *manifest_path, size_t i, struct dp_err *e)
{
    const struct dp_manifest_shard *want = &s->m->shards[i];
    size_t bytes = (size_t)want->tokens * (size_t)s->m->meta.dtype;
    char *path = dp_manifest_path(manifest_path, want->index);
    if (!path) DP_FAIL(e, NOMEM, "%s", manifest_path);
    int rc = dp_map_open(&s->side[i], path, e);
    if (rc >= 0 && !s->side[i].len) rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: empty", path);
    if (rc >= 0 && bytes) {
        void *p = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) rc = dp_err_set(e, DP_NOMEM, 0, __FILE__, __LINE__, "%s: %zu bytes", path, bytes);
        else s->blank[i] = (struct dp_map){p, bytes};
    }
    static const uint64_t nothing; /* for its alignment */
    struct dp_span blank = {bytes ? s->blank[i].ptr : (const char *)&nothing, bytes}, side_file = {s->side[i].ptr, s->side[i].len};
    if (rc >= 0) rc = dp_shard_open_mem(&s->shard[i], blank, side_file, path, e);
    if (rc >= 0) {
        const struct dp_shard_meta *meta = dp_shard_meta(s->shard[i]);
        if (dp_shard_tokens(s->shard[i]) != want->tokens || dp_shard_documents(s->shard[i]) != want->documents ||
            meta->vocab_size != s->m->meta.vocab_size || meta->eot != s->m->meta.eot) {
            dp_shard_close(s->shard[i]);
            s->shard[i] = NULL;
            rc = dp_err_set(e, DP_CORRUPT, 0, __FILE__, __LINE__, "%s: not the side file that %s means", path, manifest_path);
        }
    }
    free(path);
    return rc;
}

static int open_shard(struct dp_feed_docs *s, const char *manifest_path, size_t i, bool *bodiless, struct dp_err *e)
{
    int rc = dp_manifest_open_shard(s->m, manifest_path, i, &s->shard[i], e);
    *bodiless = false;
    if (rc >= 0 || !s->skip || (rc != DP_NOTFOUND && rc != DP_CORRUPT)) return rc;
    struct dp_err side_error = {0};
    rc = open_bodiless(s, manifest_path, i, &side_error);
    *bodiless = rc >= 0;
    if (rc == DP_NOMEM || rc == DP_IO) {
        *e = side_error;
        return rc;
    }
    if (rc >= 0) dp_log(WARN, "feed", "going on without the ids of shard %s: %s", s->m->shards[i].name, e->msg);
    else dp_log(WARN, "feed", "going on without shard %s and its documents: %s", s->m->shards[i].name, side_error.msg);
    s->absent += rc < 0;
    return DP_OK;
}

static int open_shards(struct dp_feed_docs *s, const char *manifest_path, bool *bodiless, struct dp_err *e)
{
    for (size_t i = 0; i < s->shards; i++) {
        DP_TRY(open_shard(s, manifest_path, i, &bodiless[i], e));
        const struct dp_shard *shard = s->shard[i];
        s->token_start[i + 1] = s->token_start[i] + (shard ? dp_shard_tokens(shard) : 0);
        s->doc_start[i + 1] = s->doc_start[i] + (shard ? dp_shard_documents(shard) : 0);
        s->frame_start[i + 1] = s->frame_start[i] + (shard ? dp_shard_frames(shard) : 0);
    }
    return DP_OK;
}

static void mark(const struct dp_feed_docs *s, uint64_t frame, uint32_t what)
{
    atomic_fetch_or_explicit(&s->frame[frame / FRAMES_A_WORD], what << frame % FRAMES_A_WORD * 2, memory_order_relaxed);
}

int dp_feed_docs_open(struct dp_feed_docs *s, const struct dp_manifest *m, const char *manifest_path, size_t shards,
                      const struct dp_feed_select *select, bool check, bool skip, struct dp_err *e)
{
    DP_ASSERT(shards <= m->count);
    *s = (struct dp_feed_docs){.m = m, .shards = shards, .check = check || skip, .skip = skip};
    int rc = DP_OK;
    set_select(s, select);
    bool *bodiless = calloc(shards + 1, sizeof *bodiless);
    s->shard = calloc(shards + 1, sizeof *s->shard);
    s->side = calloc(shards + 1, sizeof *s->side);
    s->blank = calloc(shards + 1, sizeof *s->blank);
    s->token_start = calloc(shards + 1, sizeof *s->token_start);
    s->doc_start = calloc(shards + 1, sizeof *s->doc_start);
    s->frame_start = calloc(shards + 1, sizeof *s->frame_start);
    if (!bodiless || !s->shard || !s->side || !s->blank || !s->token_start || !s->doc_start || !s->frame_start)
        DP_GOTO(e, NOMEM, "%s: %zu shards", manifest_path, shards);
    DP_TRY_OUT(open_shards(s, manifest_path, bodiless, e));
    if (s->check) {
        s->frame = calloc((size_t)(s->frame_start[shards] / FRAMES_A_WORD) + 1, sizeof *s->frame);
        if (!s->frame) DP_GOTO(e, NOMEM, "%s: %" PRIu64 " frames", manifest_path, s->frame_start[shards]);
        for (size_t i = 0; i < shards; i++)
            for (uint64_t f = s->frame_start[i]; bodiless[i] && f < s->frame_start[i + 1]; f++) mark(s, f, FRAME_BAD);
    }
    s->hash = dp_feed_docs_prefix(m, shards);
    add_selection(s);
out:
    free(bodiless);
    if (rc < 0) dp_feed_docs_release(s);
    return rc;
}

void dp_feed_docs_release(struct dp_feed_docs *s)
{
    for (size_t i = 0; s->shard && i < s->shards; i++) dp_shard_close(s->shard[i]);
    for (size_t i = 0; s->side && i < s->shards; i++)
        if (s->side[i].len) dp_map_close(&s->side[i]);
    for (size_t i = 0; s->blank && i < s->shards; i++)
        if (s->blank[i].len) dp_map_close(&s->blank[i]);
    free(s->shard);
    free(s->side);
    free(s->blank);
    free(s->token_start);
    free(s->doc_start);
    free(s->frame_start);
    free((void *)s->frame);
    *s = (struct dp_feed_docs){0};
}

/* --- looking up --- */

/* The i with start[i] <= x < start[i + 1]; x < start[n]. Empty intervals are passed over. */
static size_t interval(const uint64_t *start, size_t n, uint64_t x)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (start[mid] <= x) low = mid;
        else high = mid;
    }
    return low;
}

size_t dp_feed_docs_shard(const struct dp_feed_docs *s, uint64_t token)
{
    return interval(s->token_start, s->shards, token);
}

size_t dp_feed_docs_shard_of(const struct dp_feed_docs *s, uint64_t document)
{
    return interval(s->doc_start, s->shards, document);
}

static int check_frame(const struct dp_feed_docs *s, size_t shard, uint64_t frame, struct dp_err *e)
{
    uint64_t number = s->frame_start[shard] + frame;
    uint32_t known = atomic_load_explicit(&s->frame[number / FRAMES_A_WORD], memory_order_relaxed) >> number % FRAMES_A_WORD * 2 & 3;
    if (known == FRAME_GOOD) return DP_OK;
    if (known & FRAME_BAD)
        DP_FAIL(e, CORRUPT, "%s: frame %" PRIu64 " is bad or missing; run dpipe verify", s->m->shards[shard].name, frame);
    if (dp_shard_verify_frame(s->shard[shard], frame, e) >= 0) {
        mark(s, number, FRAME_GOOD);
        return DP_OK;
    }
    mark(s, number, FRAME_BAD);
    if (s->skip) dp_log(WARN, "feed", "going on without a frame of 65536 ids: %s", e->msg);
    return DP_CORRUPT;
}

int dp_feed_docs_touch(const struct dp_feed_docs *s, size_t shard, uint64_t first, uint64_t n, struct dp_err *e)
{
    if (!s->check || !n) return DP_OK;
    for (uint64_t f = first / DP_SHARD_FRAME_IDS; f <= (first + n - 1) / DP_SHARD_FRAME_IDS; f++) DP_TRY(check_frame(s, shard, f, e));
    return DP_OK;
}

uint64_t dp_feed_docs_bad_frames(const struct dp_feed_docs *s)
{
    uint64_t bad = 0;
    for (uint64_t w = 0; s->frame && w * FRAMES_A_WORD < s->frame_start[s->shards]; w++)
        bad += (uint64_t)__builtin_popcount(atomic_load_explicit(&s->frame[w], memory_order_relaxed) & 0xaaaaaaaau);
    return bad;
}

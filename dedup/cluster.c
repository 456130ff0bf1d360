/* Design. Every sorted lane is a stream of buckets: documents with the same key, best first. A bucket of two is the rule, one of a
 * million happens; so a bucket is walked, never held, with at most 64 leaders: documents that are similar to no leader before.
 * A document similar to a leader gives an edge to it. All edges, sorted by the worse document's rank, are then
 * walked once, best document first: one with an edge to a kept document is dropped for the most similar such; one without an edge
 * is kept.
 *
 * A leader may turn out to be a duplicate itself, of something in another bucket; documents that had edges only to such are
 * pending, and the next round walks the buckets again without the dropped ones, with the kept ones as leaders from the
 * start. Each round settles at least its best open document; two to four rounds are usual, ROUNDS_MAX the limit.
 * Comparing all pairs of a bucket instead is quadratic; comparing with the first member only (star edges) loses
 * every family in a bucket but the first.
 *
 * Within a round states are read by all lanes and written by none, so lanes run in parallel. */
#include "dedup/dedup_impl.h"

#include <stdlib.h>

enum { LEADERS_FIRST = 32, LEADERS = 64, HASHES_MAX = 8, ROUNDS_MAX = 12 };

static uint32_t doc_of(uint64_t rank)
{
    return (uint32_t)rank;
}

/* ---- exact ---- */

/* Keys are 64 bits of the 128-bit hash: documents of one key are compared by all of it. The cap on different hashes of one key
 * is only ever reached by crafted input, and then keeps too much. */
static int exact_lane(struct dp_dedup_state *s, size_t lane, struct dp_err *e)
{
    struct dp_extsort *x = s->lane[lane].exact;
    struct {
        struct dp_hash128 hash;
        uint32_t doc;
    } first[HASHES_MAX];
    size_t n = 0;
    uint64_t key = 0;
    uint32_t held = UINT32_MAX; /* the bucket's first, whose hash is not yet needed */
    int rc = DP_OK;
    struct dp_rec r;
    void *buf = malloc(s->sketch_bytes);
    if (!buf) DP_FAIL(e, NOMEM, "dedup: sketch");
    DP_TRY_OUT(dp_extsort_finish(x, e));
    DP_TRY_OUT(dp_extsort_rewind(x, e));
    for (bool start = true; (rc = dp_extsort_next(x, &r, e)) == DP_OK; start = false) {
        uint32_t doc = doc_of(r.val);
        if (start || r.key != key) {
            key = r.key;
            n = 0;
            held = doc;
            continue;
        }
        const struct dp_sketch *k;
        if (n == 0) {
            if (!(k = dp_sketch_get(s, held, buf, e))) DP_TRY_OUT(e ? (int)e->code : DP_IO);
            first[n].hash = k->hash;
            first[n++].doc = held;
        }
        if (!(k = dp_sketch_get(s, doc, buf, e))) DP_TRY_OUT(e ? (int)e->code : DP_IO);
        size_t i = 0;
        while (i < n && !dp_hash128_eq(first[i].hash, k->hash)) i++;
        if (i < n) {
            s->state[doc] = DP_ST_EXACT;
            s->rep[doc] = first[i].doc;
            s->sim[doc] = 1;
        } else if (n < HASHES_MAX) {
            first[n].hash = k->hash;
            first[n++].doc = doc;
        }
    }
    if (rc == DP_EOF) rc = DP_OK;
out:
    dp_extsort_close(x);
    s->lane[lane].exact = NULL;
    free(buf);
    return rc;
}

int dp_cluster_exact(struct dp_dedup_state *s, struct dp_err *e)
{
    return dp_lanes_run(s, exact_lane, e);
}

/* ---- near: the buckets of a round ---- */

struct bucket {
    struct dp_dedup_state *s;
    struct dp_dedup_lane *lane;
    bool remember;      /* write live buckets to lane->again */
    uint64_t key, held; /* the first live document's rank: its sketch is needed only when a second comes */
    size_t live;
    size_t n;           /* leaders; from LEADERS_FIRST on a ring of the latest */
    size_t ring;
    uint32_t doc[LEADERS];
    char *sketch; /* LEADERS + 1 of them; the last is the candidate's */
};

static struct dp_sketch *slot(struct bucket *b, size_t i)
{
    return (struct dp_sketch *)(void *)(b->sketch + i * b->s->sketch_bytes);
}

static void add_leader(struct bucket *b, uint32_t doc, const struct dp_sketch *k)
{
    size_t at = b->n;
    if (b->n < LEADERS) b->n++;
    else {
        at = LEADERS_FIRST + b->ring;
        b->ring = (b->ring + 1) % (LEADERS - LEADERS_FIRST);
    }
    b->doc[at] = doc;
    memcpy(slot(b, at), k, b->s->sketch_bytes);
}

/* The worse is keyed by its rank, so that edges come back in the order of decisions. */
static int edge(struct bucket *b, uint32_t from, uint32_t to, uint32_t agree, struct dp_err *e)
{
    return dp_extsort_add(b->lane->edges, dp_rank(b->s, from), (uint64_t)to << 32 | agree, e);
}

static int compare(struct bucket *b, uint32_t doc, struct dp_err *e)
{
    struct dp_dedup_state *s = b->s;
    const struct dp_sketch *k = dp_sketch_get(s, doc, slot(b, LEADERS), e);
    if (!k) return e ? (int)e->code : DP_IO;
    bool kept = s->state[doc] == DP_ST_KEPT, similar = false;
    for (size_t i = 0; i < b->n; i++) {
        uint32_t leader = b->doc[i];
        bool leader_kept = s->state[leader] == DP_ST_KEPT;
        if (kept && leader_kept) continue;
        uint32_t agree = s->dsp.agree(k->slots, slot(b, i)->slots, s->slots);
        if (agree < s->agree_min) continue;
        if (kept) DP_TRY(edge(b, leader, doc, agree, e)); /* decided in an earlier round, though the leader ranks better */
        else {
            similar = true;
            DP_TRY(edge(b, doc, leader, agree, e));
        }
    }
    if (kept || !similar) add_leader(b, doc, k);
    return DP_OK;
}

static int again(struct bucket *b, uint64_t rank, struct dp_err *e)
{
    return b->remember ? dp_extsort_add(b->lane->again, b->key, rank, e) : DP_OK;
}

static int member(struct bucket *b, const struct dp_rec *r, struct dp_err *e)
{
    struct dp_dedup_state *s = b->s;
    uint32_t doc = doc_of(r->val);
    if (s->state[doc] == DP_ST_EXACT || s->state[doc] == DP_ST_NEAR) return DP_OK;
    if (!b->live || r->key != b->key) {
        b->key = r->key;
        b->held = r->val;
        b->live = 1;
        b->n = b->ring = 0;
        return DP_OK;
    }
    if (r->val == b->held) return DP_OK; /* two equal bands of one document */
    if (b->live++ == 1) {
        DP_TRY(again(b, b->held, e));
        if (!s->o->closure) DP_TRY(compare(b, doc_of(b->held), e));
    }
    DP_TRY(again(b, r->val, e));
    return s->o->closure ? edge(b, doc, doc_of(b->held), 0, e) : compare(b, doc, e);
}

static int walk(struct dp_dedup_state *s, size_t lane, bool first_round, struct dp_err *e)
{
    struct dp_dedup_lane *l = &s->lane[lane];
    struct bucket b = {.s = s, .lane = l, .remember = first_round && !s->o->closure};
    struct dp_extsort *x = first_round ? l->bands : l->again;
    struct dp_rec r;
    int rc = DP_OK;
    b.sketch = malloc((size_t)(LEADERS + 1) * s->sketch_bytes);
    if (!b.sketch) DP_FAIL(e, NOMEM, "dedup: %d sketches", LEADERS + 1);
    dp_extsort_close(l->edges);
    DP_TRY_OUT(dp_extsort_open(&l->edges, s->tmp_dir, "similar pairs", s->o->memory_bytes / 8 / DP_LANES, e));
    if (first_round) DP_TRY_OUT(dp_extsort_finish(x, e));
    DP_TRY_OUT(dp_extsort_rewind(x, e));
    while ((rc = dp_extsort_next(x, &r, e)) == DP_OK) DP_TRY_OUT(member(&b, &r, e));
    if (rc < 0) goto out;
    if (first_round) {
        DP_TRY_OUT(dp_extsort_finish(l->again, e));
        dp_extsort_close(l->bands);
        l->bands = NULL;
    }
    DP_TRY_OUT(dp_extsort_finish(l->edges, e));
    DP_TRY_OUT(dp_extsort_rewind(l->edges, e));
out:
    free(b.sketch);
    return rc;
}
static int walk_first(struct dp_dedup_state *s, size_t lane, struct dp_err *e)
{
    return walk(s, lane, true, e);
}
static int walk_again(struct dp_dedup_state *s, size_t lane, struct dp_err *e)
{
    return walk(s, lane, false, e);
}

/* ---- near: deciding ---- */

/* The lanes' sorted edges as one sorted stream. */
struct edges {
    struct dp_dedup_state *s;
    struct dp_rec head[DP_LANES];
    bool has[DP_LANES];
};

static int edges_pull(struct edges *m, size_t lane, struct dp_err *e)
{
    int rc = dp_extsort_next(m->s->lane[lane].edges, &m->head[lane], e);
    m->has[lane] = rc == DP_OK;
    return rc;
}

static int edges_open(struct edges *m, struct dp_dedup_state *s, struct dp_err *e)
{
    m->s = s;
    for (size_t i = 0; i < DP_LANES; i++) DP_TRY(edges_pull(m, i, e));
    return DP_OK;
}

static int edges_next(struct edges *m, struct dp_rec *r, struct dp_err *e)
{
    size_t best = DP_LANES;
    for (size_t i = 0; i < DP_LANES; i++) {
        if (!m->has[i]) continue;
        const struct dp_rec *a = &m->head[i], *b = best < DP_LANES ? &m->head[best] : NULL;
        if (!b || a->key < b->key || (a->key == b->key && a->val < b->val)) best = i;
    }
    if (best == DP_LANES) return DP_EOF;
    *r = m->head[best];
    DP_TRY(edges_pull(m, best, e));
    return DP_OK;
}

struct best {
    uint32_t doc, agree;
    bool any;
};

/* All edges of `doc` were seen. */
static void settle(struct dp_dedup_state *s, uint32_t doc, const struct best *b)
{
    if (!b->any) {
        s->state[doc] = DP_ST_PENDING;
        return;
    }
    s->state[doc] = DP_ST_NEAR;
    s->rep[doc] = b->doc;
    s->sim[doc] = (float)b->agree / (float)s->slots;
}

static void consider(const struct dp_dedup_state *s, struct best *b, uint64_t val)
{
    uint32_t to = (uint32_t)(val >> 32), agree = (uint32_t)val;
    /* Better ones without edges are open still: they will be kept. */
    if (s->state[to] != DP_ST_KEPT && s->state[to] != DP_ST_OPEN) return;
    if (b->any && (agree < b->agree || (agree == b->agree && dp_rank(s, to) >= dp_rank(s, b->doc)))) return;
    *b = (struct best){to, agree, true};
}

static int decide(struct dp_dedup_state *s, struct dp_err *e)
{
    struct edges m;
    struct dp_rec r;
    struct best b = {0};
    uint64_t doc = UINT64_MAX;
    int rc;
    DP_TRY(edges_open(&m, s, e));
    while ((rc = edges_next(&m, &r, e)) == DP_OK) {
        if (doc_of(r.key) != doc) {
            if (doc != UINT64_MAX) settle(s, (uint32_t)doc, &b);
            doc = doc_of(r.key);
            b.any = false;
        }
        consider(s, &b, r.val);
    }
    if (doc != UINT64_MAX) settle(s, (uint32_t)doc, &b);
    return rc;
}

static int near_rounds(struct dp_dedup_state *s, struct dp_err *e)
{
    for (int round = 1;; round++) {
        DP_TRY(dp_lanes_run(s, round == 1 ? walk_first : walk_again, e));
        DP_TRY(decide(s, e));
        uint32_t pending = 0;
        for (uint32_t d = 0; d < s->docs; d++) {
            if (s->state[d] == DP_ST_OPEN || (s->state[d] == DP_ST_PENDING && round == ROUNDS_MAX)) s->state[d] = DP_ST_KEPT;
            else if (s->state[d] == DP_ST_PENDING) {
                s->state[d] = DP_ST_OPEN;
                pending++;
            }
        }
        if (!pending) return DP_OK;
    }
}

/* ---- closure ---- */

static uint32_t root_of(uint32_t *parent, uint32_t d)
{
    while (parent[d] != d) {
        parent[d] = parent[parent[d]];
        d = parent[d];
    }
    return d;
}

enum { SIMILARITY_TASK = 4096 };
/* Lane i takes every 16th block of documents. */
static int similarity_lane(struct dp_dedup_state *s, size_t lane, struct dp_err *e)
{
    int rc = DP_OK;
    char *buf = malloc(2 * (size_t)s->sketch_bytes);
    if (!buf) DP_FAIL(e, NOMEM, "dedup: sketches");
    for (uint64_t from = lane * SIMILARITY_TASK; from < s->docs; from += (uint64_t)DP_LANES * SIMILARITY_TASK)
        for (uint64_t d = from; d < s->docs && d < from + SIMILARITY_TASK; d++) {
            if (s->state[d] != DP_ST_NEAR) continue;
            const struct dp_sketch *p = dp_sketch_get(s, (uint32_t)d, buf, e);
            const struct dp_sketch *q = p ? dp_sketch_get(s, s->rep[d], buf + s->sketch_bytes, e) : NULL;
            if (!q) DP_TRY_OUT(e ? (int)e->code : DP_IO);
            s->sim[d] = (float)s->dsp.agree(p->slots, q->slots, s->slots) / (float)s->slots;
        }
out:
    free(buf);
    return rc;
}

/* Union-find with the better document as root. The rep of an exact duplicate holds its representative and stays out:
 * exact duplicates have no edges. */
static int closure(struct dp_dedup_state *s, struct dp_err *e)
{
    DP_TRY(dp_lanes_run(s, walk_first, e));
    for (uint32_t d = 0; d < s->docs; d++)
        if (s->state[d] == DP_ST_OPEN) s->rep[d] = d;
    for (size_t i = 0; i < DP_LANES; i++) {
        struct dp_rec r;
        int rc;
        while ((rc = dp_extsort_next(s->lane[i].edges, &r, e)) == DP_OK) {
            uint32_t a = root_of(s->rep, doc_of(r.key)), b = root_of(s->rep, (uint32_t)(r.val >> 32));
            if (a == b) continue;
            if (dp_rank(s, a) < dp_rank(s, b)) s->rep[b] = a;
            else s->rep[a] = b;
        }
        DP_TRY(rc);
    }
    for (uint32_t d = 0; d < s->docs; d++) {
        if (s->state[d] != DP_ST_OPEN) continue;
        uint32_t root = root_of(s->rep, d);
        s->rep[d] = root;
        if (root != d) s->state[d] = DP_ST_NEAR;
    }
    return dp_lanes_run(s, similarity_lane, e);
}

int dp_cluster_near(struct dp_dedup_state *s, struct dp_err *e)
{
    return s->o->closure ? closure(s, e) : near_rounds(s, e);
}
